"""The dual as a linear matrix inequality, solved by Clarabel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mfbook.rivals.nuclear.data import Entries, Span

if TYPE_CHECKING:  # SciPy is imported where it is needed first
    from scipy.sparse import coo_matrix, csc_matrix


def interior_point(data: Entries | Span, psd: bool, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """W, nearly on the data, and S, a combination of the measurements, from one inequality in S.

        max ⟨S, M⟩  s.t.  [[I, S], [Sᵀ, I]] ⪰ 0        (psd:  I − S ⪰ 0)

    The multiplier of the inequality is [[·, −W/2], [·, ·]] (psd: W itself).
    """
    import clarabel
    from scipy.sparse import csc_matrix

    scale = np.abs(data.particular).max()
    m, n = data.particular.shape
    size = m if psd else m + n
    spread = data.normal_basis(psd)
    lines = size * (size + 1) // 2
    if psd:
        A = _triangles(spread.tocoo(), n)
    else:
        i, j = np.divmod(spread.indices, n)
        columns = -math.sqrt(2) * spread.data, _place(i, m + j), spread.indptr
        A = csc_matrix(columns, shape=(lines, spread.shape[1]))
        A.sort_indices()
    b = np.zeros(lines)
    diagonal = np.arange(size)
    b[_place(diagonal, diagonal)] = 1.0
    q = -(spread.T @ data.particular.ravel()) / scale
    x, z = _clarabel(q, A, b, [clarabel.PSDTriangleConeT(size)], tol)
    S = (spread @ x).reshape(m, n)
    if psd:
        return scale * _square(z, n), S
    row, col = np.indices((m, n))
    return -math.sqrt(2) * scale * z[_place(row, m + col)], S


def least_pairing(data: Entries | Span) -> tuple[np.ndarray, np.ndarray, float]:
    """A positive semidefinite combination Z of the measurements that has the least ⟨Z, M⟩.

        min ⟨Z, M⟩  s.t.  Z ⪰ 0, tr Z = 1    =    max λ  s.t.  W fits, W − λI ⪰ 0

    Returned are Z, W − λI and λ, which is relative to the largest |M_ij|.
    """
    import clarabel
    from scipy.sparse import csc_matrix, vstack

    scale = np.abs(data.particular).max()
    n = len(data.particular)
    spread = data.normal_basis(psd=True)
    of_trace = csc_matrix(spread.T @ np.eye(n).ravel())
    A = vstack([of_trace, -_triangles(spread.tocoo(), n)]).tocsc()
    b = np.zeros(A.shape[0])
    b[0] = 1.0
    q = spread.T @ data.particular.ravel() / scale
    cones = [clarabel.ZeroConeT(1), clarabel.PSDTriangleConeT(n)]
    x, z = _clarabel(q, A, b, cones, 1e-11)
    return (spread @ x).reshape(n, n), scale * _square(z[1:], n), float(q @ x)


def _clarabel(
    q: np.ndarray, A: csc_matrix, b: np.ndarray, cones: list[Any], tol: float
) -> tuple[np.ndarray, np.ndarray]:
    """x of  min qᵀx  s.t.  b − A x in the cones,  and its multiplier."""
    import clarabel
    from scipy.sparse import csc_matrix

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    empty = csc_matrix((len(q), len(q)))
    solution = clarabel.DefaultSolver(empty, q, A, b, cones, settings).solve()
    return np.array(solution.x), np.array(solution.z)


def _triangles(spread: coo_matrix, n: int) -> csc_matrix:
    """The symmetric (n, n) matrices in the columns of `spread` as Clarabel keeps them."""
    from scipy.sparse import csc_matrix

    i, j = np.divmod(spread.row, n)
    upper = i <= j
    i, j, column = i[upper], j[upper], spread.col[upper]
    # Off-diagonal entries of the triangle stand times √2.
    weight = np.where(i < j, math.sqrt(2), 1.0) * spread.data[upper]
    return csc_matrix((weight, (_place(i, j), column)), shape=(n * (n + 1) // 2, spread.shape[1]))


def _square(z: np.ndarray, n: int) -> np.ndarray:
    """The symmetric matrix that Clarabel keeps as a triangle."""
    row, col = np.indices((n, n))
    low, high = np.minimum(row, col), np.maximum(row, col)
    return z[_place(low, high)] / np.where(row == col, 1.0, math.sqrt(2))


def _place(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Where Clarabel keeps the entry (i, j), i ≤ j: it stacks the columns of the upper triangle."""
    return j * (j + 1) // 2 + i
