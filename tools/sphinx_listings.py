"""Sphinx extension: the directive `{listing}`, and the script of the page that has a filter."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tools.listings import SOURCES, Listings

SCRIPT, STYLE = "listings.js", "listings.css"
MADE_BY = ("tools/listings.py", "tools/mathematics.py", "tools/statements.py")


class Listing(SphinxDirective):
    """One of the lists of `tools.listings`, by its name and what of it."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        chapters = (f"{name}.md" for name in self.env.found_docs)
        for file in (*SOURCES, *chapters, *MADE_BY):
            self.env.note_dependency(str(root / file))
        text = Listings(root).make(self.arguments[0])
        if text.startswith("<"):
            return [nodes.raw("", text, format="html")]
        box = nodes.container(classes=["mf-listing"])
        self.state.nested_parse(StringList(text.splitlines(), "claims.yml"), 0, box)
        return [box]


def load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    body = context.get("body", "")
    if "mf-listing" in body or "mf-ledger" in body or "mf-list" in body:
        app.add_css_file(STYLE)
    if "mf-filter" in body:
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("listing", Listing)
    app.connect("html-page-context", load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
