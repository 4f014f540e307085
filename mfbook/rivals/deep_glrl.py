"""Greedy low-rank learning with the layers of a deep model."""

from __future__ import annotations

import numpy as np

from mfbook.flow.balanced import flow_of_rank
from mfbook.flow.greedy_path import GreedyPath
from mfbook.flow.options import SMALLEST_RTOL_END_TO_END, limits_of
from mfbook.flow.trajectory import Trajectory
from mfbook.models import model_of, require_layers
from mfbook.problems.checks import real_number
from mfbook.problems.fit import LOSS_TOL, size_of_data
from mfbook.problems.protocols import Problem
from mfbook.rivals.glrl import escape_within_a_part, greedy_path, step_number


def deep_glrl(
    problem: Problem,
    depth: float,
    *,
    eps: float = 1e-7,
    max_rank: int | None = None,
    loss_tol: float = LOSS_TOL,
    rtol: float = 1e-6,
    max_steps: int = 10_000,
) -> GreedyPath:
    r"""Deep greedy low-rank learning: greedy phases of gradient flow on f(W_1 ⋯ W_N).

    Start with no hidden unit. In phase r let (u, v) be the top singular pair of −∇f(W_{r−1}), and
    give every layer one more hidden unit, of the size ε' = ε^{1/N}:

        W_1 ← [W_1, ε' u],    W_j ← [[W_j, 0], [0, ε']] (1 < j < N),    W_N ← [W_N; ε' vᵀ],

    so that W_{r−1} + ε u vᵀ is where the phase starts. Follow gradient flow of the layers, of
    hidden width r, until it stops at a critical point W_r. Stop when W_r is a global minimum.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    depth
        N ≥ 2, an integer or any real number.
    eps
        ε > 0, the size of what is added to W, in units of the data's size as `glrl` has it: its ε
        stands for 2 ε here, since the squared column √ε (u, v)/√2 adds (ε/2) u vᵀ.
    max_rank
        the last phase; min(m, n), which is always enough, if None.
    loss_tol, rtol, max_steps
        of each phase, as for `end_to_end_flow`.

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
        ε not positive, above 1e50, or so small that a plateau leaves double precision, a depth
        below 2, another option out of range.

    Notes
    -----
    All layers of a phase are balanced: the empty ones are, the flow keeps it, and u and v are
    orthogonal to the columns and rows of a critical point. So W moves by itself, and a phase is
    `end_to_end_flow` from W_{r−1} + ε u vᵀ. It never leaves the matrices of rank r, at any N.

    The paper writes W = W_1 ⋯ W_L for a symmetric problem, with u in the place of v. As printed,
    its loss is f(W_1 ⋯ W_L) in letters that are U_1 ⋯ U_L; the empty layers are d × 0, 0 × 0 and
    0 × d; and the descent of step η is the flow here.

    On disconnected data the rows and columns of the components that are still to come are zero in
    every layer, and stay so, for the new unit lies in one component. From depth 3 on that is *not*
    what the flow from a small random start does, however small: there the components share hidden
    units before the rank rises.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> path = deep_glrl(MatrixCompletion.from_text("1 ? 3; ? 5 ?; 3 ? 9"), 3)
    >>> path
    GreedyPath(loss reached, ranks 0 → 1 → 2)
    >>> np.abs(path.W.round(3)).tolist()
    [[1.0, 0.0, 3.0], [0.0, 5.0, 0.0], [3.0, 0.0, 9.0]]

    References
    ----------
    Li, Luo & Lyu 2021, Section 6, Algorithm 2.
    """
    require_layers(problem, "deep_glrl learns layers, W = W_1 W_2 ⋯,")
    m, n = problem.shape
    because = "infinite depth never turns the singular vectors that a phase is given"
    depth = real_number("depth", depth, least=2, because=because)
    eps = step_number(eps)
    options = limits_of(loss_tol, rtol, max_steps, smallest_rtol=SMALLEST_RTOL_END_TO_END)
    added = np.log(eps) + np.log(size_of_data(problem) or 1.0)
    U, log_sizes, V = np.zeros((m, 0)), np.zeros(0), np.zeros((n, 0))

    def phase(W: np.ndarray) -> tuple[Trajectory, np.ndarray]:
        nonlocal U, log_sizes, V
        (u, v), _ = escape_within_a_part(problem, model_of(problem), W)
        run, (U, log_sizes, V) = flow_of_rank(
            problem,
            depth,
            np.column_stack([_without(U, u), U]),
            np.append(added, log_sizes),
            np.column_stack([_without(V, v), V]),
            options,
        )
        return run, run.W

    return greedy_path(problem, phase, max_rank, options["loss_tol"])


def _without(base: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x without what it has of the columns of `base`: at a critical point rounding, and no more."""
    x = x - base @ (base.T @ x)
    return x / np.linalg.norm(x)
