"""Many iterations of gradient descent where few entries are observed, compiled.

The rows of A and of Bᵀ, or of U, are those of one stack Z, and an observed entry is the inner
product of two of them. An iteration then takes three sums over the entries that are observed, where
matrices would multiply all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mfbook.flow.shallow.compiled import compiled, say_that_it_compiles
from mfbook.problems.protocols import EntryProblem, is_symmetric

# So many iterations, of all runs together, take about a second, in which Ctrl-C is not heard.
AT_ONCE = 5_000_000


class Entries(NamedTuple):
    """Entry l is ⟨Z[left[l]], Z[right[l]]⟩; problem q has those from first[q] to first[q + 1].

    With one factor, `square`, an entry and its mirror image are two entries.
    """

    first: np.ndarray
    left: np.ndarray
    right: np.ndarray
    values: np.ndarray
    weight: np.ndarray
    square: bool


@compiled
def advance(
    entries: Entries,
    owner: np.ndarray,
    Z: np.ndarray,
    step: np.ndarray,
    goal: np.ndarray,
    bound: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Move every run of Z, in place, until its excess is at its goal, no longer within its bound,
    or `count` iterations are done; the iterations and the excess of each."""
    taken, excess = np.zeros(len(Z), dtype=np.int64), np.zeros(len(Z))
    gradient = np.zeros(Z.shape[1:])
    for run in range(len(Z)):
        z, problem = Z[run], owner[run]
        begin, end = entries.first[problem], entries.first[problem + 1]
        weight = entries.weight[problem]
        while True:
            # Residual and gradient, entry by entry. At the end of a run its gradient is not needed.
            gradient[:] = 0.0
            squares = 0.0
            for entry in range(begin, end):
                i, j = entries.left[entry], entries.right[entry]
                product = 0.0
                for column in range(z.shape[1]):
                    product += z[i, column] * z[j, column]
                residual = product - entries.values[entry]
                squares += residual**2
                slope = 2.0 * weight * residual
                for column in range(z.shape[1]):
                    gradient[i, column] += slope * z[j, column]
                if not entries.square:
                    for column in range(z.shape[1]):
                        gradient[j, column] += slope * z[i, column]
            excess[run] = weight * squares
            within = goal[run] < excess[run] <= bound[run]
            if taken[run] == count or (taken[run] > 0 and not within):
                break
            for row in range(z.shape[0]):
                for column in range(z.shape[1]):
                    z[row, column] -= step[run] * gradient[row, column]
            taken[run] += 1
    return taken, excess


class Walk:
    """What calls `advance` for runs that each have one of these problems."""

    def __init__(self, problems: Sequence[EntryProblem], owner: np.ndarray) -> None:
        say_that_it_compiles(advance, "some seconds")
        m = problems[0].shape[0]
        square = is_symmetric(problems[0])
        places = [np.nonzero(problem.mask) for problem in problems]
        self.m, self.owner = m, owner
        self.entries = Entries(
            first=np.cumsum([0, *(len(rows) for rows, _ in places)]),
            left=np.concatenate([rows for rows, _ in places]),
            right=np.concatenate([cols for _, cols in places]) + (0 if square else m),
            values=np.concatenate([problem.values[problem.mask] for problem in problems]),
            weight=np.array([problem.weight for problem in problems], dtype=float),
            square=square,
        )

    def __call__(
        self,
        arrays: Sequence[np.ndarray],
        runs: np.ndarray,
        step: np.ndarray,
        goal: np.ndarray,
        bound: np.ndarray,
        count: int,
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """The factors after `count` iterations, or as many as a run needs to its end; these
        iterations, and the excess there."""
        count = min(count, max(1, AT_ONCE // len(runs)))
        turned = [arrays[0], *(np.swapaxes(array, -2, -1) for array in arrays[1:])]
        Z = np.concatenate(turned, axis=-2)
        taken, excess = advance(self.entries, self.owner[runs], Z, step, goal, bound, count)
        if self.entries.square:
            return [Z], taken, excess
        return [Z[:, : self.m].copy(), np.swapaxes(Z[:, self.m :], -2, -1).copy()], taken, excess
