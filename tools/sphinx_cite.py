"""Sphinx extension: every page says how it is cited, and links to its source if that is known."""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.citation import Page
from tools.sphinx_downloads import site

CITE = "cite-this-page"


def link_repository(app: Sphinx, config: Config) -> None:
    """Buttons that lead to the repository, its issues and a running copy, where its address is
    known."""
    options = config.html_theme_options
    if not options.get("repository_url"):
        return
    options.setdefault("repository_branch", "main")
    for name in ("use_repository_button", "use_issues_button", "use_source_button"):
        options.setdefault(name, True)
    options.setdefault(
        "launch_buttons",
        {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    )


def cite(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    # The search is nobody's text, and a print cites itself as a whole.
    if doctree is None or app.builder.name != "html":
        return
    root = Path(app.srcdir)
    name = page.removeprefix("book/")
    address = site(app)
    repository = app.config.html_theme_options.get("repository_url", "").rstrip("/")
    title = app.env.titles[page].astext()
    # Where the book is not on the web, the version's own source is what stays.
    url = f"{address}/{page}.html" if address else ""
    said = Page(name, title, url or repository, root)
    line = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", escape(said.text()))
    if said.url:
        line = line.replace(said.url, f'<a href="{said.url}">{said.url}</a>')
    context["body"] = context.get("body", "") + (
        f'<details class="mf-foot" id="{CITE}"><summary>How to cite this page</summary>'
        f"<p>{line}</p>"
        f'<div class="highlight"><pre>{escape(said.bibtex())}</pre></div>'
        "<p>For a result of a paper, cite the paper.</p></details>"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", link_repository)
    # Below the note on running the page.
    app.connect("html-page-context", cite, priority=700)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
