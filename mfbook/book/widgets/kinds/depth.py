"""Depth: one problem with two, three and four factors."""

from __future__ import annotations

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import Given, as_problem, begins, require_one_of, summary
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import examples

DEPTHS = (2, 3, 4)
#: the stops of the slider in a page, whose engine follows the layers as they stand
STOPS = (0, -0.5, -1, -1.5, -2, -2.5, -3, -3.5, -4)
#: the most rows and columns: four factors have then 64 entries
LARGEST = 4


def depth(
    problem: Given = examples.disconnected_3x3, *, seed: int = 0, log10_scale: float = -2
) -> Explorer:
    """See what more factors change: a staircase becomes jumps, and parts come together.

    What comes back as `run` is the flow of two factors; for N factors start from
    `small_init(explorer.problem.shape, depth=N, rng=explorer.seed)`.

    Parameters
    ----------
    problem
        as for `matrix`, but up to 4×4.
    seed, log10_scale
        the starts `small_init(problem.shape, depth=N, rng=seed)` and their scale, a multiple of
        1/2 from -4 to 0; in a running notebook the slider goes on to -100.

    Raises
    ------
    TypeError, ValueError
        what is no such problem, a problem that is too large, a seed or a scale out of range.

    Examples
    --------
    >>> depth("1 2; 3 ?", log10_scale=-1)
    widgets.depth('1 2; 3 ★', seed=0, log10_scale=-1)
    """
    given = as_problem(problem, largest=LARGEST)
    require_one_of("log10_scale", log10_scale, STOPS)
    state = begins(given, seed, log10_scale)
    runs = {
        count: gradient_flow(
            given, small_init(given.shape, depth=count, rng=seed), log10_scale=log10_scale
        )
        for count in DEPTHS
    }
    figure = static.frame(
        "Depth",
        "What do more factors change?",
        static.cards(
            static.card("the problem", static.given(given, "the problem")),
            *(
                static.card(f"{count} factors", static.matrix(run.W, given, "W"), summary(run.W))
                for count, run in runs.items()
            ),
        ),
        *(
            static.said(f"{count} factors: ranks on the way {static.ranks(run)}.")
            + static.staircase(run)
            for count, run in runs.items()
        ),
    )
    return Explorer("depth", state, figure)
