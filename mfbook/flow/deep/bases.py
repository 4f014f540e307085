"""Bases of rows and columns in which complete components fall apart into their singular pairs.

A complete component with the block M = U diag(s) Vᵀ asks W to be M there, which is, in the bases U
and V, to be diag(s). From a rest of the felt layers no pair (s_k, u_k, v_k) that they have nothing
of knows of the others any more. So it is a block of its own, as a component is, with a size of its
own that may be 10^-1000 beside that of the pairs which have been learned.

With one component there is nothing that a hidden column could have beside what it has of the
largest pair: the rest of it fades. So a single component is left in the bases that it came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Pairs whose values differ by less than this share stand in one block.
TIED = 1e-4
# Singular values below this share of the first are rounding.
NONE = 1e-12


@dataclass(frozen=True)
class Block:
    """Rows and columns of a part that starts to move by itself, and the component it is of."""

    rows: np.ndarray
    cols: np.ndarray
    component: int


@dataclass(frozen=True)
class Bases:
    """Orthogonal matrices with W = left · Ŵ · rightᵀ, the data M̂, and the blocks of Ŵ."""

    left: np.ndarray
    right: np.ndarray
    values: np.ndarray
    blocks: list[Block]


def singular_bases(
    values: np.ndarray, mask: np.ndarray, components: list[tuple[np.ndarray, np.ndarray]]
) -> Bases:
    """Complete components, where they are not alone, in their singular vectors; others as they are.

    `values` are the data, 0 where the mask is False.
    """
    left, right, values = np.eye(len(values)), np.eye(values.shape[1]), values.copy()
    blocks = []
    for number, (rows, cols) in enumerate(components):
        if len(components) == 1 or not mask[np.ix_(rows, cols)].all():
            blocks.append(Block(rows, cols, number))
            continue
        u, s, vt = np.linalg.svd(values[np.ix_(rows, cols)])
        s[s <= NONE * s[0]] = 0.0
        left[np.ix_(rows, rows)], right[np.ix_(cols, cols)] = u, vt.T
        diagonal = np.zeros((len(rows), len(cols)))
        diagonal[np.arange(len(s)), np.arange(len(s))] = s
        values[np.ix_(rows, cols)] = diagonal
        rank = int(np.count_nonzero(s))
        first = [k for k in range(rank) if k == 0 or s[k] < (1 - TIED) * s[k - 1]]
        for low, high in pairwise([*first, rank]):
            blocks.append(Block(rows[low:high], cols[low:high], number))
        if rank < max(len(rows), len(cols)):
            blocks.append(Block(rows[rank:], cols[rank:], number))
    return Bases(left, right, values, blocks)


def given(
    left: np.ndarray, right: np.ndarray, components: list[tuple[np.ndarray, np.ndarray]]
) -> Bases:
    """Bases found elsewhere, of the rows and columns of every component by themselves."""
    blocks = [Block(rows, cols, number) for number, (rows, cols) in enumerate(components)]
    return Bases(left, right, np.zeros((len(left), len(right))), blocks)
