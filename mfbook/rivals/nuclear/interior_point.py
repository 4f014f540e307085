"""The dual as a linear matrix inequality, solved by Clarabel."""

from __future__ import annotations

import math

import numpy as np

from mfbook.rivals.nuclear.data import Entries, Span


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
    spread = data.normal_basis(psd).tocoo()
    i, j = np.divmod(spread.row, n)
    # Off-diagonal entries of the triangle stand times √2.
    if psd:
        upper = i <= j
        i, j, column = i[upper], j[upper], spread.col[upper]
        weight = np.where(i < j, math.sqrt(2), 1.0) * spread.data[upper]
    else:
        j, column, weight = m + j, spread.col, -math.sqrt(2) * spread.data
    lines = size * (size + 1) // 2
    A = csc_matrix((weight, (_place(i, j), column)), shape=(lines, spread.shape[1]))
    b = np.zeros(lines)
    diagonal = np.arange(size)
    b[_place(diagonal, diagonal)] = 1.0
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
        W = z[_place(low, high)] / np.where(row == col, 1.0, math.sqrt(2))
    else:
        W = -math.sqrt(2) * z[_place(row, m + col)]
    return scale * W, S


def _place(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Where Clarabel keeps the entry (i, j), i ≤ j: it stacks the columns of the upper triangle."""
    return j * (j + 1) // 2 + i
