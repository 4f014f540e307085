"""Your own matrix: which completion does each way of completing it choose?"""

from __future__ import annotations

import numpy as np

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import TINY, Given, as_problem, begins, followed, summary
from mfbook.rivals.minrank import min_rank
from mfbook.rivals.nuclear import min_nuclear_norm


def matrix(
    problem: Given = "2 2 4; 3 ? ?; 4 ? ?", *, seed: int = 0, log10_scale: float = TINY
) -> Explorer:
    """Type, paste or draw a matrix, and compare five ways of finishing it.

    Parameters
    ----------
    problem
        what it begins with: a `MatrixCompletion`, text as `MatrixCompletion.from_text` reads it,
        or an array as `MatrixCompletion.from_array` reads it; up to 8×8.
    seed, log10_scale
        the start of the flow that it begins with: `small_init(problem.shape, rng=seed)` at the
        scale 10^log10_scale, from -10000 to 0.

    Raises
    ------
    TypeError, ValueError
        what is no such problem, a problem that is too large, a seed or a scale out of range.

    Examples
    --------
    >>> matrix("1 2; 3 ?")
    widgets.matrix('1 2; 3 ★', seed=0, log10_scale=-100)
    """
    given = as_problem(problem)
    state = begins(given, seed, log10_scale)
    # The scale that it begins with is mostly one of the others.
    runs = {scale: followed(given, seed, scale) for scale in {0, TINY, log10_scale}}
    chosen = runs[log10_scale]
    answers = {
        "unfactored, from zero": np.where(given.mask, given.values, 0.0),
        "factored, large start": runs[0].W,
        "factored, tiny start": runs[TINY].W,
        "smallest nuclear norm": min_nuclear_norm(given).W,
        "smallest rank": min_rank(given).W,
    }
    shown = [
        static.card(name, static.matrix(W, given, name), summary(W)) for name, W in answers.items()
    ]
    figure = static.frame(
        "Your own matrix",
        "Which of all the matrices that fit does each way of completing choose?",
        static.cards(static.card("the problem", static.given(given, "the problem")), *shown),
        static.staircase(chosen),
        static.said(f"The flow from 10^{log10_scale:g}: ranks on the way {static.ranks(chosen)}."),
    )
    return Explorer("matrix", state, figure)
