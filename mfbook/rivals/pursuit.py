"""Greedy pursuit: a rank-one matrix at a time, which stays as it is; only weights are refitted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfbook.flow.greedy_path import ATOM_LIMIT, GreedyPath
from mfbook.models import model_of
from mfbook.problems.checks import flag, real_number, require_problem, whole_number
from mfbook.problems.fit import LOSS_TOL
from mfbook.problems.protocols import Problem, is_symmetric
from mfbook.rivals.glrl import escape_within_a_part, path_of, phases_until_fit

# Directions of a span whose measurements are smaller than the largest by this factor are not
# fitted: they cannot be told from rounding.
NOT_MEASURED = 1e-11

# A new singular vector enlarges a span if it has more than this outside of it. What is left out
# changes W by as little, and what remained of a vector within rounding would be a random one.
NEW = 1e-8


def rank_one_matrix_pursuit(
    problem: Problem, rank: int, *, economic: bool = False, loss_tol: float = LOSS_TOL
) -> GreedyPath:
    r"""Orthogonal rank-one matrix pursuit (R1MP): atoms u vᵀ, and least squares for their weights.

    In step k let (u_k, v_k) be the top singular pair of −∇f(W_{k−1}), for completion that of the
    observed residual with zeros elsewhere, and

        W_k = Σ_{i ≤ k} θ_i u_i v_iᵀ,    θ = argmin f(Σ_{i ≤ k} θ_i u_i v_iᵀ).

    The economic form keeps the proportions of the earlier weights:

        W_k = α W_{k−1} + β u_k v_kᵀ,    (α, β) = argmin f(α W_{k−1} + β u_k v_kᵀ).

    For a symmetric problem u_k = v_k is the top eigenvector of −∇f(W_{k−1}), as Li et al. have it.
    The weights may be negative, so that W_k may leave the cone of positive semidefinite matrices.

    Parameters
    ----------
    problem
        a completion or sensing problem of shape (m, n).
    rank
        the number of steps, ≥ 1. W has at most this rank, and at most min(m, n).
    economic
        whether only two weights are fitted in each step.
    loss_tol
        stop before that where f(W) − min f is this share of f(0) − min f.

    Returns
    -------
    GreedyPath
        W_0 = 0, W_1, … as `critical_points`: for pursuit with all weights, points that no change
        of the weights improves. `converged` says that the last one fits.

    Raises
    ------
    TypeError
        no problem, a rank that is no integer, an economic that is not True or False.
    ValueError
        rank below 1, a loss_tol that is negative.

    Notes
    -----
    With all weights, the residual is orthogonal to all atoms so far, as they are measured, and the
    next one is not: the measured atoms are independent, and after as many steps as there are
    measurements, if not before, W fits. For completion both forms lower the loss in each step by
    at least σ_1(R)² / ‖R‖_F² of it, R the residual, which is 1/min(m, n) or more.

    The atoms are taken from a full singular value decomposition; Wang et al. compute the top pair
    alone, by the power method. Where singular values are tied, the atom is not determined.

    See also `geco`, which fits a whole block of weights; `glrl`, whose atoms move as well;
    `alternating_least_squares`.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("1 2; 2 ?")
    >>> path = rank_one_matrix_pursuit(problem, 3)
    >>> path
    GreedyPath(loss reached, ranks 0 → 1 → 2)
    >>> path.W.round(3).tolist()
    [[1.0, 2.0], [2.0, 0.967]]

    References
    ----------
    Wang, Lai, Lu, Fan, Davulcu & Ye 2015, Algorithms 1 and 2; Li, Luo & Lyu 2021, Section 5.
    """
    economic = flag("economic", economic)
    atoms: list[np.ndarray] = []
    measured: list[np.ndarray] = []

    def all_weights(W: np.ndarray, atom: np.ndarray) -> np.ndarray:
        atoms.append(atom)
        measured.append(problem.measure(atom))
        return np.tensordot(weights(problem, np.array(measured)), np.array(atoms), axes=1)

    def two_weights(W: np.ndarray, atom: np.ndarray) -> np.ndarray:
        alpha, beta = weights(problem, problem.measure(np.array([W, atom])))
        return alpha * W + beta * atom

    def added(W: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (two_weights if economic else all_weights)(W, np.outer(u, v))

    return pursuit(problem, rank, loss_tol, added)


def geco(problem: Problem, rank: int, *, loss_tol: float = LOSS_TOL) -> GreedyPath:
    r"""Greedy efficient component optimization (GECO): least squares over the span of all pairs.

    In step k let (u_k, v_k) be the top singular pair of −∇f(W_{k−1}), and

        W_k = U Z Vᵀ,    Z = argmin_{Z ∈ ℝ^{k×k}} f(U Z Vᵀ),    U = [u_1 … u_k],  V = [v_1 … v_k].

    Where the measurements leave Z open, W_k is the solution of least Frobenius norm. For a
    symmetric problem u_k = v_k is the top eigenvector of −∇f(W_{k−1}), Z is symmetric, and W_k may
    leave the cone of positive semidefinite matrices.

    Parameters
    ----------
    problem
        a completion or sensing problem of shape (m, n).
    rank
        the number of steps, ≥ 1. W has at most this rank, and at most min(m, n).
    loss_tol
        stop before that where f(W) − min f is this share of f(0) − min f.

    Returns
    -------
    GreedyPath
        W_0 = 0, W_1, … as `critical_points`: minima of f over the span, where Uᵀ ∇f(W) V = 0.
        `converged` says that the last one fits.

    Raises
    ------
    TypeError
        no problem, a rank that is no integer.
    ValueError
        rank below 1, a loss_tol that is negative.

    Notes
    -----
    As Uᵀ ∇f(W) V = 0, a new pair lies outside of one of the two spans, so that W fits after at most
    m + n − 1 steps. The design matrix has k² columns, and a row a measurement.

    Li et al. cite another paper for it (Shalev-Shwartz & Singer 2010, which is about boosting).

    See also `rank_one_matrix_pursuit`, which fits the weights of the pairs (u_i, v_i) only; `glrl`,
    where the spans move as well.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> path = geco(MatrixCompletion.from_text("1 2; 2 ?"), 3)
    >>> path
    GreedyPath(loss reached, ranks 0 → 1 → 2)
    >>> (path.W.round(3) + 0).tolist()
    [[1.0, 2.0], [2.0, 0.0]]

    References
    ----------
    Shalev-Shwartz, Gonen & Shamir 2011, Algorithm 1; Li, Luo & Lyu 2021, Section 5.
    """
    require_problem(problem)
    U, V = (np.zeros((size, 0)) for size in problem.shape)

    def added(W: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        nonlocal U, V
        U, V = enlarged(U, u), enlarged(V, v)
        # The products of all columns of U and V, one after another.
        span = np.einsum("ia,jb->abij", U, V)
        measured = problem.measure(span).reshape(U.shape[1] * V.shape[1], -1)
        size = np.linalg.norm(measured) or 1.0
        Z = np.linalg.lstsq(measured.T / size, problem.targets, rcond=NOT_MEASURED)[0] / size
        W = U @ Z.reshape(U.shape[1], V.shape[1]) @ V.T
        return (W + W.T) / 2 if is_symmetric(problem) else W

    return pursuit(problem, rank, loss_tol, added)


def pursuit(
    problem: Problem,
    rank: int,
    loss_tol: float,
    added: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> GreedyPath:
    """W_0 = 0, W_1, …, where W_k = added(W_{k−1}, u, v) for the top pair of −∇f(W_{k−1})."""
    require_problem(problem)
    rank = whole_number("rank", rank, least=1, because="without an atom W is 0")
    loss_tol = real_number("loss_tol", loss_tol, least=0)
    model = model_of(problem)

    def phase(W: np.ndarray) -> tuple[np.ndarray, str]:
        (u, v), _ = escape_within_a_part(problem, model, W)
        return added(W, u, v), ""

    points, reason = phases_until_fit(problem, phase, rank, ATOM_LIMIT, loss_tol)
    return path_of(points, reason, (1,) * (len(points) - 1))


def weights(problem: Problem, measured: np.ndarray) -> np.ndarray:
    """θ = argmin ‖Σ θ_i x_i − y‖ for the rows x_i of `measured`, whatever their sizes."""
    sizes = np.linalg.norm(measured, axis=1)
    sizes[sizes == 0] = 1.0
    columns = (measured / sizes[:, None]).T
    return np.linalg.lstsq(columns, problem.targets, rcond=NOT_MEASURED)[0] / sizes


def enlarged(base: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The orthonormal columns of `base`, and what the unit vector x has besides, if anything."""
    # Twice, so that it is orthogonal to rounding.
    rest = x - base @ (base.T @ x)
    rest = rest - base @ (base.T @ rest)
    size = np.linalg.norm(rest)
    return np.column_stack([base, rest / size]) if size > NEW else base
