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
NOT_SIMPLE = "the top singular pair of −∇f is not simple: the direction is decided by the start"
NOT_EXCITED = "the start has no part along the top singular pair of −∇f, and leaves along another"
NO_BLOW_UP = "the plateau does not end: the hidden layers come to rest and never blow up"
NO_WIDTH = "all hidden columns are in use, at a critical point that is not a global minimum"


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

    Examples
    --------
    >>> import mfbook as mf
    >>> path = mf.glrl(mf.MatrixCompletion.from_text("2 ?; ? 1"))
    >>> [W.round(3).tolist() for W in path.critical_points]
    [[[0.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]]]
    >>> stopped = mf.glrl(mf.MatrixCompletion.from_text("2 ?; ? 1"), max_rank=1)
    >>> stopped.converged, stopped.advice
    (False, 'raise max_rank; min(m, n) is always enough')
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


@dataclass(frozen=True, eq=False, repr=False)
class DeepLimit(GreedyPath):
    """What gradient flow of depth N ≥ 3 passes as its start goes to zero: a `GreedyPath` of which
    the plateaus W_0 = 0, W_1, … are the critical points and the end is the last.

    Attributes
    ----------
    waiting_times
        s*_0, s*_1, …: from α · (V_1, …, V_N) plateau r ends at T_r with α^(N−2) T_r → Σ_{k≤r} s*_k.
    converged
        True where W is a global minimum, and every hypothesis held on the way.
    reason
        why it ended: the hypothesis that failed, where one did; `advice` says what to do next.

    Examples
    --------
    One entry, and three factors of size α: da/dt = a² (1 − a³) leaves a = α after a time near 1/α.

    >>> import mfbook as mf
    >>> problem = mf.MatrixCompletion.from_text("1", loss="half")
    >>> limit = mf.deep_limit(problem, ([[1.0]], [[1.0]], [[1.0]]))
    >>> limit.ranks, [round(s, 6) for s in limit.waiting_times]
    ((0, 1), [1.0])
    """

    ADVICE: ClassVar[dict[str, str]] = {
        NOT_SIMPLE: "perturb the data, or follow gradient_flow from a small scale: the pair that "
        "it takes depends on the start, and not on the data alone",
        NOT_EXCITED: "take a generic start, such as small_init draws",
        NO_BLOW_UP: "take a generic start, such as small_init draws: almost every one blows up",
        NO_WIDTH: "take wider layers; min(m, n) is always enough",
        trajectory.ROUNDING: "perturb the data or the start, such as small_init draws",
        trajectory.CROSSED: "take a start that is generic, such as small_init draws: the exact "
        "process comes to rest where this one has crossed",
        trajectory.UNBOUNDED: "the orbit has no end to quote; gradient_flow from a scale that is "
        "not zero tells how far it gets before the next plateau ends",
    }

    waiting_times: tuple[float, ...] = ()
