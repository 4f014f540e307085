"""Every built page, as a reader meets it: on a desktop and a phone, in light and in dark."""

import pytest

from tests.browser.conftest import HTML
from tests.browser.watch import (
    AXE,
    DESKTOP,
    PHONE,
    axe_violations,
    cut_formulas,
    images_without_words,
    load,
    open_all,
    pale,
    raw_tex,
    resize,
    small_figures,
    sticking_out,
    tex_errors,
    unmarked,
    watched,
)

# The largest first, so that no worker begins with one when the others are done.
PAGES = [
    page.relative_to(HTML).as_posix()
    for page in sorted(HTML.rglob("*.html"), key=lambda page: (-page.stat().st_size, page))
    # index.html only sends the reader on to the first page.
    if "_static" not in page.parts and page != HTML / "index.html"
]


def misfits(page) -> list[str]:
    """What does not fit into its box or into the window."""
    found = [f"wider than the window: {box}" for box in sticking_out(page)]
    if page.viewport_size == DESKTOP:
        found += [f"to be broken into lines: {one}" for one in cut_formulas(page)]
    if page.viewport_size == PHONE:
        found += [f"scrolls and does not say so: {one}" for one in unmarked(page)]
        found += [f"a figure too small to read: {one}" for one in small_figures(page)]
    return found


def faults(page, address: str) -> list[str]:
    """What is wrong with a page, in every way that it can be looked at."""
    page.set_viewport_size(DESKTOP)
    load(page, address)
    open_all(page)
    found = [f"raw TeX: {text}" for text in raw_tex(page)]
    found += [f"TeX error: {text}" for text in tex_errors(page)]
    found += [f"image without alt text: {source}" for source in images_without_words(page)]
    for window in (DESKTOP, PHONE):
        resize(page, window)
        found += [f"{window['width']} pixels: {one}" for one in misfits(page)]
    # Last, for it changes the page.
    for window, rules in AXE:
        resize(page, window)
        found += [f"{window['width']} pixels: {one}" for one in axe_violations(page, rules)]
    found += [f"{window['width']} pixels, {one}" for one in pale(page)]
    return found


@pytest.mark.parametrize("path", PAGES)
def test_page(browser, site, path):
    with watched(browser, site) as (page, wrong):
        assert not faults(page, f"{site}/{path}") + wrong


def test_first_page_sends_the_reader_on(browser, site):
    with watched(browser, site) as (page, _):
        page.goto(f"{site}/index.html")
        page.wait_for_url("**/book/welcome.html")
        assert page.locator("article h1").count() == 1


def test_page_opened_as_a_file(browser, html):
    notation = html / "book" / "notation.html"
    with watched(browser, notation.as_uri()) as (page, wrong):
        load(page, notation.as_uri())
        assert not raw_tex(page)
        assert page.locator("mjx-container svg").count() > 0
        assert not wrong
