"""Sphinx extension: pages from the executed twins that fetch nothing and read well aloud."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from tools.lines import keep_together
from tools.mathematics import set_mathematics

# One file holds all of TeX and draws with SVG, so that pages opened without a server, where
# browsers refuse to load fonts, show their mathematics too.
MATHJAX = "tex-svg-full.js"


def leave_out_sources(app: Sphinx, config: Config) -> None:
    """Build the executed twin of a chapter and not its source."""
    root = Path(app.srcdir)
    twins = (root / "book").rglob("*.ipynb")
    sources = [twin.with_suffix(".md") for twin in twins]
    config.exclude_patterns = [
        *config.exclude_patterns,
        *(source.relative_to(root).as_posix() for source in sorted(sources) if source.exists()),
    ]


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    # The package's name has hyphens, so it can be found but not imported.
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if error is None and spec is not None and spec.submodule_search_locations:
        source = Path(spec.submodule_search_locations[0]) / "static" / "mathjax" / MATHJAX
        target = Path(app.outdir) / "_static" / MATHJAX
        if not target.exists():
            shutil.copyfile(source, target)


# What the extensions write into a page, and what stands there instead.
MENDED = [
    # A list may no longer contain the role that docutils gives to a bibliography's entries.
    (r'role="doc-biblioentry"', 'role="listitem"'),
    # Identifiers that come again with every theorem, proof, exercise and solution.
    (r' id="(proof|exercise|solution)-content"', ""),
    (r'<div class="proof admonition" id="proof">', '<div class="proof admonition mf-proof">'),
    (r"(mf-proof\">\s*<p>)Proof\.", r"\1<em>Proof.</em>"),
    # A space that a link would underline.
    (r"Solution to(<a [^>]*>) ", r"Solution to \1"),
    # A figure gets a box of its own to scroll in, beside its caption.
    (r'(<figure class="align-default"[^>]*>\s*)(<img [^>]*>)', r'\1<div class="mf-wide">\2</div>'),
]


# A cell that is folded, as far as its end; inside it, the call that settles a claim.
FOLDED = re.compile(r'<details class="admonition hide above-input">.*?</details>', re.S)
SETTLES = re.compile(r">claim</span>|mf\.claim\(")


def name_folded_cell(found: re.Match) -> str:
    """Say what opens: a check, or other code."""
    what = "check" if SETTLES.search(found[0]) else "code"
    return re.sub(r"(Show|Hide) the code", rf"\1 the {what}", found[0], count=2)


EVIDENCE = re.compile(r'(?<=<div class="mf-claim").*?</div>', re.S)


def mend(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    body = context.get("body", "")
    for written, meant in MENDED:
        body = re.sub(written, meant, body)
    body = FOLDED.sub(name_folded_cell, body)
    body = EVIDENCE.sub(lambda found: set_mathematics(found[0]), body)
    context["body"] = keep_together(body)


def setup(app: Sphinx) -> dict[str, bool]:
    # Before the table of contents decides which files belong to the book (priority 900).
    app.connect("config-inited", leave_out_sources, priority=400)
    app.connect("html-page-context", mend)
    app.connect("build-finished", copy_mathjax)
    app.config.mathjax_path = MATHJAX
    return {"parallel_read_safe": True, "parallel_write_safe": True}
