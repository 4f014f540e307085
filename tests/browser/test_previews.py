"""What a link leads to is shown beside it, and every statement has a link of its own."""

import json
import re

import pytest

from tests.browser.conftest import HTML
from tests.browser.watch import OPEN_ALL, PHONE, load, watched

PAGE = "book/bias/rank.html"
# A link of each kind.
KINDS = {
    "a theorem": ('a[href="#thm-rank-one"]', "Connected data of rank 1"),
    "a formula": ('a[href="#equation-eq-lyapunov"]', "(12.1)"),
    "a figure": ('a[href="#fig-runaway"]', "Fig. 12.2"),
    "a reference": ('a[href^="../bibliography.html#"]', "Systems 37"),
}


def shown(page, selector, act="hover"):
    link = page.locator(f"article {selector}:not(.headerlink)").first
    link.scroll_into_view_if_needed()
    getattr(link, act)()
    preview = page.locator("#mf-preview")
    preview.wait_for(state="visible")
    return preview


@pytest.fixture(scope="module")
def loaded(browser, site):
    """The page, loaded once for the tests that leave it as it is, and what goes wrong there."""
    with watched(browser, site) as (page, wrong):
        load(page, f"{site}/{PAGE}")
        yield page, wrong


@pytest.fixture
def rank(loaded):
    """The page with nothing pointed at, and nothing focused."""
    page, wrong = loaded
    page.mouse.move(1, 1)
    page.evaluate("document.activeElement.blur()")
    page.locator("#mf-preview").wait_for(state="hidden")
    assert page.locator("[aria-describedby=mf-preview]").count() == 0
    yield page
    found = wrong.copy()
    wrong.clear()
    assert not found


@pytest.mark.parametrize("place", ["served", "file"])
def test_each_kind_of_link(browser, site, html, place):
    address = f"{site}/{PAGE}" if place == "served" else (html / PAGE).as_uri()
    with watched(browser, site if place == "served" else address) as (page, wrong):
        load(page, address)
        # The formula is named in a folded proof.
        page.evaluate(OPEN_ALL)
        for selector, words in KINDS.values():
            preview = shown(page, selector)
            assert words in preview.inner_text()
            box = preview.bounding_box()
            window = page.viewport_size
            assert box["x"] >= 0 and box["x"] + box["width"] <= window["width"]
            assert box["y"] >= 0 and box["y"] + box["height"] <= window["height"]
            page.mouse.move(1, 1)
            preview.wait_for(state="hidden")
        assert not wrong


def test_mathematics_and_figures_are_drawn(rank):
    preview = shown(rank, KINDS["a theorem"][0])
    preview.locator("mjx-container svg").first.wait_for()
    assert "\\(" not in preview.inner_text()
    shown(rank, KINDS["a figure"][0])
    rank.wait_for_function("document.querySelector('#mf-preview img')?.naturalWidth > 0")


def test_by_keyboard(rank):
    rank.keyboard.press("Tab")
    preview = shown(rank, KINDS["a theorem"][0], act="focus")
    assert rank.locator("[aria-describedby=mf-preview]").count() == 1
    rank.keyboard.press("Escape")
    preview.wait_for(state="hidden")
    assert rank.locator("[aria-describedby=mf-preview]").count() == 0


def test_one_may_point_into_a_preview(rank):
    preview = shown(rank, KINDS["a theorem"][0])
    box = preview.bounding_box()
    rank.mouse.move(box["x"] + 20, box["y"] + 20)
    rank.wait_for_timeout(500)
    assert preview.is_visible()


def test_a_preview_fits_a_phone(browser, site):
    with watched(browser, site) as (page, _):
        page.set_viewport_size(PHONE)
        load(page, f"{site}/{PAGE}")
        page.keyboard.press("Tab")
        box = shown(page, KINDS["a theorem"][0], act="focus").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]


def test_every_link_to_a_statement_has_its_preview():
    link = re.compile(r'internal" href="([^"]*#(?:thm|prop|lem|ex|eq|equation|fig)-[^"]+)"')
    links, missing = 0, []
    for path in sorted((HTML / "book").rglob("*.html")):
        name = path.relative_to(HTML).with_suffix("").as_posix().replace("/", "-")
        script = (HTML / "_static" / "previews" / f"{name}.js").read_text("utf-8")
        known = json.loads(script.removeprefix("window.mfPreviews = ").rstrip().removesuffix(";"))
        article = path.read_text("utf-8")
        for href in link.findall(article):
            links += 1
            if href not in known:
                missing.append(f"{name}: {href}")
    assert links > 100
    assert not missing


def test_statements_have_a_permalink(rank):
    for name in ("thm-rank-one", "ex-4k", "equation-eq-lyapunov", "fig-runaway"):
        assert rank.locator(f'#{name} a.headerlink[href="#{name}"]').count() == 1
