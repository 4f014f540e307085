"""The built pages as the chapters of one book, for paper and for readers of electronic books.

What the web pages show is what the book holds: numbers, captions and outputs are those of the
built pages. Only what needs a screen goes: buttons, anchors beside headings, folds.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from lxml import html
from lxml.html import HtmlElement
from pygments.formatters import HtmlFormatter

from tools.chapters import ROOT

HTML = ROOT / "_build" / "html"
ARTICLE = re.compile(r'<article class="bd-article">.*</article>', re.S)
MATHJAX = re.compile(r"<script>(window\.MathJax = .*?)</script>", re.S)
# Where the reader of a page can press, and a reader of the book cannot.
PRESSED = ("headerlink", "toctree-wrapper", "mf-foot")
FOR_SCREENS = ("button", "form", "script", "style", "summary")
# A piece of code up to this long is kept on one page.
SHORT = 24


@dataclass
class Chapter:
    """A page of the built book: `name` is its place under book/, `part` what it stands in."""

    name: str
    part: str
    body: HtmlElement
    sections: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.sections = [(self.anchor(h2.get("id")), words(h2)) for h2 in self.body.iter("h2")]

    @property
    def key(self) -> str:
        return self.name.replace("/", "-")

    @cached_property
    def title(self) -> str:
        return words(self.body.find(".//h1"))

    def anchor(self, identifier: str) -> str:
        """An identifier that no other chapter has."""
        return self.key + "--" + re.sub(r"[^\w.-]", "-", identifier)


@dataclass
class Book:
    title: str
    author: str
    year: str
    version: str
    chapters: list[Chapter]
    # The script that sets MathJax up as the pages do.
    mathjax: str

    def parts(self) -> list[tuple[str, list[Chapter]]]:
        """The chapters under the part that they stand in; what opens the book stands in none."""
        found: list[tuple[str, list[Chapter]]] = []
        for chapter in self.chapters:
            if not found or found[-1][0] != chapter.part:
                found.append((chapter.part, []))
            found[-1][1].append(chapter)
        return found


def colours(root: Path = ROOT) -> str:
    """The colours of code and of verdicts, as the web pages show them by day."""
    settings = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    style = settings["html_theme_options"]["pygments_light_style"]
    code = HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight pre")
    return f"{code}\n{(root / 'book' / '_static' / 'verdicts.css').read_text('utf-8')}"


def words(tag: HtmlElement) -> str:
    return " ".join(tag.text_content().split())


def listed(toc: dict) -> list[tuple[str, str]]:
    """The part and the place of every page, in the order of the table of contents."""
    pages = [("", toc["root"])]
    for part in toc["parts"]:
        pages += [(part["caption"], chapter["file"]) for chapter in part["chapters"]]
    return [(part, page.removeprefix("book/")) for part, page in pages]


def read_book(html: Path = HTML, root: Path = ROOT) -> Book:
    """The book, from its built pages."""
    settings = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    chapters, mathjax = [], ""
    for part, name in listed(yaml.safe_load((root / "_toc.yml").read_text("utf-8"))):
        page = (html / "book" / f"{name}.html").read_text("utf-8")
        mathjax = mathjax or next(iter(MATHJAX.findall(page)), "")
        [article] = ARTICLE.findall(page)
        chapters.append(Chapter(name, part, clean(article)))
    return Book(
        settings["title"],
        settings["author"],
        settings["copyright"],
        project["version"],
        chapters,
        mathjax,
    )


def with_class(body: HtmlElement, name: str) -> list[HtmlElement]:
    return body.xpath(f".//*[contains(concat(' ', normalize-space(@class), ' '), ' {name} ')]")


def clean(article: str) -> HtmlElement:
    """An article without what only a screen can use."""
    body = html.fragment_fromstring(article, parser=html.HTMLParser(encoding="utf-8"))
    body.tag = "section"
    for tag in [*body.iter(*FOR_SCREENS), *(t for name in PRESSED for t in with_class(body, name))]:
        tag.drop_tree()
    for tag in body.iter("details"):
        tag.tag = "div"
        tag.set("class", "mf-folded")
    # The static figure of an explorer, without the element that a script would bring to life; and
    # formulas without the boxes of a screen, as those of a print depend on its column.
    boxes = (with_class(body, name) for name in ("pst-scrollable-table-container", "mf-kept"))
    for tag in [*body.iter("mf-explorer"), *(tag for box in boxes for tag in box)]:
        tag.drop_tag()
    # A section may begin at the foot of a page, and its heading on the next.
    for tag in body.iter("h1", "h2", "h3"):
        section = tag.getparent()
        if "id" in section.attrib:
            tag.set("id", section.attrib.pop("id"))
    for tag in body.iter("pre"):
        if tag.text_content().count("\n") <= SHORT:
            tag.classes.add("mf-short")
    return body


def link(
    book: Book,
    address: Callable[[Chapter, str], str],
    picture: Callable[[str], str],
) -> None:
    """Let identifiers, links and pictures of all chapters hold in the bound book.

    `address(chapter, anchor)` is how the book leads to an anchor, or with "" to a chapter, and
    `picture(path)` how to a picture, by its path among the built pages. Raises ValueError for a
    link that leads nowhere: none of the book's own may.
    """
    by_name = {chapter.name: chapter for chapter in book.chapters}
    anchors: dict[str, set[str]] = {}
    for chapter in book.chapters:
        named = chapter.body.xpath(".//*[@id]")
        anchors[chapter.name] = {tag.get("id") for tag in named}
        for tag in named:
            tag.set("id", chapter.anchor(tag.get("id")))
    broken = []
    for chapter in book.chapters:
        here = f"book/{chapter.name}.html"
        for tag in chapter.body.iter("a"):
            parts = urlsplit(tag.get("href", "https:"))
            if parts.scheme or parts.netloc:
                continue
            page = posixpath.normpath(posixpath.join(posixpath.dirname(here), parts.path))
            name = page.removeprefix("book/").removesuffix(".html") if parts.path else chapter.name
            target, anchor = by_name.get(name), unquote(parts.fragment)
            if target is None or (anchor and anchor not in anchors[name]):
                broken.append(f"{here}: {tag.get('href')}")
            else:
                tag.set("href", address(target, target.anchor(anchor) if anchor else ""))
        for tag in chapter.body.iter("img"):
            source = posixpath.normpath(posixpath.join(posixpath.dirname(here), tag.get("src")))
            tag.set("src", picture(source))
    if broken:
        raise ValueError("links that lead nowhere: " + "; ".join(broken))
