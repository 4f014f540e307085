"""A line of a page does not begin with the comma after a formula, nor end with the bracket before.

A browser may break a line on both sides of a formula, as it does beside a picture, and neither a
word joiner nor a blank that does not break keeps it from that: only a box that has no breaks does.
A formula has none itself, so the box is wider by what it keeps and by nothing else.
"""

from __future__ import annotations

import re

FORMULA = re.compile(
    r'(?P<before>(?:[(\[“‘]|&quot;)*)(?P<formula><span class="math[^"]*">\\\(.*?\\\)</span>)'
    # Of "k-th" all of it, of "k-dimensional" the hyphen.
    r"(?P<after>(?:-(?:th|st|nd|rd)\b|-)?(?:[,.;:!?)\]…’”%]|&quot;|(?:'|&#x27;|&#39;)s?\b)*)",
    re.S,
)


def keep_together(html: str) -> str:
    r"""The HTML of a page with each formula and the signs that touch it in one unbroken box.

    >>> keep_together(r'(<span class="math">\(x\)</span>), and')
    '<span class="mf-kept">(<span class="math">\\(x\\)</span>),</span> and'
    """
    return FORMULA.sub(_kept, html)


def _kept(found: re.Match) -> str:
    if not found["before"] and not found["after"]:
        return found[0]
    return f'<span class="mf-kept">{found[0]}</span>'
