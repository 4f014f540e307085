"""Formulas and figures that do not fit: each check of them sees the fault that it is there for."""

from contextlib import ExitStack

import pytest

from tests.browser.test_pages import PAGES
from tests.browser.watch import (
    PHONE,
    cut_formulas,
    load,
    open_all,
    small_figures,
    unmarked,
    watched,
)

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
WIDE = '<mjx-container display="true" style="{}"><i style="{}">x</i></mjx-container>'


@pytest.fixture
def show(browser, tmp_path):
    """A page of this body in a tab of its own."""

    def show(body: str):
        page_file = tmp_path / "page.html"
        page_file.write_text(body, "utf-8")
        page = tabs.enter_context(watched(browser, page_file.as_uri()))[0]
        page.goto(page_file.as_uri())
        return page

    with ExitStack() as tabs:
        yield show


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (WIDE.format("display: block; overflow: auto", "display: block; width: 2000px"), True),
        ('<mjx-container display="true">x</mjx-container>', False),
    ],
)
def test_a_formula_that_does_not_fit_is_seen(show, body, seen):
    page = show(body)
    assert bool(cut_formulas(page)) is seen
    assert bool(unmarked(page)) is seen


@pytest.mark.parametrize(("width", "seen"), [(300, True), (620, False)])
def test_a_figure_that_is_shown_too_small_is_seen(show, width, seen):
    body = f'<div class="cell_output"><img src="{PIXEL}" style="width: {width}px"></div>'
    assert bool(small_figures(show(body))) is seen


def test_something_scrolls_on_a_phone(browser, site):
    """Otherwise nothing would be looked at where a page is searched for what scrolls unmarked."""

    def scrolls(path: str) -> bool:
        with watched(browser, site) as (page, _):
            page.set_viewport_size(PHONE)
            load(page, f"{site}/{path}")
            open_all(page)
            return page.locator(".mf-more").count() > 0

    assert any(scrolls(path) for path in PAGES)
