"""Greedy low-rank learning: one rank at a time, each from the saddle that the last one reached."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.greedy_path import RANK_LIMIT, GreedyPath
from mfbook.flow.options import limits_of
from mfbook.flow.trajectory import Trajectory
from mfbook.models import Model, model_of
from mfbook.problems.checks import real_number, whole_number
from mfbook.problems.fit import LOSS_TOL, excess, fit_of, fits, gradient, size_of_data
from mfbook.problems.protocols import Problem
from mfbook.theory.measures import numerical_rank

# The largest ε: the flow takes fourth powers of what is appended, in units of the data.
LARGEST_EPS = 1e50


def glrl(
    problem: Problem,
    *,
    eps: float = 1e-7,
    max_rank: int | None = None,
    loss_tol: float = LOSS_TOL,
    rtol: float = 1e-6,
    max_steps: int = 50_000,
) -> GreedyPath:
    r"""Greedy low-rank learning (GLRL) with two factors, or with U Uᵀ for a symmetric problem.

    Start with no hidden column. In phase r let (u, v) be the top singular pair of −∇f(W_{r−1}),
    append the hidden column √(ε/2) (u, v) to [A; Bᵀ], and follow gradient flow on f(A B) with the
    r columns until it stops at a critical point W_r. Stop when W_r is a global minimum.

    For a symmetric problem append √ε v_1 to U, v_1 the top eigenvector of −∇f(W_{r−1}), and stop
    when λ_1(−∇f(W_r)) ≤ 0: then W_r is a minimum over the cone of positive semidefinite matrices,
    and may have a loss that no U removes.

    Parameters
    ----------
    problem
        a completion or sensing problem of shape (m, n).
    eps
        ε > 0, the squared length of the column that is appended, in units of the data's size: the
        step ‖∇f(0)‖₂/(2c max ‖X_l‖_F²) from 0 towards them, for matrix completion the largest
        singular value of the observed entries with zeros between them.
    max_rank
        the last phase; min(m, n), which is always enough, if None.
    loss_tol, rtol, max_steps
        of each phase's `gradient_flow`; loss_tol also says when λ_1 ≤ 0 (`gradient_flow`).

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
        ε not positive or above 1e50, or another option out of range.

    Notes
    -----
    The paper writes the algorithm for W = U Uᵀ. With two factors U = [A; Bᵀ], and the matrix whose
    top eigenvector is taken is [[0, −∇f], [−∇fᵀ, 0]]: the vector is (u, v)/√2. The paper takes
    gradient descent at step 1e-3 for up to 1e7 iterations a phase.

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
    model = model_of(problem)
    eps = step_number(eps)
    options = limits_of(loss_tol, rtol, max_steps)
    # [A; Bᵀ] as (A, Bᵀ), or U alone.
    pieces = list(model.tall(model.zeros(problem.shape, 0)))
    length = np.sqrt(eps / len(pieces)) * np.sqrt(size_of_data(problem))
    zeros: list[list[np.ndarray]] = []

    def phase(W: np.ndarray) -> tuple[Trajectory, np.ndarray]:
        nonlocal pieces
        direction, outside = escape_within_a_part(problem, model, W)
        sides = range(len(pieces))
        pieces = [np.column_stack([pieces[s], length * direction[s]]) for s in sides]
        zeros.append(outside)
        start = model.from_tall(pieces)
        run = gradient_flow(problem, start, **options)
        pieces = [piece.copy() for piece in model.tall(run.factors)]
        for k, outside in enumerate(zeros):
            for s in sides:
                pieces[s][outside[s], k] = 0.0
        return run, model.product(model.from_tall(pieces))

    return greedy_path(problem, phase, max_rank, options["loss_tol"])


def step_number(eps: float) -> float:
    """ε as a float, or what is wrong with it."""
    because = "it is the size of a small step, and at 0 the flow never leaves a saddle"
    return real_number("eps", eps, above=0, most=LARGEST_EPS, because=because)


def greedy_path(
    problem: Problem,
    phase: Callable[[np.ndarray], tuple[Trajectory, np.ndarray]],
    max_rank: int | None,
    loss_tol: float,
) -> GreedyPath:
    """Phase after phase, each a run from W and the W at its end, until there is reason to stop."""
    m, n = problem.shape
    max_rank = min(m, n) if max_rank is None else max_rank
    because = f"the matrices are {m}×{n}"
    max_rank = whole_number("max_rank", max_rank, least=1, most=min(m, n), because=because)
    runs: list[Trajectory] = []

    def followed(W: np.ndarray) -> tuple[np.ndarray, str]:
        run, W = phase(W)
        runs.append(run)
        # Any other reason than a rest: the phase did not end at a critical point.
        return W, "" if run.reason == trajectory.STUCK else str(run.reason)

    points, reason = phases_until_fit(problem, followed, max_rank, RANK_LIMIT, loss_tol)
    return path_of(points, reason, tuple(int(run.n_gradients) for run in runs), tuple(runs))


def phases_until_fit(
    problem: Problem,
    phase: Callable[[np.ndarray], tuple[np.ndarray, str]],
    most: int,
    limit: str,
    loss_tol: float,
) -> tuple[list[np.ndarray], str]:
    """W_0 = 0, W_1, … and why there is no further phase.

    A phase is given W_{r−1}, and returns W_r and why it is no point to go on from, or "". There are
    at most `most` of them, and `limit` is the reason if that is why it ends.
    """
    points = [np.zeros(problem.shape)]
    why = ""
    while not fits(problem, points[-1], loss_tol):
        if why or len(points) > most:
            return points, why or limit
        W, why = phase(points[-1])
        points.append(W)
    reached = excess(problem, points[-1]) <= fit_of(problem).threshold(loss_tol)
    return points, trajectory.LOSS_REACHED if reached else trajectory.LEAST_REACHED


def path_of(
    points: list[np.ndarray],
    reason: str,
    iterations: tuple[int, ...],
    runs: tuple[Trajectory, ...] = (),
) -> GreedyPath:
    """What was passed, with the ranks."""
    return GreedyPath(
        critical_points=tuple(points),
        W=points[-1],
        ranks=tuple(int(numerical_rank(W)) for W in points),
        trajectories=runs,
        converged=reason in trajectory.ARRIVED,
        reason=reason,
        iterations=iterations,
    )


def escape_within_a_part(
    problem: Problem, model: Model, W: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pair (u, v) along which the flow leaves W, and the rows and columns that it leaves out.

    ∇f is made of the blocks of the components, so its top singular pair lives in one of them, and
    in exact arithmetic the new hidden column is zero elsewhere for ever. The singular vectors that
    a computer finds are not.
    """
    _, (u, v) = model.escape(gradient(problem, W))
    sign = np.sign(u[np.argmax(np.abs(u))])
    pair = sign * u, sign * v
    part = max(problem.parts, key=lambda part: np.linalg.norm(pair[0][part[0]]))
    direction, outside = [], []
    for w, kept in zip(pair, part, strict=True):
        inside = np.zeros_like(w)
        inside[kept] = w[kept]
        direction.append(inside / np.linalg.norm(inside))
        outside.append(np.setdiff1d(np.arange(len(w)), kept))
    return direction, outside
