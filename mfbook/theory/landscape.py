r"""Where the flow stops, and how it leaves: critical points and their Hessians.

The gradient of ℓ(A, B) = f(A B) is (G Bᵀ, Aᵀ G) with G = ∇f(A B). For convex f and hidden width
h ≥ min(m, n) every critical point with G = 0 is a global minimum and every other a strict saddle
(Bai, Zhao & Zhang 2024, Theorem 1). From three factors on zero is a saddle that is not strict: its
Hessian is zero.

For a symmetric problem ℓ(U) = ½ f(U Uᵀ), whose gradient is G U. For convex f a critical point is a
global minimum exactly where G ⪰ 0, and for h ≥ d every other is a strict saddle (Li, Luo & Lyu
2021, Lemma A.2 and Theorem 5.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import Model, model_of, two_factors
from mfbook.problems.checks import real_number
from mfbook.problems.fit import excess, fits, gradient, require_size, size_of_data
from mfbook.problems.protocols import Problem, is_symmetric

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
        grows at twice that. For U Uᵀ it is λ_1(−G).
    direction
        (u, v), unit vectors of lengths m and n: W leaves along u vᵀ. The sign is such that the
        entry of u that is largest in absolute value is positive. For U Uᵀ, u = v.
    second_rate
        σ_2(G), the rate of the runner-up; 0 if there is none. For U Uᵀ it is λ_2(−G), which may be
        negative. The direction is determined only where it is smaller than `rate` (Bai et al. 2024,
        Assumption 1).

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> at_rank_one = ([[2**0.5, 0], [0, 0]], [[2**0.5, 0], [0, 0]])
    >>> escape = escape_direction(problem, at_rank_one)
    >>> round(escape.rate, 9), np.outer(*escape.direction).round(9).tolist()
    (1.0, [[0.0, 0.0], [0.0, 1.0]])
    """

    rate: float
    direction: tuple[np.ndarray, np.ndarray]
    second_rate: float


def relative_gradient(problem: Problem, factors: Sequence[ArrayLike]) -> float:
    r"""‖∇ℓ‖_F at the factors, in units of the problem: 0 at a critical point, else about 1.

    The unit is g s^(1−1/N) for N factors, g √s for two and for U Uᵀ. Here g = 2c √(Σ y_l² ‖X_l‖_F²)
    for the measurements ⟨X_l, W⟩ = y_l, with c the loss's weight of a squared residual; for matrix
    completion this is ‖∇f(0)‖_F. And s is the largest singular value of W, or of
    −∇f(0)/(2c max ‖X_l‖_F²), the step from 0 towards the data, if that is larger: factors of size
    s^(1/N) are what fits the data.

    The unit is our own: the papers ask for ∇ℓ = 0 only. Raises TypeError and ValueError for what
    are no factors of the problem, or so large that squares of their product or gradient leave
    double precision.

    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> relative_gradient(problem, ([[0], [0]], [[0, 0]]))
    0.0
    """
    model, arrays = _point(problem, factors)
    W = model.product(arrays)
    G = gradient(problem, W)
    # Without a dimension before anything is squared: data may be of size 1e150.
    unit, root = _gradient_unit(problem) or 1.0, _size(problem, W) ** (1 / model.degree(arrays))
    with np.errstate(over="ignore", invalid="ignore"):
        pulled = model.gradients([array / root for array in arrays], G / unit)
        norm = np.linalg.norm([np.linalg.norm(part) for part in pulled])
    return float(_in_range("gradient", np.array(norm)))


def _point(problem: Problem, factors: Sequence[ArrayLike]) -> tuple[Model, tuple[np.ndarray, ...]]:
    """The problem's model and one point of its landscape."""
    model = model_of(problem)
    arrays = model.one_run(problem, factors, "the landscape is that of")
    require_size(problem)
    with np.errstate(over="ignore", invalid="ignore"):
        W = model.product(arrays)
        _in_range("product", np.square(W))
        _in_range("measured product", np.sum(np.square(problem.measure(W))))
    return model, arrays


def _in_range(what: str, value: np.ndarray) -> np.ndarray:
    """The value, or that these factors are too large for it."""
    if not np.isfinite(value).all():
        raise ValueError(
            f"the factors must be such that squares of their {what} are numbers in double "
            "precision, which ends at 1e308, but are too large; give smaller ones, or balance "
            "them: (A c, B / c) has the product of (A, B)"
        )
    return value


def hessian(problem: Problem, factors: Sequence[ArrayLike], *, tol: float = CRITICAL) -> np.ndarray:
    r"""The Hessian of ℓ(W_1, …, W_N) = f(W_1 ⋯ W_N), or of ℓ(U) = ½ f(U Uᵀ), at a critical point.

    With G = ∇f(A B), the second derivative for two factors along (E, F) is

        ∇²ℓ[(E, F), (E, F)] = ∇²f[E B + A F, E B + A F] + 2 ⟨G, E F⟩.

    The first term is the papers' H⁽¹⁾, positive semidefinite; the second is H⁽²⁾. For N factors
    the first is ∇²f[D, D] with D = Σ_j W_1 ⋯ E_j ⋯ W_N, and the second is
    2 Σ_{j<k} ⟨G, W_1 ⋯ E_j ⋯ E_k ⋯ W_N⟩. For a symmetric problem it is, along E,

        ∇²ℓ[E, E] = ½ ∇²f[E Uᵀ + U Eᵀ, E Uᵀ + U Eᵀ] + ⟨G, E Eᵀ⟩.

    Parameters
    ----------
    problem
        a completion or sensing problem of shape (m, n).
    factors
        (A, B) of shapes (m, h), (h, n), or any number of them in product order; (U,) of shape
        (d, h) for a symmetric problem.
    tol
        the largest `relative_gradient` that counts as critical; `inf` gives the Hessian anywhere.

    Returns
    -------
    array
        (p, p), p = (m + n) h for two, for the parameters in the order of A row by row, then B row
        by row, and so on; p = d h for U row by row.

    Raises
    ------
    TypeError
        not a problem, factors that are no arrays of real numbers, a tol that is no number.
    ValueError
        a point that is not critical (the message says by how much), shapes that do not fit, or
        factors so large that squares of their product or of the Hessian leave double precision.

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
    model, arrays = _critical(problem, factors, tol)
    G = gradient(problem, model.product(arrays))
    with np.errstate(over="ignore", invalid="ignore"):
        seen = problem.measure(model.jacobian(arrays).T.reshape(-1, *problem.shape))
        H = 2 * model.share * problem.weight * (seen @ seen.T) + model.bend(arrays, G)
    return _in_range("Hessian", H)


def escape_direction(
    problem: Problem, factors: Sequence[ArrayLike], *, tol: float = CRITICAL
) -> Escape:
    r"""How gradient flow leaves a critical point, read off G = ∇f(A B) alone.

    The flow is dU/dt = S U with U = [A; Bᵀ] and S = [[0, −G], [−Gᵀ, 0]]. At a critical point
    S U = 0; what is added to U grows at the eigenvalues of S, the ± singular values of G, and
    soon lies along the top eigenvector (u, v)/√2, where −G v = σ_1 u. Hence W grows by a
    multiple of u vᵀ. For a symmetric problem S = −G, and u = v is its top eigenvector.

    Parameters
    ----------
    problem, tol
        as for `hessian`.
    factors
        (A, B).

    Raises
    ------
    TypeError
        as for `hessian`.
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
    if not is_symmetric(problem):
        otherwise = "with more, deep_limit tells when and along what zero and later rests are left"
        two_factors(problem, factors, "an escape at a rate is that of", otherwise)
    model, arrays = _critical(problem, factors, tol)
    if _is_minimum(problem, arrays, tol):
        raise ValueError(
            "the point is a global minimum, or so near to one that it is no saddle: the flow does "
            "not leave it, so there is no escape direction"
        )
    rates, (u, v) = model.escape(gradient(problem, model.product(arrays)))
    sign = np.sign(u[np.argmax(np.abs(u))])
    second = float(rates[1]) if len(rates) > 1 else 0.0
    return Escape(float(rates[0]), (sign * u, sign * v), second)


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

    For a symmetric problem a global minimum is one over all U Uᵀ, which may be unable to fit: then
    a critical point with λ_1(−G) ≤ 0 is one (Li, Luo & Lyu 2021, Lemma A.2), to within what is left
    of the gradient.

    Parameters
    ----------
    problem, factors, tol
        as for `hessian`.

    Raises
    ------
    TypeError
        not a problem, factors that are no arrays of real numbers, a tol that is no number.
    ValueError
        shapes that do not fit, numbers that are not finite, factors so large that squares of their
        product or of the Hessian leave double precision, a tol that is negative.

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

    References
    ----------
    Bai, Zhao & Zhang 2024, Theorem 1; Li, Luo & Lyu 2021, Lemma A.2.
    """
    model, arrays = _point(problem, factors)
    tol = real_number("tol", tol, least=0, infinite=True)
    if fits(problem, model.product(arrays)):
        return "global minimum"
    if relative_gradient(problem, arrays) > tol:
        return "not critical"
    if _is_minimum(problem, arrays, tol):
        return "global minimum"
    eigenvalues = np.linalg.eigvalsh(hessian(problem, arrays, tol=tol))
    noise = EIGENVALUE_NOISE * np.abs(eigenvalues).max()
    inner = [array.shape[1] for array in arrays[: max(len(arrays) - 1, 1)]]
    if len(arrays) > 2 or min(inner) < min(problem.shape):
        # Changes of the hidden basis have eigenvalue 0 at a critical point; what is left of the
        # gradient tilts them, by about this much, and must not pass for a way down.
        size = _size(problem, model.product(arrays))
        unit = _gradient_unit(problem) * size ** (1 - 2 / model.degree(arrays))
        noise += relative_gradient(problem, arrays) * unit
    return "strict saddle" if eigenvalues[0] < -noise else "second-order critical"


def _is_minimum(problem: Problem, arrays: tuple[np.ndarray, ...], tol: float) -> bool:
    """Whether the critical point at or beside these factors is a global minimum."""
    if _fits_beside(problem, arrays, tol):
        return True
    if not is_symmetric(problem):
        return False
    model = model_of(problem)
    rates, _ = model.escape(gradient(problem, model.product(arrays)))
    left = EIGENVALUE_NOISE + relative_gradient(problem, arrays)
    return bool(rates[0] <= left * _gradient_unit(problem))


def _fits_beside(problem: Problem, arrays: tuple[np.ndarray, ...], tol: float) -> bool:
    """Whether a fit lies within the distance that counts as the same point.

    Near one the residuals are those of a small step; near a saddle they are orthogonal to all that
    a step can change. So Gauss–Newton steps of least norm, bounded in length, either lead to a fit,
    or show that there is none.
    """
    model = model_of(problem)
    reach = min(tol, CRITICAL) * _size(problem, model.product(arrays)) ** (1 / model.degree(arrays))
    ends = np.cumsum([array.size for array in arrays])[:-1]
    moved, step = arrays, np.zeros(sum(array.size for array in arrays))
    before = np.inf
    for _ in range(STEPS):
        W = model.product(moved)
        if fits(problem, W):
            return True
        now = excess(problem, W)
        if not now < 0.9 * before:
            return False
        before = now
        residual = problem.measure(W) - problem.attainable
        seen = problem.measure(model.jacobian(moved).T.reshape(-1, *problem.shape)).T
        left, sizes, right = np.linalg.svd(seen, full_matrices=False)
        # What a step longer than the reach would be needed for stays.
        with np.errstate(all="ignore"):
            parts = np.where(sizes > 0, (left.T @ -residual) / sizes, 0.0)
        step = step + right.T @ np.where(np.abs(parts) <= reach, parts, 0.0)
        if np.linalg.norm(step) > reach:
            return False
        moved = tuple(
            array + part.reshape(array.shape)
            for array, part in zip(arrays, np.split(step, ends), strict=True)
        )
    return False


def _gradient_unit(problem: Problem) -> float:
    """2c √(Σ y_l² ‖X_l‖_F²): the size of ∇f(0), were no two of its terms to cancel."""
    terms = problem.targets * problem.sizes
    largest = float(np.abs(terms).max()) or 1.0
    return float(2 * problem.weight * largest * np.linalg.norm(terms / largest))


def _size(problem: Problem, W: np.ndarray) -> float:
    """The largest singular value of W, or the size of the data, if that is larger."""
    # Contradictory measurements may cancel in ∇f(0) up to rounding, which is then no size.
    least = 1e-9 * np.linalg.norm(problem.targets) / max(problem.sizes.max(), TINY)
    return max(float(np.linalg.norm(W, 2)), size_of_data(problem), float(least), TINY)


def _critical(
    problem: Problem, factors: Sequence[ArrayLike], tol: float
) -> tuple[Model, tuple[np.ndarray, ...]]:
    model, arrays = _point(problem, factors)
    tol = real_number("tol", tol, least=0, infinite=True)
    found = relative_gradient(problem, arrays)
    if found > tol:
        raise ValueError(
            f"the point is not critical: the gradient of the loss is {found:.2g} there in units of "
            f"the problem, where {tol:g} would pass; give a saddle, for example one of a "
            "trajectory's phases, or a larger tol"
        )
    return model, arrays
