"""The same pages are bound to the same bytes, whenever and in whatever folder."""

import io
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


@pytest.mark.parametrize("make", [printed, bound])
def test_a_book_is_bound_to_the_same_bytes_again(make, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    made = []
    for name, zone in (("here", "UTC"), ("in another folder", "Asia/Tokyo")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        (tmp_path / name).mkdir()
        if made:
            # The clocks in both formats count seconds, or two.
            time.sleep(2.1)
        os.umask(mask := os.umask(0o077 if made else 0o022))
        made.append(make(tmp_path / name))
        os.umask(mask)
    monkeypatch.delenv("TZ")
    time.tzset()
    assert made[0] == made[1]


def test_the_print_says_when_its_commit_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    with pikepdf.open(io.BytesIO(printed(tmp_path))) as made, made.open_metadata() as about:
        assert about["xmp:CreateDate"] == "2001-09-09T01:46:40Z"
        assert "xmp:MetadataDate" not in about
        assert set(made.docinfo.keys()) == {"/Title", "/Author", "/CreationDate"}
