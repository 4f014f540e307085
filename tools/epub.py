"""The whole book for readers of electronic books (EPUB 3), which run no scripts.

    python tools/epub.py [FILE]

A browser typesets the mathematics; what it draws goes into the book as curves, which every reader
shows, with the TeX as the words for them.
"""

from __future__ import annotations

import mimetypes
import shutil
import sys
import time
import uuid
import zipfile
from html import escape
from pathlib import Path, PurePosixPath

from lxml import html

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import wheel
from tools.bound import HTML, Book, Chapter, colours, link, read_book
from tools.chapters import ROOT
from tools.typeset import STYLES, load, mathjax, opened

BUILT = ROOT / "_build" / "epub"
FILE = ROOT / "_build" / "mfbook.epub"
DRAWING = ROOT / "book" / "_static" / "welcome.svg"
# Readers show covers on their shelves, where many know no curves.
COVER = "cover.png"
# A formula becomes its drawing. The attributes that go are MathJax's own.
DRAWN = """() => {
  for (const item of MathJax.startup.document.math) {
    const svg = item.typesetRoot.querySelector('svg');
    svg.setAttribute('class', item.display ? 'mf-formula mf-display' : 'mf-formula');
    for (const node of [svg, ...svg.querySelectorAll('*')])
      for (const { name } of [...node.attributes])
        if (name.startsWith('data-') || name === 'focusable') node.removeAttribute(name);
    item.typesetRoot.replaceWith(svg);
  }
  return new XMLSerializer().serializeToString(document.querySelector('body > section'));
}"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
 lang="en" xml:lang="en">
<head><title>{title}</title><link rel="stylesheet" type="text/css" href="book.css"/></head>
<body>
{body}
</body>
</html>
"""
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:creator>{author}</dc:creator>
<dc:language>en</dc:language>
<dc:date>{year}</dc:date>
<dc:rights>Text and figures: CC BY 4.0. Code: BSD-3-Clause.</dc:rights>
<meta property="dcterms:modified">{modified}</meta>
<meta name="cover" content="{cover}"/>
<meta property="schema:accessMode">textual</meta>
<meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">latex</meta>
<meta property="schema:accessibilityFeature">structuralNavigation</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
<meta property="schema:accessibilitySummary">Figures have words for what they show, and formulas
have their TeX.</meta>
</metadata>
<manifest>
{manifest}
</manifest>
<spine toc="ncx">
{spine}
</spine>
</package>
"""
# The contents once more, for readers from before EPUB 3.
NCX = """<?xml version="1.0" encoding="utf-8"?>
<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/" version="2005-1" xml:lang="en">
<head><meta name="dtb:uid" content="urn:uuid:{identifier}"/></head>
<docTitle><text>{title}</text></docTitle>
<navMap>
{points}
</navMap>
</ncx>
"""


def copy_pictures(pictures: dict[str, Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in pictures.items():
        shutil.copyfile(path, folder / name)


def typeset(book: Book, pictures: dict[str, Path], folder: Path) -> dict[str, str]:
    """The chapters with their formulas drawn, as XHTML, by their keys. The cover is painted."""
    copy_pictures(pictures, folder / "images")
    drawn = {}
    with opened(620) as page:
        cover = folder / "cover.html"
        cover.write_text(f'<!DOCTYPE html><img src="{DRAWING.as_uri()}" width="1400">', "utf-8")
        page.goto(cover.as_uri())
        page.locator("img").screenshot(path=folder / COVER)
        for chapter in book.chapters:
            file = folder / f"{chapter.key}.html"
            body = html.tostring(chapter.body, encoding="unicode")
            file.write_text(
                '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
                f"{mathjax(book.mathjax)}</head><body>{body}</body></html>",
                "utf-8",
            )
            load(page, file)
            drawn[chapter.key] = page.evaluate(DRAWN)
    return drawn


def title_page(book: Book) -> str:
    return (
        f'<section epub:type="titlepage"><h1>{escape(book.title)}</h1>'
        f'<p><img src="images/{COVER}" alt="One incomplete matrix finished in five ways."/></p>'
        f"<p>{escape(book.author)}, {book.year}. Version {book.version}.</p></section>"
    )


def address(chapter: Chapter, anchor: str = "") -> str:
    """Where a chapter is among the files of the book, or a place in it."""
    return f"{chapter.key}.xhtml" + (f"#{anchor}" if anchor else "")


def contents(book: Book) -> str:
    def entry(place: str, title: str) -> str:
        return f'<a href="{place}">{escape(title)}</a>'

    def item(chapter: Chapter) -> str:
        inner = "".join(
            f"<li>{entry(address(chapter, anchor), title)}</li>"
            for anchor, title in chapter.sections
        )
        return f"<li>{entry(address(chapter), chapter.title)}{inner and f'<ol>{inner}</ol>'}</li>"

    parts = []
    for part, chapters in book.parts():
        items = "\n".join(map(item, chapters))
        parts.append(f"<li><span>{escape(part)}</span><ol>{items}</ol></li>" if part else items)
    return f'<nav epub:type="toc"><h1>Contents</h1><ol>{"".join(parts)}</ol></nav>'


def old_contents(book: Book) -> str:
    """The same contents for readers that know no other; a part leads to its first chapter."""

    def point(name: str, title: str, place: str, inner: str = "") -> str:
        return (
            f'<navPoint id="to-{name}"><navLabel><text>{escape(title)}</text></navLabel>'
            f'<content src="{place}"/>{inner}</navPoint>'
        )

    def item(chapter: Chapter) -> str:
        inner = "".join(
            point(anchor, title, address(chapter, anchor)) for anchor, title in chapter.sections
        )
        return point(chapter.key, chapter.title, address(chapter), inner)

    points = []
    for number, (part, chapters) in enumerate(book.parts()):
        items = "\n".join(map(item, chapters))
        first = address(chapters[0])
        points.append(point(f"part-{number}", part, first, items) if part else items)
    return NCX.format(
        identifier=identifier(book), title=escape(book.title), points="\n".join(points)
    )


def identifier(book: Book) -> uuid.UUID:
    """The same book has the same, whenever and wherever it is bound."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"mfbook {book.title} {book.version}")


def package(book: Book, pages: dict[str, str], pictures: list[str]) -> str:
    """What the book holds, and in which order it is read."""
    files = [
        ("nav", "nav.xhtml", "application/xhtml+xml", "nav"),
        ("ncx", "toc.ncx", "application/x-dtbncx+xml", ""),
        ("css", "book.css", "text/css", ""),
    ]
    for key, page in pages.items():
        held = "svg" if "<svg" in page else ""
        files.append((f"page-{key}", f"{key}.xhtml", "application/xhtml+xml", held))
    for number, picture in enumerate(pictures):
        kind = mimetypes.types_map[PurePosixPath(picture).suffix]
        held = "cover-image" if picture == COVER else ""
        files.append((f"picture-{number}", f"images/{picture}", kind, held))
    manifest = "\n".join(
        f'<item id="{name}" href="{path}" media-type="{kind}"'
        + (f' properties="{held}"/>' if held else "/>")
        for name, path, kind, held in files
    )
    first, *others = [f'<itemref idref="page-{key}"/>' for key in pages]
    return PACKAGE.format(
        identifier=identifier(book),
        title=escape(book.title),
        author=escape(book.author),
        year=book.year,
        modified=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wheel.moment())),
        cover=f"picture-{pictures.index(COVER)}",
        manifest=manifest,
        spine="\n".join([first, '<itemref idref="nav"/>', *others]),
    )


def bind(book: Book, chapters: dict[str, str], pictures: dict[str, Path], file: Path) -> None:
    titles = {chapter.key: chapter.title for chapter in book.chapters}
    pages = {"title": title_page(book), **chapters}
    styles = [(STYLES / f"{name}.css").read_text("utf-8") for name in ("book", "epub")]
    files: dict[str, str | bytes] = {
        # Readers know the format by this file, which is first and not compressed.
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "book/package.opf": package(book, pages, sorted(pictures)),
        "book/toc.ncx": old_contents(book),
        "book/book.css": "\n".join([colours(), *styles]),
        "book/nav.xhtml": PAGE.format(title="Contents", body=contents(book)),
    }
    for key, body in pages.items():
        title = escape(titles.get(key, book.title))
        files[f"book/{key}.xhtml"] = PAGE.format(title=title, body=body)
    for name, path in sorted(pictures.items()):
        files[f"book/images/{name}"] = path.read_bytes()
    moment = time.gmtime(max(wheel.moment(), wheel.EARLIEST))[:6]
    with zipfile.ZipFile(file, "w") as bound:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, moment)
            entry.external_attr = 0o644 << 16
            kept = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            bound.writestr(entry, content, kept)


def main(words: list[str]) -> int:
    file = Path(words[0]) if words else FILE
    pictures: dict[str, Path] = {}

    def picture(path: str) -> str:
        name = PurePosixPath(path).name
        pictures[name] = HTML / path
        return f"images/{name}"

    book = read_book()
    link(book, address, picture)
    try:
        chapters = typeset(book, pictures, BUILT)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    bind(book, chapters, pictures | {COVER: BUILT / COVER}, file)
    print(f"{len(chapters)} chapters are bound in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
