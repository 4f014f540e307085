"""What a reader takes along: one wheel with all that chapters read, notebooks that stand alone."""

import ast
import os
import zipfile

import nbformat
import pytest

from tools import downloads, wheel
from tools.chapters import ROOT, chapters, data_files
from tools.myst import Book

BOOK = ROOT / "book"
STORED = [path for path in data_files(BOOK) if path.suffix == ".json"]
CHAPTERS = chapters()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def book():
    return Book()


def test_the_wheel_carries_the_ledger_and_every_stored_result(built):
    with zipfile.ZipFile(built) as packed:
        inside = {
            name.removeprefix("mfbook/book/carried/"): packed.read(name)
            for name in packed.namelist()
            if name.startswith("mfbook/book/carried/")
        }
    there = [BOOK / "claims.yml", *STORED]
    assert inside == {path.relative_to(BOOK).as_posix(): path.read_bytes() for path in there}


def test_the_wheel_carries_every_file_of_the_package(built):
    with zipfile.ZipFile(built) as packed:
        inside = set(packed.namelist())
    there = {path.relative_to(ROOT).as_posix() for path in wheel.sources()}
    assert {name for name in there if name.startswith("mfbook/")} <= inside


def test_the_same_sources_give_the_same_wheel(built, tmp_path):
    assert wheel.build(tmp_path).read_bytes() == built.read_bytes()


def test_stored_results_have_names_of_their_own():
    """A chapter names them without a folder."""
    names = [path.name for path in STORED]
    assert len(names) == len(set(names))


def read_by_bare_names(code: str, names: set[str]) -> list[str]:
    """The data files that code names other than in a call of `mf.stored`."""
    tree = ast.parse(code)
    given = {
        id(word)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "mf.stored"
        for word in call.args
    }
    return [
        word.value
        for word in ast.walk(tree)
        if isinstance(word, ast.Constant) and word.value in names and id(word) not in given
    ]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.name for chapter in CHAPTERS])
def test_a_chapter_reads_stored_results_by_the_call_that_finds_them_anywhere(chapter):
    names = {path.name for path in data_files(BOOK)}
    cells = [cell.source for cell in chapter.read_source().cells if cell.cell_type == "code"]
    found = [name for cell in cells for name in read_by_bare_names(cell, names)]
    assert not found, 'write mf.stored("NAME.json")'


def test_a_file_read_by_its_bare_name_is_seen():
    names = {"a.json"}
    assert read_by_bare_names('json.loads(Path("a.json").read_text())', names) == ["a.json"]
    assert not read_by_bare_names('mf.stored("a.json"); open("b.json")', names)


def made(name: str, book: Book, site: str = "") -> nbformat.NotebookNode:
    notebook = downloads.portable(name, book, site)
    nbformat.validate(notebook)
    return notebook


def test_pictures_are_inside_the_notebook(book):
    notebook = made("welcome", book)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    carried = {name for cell in notebook.cells for name in cell.get("attachments", {})}
    assert carried and all(f"(attachment:{name})" in text for name in carried)
    assert "_static/" not in text


def test_links_lead_to_the_site_where_there_is_one(book):
    text = nbformat.writes(made("bias/seed", book, "https://example.org/book"))
    assert "https://example.org/book/book/ledger.html#row-" in text
    assert "https://example.org/book/book/bias/nuclear.html" in text
    assert ".ipynb" not in text.replace("https://", "")


def test_a_notebook_says_how_it_is_run(book):
    file = wheel.name()
    assert made("bias/seed", book).cells[0].source.endswith(f"    pip install {file}")
    assert made("data/graph", book).cells[0].source.endswith(f"    pip install {file} torch")
    site = made("bias/seed", book, "https://example.org").cells[0].source
    assert site.endswith(f"    pip install https://example.org/downloads/{file}")


def test_what_a_chapter_needs_is_seen_wherever_it_imports_it():
    cells = ["%matplotlib inline\nimport os, numpy", "def f():\n    from torch.func import vmap"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    assert downloads.imported(notebook) == {"os", "numpy", "torch"}
    assert downloads.wanted(notebook) == ["torch"]


def test_the_wheel_brings_what_the_package_imports():
    texts = [path.read_text("utf-8") for path in (ROOT / "mfbook").rglob("*.py")]
    cells = [nbformat.v4.new_code_cell(text) for text in texts]
    assert downloads.wanted(nbformat.v4.new_notebook(cells=cells)) == ["yaml"]
    assert "pyyaml" in downloads.brought()


def test_a_hub_installs_what_the_chapters_import():
    folder = ROOT / ".binder"
    lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
    named = {line.split("=")[0] for line in lines if line and line[0] not in "#-"}
    missing = {
        name
        for chapter in CHAPTERS
        for name in downloads.wanted(chapter.read_source())
        if name not in named
    }
    assert not missing
    assert (folder / "../constraints.txt").resolve() == ROOT / "constraints.txt"
    assert os.access(folder / "postBuild", os.X_OK)
