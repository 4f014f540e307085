"""The smallest rank of a positive semidefinite matrix U Uᵀ that fits the observed entries.

No matrix of a rank that is excluded for all completions is excluded any less here, so the proofs
from below are those of `smallest`. From above a matrix U Uᵀ is looked for, which two factors of the
same width would not give.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mfbook.problems.in_units import power_of_two
from mfbook.problems.protocols import EntryProblem
from mfbook.rivals.levenberg import FLOOR
from mfbook.rivals.minrank.component import EPS, FITS, met
from mfbook.rivals.minrank.witness import BLOWN_UP
from mfbook.rivals.nuclear import min_nuclear_norm
from mfbook.rivals.nuclear.data import Entries, affine_set
from mfbook.theory.measures import numerical_rank

# Steps of Levenberg and Marquardt from one start, and the dampings between which they move.
STEPS, FALL, RISE, LEAST, MOST = 200, 4.0, 3.0, 1e-14, 1e8
# A start is given up whose residual has not halved in so many steps.
PATIENCE = 20
# An eigenvalue of the truth counts from this share of the largest on.
SAME = 1e-9


def square_witness(problem: EntryProblem, bound: int, starts: int) -> tuple[np.ndarray, int]:
    """A positive semidefinite W that fits, and its rank, the smallest ≥ bound that was found."""
    if bound == 0:
        return np.zeros(problem.shape), 0
    data = affine_set(problem, True)
    assert isinstance(data, Entries)
    for rank in range(bound, problem.shape[0]):
        for U in _starts(problem, data, rank, starts):
            found = _fitted(data, U)
            if found is not None and np.abs(found).max() ** 2 <= BLOWN_UP:
                return data.unit * (found @ found.T), rank
    W = min_nuclear_norm(problem).W
    # In units of its diagonal, where data ask for it: a row may be small, and no less a row.
    given = data.particular.any(axis=1)
    size = np.where(given, power_of_two(np.sqrt(np.diag(W) / data.unit)), 1.0)
    return W, int(numerical_rank(W / data.unit / size[:, None] / size))


def _starts(problem: EntryProblem, data: Entries, rank: int, starts: int) -> Iterator[np.ndarray]:
    truth = getattr(problem, "truth", None)
    if truth is not None:
        values, vectors = np.linalg.eigh(truth / data.unit)
        if values[0] >= -SAME * values[-1] and np.sum(values > SAME * values[-1]) == rank:
            yield vectors[:, -rank:] * np.sqrt(values[-rank:])
    rng = np.random.default_rng(0)
    for _ in range(starts):
        yield rng.standard_normal((problem.shape[0], rank))


def _fitted(data: Entries, U: np.ndarray) -> np.ndarray | None:
    """U moved onto the data by steps that solve (JᵀJ + λ I) step = Jᵀ residual, or None."""
    # Rows of zeros, or without an entry, fit as zeros.
    U = np.where(data.zero[:, None] | ~data.particular.any(axis=1, keepdims=True), 0.0, U)
    residual, J = data.residual_and_jacobian(U)
    damping, before = 1.0, np.inf
    for step in range(STEPS):
        if np.abs(residual).max(initial=0.0) <= FITS and _agrees(data, U):
            return U
        if step % PATIENCE == 0:
            if np.linalg.norm(residual) > 0.5 * before:
                return None
            before = float(np.linalg.norm(residual))
        gram = J.T @ J
        gram += (damping + FLOOR * np.trace(gram)) * np.eye(U.size)
        moved = U - np.linalg.solve(gram, J.T @ residual).reshape(U.shape)
        tried, J_tried = data.residual_and_jacobian(moved)
        if np.linalg.norm(tried) < np.linalg.norm(residual):
            U, residual, J = moved, tried, J_tried
            damping = max(damping / FALL, LEAST)
        else:
            damping = damping * RISE
            if damping > MOST:
                return None
    return None


def _agrees(data: Entries, U: np.ndarray) -> bool:
    """Whether U Uᵀ has every observed entry by itself."""
    missing = np.abs(U @ U.T - data.particular)
    rounding = U.shape[1] * EPS * (np.abs(U) @ np.abs(U.T))
    return met(missing[data.mask], data.particular[data.mask], rounding[data.mask])
