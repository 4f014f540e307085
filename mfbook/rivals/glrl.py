"""Greedy low-rank learning: one rank at a time, each from the saddle that the last one reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.trajectory import Trajectory
from mfbook.problems.checks import real_number, require_problem, whole_number
from mfbook.problems.fit import LOSS_TOL, fits, size_of_data
from mfbook.problems.protocols import Problem
from mfbook.theory.landscape import escape_direction
from mfbook.theory.measures import numerical_rank

RANK_LIMIT = "rank limit"


@dataclass(frozen=True, eq=False, repr=False)
class GreedyPath:
    """What greedy low-rank learning passes.

    Attributes
    ----------
    critical_points
        W_0 = 0, W_1, …, the critical point of every phase, each (m, n).
    W
        the last of them.
    ranks
        the numerical rank of each.
    trajectories
        the flow of each phase; trajectories[r − 1] leads from W_{r−1} to W_r.
    converged
        True if W is a global minimum.
    reason
        why it stopped, in words; `advice` says what to do next.
    """

    critical_points: tuple[np.ndarray, ...]
    W: np.ndarray
    ranks: tuple[int, ...]
    trajectories: tuple[Trajectory, ...]
    converged: bool
    reason: str

    @property
    def advice(self) -> str:
        """What to do next where the path did not arrive; empty where it did."""
        if self.reason == RANK_LIMIT:
            return "raise max_rank; min(m, n) is always enough"
        return trajectory.ADVICE.get(self.reason, "")

    def __repr__(self) -> str:
        return f"GreedyPath({self.reason}, ranks {' → '.join(map(str, self.ranks))})"


def glrl(
    problem: Problem,
    *,
    eps: float = 1e-7,
    max_rank: int | None = None,
    loss_tol: float = LOSS_TOL,
    rtol: float = 1e-6,
    max_steps: int = 50_000,
) -> GreedyPath:
    r"""Greedy low-rank learning (GLRL) with two factors.

    Start with no hidden column. In phase r let (u, v) be the top singular pair of −∇f(W_{r−1}),
    append the hidden column √(ε/2) (u, v) to [A; Bᵀ], and follow gradient flow on f(A B) with the
    r columns until it stops at a critical point W_r. Stop when W_r is a global minimum.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    eps
        ε > 0, the squared length of the column that is appended, in units of the data's size: the
        step ‖∇f(0)‖₂/(2c max ‖X_l‖_F²) from 0 towards them, for matrix completion the largest
        singular value of the observed entries with zeros between them.
    max_rank
        the last phase; min(m, n), which is always enough, if None.
    loss_tol, rtol, max_steps
        of each phase's `gradient_flow`.

    Returns
    -------
    GreedyPath
        With `converged=False` where a phase does not end at a critical point: it may run to
        infinity (its `reason` says so), or reach a limit.

    Raises
    ------
    TypeError
        no problem, options that are no numbers.
    ValueError
        ε not positive, or a max_rank out of range.

    Notes
    -----
    The paper writes the algorithm for W = U Uᵀ, where the column is √ε times the top eigenvector
    of −∇f. Here U = [A; Bᵀ] and that matrix is [[0, −∇f], [−∇fᵀ, 0]], whose top eigenvector is
    (u, v)/√2. The paper takes gradient descent at step 1e-3 for up to 1e7 iterations a phase.

    On disconnected data a critical point of GLRL is not stable within its own phase: the rows and
    columns of the components that are still to come are zero in the hidden columns so far, and
    would grow from rounding errors there. For completion problems they are kept at exactly zero,
    as the definition has it. A `MatrixSensing` problem that decouples has no mask to tell.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> path = glrl(MatrixCompletion.from_text("1 ? 3; ? 5 ?; 3 ? 9"))
    >>> path
    GreedyPath(loss reached, ranks 0 → 1 → 2)
    >>> np.abs(path.W.round(3)).tolist()
    [[1.0, 0.0, 3.0], [0.0, 5.0, 0.0], [3.0, 0.0, 9.0]]

    References
    ----------
    Li, Luo & Lyu 2021, Algorithm 1 and Definition 5.1; Bai, Zhao & Zhang 2024, Figure 4 h.
    """
    require_problem(problem)
    m, n = problem.shape
    eps = real_number("eps", eps, above=0, because="at 0 the flow never leaves a saddle")
    if max_rank is None:
        max_rank = min(m, n)
    max_rank = whole_number("max_rank", max_rank, least=1, most=min(m, n))
    length = np.sqrt(eps / 2 * size_of_data(problem))
    A, B = np.zeros((m, 0)), np.zeros((0, n))
    points = [np.zeros((m, n))]
    runs: list[Trajectory] = []
    zeros: list[tuple[np.ndarray, np.ndarray]] = []
    reason = ""
    while not reason:
        reason = why_to_stop(problem, points[-1], runs, max_rank, loss_tol)
        if not reason:
            u, v, outside = escape_within_a_part(problem, A, B)
            A, B = np.column_stack([A, length * u]), np.vstack([B, length * v])
            zeros.append(outside)
            runs.append(
                gradient_flow(problem, (A, B), loss_tol=loss_tol, rtol=rtol, max_steps=max_steps)
            )
            A, B = (factor.copy() for factor in runs[-1].factors)
            for k, (rows, cols) in enumerate(zeros):
                A[rows, k], B[k, cols] = 0.0, 0.0
            points.append(A @ B)
    return greedy_path(points, runs, reason)


def why_to_stop(
    problem: Problem, W: np.ndarray, runs: list[Trajectory], max_rank: int, loss_tol: float
) -> str:
    """Why there is no further phase from W; empty if there is one."""
    if fits(problem, W, loss_tol):
        return trajectory.LOSS_REACHED
    if len(runs) == max_rank:
        return RANK_LIMIT
    if runs and runs[-1].reason != trajectory.STUCK:
        return str(runs[-1].reason)  # the phase did not end at a critical point
    return ""


def greedy_path(points: list[np.ndarray], runs: list[Trajectory], reason: str) -> GreedyPath:
    return GreedyPath(
        critical_points=tuple(points),
        W=points[-1],
        ranks=tuple(int(numerical_rank(W)) for W in points),
        trajectories=tuple(runs),
        converged=reason == trajectory.LOSS_REACHED,
        reason=reason,
    )


def escape_within_a_part(
    problem: Problem, A: np.ndarray, B: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The pair (u, v) along which the flow leaves, and the rows and columns that it leaves out.

    ∇f is made of the blocks of the components, so its top singular pair lives in one of them, and
    in exact arithmetic the new hidden column is zero elsewhere for ever. The singular vectors that
    a computer finds are not.
    """
    zero = np.zeros((len(A), 1)), np.zeros((1, B.shape[1]))
    u, v = escape_direction(problem, (A, B) if A.shape[1] else zero).direction
    rows, cols = max(problem.parts, key=lambda part: np.linalg.norm(u[part[0]]))
    outside = np.setdiff1d(np.arange(len(u)), rows), np.setdiff1d(np.arange(len(v)), cols)
    u, v = u.copy(), v.copy()
    u[outside[0]], v[outside[1]] = 0.0, 0.0
    return u / np.linalg.norm(u), v / np.linalg.norm(v), outside
