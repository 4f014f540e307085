"""Positive semidefinite matrices on the data: what a solver's answer is moved to."""

from __future__ import annotations

import math

import numpy as np

from mfbook.rivals.nuclear.data import EPS, Entries, Span


def onto_the_cone(W: np.ndarray, data: Entries | Span) -> np.ndarray | None:
    """A positive semidefinite matrix near W that fits the data, or None: U Uᵀ, by Gauss–Newton.

    How many columns U has is the rank of the minimizer, which a solver's eigenvalues show only
    roughly: every cut that they suggest is tried, and of those that fit the least trace is taken.
    """
    if not W.any() and not data.particular.any():
        return W
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
    return best


def least_residual(data: Entries | Span) -> float:
    """The distance from the data of the closest U Uᵀ with a square U (no local minima there)."""
    from scipy.optimize import least_squares

    shape = data.particular.shape
    solution = least_squares(
        lambda u: data.residual_and_jacobian(u.reshape(shape))[0],
        np.sqrt(np.linalg.norm(data.particular, 2)) * np.eye(len(data.particular)).ravel(),
        jac=lambda u: data.residual_and_jacobian(u.reshape(shape))[1],
    )
    return math.sqrt(2 * solution.cost)
