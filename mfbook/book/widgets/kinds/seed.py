"""The seed: what is left open between two parts of the data, and what decides it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer, State
from mfbook.book.widgets.kinds.begin import SCALES, begins, require_one_of
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, examples
from mfbook.theory.measures import nuclear_norm


def seed(angle: int = 60, *, seed: int = 0, log10_scale: int = -8) -> Explorer:
    """Turn the hidden directions of two parts against each other, on the 3×3 of Bai et al.

    Parameters
    ----------
    angle
        between c_1 and c_2, in degrees, a multiple of 5 from 0 to 180.
    seed, log10_scale
        the start whose c_2 is turned, and its scale, a stop of its slider down to -20.

    Raises
    ------
    ValueError
        an angle or a scale that is none of those.

    Examples
    --------
    >>> explorer = seed(90)
    >>> round(abs(float(explorer.run.W[0, 1])), 6)
    0.0
    """
    given = examples.disconnected_3x3
    require_one_of("angle", angle, range(0, 181, 5))
    require_one_of("log10_scale", log10_scale, [e for e in SCALES if e >= -20])
    state = begins(given, seed, log10_scale) | {"angle": angle}
    runs = {
        degrees: gradient_flow(
            given, turned(given, state | {"angle": degrees}), log10_scale=log10_scale
        ).W
        for degrees in (0, 45, 90, 135, 180)
    }
    x = np.linspace(-4, 4, 33)
    valley = [(float(a), norm_of([[1, a, 3], [a, 5, 3 * a], [3, 3 * a, 9]])) for a in x]
    figure = static.frame(
        "The seed",
        "What does the seed decide where the data fall into two parts?",
        static.chart(
            "The nuclear norm is level between −√5 and √5; five runs lie on it.",
            "entry in row 1, column 2",
            "nuclear norm",
            (-4.0, 4.0),
            (12.0, 26.0),
            [valley],
            dots=[(float(W[0, 1]), norm_of(W)) for W in runs.values()],
        ),
        static.table(
            "Two parts, the angle between their hidden directions, and what is learned",
            ("angle", "√5 cos(angle)", "entry learned", "nuclear norm"),
            [
                (
                    f"{degrees}°",
                    static.digits(np.sqrt(5) * np.cos(np.radians(degrees)), 3),
                    static.digits(W[0, 1], 3),
                    static.digits(norm_of(W), 3),
                )
                for degrees, W in runs.items()
            ],
        ),
    )
    return Explorer("seed", state, figure, start=turned)


def turned(problem: MatrixCompletion, state: State) -> tuple[np.ndarray, np.ndarray]:
    """The start of the seed, with c_2 turned in the plane of c_1 and c_2 to the angle of the state.

    c_1 = A_0ᵀ u + B_0 u of the outer part, with u = (1, 0, 3)/√10, and c_2 = a_2 + b_2.
    """
    A, B = small_init(problem.shape, rng=int(state["seed"]))
    u = np.array([1, 0, 3]) / np.sqrt(10)
    first = A.T @ u + B @ u
    first = first / np.linalg.norm(first)
    c_2 = A[1] + B[:, 1]
    second = c_2 - (c_2 @ first) * first
    second = second / np.linalg.norm(second)
    angle = np.radians(state["angle"])
    aim = np.linalg.norm(c_2) * (np.cos(angle) * first + np.sin(angle) * second)
    A[1] += (aim - c_2) / 2
    B[:, 1] += (aim - c_2) / 2
    return A, B


def norm_of(W: ArrayLike) -> float:
    return float(nuclear_norm(W))
