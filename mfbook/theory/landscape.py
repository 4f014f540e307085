r"""Where the flow stops, and how it leaves: critical points of f(W_1 ⋯ W_N) and their Hessians.

The gradient of ℓ(A, B) = f(A B) is (G Bᵀ, Aᵀ G) with G = ∇f(A B). For convex f and hidden width
h ≥ min(m, n) every critical point with G = 0 is a global minimum and every other a strict saddle
(Bai, Zhao & Zhang 2024, Theorem 1). From three factors on zero is a saddle that is not strict: its
Hessian is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import factor_gradients, one_run, product, two_factors
from mfbook.problems.checks import real_number
from mfbook.problems.fit import excess, fits, gradient, size_of_data
from mfbook.problems.protocols import Problem

#: Where `relative_gradient` is at most this, a point counts as critical.
CRITICAL = 1e-3
# Steps that lead from a point to a global minimum beside it, if there is one.
STEPS = 20
# Eigenvalues of the Hessian come out of `eigvalsh` with an error of a few eps of the largest.
EIGENVALUE_NOISE = 1e-12
TINY = np.finfo(float).tiny


@dataclass(frozen=True, eq=False)
class Escape:
    """How the flow leaves a saddle.

    Attributes
    ----------
    rate
        λ_1 = σ_1(G), the rate per unit time at which the escaping column of [A; Bᵀ] grows; W
        grows at twice that.
    direction
        (u, v), unit vectors of lengths m and n: W leaves along u vᵀ. The sign is such that the
        entry of u that is largest in absolute value is positive.
    second_rate
        σ_2(G), the rate of the runner-up; 0 if there is none. The direction is determined only
        where it is smaller than `rate` (Bai et al. 2024, Assumption 1).
    """

    rate: float
    direction: tuple[np.ndarray, np.ndarray]
    second_rate: float


def relative_gradient(problem: Problem, factors: Sequence[ArrayLike]) -> float:
    r"""‖∇ℓ‖_F in units of the problem: 0 at a critical point, about 1 where nothing rests.

    The unit is g s^(1−1/N) for N factors, g √s for two. Here g = 2c √(Σ y_l² ‖X_l‖_F²) for the
    measurements ⟨X_l, W⟩ = y_l, with c the loss's weight of a squared residual; for matrix
    completion this is ‖∇f(0)‖_F. And s is the largest singular value of W, the product, or of
    −∇f(0)/(2c max ‖X_l‖_F²), the step from 0 towards the data, if that is larger: factors of size
    s^(1/N) are what fits the data.

    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> relative_gradient(problem, ([[0], [0]], [[0, 0]]))
    0.0
    """
    arrays = one_run(problem, factors, "the landscape is that of")
    W = product(arrays)
    # Without a dimension before anything is squared: data may be of size 1e150.
    unit, root = _gradient_unit(problem) or 1.0, _size(problem, W) ** (1 / len(arrays))
    gradients = factor_gradients([array / root for array in arrays], gradient(problem, W) / unit)
    return float(np.linalg.norm([np.linalg.norm(one) for one in gradients]))


def hessian(problem: Problem, factors: Sequence[ArrayLike], *, tol: float = CRITICAL) -> np.ndarray:
    r"""The Hessian of ℓ(W_1, …, W_N) = f(W_1 ⋯ W_N) at a critical point.

    With G = ∇f(A B), the second derivative for two factors along (E, F) is

        ∇²ℓ[(E, F), (E, F)] = ∇²f[E B + A F, E B + A F] + 2 ⟨G, E F⟩.

    The first term is the papers' H⁽¹⁾, positive semidefinite; the second is H⁽²⁾. For N factors
    the first is ∇²f[D, D] with D = Σ_j W_1 ⋯ E_j ⋯ W_N, and the second is
    2 Σ_{j<k} ⟨G, W_1 ⋯ E_j ⋯ E_k ⋯ W_N⟩.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    factors
        (A, B) of shapes (m, h), (h, n), or any number of them in product order.
    tol
        the largest `relative_gradient` that counts as critical; `inf` gives the Hessian anywhere.

    Returns
    -------
    array
        (p, p), p = (m + n) h for two, for the parameters in the order of A row by row, then B row
        by row, and so on.

    Raises
    ------
    ValueError
        a point that is not critical (the message says by how much), or shapes that do not fit.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> zero = np.zeros((2, 2))
    >>> np.linalg.eigvalsh(hessian(problem, (zero, zero))).round(3).tolist()
    [-2.0, -2.0, -1.0, -1.0, 1.0, 1.0, 2.0, 2.0]
    >>> hessian(problem, (zero, zero, zero)).any()
    np.False_

    References
    ----------
    Bai, Zhao & Zhang 2024, Sections A.3 and A.5.
    """
    arrays = _critical(problem, factors, tol)
    G = gradient(problem, product(arrays))
    seen = problem.measure(_changes(problem, arrays))
    H = 2 * problem.weight * (seen @ seen.T)
    ends = np.cumsum([0, *(array.size for array in arrays)])
    for k in range(len(arrays)):
        between = np.eye(arrays[k].shape[0])
        for j in range(k - 1, -1, -1):
            # W_1 ⋯ E_j (W_{j+1} ⋯ W_{k−1}) E_k ⋯ W_N: E_j[a, b] meets E_k[c, d].
            around = _head(arrays, j).T @ G @ _tail(arrays, k).T
            cross = np.einsum("ad,bc->abcd", around, between)
            cross = cross.reshape(arrays[j].size, arrays[k].size)
            H[ends[j] : ends[j + 1], ends[k] : ends[k + 1]] += cross
            H[ends[k] : ends[k + 1], ends[j] : ends[j + 1]] += cross.T
            between = arrays[j] @ between
    return H


def _head(arrays: Sequence[np.ndarray], j: int) -> np.ndarray:
    """W_1 ⋯ W_{j−1}, the product before the factor number j, counted from 0."""
    return product([np.eye(len(arrays[0])), *arrays[:j]])


def _tail(arrays: Sequence[np.ndarray], j: int) -> np.ndarray:
    """The product behind it."""
    return product([*arrays[j + 1 :], np.eye(arrays[-1].shape[1])])


def _changes(problem: Problem, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """(p, m, n): how W changes with every entry of every factor."""
    # W row by row changes by J (the changes of the factors row by row).
    J = [np.kron(_head(arrays, j), _tail(arrays, j).T) for j in range(len(arrays))]
    return np.concatenate(J, axis=1).T.reshape(-1, *problem.shape)


def escape_direction(
    problem: Problem, factors: Sequence[ArrayLike], *, tol: float = CRITICAL
) -> Escape:
    r"""How gradient flow leaves a critical point, read off G = ∇f(A B) alone.

    The flow is dU/dt = S U with U = [A; Bᵀ] and S = [[0, −G], [−Gᵀ, 0]]. At a critical point
    S U = 0; what is added to U grows at the eigenvalues of S, the ± singular values of G, and
    soon lies along the top eigenvector (u, v)/√2, where −G v = σ_1 u. Hence W grows by a
    multiple of u vᵀ.

    Parameters
    ----------
    problem, tol
        as for `hessian`.
    factors
        (A, B).

    Raises
    ------
    ValueError
        a point that is not critical (the message says by how much), or a global minimum, which
        the flow does not leave; another number of factors: from three on what is small grows by
        powers of itself, and has no rate.

    Notes
    -----
    In disconnected data the components share no row or column, and which of them the flow leaves
    first also depends on how far each has already grown. The answer here is that for a
    perturbation of one size in all directions; `Phase.direction` of a trajectory says which
    component left.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> escape = escape_direction(problem, (np.zeros((2, 2)), np.zeros((2, 2))))
    >>> escape.rate, escape.second_rate, np.outer(*escape.direction).round(9).tolist()
    (2.0, 1.0, [[1.0, 0.0], [0.0, 0.0]])

    References
    ----------
    Bai, Zhao & Zhang 2024, Theorem 2 with Lemma A.3; Li, Luo & Lyu 2021, Theorem 5.11.
    """
    A, B = two_factors(problem, factors, "an escape at a rate is that of")
    _critical(problem, (A, B), tol)
    if _is_minimum(problem, (A, B), tol):
        raise ValueError(
            "the point is a global minimum, or so near to one that it is no saddle: the flow does "
            "not leave it, so there is no escape direction"
        )
    left, s, right = np.linalg.svd(-gradient(problem, A @ B))
    u, v = left[:, 0], right[0]
    sign = np.sign(u[np.argmax(np.abs(u))])
    return Escape(float(s[0]), (sign * u, sign * v), float(s[1]) if len(s) > 1 else 0.0)


def critical_point_kind(
    problem: Problem, factors: Sequence[ArrayLike], *, tol: float = CRITICAL
) -> str:
    r"""Classify a point: "global minimum", "strict saddle" or "not critical".

    A point where ∇f(A B) = 0 is a global minimum, because f is convex. A point at which the flows
    stop by default (f − min f at most 1e-10 of f(0) − min f) counts as one, and so does a critical
    one, to within `tol`, from which Gauss–Newton steps lead to a global minimum at a distance of at
    most tol √s, with the s of `relative_gradient`: most of what is left of the residuals is then
    explained by the small step, and at a saddle none of it is. Another critical point is a strict
    saddle if its Hessian has a negative eigenvalue. If h ≥ min(m, n) there is no third kind of
    critical point (Bai et al. 2024, Theorem 1). A narrower width allows one, which is
    "second-order critical": G ≠ 0, and the Hessian has no negative eigenvalue. So do three factors
    and more, at any width: zero is one.

    Parameters
    ----------
    problem, factors, tol
        as for `hessian`.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> critical_point_kind(problem, (np.zeros((2, 2)), np.zeros((2, 2))))
    'strict saddle'
    >>> critical_point_kind(problem, ([[1, 0], [3, 0]], [[1, 2], [0, 0]]))
    'global minimum'
    >>> critical_point_kind(problem, ([[1, 0], [1, 0]], [[1, 1], [0, 0]]))
    'not critical'
    """
    arrays = one_run(problem, factors, "the landscape is that of")
    tol = real_number("tol", tol, least=0, infinite=True)
    if fits(problem, product(arrays)):
        return "global minimum"
    if relative_gradient(problem, arrays) > tol:
        return "not critical"
    if _is_minimum(problem, arrays, tol):
        return "global minimum"
    eigenvalues = np.linalg.eigvalsh(hessian(problem, arrays, tol=tol))
    noise = EIGENVALUE_NOISE * np.abs(eigenvalues).max()
    if len(arrays) > 2 or min(array.shape[1] for array in arrays[:-1]) < min(problem.shape):
        # Changes of the hidden basis have eigenvalue 0 at a critical point; what is left of the
        # gradient tilts them, by about this much, and must not pass for a way down.
        unit = _gradient_unit(problem) * _size(problem, product(arrays)) ** (1 - 2 / len(arrays))
        noise += relative_gradient(problem, arrays) * unit
    return "strict saddle" if eigenvalues[0] < -noise else "second-order critical"


def _is_minimum(problem: Problem, arrays: Sequence[np.ndarray], tol: float) -> bool:
    """Whether the critical point at or beside the factors is a global minimum.

    Near a minimum the residuals are those of a small step; near a saddle they are orthogonal to
    all that a step can change. So Gauss–Newton steps of least norm, bounded in length, either lead
    to a fit within the distance that counts as the same point, or show that there is none.
    """
    reach = min(tol, CRITICAL) * _size(problem, product(arrays)) ** (1 / len(arrays))
    ends = np.cumsum([array.size for array in arrays])[:-1]
    moved, step = list(arrays), np.zeros(sum(array.size for array in arrays))
    before = np.inf
    for _ in range(STEPS):
        W = product(moved)
        if fits(problem, W):
            return True
        now = excess(problem, W)
        if not now < 0.9 * before:
            return False
        before = now
        residual = problem.measure(W) - problem.attainable
        seen = problem.measure(_changes(problem, moved)).T
        left, sizes, right = np.linalg.svd(seen, full_matrices=False)
        # What a step longer than the reach would be needed for stays.
        with np.errstate(all="ignore"):
            parts = np.where(sizes > 0, (left.T @ -residual) / sizes, 0.0)
        step = step + right.T @ np.where(np.abs(parts) <= reach, parts, 0.0)
        if np.linalg.norm(step) > reach:
            return False
        moved = [
            array + part.reshape(array.shape)
            for array, part in zip(arrays, np.split(step, ends), strict=True)
        ]
    return False


def _gradient_unit(problem: Problem) -> float:
    """2c √(Σ y_l² ‖X_l‖_F²): the size of ∇f(0), were no two of its terms to cancel."""
    return float(2 * problem.weight * np.linalg.norm(problem.targets * problem.sizes))


def _size(problem: Problem, W: np.ndarray) -> float:
    """The largest singular value of W, or the size of the data, if that is larger."""
    # Contradictory measurements may cancel in ∇f(0) up to rounding, which is then no size.
    least = 1e-9 * np.linalg.norm(problem.targets) / max(problem.sizes.max(), TINY)
    return max(float(np.linalg.norm(W, 2)), size_of_data(problem), float(least), TINY)


def _critical(problem: Problem, factors: Sequence[ArrayLike], tol: float) -> tuple[np.ndarray, ...]:
    arrays = one_run(problem, factors, "the landscape is that of")
    tol = real_number("tol", tol, least=0, infinite=True)
    found = relative_gradient(problem, arrays)
    if found > tol:
        raise ValueError(
            f"the point is not critical: the gradient of the loss is {found:.2g} there in units of "
            f"the problem, where {tol:g} would pass; give a saddle, for example one of a "
            "trajectory's phases, or a larger tol"
        )
    return arrays
