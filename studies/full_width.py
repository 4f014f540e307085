"""Plain gradient descent of two factors at full width, on the observed entries of a large matrix.

The literal procedure of Arora et al. (2019, Figure 3): f(A B) = ½ Σ r², fixed steps, Gaussian
factors as wide as the smaller side. Only observed entries of A B are computed. Single precision:
what is compared are means over thousands of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numba import njit


@njit(fastmath=True, cache=True)
def _step(
    A: np.ndarray, Bt: np.ndarray, rows: np.ndarray, cols: np.ndarray, values: np.ndarray, lr: float
) -> tuple[np.ndarray, np.ndarray, float]:
    new_A, new_Bt = A.copy(), Bt.copy()
    h, total = A.shape[1], 0.0
    for k in range(len(values)):
        i, j = rows[k], cols[k]
        product = np.float32(0.0)
        for c in range(h):
            product += A[i, c] * Bt[j, c]
        r = product - values[k]
        total += r * r
        step = np.float32(lr * r)
        for c in range(h):
            new_A[i, c] -= step * Bt[j, c]
            new_Bt[j, c] -= step * A[i, c]
    return new_A, new_Bt, 0.5 * total


def descend(
    factors: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
    *,
    lr: float,
    stops: Sequence[int],
) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
    """Iteration, A, B and the loss at each of the iterations `stops`, which rise."""
    A, Bt = (np.ascontiguousarray(X, dtype=np.float32) for X in (factors[0], factors[1].T))
    values = values.astype(np.float32)
    for count in range(stops[-1] + 1):
        new_A, new_Bt, loss = _step(A, Bt, rows, cols, values, lr)
        if count in stops:
            yield count, A.astype(float), Bt.T.astype(float), loss
        A, Bt = new_A, new_Bt


def alignment(
    A: np.ndarray, B: np.ndarray, rows: np.ndarray, cols: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The singular values of A B, and Uᵀ ∇f(W) V for all of its singular vectors."""
    W = A @ B
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    G = np.zeros_like(W)
    G[rows, cols] = W[rows, cols] - values
    return s, U.T @ G @ Vt.T
