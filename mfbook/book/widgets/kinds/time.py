"""Time: one run, instant by instant."""

from __future__ import annotations

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import (
    SCALES,
    Given,
    as_problem,
    begins,
    followed,
    require_one_of,
)


def time(
    problem: Given = "1 2 ?; 3 4 ?; 6 ? 5", *, seed: int = 0, log10_scale: int = -20
) -> Explorer:
    """Scrub through one run: the loss, the singular values, W, and the factors as arrows.

    Parameters
    ----------
    problem
        as for `matrix`.
    seed, log10_scale
        of the start; the scale is one of the stops of the slider, down to -300.

    Raises
    ------
    TypeError, ValueError
        what is no such problem, a problem that is too large, a seed or a scale out of range.

    Examples
    --------
    >>> time("1 2; 3 ?")
    widgets.time('1 2; 3 ★', seed=0, log10_scale=-20)
    """
    given = as_problem(problem)
    require_one_of("log10_scale", log10_scale, [e for e in SCALES if e >= -300])
    state = begins(given, seed, log10_scale) | {"at": 80}
    run = followed(given, seed, log10_scale)
    rests = [
        static.card(
            f"rest at rank {phase.rank}" if k < len(run.phases) - 1 else "the end",
            static.matrix(phase.W, given, "W"),
            f"time {static.digits(phase.time, 3)}, loss {static.digits(phase.loss, 2)}",
        )
        for k, phase in enumerate(run.phases)
    ]
    figure = static.frame(
        "Time",
        "What happens between the start and the answer?",
        static.cards(*rests),
        static.staircase(run),
    )
    return Explorer("time", state, figure)
