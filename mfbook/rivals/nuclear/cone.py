"""Positive semidefinite matrices on the data: what a solver's answer is moved to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mfbook.rivals.nuclear.data import EPS, Entries, Span

# Which eigenvalues of a solver's answer count, over the largest: its rank shows only roughly.
CUTS = (1e-3, 1e-5, 1e-7, 1e-9, 1e-12)
# Of Gauss–Newton; a few do, but where U loses rank on the data they gain a factor of four each.
STEPS = 30
# What U Uᵀ may lack of the data: of the largest entry, and of the roots of the diagonal, without
# which a row of small entries would not have to fit at all.
OF_ALL, OF_ROWS = 1e-13, 1e-8


def onto_the_cone(
    W: np.ndarray, data: Entries | Span, V: np.ndarray | None = None
) -> np.ndarray | None:
    """A positive semidefinite matrix near W that fits the data, or None: U Uᵀ, by Gauss–Newton.

    How many columns U has is the rank of the minimizer. Every number that the eigenvalues of W
    suggest is tried, and of the matrices that fit the least trace is taken. All is done in units
    of each row, for D W D is positive semidefinite with W. Given V, a basis of a face, the columns
    of U stay in its span.
    """
    if not data.particular.any():
        return np.zeros_like(W)
    rows = data.row_units(W)
    scaled = data.in_row_units(rows)
    face = None if V is None else np.linalg.qr(V / rows[:, None])[0]
    best, least = None, math.inf
    for U in _roots(W, rows):
        U = U if face is None else face @ (face.T @ U)
        for _ in range(STEPS):
            residual, jacobian = scaled.residual_and_jacobian(U)
            if np.abs(residual).max(initial=0.0) <= 4 * EPS:
                break
            if face is None:
                U = U - np.linalg.lstsq(jacobian, residual, rcond=1e-10)[0].reshape(U.shape)
                continue
            jacobian = (face.T @ jacobian.reshape(-1, *U.shape)).reshape(len(residual), -1)
            step = np.linalg.lstsq(jacobian, residual, rcond=1e-10)[0]
            U = U - face @ step.reshape(-1, U.shape[1])
        U[data.zero] = 0.0
        fitted = scaled.project(U @ U.T)
        missing = np.abs(fitted - U @ U.T)
        of_rows = (missing <= OF_ROWS * scaled.rounding(fitted)).all()
        fitted, missing = (in_rows * rows[:, None] * rows for in_rows in (fitted, missing))
        size = max(np.abs(data.particular).max(), np.abs(fitted).max())
        if of_rows and missing.max() <= OF_ALL * len(W) * size and np.trace(fitted) < least:
            best, least = (fitted + fitted.T) / 2, np.trace(fitted)
    return best


def _roots(W: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """U with U Uᵀ near W in the units of the rows, of each rank that W seems to have."""
    W = (W + W.T) / 2
    for before, after in ((1.0, rows), (rows, 1.0)):
        eigenvalues, V = np.linalg.eigh(W / before / np.reshape(before, (-1, 1)))
        ranks = {int((eigenvalues > cut * eigenvalues[-1]).sum()) for cut in CUTS}
        for rank in sorted(ranks - {0}):
            U = V[:, -rank:] * np.sqrt(np.maximum(eigenvalues[-rank:], 0.0))
            yield U / np.reshape(after, (-1, 1))
        if (rows == 1.0).all():
            return


def closest(data: Entries | Span) -> np.ndarray:
    """The positive semidefinite matrix closest to the data.

    It is U Uᵀ with a square U, where least squares have no local minima.
    """
    from scipy.optimize import least_squares

    shape = data.particular.shape

    def residual(u: np.ndarray) -> np.ndarray:
        return data.residual_and_jacobian(u.reshape(shape))[0]

    def jacobian(u: np.ndarray) -> np.ndarray:
        return data.residual_and_jacobian(u.reshape(shape))[1]

    U = least_squares(
        residual,
        np.sqrt(np.linalg.norm(data.particular, 2)) * np.eye(len(data.particular)).ravel(),
        jac=jacobian,
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=60,
    ).x.reshape(shape)
    return U @ U.T


def closest_in_row_units(W: np.ndarray, data: Entries | Span) -> np.ndarray:
    """The same where each row counts in the unit that it has in W."""
    rows = data.row_units(W)
    return closest(data.in_row_units(rows)) * rows[:, None] * rows
