"""The chapters: a MyST source `x.md` and, beside it, the executed twin `x.ipynb`.

The source is what people write; the twin carries the outputs that the page shows. A page
without code has no twin.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tools.dependencies import code_of_module, reached_modules

if TYPE_CHECKING:
    import nbformat

ROOT = Path(__file__).resolve().parent.parent
# Under this key a twin's metadata holds the hashes of what its outputs were made from.
STORED = "mfbook"


@dataclass(frozen=True)
class Chapter:
    """A chapter that runs code, known by its place under book/, such as `data/graph`."""

    name: str
    book: Path = ROOT / "book"

    @property
    def source(self) -> Path:
        return self.book / f"{self.name}.md"

    @property
    def twin(self) -> Path:
        return self.book / f"{self.name}.ipynb"

    def read_source(self) -> nbformat.NotebookNode:
        import jupytext  # takes seconds to import, as nbformat does

        return jupytext.read(self.source)

    def read_twin(self) -> nbformat.NotebookNode | None:
        import nbformat

        return nbformat.read(self.twin, as_version=4) if self.twin.exists() else None


def pages(book: Path = ROOT / "book") -> list[Path]:
    """Every Markdown page and notebook of the book, hidden folders left out."""
    found = [*book.rglob("*.md"), *book.rglob("*.ipynb")]
    return sorted(p for p in found if not any(x[0] in "._" for x in p.relative_to(book).parts))


def numbered_pages(root: Path) -> list[tuple[str, int | None]]:
    """Every page under book/ in the order of the table of contents, with its chapter's number."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    found: list[tuple[str, int | None]] = [(toc["root"].removeprefix("book/"), None)]
    number = 0
    for part in toc["parts"]:
        for entry in part["chapters"]:
            number += bool(part.get("numbered"))
            page = entry["file"].removeprefix("book/")
            found.append((page, number if part.get("numbered") else None))
    return found


def has_code(source: Path) -> bool:
    return re.search(r"^ *(```+|:::+)\{code-cell\}", source.read_text("utf-8"), re.M) is not None


def chapters(book: Path = ROOT / "book") -> list[Chapter]:
    """Every page whose source runs code."""
    sources = [p for p in pages(book) if p.suffix == ".md" and has_code(p)]
    return [Chapter(str(p.relative_to(book).with_suffix("")), book) for p in sources]


def code_of(notebook: nbformat.NotebookNode) -> list[tuple[str, list[str]]]:
    """What decides a chapter's outputs: its code, and tags such as `raises-exception`."""
    cells = (c for c in notebook.cells if c.cell_type == "code")
    return [(c.source, sorted(c.metadata.get("tags", []))) for c in cells]


def code_hash(chapter: Chapter, source: nbformat.NotebookNode, package: Path) -> str:
    """Hash of the chapter's code, of what it reaches in the package, and of the data and claims
    that it names."""
    code = code_of(source)
    text = "\n".join(cell for cell, _ in code)
    digest = hashlib.sha256(json.dumps(code).encode())
    for path in reached_modules(text, package):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(code_of_module(path).encode())
    for path in data_files(chapter.book):
        if path.name in text:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(json.dumps(claims_named(chapter.book / "claims.yml", text)).encode())
    return digest.hexdigest()


def data_files(book: Path) -> list[Path]:
    """Files beside the chapters that code may read: no page, no style, no ledger."""
    return sorted(
        p
        for p in book.rglob("*")
        if p.is_file()
        and p.suffix not in {".md", ".ipynb", ".bib"}
        and p != book / "claims.yml"
        and not any(part[0] in "._" for part in p.relative_to(book).parts)
    )


def claims_named(ledger: Path, code: str) -> list[object]:
    """The ledger's rows that the code names, or all of them where it reads the ledger itself."""
    if not ledger.exists():
        return []
    rows = _rows(ledger.read_text("utf-8"))
    if re.search(r"\b(claims|ledger)\b", code):
        return rows
    return [row for row in rows if re.search(rf"\b{re.escape(row['id'])}\b", code)]


@cache
def _rows(ledger: str) -> list[dict[str, object]]:
    return yaml.safe_load(ledger) or []


def outputs_hash(notebook: nbformat.NotebookNode) -> str:
    """Hash of the stored outputs, images included, which nothing else compares."""
    outputs = [c.outputs for c in notebook.cells if c.cell_type == "code"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def out_of_step(chapter: Chapter) -> list[str]:
    """How the twin differs from the source, cell by cell; nothing if they are in step."""
    source, twin = chapter.read_source(), chapter.read_twin()
    if twin is None:
        return [f"{chapter.twin.name} does not exist"]
    if len(source.cells) != len(twin.cells):
        return [f"the source has {len(source.cells)} cells and the twin {len(twin.cells)}"]
    return [
        f"cell {number} differs in its {what}"
        for number, (ours, theirs) in enumerate(zip(source.cells, twin.cells, strict=True), 1)
        for what in ("cell_type", "source", "metadata")
        if ours[what] != theirs[what]
    ]
