"""The whole book as one PDF: each chapter is printed by the browser, and they are bound together.

    python tools/pdf.py [FILE]

The title and the contents, which know the pages of all chapters, are printed last.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import BinaryIO

import pikepdf
from lxml import html
from pikepdf import Array, Dictionary, Name, OutlineItem, Pdf, String

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import wheel
from tools.bound import HTML, Book, Chapter, colours, link, read_book
from tools.chapters import ROOT
from tools.typeset import (
    SHRINK,
    STICKING_OUT,
    STYLES,
    faces,
    load,
    mathjax,
    opened,
)

BUILT = ROOT / "_build" / "print"
FILE = ROOT / "_build" / "mfbook.pdf"
# The column of text: A4 without the margins that pdf.css gives it, in pixels of 1/96 inch.
COLUMN = 627
# A formula may be set this much smaller, to fit.
LEAST = 0.75
# The front matter's key among those of the chapters.
FRONT = "front"
# No host has this name. An address under it is a place in the book.
PLACES = "https://book.invalid/#"


def document(key: str, title: str, first: int, heads: str, body: str, book: Book) -> str:
    """What the browser prints: `first` is the number of its first page."""
    styles = "\n".join((STYLES / f"{name}.css").read_text("utf-8") for name in ("book", "pdf"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>\n{faces()}\n{colours()}\n{styles}\n{heads}\n"
        f"html {{ counter-reset: page {first - 1}; }}</style>"
        f'{mathjax(book.mathjax)}</head><body id="{key}">\n{body}</body></html>\n'
    )


def quoted(text: str) -> str:
    """A text as CSS writes it."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def running_heads(chapter: Chapter, book: Book) -> str:
    font = "font: 9pt STIX, serif"
    return (
        f"@page {{ @top-left {{ content: {quoted(chapter.part or book.title)}; {font}; }} "
        f"@top-right {{ content: {quoted(chapter.title)}; {font}; }} }}\n"
        "@page :first { @top-left { content: none; } @top-right { content: none; } }"
    )


def targets(book: Book) -> dict[str, set[str]]:
    """For every chapter's key, the places in it that something in the book leads to."""
    found = {chapter.key: {chapter.key} for chapter in book.chapters}
    for chapter in book.chapters:
        found[chapter.key] |= {anchor for anchor, _ in chapter.sections}
        for place in chapter.body.xpath(".//a/@href[starts-with(., $places)]", places=PLACES):
            anchor = place.removeprefix(PLACES)
            found[anchor.split("--")[0]].add(anchor)
    return found


def chapter_body(chapter: Chapter, named: set[str]) -> str:
    part = f'<p class="mf-part">{escape(chapter.part)}</p>' if chapter.part else ""
    # The browser names those places only that something in the same document leads to.
    names = "".join(f'<a href="#{anchor}" hidden></a>' for anchor in sorted(named))
    return part + html.tostring(chapter.body, encoding="unicode") + names


def contents(book: Book, pages: dict[str, int]) -> str:
    def entry(anchor: str, title: str) -> str:
        number = pages[anchor]
        return f'<a href="{PLACES}{anchor}"><span>{escape(title)}</span><span>{number}</span></a>'

    lines = ['<nav class="mf-contents"><h1>Contents</h1>']
    for part, chapters in book.parts():
        lines += [f"<p>{escape(part)}</p>" if part else "", "<ol>"]
        for chapter in chapters:
            lines.append(f"<li>{entry(chapter.key, chapter.title)}<ol>")
            lines += [f"<li>{entry(*section)}</li>" for section in chapter.sections]
            lines.append("</ol></li>")
        lines.append("</ol>")
    return "\n".join([*lines, "</nav>"])


def title_page(book: Book) -> str:
    picture = (ROOT / "book" / "_static" / "welcome.svg").as_uri()
    return (
        f'<div class="mf-title"><h1>{escape(book.title)}</h1>'
        "<p>What gradient flow makes of a matrix of which a few entries are known, when it starts "
        "from almost nothing</p>"
        f'<img src="{picture}" alt="One incomplete matrix finished in five ways.">'
        f"<p>{escape(book.author)}, {book.year}. Version {book.version}. "
        "Text and figures: CC BY 4.0. Code: BSD-3-Clause.</p></div>"
    )


def print_book(book: Book, folder: Path) -> Iterator[tuple[str, Pdf]]:
    """The front matter and the chapters, each printed, by their keys; the front comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    named = targets(book)
    pages: dict[str, int] = {}
    with opened(COLUMN) as page:

        def printed(key: str, *parts: object) -> Pdf:
            file = folder / f"{key}.html"
            file.write_text(document(key, *parts, book), "utf-8")
            load(page, file)
            page.evaluate(SHRINK, LEAST)
            if wide := page.evaluate(STICKING_OUT, COLUMN):
                raise RuntimeError(f"{key}: wider than the page: " + "; ".join(wide[:5]))
            made = page.pdf(prefer_css_page_size=True, print_background=True, tagged=True)
            return Pdf.open(io.BytesIO(made))

        first = 1
        for chapter in book.chapters:
            pdf = printed(
                chapter.key,
                chapter.title,
                first,
                running_heads(chapter, book),
                chapter_body(chapter, named[chapter.key]),
            )
            for anchor, at in places(pdf).items():
                pages[anchor] = first + at[0]
            first += len(pdf.pages)
            yield chapter.key, pdf
        roman = (
            "@page { @bottom-center { content: counter(page, lower-roman); } }\n"
            "@page :first { @bottom-center { content: none; } }"
        )
        front = title_page(book) + contents(book, pages)
        yield FRONT, printed(FRONT, book.title, 1, roman, front)


def places(pdf: Pdf) -> dict[str, tuple[int, list]]:
    """Where the browser says that the anchors are: the page, from 0, and how to show it."""
    numbers = {page.objgen: number for number, page in enumerate(pdf.pages)}
    found = pdf.Root.get(Name.Dests, Dictionary())
    return {
        str(name).removeprefix("/"): (numbers[where[0].objgen], list(where)[1:])
        for name, where in found.items()
    }


def bind(printed: list[tuple[str, Pdf]], book: Book) -> Pdf:
    """One PDF whose links lead from chapter to chapter."""
    bound = Pdf.new()
    names: dict[str, Array] = {}
    trees = []
    for _, pdf in printed:
        start = len(bound.pages)
        bound.pages.extend(pdf.pages)
        for anchor, (number, how) in places(pdf).items():
            names[anchor] = Array([bound.pages[start + number].obj, *how])
        trees.append((bound.copy_foreign(pdf.Root.StructTreeRoot), range(start, len(bound.pages))))
    for page in bound.pages:
        for note in page.get(Name.Annots, ()):
            lead(note, names)
    listed = [part for name in sorted(names) for part in (String(name), names[name])]
    bound.Root.Names = Dictionary(Dests=bound.make_indirect(Dictionary(Names=Array(listed))))
    bound.Root.StructTreeRoot = one_tree(bound, trees)
    bound.Root.MarkInfo = Dictionary(Marked=True)
    bound.Root.Lang = String("en")
    bound.Root.ViewerPreferences = Dictionary(DisplayDocTitle=True)
    bound.Root.PageMode = Name.UseOutlines
    front = len(printed[0][1].pages)
    bound.Root.PageLabels = Dictionary(
        Nums=Array([0, Dictionary(S=Name.r), front, Dictionary(S=Name.D)])
    )
    bookmarks(bound, book, names)
    # Its editor would sign with the time of binding; the same commit gives the same bytes.
    with bound.open_metadata(set_pikepdf_as_editor=False) as about:
        about["dc:title"] = book.title
        about["dc:creator"] = [book.author]
        about["dc:language"] = ["en"]
        about["xmp:CreateDate"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wheel.moment()))
    return bound


def save(bound: Pdf, file: Path | BinaryIO) -> None:
    bound.save(file, object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)


def lead(note: Dictionary, names: dict[str, Array]) -> None:
    """Let a link of the book lead to its place. Raises ValueError where there is none."""
    action = note.get(Name.A)
    address = str(action.get(Name.URI, "")) if action is not None else ""
    if address.startswith(PLACES):
        anchor = address.removeprefix(PLACES)
        del note[Name.A]
    elif Name.Dest in note:
        anchor = str(note.Dest).removeprefix("/")
    else:
        return
    if anchor not in names:
        raise ValueError(f"a link leads to {anchor}, which no page holds")
    note.Dest = String(anchor)


def one_tree(bound: Pdf, trees: list[tuple[Dictionary, range]]) -> Dictionary:
    """The chapters' trees of headings, paragraphs and figures, which are read aloud, as one.

    Every page and link knows its place in its own chapter's tree by a number; those of one chapter
    go on where the chapter before it ends.
    """
    root = bound.make_indirect(Dictionary(Type=Name.StructTreeRoot))
    kids, numbered, offset = Array(), Array(), 0
    named: list[Dictionary] = []
    for tree, pages in trees:
        name_heads(tree, named)
        top = tree.K if isinstance(tree.K, Array) else [tree.K]
        for kid in top:
            kid.P = root
            kids.append(kid)
        for page in (bound.pages[number] for number in pages):
            for holder, key in [
                (page, Name.StructParents),
                *((note, Name.StructParent) for note in page.get(Name.Annots, ())),
            ]:
                if key in holder:
                    holder[key] = int(holder[key]) + offset
        highest = -1
        for number, element in leaves(tree.ParentTree):
            numbered.extend([number + offset, element])
            highest = max(highest, number)
        offset += highest + 1
    root.K = kids
    root.ParentTree = bound.make_indirect(Dictionary(Nums=numbered))
    root.ParentTreeNextKey = offset
    listed = [part for head in named for part in (head.ID, head)]
    root.IDTree = bound.make_indirect(Dictionary(Names=Array(listed)))
    return root


def name_heads(tree: Dictionary, named: list[Dictionary]) -> None:
    """Give the heads of a chapter's tables names of their own, after those that are `named`.

    The cells say by name which heads they stand under. The browser's names are numbers of all that
    it has ever made, which differ in every print, and two chapters may have the same.
    """
    names: dict[str, String] = {}
    under: list[Dictionary] = []
    waiting = [tree]
    while waiting:
        element = waiting.pop()
        below = element.get(Name.K, ())
        below = list(below) if isinstance(below, Array) else [below]
        waiting += [one for one in reversed(below) if isinstance(one, Dictionary)]
        if Name.ID in element:
            names[str(element.ID)] = String(f"head{len(named):08}")
            element.ID = names[str(element.ID)]
            named.append(element)
        said = element.get(Name.A, ())
        for one in said if isinstance(said, Array) else [said]:
            if isinstance(one, Dictionary) and Name.Headers in one:
                under.append(one)
    for one in under:
        one.Headers = Array([names[str(head)] for head in one.Headers if str(head) in names])


def leaves(tree: Dictionary) -> Iterator[tuple[int, object]]:
    """The numbers of a number tree in order, with what each stands for."""
    for kid in tree.get(Name.Kids, ()):
        yield from leaves(kid)
    flat = list(tree.get(Name.Nums, ()))
    yield from zip(map(int, flat[::2]), flat[1::2], strict=True)


def bookmarks(bound: Pdf, book: Book, names: dict[str, Array]) -> None:
    """The contents once more, beside the pages."""

    def item(title: str, anchor: str) -> OutlineItem:
        return OutlineItem(title, names[anchor])

    with bound.open_outline() as outline:
        for part, chapters in book.parts():
            into = outline.root
            if part:
                into = item(part, chapters[0].key)
                outline.root.append(into)
                into = into.children
            for chapter in chapters:
                entry = item(chapter.title, chapter.key)
                entry.is_closed = True
                entry.children.extend(item(title, anchor) for anchor, title in chapter.sections)
                into.append(entry)


def main(words: list[str]) -> int:
    file = Path(words[0]) if words else FILE
    book = read_book()
    link(
        book,
        lambda chapter, anchor: f"{PLACES}{anchor or chapter.key}",
        lambda path: (HTML / path).as_uri(),
    )
    try:
        printed = list(print_book(book, BUILT))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    bound = bind([printed[-1], *printed[:-1]], book)
    save(bound, file)
    print(f"{len(bound.pages)} pages are printed in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
