"""What every completion of a rank shares: entries that the observed ones determine."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from mfbook.rivals.minrank.component import EXHAUSTIVE, NOISE, Component


def eliminate(part: Component, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries that every completion of at most this rank shares: (values, error bounds, where).

    If `rank` rows S are independent on the columns K where they and row i are known, then
    row i is x·(rows S) with x determined on K, wherever the rows S are known.
    """
    known, seen = part.values.copy(), part.mask.copy()
    error = np.where(seen, NOISE * part.size, 0.0)
    m = len(known)
    if m > EXHAUSTIVE or known.shape[1] > EXHAUSTIVE:
        return known, np.zeros_like(error), seen
    changed = True
    while changed and not seen.all():
        changed = False
        for S in map(list, combinations(range(m), rank)):
            common = seen[S].all(axis=0)
            if common.sum() <= rank:
                continue
            for i in set(range(m)) - set(S):
                K, new = common & seen[i], common & ~seen[i]
                if K.sum() < rank or not new.any():
                    continue
                base = known[S][:, K]
                s = np.linalg.svd(base, compute_uv=False)
                if s[-1] <= 1e3 * np.linalg.norm(error[S][:, K]) + 1e-9 * s[0]:
                    continue
                inverse = np.linalg.pinv(base)
                x = known[i, K] @ inverse
                doubt = (error[i, K] + np.abs(x) @ error[S][:, K]) @ np.abs(inverse)
                others = known[S][:, new]
                known[i, new] = x @ others
                error[i, new] = 2 * (
                    doubt @ np.abs(others)
                    + np.abs(x) @ error[S][:, new]
                    + NOISE * np.abs(x) @ np.abs(others)
                )
                seen[i, new] = changed = True
    return known, error - np.where(part.mask, NOISE * part.size, 0.0), seen
