"""The lists at the end of the book hold what the ledger holds, and nothing that has no row."""

import re
from collections import Counter
from itertools import groupby

import pytest
import yaml
from bs4 import BeautifulSoup

import mfbook as mf
from mfbook.book.claims import PAPERS, VERDICTS
from tools.chapters import ROOT, numbered_pages
from tools.listings import LETTERS, LISTS, NEW, OURS, RANKS, Listings
from tools.mathematics import as_html
from tools.statements import statements

BOOK = ROOT / "book"
ROWS = {row.id: row for row in mf.ledger()}
KINDS = {
    "errata": {"misprint", "condition", "statement", "proof", "experiment"},
    "news": {"theorem", "counterexample", "law", "observation"},
}
DIRECTIVE = re.compile(r"^```\{listing\} (.+)$", re.M)
# What a note says where it reports a slip of the paper.
SLIP = re.compile(r"\b(slips?|misprint\w*|prints|printed|should read|is meant)\b")
# Notes with such a word that report none: a convention, a matrix that a figure does not show.
NO_SLIP = {"bai2024-def1", "bai2024-fig4"}


@pytest.fixture(scope="module")
def book() -> Listings:
    return Listings(ROOT)


def asked(page: str) -> list[str]:
    return DIRECTIVE.findall((BOOK / f"{page}.md").read_text("utf-8"))


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def test_every_directive_asks_for_a_list_that_there_is(book):
    wanted = {words for page, _ in numbered_pages(ROOT) for words in asked(page)}
    assert {words.split()[0] for words in wanted} == set(LISTS)
    for words in wanted:
        assert book.make(words).strip()


def test_the_ledger_page_has_every_row_once_in_the_order_of_the_papers(book):
    tables = [words for words in asked("ledger") if words.startswith("ledger ")]
    assert tables == [f"ledger {paper}" for paper in PAPERS]
    shown = soup("".join(map(book.make, tables)))
    ids = [row["id"].removeprefix("row-") for row in shown.select("tbody tr")]
    assert sorted(ids) == sorted(ROWS)
    papers = [id for id in ids if id in book.items]
    assert papers == [id for id in book.items if id in ROWS]
    for id in ids:
        row = shown.find(id=f"row-{id}")
        assert row["data-verdict"] == ROWS[id].verdict
        assert row["data-part"] == book.parts[ROWS[id].chapter]
        assert row.select(f'a[href="{ROWS[id].chapter}.html#claim-{id}"]')


def test_every_item_of_a_paper_has_its_place_in_it(book):
    """A new row of a paper needs a line in papers.yml, which says where it stands there."""
    assert {id for id, row in ROWS.items() if row.paper != OURS} <= set(book.items)
    assert set(book.papers) == set(PAPERS) - {OURS}
    assert all(str(about["place"]) for about in book.items.values())


def test_the_statement_of_a_row_stands_in_the_chapter_that_settles_it(book):
    named = {id: about.get("statement") for id, about in book.items.items()}
    named |= {id: about.statement for id, about in book.news.items()}
    for id, label in named.items():
        if label and id in ROWS:
            assert book.statements[label].page == ROWS[id].chapter, id


def test_the_counts_are_those_of_the_rows(book):
    table = soup(book.make("ledger-counts"))
    for row in table.select("tbody tr"):
        name, *cells = (cell.get_text() for cell in row.find_all(["th", "td"]))
        of = [r for r in ROWS.values() if name == "all" or r.verdict == name]
        numbers = [sum(r.paper == paper for r in of) for paper in PAPERS]
        assert cells == [str(n) if n else "–" for n in [*numbers, len(of)]]
    assert len(table.select("tbody tr")) == len(VERDICTS) + 1


def test_every_erratum_belongs_to_an_item_and_says_what_is_wrong(book):
    for entry in yaml.safe_load((BOOK / "errata.yml").read_text("utf-8")):
        assert entry["kind"] in KINDS["errata"], entry
        assert entry.get("after", entry["claim"]) in book.items, entry
        assert entry["claim"] in ROWS or entry["claim"] in book.items, entry
        assert all(entry[name].strip() for name in ("place", "printed", "correct"))
        assert entry["printed"] != entry["correct"]


def test_every_row_that_reports_a_slip_has_an_erratum(book):
    reported = {
        id for id, row in ROWS.items() if row.paper != OURS and SLIP.search(row.note)
    } - NO_SLIP
    corrected = {id for id, row in ROWS.items() if row.verdict == "corrected"}
    listed = {one.claim for one in book.errata}
    assert reported | corrected <= listed, "say it in errata.yml"


def test_the_errata_are_all_shown_each_with_its_paper(book):
    text = {paper: book.make(f"errata {paper}") for paper in book.papers}
    assert asked("errata") == ["errata-counts", *(f"errata {paper}" for paper in book.papers)]
    shown = "\n".join(text.values())
    assert len(re.findall(r"^- <a .*\n\n  \*Read:\*", shown, re.M)) == len(book.errata)
    assert str(len(book.errata)) in book.make("errata-counts")
    for paper, words in text.items():
        for id in re.findall(r"#claim-([\w.-]+)", words):
            assert id in book.papers[paper] or ROWS[id].paper == OURS


def test_what_can_be_cited_has_a_number_of_its_own_that_links_to_itself(book):
    lists = [words for page in ("errata", "news") for words in asked(page)]
    shown = soup("".join(map(book.make, lists))).select("a.mf-number")
    numbers = [link.get_text() for link in shown]
    assert (
        len(set(numbers))
        == len(numbers)
        == len(book.errata)
        + len([row for row in ROWS.values() if row.paper == OURS and row.id not in book.software])
    )
    assert all(link["href"] == f"#{link['id']}" for link in shown)
    by_letter = {letter: [*found] for letter, found in groupby(numbers, key=lambda name: name[0])}
    for letter, found in by_letter.items():
        assert found == [f"{letter}{count}" for count in range(1, len(found) + 1)]
    assert list(by_letter) == [*(LETTERS[paper] for paper in book.papers), NEW]


def test_new_results_are_listed_once_and_apart_from_tests_of_software(book):
    shown = Counter()
    for words in asked("news"):
        for link in soup(book.make(words)).select("a[href*='#claim-']"):
            shown[link["href"].split("#claim-")[1]] += 1
    ours = {id for id, row in ROWS.items() if row.paper == OURS}
    more = {id for id, row in ROWS.items() if row.verdict == "extended"}
    assert set(shown) == ours | more
    assert set(shown.values()) == {1}
    assert not book.software & set(book.news)
    assert [words for words in asked("news") if words.startswith("news")] == [
        f"news {rank}" for rank in RANKS
    ]
    for about in book.news.values():
        assert about.kind in KINDS["news"]
        assert about.status
        assert about.kind != "theorem" or "proved" in about.status
        assert about.kind != "observation" or "observed" in about.status


def test_a_new_row_that_nobody_ranked_is_shown_all_the_same(book):
    other = Listings(ROOT)
    del other.news["mfbook-rounding"]
    assert "claim-mfbook-rounding" in other.make("news small")


def test_every_statement_of_the_book_is_in_the_index(book):
    text = book.make("statements")
    labels = re.findall(r"\{prf:ref\}`([\w-]+)`", text)
    blocks = []
    for page, _ in numbered_pages(ROOT):
        source = (BOOK / f"{page}.md").read_text("utf-8")
        blocks += re.findall(r"^:::+\{prf:(?!proof)\w+\}[^\n]*\n:label: ([\w-]+)", source, re.M)
    assert labels == blocks
    assert len(set(labels)) == len(labels)
    assert all(one.label and one.title for one in statements(ROOT) if one.kind != "corollary")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("W = AB and a matrix", "<i>W</i> = <i>AB</i> and a matrix"),
        ("A rank, A = B, rows of A", "A rank, <i>A</i> = <i>B</i>, rows of <i>A</i>"),
        ("a ≥ 1/2, I, Lemma F.4, the paper's", "<i>a</i> ≥ 1/2, I, Lemma F.4, the paper's"),
        ("below 1e-10 or 3e-5", "below 10<sup>−10</sup> or 3 · 10<sup>−5</sup>"),
        ("α^((p − q)/(2p))", "<i>α</i><sup>(<i>p</i> − <i>q</i>)/(<i>2p</i>)</sup>"),
        ("0 < k", "0 &lt; <i>k</i>"),
        ("‖V‖^(N−2) and 2d", "‖<i>V</i>‖<sup><i>N</i>−2</sup> and <i>2d</i>"),
    ],
)
def test_sentences_of_the_ledger_are_set(written, meant):
    assert as_html(written) == meant


def test_a_matrix_of_the_ledger_is_set_and_read_aloud():
    matrix = soup(as_html("of [[1, ★], [★, 2b]]")).select_one(".mf-matrix")
    assert [cell.get_text() for cell in matrix.find_all("span")] == ["1", "★", "★", "2b"]
    assert matrix["aria-label"] == "matrix 1 ★; ★ 2b"
    assert "repeat(2" in matrix["style"]
