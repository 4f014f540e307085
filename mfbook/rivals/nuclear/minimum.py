"""The convex rival: minimum nuclear norm, with a certificate that does not trust the solver.

A solver proposes a matrix W and a dual point. What is returned was then computed from the two by
plain linear algebra: W is moved onto the data, its nuclear norm is an upper bound of the minimum;
the dual point is rescaled until it is feasible, and its value is a lower bound. Their difference,
the gap, says how good the answer is, whatever the solver believed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems import MatrixCompletion, MatrixSensing
from mfbook.problems.checks import flag, real_array, real_number, require_problem, whole_number

EPS = np.finfo(float).eps
# The interior point takes 0.2 s at 20×20, as long as Douglas–Rachford takes for a gap a hundred
# times larger; at 30×30 it takes 1 s, and its memory grows with the fourth power of m + n.
INTERIOR_POINT_LIMIT = 40
# Where Douglas–Rachford does not arrive, that second is well spent.
LAST_RESORT_LIMIT = 60
# Steps of Douglas–Rachford over the size of the data. The first is the fastest for most data. Few
# observed entries want a longer step, a spectrum over many magnitudes a shorter one: where the
# first left a gap of 1e-4 or 3e-5 (22×22 with 48 entries; 30×30, singular values 10^-k) these
# leave 1e-7 and 1e-6.
STEPS = (0.2, 1.0, 0.02)
# The relative gap that counts as reached where the caller asks for none.
ENOUGH = 1e-6


@dataclass(frozen=True, eq=False)
class Certified:
    """A matrix that fits the data, and a proof of how close to the minimum it is.

    Attributes
    ----------
    W
        (m, n) a matrix that fits: the observed entries to the last bit, measurements to rounding.
    value
        its nuclear norm (its trace, where it had to be positive semidefinite).
    lower_bound
        no matrix that fits has a smaller value; `dual_bound(problem, dual)`.
    gap
        value − lower_bound ≥ 0. The minimum lies between the two.
    solver
        what found W and the dual point.
    dual
        the dual point: (m, n), zero off the observed entries, or (k,), one weight a measurement.
    converged
        whether the gap is at most `tol` of the value, or 1e-6 of it where no tol was asked for.
    """

    W: np.ndarray
    value: float
    lower_bound: float
    gap: float
    solver: str
    dual: np.ndarray
    converged: bool = True


def min_nuclear_norm(
    problem: MatrixCompletion | MatrixSensing,
    *,
    psd: bool = False,
    tol: float | None = None,
    max_iters: int = 5000,
) -> Certified:
    r"""Find the matrix of least nuclear norm that fits the data, and certify it.

    The problem, and the dual from which the lower bound comes, for matrix completion

        min ‖W‖_*  s.t.  W_ij = M_ij on Ω    =    max ⟨Y, M⟩  s.t.  Y = 0 off Ω,  ‖Y‖₂ ≤ 1

    and for matrix sensing

        min ‖W‖_*  s.t.  ⟨X_l, W⟩ = y_l      =    max yᵀν     s.t.  ‖Σ_l ν_l X_l‖₂ ≤ 1.

    With `psd=True` the matrix has to be symmetric and positive semidefinite; then ‖W‖_* = tr W,
    and the dual asks for λ_max of the symmetric part ≤ 1 instead of the spectral norm. The
    minimizer need not be unique; an interior-point method returns one near the middle of the
    minimizers, Douglas–Rachford some point among them.

    Up to m + n = 40 Clarabel, CVXPY's interior-point solver, is called without CVXPY in between
    (2 ms at 4×4, 15 ms at 10×10, 0.2 s at 20×20; the gap is below 1e-8 of the value, and an entry
    that is not observed known to about its square root). Beyond it Douglas–Rachford splitting
    runs (1 s at 100×100; gap mostly below 1e-7 of the value). Where it stops short, with few
    entries or a spectrum over many magnitudes, Clarabel is called up to m + n = 60, and two other
    step sizes are tried beyond; a gap above 1e-6 may remain, and `converged` is False then.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing`.
    psd
        ask for a symmetric positive semidefinite W; the problem must be square. W is then
        U Uᵀ with U moved onto the data by Gauss–Newton steps, so that it is positive
        semidefinite up to rounding.
    tol
        the relative gap to aim at, positive and finite; 1e-9 for the interior point, 1e-7 for
        Douglas–Rachford if None. What was reached is the `gap` of the result.
    max_iters
        of Douglas–Rachford, for each step size.

    Raises
    ------
    TypeError
        not a problem; a psd that is not True or False, a tol or max_iters that is no number.
    ValueError
        a tol or max_iters out of range; no matrix fits the measurements (the residual of the best
        one is named);
        `psd=True` and no positive semidefinite matrix fits, or the problem is not square.

    Examples
    --------
    >>> best = min_nuclear_norm(MatrixCompletion.from_text("1 2; 3 ?"))
    >>> best.W.round(4).tolist()
    [[1.0, 2.0], [3.0, 1.0]]
    >>> round(best.value, 6), 0 <= best.gap < 1e-8
    (5.0, True)

    References
    ----------
    Fazel, Hindi & Boyd 2001 (the heuristic and its dual); Recht, Fazel & Parrilo 2010, Section 2.
    Bai, Zhao & Zhang 2024, Theorem 4, and Li, Luo & Lyu 2021, Proposition B.2, compare gradient
    flow with it.
    """
    psd = _require(problem, psd)
    if tol is not None:
        tol = real_number("tol", tol, above=0, because="the gap never closes to the last bit")
    max_iters = whole_number("max_iters", max_iters, least=1)
    enough = tol or ENOUGH
    data = _entries(problem, psd) if problem.observes_entries else _span(problem, psd)
    if not data.particular.any():
        zero = np.zeros(problem.shape)
        return _certify(problem, data, zero, zero, psd, "closed form", enough)
    best = None
    if sum(problem.shape) > INTERIOR_POINT_LIMIT:
        aim = tol or 1e-7
        W, S, reached = _douglas_rachford(data, psd, aim, max_iters)
        best = _certify(problem, data, W, S, psd, "Douglas–Rachford", enough)
        if reached or sum(problem.shape) > LAST_RESORT_LIMIT:
            return best
    # Asked for more than it can reach, the interior point stops anywhere; asked for less, a
    # degenerate optimum is left early. The first of a few aims that gives a small gap is taken.
    aims = (1e-11, 1e-10, 1e-9) if psd else (1e-9, 1e-10, 1e-11)
    for aim in aims if tol is None else (tol,):
        W, S = _interior_point(data, psd, aim)
        found = _certify(problem, data, W, S, psd, "Clarabel (interior point)", enough)
        if best is None or found.gap < best.gap:
            best = found
        if best.gap <= 1e-9 * best.value:
            break
    return best


def _certify(problem, data, W, S, psd: bool, solver: str, enough: float) -> Certified:
    """Move W onto the data, make S a feasible dual point, and measure how far apart they are."""
    dual = data.multipliers(S)
    bound = dual_bound(problem, dual, psd=psd)
    W = _onto_the_cone(W, data, bound) if psd and W.any() else data.project(W)
    if problem.observes_entries:
        W = np.where(problem.mask, problem.values, W)
    value = math.fsum(np.diag(W)) if psd else _nuclear(W)
    gap = value - bound
    return Certified(W, value, bound, gap, solver, dual, gap <= enough * value)


def dual_bound(
    problem: MatrixCompletion | MatrixSensing, dual: ArrayLike, *, psd: bool = False
) -> float:
    r"""A lower bound of the nuclear norm of every matrix that fits, from any dual point.

    For every W that fits the data, and S = Y (completion) or S = Σ_l ν_l X_l (sensing),

        ⟨S, W⟩ = ⟨Y, M⟩ or yᵀν,   and   ⟨S, W⟩ ≤ ‖S‖₂ ‖W‖_*,

    so ‖W‖_* ≥ ⟨S, W⟩ / ‖S‖₂. For W positive semidefinite λ_max of the symmetric part of S stands
    in place of ‖S‖₂. The quotient is lowered by an allowance for the rounding of the sum and of
    the singular value decomposition.

    Parameters
    ----------
    problem
        the data.
    dual
        (m, n), zero off the observed entries, for completion; (k,) for sensing.
    psd
        whether only positive semidefinite W are meant; the problem must be square.

    Raises
    ------
    TypeError
        not a problem, a dual that is no array of real numbers, a psd that is not True or False.
    ValueError
        the wrong shape, numbers that are not finite, or a completion's dual that is not zero off
        Ω (such a point proves nothing); `psd=True` and the problem is not square.

    Examples
    --------
    >>> problem = MatrixCompletion.from_text("3 ?; ? -4")
    >>> best, worse = [[1, 0], [0, -1]], [[10, 0], [0, 0]]
    >>> round(dual_bound(problem, best), 9), round(dual_bound(problem, worse), 9)
    (7.0, 3.0)
    """
    psd = _require(problem, psd)
    if problem.observes_entries:
        S = real_array("dual", dual, ndim=2, finite=True)
        if S.shape != problem.shape or S[~problem.mask].any():
            raise ValueError(
                f"a dual point must have the problem's shape {problem.shape} and be zero where "
                f"nothing is observed, but has shape {S.shape}"
                + ("" if S.shape != problem.shape else " and is not; set those entries to zero")
            )
        products = S[problem.mask] * problem.values[problem.mask]
    else:
        weights = real_array("dual", dual, ndim=1, finite=True)
        if weights.shape != problem.targets.shape:
            raise ValueError(
                f"a dual point holds one weight a measurement, {problem.n_observed}, but has "
                f"{len(weights)}"
            )
        S = np.tensordot(weights, problem.measurements, axes=1)
        products = weights * problem.targets
    # The first allowance pays for the rounding of the products, the second for that of the SVD.
    pairing = math.fsum(products) - EPS * math.fsum(np.abs(products))
    if pairing <= 0:
        return 0.0
    size = np.linalg.norm(S, 2)
    largest = np.linalg.eigvalsh((S + S.T) / 2)[-1] if psd else size
    return float(pairing / (max(largest, 0.0) + 8 * max(S.shape) * EPS * size))


def _require(problem, psd: bool) -> bool:
    require_problem(problem)
    psd = flag("psd", psd)
    if psd and problem.shape[0] != problem.shape[1]:
        raise ValueError(
            f"a positive semidefinite matrix is square, but the problem has shape {problem.shape}; "
            "leave psd=False"
        )
    return psd


def _nuclear(W: np.ndarray) -> float:
    return math.fsum(np.linalg.svd(W, compute_uv=False))


# --- The data as an affine set {W : W fits}: its nearest points, its normal space, its multipliers


@dataclass(frozen=True, eq=False)
class _Entries:
    """W_ij = M_ij on Ω. For positive semidefinite W the set Ω has been made symmetric."""

    mask: np.ndarray
    particular: np.ndarray  # M on Ω, zero elsewhere
    observed: np.ndarray  # Ω before it was made symmetric

    def project(self, W):
        return np.where(self.mask, self.particular, W)

    def normal(self, S):
        """The component of S orthogonal to the affine set, a combination of the measurements."""
        return np.where(self.mask, S, 0.0)

    def normal_basis(self, psd):
        """A sparse (mn, ρ) matrix whose columns span the normal space."""
        from scipy.sparse import csc_matrix

        n = self.mask.shape[1]
        rows, cols = np.nonzero(np.triu(self.mask) if psd else self.mask)
        k = np.arange(len(rows))
        entry = np.concatenate([rows * n + cols, cols[rows < cols] * n + rows[rows < cols]])
        column = np.concatenate([k, k[rows < cols]])
        if not psd:
            entry, column = entry[: len(k)], k
        return csc_matrix((np.ones(len(entry)), (entry, column)), shape=(self.mask.size, len(k)))

    def multipliers(self, S):
        # Where only one of (i, j), (j, i) is observed it carries the weight of both.
        alone = self.mask & ~self.observed
        if alone.any():
            S = S + np.where(alone.T, S.T, 0.0)
        return np.where(self.observed, S, 0.0)

    def residual_and_jacobian(self, U):
        """Of U ↦ U Uᵀ on Ω, the entries with i ≤ j, weighted so that (i, j) stands for (j, i)."""
        rows, cols = np.nonzero(np.triu(self.mask))
        weight = np.where(rows < cols, math.sqrt(2), 1.0)
        k = np.arange(len(rows))
        jacobian = np.zeros((len(rows), *U.shape))
        jacobian[k, rows] += weight[:, None] * U[cols]
        jacobian[k, cols] += weight[:, None] * U[rows]
        residual = weight * (U @ U.T - self.particular)[rows, cols]
        return residual, jacobian.reshape(len(rows), -1)


@dataclass(frozen=True, eq=False)
class _Span:
    """⟨Q_l, W⟩ = c_l with orthonormal Q_l, which span the given measurements."""

    basis: np.ndarray
    particular: np.ndarray  # Σ c_l Q_l, the smallest matrix that fits
    to_multipliers: np.ndarray  # from coordinates in the basis to weights of the measurements

    def coordinates(self, W):
        return self.basis.reshape(len(self.basis), -1) @ W.ravel()

    def project(self, W):
        return W + self.normal(self.particular - W)

    def normal(self, S):
        return np.tensordot(self.coordinates(S), self.basis, axes=1)

    def normal_basis(self, psd):
        from scipy.sparse import csc_matrix

        return csc_matrix(self.basis.reshape(len(self.basis), -1).T)

    def multipliers(self, S):
        return self.to_multipliers @ self.coordinates(S)

    def residual_and_jacobian(self, U):
        residual = self.coordinates(U @ U.T - self.particular)
        return residual, 2 * (self.basis @ U).reshape(len(self.basis), -1)


def _entries(problem: MatrixCompletion, psd: bool) -> _Entries:
    mask, values = problem.mask, np.where(problem.mask, problem.values, 0.0)
    if not psd:
        return _Entries(mask, values, mask)
    unequal = np.where(mask & mask.T, values - values.T, 0.0)
    if np.abs(unequal).max() > 16 * EPS * np.abs(values).max():
        i, j = (int(x) for x in np.unravel_index(np.abs(unequal).argmax(), mask.shape))
        raise ValueError(
            f"infeasible: a symmetric matrix has equal entries at ({i}, {j}) and ({j}, {i}), but "
            f"{values[i, j]:g} and {values[j, i]:g} are observed (least-squares residual "
            f"{np.linalg.norm(unequal) / 2:.3g}); leave psd=False"
        )
    both = mask | mask.T
    values = np.where(mask, values, values.T)
    # A zero on the diagonal of a positive semidefinite matrix makes its row and column zero.
    zero = np.diag(both) & (np.diag(values) == 0)
    if values[zero].any():
        i = int(np.flatnonzero(zero & values.any(axis=1))[0])
        raise ValueError(
            f"infeasible: the diagonal entry ({i}, {i}) is zero, which makes row {i} of a positive "
            "semidefinite matrix zero, but a nonzero entry of it is observed; leave psd=False"
        )
    # They couple to nothing then, and the least trace makes them zero: no constraint is needed,
    # and none could carry a multiplier, for the dual optimum need not be attained there.
    return _Entries(both & ~zero[:, None] & ~zero, values, mask)


def _span(problem: MatrixSensing, psd: bool) -> _Span:
    X = problem.measurements
    if psd:
        X = (X + X.transpose(0, 2, 1)) / 2
    left, s, right = np.linalg.svd(X.reshape(len(X), -1), full_matrices=False)
    keep = s > s[0] * max(left.shape[0], right.shape[1]) * EPS
    left, s, right = left[:, keep], s[keep], right[keep]
    coordinates = (left.T @ problem.targets) / s
    residual = np.linalg.norm(problem.targets - left @ (s * coordinates))
    # Targets computed from a matrix carry the rounding of a sum of mn products.
    if residual > 1e-12 * X[0].size * np.linalg.norm(problem.targets):
        raise ValueError(
            f"infeasible: no {'symmetric ' if psd else ''}matrix has these measurements, the "
            f"least-squares solution leaves a residual of {residual:.3g}; the measurements are "
            "linearly dependent and the targets do not share the dependence: correct the targets "
            "or drop a measurement"
        )
    basis = right.reshape(-1, *problem.shape)
    return _Span(basis, np.tensordot(coordinates, basis, axes=1), left / s)


# --- Two solvers: each returns W (nearly on the data) and S, a combination of the measurements


def _interior_point(data, psd: bool, tol: float):
    """Solve the dual with Clarabel: a linear matrix inequality in the multipliers.

        max ⟨S, M⟩  s.t.  [[I, S], [Sᵀ, I]] ⪰ 0        (psd:  I − S ⪰ 0)

    The multiplier of the inequality is [[·, −W/2], [·, ·]] (psd: W itself).
    """
    import clarabel
    from scipy.sparse import csc_matrix

    scale = np.abs(data.particular).max()
    m, n = data.particular.shape
    size = m if psd else m + n
    spread = data.normal_basis(psd).tocoo()
    i, j = np.divmod(spread.row, n)
    # Clarabel stacks the columns of the upper triangle, off-diagonal entries times √2.
    if psd:
        upper = i <= j
        i, j, column = i[upper], j[upper], spread.col[upper]
        weight = np.where(i < j, math.sqrt(2), 1.0) * spread.data[upper]
    else:
        j, column, weight = m + j, spread.col, -math.sqrt(2) * spread.data
    lines = size * (size + 1) // 2
    A = csc_matrix((weight, (j * (j + 1) // 2 + i, column)), shape=(lines, spread.shape[1]))
    b = np.zeros(lines)
    b[np.arange(1, size + 1) * np.arange(2, size + 2) // 2 - 1] = 1.0
    q = -(spread.T @ data.particular.ravel()) / scale
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    empty = csc_matrix((len(q), len(q)))
    cone = [clarabel.PSDTriangleConeT(size)]
    solution = clarabel.DefaultSolver(empty, q, A, b, cone, settings).solve()
    S = (spread @ np.array(solution.x)).reshape(m, n)
    z = np.array(solution.z)
    row, col = np.indices((m, n))
    if psd:
        low, high = np.minimum(row, col), np.maximum(row, col)
        W = z[high * (high + 1) // 2 + low] / np.where(row == col, 1.0, math.sqrt(2))
    else:
        W = -math.sqrt(2) * z[(m + col) * (m + col + 1) // 2 + row]
    return scale * W, S


def _douglas_rachford(data, psd: bool, tol: float, max_iters: int):
    """W, S and whether their gap is tol: shrink the spectrum, go to the data, and so on.

        X = shrink(Z),   Z ← Z + project(2X − Z) − X

    At the fixed point X is a minimizer and (Z − X)/γ a dual solution: a subgradient of ‖·‖_* at
    X that is orthogonal to the affine set (Lions & Mercier 1979). The best W and the best S of
    all iterations and step sizes are kept.
    """
    scale = np.linalg.norm(data.particular, 2)
    Z = data.particular
    best_value, best_bound, best_W, best_S = math.inf, -math.inf, Z, Z
    for factor in STEPS if sum(Z.shape) > LAST_RESORT_LIMIT else STEPS[:1]:
        step, Z = factor * scale, data.particular
        for iteration in range(1, max_iters + 1):
            if psd:
                eigenvalues, V = np.linalg.eigh(Z)
                keep = eigenvalues > step
                X = (V[:, keep] * (eigenvalues[keep] - step)) @ V[:, keep].T
            else:
                U, s, Vt = np.linalg.svd(Z, full_matrices=False)
                keep = s > step
                X = (U[:, keep] * (s[keep] - step)) @ Vt[keep]
            if iteration % 10 == 0 or iteration == max_iters:
                W, S = data.project(X), data.normal(Z - X) / step
                # A projected X is a little indefinite: its nuclear norm, not its trace, is an
                # upper bound that cannot fall below the minimum by being infeasible.
                value = _nuclear(W)
                size = np.linalg.eigvalsh(S)[-1] if psd else np.linalg.norm(S, 2)
                bound = (S * data.particular).sum() / max(size, EPS)
                if value < best_value:
                    best_value, best_W = value, X if psd else W
                if bound > best_bound:
                    best_bound, best_S = bound, S
                if best_value - best_bound <= tol * best_value:
                    return best_W, best_S, True
            Z = Z + data.project(2 * X - Z) - X
    return best_W, best_S, False


def _onto_the_cone(W: np.ndarray, data, bound: float) -> np.ndarray:
    """A positive semidefinite matrix near W that fits the data: U Uᵀ, by Gauss–Newton in U.

    How many columns U has is the rank of the minimizer, which a solver's eigenvalues show only
    roughly: every cut that they suggest is tried, and of those that fit the least trace is taken.
    """
    eigenvalues, V = np.linalg.eigh((W + W.T) / 2)
    size = max(np.abs(data.particular).max(), eigenvalues[-1])
    ranks = {int((eigenvalues > cut * size).sum()) for cut in (1e-3, 1e-5, 1e-7, 1e-9, 1e-12)}
    best, least = None, math.inf
    for rank in sorted(ranks - {0}):
        U = V[:, -rank:] * np.sqrt(eigenvalues[-rank:])
        for _ in range(10):
            residual, jacobian = data.residual_and_jacobian(U)
            if np.abs(residual).max(initial=0.0) <= 4 * EPS * size:
                break
            U = U - np.linalg.lstsq(jacobian, residual, rcond=1e-10)[0].reshape(U.shape)
        fitted = data.project(U @ U.T)
        missing = np.abs(fitted - U @ U.T).max()
        if missing <= 1e-13 * len(W) * max(size, np.abs(fitted).max()) and np.trace(fitted) < least:
            best, least = (fitted + fitted.T) / 2, np.trace(fitted)
    if best is None:
        raise ValueError(
            "infeasible: no positive semidefinite matrix was found that fits the data; the "
            f"closest leaves a residual of {_least_psd_residual(data):.3g}, and any that fits has "
            f"a trace of at least {bound:.3g}; leave psd=False or correct the data"
        )
    return best


def _least_psd_residual(data) -> float:
    """The distance from the data of the closest U Uᵀ with a square U (no local minima there)."""
    from scipy.optimize import least_squares

    shape = data.particular.shape
    solution = least_squares(
        lambda u: data.residual_and_jacobian(u.reshape(shape))[0],
        np.sqrt(np.linalg.norm(data.particular, 2)) * np.eye(len(data.particular)).ravel(),
        jac=lambda u: data.residual_and_jacobian(u.reshape(shape))[1],
    )
    return math.sqrt(2 * solution.cost)
