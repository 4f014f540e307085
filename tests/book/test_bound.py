"""The built pages bound into one book: what stays, what goes, and where links lead."""

import pytest

from tools import browser, epub, pdf
from tools.bound import Book, Chapter, clean, link, listed, words
from tools.browser import MISSING

PAGE = """<article class="bd-article">
<section id="{name}"><h1>{name}<a class="headerlink" href="#{name}">#</a></h1>
<section id="a-part"><h2>A part<a class="headerlink" href="#a-part">#</a></h2>
<details class="admonition hide above-input"><summary><p>Show the code</p></summary>
<pre><span></span><span>x = 1</span>
</pre></details>
<mf-explorer kind="matrix"><section class="mfx"><p>static</p></section></mf-explorer>
<p id="book/odd-1">{links}</p><img alt="a figure" src="../../_images/f.png">
<button>Press</button></section></section></article>"""


def book(**links: str) -> Book:
    chapters = [
        Chapter(name, "Part", clean(PAGE.format(name=name.split("/")[1], links=text)))
        for name, text in links.items()
    ]
    return Book("A title", "somebody", "2026", "0.1", chapters, "window.MathJax = {options: {}}")


def bind(bound: Book) -> list[list[str]]:
    link(bound, lambda chapter, anchor: f"{chapter.key}#{anchor}", lambda path: f"at {path}")
    return [chapter.body.xpath(".//a/@href") for chapter in bound.chapters]


def test_links_lead_to_the_chapter_and_the_place():
    bound = book(
        **{
            "one/x": '<a href="../two/y.html#a-part">1</a><a href="../two/y.html">2</a>',
            "two/y": '<a href="#book/odd-1">3</a><a href="https://doi.org/1">4</a>',
        }
    )
    assert bind(bound) == [
        ["two-y#two-y--a-part", "two-y#"],
        ["two-y#two-y--book-odd-1", "https://doi.org/1"],
    ]
    anchors = [set(chapter.body.xpath(".//@id")) for chapter in bound.chapters]
    assert anchors[1] == {"two-y--y", "two-y--a-part", "two-y--book-odd-1"}
    assert not anchors[0] & anchors[1]
    assert bound.chapters[0].body.xpath(".//img/@src") == ["at _images/f.png"]


@pytest.mark.parametrize("address", ["../two/z.html", "#nowhere", "x.ipynb", "../one/x.html#no"])
def test_a_link_that_leads_nowhere_is_said(address):
    with pytest.raises(ValueError, match=f"book/one/x.html: {address}"):
        bind(book(**{"one/x": f'<a href="{address}">there</a>'}))


def test_what_needs_a_screen_goes_and_what_it_hid_stays():
    [chapter] = book(**{"one/x": ""}).chapters
    assert words(chapter.body) == "x A part x = 1 static"
    assert not chapter.body.xpath(".//details | .//summary | .//button | .//mf-explorer")
    assert chapter.body.find_class("mf-folded") and chapter.body.find_class("mfx")
    # The anchor is at the heading, which may stand on the page after the one where it begins.
    assert chapter.body.xpath("string(.//h2/@id)") == "a-part"
    assert chapter.sections == [("one-x--a-part", "A part")]


def test_boxes_of_a_screen_go_and_their_formulas_stay():
    kept = r'(<span class="mf-kept">(<span class="math">\(x\)</span>),</span> and'
    [chapter] = book(**{"one/x": kept}).chapters
    assert not chapter.body.find_class("mf-kept")
    assert chapter.body.xpath("string(.//p[@id='book/odd-1'])") == r"((\(x\)), and"


def test_the_order_is_that_of_the_table_of_contents():
    toc = {"root": "book/w", "parts": [{"caption": "P", "chapters": [{"file": "book/p/a"}]}]}
    assert listed(toc) == [("", "w"), ("P", "p/a")]


@pytest.mark.parametrize("tool", [pdf, epub])
def test_without_a_browser_the_cure_is_said(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browser, "find", lambda: None)
    monkeypatch.setattr(tool, "BUILT", tmp_path)
    monkeypatch.setattr(tool, "read_book", lambda: book(**{"one/x": ""}))
    monkeypatch.setattr(epub, "copy_pictures", lambda *found: None)
    assert tool.main([str(tmp_path / "book")]) == 1
    assert MISSING in capsys.readouterr().err
    assert not (tmp_path / "book").exists()
