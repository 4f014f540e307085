"""Where the flow ends as the initialization vanishes, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import factors_of, one_run, require_layers
from mfbook.problems.checks import require_problem
from mfbook.problems.protocols import EntryProblem
from mfbook.theory.limits_deep import Unmoved, signs_of

EPS = np.finfo(float).eps
# Singular values count as zero or as equal where they differ by less than this times the largest:
# their rounding errors are a few EPS of it.
SAME = 1e-12
# Starts whose hidden vectors span less than this, relative to their size, count as degenerate.
DEGENERATE = 1e-10
# From depth three on singular values that are nearer than this, relative to the larger, tie.
TIED = 1e-4


def disconnected_limit(problem: EntryProblem, factors: Sequence[ArrayLike]) -> np.ndarray:
    r"""The limit α → 0 of gradient flow from α · (V_1, …, V_N) where all components are complete.

    Let every connected component p of the observed entries be complete bipartite, with the block
    M_p = U_p Σ_p V_pᵀ of rank r_p (reduced singular value decomposition, falling values). For two
    factors (A_0, B_0)

        W_pq = U_p Σ_p^{1/2} C_p C_qᵀ Σ_q^{1/2} V_qᵀ,

    where the rows of C_p ∈ ℝ^{r_p×h} are the Gram–Schmidt orthonormalization, in the order of
    falling singular values, of the rows of U_pᵀ A_0p + V_pᵀ B_0pᵀ. Here A_0p are the rows of A_0
    and B_0p the columns of B_0 in the component. So W fits the blocks, W_pp = M_p, and what it
    puts between two blocks depends on the start. Rows and columns without an observed entry are
    zero in the limit.

    Where singular values of a block are equal, the rows of C_p that belong to them are the polar
    factor of their part orthogonal to the earlier rows; it does not depend on which singular
    vectors were chosen, as Gram–Schmidt would.

    For three factors and more the same formula has C_p C_qᵀ = diag(ε_kp ε_kq): the k-th singular
    pairs of all components share a hidden column, whatever the start, and the start decides their
    signs alone. The sign ε_kp is that of what the column which blows up on the k-th plateau has of
    the pair. These plateaus are integrated here, in a time without a scale.

    Parameters
    ----------
    problem
        a `MatrixCompletion` of shape (m, n), every component complete bipartite.
    factors
        the directions (A_0, B_0) of shapes (m, h), (h, n), or N of them in product order, with
        hidden widths of at least r_p for every p.

    Returns
    -------
    array
        (m, n), the limit W.

    Raises
    ------
    ValueError
        a component that is not complete, a hidden width below the rank of a block, a start whose
        hidden vectors are linearly dependent in a block (the flow misses a singular value); for
        three factors and more a block with singular values within 1e-4 of each other, whose
        singular vectors the start would choose, and a start that never leaves a plateau or has
        nothing of a pair.
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
    >>> disconnected_limit(problem, (A, np.eye(3), B)).round(4).tolist()
    [[1.0, 2.2361, 3.0], [2.2361, 5.0, 6.7082], [3.0, 6.7082, 9.0]]

    See also
    --------
    deep_limit : the process of three factors and more, for components that are not complete.

    References
    ----------
    Two factors: new here; stated and proved in the chapter "The seed decides". Bai, Zhao & Zhang
    2024, Theorem 4, is a corollary. Three and more: an observation, of which parts are proved; at
    rank one it is in Shin & Yun 2026.
    """
    who = "the formula is about"
    require_problem(problem, entries="the formula is about blocks of observed entries")
    require_layers(problem, f"{who} factors, W = W_1 W_2 ⋯,")
    arrays = factors_of(problem, factors)
    if len(arrays) < 2:
        raise ValueError(
            f"{who} two factors and more, W = W_1 W_2 ⋯, but got {len(arrays)}; with one factor "
            "what is not observed does not move"
        )
    layers = one_run(problem, arrays, who)
    blocks = [_block(problem, rows, cols, layers) for rows, cols in problem.parts]
    directions = _two_factors if len(layers) == 2 else _more_factors
    A, B = np.zeros((problem.shape[0], 0)), np.zeros((0, problem.shape[1]))
    for block, C in zip(blocks, directions(blocks, layers), strict=True):
        if not A.shape[1]:
            A, B = np.zeros((len(A), C.shape[1])), np.zeros((C.shape[1], B.shape[1]))
        A[block.rows] = (block.left * np.sqrt(block.sizes)) @ C
        B[:, block.cols] = C.T @ (np.sqrt(block.sizes)[:, None] * block.right)
    return A @ B


class Block(NamedTuple):
    """A complete component and its singular value decomposition, without values that are zero."""

    rows: np.ndarray
    cols: np.ndarray
    left: np.ndarray
    sizes: np.ndarray
    right: np.ndarray


def _block(
    problem: EntryProblem, rows: np.ndarray, cols: np.ndarray, layers: tuple[np.ndarray, ...]
) -> Block:
    if not problem.mask[np.ix_(rows, cols)].all():
        raise ValueError(
            f"the component of rows {rows.tolist()} and columns {cols.tolist()} is not "
            "complete: an entry inside it is not observed, and the formula does not cover "
            "it; follow the flow with gradient_flow instead"
        )
    left, sizes, right = np.linalg.svd(problem.values[np.ix_(rows, cols)], full_matrices=False)
    kept = sizes > SAME * sizes[0]
    rank, width = int(kept.sum()), min(layer.shape[1] for layer in layers[:-1])
    if rank > width:
        raise ValueError(
            f"a block has rank {rank}, but the hidden width is {width}: no product of that width "
            "fits it; use a width of at least the rank"
        )
    return Block(rows, cols, left[:, kept], sizes[kept], right[kept])


def _two_factors(blocks: list[Block], layers: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    A0, B0 = layers
    return [
        _hidden_directions(
            block.left.T @ A0[block.rows] + block.right @ B0[:, block.cols].T, block.sizes
        )
        for block in blocks
    ]


def _more_factors(blocks: list[Block], layers: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """±1 on the diagonal, as the plateaus decide."""
    for block in blocks:
        if (block.sizes[1:] > (1 - TIED) * block.sizes[:-1]).any():
            raise ValueError(
                "the singular values of a block must differ by more than 1e-4 of themselves, but "
                f"those of rows {block.rows.tolist()} are {block.sizes.tolist()}: which singular "
                "vectors share a hidden column is decided by the start; use deep_limit or "
                "gradient_flow"
            )
    pairs = [
        np.concatenate([block.left.T @ layers[0][block.rows] for block in blocks]),
        *layers[1:-1],
        np.concatenate([layers[-1][:, block.cols] @ block.right.T for block in blocks], axis=1),
    ]
    try:
        signs = signs_of([block.sizes for block in blocks], pairs)
    except Unmoved:
        raise ValueError(
            "the start is degenerate: on the way a plateau does not end, or a singular pair has no "
            "part in the hidden column that leaves it; perturb the start"
        ) from None
    most = max(len(block.sizes) for block in blocks)
    return [np.eye(len(s), most) * s[:, None] for s in signs]


def _hidden_directions(K: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Orthonormal rows C from the rows of K: Gram–Schmidt, by polar factors where sizes tie."""
    rank, h = K.shape
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
