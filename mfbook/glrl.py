"""Greedy low-rank learning: one rank at a time, each from the saddle that the last one reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfbook import trajectory
from mfbook.flow import gradient_flow
from mfbook.landscape import LOSS_TOL, escape_direction, fits
from mfbook.measures import numerical_rank
from mfbook.trajectory import Trajectory


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
        why it stopped, in words.
    """

    critical_points: tuple[np.ndarray, ...]
    W: np.ndarray
    ranks: tuple[int, ...]
    trajectories: tuple[Trajectory, ...]
    converged: bool
    reason: str

    def __repr__(self) -> str:
        return f"GreedyPath({self.reason}, ranks {' → '.join(map(str, self.ranks))})"


def glrl(
    problem,
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
        ε > 0, the squared length of the column that is appended.
    max_rank
        the last phase; min(m, n), which is always enough, if None.
    loss_tol, rtol, max_steps
        of each phase's `gradient_flow`.

    Returns
    -------
    GreedyPath

    Raises
    ------
    ValueError
        ε not positive, or a max_rank out of range.

    Notes
    -----
    The paper writes the algorithm for W = U Uᵀ, where the column is √ε times the top eigenvector
    of −∇f. Here U = [A; Bᵀ] and that matrix is [[0, −∇f], [−∇fᵀ, 0]], whose top eigenvector is
    (u, v)/√2. The paper takes gradient descent at step 1e-3 for up to 1e7 iterations a phase.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> path = glrl(MatrixCompletion.from_text("1 ? 3; ? 5 ?; 3 ? 9"))
    >>> path
    GreedyPath(loss reached, ranks 0 → 1 → 2)
    >>> np.abs(path.W.round(4)).tolist()
    [[1.0, 0.0, 3.0], [0.0, 5.0, 0.0], [3.0, 0.0, 9.0]]

    References
    ----------
    Li, Luo & Lyu 2021, Algorithm 1 and Definition 5.1; Bai, Zhao & Zhang 2024, Figure 4 h.
    """
    m, n = problem.shape
    if not eps > 0:
        raise ValueError(f"eps must be positive, but is {eps}: at 0 the flow never leaves a saddle")
    if max_rank is None:
        max_rank = min(m, n)
    if not 1 <= max_rank <= min(m, n):
        raise ValueError(f"max_rank must be between 1 and {min(m, n)}, but is {max_rank}")
    A, B = np.zeros((m, 0)), np.zeros((0, n))
    points, runs = [np.zeros((m, n))], []
    reason = ""
    while not reason:
        if fits(problem, points[-1], loss_tol):
            reason = trajectory.LOSS_REACHED
        elif len(runs) == max_rank:
            reason = "rank limit"
        elif runs and runs[-1].reason != trajectory.STUCK:
            reason = runs[-1].reason  # the phase did not end at a critical point
        else:
            A, B = _with_column(problem, A, B, eps)
            runs.append(
                gradient_flow(problem, (A, B), loss_tol=loss_tol, rtol=rtol, max_steps=max_steps)
            )
            A, B = runs[-1].factors
            points.append(runs[-1].W)
    return GreedyPath(
        critical_points=tuple(points),
        W=points[-1],
        ranks=tuple(numerical_rank(W) for W in points),
        trajectories=tuple(runs),
        converged=reason == trajectory.LOSS_REACHED,
        reason=reason,
    )


def _with_column(problem, A, B, eps):
    """The factors with the column appended along which the flow leaves."""
    zero = np.zeros((len(A), 1)), np.zeros((1, B.shape[1]))
    here = (A, B) if A.shape[1] else zero
    u, v = escape_direction(problem, here).direction
    size = np.sqrt(eps / 2)
    return np.column_stack([A, size * u]), np.vstack([B, size * v])
