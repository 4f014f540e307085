"""Signs of determinants, which the exact flow keeps and rounding may not.

Let C_j = W_jᵀW_j − W_{j+1}W_{j+1}ᵀ, which the flow conserves. If W_j v = 0 and C_j ⪰ 0 then also
W_{j+1}ᵀ v = 0, and a hidden direction v along which both neighbours are zero stays so, forwards and
backwards in time. So a square W_j that is invertible at the start stays invertible, and the sign of
its determinant is kept; the same holds if C_{j−1} ⪯ 0, and for one factor, U' = −∇f U. Where all
C_j = 0 the singular values of W are N-th powers of those of a layer, so a square W keeps its sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mfbook.flow.shallow.gauge import EPS
from mfbook.models import product

Layers = tuple[np.ndarray, ...]

# Eigenvalues of C_j below this share of the squares that it is made of are rounding. A singular
# value of the start whose square is no larger may be small enough for that rounding to matter.
BALANCED = 64 * EPS
# A singular value of the end below this share of the first may be rounding.
CLEAR = 1e-9


def sign_has_changed(start: Layers, end: Layers) -> bool:
    """Whether a determinant has another sign at the end than at the start, but the flow keeps it.

    False where the sign at the start or at the end may be that of rounding.

    >>> one, swapped = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> sign_has_changed((one, one), (swapped, one)), sign_has_changed((2 * one, one), (one, -one))
    (True, False)
    """
    return any(
        _sign(before, BALANCED**0.5) * _sign(after, CLEAR) < 0
        for before, after in _kept(start, end)
    )


def _kept(start: Layers, end: Layers) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Square matrices at the start and at the end whose determinants keep their signs."""
    above, below = [False], []
    for a, b in pairwise(start):
        size = np.linalg.norm(a) ** 2 + np.linalg.norm(b) ** 2
        values = np.linalg.eigvalsh(a.T @ a - b @ b.T)
        below.append(bool(values[0] >= -BALANCED * size))
        above.append(bool(values[-1] <= BALANCED * size))
    below.append(len(start) == 1)
    for before, after, one, other in zip(start, end, above, below, strict=True):
        if before.shape[0] == before.shape[1] and (one or other):
            yield before, after
    if len(start) > 1 and all(above[1:]) and all(below[:-1]):
        before, after = product(start), product(end)
        if before.shape[0] == before.shape[1]:
            yield before, after


def _sign(matrix: np.ndarray, least: float) -> float:
    """The sign of the determinant, 0 where the matrix may be singular."""
    values = np.linalg.svd(matrix, compute_uv=False)
    if not values[-1] > least * len(values) * values[0]:
        return 0.0
    return float(np.linalg.slogdet(matrix)[0])
