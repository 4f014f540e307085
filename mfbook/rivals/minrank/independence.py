"""A rank is excluded where more rows than that are independent in every completion."""

from __future__ import annotations

import numpy as np

from mfbook.rivals.minrank.component import EXHAUSTIVE, NOISE, Component, levelled

# How many lines were counted, which, and the places where all of them are known.
State = tuple[int, tuple[int, ...], np.ndarray]

# So many orders of the lines are tried where there are too many for all of them.
ORDERS = 50


def independent_lines(
    part: Component, known: np.ndarray, error: np.ndarray, seen: np.ndarray
) -> tuple[int, str]:
    """The length of the longest sequence of rows that are independent in every completion.

    A row counts if it is no combination of those before it on the columns where all of them
    are known. (Suppose the counted rows of a completion were dependent; the last one with a
    nonzero coefficient would be a combination of those before it, on those columns too.)
    The known ranks of submatrices obey a symmetric formula, so that columns would give the
    same number; the shorter side is taken.
    """
    line, names = "rows", part.rows
    if known.shape[0] > known.shape[1]:
        known, error, seen, line, names = known.T, error.T, seen.T, "columns", part.cols
    lines = Lines(known, error, seen, NOISE * part.size)
    count, chosen, _ = lines.longest() if len(known) <= EXHAUSTIVE else lines.long()
    shown = ", ".join(str(names[i]) for i in chosen)
    return count, (
        f"each of the {line} {shown} is no combination of those before it in the places where "
        "all of them are known"
    )


class Lines:
    """The rows of `known` where they are `seen`, and the sequences of independent ones."""

    def __init__(
        self, known: np.ndarray, error: np.ndarray, seen: np.ndarray, noise: float
    ) -> None:
        self.known, self.error, self.seen, self.noise = known, error, seen, noise
        self.none: State = (0, (), np.ones(known.shape[1], dtype=bool))
        self._ranks: dict[tuple[frozenset[int], bytes, bool], int] = {}

    def longest(self) -> State:
        """Of all sequences."""
        best = self.none
        reached: dict[frozenset[int], State] = {frozenset(): best}
        while reached:
            longer: dict[frozenset[int], State] = {}
            for lines, state in reached.items():
                for i in set(range(len(self.known))) - lines:
                    if lines | {i} not in longer and (new := self.extended(state, i)):
                        longer[lines | {i}] = new
            reached = longer
            best = next(iter(reached.values()), best)
        return best

    def long(self) -> State:
        """Of those that some random orders of the lines give."""
        rng = np.random.default_rng(0)
        best = self.none
        for _ in range(ORDERS):
            state = self.none
            for i in rng.permutation(len(self.known)):
                state = self.extended(state, int(i)) or state
            best = max(best, state, key=lambda state: state[0])
        return best

    def extended(self, state: State, i: int) -> State | None:
        """The sequence with line i as its last, if it counts there."""
        count, chosen, shared = state
        lines, shared = frozenset(chosen), shared & self.seen[i]
        if self.rank(lines | {i}, shared, surely=True) > self.rank(lines, shared, surely=False):
            return count + 1, (*chosen, i), shared
        return None

    def rank(self, lines: frozenset[int], shared: np.ndarray, *, surely: bool) -> int:
        """Of the lines on the shared columns: at least (surely), or at most.

        Both are up to the noise of the data, which for the second is that of the entries that it is
        about: against a larger one elsewhere, a rank would be taken for less than it is.
        """
        if not lines or not shared.any():
            return 0
        key = lines, shared.tobytes(), surely
        if key not in self._ranks:
            self._ranks[key] = self._counted(sorted(lines), shared, surely)
        return self._ranks[key]

    def _counted(self, lines: list[int], shared: np.ndarray, surely: bool) -> int:
        block = self.known[lines][:, shared]
        if surely:
            least = self.noise + 4 * float(np.linalg.norm(self.error[lines][:, shared]))
            s = np.linalg.svd(block, compute_uv=False)
        elif len(lines) == 1:
            return int(block.any())
        else:
            least = NOISE
            s = np.linalg.svd(levelled(block), compute_uv=False)
        return int((s > least).sum())
