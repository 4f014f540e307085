"""The numbers that steer a run, checked in one place for all that follow a flow."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from mfbook.problems.checks import real_number, whole_number

# Of layers, and of the end-to-end flow, whose state is in logarithms and unit vectors.
SMALLEST_RTOL, SMALLEST_RTOL_END_TO_END, LARGEST_RTOL = 1e-9, 1e-12, 1e-2


class Limits(TypedDict):
    """The options that all runs of a batch share, and all phases of a greedy path."""

    loss_tol: float
    rtol: float
    t_max: float
    max_steps: int


def limits_of(
    loss_tol: float,
    rtol: float,
    max_steps: int,
    *,
    t_max: float = np.inf,
    smallest_rtol: float = SMALLEST_RTOL,
) -> Limits:
    """The numbers as such, or what is wrong with the first that is out of range."""
    because = "double precision holds no more through an escape, and less is no trajectory"
    return {
        "loss_tol": real_number("loss_tol", loss_tol, least=0),
        "rtol": real_number("rtol", rtol, least=smallest_rtol, most=LARGEST_RTOL, because=because),
        "t_max": real_number("t_max", t_max, least=0, infinite=True),
        "max_steps": whole_number("max_steps", max_steps, least=0),
    }
