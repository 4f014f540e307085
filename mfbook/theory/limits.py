"""Where the flow ends as the initialization vanishes, in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import two_factors
from mfbook.problems.checks import require_problem
from mfbook.problems.protocols import EntryProblem

EPS = np.finfo(float).eps
# Singular values count as zero or as equal where they differ by less than this times the largest:
# their rounding errors are a few EPS of it.
SAME = 1e-12
# Starts whose hidden vectors span less than this, relative to their size, count as degenerate.
DEGENERATE = 1e-10


def disconnected_limit(problem: EntryProblem, factors: Sequence[ArrayLike]) -> np.ndarray:
    r"""The limit α → 0 of gradient flow from α · (A_0, B_0) where all components are complete.

    Let every connected component p of the observed entries be complete bipartite, with the block
    M_p = U_p Σ_p V_pᵀ of rank r_p (reduced singular value decomposition, falling values). Then

        W_pq = U_p Σ_p^{1/2} C_p C_qᵀ Σ_q^{1/2} V_qᵀ,

    where the rows of C_p ∈ ℝ^{r_p×h} are the Gram–Schmidt orthonormalization, in the order of
    falling singular values, of the rows of U_pᵀ A_0p + V_pᵀ B_0pᵀ. Here A_0p are the rows of A_0
    and B_0p the columns of B_0 in the component. So W fits the blocks, W_pp = M_p, and what it
    puts between two blocks depends on the start. Rows and columns without an observed entry are
    zero in the limit.

    Where singular values of a block are equal, the rows of C_p that belong to them are the polar
    factor of their part orthogonal to the earlier rows; it does not depend on which singular
    vectors were chosen, as Gram–Schmidt would.

    Parameters
    ----------
    problem
        a `MatrixCompletion` of shape (m, n), every component complete bipartite.
    factors
        the directions (A_0, B_0) of shapes (m, h), (h, n), with h ≥ r_p for every p.

    Returns
    -------
    array
        (m, n), the limit W.

    Raises
    ------
    ValueError
        a component that is not complete, a hidden width below the rank of a block, a start whose
        hidden vectors are linearly dependent in a block (the flow misses a singular value).
    TypeError
        not a `MatrixCompletion`.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("1 ? 3; ? 5 ?; 3 ? 9")
    >>> A, B = np.eye(3), np.eye(3)
    >>> disconnected_limit(problem, (A, B)).round(4).tolist()
    [[1.0, 0.0, 3.0], [0.0, 5.0, 0.0], [3.0, 0.0, 9.0]]
    >>> A, B = np.ones((3, 3)) + np.eye(3), np.ones((3, 3)) + np.eye(3)
    >>> disconnected_limit(problem, (A, B)).round(4).tolist()
    [[1.0, 1.9245, 3.0], [1.9245, 5.0, 5.7735], [3.0, 5.7735, 9.0]]

    References
    ----------
    New here; stated and proved in the chapter "The seed decides". Bai, Zhao & Zhang 2024,
    Theorem 4, is a corollary.
    """
    require_problem(problem, entries="the formula is about blocks of observed entries")
    A0, B0 = two_factors(problem, factors, "the formula is about")
    A, B = np.zeros_like(A0), np.zeros_like(B0)
    for rows, cols in problem.parts:
        if not problem.mask[np.ix_(rows, cols)].all():
            raise ValueError(
                f"the component of rows {rows.tolist()} and columns {cols.tolist()} is not "
                "complete: an entry inside it is not observed, and the formula does not cover "
                "it; follow the flow with gradient_flow instead"
            )
        left, sizes, right = np.linalg.svd(problem.values[np.ix_(rows, cols)], full_matrices=False)
        kept = sizes > SAME * sizes[0]
        left, sizes, right = left[:, kept], sizes[kept], right[kept]
        C = _hidden_directions(left.T @ A0[rows] + right @ B0[:, cols].T, sizes)
        A[rows] = (left * np.sqrt(sizes)) @ C
        B[:, cols] = C.T @ (np.sqrt(sizes)[:, None] * right)
    return A @ B


def _hidden_directions(K: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Orthonormal rows C from the rows of K: Gram–Schmidt, by polar factors where sizes tie."""
    rank, h = K.shape
    if rank > h:
        raise ValueError(
            f"a block has rank {rank}, but the hidden width is {h}: no product of that width fits "
            "it; use a width of at least the rank"
        )
    C = np.zeros((0, h))
    for group in np.split(np.arange(rank), 1 + np.flatnonzero(np.diff(sizes) < -SAME * sizes[:1])):
        rest = K[group]
        for _ in range(2):  # twice is enough to be orthogonal to rounding (Kahan and Parlett)
            rest = rest - (rest @ C.T) @ C
        left, lengths, right = np.linalg.svd(rest, full_matrices=False)
        if group.size and lengths[-1] <= DEGENERATE * np.linalg.norm(K[group]):
            raise ValueError(
                "the start is degenerate: the hidden vectors of a block are linearly dependent, "
                "and the flow misses one of its singular values; perturb the start"
            )
        C = np.vstack([C, left @ right])
    return C
