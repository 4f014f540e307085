"""Written pages, and pieces of them: Sphinx writes well-formed, so tags need only be counted."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

# The title of a statement or an exercise, after its beginning, its kind and its id.
TITLE = re.compile(
    r'(<div class="(proof|exercise)[\w -]* admonition" id="([^"]+)">\s*'
    r'<p class="admonition-title">)(.*?)(?=</p>)',
    re.S,
)


def built_pages(app: Sphinx) -> dict[str, str]:
    """The written pages, by name."""
    files = {name: Path(app.outdir) / f"{name}.html" for name in sorted(app.env.found_docs)}
    return {name: file.read_text("utf-8") for name, file in files.items() if file.exists()}


def element(html: str, start: int, tag: str) -> str:
    """The element of that tag which begins at `start`, with everything in it.

    >>> element('<p><div>a<div>b</div></div> c</p>', 3, 'div')
    '<div>a<div>b</div></div>'
    """
    depth = 0
    for found in re.compile(rf"<(/?){tag}\b").finditer(html, start):
        depth += -1 if found[1] else 1
        if depth == 0:
            return html[start : html.index(">", found.start()) + 1]
    raise ValueError(f"no end of <{tag}> from {html[start : start + 60]!r}")
