"""Each check of a page sees the fault that it is there for."""

import pytest

from tests.browser.test_pages import faults
from tests.browser.watch import DESKTOP, PHONE, THEMES, watched
from tools.sphinx_offline import MATHJAX

PALE = "1280 pixels, light: color-contrast"
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><title>A page</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"></head>
<body><main><h1>A page</h1>{body}</main>
<script>
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {{
    document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  }};
  paint(); dark.addEventListener("change", paint);
</script></body></html>"""


@pytest.fixture
def look(browser, tmp_path):
    """Everything wrong with a page of this body."""

    def look(body: str) -> list[str]:
        page = tmp_path / "page.html"
        page.write_text(PAGE.format(body=body), "utf-8")
        with watched(browser, page.as_uri()) as (tab, wrong):
            return faults(tab, page.as_uri()) + wrong

    return look


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>Let $x$ be.</p>", "raw TeX: $x$"),
        (r"<p>Let \alpha be.</p>", r"raw TeX: \alpha"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image without alt text"),
        ('<img alt="x" src="http://127.0.0.1:1/x.png">', "asks another host"),
        ("<script>console.error('oh')</script>", "console error: oh"),
        ("<script>throw new Error('oh')</script>", "script error: oh"),
        ('<div style="width: 600px">wide</div>', "390 pixels: wider than the window"),
        ('<p style="color: #ccc; background: #fff">pale</p>', PALE),
        (
            "<style>[data-theme=dark] p {color: #ccc}</style><p>pale</p>",
            "1280 pixels, dark: color",
        ),
        (  # the one among many that look alike otherwise
            "<style>[data-theme=dark] li:nth-child(8) {color: #ccc}</style><ul>"
            + 9 * "<li>fine</li>"
            + "</ul>",
            "1280 pixels, dark: color",
        ),
        *(  # the one among many that look alike, but stand alone
            (
                f"<style>[data-theme={theme}] a {{color: #333}} a {{text-decoration: none}}"
                "</style>" + 9 * '<p><a href="#">alone</a></p>' + "<p>Words before "
                '<span><a href="#">a link</a></span> and after it.</p>',
                f"1280 pixels, {theme}: link-in-text-block",
            )
            for theme in THEMES
        ),
    ],
)
def test_fault_is_seen(look, body, fault):
    found = look(body)
    assert any(one.startswith(fault) for one in found), found


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        (r"\frac{1}", r"TeX error: Missing argument for \frac"),
        (r"\unheardof x", r"TeX error: \unheardof"),
        (r"\frac{1}{x}", None),
    ],
)
def test_formula_that_cannot_be_read_is_seen(look, html, formula, fault):
    script = f'<script src="{(html / "_static" / MATHJAX).as_uri()}"></script>'
    assert look(rf"<p>\({formula}\)</p>{script}") == ([fault] if fault else [])


def test_page_without_fault_passes(look):
    wide = '<div tabindex="0" style="overflow-x: auto"><div style="width: 600px">wide</div></div>'
    assert not look(f"<p>Costs 3 dollars. <code>$x$</code></p>{wide}")


def test_a_tab_is_found_as_if_it_were_new(browser, tmp_path):
    address = (tmp_path / "page.html").as_uri()
    (tmp_path / "page.html").write_text(PAGE.format(body="<p>Hello.</p>"), "utf-8")
    seen = """() => [document.documentElement.dataset.theme, localStorage.length,
      sessionStorage.length, matchMedia('print').matches, matchMedia('(hover)').matches,
      matchMedia('(prefers-reduced-motion: reduce)').matches, document.querySelector('p').innerText,
      document.querySelectorAll('p:hover').length]"""
    with watched(browser, address) as (tab, wrong):
        tab.goto(address)
        new = tab.evaluate(seen)
        tab.evaluate("() => { localStorage.mode = 'dark'; sessionStorage.mode = 'dark'; }")
        tab.set_viewport_size(PHONE)
        tab.emulate_media(media="print", color_scheme="dark", reduced_motion="reduce")
        tab.locator("p").hover()
        tab.route("**/page.html", lambda route: route.fulfill(body="<p>Caught.</p>"))
        tab.evaluate("setTimeout(() => { throw new Error('late'); }, 50)")
    with watched(browser, address) as (again, silent):
        assert again is tab
        assert again.viewport_size == DESKTOP
        again.wait_for_timeout(100)
        again.goto(address)
        again.wait_for_timeout(100)
        assert again.evaluate(seen) == new
        again.evaluate("() => { console.error('oh'); }")
        assert not wrong and silent == ["console error: oh"]
