"""The ledger's fields choose rows, and the index names statements as their chapters do."""

import re

import pytest

import mfbook as mf
from tests.browser.watch import DESKTOP, PHONE, watched
from tools.statements import statements

ROWS = list(mf.ledger())
SHOWN = "table.mf-ledger tbody tr:visible"


@pytest.fixture
def ledger(browser, html):
    """The page of the ledger, opened as a file."""
    address = (html / "book" / "ledger.html").as_uri()
    with watched(browser, address) as (page, wrong):
        page.goto(address)
        yield page
        assert not wrong


def chosen(page) -> list[str]:
    rows = page.locator(SHOWN).evaluate_all("rows => rows.map(row => row.id)")
    return [id.removeprefix("row-") for id in rows]


def test_all_rows_are_there_at_first(ledger):
    assert sorted(chosen(ledger)) == sorted(row.id for row in ROWS)
    assert ledger.get_by_role("status").inner_text() == f"{len(ROWS)} of {len(ROWS)} rows"


def test_paper_part_and_verdict_choose_rows_together(ledger):
    ledger.get_by_label("Verdict").select_option("corrected")
    corrected = {row.id for row in ROWS if row.verdict == "corrected"}
    assert set(chosen(ledger)) == corrected
    ledger.get_by_label("Paper").select_option("li2021")
    both = {id for id in corrected if id.startswith("li2021")}
    assert set(chosen(ledger)) == both
    ledger.get_by_label("Part of the book").select_option("Depth")
    depth = {row.id for row in ROWS if row.chapter.startswith("depth/")}
    assert set(chosen(ledger)) == both & depth
    assert f"{len(both & depth)} of" in ledger.get_by_role("status").inner_text()


def test_words_are_found_in_any_order_and_case(ledger):
    ledger.get_by_label("Words").fill("norm NUCLEAR")
    found = chosen(ledger)
    assert 5 < len(found) < len(ROWS)
    assert {"bai2024-thm4", "mfbook-nuclear-blocks"} <= set(found)
    for id in found:
        text = ledger.locator(f"[id='row-{id}']").inner_text().lower()
        assert "nuclear" in text and "norm" in text
    ledger.get_by_label("Words").fill("no such words anywhere")
    assert chosen(ledger) == []
    assert ledger.locator("table.mf-ledger thead:visible").count() == 0


def test_show_all_brings_them_back(ledger):
    ledger.get_by_label("Words").fill("saddle")
    assert len(chosen(ledger)) < len(ROWS)
    ledger.get_by_role("button", name="Show all").click()
    ledger.wait_for_function(
        "n => document.querySelectorAll('.mf-ledger tbody tr:not([hidden])').length === n",
        arg=len(ROWS),
    )
    assert ledger.get_by_label("Words").input_value() == ""


def test_a_count_shows_its_rows_and_the_address_keeps_the_choice(ledger):
    count = sum(row.paper == "arora2019" and row.verdict == "extended" for row in ROWS)
    link = ledger.locator("a[href='?paper=arora2019&verdict=extended']")
    assert link.inner_text() == str(count)
    link.click()
    assert len(chosen(ledger)) == count
    ledger.reload()
    assert len(chosen(ledger)) == count
    assert ledger.get_by_label("Paper").input_value() == "arora2019"


def test_a_link_to_a_row_shows_it_whatever_is_chosen(ledger):
    ledger.get_by_label("Verdict").select_option("new")
    ledger.evaluate("location.hash = '#row-bai2024-thm4'")
    row = ledger.locator("[id='row-bai2024-thm4']")
    row.wait_for(state="visible")
    assert row.evaluate("row => row.getBoundingClientRect().top") < DESKTOP["height"]


def test_without_scripts_all_rows_are_there_and_no_fields(browser, html):
    context = browser.new_context(java_script_enabled=False, viewport=PHONE)
    page = context.new_page()
    page.goto((html / "book" / "ledger.html").as_uri())
    assert page.locator(SHOWN).count() == len(ROWS)
    assert not page.locator("form.mf-filter").is_visible()
    context.close()


def test_the_index_names_statements_as_their_chapters_do(browser, html):
    address = (html / "book" / "statements.html").as_uri()
    with watched(browser, address) as (page, _):
        page.goto(address)
        index = dict(
            page.locator(".mf-listing li > p > a:first-child").evaluate_all(
                "links => links.map(link => [link.hash.slice(1), link.innerText])"
            )
        )
    known = {one.label: one for one in statements()}
    assert set(index) == set(known)
    for label, name in index.items():
        assert name == known[label].name
        chapter = (html / "book" / f"{known[label].page}.html").read_text("utf-8")
        kind, number = name.split()
        head = re.search(
            rf'id="{label}">\s*<p class="admonition-title"><span.*?</p>', chapter, re.S
        )
        assert head and re.sub(r"<[^>]+>", "", head[0]).split(">")[-1].strip().startswith(
            f"{kind} {number}"
        )
