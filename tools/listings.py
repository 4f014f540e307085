"""The lists at the end of the book, made from the ledger whenever the pages are built.

A page holds a directive such as `{listing} errata li2021` and nothing that could drift. Sphinx and
the notebooks of `make lab` show the same text, which is Markdown with HTML in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path

import yaml

from mfbook.book.claims import PAPERS, VERDICTS, Claim
from tools.chapters import ROOT, numbered_pages
from tools.mathematics import as_html
from tools.statements import Statement, statements

# What the directive reads; a page that has one is built again when one of them changes.
SOURCES = ("book/claims.yml", "book/papers.yml", "book/errata.yml", "book/news.yml")
OURS = "mfbook"
RANKS = ("first", "further", "small")
SHORT = {
    "bai2024": "Bai et al.",
    "bai-talk": "talk",
    "li2021": "Li et al.",
    "arora2019": "Arora et al.",
    OURS: "ours",
}


# What the number of an erratum begins with, by the paper; the number of a new result with NEW.
LETTERS = {"bai2024": "B", "bai-talk": "T", "li2021": "L", "arora2019": "A"}
NEW = "N"


@dataclass(frozen=True)
class Erratum:
    """Something wrong in print. `claim` is the row whose chapter shows it, `after` the item of the
    paper beside which it stands if that is another one."""

    claim: str
    place: str
    kind: str
    printed: str
    correct: str
    after: str = ""


@dataclass(frozen=True)
class News:
    """How much a new result is: what kind of thing, how sure, in which rank."""

    rank: str
    kind: str
    status: str
    statement: str = ""


@dataclass
class Listings:
    """All rows of the ledger in the order of the papers, and what is said of them elsewhere."""

    root: Path = ROOT
    ending: str = "html"
    rows: list[Claim] = field(default_factory=list)

    def __post_init__(self) -> None:
        order = {paper: list(items) for paper, items in self.papers.items()}
        chapters = [page for page, _ in numbered_pages(self.root)]

        def place(row: Claim) -> tuple[int, int]:
            if row.paper == OURS:
                return list(PAPERS).index(OURS), chapters.index(row.chapter)
            known = order[row.paper]
            within = known.index(row.id) if row.id in known else len(known)
            return list(PAPERS).index(row.paper), within

        self.rows = sorted((Claim(**row) for row in self.read("claims")), key=place)

    def read(self, name: str):
        return yaml.safe_load((self.root / "book" / f"{name}.yml").read_text("utf-8"))

    @cached_property
    def papers(self) -> dict[str, dict[str, dict[str, str]]]:
        return self.read("papers")

    @cached_property
    def items(self) -> dict[str, dict[str, str]]:
        return {id: about for items in self.papers.values() for id, about in items.items()}

    @cached_property
    def news(self) -> dict[str, News]:
        listed = self.read("news")
        return {id: News(rank, **about) for rank in RANKS for id, about in listed[rank].items()}

    @cached_property
    def software(self) -> set[str]:
        """The rows of ours that are no results."""
        return set(self.read("news")["software"])

    @cached_property
    def errata(self) -> list[Erratum]:
        """What is wrong in the items that have a row, in the order of the papers."""
        found = [Erratum(**entry) for entry in self.read("errata")]
        known, order = {row.id for row in self.rows}, list(self.items)
        return sorted(
            (one for one in found if one.claim in known),
            key=lambda one: order.index(one.after or one.claim),
        )

    @cached_property
    def statements(self) -> dict[str, Statement]:
        return {one.label: one for one in statements(self.root)}

    @cached_property
    def titles(self) -> dict[str, str]:
        sources = {page: self.root / "book" / f"{page}.md" for page, _ in numbered_pages(self.root)}
        return {page: title_of(source) for page, source in sources.items()}

    @cached_property
    def parts(self) -> dict[str, str]:
        """The part of the book that a page belongs to."""
        toc = yaml.safe_load((self.root / "_toc.yml").read_text("utf-8"))
        found = {toc["root"].removeprefix("book/"): "The first page"}
        for part in toc["parts"]:
            for entry in part["chapters"]:
                found[entry["file"].removeprefix("book/")] = part["caption"]
        return found

    def make(self, words: str) -> str:
        """The list that a directive asks for: its name, and perhaps what of it."""
        name, *rest = words.split()
        return LISTS[name](self, *rest)

    # Links and the pieces of a row.

    def link(self, page: str, anchor: str, text: str) -> str:
        return f'<a href="{page}.{self.ending}#{anchor}">{text}</a>'

    def check(self, row: Claim, text: str = "the check") -> str:
        return self.link(row.chapter, f"claim-{row.id}", text)

    def statement(self, row: Claim) -> str:
        """A link to the statement that holds a row's item, or nothing."""
        about = self.news.get(row.id)
        label = about.statement if about else self.items.get(row.id, {}).get("statement", "")
        if not label:
            return ""
        if label not in self.statements:
            raise KeyError(f"{row.id} belongs to the statement {label!r}, which is in no chapter")
        there = self.statements[label]
        return self.link(there.page, label, there.name)

    def where(self, row: Claim, status: str = "") -> str:
        """A line with what is known of a row, its statement and its check."""
        links = [self.statement(row), f"{self.check(row)} in <em>{self.titles[row.chapter]}</em>"]
        known = f"{escape(status.capitalize())}. " if status else ""
        return f'<span class="mf-where">{known}{", ".join(filter(None, links))}</span>'

    def words(self, text: str) -> str:
        """Plain text as HTML; a chapter named by its place, (bias/rank), by its title."""
        html = as_html(text)
        for page, title in self.titles.items():
            named = f'(<a href="{page}.{self.ending}">{title}</a>)'
            html = html.replace(f"({page})", named)
        return html


def title_of(source: Path) -> str:
    lines = source.read_text("utf-8").splitlines()
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


def badge(kind: str, text: str = "", meaning: str = "") -> str:
    title = f' title="{escape(meaning)}"' if meaning else ""
    return f'<span class="mf-verdict mf-verdict-{kind}"{title}>{text or kind}</span>'


def numbered(kind: str, letter: str, count: int) -> str:
    """By what an entry of a list is cited, a link to itself."""
    name = f"{letter}{count}"
    anchor = f"{kind}-{name.lower()}"
    return f'<a class="mf-number" id="{anchor}" href="#{anchor}">{name}</a>'


def section(place: object) -> str:
    """`6.1` and `A.2` as they are called; the talk names its slides."""
    text = str(place)
    if text[:1].isdigit():
        return f"Section {text}"
    return f"Appendix {text}" if text[1:2] in ("", ".") else f"slide “{text}”"


# The ledger.


def ledger_table(book: Listings, paper: str) -> str:
    rows = [row for row in book.rows if row.paper == paper]
    body = "".join(ledger_row(book, row) for row in rows)
    return (
        f'<table class="mf-ledger" data-paper="{paper}"><caption>{len(rows)} rows</caption>'
        '<thead><tr><th scope="col">item</th><th scope="col">verdict</th>'
        '<th scope="col">what it says, and what we found</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def ledger_row(book: Listings, row: Claim) -> str:
    note = f' <span class="mf-note">{book.words(row.note)}</span>' if row.note else ""
    place = book.items.get(row.id, {}).get("place", "")
    known = not place or section(place).split()[-1] in row.item or str(place) in row.item
    place = "" if known else f' <span class="mf-place">{section(place)}</span>'
    return (
        f'<tr id="row-{row.id}" data-part="{escape(book.parts[row.chapter])}" '
        f'data-verdict="{row.verdict}"><td>{as_html(row.item)}{place}</td>\n'
        f"<td>{badge(row.verdict, meaning=VERDICTS[row.verdict])}</td>\n"
        f"<td>{book.words(row.statement)}{note} {book.where(row)}</td></tr>\n"
    )


def ledger_counts(book: Listings) -> str:
    """How many rows of each paper have which verdict, each number a way to see them."""
    counts = Counter((row.paper, row.verdict) for row in book.rows)
    papers = Counter(row.paper for row in book.rows)
    heads = "".join(f'<th scope="col">{name}</th>' for name in SHORT.values())
    body = ""
    for verdict in VERDICTS:
        cells = "".join(f"<td>{count_link(counts, paper, verdict)}</td>" for paper in PAPERS)
        total = sum(row.verdict == verdict for row in book.rows)
        body += f'<tr><th scope="row">{badge(verdict)}</th>{cells}<td>{total or "–"}</td></tr>'
    sums = "".join(f"<td>{papers[paper]}</td>" for paper in PAPERS)
    body += f'<tr><th scope="row">all</th>{sums}<td>{len(book.rows)}</td></tr>'
    return (
        f'<table class="mf-counts"><thead><tr><td></td>{heads}<th scope="col">all</th></tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )


def count_link(counts: Counter, paper: str, verdict: str) -> str:
    number = counts[paper, verdict]
    if not number:
        return "–"
    what = f"{number} {verdict}, {PAPERS[paper]}"
    return (
        f'<a href="?paper={paper}&amp;verdict={verdict}" aria-label="{escape(what)}">{number}</a>'
    )


def ledger_filter(book: Listings) -> str:
    """Fields to choose rows by. A script shows them; without one all rows are there."""
    used = {book.parts[row.chapter] for row in book.rows}
    parts = [part for part in dict.fromkeys(book.parts.values()) if part in used]
    choices = {
        "paper": ("Paper", list(PAPERS.items())),
        "part": ("Part of the book", [(part, part) for part in parts]),
        "verdict": ("Verdict", [(verdict, verdict) for verdict in VERDICTS]),
    }
    fields = '<label>Words <input type="search" name="words" autocomplete="off"></label>'
    for name, (label, options) in choices.items():
        listed = "".join(f'<option value="{escape(v)}">{escape(t)}</option>' for v, t in options)
        fields += (
            f'<label>{label} <select name="{name}"><option value="">all</option>{listed}'
            "</select></label>"
        )
    return (
        '<form class="mf-filter" role="search" aria-label="Rows of the ledger" hidden>'
        f'{fields}<button type="reset">Show all</button><p role="status"></p></form>'
    )


def open_rows(book: Listings) -> str:
    """The items of the papers that are not settled, if there are any."""
    rows = [row for row in book.rows if row.verdict == "open"]
    if not rows:
        return "Every item of the papers that has a row in the ledger is settled."
    entries = "".join(
        f"<li><strong>{PAPERS[row.paper]}, {as_html(row.item)}.</strong> "
        f"{book.words(row.statement)} {book.words(row.note)} {book.where(row)}</li>"
        for row in rows
    )
    return f'<ul class="mf-list">{entries}</ul>'


# What is wrong in print.


def errata_list(book: Listings, paper: str) -> str:
    rows = {row.id: row for row in book.rows}
    listed = book.papers[paper]
    entries = [one for one in book.errata if (one.after or one.claim) in listed]
    lines = []
    for count, one in enumerate(entries, 1):
        cited = numbered("erratum", LETTERS[paper], count)
        link = book.check(rows[one.claim], "The check")
        # What belongs to an entry of a list stands as far in as its first word.
        lines += [
            f"- {cited} **{one.place}** {badge(one.kind)} {sentence(one.printed)}",
            "",
            f"  *Read:* {sentence(one.correct)} {link}.",
            "",
        ]
    return "\n".join(lines)


def sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", ".)")) else f"{text}."


def errata_counts(book: Listings) -> str:
    """How many, by kind and by paper, in a sentence."""
    kinds = Counter(one.kind for one in book.errata)
    words = {
        "misprint": "misprints",
        "condition": "conditions that are missing",
        "statement": "statements that are not so",
        "proof": "steps of proofs",
        "experiment": "experiments",
    }
    by_kind = [f"{kinds[kind]} {text}" for kind, text in words.items() if kinds[kind]]
    by_paper = []
    for paper, items in book.papers.items():
        found = sum((one.after or one.claim) in items for one in book.errata)
        by_paper.append(f"{found} in {PAPERS[paper]}")
    return f"There are {len(book.errata)}: {both(by_kind)}; {both(by_paper)}."


def both(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


# What is new.


def ranked(book: Listings) -> dict[str, list[Claim]]:
    """The new results by rank; a new row that nobody has ranked yet stands at the end."""
    rows = {row.id: row for row in book.rows}
    found = {
        rank: [rows[id] for id, about in book.news.items() if about.rank == rank and id in rows]
        for rank in RANKS
    }
    known = set(book.news) | book.software
    found[RANKS[-1]] += [row for row in book.rows if row.paper == OURS and row.id not in known]
    return found


def news_list(book: Listings, rank: str) -> str:
    by_rank = ranked(book)
    # One row of numbers for all ranks.
    first = 1 + sum(len(by_rank[before]) for before in RANKS[: RANKS.index(rank)])
    entries = []
    for count, row in enumerate(by_rank[rank], first):
        about = book.news.get(row.id, News(rank, "observation", ""))
        entries.append(
            f"<li>{numbered('result', NEW, count)} {badge(about.kind)} "
            f"<strong>{as_html(row.item)}.</strong> "
            f"{book.words(row.statement)} {book.where(row, about.status)}</li>\n"
        )
    return f'<ul class="mf-list">{"".join(entries)}</ul>'


def extended_list(book: Listings) -> str:
    """Items of the papers of which we show more."""
    return plain_list(book, [row for row in book.rows if row.verdict == "extended"])


def software_list(book: Listings) -> str:
    return plain_list(book, [row for row in book.rows if row.id in book.software])


def plain_list(book: Listings, rows: list[Claim]) -> str:
    entries = "".join(
        f"<li><strong>{head(row)}.</strong> {book.words(row.statement)} "
        f'<span class="mf-note">{book.words(row.note)}</span> {book.where(row)}</li>\n'
        for row in rows
    )
    return f'<ul class="mf-list">{entries}</ul>'


def head(row: Claim) -> str:
    paper = "" if row.paper == OURS else f"{PAPERS[row.paper]}, "
    return escape(paper) + as_html(row.item)


def statement_index(book: Listings) -> str:
    lines = []
    for page in dict.fromkeys(one.page for one in book.statements.values()):
        lines += [f"**[{book.titles[page]}]({page}.md)**", ""]
        for one in book.statements.values():
            if one.page == page:
                title = f" {one.title}" if one.title else ""
                lines.append(f"- {{prf:ref}}`{one.label}`{title}")
        lines.append("")
    return "\n".join(lines)


LISTS: dict[str, Callable[..., str]] = {
    "ledger": ledger_table,
    "ledger-counts": ledger_counts,
    "ledger-filter": ledger_filter,
    "open": open_rows,
    "errata": errata_list,
    "errata-counts": errata_counts,
    "news": news_list,
    "extended": extended_list,
    "software": software_list,
    "statements": statement_index,
}
