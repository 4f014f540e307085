"""Alternating least squares with a rank that grows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfbook.flow.greedy_path import RANK_LIMIT, GreedyPath
from mfbook.models import model_of, require_layers
from mfbook.problems.checks import real_number, whole_number
from mfbook.problems.fit import LOSS_TOL, excess, fit_of, size_of_data
from mfbook.problems.protocols import EntryProblem, Problem, reads_entries
from mfbook.rivals.glrl import escape_within_a_part, path_of, phases_until_fit

# A direction in which the fixed factor is this much smaller than its norm is taken for zero. The
# factors are balanced, so that in W it is the square of this, which is the rounding of the data.
ZERO = 1e-8

#: A factor A (m, r) and the fixed B (r, n) → the A' nearest to A that minimizes f(A' B).
Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]


def alternating_least_squares(
    problem: Problem,
    rank: int | None = None,
    *,
    loss_tol: float = LOSS_TOL,
    rest_tol: float = 1e-9,
    max_sweeps: int = 10_000,
) -> GreedyPath:
    r"""Rank-increasing alternating least squares: greedy low-rank learning without the flow.

    In phase r let (u, v) be the top singular pair of −∇f(W_{r−1}). Append the row vᵀ to B and a
    column of zeros to A, and repeat

        A ← argmin_A f(A B),    B ← argmin_B f(A B),

    until the loss comes to rest, or max_sweeps times, as far as W_r = A B. Stop when W_r is a
    global minimum.

    Each is a linear least-squares problem, for completion one a row of A, or a column of B. Where
    it leaves something open, the minimizer nearest to the present factor is taken. Between them
    the factors are balanced: A B = L Σ Rᵀ becomes (L Σ^{1/2}) (Σ^{1/2} Rᵀ).

    Parameters
    ----------
    problem
        a completion or sensing problem of shape (m, n) with two factors.
    rank
        the last phase; min(m, n), which is always enough, if None.
    loss_tol
        stop where f(W) − min f is this share of f(0) − min f.
    rest_tol
        a phase is at rest where f − min f will fall by at most this share of it, if its falls
        shrink on by the larger of their last two ratios.
    max_sweeps
        of each phase, a sweep being one over A and one over B.

    Returns
    -------
    GreedyPath
        W_0 = 0, W_1, … as `critical_points`, as near to critical points as `rest_tol` brings them,
        where `iterations`, the sweeps of each phase, stay below max_sweeps. `converged` says that
        the last one fits.

    Raises
    ------
    TypeError
        no problem, options that are no numbers.
    ValueError
        a symmetric problem (U Uᵀ is not linear in a factor: make a `MatrixCompletion` of its data),
        a rank or an option out of range.

    Notes
    -----
    The size of the row that is appended does not matter where the data determine the rows of A, as
    the least loss depends on the span of the rows of B only: there is no ε as in `glrl`. Like it,
    it may run to infinity where no matrix of rank r is best; the loss then falls ever more slowly,
    and max_sweeps ends the phase.

    A sweep of completion decomposes m matrices of shape (n, r) and n of shape (m, r); for sensing
    one of shape (k, m r) and one of shape (k, n r).

    See also `glrl`, where (A, B) flow; `rank_one_matrix_pursuit` and `geco`, which are cheaper.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> path = alternating_least_squares(MatrixCompletion.from_text("1 2; 3 ?"))
    >>> path
    GreedyPath(loss reached, ranks 0 → 1)
    >>> path.W.round(2).tolist()
    [[1.0, 2.0], [3.0, 6.0]]

    References
    ----------
    The iteration for factors of a fixed rank is standard (Jain, Netrapalli & Sanghavi 2013 for its
    theory); the growing rank is that of Li, Luo & Lyu 2021, Algorithm 1.
    """
    require_layers(problem, "alternating_least_squares solves for one of two factors, W = A B,")
    m, n = problem.shape
    rank = min(m, n) if rank is None else rank
    rank = whole_number("rank", rank, least=1, most=min(m, n))
    loss_tol = real_number("loss_tol", loss_tol, least=0)
    rest_tol = real_number("rest_tol", rest_tol, least=0)
    max_sweeps = whole_number("max_sweeps", max_sweeps, least=1)
    enough = fit_of(problem).threshold(loss_tol)
    model, size = model_of(problem), np.sqrt(size_of_data(problem))
    left, right = _by_rows(problem) if reads_entries(problem) else _by_measurements(problem)
    A, B = model.zeros(problem.shape, 0)
    sweeps: list[int] = []

    def phase(W: np.ndarray) -> tuple[np.ndarray, str]:
        nonlocal A, B
        (_, v), _ = escape_within_a_part(problem, model, W)
        A, B = np.column_stack([A, np.zeros(m)]), np.vstack([B, size * v])
        loss, fall, ratio = excess(problem, W), np.nan, np.nan
        sweeps.append(0)
        while sweeps[-1] < max_sweeps:
            sweeps[-1] += 1
            A, B = _balanced(left(A, B), B)
            A, B = _balanced(A, right(B.T, A.T).T)
            loss, last = excess(problem, A @ B), (loss, fall, ratio)
            fall = last[0] - loss
            ratio = fall / last[1]
            # Of the last two, as the first sweep of a phase falls by more than any slow one.
            q = np.maximum(ratio, last[2])
            if loss <= enough or fall <= 0 or fall * q <= rest_tol * loss * (1 - q):
                break
        return A @ B, ""

    points, reason = phases_until_fit(problem, phase, rank, RANK_LIMIT, loss_tol)
    return path_of(points, reason, tuple(sweeps))


def _balanced(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors of A B with AᵀA = BBᵀ."""
    Q, R = np.linalg.qr(A)
    P, S = np.linalg.qr(B.T)
    left, sizes, right = np.linalg.svd(R @ S.T)
    root = np.sqrt(sizes)
    return Q @ left * root, root[:, None] * (right @ P.T)


def _by_rows(problem: EntryProblem) -> tuple[Solve, Solve]:
    """Each row of a factor from the observed entries of its row of W; the same for columns."""

    def of(values: np.ndarray, mask: np.ndarray) -> Solve:
        values, seen = np.where(mask, values, 0.0), mask[:, None, :].astype(float)

        def solve(A: np.ndarray, B: np.ndarray) -> np.ndarray:
            missing = values - mask * (A @ B)
            left, sizes, right = np.linalg.svd(seen * B, full_matrices=False)
            # Against all of B: in the columns of a component without a hidden direction so far
            # there is nothing but rounding.
            kept = sizes > ZERO * np.linalg.norm(B, 2)
            inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=kept)
            along = inverse * np.einsum("ij,isj->is", missing, right)
            return A + np.einsum("is,ias->ia", along, left)

        return solve

    return of(problem.values, problem.mask), of(problem.values.T, problem.mask.T)


def _by_measurements(problem: Problem) -> tuple[Solve, Solve]:
    """A factor from all measurements at once."""
    size = float(problem.sizes.max()) or 1.0

    def of(measure: Callable[[np.ndarray], np.ndarray]) -> Solve:
        def solve(A: np.ndarray, B: np.ndarray) -> np.ndarray:
            # What one entry of A measures, one after another.
            alone = np.einsum("ik,aj->iakj", np.eye(len(A)), B).reshape(A.size, len(A), -1)
            design = measure(alone).T / size
            missing = (problem.targets - measure(A @ B)) / size
            return A + np.linalg.lstsq(design, missing, rcond=ZERO)[0].reshape(A.shape)

        return solve

    return of(problem.measure), of(lambda W: problem.measure(np.swapaxes(W, -1, -2)))
