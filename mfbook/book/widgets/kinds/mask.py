"""The mask: one entry more or less, and another rule decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import TINY, as_problem, begins, followed, summary
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion
from mfbook.problems.checks import real_array
from mfbook.problems.graph import connectivity
from mfbook.rivals.minrank import min_rank
from mfbook.rivals.nuclear import min_nuclear_norm

TABLE = np.outer(range(1, 5), range(1, 5))
#: the most rows and columns of which the page follows three factors, too
DEEP = 4
TWO_BLOCKS = np.kron(np.eye(2), np.ones((2, 2))) == 1
CLASSES = {
    "connected": "connected",
    "complete-bipartite": "disconnected, and all parts are complete",
    "disconnected": "disconnected, and some part is incomplete",
}


def mask(truth: ArrayLike = TABLE, observed: ArrayLike = TWO_BLOCKS, *, seed: int = 0) -> Explorer:
    """Click entries on and off, and see what the class of the graph changes.

    Parameters
    ----------
    truth
        (m, n) the entries that may be observed, up to 8×8.
    observed
        (m, n) boolean: those that are, to begin with.
    seed
        of the starts: two factors from 10^-100, and up to 4×4 three from 10^-2.

    Raises
    ------
    TypeError, ValueError
        a truth that is no real matrix or too large, a mask that does not fit it or is empty.

    Examples
    --------
    >>> mask([[1, 2], [2, 4]], [[True, False], [False, True]])
    widgets.mask('1 ★; ★ 4', seed=0, log10_scale=-100)
    """
    whole = real_array("truth", truth, ndim=2, finite=True)
    given = as_problem(MatrixCompletion(whole, np.asarray(observed)))
    state = begins(given, seed, TINY)
    run = followed(given, seed, TINY)
    least, lowest = min_nuclear_norm(given), min_rank(given)
    answers = {"learned, from 10^-100": run.W}
    if max(given.shape) <= DEEP:
        deep = small_init(given.shape, depth=3, rng=seed)
        answers["three factors, from 10^-2"] = gradient_flow(given, deep, log10_scale=-2).W
    answers |= {
        "smallest rank": lowest.W,
        "smallest nuclear norm": least.W,
    }
    figure = static.frame(
        "The mask",
        "What does one entry more, or one entry less, change?",
        static.cards(
            static.card("the problem", static.given(given, "the problem")),
            *(
                static.card(name, static.matrix(W, given, name), summary(W))
                for name, W in answers.items()
            ),
        ),
        static.said(
            f"The data are {CLASSES[connectivity(given.mask)]}. "
            f"Ranks on the way: {static.ranks(run)}."
        ),
    )
    return Explorer("mask", state, figure, more={"truth": whole.tolist()})
