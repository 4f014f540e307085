"""Eigenvalues and eigenvectors of a symmetric matrix, where LAPACK gives up too.

`numpy.linalg.eigh` divides and conquers (LAPACK's dsyevd), above 25 rows. Putting halves together
it solves a secular equation by an iteration (dlaed4) that on rare matrices does not converge: the
matrix is finite and of ordinary size, but has clusters of eigenvalues and couplings graded over
many orders of magnitude (Reference-LAPACK, issue 1166). The Jacobian S ⊗ I − rate KᵀK of k active
columns is of this kind: its eigenvalues lie in clusters of k where K is small. Where it happens
Jacobi's rotations take over; they are slower but know no such matrix.
"""

from __future__ import annotations

import numpy as np

from mfbook.flow.shallow.compiled import compiled
from mfbook.flow.shallow.gauge import EPS

# As in one-sided Jacobi methods for singular values; ten are enough in practice.
MOST_SWEEPS = 30


@compiled
def by_rotations(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, rising, and orthonormal eigenvectors of a finite symmetric matrix.

    One-sided Jacobi: rotations Q of the rows of B = A/size + c I, with c so large that its
    condition is at most three, until the rows of Qᵀ B are at right angles. Then Qᵀ B² Q is
    diagonal, and as B is positive definite the rows have the directions of its eigenvectors.
    Backward error: n roundings of the norm of A.
    """
    n = len(A)
    size = np.max(np.abs(A)) if n else 0.0
    if size == 0.0:
        return np.zeros(n), np.eye(n)
    unit = np.ascontiguousarray(A) / size
    # No eigenvalue is larger than the largest sum of a row.
    shift = 2 * np.max(np.sum(np.abs(unit), axis=1))
    rows = unit + shift * np.eye(n)
    for _ in range(MOST_SWEEPS):
        turned = False
        for i in range(n - 1):
            for j in range(i + 1, n):
                x, y = rows[i], rows[j]
                xx, yy, xy = np.dot(x, x), np.dot(y, y), np.dot(x, y)
                if not abs(xy) > EPS * np.sqrt(n * xx * yy):
                    continue
                turned = True
                cot = (yy - xx) / (2 * xy)  # of twice the angle
                tan = 1 / (abs(cot) + np.sqrt(1 + cot * cot))
                if cot < 0:
                    tan = -tan
                cos = 1 / np.sqrt(1 + tan * tan)
                sin = tan * cos
                for k in range(n):
                    a, b = x[k], y[k]
                    x[k] = cos * a - sin * b
                    y[k] = sin * a + cos * b
        if not turned:
            break
    values = np.empty(n)
    for i in range(n):
        rows[i] /= np.sqrt(np.dot(rows[i], rows[i]))
        values[i] = np.dot(rows[i], unit @ rows[i])
    order = np.argsort(values, kind="mergesort")
    return values[order] * size, np.ascontiguousarray(rows[order].T)


@compiled
def eigenpairs(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, rising, and orthonormal eigenvectors of a symmetric matrix, as `eigh` of NumPy.

    ValueError if an entry is not finite.
    """
    if not np.all(np.isfinite(A)):
        raise ValueError("a matrix with entries that are not finite has no eigenvalues")
    n = len(A)
    values, basis = np.empty(n), np.empty((n, n))
    converged = True
    try:
        found, vectors = np.linalg.eigh(A)
        values[:], basis[:] = found, vectors
    except Exception:  # Numba knows no narrower one
        converged = False
    if not converged:
        values, basis = by_rotations(A)
    return values, basis
