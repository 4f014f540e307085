"""What the book keeps beside its chapters: the ledger, and the results of long computations.

They stand under `book/` and nowhere else. An installed package carries a copy of them, made when
its wheel is built, so that a chapter runs in any folder.
"""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

#: the folder of the book, where the package runs from its sources
BESIDE = Path(__file__).resolve().parents[2] / "book"
#: the folder beside this file in which a wheel carries the same files (see pyproject.toml)
CARRIED = "carried"


def folder() -> Traversable:
    """The folder with `claims.yml`: beside the sources, else in the installed package.

    Raises FileNotFoundError where it is in neither place.
    """
    for place in (BESIDE, files("mfbook.book").joinpath(CARRIED)):
        if place.joinpath("claims.yml").is_file():
            return place
    raise FileNotFoundError(
        "book/claims.yml is neither beside the package nor in it: install mfbook from the wheel "
        "that the book's pages carry, or from a checkout with `pip install -e .`"
    )


def stored(name: str) -> Any:
    """The stored result of a long computation, by the name of its file.

    A study (`python -m studies.NAME`) computed it once and wrote a JSON file beside the chapter
    that reads it, with the command, the seed, the versions and the date under "provenance". It is
    found wherever the package runs: in a checkout of the book, or in the wheel that carries a copy.

    Raises TypeError for other than a string, and FileNotFoundError, with the names that there are,
    for a name that no file has.

    >>> stored("seed_limits.json")["provenance"]["command"]
    'python -m studies.seed_limits'
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string such as 'seed_limits.json', but is {name!r}")
    there = {
        file.name: file
        for part in folder().iterdir()
        if part.is_dir() and not part.name.startswith(("_", "."))
        for file in part.iterdir()
        if file.name.endswith(".json")
    }
    if name not in there:
        raise FileNotFoundError(
            f"no stored result is called {name!r}; there are: {', '.join(sorted(there))}"
        )
    return json.loads(there[name].read_text(encoding="utf-8"))
