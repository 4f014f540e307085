"""Pieces of written pages. Sphinx writes well-formed elements, so tags need only be counted."""

from __future__ import annotations

import re


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
