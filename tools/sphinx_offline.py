"""Sphinx extension: pages that fetch nothing, from notebooks that carry their outputs."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

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


def setup(app: Sphinx) -> dict[str, bool]:
    # Before the table of contents decides which files belong to the book (priority 900).
    app.connect("config-inited", leave_out_sources, priority=400)
    app.connect("build-finished", copy_mathjax)
    app.config.mathjax_path = MATHJAX
    return {"parallel_read_safe": True, "parallel_write_safe": True}
