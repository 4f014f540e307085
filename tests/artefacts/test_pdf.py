"""The whole book on paper: complete, in order, within its margins, and linked."""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pikepdf
import pypdfium2
import pytest
from pikepdf import Name

from tools.bound import words

# A4, and the margins at the sides, in millimetres.
WIDTH, MARGIN = 210, 22


@pytest.fixture(scope="module")
def bound(pdf_file):
    with pikepdf.open(pdf_file) as pdf:
        yield pdf


@pytest.fixture(scope="module")
def seen(pdf_file):
    """The pages as a viewer shows them."""
    pdf = pypdfium2.PdfDocument(pdf_file)
    yield pdf
    pdf.close()


@pytest.fixture(scope="module")
def texts(seen):
    return [page.get_textpage().get_text_range() for page in seen]


@pytest.fixture(scope="module")
def labels(bound):
    """What is printed as the number of each page."""
    return [page.label for page in bound.pages]


@pytest.fixture(scope="module")
def places(bound):
    """Every place that links can lead to, with its page, from 0."""
    numbers = {page.objgen: number for number, page in enumerate(bound.pages)}
    names = pikepdf.NameTree(bound.Root.Names.Dests)
    return {str(name): numbers[where[0].objgen] for name, where in names.items()}


@pytest.fixture(scope="module")
def entries(bound, places):
    """Title and page, from 0, of every bookmark in order."""
    numbers = {page.objgen: number for number, page in enumerate(bound.pages)}
    found = []

    def walk(items):
        for item in items:
            found.append((item.title, numbers[item.destination[0].objgen]))
            walk(item.children)

    with bound.open_outline() as outline:
        walk(outline.root)
    return found


def run_together(text: str) -> str:
    """Text without what depends on where lines end."""
    return re.sub(r"[\s￾­\x02]", "", text)


def elements(tree: pikepdf.Dictionary) -> Iterator[pikepdf.Dictionary]:
    """All that a tree of headings, paragraphs and figures holds."""
    kids = tree.get(Name.K, [])
    for kid in kids if isinstance(kids, pikepdf.Array) else [kids]:
        if isinstance(kid, pikepdf.Dictionary) and Name.S in kid:
            yield kid
            yield from elements(kid)


def test_every_page_has_its_number_and_something_on_it(seen, texts, labels):
    assert len(texts) > 300
    front = labels.index("1")
    assert labels[front:] == [str(number) for number in range(1, len(labels) - front + 1)]
    for page, text, label in list(zip(seen, texts, labels, strict=True))[1:]:
        foot = page.get_textpage().get_text_bounded(bottom=0, top=60)
        assert run_together(foot) == label
        assert len(run_together(text)) > 60, f"page {label} is as good as empty"


def test_chapters_follow_each_other_on_pages_of_their_own(book, places, texts):
    begins = [places[chapter.key] for chapter in book.chapters]
    assert begins == sorted(set(begins))
    for chapter, begin, end in zip(book.chapters, begins, [*begins[1:], len(texts)], strict=True):
        title = run_together(chapter.title)
        for number in range(begin, end):
            assert title in run_together(texts[number]), f"page {number} does not name its chapter"


def test_bookmarks_are_the_contents(book, entries, texts, labels, places):
    expected = []
    for part, chapters in book.parts():
        if part:
            expected.append((part, places[chapters[0].key]))
        for chapter in chapters:
            expected.append((chapter.title, places[chapter.key]))
            expected += [(title, places[anchor]) for anchor, title in chapter.sections]
    assert entries == expected
    # The printed contents say the same: every title, and the number printed on its page.
    front = texts[: labels.index("1")]
    printed = run_together("".join(re.sub(r"[ivx]+\s*$", "", text.rstrip()) for text in front))
    at = printed.index("Contents")
    parts = {part for part, _ in book.parts()}
    for title, page in entries:
        line = run_together(title) + ("" if title in parts else labels[page])
        at = printed.find(line, at)
        assert at >= 0, f"the contents do not list {title!r}, or not on page {labels[page]}"
        at += len(line)


def test_what_is_bookmarked_stands_there(book, entries, texts):
    parts = {part for part, _ in book.parts()}
    for title, page in entries:
        if title not in parts:
            assert run_together(title) in run_together(texts[page])


def test_links_lead_into_the_book_or_to_the_papers(bound, places, book):
    inside, outside = [], set()
    for page in bound.pages:
        for note in page.get(Name.Annots, ()):
            if Name.Dest in note:
                inside.append(str(note.Dest))
            elif Name.A in note:
                outside.add(str(note.A.URI))
            else:
                pytest.fail(f"a link leads nowhere: {dict(note)}")
    assert set(inside) <= places.keys()
    of_pages = sum(
        not href.startswith("http")
        for chapter in book.chapters
        for href in chapter.body.xpath(".//a/@href")
    )
    # Each link of the pages, and one for every line of the contents; broken over lines, some twice.
    assert len(inside) >= of_pages + sum(1 + len(chapter.sections) for chapter in book.chapters)
    # Papers, and the code that one of them is published with.
    assert all(re.match(r"https://(doi\.org|github\.com)/", one) for one in outside), outside


def test_all_letters_are_embedded_and_are_the_books_own(bound):
    names = set()
    for page in bound.pages:
        for font in page.Resources.get(Name.Font, {}).values():
            if font.Subtype == Name.Type3:  # whose letters are drawings in the file itself
                continue
            [inner] = font.DescendantFonts
            names.add(str(font.BaseFont).split("+")[-1])
            assert {"/FontFile2", "/FontFile3"} & set(inner.FontDescriptor.keys()), names
    assert {name.split("-")[0] for name in names} == {"STIXGeneral", "DejaVuSans", "DejaVuSansMono"}


def test_nothing_is_printed_in_the_margins(seen):
    scale = 0.5
    for number, page in enumerate(seen):
        dark = np.asarray(page.render(scale=scale, grayscale=True).to_pil()) < 250
        columns = np.flatnonzero(dark.any(axis=0)) / dark.shape[1] * WIDTH
        assert MARGIN - 1 < columns.min() and columns.max() < WIDTH - MARGIN + 1, number


def test_all_code_and_all_solutions_are_there(book, places, texts):
    """Line by line, since what a page shows may go on after a running head."""
    begins = [places[chapter.key] for chapter in book.chapters]
    missing = []
    for chapter, begin, end in zip(book.chapters, begins, [*begins[1:], len(texts)], strict=True):
        text = run_together("".join(texts[begin:end]))
        for block in chapter.body.iter("pre"):
            lines = map(run_together, block.text_content().split("\n"))
            missing += [f"{chapter.key}: {line}" for line in lines if line not in text]
        for solution in chapter.body.find_class("solution"):
            title = words(solution.find_class("admonition-title")[0])
            if run_together(title) not in text:
                missing.append(f"{chapter.key}: {title}")
    assert not missing


def test_it_can_be_read_aloud(bound, book, places):
    """Headings, figures with words for what they show, and a place in the tree for all pages."""
    assert bound.Root.MarkInfo.Marked and str(bound.Root.Lang) == "en"
    numbers = dict(pikepdf.NumberTree(bound.Root.StructTreeRoot.ParentTree).items())
    at = [int(page.StructParents) for page in bound.pages]
    assert len(set(at)) == len(at)
    assert set(at) <= numbers.keys()
    pages = {page.objgen: number for number, page in enumerate(bound.pages)}
    begins = [0, *sorted(places[chapter.key] for chapter in book.chapters)]
    for page, number in zip(bound.pages, at, strict=True):
        # What stands on a page may have begun on one before it, in the same chapter.
        held = {pages[one.Pg.objgen] for one in numbers[number] if one is not None}
        here = pages[page.objgen]
        assert max(held) <= here
        assert {bisect(begins, one) for one in held} == {bisect(begins, here)}
        for note in page.get(Name.Annots, ()):
            assert int(note.StructParent) in numbers
    kinds: dict[str, list] = {}
    for one in elements(bound.Root.StructTreeRoot):
        kinds.setdefault(str(one.S), []).append(one)
    assert len(kinds["/H1"]) >= 30 and len(kinds["/H2"]) >= 200
    # An explorer's figure may be a table.
    silent = [
        one
        for one in kinds["/Figure"]
        if not any(
            part.S == Name.Table or str(part.get(Name.Alt, "")).strip()
            for part in (one, *elements(one))
        )
    ]
    assert not silent
    # Every formula is a figure whose words are its TeX.
    spoken = Counter(str(one.get(Name.Alt, "")) for one in kinds["/Figure"])
    written = Counter(
        " ".join(re.search(r"\\[(\[](.*)\\[)\]]", formula.text_content(), re.S)[1].split())
        for chapter in book.chapters
        for formula in chapter.body.find_class("math")
    )
    assert written.total() > 7000
    assert not written - spoken


def test_it_says_what_it_is(bound, book):
    with bound.open_metadata() as about:
        assert about["dc:title"] == book.title
        assert about["dc:creator"] == [book.author]
