"""The data as an affine set {W : W fits}: its nearest points, its normal space, its multipliers.

Both kinds are in units: powers of two, which change no digit, bring the largest entry of every
measurement, and then the largest target, into [1, 2). So one tolerance serves data of any
magnitude, and what is found for c M is c times what is found for M.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mfbook.problems.in_units import power_of_two
from mfbook.problems.protocols import EntryProblem, Problem, measurements_of, reads_entries

if TYPE_CHECKING:  # SciPy is imported where it is needed first
    from scipy.sparse import csc_matrix

EPS = np.finfo(float).eps

# The cure where no positive semidefinite matrix fits.
ANY_MATRIX = (
    "leave psd=False, or take a MatrixCompletion or MatrixSensing if the problem is symmetric"
)


@dataclass(frozen=True, eq=False)
class Entries:
    """W_ij = M_ij on Ω. For positive semidefinite W the set Ω has been made symmetric."""

    mask: np.ndarray
    particular: np.ndarray  # M on Ω, zero elsewhere
    observed: np.ndarray  # Ω before it was made symmetric
    zero: np.ndarray  # the rows, and columns, that a zero on the diagonal of such a W makes zero
    unit: float  # what 1 stands for

    def project(self, W: np.ndarray) -> np.ndarray:
        known = self.mask | self.zero[:, None] | self.zero if self.zero.any() else self.mask
        return np.where(known, self.particular, W)

    def normal(self, S: np.ndarray) -> np.ndarray:
        """The component of S orthogonal to the affine set, a combination of the measurements."""
        return np.where(self.mask, S, 0.0)

    def normal_basis(self, psd: bool) -> csc_matrix:
        """A sparse (mn, ρ) matrix whose columns span the normal space."""
        from scipy.sparse import csc_matrix

        n = self.mask.shape[1]
        if not psd:
            entry = np.flatnonzero(self.mask)
            columns = np.ones(len(entry)), entry, np.arange(len(entry) + 1)
            return csc_matrix(columns, shape=(self.mask.size, len(entry)))
        rows, cols = np.nonzero(np.triu(self.mask))
        k = np.arange(len(rows))
        entry = np.concatenate([rows * n + cols, cols[rows < cols] * n + rows[rows < cols]])
        column = np.concatenate([k, k[rows < cols]])
        return csc_matrix((np.ones(len(entry)), (entry, column)), shape=(self.mask.size, len(k)))

    def multipliers(self, S: np.ndarray) -> np.ndarray:
        # Where only one of (i, j), (j, i) is observed it carries the weight of both.
        alone = self.mask & ~self.observed
        if alone.any():
            S = S + np.where(alone.T, S.T, 0.0)
        return np.where(self.observed, S, 0.0)

    def residual_and_jacobian(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of U ↦ U Uᵀ on Ω, the entries with i ≤ j, weighted so that (i, j) stands for (j, i)."""
        rows, cols = np.nonzero(np.triu(self.mask))
        weight = np.where(rows < cols, math.sqrt(2), 1.0)
        k = np.arange(len(rows))
        jacobian = np.zeros((len(rows), *U.shape))
        jacobian[k, rows] += weight[:, None] * U[cols]
        jacobian[k, cols] += weight[:, None] * U[rows]
        residual = weight * (U @ U.T - self.particular)[rows, cols]
        return residual, jacobian.reshape(len(rows), -1)

    def row_units(self, W: np.ndarray) -> np.ndarray:
        """Powers of two near the roots of the diagonal: as observed, or as large as it must be.

        For |W_ij|² ≤ W_ii W_jj where W is positive semidefinite.
        """
        known = np.diag(self.mask)
        diagonal = np.where(known, np.abs(np.diag(self.particular)), np.diag(W))
        diagonal = np.maximum(diagonal, EPS**2)
        least = (self.particular**2 / diagonal).max(axis=1)
        return power_of_two(np.sqrt(np.where(known, diagonal, np.maximum(diagonal, least))))

    def in_row_units(self, rows: np.ndarray) -> Entries:
        """The data of D⁻¹ W D⁻¹."""
        return replace(self, particular=self.particular / rows[:, None] / rows)

    def definite_block(self) -> tuple[np.ndarray, np.ndarray, Entries]:
        """The rows that a positive semidefinite combination of the measurements reads.

        For a zero on its diagonal makes a row of it zero. And their units, and the data in these.
        """
        where = np.flatnonzero(np.diag(self.mask))
        block = np.ix_(where, where)
        mask, particular, zero = self.mask[block], self.particular[block], self.zero[where]
        rows = power_of_two(np.sqrt(np.diag(particular)))
        data = Entries(mask, particular, mask, zero, self.unit)
        return where, rows, data.in_row_units(rows)

    def doubt_of_pairing(self, Z: np.ndarray) -> float:
        """How far below zero rounding may bring ⟨Z, M⟩, for Z ⪰ 0 on the definite block.

        Each entry of a product U Uᵀ is known to n EPS of the roots of its diagonal.
        """
        return float(4 * len(Z) * EPS * (np.abs(Z) * self.rounding(self.particular)).sum())

    def rounding(self, W: np.ndarray) -> np.ndarray:
        """What the rounding of a positive semidefinite W is relative to, entry by entry."""
        size = np.sqrt(np.maximum(np.diag(W), 0.0))
        return size[:, None] * size


@dataclass(frozen=True, eq=False)
class Span:
    """⟨Q_l, W⟩ = c_l with orthonormal Q_l, which span the given measurements."""

    basis: np.ndarray
    particular: np.ndarray  # Σ c_l Q_l, the smallest matrix that fits
    to_multipliers: np.ndarray  # from coordinates in the basis to weights of the measurements
    unit: float

    @property
    def _rows(self) -> np.ndarray:
        return self.basis.reshape(len(self.basis), self.particular.size)

    def coordinates(self, W: np.ndarray) -> np.ndarray:
        return self._rows @ W.ravel()

    def project(self, W: np.ndarray) -> np.ndarray:
        return W + self.normal(self.particular - W)

    def normal(self, S: np.ndarray) -> np.ndarray:
        return np.tensordot(self.coordinates(S), self.basis, axes=1)

    def normal_basis(self, psd: bool) -> csc_matrix:
        from scipy.sparse import csc_matrix

        return csc_matrix(self._rows.T)

    def multipliers(self, S: np.ndarray) -> np.ndarray:
        return self.to_multipliers @ self.coordinates(S)

    def residual_and_jacobian(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = self.coordinates(U @ U.T - self.particular)
        return residual, 2 * (self.basis @ U).reshape(len(self.basis), U.size)

    @property
    def zero(self) -> np.ndarray:
        return np.zeros(len(self.particular), dtype=bool)

    def row_units(self, W: np.ndarray) -> np.ndarray:
        """Measurements mix the rows: they have one unit."""
        return np.ones(len(W))

    def in_row_units(self, rows: np.ndarray) -> Span:
        return self

    def definite_block(self) -> tuple[np.ndarray, np.ndarray, Span]:
        """The same: the rows that a measurement reads."""
        where = np.flatnonzero(self.basis.any(axis=(0, 1)))
        data = replace(
            self,
            basis=self.basis[:, where][:, :, where],
            particular=self.particular[np.ix_(where, where)],
        )
        return where, np.ones(len(where)), data

    def doubt_of_pairing(self, Z: np.ndarray) -> float:
        """The same; a sum of products may cancel, so that half of the digits are doubted."""
        return float(math.sqrt(EPS) * np.linalg.norm(Z) * np.linalg.norm(self.particular))

    def rounding(self, W: np.ndarray) -> float:
        return max(np.abs(self.particular).max(), np.abs(W).max())


def affine_set(problem: Problem, psd: bool) -> Entries | Span:
    """What fits the problem; raises where nothing does, as far as linear algebra can tell."""
    return _entries(problem, psd) if reads_entries(problem) else _span(problem, psd)


def _entries(problem: EntryProblem, psd: bool) -> Entries:
    mask, values = problem.mask, np.where(problem.mask, problem.values, 0.0)
    if psd:
        return _symmetric_entries(mask, values)
    unit = float(power_of_two(np.abs(values).max()))
    return Entries(mask, values / unit, mask, np.zeros(len(mask), dtype=bool), unit)


def _symmetric_entries(mask: np.ndarray, values: np.ndarray) -> Entries:
    unit = float(power_of_two(np.abs(values).max()))
    given, values = values, values / unit
    unequal = np.where(mask & mask.T, values - values.T, 0.0)
    if np.abs(unequal).max() > 16 * EPS * np.abs(values).max():
        i, j = (int(x) for x in np.unravel_index(np.abs(unequal).argmax(), mask.shape))
        raise ValueError(
            f"infeasible: a symmetric matrix has equal entries at ({i}, {j}) and ({j}, {i}), but "
            f"{given[i, j]:g} and {given[j, i]:g} are observed (least-squares residual "
            f"{unit * (np.linalg.norm(unequal) / 2):.3g}); {ANY_MATRIX}"
        )
    both = mask | mask.T
    values = np.where(mask, values, values.T)
    negative = np.flatnonzero(np.diag(both) & (np.diag(values) < 0))
    if len(negative):
        i = int(negative[0])
        raise ValueError(
            f"infeasible: the diagonal entry ({i}, {i}) of a positive semidefinite matrix is not "
            f"negative, but {given[i, i]:g} is observed; {ANY_MATRIX}"
        )
    # A zero on the diagonal of a positive semidefinite matrix makes its row and column zero.
    zero = np.diag(both) & (np.diag(values) == 0)
    if values[zero].any():
        i = int(np.flatnonzero(zero & values.any(axis=1))[0])
        raise ValueError(
            f"infeasible: the diagonal entry ({i}, {i}) is zero, which makes row {i} of a positive "
            f"semidefinite matrix zero, but a nonzero entry of it is observed; {ANY_MATRIX}"
        )
    # They couple to nothing then, and the least trace makes them zero: no constraint is needed,
    # and none could carry a multiplier, for the dual optimum need not be attained there.
    return Entries(both & ~zero[:, None] & ~zero, values, mask, zero, unit)


def _span(problem: Problem, psd: bool) -> Span:
    X = measurements_of(problem)
    # A measurement and its target may be in units of their own.
    of_each = power_of_two(np.abs(X).max(axis=(1, 2)))
    X = X / of_each[:, None, None]
    with np.errstate(over="ignore"):
        y = problem.targets / of_each
    if not np.isfinite(y).all():
        raise ValueError(
            "a matrix that fits would have entries beyond 10^308, for a measurement is far smaller "
            "than its target; multiply the measurements by one large number"
        )
    unit = float(power_of_two(np.abs(y).max()))
    y = y / unit
    if psd:
        X = (X + X.transpose(0, 2, 1)) / 2
    left, s, right = np.linalg.svd(X.reshape(len(X), -1), full_matrices=False)
    keep = s > s[0] * max(left.shape[0], right.shape[1]) * EPS
    left, s, right = left[:, keep], s[keep], right[keep]
    coordinates = (left.T @ y) / s
    residual = np.linalg.norm(y - left @ (s * coordinates))
    # Targets computed from a matrix carry the rounding of a sum of mn products.
    if residual > 1e-12 * X[0].size * np.linalg.norm(y):
        raise ValueError(
            f"infeasible: no {'symmetric ' if psd else ''}matrix has these measurements, the "
            f"least-squares solution leaves a residual of {unit * residual:.3g}; the measurements "
            "are linearly dependent and the targets do not share the dependence: correct the "
            "targets or drop a measurement"
        )
    basis = right.reshape(-1, *problem.shape)
    to_multipliers = left / s / of_each[:, None]
    return Span(basis, np.tensordot(coordinates, basis, axes=1), to_multipliers, unit)
