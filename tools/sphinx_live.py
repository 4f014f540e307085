"""Sphinx extension: pages that hold an explorer load its script, and no other page does."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

from mfbook.book.widgets import front

SCRIPT, STYLE = "mfbook-live.js", "mfbook-live.css"


def write(app: Sphinx) -> None:
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    (static / SCRIPT).write_text(front.page_script(), "utf-8")
    (static / STYLE).write_text(front.style(), "utf-8")


def load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "<mf-explorer" in context.get("body", ""):
        app.add_js_file(SCRIPT, loading_method="defer")
        app.add_css_file(STYLE)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
