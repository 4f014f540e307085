"""A rank is excluded where two minors that have to vanish have no common real zero."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np

from mfbook.rivals.minrank.component import EXHAUSTIVE, Component

# For each pair of unobserved entries the coefficients (a, b, c, d) of the minors that hold it.
Equations = dict[tuple[tuple[int, int], tuple[int, int]], list[tuple[float, ...]]]


def rootless_pair(part: Component, rank: int) -> str:
    """The reason why two unobserved entries have no real values at this rank; "" if none.

    A minor of size rank + 1 with the unobserved entries x and y vanishes: (b x + d) +
    (a x + c) y = 0. Two such equations have a common y only where their resultant, a
    quadratic in x, is zero; a negative discriminant leaves no real x.
    """
    if max(part.mask.shape) > EXHAUSTIVE:
        return ""
    # Data that span hundreds of magnitudes overflow, and then exclude nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        return _negative_discriminant(part, rank, _equations(part, rank + 1))


def _equations(part: Component, k: int) -> Equations:
    """What the minors of size k with two unobserved entries say of these."""
    equations: Equations = {}
    for S in combinations(range(len(part.mask)), k):
        for T in combinations(range(part.mask.shape[1]), k):
            places = np.argwhere(~part.mask[np.ix_(S, T)])
            if len(places) != 2:
                continue
            minors = np.repeat(part.values[np.ix_(S, T)][None], 4, axis=0)
            (i, j), (p, q) = places
            minors[:, i, j], minors[:, p, q] = (0, 1, 0, 1), (0, 0, 1, 1)
            d, bd, cd, abcd = np.linalg.det(minors)
            pair = (S[i], T[j]), (S[p], T[q])
            equations.setdefault(pair, []).append((abcd - bd - cd + d, bd - d, cd - d, d))
    return equations


def _negative_discriminant(part: Component, rank: int, equations: Equations) -> str:
    """The reason that two equations of one pair of entries give; "" if there is none."""
    # All terms of the discriminant have degree 4·rank in the data, so this is their rounding. (A
    # float of Python would raise where it overflows.)
    rounding = 1e-12 * factorial(rank + 1) ** 4 * np.float64(part.size) ** (4 * rank)
    for pair, minors in equations.items():
        for (a, b, c, d), (e, f, g, h) in combinations(minors, 2):
            linear = b * g + d * e - f * c - h * a
            if linear**2 - 4 * (b * e - f * a) * (d * g - h * c) < -rounding:
                return (
                    f"at rank {rank} two minors make the unobserved entries {part.name(pair)} "
                    "solve a quadratic equation that has no real root"
                )
    return ""
