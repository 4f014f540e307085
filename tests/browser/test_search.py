"""The search finds words, statements and rows of the ledger, served and from a file."""

import pytest

from tests.browser.watch import load, watched

FOUND = "#search-results li"


@pytest.mark.parametrize("place", ["served", "file"])
@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("matrix", ""),
        ("rank 1 connected", "Theorem 12.2 (Connected data of rank 1)"),
        ("Theorem 5.6", "Assumption 5.5 and Theorem 5.6 (Li, Luo & Lyu 2021)"),
    ],
)
def test_search(browser, site, html, place, words, title):
    first = site if place == "served" else html.as_uri()
    with watched(browser, first) as (page, wrong):
        load(page, f"{first}/search.html?q={words}")
        page.locator(f"{FOUND} a", has_text=title).first.wait_for()
        sentence = page.locator(f"{FOUND} p.context").first
        sentence.wait_for()
        # A sentence of the article, and not of the menus around it.
        assert len(sentence.inner_text()) > 40 and "Contents" not in sentence.inner_text()
        assert not wrong


def test_a_result_leads_to_its_statement(browser, site):
    with watched(browser, site) as (page, _):
        load(page, f"{site}/search.html?q=rank 1 connected")
        page.locator(f"{FOUND} a", has_text="Theorem 12.2").first.click()
        page.wait_for_url("**/book/bias/rank.html*#thm-rank-one")
