"""The critical points that a method visits one after the other, and why it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.trajectory import Trajectory
from mfbook.problems.text import Printable

RANK_LIMIT = "rank limit"
ATOM_LIMIT = "atom limit"


@dataclass(frozen=True, eq=False, repr=False)
class GreedyPath(Printable):
    """What greedy low-rank learning passes, or one of its rivals, or a flow from nothing.

    Attributes
    ----------
    critical_points
        W_0 = 0, W_1, …, the critical point of every phase, each (m, n).
    W
        the last of them.
    ranks
        the numerical rank of each.
    trajectories
        the flow of each phase; trajectories[r − 1] leads from W_{r−1} to W_r. Empty where there
        is none: for the rivals, and for a flow from nothing.
    converged
        True if W is a global minimum.
    reason
        why it stopped, in words; `advice` says what to do next.
    iterations
        what each phase took: gradients of a flow, sweeps of alternating least squares, 1 for an
        atom of a pursuit.
    """

    # What to do next where it is not a flow that stopped short.
    ADVICE: ClassVar[dict[str, str]] = {
        RANK_LIMIT: "raise max_rank; min(m, n) is always enough",
        ATOM_LIMIT: "raise rank, the number of atoms; one an observed number is always enough for "
        "pursuit with all weights, m + n − 1 for geco",
    }

    critical_points: tuple[np.ndarray, ...]
    W: np.ndarray
    ranks: tuple[int, ...]
    trajectories: tuple[Trajectory, ...]
    converged: bool
    reason: str
    iterations: tuple[int, ...] = ()

    @property
    def advice(self) -> str:
        """What to do next where the path did not arrive; empty where it did."""
        return (trajectory.ADVICE | self.ADVICE).get(self.reason, "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}, ranks {' → '.join(map(str, self.ranks))})"
