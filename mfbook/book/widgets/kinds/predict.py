"""Predict before you look: when does the flow leave the saddle at which it rests?"""

from __future__ import annotations

import numpy as np

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import begins, followed, require_one_of
from mfbook.flow.trajectory import Trajectory
from mfbook.problems import MatrixCompletion, examples

FAR = -300
TRAVERSED = {
    "paper": examples.connected_4x4,
    "diagonal": MatrixCompletion.from_text("2 0; 0 1"),
    "parts": examples.disconnected_3x3,
    "symmetry": MatrixCompletion.from_text("1 3 -1 ?; 3 1 ? -1; -3 -1 ? 9; -1 -3 9 ?"),
}


def predict(example: str = "paper", *, seed: int = 0) -> Explorer:
    """Say when the flow leaves the saddle at which it rests, then let it run.

    Parameters
    ----------
    example
        "paper" (the 4×4 of Bai et al., Figure 3), "diagonal", "parts" or "symmetry".
    seed
        of the start, at the scale 10^-300.

    Raises
    ------
    ValueError
        an example that is none of those.

    Examples
    --------
    >>> predict("diagonal").problem
    MatrixCompletion('2 0; 0 1')
    """
    require_one_of("example", example, TRAVERSED)
    given = TRAVERSED[example]
    state = begins(given, seed, FAR) | {"example": example}
    run = followed(given, seed, FAR)
    unit = -FAR * np.log(10)
    told = timetable([np.linalg.svd(given.gradient(p.W))[1] for p in run.phases[:-1]])
    rows = [
        (str(k + 1), static.digits(at, 3), static.digits(leaves(run, k) / unit, 3))
        for k, at in enumerate(told)
    ]
    figure = static.frame(
        "Predict before you look",
        "When does the flow leave the saddle at which it rests?",
        static.cards(static.card("the data", static.given(given, "the data"))),
        static.table(
            "The steps of a run from 10^-300, in units of ln 1/α",
            ("step", "by the timetable", "in the run"),
            rows,
        ),
    )
    return Explorer("predict", state, figure)


def timetable(rates: list[np.ndarray]) -> list[float]:
    """When the flow leaves each saddle, in units of ln 1/α, from the singular values of the
    gradient there: the column that is ahead grows at the first rate, the next at the second."""
    now, size = 0.0, np.ones(len(rates[0]))
    times = []
    for k, rate in enumerate(rates):
        wait = float(size[k] / rate[0])
        size[k:] -= wait * rate[: len(size) - k]
        now += wait
        times.append(now)
    return times


def leaves(run: Trajectory, k: int) -> float:
    """When a run has half of its way in the loss behind it, from its k-th rest to the next."""
    here, there = run.phases[k : k + 2]
    gone = (run.t >= here.time) & (run.loss <= (here.loss + there.loss) / 2)
    return float(run.t[np.argmax(gone)])
