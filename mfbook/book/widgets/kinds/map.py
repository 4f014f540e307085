"""The map: each of the problems of a large population is a dot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import begins
from mfbook.problems import populations
from mfbook.problems.checks import whole_number

#: how far from the smallest rank a run ended: a letter for each fifth of a decade from 10^-10
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
LOWEST, STEP, SETTLED = -10, 0.2, 1e-3
LANES = ("trees", "one cycle, rank 1", "more cycles, rank 1", "rank 2", "rank 3")
# What is read of the stored result.
KEPT = {"rows", "provenance"}


def map(stored: Mapping[str, Any], *, index: int | None = None, seed: int = 0) -> Explorer:
    """Look at any problem of the large population of connected data.

    Parameters
    ----------
    stored
        what `python -m studies.connected_map` has written: its rows and their provenance.
    index, seed
        the problem to begin with, the first that is not at the smallest rank if None, and the
        start of its run from 10^-1000.

    Raises
    ------
    TypeError
        what is not the result of that study.
    ValueError
        an index that no problem has.
    """
    if not isinstance(stored, Mapping) or not KEPT <= stored.keys():
        raise TypeError(
            "stored must be the result of the study of connected data, with its rows and their "
            f"provenance, but is a {type(stored).__name__} that lacks them; write "
            'mf.stored("connected_map.json")'
        )
    rows, origin = stored["rows"], stored["provenance"]
    problems, triples = populations.connected_population(origin["count"], origin["population_seed"])
    lanes = [lane_of(row) for row in rows]
    left = np.array(
        [
            [
                np.linalg.norm(sigma[row["min_rank"][0] :])
                / np.nanmax(np.abs(problems[row["index"]].values))
                for sigma in row["sigma"]
            ]
            for row in rows
        ]
    )
    first = int(np.argmax(left[:, -1] > SETTLED)) if index is None else index
    index = whole_number("index", first, least=0, most=len(rows) - 1)
    letters = np.log10(np.maximum(left, 10.0**LOWEST))
    letters = np.clip(np.round((letters - LOWEST) / STEP), 0, len(LETTERS) - 1).astype(int)
    exponents = [-e for e in origin["exponents"]]
    state = begins(problems[index], seed, -1000) | {"index": index, "seen": exponents[-1]}
    at_rank = left <= SETTLED
    figure = static.frame(
        "The map",
        "Which connected problems end at the smallest rank, and what do the others look like?",
        static.table(
            f"Of {len(rows)} connected problems, those at the smallest rank, up to a thousandth",
            ("", *(f"from 10^{e}" for e in exponents)),
            [
                (
                    name,
                    *(
                        f"{int(column.sum())} of {len(column)}"
                        for column in at_rank[np.array(lanes) == lane].T
                    ),
                )
                for lane, name in enumerate(LANES)
            ],
        ),
    )
    more = {
        "lanes": "".join(str(lane) for lane in lanes),
        "far": ["".join(LETTERS[k] for k in column) for column in letters.T],
        "exponents": exponents,
        "triples": triples[: len(triples) // origin["count"]],
    }
    more["seed"] = origin["population_seed"]
    return Explorer("map", state, figure, more=more)


def lane_of(row: Mapping[str, Any]) -> int:
    """Trees, one cycle and more cycles of rank 1, rank 2, rank 3."""
    rank = row["triple"][1]
    return min(row["cycles"], 2) if rank == 1 else rank + 1
