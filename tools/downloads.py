"""A chapter to take along: a notebook that needs nothing beside it but one wheel.

It is the plain notebook that `make lab` shows, with its pictures inside. The ledger and the stored
results are in the wheel.
"""

from __future__ import annotations

import ast
import base64
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import nbformat
from packaging.requirements import Requirement

from tools import wheel
from tools.chapters import ROOT
from tools.myst import Book, notebook

PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)")
# A link to another page of the book, in Markdown and in the cards of stored outputs.
PAGE = re.compile(r'(\]\(|href=")(?![a-z]+:)([\w./-]+)\.ipynb(?=[#)"])')
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
TITLE = "What gradient flow chooses"


def portable(name: str, book: Book, site: str = "") -> nbformat.NotebookNode:
    """The page as a notebook for any folder. `site` is where the book can be read, if anywhere:
    links to other pages then lead there."""
    made = notebook(name, book)
    here = book.root / "book" / name
    for cell in made.cells:
        if cell.cell_type == "markdown":
            carry_pictures(cell, here.parent)
            cell.source = linked(cell.source, name, site)
        for output in cell.get("outputs", []):
            if html := output.get("data", {}).get("text/html"):
                output.data["text/html"] = linked(html, name, site)
    made.cells.insert(0, nbformat.v4.new_markdown_cell(how_to_run(made, book.root, site)))
    made.cells[0].id = "how-to-run"
    return made


def how_to_run(made: nbformat.NotebookNode, root: Path, site: str) -> str:
    file = wheel.name(root)
    book = f"[{TITLE}]({site}/)" if site else f"*{TITLE}*"
    where = "" if site else f" ({file} stands beside this notebook on the book's page)"
    return (
        f"A chapter of {book}, version {wheel.version(root)}. To run it, install the book's "
        f"package into the environment of your Jupyter{where}:\n\n"
        f"    pip install {' '.join([address(site, root), *wanted(made, root)])}"
    )


def address(site: str, root: Path = ROOT) -> str:
    """What pip is given: the wheel where the site carries it, or a file in the reader's folder."""
    file = wheel.name(root)
    return f"{site}/downloads/{quote(file)}" if site else file


def carry_pictures(cell: nbformat.NotebookNode, folder: Path) -> None:
    """Put the pictures that a cell shows into the cell."""

    def carry(found: re.Match[str]) -> str:
        file = folder / found[2]
        kept = cell.setdefault("attachments", nbformat.from_dict({}))
        kept[file.name] = {KINDS[file.suffix]: base64.b64encode(file.read_bytes()).decode()}
        return f"![{found[1]}](attachment:{file.name})"

    cell.source = PICTURE.sub(carry, cell.source)


def linked(text: str, name: str, site: str) -> str:
    """Let links to other pages lead to the site, where there is one."""
    if not site:
        return text

    def to_page(found: re.Match[str]) -> str:
        parts = [*PurePosixPath("book", name).parent.parts]
        for part in PurePosixPath(found[2]).parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        return f"{found[1]}{site}/{'/'.join(parts)}.html"

    return PAGE.sub(to_page, text)


def imported(made: nbformat.NotebookNode) -> set[str]:
    """The top-level modules that a notebook's code imports."""

    def names() -> Iterator[str]:
        for cell in made.cells:
            if cell.cell_type != "code":
                continue
            code = re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.M)
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module

    return {name.split(".")[0] for name in names()}


def brought(root: Path = ROOT) -> set[str]:
    """The distributions that the wheel brings along, and itself."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return {Requirement(text).name.lower() for text in project["dependencies"]} | {"mfbook"}


def wanted(made: nbformat.NotebookNode, root: Path = ROOT) -> list[str]:
    """What a notebook imports beside the standard library and what the wheel brings along."""
    return sorted(imported(made) - sys.stdlib_module_names - brought(root))
