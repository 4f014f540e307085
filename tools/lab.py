"""Open the chapters in JupyterLab, as a copy of their own under _build/lab.

    python tools/lab.py [--copy FOLDER] [JupyterLab's own options]

A notebook that runs is saved again, with every output. So that reading and running change
nothing of the book, JupyterLab shows a copy. What the reader has changed there is kept: only
notebooks whose cells are still the book's are written again when the book changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT, data_files
from tools.myst import Book, notebook, numbered_pages

COPY = ROOT / "_build" / "lab"
# What the copy was made from: for each file the hash of the book's version, and of its cells.
RECORD = ".book.json"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def cells_of(name: str, content: bytes) -> str:
    """Hash of what a reader edits in a file: a run changes a notebook's outputs and no more."""
    if not name.endswith(".ipynb"):
        return digest(content)
    try:
        cells = nbformat.reads(content.decode("utf-8"), as_version=4).cells
    except Exception:  # whatever the reader made of it, it is theirs
        return digest(content)
    return digest(json.dumps([(cell.cell_type, cell.source) for cell in cells]).encode())


def refresh(copy: Path = COPY, root: Path = ROOT) -> list[str]:
    """Bring the copy up to date; return the files kept as the reader changed them, though the
    book has a newer version."""
    copy.mkdir(parents=True, exist_ok=True)
    record_file = copy / RECORD
    record = json.loads(record_file.read_text("utf-8")) if record_file.exists() else {}
    kept = []
    for name, content in files_of(root).items():
        target = copy / name
        version, known = digest(content), record.get(name, {})
        there = target.read_bytes() if target.exists() else None
        # To read a notebook takes longer than to compare it, and most are as they were written.
        if there == content and known.get("version") == version:
            continue
        cells = cells_of(name, content)
        if there is not None:
            theirs = cells_of(name, there)
            if theirs not in (known.get("cells"), cells):
                if known.get("version") != version:
                    kept.append(name)
                continue
            if known.get("version") == version:
                continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        record[name] = {"version": version, "cells": cells}
    record_file.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return kept


def files_of(root: Path) -> dict[str, bytes]:
    """Every page as a plain notebook, the data that chapters read by a bare name, the pictures."""
    book = Book(root)
    pages = {
        f"{name}.ipynb": (nbformat.writes(notebook(name, book)) + "\n").encode()
        for name, _ in numbered_pages(root)
    }
    used = [path for path in data_files(root / "book") if path.suffix == ".json"]
    pictures = [p for p in (root / "book" / "_static").iterdir() if p.suffix in (".svg", ".png")]
    data = {
        path.relative_to(root / "book").as_posix(): path.read_bytes() for path in used + pictures
    }
    return pages | data


def main(words: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if words is None else words)
    copy = COPY
    if "--copy" in words:
        place = words.index("--copy")
        copy = Path(words[place + 1]).resolve()
        del words[place : place + 2]
    for name in refresh(copy):
        print(
            f"{name}: kept as you changed it. The book has a newer version: move yours away to "
            "get it.",
            file=sys.stderr,
        )
    print(f"The notebooks are a copy in {os.path.relpath(copy)}: run and change what you like.")
    kernels.prepare()
    os.environ["JUPYTER_CONFIG_PATH"] = str(ROOT / "tools" / "lab_settings")
    os.environ["MFBOOK_PAGES"] = "ipynb"  # where the cards of claims link to
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        f"--ServerApp.root_dir={copy}",
        "--LabApp.default_url=/lab/tree/welcome.ipynb",
        *words,
    ]
    os.execv(shutil.which(command[0]) or command[0], command)


if __name__ == "__main__":
    sys.exit(main())
