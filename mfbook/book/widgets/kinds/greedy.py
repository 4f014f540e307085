"""Greedy: the points that greedy low-rank learning passes, beside the flow's own way."""

from __future__ import annotations

import numpy as np

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
from mfbook.flow.greedy_path import RANK_LIMIT, GreedyPath
from mfbook.flow.trajectory import Trajectory
from mfbook.problems import examples
from mfbook.rivals.glrl import glrl


def greedy(
    problem: Given = examples.connected_4x4, *, seed: int = 0, log10_scale: int = -30
) -> Explorer:
    """Hold the flow against greedy low-rank learning (GLRL), rank by rank.

    Parameters
    ----------
    problem
        as for `matrix`.
    seed, log10_scale
        the start of the flow; the scale is one of the stops of its slider.

    Raises
    ------
    TypeError, ValueError
        what is no such problem, a problem that is too large, a seed or a scale out of range.

    Examples
    --------
    >>> greedy("1 2; 3 ?")
    widgets.greedy('1 2; 3 ★', seed=0, log10_scale=-30)
    """
    given = as_problem(problem)
    require_one_of("log10_scale", log10_scale, SCALES)
    state = begins(given, seed, log10_scale)
    path, run = glrl(given, max_steps=2000), followed(given, seed, log10_scale)
    points = critical_points(path)
    near = [distance(run, W) for W in points]
    if len(points) == len(path.critical_points):
        near[-1] = float(np.linalg.norm(run.W - path.W))
    figure = static.frame(
        "Greedy",
        "Does the flow from almost nothing follow the greedy path, and where it does not, why?",
        static.cards(
            static.card("the problem", static.given(given, "the problem")),
            *(
                static.card(f"GLRL at rank {r}", static.matrix(W, given, f"GLRL at rank {r}"))
                for r, W in enumerate(points[1:], 1)
            ),
            static.card("the flow's end", static.matrix(run.W, given, "the flow's end")),
        ),
        static.table(
            "What GLRL passes, and how near the flow comes to it (of two ends, how far apart)",
            ("GLRL", "loss", "singular values", "the flow's distance"),
            [
                (
                    f"rank {r}",
                    static.digits(float(given.loss_value(W)), 3),
                    sizes(W),
                    static.digits(near[r], 2),
                )
                for r, W in enumerate(points)
            ],
        ),
        static.staircase(run),
        static.said(
            f"GLRL: {path.reason}. The flow from 10^{log10_scale}: "
            f"ranks on the way {static.ranks(run)}."
        ),
    )
    return Explorer("greedy", state, figure)


def critical_points(path: GreedyPath) -> tuple[np.ndarray, ...]:
    """Those of a path; one that did not arrive has none at its end."""
    ended = path.converged or path.reason == RANK_LIMIT
    return path.critical_points if ended else path.critical_points[:-1]


def distance(run: Trajectory, W: np.ndarray) -> float:
    """How near a run comes to W, at its steps and its rests."""
    passed = [*(run.W_at(t) for t in run.t), *(phase.W for phase in run.phases)]
    return float(min(np.linalg.norm(one - W) for one in passed))


def sizes(W: np.ndarray) -> str:
    s = np.linalg.svd(W, compute_uv=False)
    return ", ".join(static.digits(float(x), 3) for x in s if x > 1e-3 * s[0]) or "0"
