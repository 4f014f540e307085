"""A rank is excluded where more rows than that are independent in every completion."""

from __future__ import annotations

import numpy as np

from mfbook.rivals.minrank.component import EXHAUSTIVE, NOISE, Component, levelled

# How many lines were counted, which, and the places where all of them are known.
State = tuple[int, tuple[int, ...], np.ndarray]


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
    noise = NOISE * part.size
    ranks: dict[tuple[frozenset[int], bytes, bool], int] = {}

    def rank(lines: frozenset[int], shared: np.ndarray, surely: bool) -> int:
        """Of the lines on the shared columns: at least (surely), or at most.

        Both are up to the noise of the data, which for the second is that of the entries that it is
        about: against a larger one elsewhere, a rank would be taken for less than it is.
        """
        if not lines:
            return 0
        key = lines, shared.tobytes(), surely
        if key not in ranks:
            chosen = sorted(lines)
            block = known[chosen][:, shared]
            if not block.size:
                ranks[key] = 0
            elif surely:
                s = np.linalg.svd(block, compute_uv=False)
                doubt = noise + 4 * np.linalg.norm(error[chosen][:, shared])
                ranks[key] = int((s > doubt).sum())
            elif len(chosen) == 1:
                ranks[key] = int(block.any())
            else:
                s = np.linalg.svd(levelled(block), compute_uv=False)
                ranks[key] = int((s > NOISE).sum())
        return ranks[key]

    def extended(state: State, i: int) -> State | None:
        count, chosen, shared = state
        lines, shared = frozenset(chosen), shared & seen[i]
        if rank(lines | {i}, shared, True) > rank(lines, shared, False):
            return count + 1, (*chosen, i), shared
        return None

    m, n = known.shape
    best: State = (0, (), np.ones(n, dtype=bool))
    if m <= EXHAUSTIVE:
        reached: dict[frozenset[int], State] = {frozenset(): best}
        while reached:
            longer: dict[frozenset[int], State] = {}
            for lines, state in reached.items():
                for i in set(range(m)) - lines:
                    if lines | {i} not in longer and (new := extended(state, i)):
                        longer[lines | {i}] = new
            reached = longer
            best = next(iter(reached.values()), best)
    else:
        rng = np.random.default_rng(0)
        for _ in range(50):
            state = (0, (), np.ones(n, dtype=bool))
            for i in rng.permutation(m):
                state = extended(state, int(i)) or state
            best = max(best, state, key=lambda state: state[0])
    shown = ", ".join(str(names[i]) for i in best[1])
    return best[0], (
        f"each of the {line} {shown} is no combination of those before it in the places where "
        "all of them are known"
    )
