"""Sphinx extension: the site carries its wheel, and every chapter as a notebook that needs it only.

The download button leads to that notebook, and the foot of the page says how to run it.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

import nbformat
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import downloads, wheel
from tools.chapters import chapters
from tools.myst import Book

FOLDER = "downloads"
RUN = "run-it-anywhere"


def site(app: Sphinx) -> str:
    """Where the book can be read, if that is known."""
    return (app.config.html_baseurl or "").rstrip("/")


def write(app: Sphinx) -> None:
    """Put the wheel and the notebooks into the site."""
    app.mf_wanted = {}
    if app.builder.name != "html":
        return
    root = Path(app.srcdir)
    folder = Path(app.outdir) / FOLDER
    wheel.build(folder, root)
    book = Book(root)
    for chapter in chapters(root / "book"):
        made = downloads.portable(chapter.name, book, site(app))
        app.mf_wanted[chapter.name] = downloads.wanted(made, root)
        target = folder / f"{chapter.name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(nbformat.writes(made) + "\n", "utf-8")


def offer(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """The buttons and the note of a page that runs code."""
    name = page.removeprefix("book/")
    if name not in app.mf_wanted:
        return
    up = "../" * page.count("/")
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button["label"] == "download-source-button":
                button["url"] = f"{up}{FOLDER}/{name}.ipynb"
                button["tooltip"] = "Download this chapter as a notebook (how to run it: see below)"
    context["body"] = context.get("body", "") + note(app, name, up)


def note(app: Sphinx, name: str, up: str) -> str:
    root = Path(app.srcdir)
    file = wheel.name(root)
    line = " ".join([downloads.address(site(app), root), *app.mf_wanted[name]])
    notebook = f"{up}{FOLDER}/{name}.ipynb"
    where = "" if site(app) else "; a file without an address is looked for where pip is run"
    return (
        f'<details class="mf-foot" id="{RUN}"><summary>Run this chapter anywhere</summary>'
        f'<p><a href="{notebook}" download>The notebook</a> runs in any folder, once '
        f'<a href="{up}{FOLDER}/{file}" download>the book\'s package</a> is installed in the '
        f"environment of your Jupyter (Python 3.11 or newer{where}):</p>"
        f'<div class="highlight"><pre data-wheel="{up}{FOLDER}/{file}">pip install '
        f"{escape(line)}</pre></div></details>"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    # After the theme has made its buttons.
    app.connect("html-page-context", offer, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
