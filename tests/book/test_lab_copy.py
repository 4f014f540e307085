"""The copy of the chapters for JupyterLab keeps what a reader changed and renews the rest."""

import re
import shutil
from functools import cache

import nbformat
import pytest

from tools.chapters import ROOT
from tools.lab import files_of, refresh
from tools.myst import Book, Page, numbered_pages, without_macros

files_once = cache(files_of)


@pytest.fixture(scope="module")
def book():
    return Book()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The first copy, which nobody has changed."""
    # The book does not change while it is tested, and converting it takes seconds.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.lab.files_of", files_once)
        copy = tmp_path_factory.mktemp("lab")
        assert refresh(copy) == []
        yield copy


@pytest.fixture
def copy(fresh, tmp_path):
    return shutil.copytree(fresh, tmp_path / "lab")


def change(path, what) -> None:
    made = nbformat.read(path, as_version=4)
    what(made)
    nbformat.write(made, path)


def test_every_page_and_every_data_file_is_copied(fresh):
    there = {p.relative_to(fresh).as_posix() for p in fresh.rglob("*") if p.name != ".book.json"}
    assert set(files_once(ROOT)) <= there


def test_every_picture_and_page_that_is_linked_is_there(fresh):
    dead = []
    for page in fresh.rglob("*.ipynb"):
        for cell in nbformat.read(page, as_version=4).cells:
            if cell.cell_type == "markdown":
                links = re.findall(r"\]\(([\w./-]+\.(?:svg|png|ipynb|md))[)#]", cell.source)
            else:
                html = "".join(
                    output.get("data", {}).get("text/html", "") for output in cell.outputs
                )
                links = re.findall(r'href="([\w./-]+)#', html)
            dead += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists()]
    assert not dead


def newer(copy, name: str) -> None:
    """Let the copy have been made from an older book."""
    record = copy / ".book.json"
    text = record.read_text("utf-8")
    record.write_text(re.sub(rf'("{name}": {{\s+"version": ")\w', r"\1x", text), "utf-8")


def test_a_run_is_kept_until_the_book_changes(copy):
    page = copy / "data" / "graph.ipynb"
    stored = page.read_bytes()

    def run(made):
        for cell in made.cells:
            if cell.cell_type == "code":
                cell.outputs = []

    change(page, run)
    ran = page.read_bytes()
    assert refresh(copy) == [] and page.read_bytes() == ran
    newer(copy, "data/graph.ipynb")
    assert refresh(copy) == [] and page.read_bytes() == stored


def test_a_change_is_kept_and_said(copy):
    page = copy / "data" / "graph.ipynb"
    change(page, lambda made: made.cells[1].update(source="mine = 1"))
    mine = page.read_bytes()
    assert refresh(copy) == [] and page.read_bytes() == mine
    newer(copy, "data/graph.ipynb")
    assert refresh(copy) == ["data/graph.ipynb"] and page.read_bytes() == mine


def test_what_the_reader_removed_comes_back_and_what_they_added_stays(copy):
    (copy / "welcome.ipynb").unlink()
    (copy / "mine.txt").write_text("mine")
    assert refresh(copy) == []
    assert (copy / "welcome.ipynb").exists() and (copy / "mine.txt").exists()


def test_no_notebook_shows_markup():
    found = []
    pages = {name: text for name, text in files_once(ROOT).items() if name.endswith(".ipynb")}
    assert len(pages) == len(numbered_pages(ROOT))
    for name, text in pages.items():
        made = nbformat.reads(text.decode("utf-8"), as_version=4)
        nbformat.validate(made)
        assert "jupytext" not in made.metadata
        for cell in made.cells:
            if cell.cell_type == "markdown":
                text = re.sub(r"```.*?```", "", cell.source, flags=re.S)
                found += [f"{name}: {hit}" for hit in re.findall(r":::.*|\{[a-z:]+\}`.*", text)]
    assert not found


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"$\R^{m}$", r"$\mathbb{R}^{m}$"),
        (r"\nucnorm{W_{1}}", r"\left\lVert W_{1} \right\rVert_*"),
        (r"\norm{\nucnorm x}", r"\left\lVert \left\lVert x \right\rVert_* \right\rVert"),
        (r"\rankle \row", r"\rankle {\operatorname{row}}"),
    ],
)
def test_the_books_own_commands_are_written_out(written, meant):
    assert re.sub(r"[{}\s]", "", without_macros(written)) == re.sub(r"[{}\s]", "", meant)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{cite:t}`bai2024`, Theorem 3", "Bai et al. (2024), Theorem 3"),
        ("as {cite}`bai2024` say", "as &#91;Bai et al., 2024&#93; say"),
        ("{ref}`Below <sec-b4>` we", "Below we"),
        ("[x](data/graph.md#here)", "[x](data/graph.ipynb#here)"),
        ("```{math}\nx\n```", "x"),
        (":::{solution} none\n:class: dropdown\n\nSo.\n:::", "<details>"),
        (
            ":::{admonition} Proof\n:class: dropdown mf-proof\n\nSo.\n:::",
            "<details>\n<summary>Proof</summary>\n\nSo.",
        ),
    ],
)
def test_markup_becomes_plain(book, written, meant):
    assert Page("welcome", book).markdown(written).startswith(meant)
