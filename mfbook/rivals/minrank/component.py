"""The observed entries of one connected component, scaled so that one tolerance serves them all.

Two roundings are built in. Entries that were computed as products carry relative errors of a few
units in the last place, so an equation between them counts as violated only when it fails by more
than `NOISE`. And a factorization fits that agrees with every entry to `FITS` of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfbook.problems import MatrixCompletion
from mfbook.problems.graph import components

NOISE = 64 * np.finfo(float).eps
FITS = 1e-12
# Arguments that visit all subsets of the lines of one side do so up to here.
EXHAUSTIVE = 8


@dataclass(frozen=True, eq=False)
class Component:
    """Values on a mask, zero elsewhere, after scaling; `rows` and `cols` are places in the whole.

    The data are values / row_scale / col_scale, and so is what is known of the truth.
    """

    values: np.ndarray
    mask: np.ndarray
    truth: np.ndarray | None
    rows: np.ndarray
    cols: np.ndarray
    row_scale: np.ndarray
    col_scale: np.ndarray

    @property
    def size(self) -> float:
        """The largest entry; about one, after scaling."""
        return float(np.abs(self.values).max())

    def name(self, entries) -> str:
        return " ".join(f"({self.rows[i]},{self.cols[j]})" for i, j in entries)

    def unscaled(self, A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factors of the data from those of the scaled values."""
        A, B = A / self.row_scale[:, None], B / self.col_scale
        # Components meet in the entries A_p B_q: balanced factors keep those at the data's scale.
        balance = np.sqrt(np.abs(B).max() / np.abs(A).max())
        return A * balance, B / balance


def components_of(problem: MatrixCompletion) -> list[Component]:
    """The components among the rows and columns that hold a nonzero observed entry.

    The others fit as zeros, which changes no rank; and nothing would give them a scale.
    """
    nonzero = problem.mask & (problem.values != 0)
    lives = nonzero.any(axis=1)[:, None] & nonzero.any(axis=0)
    parts = components(problem.mask & lives)
    return [_component(problem, rows, cols) for rows, cols in parts]


def _component(problem, rows, cols) -> Component:
    block = np.ix_(rows, cols)
    mask = problem.mask[block]
    values = np.where(mask, problem.values[block], 0.0)
    row, col = _balancing_scales(values)
    truth = None
    if problem.truth is not None:
        with np.errstate(over="ignore"):
            truth = problem.truth[block] * row[:, None] * col
        # Where nothing was observed its entries may leave the range of the numbers.
        truth = truth if np.isfinite(truth).all() else None
    return Component(values * row[:, None] * col, mask, truth, rows, cols, row, col)


def _balancing_scales(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Powers of two for the rows and columns that bring the nonzero entries close to size one.

    Scaling rows and columns changes no rank, and powers of two change no digit; afterwards one
    tolerance serves all entries.
    """
    nonzero = values != 0
    logs = np.log2(np.abs(values), where=nonzero, out=np.zeros_like(values))
    row, col = np.zeros(len(values)), np.zeros(values.shape[1])
    for _ in range(10):
        row = -((logs + col) * nonzero).sum(axis=1) / np.maximum(nonzero.sum(axis=1), 1)
        col = -((logs + row[:, None]) * nonzero).sum(axis=0) / np.maximum(nonzero.sum(axis=0), 1)
    with np.errstate(over="ignore", under="ignore"):
        scales = np.exp2(np.round(row)), np.exp2(np.round(col))
    if not all(np.isfinite(scale).all() and scale.all() for scale in scales):
        raise ValueError(
            f"observed values from {smallest_nonzero(values):.3g} to {np.abs(values).max():.3g} "
            "reach beyond what floats can compare; scale rows and columns so that they are closer "
            "to 1, which changes no rank"
        )
    return scales


def smallest_nonzero(values: np.ndarray) -> float:
    return np.abs(values[values != 0]).min(initial=np.inf)
