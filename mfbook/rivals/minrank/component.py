"""The observed entries of one connected component, scaled so that one tolerance serves them all.

Two roundings are built in. Entries that were computed as products carry relative errors of a few
units in the last place, so an equation between them counts as violated only when it fails by more
than `NOISE`. And a factorization fits that agrees with every entry to `FITS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mfbook.problems import MatrixCompletion
from mfbook.problems.graph import components

EPS = float(np.finfo(float).eps)
NOISE = 64 * EPS
FITS = 1e-12
# Arguments that visit all subsets of the lines of one side do so up to here.
EXHAUSTIVE = 8
# Entries beyond it after scaling are too large to compute with: their squares have to be numbers.
LARGEST = 1e100
# The powers of two that are floats.
POWERS = -1074, 1023

#: (A, B), whose product is meant.
Factors = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Component:
    """Values on a mask, zero elsewhere, after scaling; `rows` and `cols` are places in the whole.

    The data are values · 2^(−row_power − col_power), and so is what is known of the truth.
    """

    values: np.ndarray
    mask: np.ndarray
    truth: np.ndarray | None
    rows: np.ndarray
    cols: np.ndarray
    row_power: np.ndarray
    col_power: np.ndarray

    @property
    def size(self) -> float:
        """The largest entry; about one, after scaling."""
        return float(np.abs(self.values).max())

    def share_of_data(self, missing: np.ndarray) -> float:
        """The largest of |missing|, as a share of the largest datum, both before the scaling."""
        power = -(self.row_power[:, None] + self.col_power)
        (part, of_part), (most, of_most) = _largest(missing, power), _largest(self.values, power)
        return float(np.ldexp(part / most, of_part - of_most))

    def name(self, entries: Iterable[tuple[int, int]]) -> str:
        return " ".join(f"({self.rows[i]},{self.cols[j]})" for i, j in entries)

    def unscaled(self, A: np.ndarray, B: np.ndarray) -> Factors:
        """Factors of the data from those of the scaled values."""
        # Components meet in the entries A_p B_q: balanced factors keep those at the data's scale.
        (a, of_a), (b, of_b) = _largest(A, -self.row_power[:, None]), _largest(B, -self.col_power)
        half, odd = divmod(of_b - of_a, 2)
        balance = np.sqrt(b / a * 2**odd)
        with np.errstate(over="ignore"):
            return (
                np.ldexp(A * balance, half - self.row_power[:, None]),
                np.ldexp(B / balance, -half - self.col_power),
            )


def _largest(factor: np.ndarray, power: np.ndarray) -> tuple[float, int]:
    """x and e such that x 2^e is the largest entry of |factor| 2^power, 1/2 ≤ x < 1."""
    entries, exponents = np.frexp(np.abs(factor))
    exponents = exponents + power
    top = int(exponents[factor != 0].max())
    return float(entries[(factor != 0) & (exponents == top)].max()), top


def components_of(problem: MatrixCompletion) -> list[Component]:
    """The components among the rows and columns that hold a nonzero observed entry.

    The others fit as zeros, which changes no rank; and nothing would give them a scale.
    """
    nonzero = problem.mask & (problem.values != 0)
    lives = nonzero.any(axis=1)[:, None] & nonzero.any(axis=0)
    parts = components(problem.mask & lives)
    return [_component(problem, rows, cols) for rows, cols in parts]


def _component(problem: MatrixCompletion, rows: np.ndarray, cols: np.ndarray) -> Component:
    block = np.ix_(rows, cols)
    mask = problem.mask[block]
    values = np.where(mask, problem.values[block], 0.0)
    row, col = _balancing_powers(values)
    power = row[:, None] + col
    with np.errstate(over="ignore"):
        scaled = np.ldexp(values, power)
        truth = None if problem.truth is None else np.ldexp(problem.truth[block], power)
    if not np.isfinite(scaled).all() or ((scaled == 0) != (values == 0)).any():
        raise too_far_apart(values)
    return Component(scaled, mask, truth, rows, cols, row, col)


def _balancing_powers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The powers of two, of the rows and columns, that bring the nonzero entries close to size one.

    Scaling rows and columns changes no rank, and powers of two change no digit; afterwards one
    tolerance serves all entries.
    """
    nonzero = values != 0
    logs = np.log2(np.abs(values), where=nonzero, out=np.zeros_like(values))
    row, col = np.zeros(len(values)), np.zeros(values.shape[1])
    for _ in range(10):
        row = -((logs + col) * nonzero).sum(axis=1) / np.maximum(nonzero.sum(axis=1), 1)
        col = -((logs + row[:, None]) * nonzero).sum(axis=0) / np.maximum(nonzero.sum(axis=0), 1)
    powers = np.round(row).astype(int), np.round(col).astype(int)
    if any(power.min() < POWERS[0] or power.max() > POWERS[1] for power in powers):
        raise too_far_apart(values)
    return powers


def met(missing: np.ndarray, values: np.ndarray, rounding: np.ndarray) -> bool:
    """Whether each entry by itself is met so far as a product in double precision can.

    That is up to `FITS` of it and the rounding of the sum that makes it: a tolerance of the largest
    says nothing of an entry that is far smaller.
    """
    return not (missing > FITS * np.abs(values) + 8 * rounding).any()


def levelled(block: np.ndarray) -> np.ndarray:
    """The block with its rows and columns scaled so that the largest of each is about one."""
    for axis in (1, 0, 1, 0):
        block = np.ldexp(block, -np.frexp(np.abs(block).max(axis=axis, keepdims=True))[1])
    return block


def too_far_apart(values: np.ndarray) -> ValueError:
    return ValueError(
        f"observed values from {smallest_nonzero(values):.3g} to {np.abs(values).max():.3g} reach "
        "beyond what floats can compare; scale rows and columns so that they are closer to 1, "
        "which changes no rank"
    )


def smallest_nonzero(values: np.ndarray) -> float:
    return np.abs(values[values != 0]).min(initial=np.inf)
