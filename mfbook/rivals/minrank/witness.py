"""A rank is reached where factors of that width fit: from what is known, then from many starts."""

from __future__ import annotations

from itertools import islice

import numpy as np

from mfbook.rivals.levenberg import Batch, EntryFit, at, descent
from mfbook.rivals.minrank.component import EPS, FITS, LARGEST, Component, Factors, met

# A witness whose entries are so many times the data is refused: it may be a step of a sequence
# that fits better and better while it runs to infinity, and fits at no finite place.
BLOWN_UP = 1e4


def witness(
    part: Component, rank: int, determined: np.ndarray | None, starts: int
) -> Factors | None:
    """Factors of width `rank` that fit, or None. `determined` is the one candidate, if known."""
    for W in (determined, part.truth):
        factors = None if W is None else near(part, rank, W)
        if factors is not None:
            return factors
    return from_random_starts(part, rank, starts)


def near(part: Component, rank: int, W: np.ndarray) -> Factors | None:
    """Factors that fit, a few steps away from the best approximation of W."""
    if np.abs(W).max() > LARGEST:
        return None
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(s[:rank])
    A, B = U[:, :rank] * root, root[:, None] * Vt[:rank]
    # Nothing runs away here: this matrix exists, however large it is.
    size = 2 * max(part.size, np.abs(W).max())
    return search(part, A[None], B[None], max_iters=20, patience=20, largest=size)


def from_random_starts(part: Component, rank: int, starts: int) -> Factors | None:
    m, n = part.values.shape
    unknowns, entries = (m + n) * rank, int(part.mask.sum())
    # About two seconds of linear algebra a rank, at 10^9 operations a second.
    affordable = max(2e9 / (unknowns * entries * min(unknowns, entries)), 100.0)
    rng = np.random.default_rng(rank)
    for count, max_iters in ((4, 50), (16, 150), (starts, 400)):
        max_iters = int(min(max_iters, affordable))
        count = int(max(1, min(count, starts, affordable / max_iters)))
        A, B = rng.standard_normal((count, m, rank)), rng.standard_normal((count, rank, n))
        patience = 100 if affordable > 1000 else 15
        factors = search(part, A, B, max_iters, patience, BLOWN_UP * part.size)
        if factors is not None:
            return factors
    return None


def search(
    part: Component,
    A: np.ndarray,
    B: np.ndarray,
    max_iters: int,
    patience: int,
    largest: float,
) -> Factors | None:
    """The first of all starts that fits with entries up to `largest`, polished, or None.

    It ends where for more than `patience` steps no start was a tenth below the lowest loss.
    """
    fit = EntryFit(part.mask, part.values, A.shape[2])
    batch = at(fit, A, B, damping=1.0)
    record, since = batch.loss.min(), 0
    for after in islice(descent(fit, batch), max_iters):
        factors = _first_that_fits(fit, batch, part, largest)
        if factors is not None or since > patience:
            return factors
        batch, lowest = after, after.loss.min()
        record, since = (lowest, 0) if lowest < 0.9 * record else (record, since + 1)
    return None


def _first_that_fits(
    fit: EntryFit, batch: Batch, part: Component, largest: float
) -> Factors | None:
    close = np.abs(batch.residual).max(axis=1) <= 1e-9 * part.size
    for start in np.flatnonzero(close):
        A, B = _polished(fit, batch.A[start], batch.B[start])
        if np.abs(A @ B).max() <= largest and agrees(part, A, B):
            return A, B
    return None


def agrees(part: Component, A: np.ndarray, B: np.ndarray) -> bool:
    """Whether A B has every observed entry by itself.

    And misfit and rounding are at most `FITS` of the largest, before the scaling and after it.
    """
    missing = np.where(part.mask, np.abs(A @ B - part.values), 0.0)
    rounding = np.where(part.mask, A.shape[1] * EPS * (np.abs(A) @ np.abs(B)), 0.0)
    if not met(missing, part.values, rounding):
        return False
    doubt = missing + rounding
    return bool(doubt.max() <= FITS * part.size) and part.share_of_data(doubt) <= FITS


def _polished(fit: EntryFit, A: np.ndarray, B: np.ndarray) -> Factors:
    """The factors after undamped steps of least norm, down to rounding."""
    A, B = A[None], B[None]
    residual = fit.residual(A, B)
    for _ in range(4):
        step = np.linalg.lstsq(fit.jacobian(A, B)[0], residual[0], rcond=1e-11)[0]
        moved = fit.moved(A, B, step[None])
        after = fit.residual(*moved)
        if not np.abs(after).max() < np.abs(residual).max():
            break
        (A, B), residual = moved, after
    return A[0], B[0]
