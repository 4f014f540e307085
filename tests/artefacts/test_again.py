"""The same pages are bound to the same bytes, whenever and in whatever folder."""

import io
import math
import os
import time
from pathlib import Path

import pikepdf
import pytest

from tools import epub, pdf
from tools.bound import Book, Chapter, clean, link

PAGE = """<article class="bd-article"><section id="{name}"><h1>{name}</h1>
<p>A matrix <span class="math">\\(W = A B\\)</span> and
<a href="{other}.html">the other page</a>.</p>
<figure><img alt="a figure" src="f.svg"></figure><pre>x = 1</pre>
<table><tr><th>a</th></tr><tr><td>b</td></tr></table>
<section id="part"><h2>A part</h2><p>Text.</p></section></section></article>"""
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0L9 9"/></svg>'


def a_book() -> Book:
    chapters = [
        Chapter(name, "Part", clean(PAGE.format(name=name, other=other)))
        for name, other in (("one", "two"), ("two", "one"))
    ]
    return Book("A title", "somebody", "2026", "0.1", chapters, "window.MathJax = {options: {}}")


def printed(folder: Path) -> bytes:
    book = a_book()
    (folder / "f.svg").write_text(DRAWING, "utf-8")
    link(
        book,
        lambda chapter, anchor: f"{pdf.PLACES}{anchor or chapter.key}",
        lambda path: (folder / "f.svg").as_uri(),
    )
    pieces = list(pdf.print_book(book, folder / "print"))
    file = io.BytesIO()
    pdf.save(pdf.bind([pieces[-1], *pieces[:-1]], book), file)
    return file.getvalue()


def bound(folder: Path) -> bytes:
    book = a_book()
    (folder / "f.svg").write_text(DRAWING, "utf-8")
    link(book, epub.address, lambda path: "images/f.svg")
    pictures = {"f.svg": folder / "f.svg"}
    chapters = epub.typeset(book, pictures, folder / "epub")
    cover = {epub.COVER: folder / "epub" / epub.COVER}
    epub.bind(book, chapters, pictures | cover, folder / "book.epub")
    return (folder / "book.epub").read_bytes()


MAKERS = [printed, bound]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The bytes that each maker made here and, later, in another folder."""
    found = {make: [] for make in MAKERS}
    ended = dict.fromkeys(MAKERS, -math.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1000000000")
        for name, zone, mask in (
            ("here", "UTC", 0o022),
            ("in another folder", "Asia/Tokyo", 0o077),
        ):
            patch.setenv("TZ", zone)
            time.tzset()
            for make in MAKERS:
                # The clocks in both formats count seconds, or two.
                time.sleep(max(0, ended[make] + 2.1 - time.monotonic()))
                folder = tmp_path_factory.mktemp(name)
                before = os.umask(mask)
                found[make].append(make(folder))
                os.umask(before)
                ended[make] = time.monotonic()
    time.tzset()
    return found


@pytest.mark.parametrize("make", MAKERS)
def test_a_book_is_bound_to_the_same_bytes_again(make, made):
    here, there = made[make]
    assert here == there


def test_the_print_says_when_its_commit_was_made(made):
    with pikepdf.open(io.BytesIO(made[printed][0])) as book, book.open_metadata() as about:
        assert about["xmp:CreateDate"] == "2001-09-09T01:46:40Z"
        assert "xmp:MetadataDate" not in about
        assert set(book.docinfo.keys()) == {"/Title", "/Author", "/CreationDate"}
