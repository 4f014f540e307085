"""Sphinx extension: the search finds statements and rows of the ledger, and quotes from files, too.

Sphinx's index knows a statement by its title in brackets, or by nothing; here it knows its number
as well, and the rows of the ledger. The search page quotes what it finds from pages that it
fetches, menus included, and a browser refuses to fetch from a file. `texts.js` holds the articles.
"""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx

from mfbook.book.claims import PAPERS, ledger
from tools.elements import TITLE, built_pages, element

INDEX = "searchindex.js"
TEXTS, SCRIPT = "texts.js", "search.js"

PERMALINK = re.compile(r'<a class="headerlink".*?</a>', re.S)
TAG = re.compile(r"<[^>]+>")
# What nobody reads, code that is folded away, and what stands at the foot of every page.
UNSEEN = re.compile(
    r"<(script|style|svg)\b.*?</\1>"
    r'|<details class="(?:admonition hide above-input|mf-foot)".*?</details>',
    re.S,
)
# A place that a result leads to.
PLACE = re.compile(r'<(section|div|/section|/div)\b(?:[^>]*?\bid="([^"]+)")?[^>]*>')


class Name(NamedTuple):
    """What the search calls a place: its kind and its title."""

    kind: str
    title: str


# A smaller number comes first in Sphinx's results.
PRIORITY = {"statement": 1, "exercise": 2, "row of the ledger": 2}


def words(html: str) -> str:
    """What a reader reads in a piece of HTML."""
    return " ".join(unescape(TAG.sub("", PERMALINK.sub("", html))).split())


def statements_of(html: str) -> dict[str, Name]:
    """The titles of a page's statements and exercises, with their numbers, by id."""
    return {
        place: Name("exercise" if kind == "exercise" else "statement", words(title))
        for _, kind, place, title in TITLE.findall(html)
    }


def rows_of(html: str) -> dict[str, Name]:
    """The names of the ledger's rows that a page holds, by id."""
    rows = {f"row-{one.id}": f"{one.item} ({PAPERS[one.paper]})" for one in ledger()}
    return {
        place: Name("row of the ledger", title)
        for place, title in rows.items()
        if f'<tr id="{place}"' in html
    }


def main_of(html: str) -> str:
    """The text of a page in the sections and boxes that results lead to."""
    start = html.find('<article class="bd-article"')
    main = element(html, start, "article") if start >= 0 else html
    main = PERMALINK.sub("", UNSEEN.sub("", main))

    def place(found: re.Match) -> str:
        return f'\x00{found[1]} id="{found[2]}"\x01' if found[2] else f"\x00{found[1]}\x01"

    text = TAG.sub("", PLACE.sub(place, main))
    return " ".join(text.replace("\x00", "<").replace("\x01", ">").split())


def with_names(index: str, names: dict[str, dict[str, Name]]) -> str:
    """Sphinx's index in which these places, by page and id, are objects with a name.

    Sphinx lists titles only where a query has half of their letters; of an object's name it asks
    for the words of the query, in any order.
    """
    start, end = index.index("(") + 1, index.rindex(")")
    found = json.loads(index[start:end])
    numbers = {name: k for k, name in enumerate(found["docnames"])}
    named = {(numbers[page], place) for page, places in names.items() for place in places}
    found["alltitles"] = {
        title: left
        for title, places in found["alltitles"].items()
        if (left := [place for place in places if tuple(place) not in named])
    }
    kinds = {known[2]: int(k) for k, known in found["objnames"].items()}
    for kind in sorted(PRIORITY):
        k = kinds.setdefault(kind, len(kinds))
        found["objnames"][str(k)] = ["mfbook", kind, kind]
        found["objtypes"][str(k)] = f"mfbook:{kind}"
    found["objects"][""] = [
        [numbers[page], kinds[one.kind], PRIORITY[one.kind], place, one.title]
        for page, places in sorted(names.items())
        for place, one in places.items()
    ]
    words = json.dumps(found, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return index[:start] + words + index[end:]


def write(app: Sphinx, error: Exception | None) -> None:
    root = Path(app.outdir)
    if error is not None or app.builder.name != "html":
        return
    texts = built_pages(app)
    names = {page: statements_of(html) | rows_of(html) for page, html in texts.items()}
    index = root / INDEX
    index.write_text(with_names(index.read_text("utf-8"), names), "utf-8")
    mains = {f"{name}.html": main_of(html) for name, html in texts.items()}
    said = json.dumps(mains, ensure_ascii=False)
    (root / "_static" / TEXTS).write_text(f"window.mfTexts = {said};\n", "utf-8")


def load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if page == "search":
        app.add_js_file(SCRIPT)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", load)
    # The index is written when all pages are.
    app.connect("build-finished", write, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
