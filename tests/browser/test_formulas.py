"""No displayed formula is cut, and none pushes the page aside."""

import pytest

from tests.browser.test_pages import PAGES
from tests.browser.watch import DESKTOP, OPEN_ALL, PHONE, load, watched

# Each displayed formula with what it needs and what it has. The box around a numbered one holds
# its number, too.
CUT = """() => [...document.querySelectorAll('mjx-container[display="true"]')].flatMap(box => {
  const outer = box.closest('div.math') || box;
  const words = (box.querySelector('mjx-assistive-mml')?.textContent || '').replace(/\\s+/g, '');
  const name = outer.id || words.slice(0, 60);
  return [[box, 'formula'], [outer, 'box']]
    .filter(([node]) => node.scrollWidth > node.clientWidth)
    .map(([node, what]) => `${what} of ${node.scrollWidth} pixels in ${node.clientWidth}: ${name}`);
})"""
# On a phone a long formula scrolls, in a box that shows that there is more.
UNMARKED = """() => [...document.querySelectorAll('mjx-container[display="true"], .mf-wide')]
  .filter(box => box.scrollWidth > box.clientWidth + 1 &&
    !(box.classList.contains('mf-more') && box.tabIndex === 0 &&
      getComputedStyle(box).maskImage.includes('gradient')))
  .map(box => box.outerHTML.slice(0, 120))"""


def test_no_formula_is_cut_on_a_desktop(browser, site):
    """All pages at once, so that one run lists everything that is to be broken into lines."""
    cut = []
    for path in PAGES:
        with watched(browser, site) as (page, _):
            page.set_viewport_size(DESKTOP)
            load(page, f"{site}/{path}")
            page.evaluate(OPEN_ALL)
            cut += [f"{path}: {one}" for one in page.evaluate(CUT)]
    assert not cut, "\n".join(["break these into lines:", *cut])


def test_what_scrolls_on_a_phone_says_so(browser, site):
    unmarked, scrolling = [], 0
    for path in PAGES:
        with watched(browser, site) as (page, wrong):
            page.set_viewport_size(PHONE)
            load(page, f"{site}/{path}")
            page.evaluate(OPEN_ALL)
            page.evaluate("() => new Promise(done => setTimeout(done, 200))")
            unmarked += [f"{path}: {one}" for one in page.evaluate(UNMARKED)]
            scrolling += page.locator(".mf-more").count()
            assert not wrong
    assert not unmarked
    assert scrolling > 0


def test_figures_keep_a_legible_size_on_a_phone(browser, site):
    """Letters of 9 points in a figure of 7 inches are about 11 pixels at a width of 620."""
    small = []
    for path in PAGES:
        with watched(browser, site) as (page, _):
            page.set_viewport_size(PHONE)
            load(page, f"{site}/{path}")
            page.evaluate(OPEN_ALL)
            widths = page.evaluate(
                "() => [...document.querySelectorAll('div.cell_output img')]"
                ".map(one => [one.getBoundingClientRect().width, one.naturalWidth])"
            )
            small += [f"{path}: {width} of {full}" for width, full in widths if width < 600]
    assert not small


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ('<mjx-container display="true" style="{}"><i style="{}">x</i></mjx-container>', True),
        ('<mjx-container display="true" style="{}">x</mjx-container>', False),
    ],
)
def test_a_cut_formula_is_seen(browser, tmp_path, body, seen):
    page_file = tmp_path / "page.html"
    page_file.write_text(
        body.format("display: block; overflow: auto", "display: block; width: 2000px"), "utf-8"
    )
    with watched(browser, page_file.as_uri()) as (page, _):
        page.goto(page_file.as_uri())
        assert bool(page.evaluate(CUT)) is seen
