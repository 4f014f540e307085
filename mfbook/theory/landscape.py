r"""Where the flow stops, and how it leaves: critical points of f(A B) and their Hessians.

The gradient of ℓ(A, B) = f(A B) is (G Bᵀ, Aᵀ G) with G = ∇f(A B). For convex f and hidden width
h ≥ min(m, n) every critical point with G = 0 is a global minimum and every other a strict saddle
(Bai, Zhao & Zhang 2024, Theorem 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import two_factors
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
    r"""‖∇ℓ(A, B)‖_F in units of the problem: 0 at a critical point, about 1 where nothing rests.

    The unit is g √s. Here g = 2c √(Σ y_l² ‖X_l‖_F²) for the measurements ⟨X_l, W⟩ = y_l, with c
    the loss's weight of a squared residual; for matrix completion this is ‖∇f(0)‖_F. And s is the
    largest singular value of W = A B, or of −∇f(0)/(2c max ‖X_l‖_F²), the step from 0 towards the
    data, if that is larger: factors of size √s are what fits the data.

    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> relative_gradient(problem, ([[0], [0]], [[0, 0]]))
    0.0
    """
    A, B = two_factors(problem, factors, "the landscape is that of")
    W = A @ B
    G = gradient(problem, W)
    # Without a dimension before anything is squared: data may be of size 1e150.
    unit, root = _gradient_unit(problem) or 1.0, np.sqrt(_size(problem, W))
    G, A, B = G / unit, A / root, B / root
    return float(np.hypot(np.linalg.norm(G @ B.T), np.linalg.norm(A.T @ G)))


def hessian(problem: Problem, factors: Sequence[ArrayLike], *, tol: float = CRITICAL) -> np.ndarray:
    r"""The Hessian of ℓ(A, B) = f(A B) at a critical point.

    With G = ∇f(A B), the second derivative along (E, F) is

        ∇²ℓ[(E, F), (E, F)] = ∇²f[E B + A F, E B + A F] + 2 ⟨G, E F⟩.

    The first term is the papers' H⁽¹⁾, positive semidefinite; the second is H⁽²⁾.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    factors
        (A, B) of shapes (m, h), (h, n).
    tol
        the largest `relative_gradient` that counts as critical; `inf` gives the Hessian anywhere.

    Returns
    -------
    array
        (p, p), p = (m + n) h, for the parameters in the order of A row by row, then B row by row.

    Raises
    ------
    ValueError
        a point that is not critical (the message says by how much), or shapes that do not fit.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> zero = np.zeros((2, 2)), np.zeros((2, 2))
    >>> np.linalg.eigvalsh(hessian(problem, zero)).round(3).tolist()
    [-2.0, -2.0, -1.0, -1.0, 1.0, 1.0, 2.0, 2.0]

    References
    ----------
    Bai, Zhao & Zhang 2024, Sections A.3 and A.5.
    """
    A, B = _critical(problem, factors, tol)
    (m, h), n = A.shape, B.shape[1]
    G = gradient(problem, A @ B)
    # W row by row changes by J (dA row by row, dB row by row).
    J = np.concatenate([np.kron(np.eye(m), B.T), np.kron(A, np.eye(n))], axis=1)
    seen = problem.measure(J.T.reshape(-1, m, n))
    H = 2 * problem.weight * (seen @ seen.T)
    # A[i, l] meets B[l, j] in G[i, j].
    cross = np.einsum("ij,lk->ilkj", G, np.eye(h)).reshape(m * h, h * n)
    H[: m * h, m * h :] += cross
    H[m * h :, : m * h] += cross.T
    return H


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
    problem, factors, tol
        as for `hessian`.

    Raises
    ------
    ValueError
        a point that is not critical (the message says by how much), or a global minimum, which
        the flow does not leave.

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
    A, B = _critical(problem, factors, tol)
    if _is_minimum(problem, A, B, tol):
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
    "second-order critical": G ≠ 0, and the Hessian has no negative eigenvalue.

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
    A, B = two_factors(problem, factors, "the landscape is that of")
    tol = real_number("tol", tol, least=0, infinite=True)
    if fits(problem, A @ B):
        return "global minimum"
    if relative_gradient(problem, (A, B)) > tol:
        return "not critical"
    if _is_minimum(problem, A, B, tol):
        return "global minimum"
    eigenvalues = np.linalg.eigvalsh(hessian(problem, (A, B), tol=tol))
    noise = EIGENVALUE_NOISE * np.abs(eigenvalues).max()
    if A.shape[1] < min(problem.shape):
        # Changes of the hidden basis have eigenvalue 0 at a critical point; what is left of the
        # gradient tilts them, by about this much, and must not pass for a way down.
        noise += relative_gradient(problem, (A, B)) * _gradient_unit(problem)
    return "strict saddle" if eigenvalues[0] < -noise else "second-order critical"


def _is_minimum(problem: Problem, A: np.ndarray, B: np.ndarray, tol: float) -> bool:
    """Whether the critical point at or beside (A, B) is a global minimum.

    Near a minimum the residuals are those of a small step; near a saddle they are orthogonal to
    all that a step can change. So Gauss–Newton steps of least norm, bounded in length, either lead
    to a fit within the distance that counts as the same point, or show that there is none.
    """
    (m, h), n = A.shape, B.shape[1]
    reach = min(tol, CRITICAL) * np.sqrt(_size(problem, A @ B))
    E, F = np.zeros_like(A), np.zeros_like(B)
    before = np.inf
    for _ in range(STEPS):
        if fits(problem, (A + E) @ (B + F)):
            return True
        now = excess(problem, (A + E) @ (B + F))
        if not now < 0.9 * before:
            return False
        before = now
        residual = problem.measure((A + E) @ (B + F)) - problem.attainable
        J = np.concatenate([np.kron(np.eye(m), (B + F).T), np.kron(A + E, np.eye(n))], axis=1)
        seen = problem.measure(J.T.reshape(-1, m, n)).T
        left, sizes, right = np.linalg.svd(seen, full_matrices=False)
        # What a step longer than the reach would be needed for stays.
        with np.errstate(all="ignore"):
            parts = np.where(sizes > 0, (left.T @ -residual) / sizes, 0.0)
        step = right.T @ np.where(np.abs(parts) <= reach, parts, 0.0)
        E, F = E + step[: m * h].reshape(m, h), F + step[m * h :].reshape(h, n)
        if np.sqrt(np.sum(E**2) + np.sum(F**2)) > reach:
            return False
    return False


def _gradient_unit(problem: Problem) -> float:
    """2c √(Σ y_l² ‖X_l‖_F²): the size of ∇f(0), were no two of its terms to cancel."""
    return float(2 * problem.weight * np.linalg.norm(problem.targets * problem.sizes))


def _size(problem: Problem, W: np.ndarray) -> float:
    """The largest singular value of W, or the size of the data, if that is larger."""
    # Contradictory measurements may cancel in ∇f(0) up to rounding, which is then no size.
    least = 1e-9 * np.linalg.norm(problem.targets) / max(problem.sizes.max(), TINY)
    return max(float(np.linalg.norm(W, 2)), size_of_data(problem), float(least), TINY)


def _critical(
    problem: Problem, factors: Sequence[ArrayLike], tol: float
) -> tuple[np.ndarray, np.ndarray]:
    arrays = two_factors(problem, factors, "the landscape is that of")
    tol = real_number("tol", tol, least=0, infinite=True)
    found = relative_gradient(problem, arrays)
    if found > tol:
        raise ValueError(
            f"the point is not critical: the gradient of the loss is {found:.2g} there in units of "
            f"the problem, where {tol:g} would pass; give a saddle, for example one of a "
            "trajectory's phases, or a larger tol"
        )
    return arrays
