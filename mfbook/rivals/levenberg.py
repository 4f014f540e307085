r"""Levenberg–Marquardt for a batch of factors (A, B) that should fit observed entries of A B.

    min Σ_{(i,j) ∈ Ω} ((A B)_ij − M_ij)²,   A (m, k), B (k, n),

by steps that solve (JᵀJ + λ I) step = Jᵀ residual, each start with a damping λ of its own, which
falls where the loss fell and rises where it did not. When to stop is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# A damping falls by the first factor where the loss fell, rises by the second where it did not, and
# stays between the last two. Data of size one are meant.
FALL, RISE = 4.0, 3.0
LEAST, MOST = 1e-12, 1e8
# Added to every damping in units of tr JᵀJ: where factors run to infinity, the damping alone drowns
# in the rounding of JᵀJ, and the system becomes singular.
FLOOR = 1e-14


class EntryFit:
    """The residuals of observed entries as functions of factors of one width, and their Jacobian.

    Leading axes of length s count the starts: A is (s, m, k), B (s, k, n), a residual (s, N).
    """

    def __init__(self, mask: np.ndarray, values: np.ndarray, width: int) -> None:
        self.width, (self.m, self.n) = width, mask.shape
        self.rows, self.cols = np.nonzero(mask)
        self.target = values[self.rows, self.cols]
        # Where the derivatives of an entry stand among the unknowns: A row by row, then B column
        # by column, so that each takes one run.
        entry, run = np.arange(len(self.rows))[:, None], np.arange(width)
        self._of_row = entry, self.rows[:, None] * width + run
        self._of_col = entry, (self.m + self.cols[:, None]) * width + run

    def residual(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        return np.einsum("ser,sre->se", A[:, self.rows], B[:, :, self.cols]) - self.target

    def jacobian(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        J = np.zeros((len(A), len(self.rows), (self.m + self.n) * self.width))
        J[:, *self._of_row] = B[:, :, self.cols].transpose(0, 2, 1)
        J[:, *self._of_col] = A[:, self.rows]
        return J

    def moved(
        self, A: np.ndarray, B: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The factors after a step (s, unknowns) against the gradient."""
        cut = self.m * self.width
        of_cols = step[:, cut:].reshape(-1, self.n, self.width)
        return A - step[:, :cut].reshape(-1, self.m, self.width), B - of_cols.transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class Batch:
    """All starts between two steps."""

    A: np.ndarray
    B: np.ndarray
    residual: np.ndarray
    loss: np.ndarray
    damping: np.ndarray
    tried: np.ndarray  # the loss that the last step led to; it was taken where that was less

    def chosen(self, keep: np.ndarray) -> Batch:
        """Some of the starts."""
        return Batch(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def at(fit: EntryFit, A: np.ndarray, B: np.ndarray, damping: float) -> Batch:
    """The batch that begins at (A, B)."""
    residual = fit.residual(A, B)
    loss = np.square(residual).sum(axis=1)
    return Batch(A, B, residual, loss, np.full(len(A), damping), loss)


def descent(fit: EntryFit, batch: Batch) -> Iterator[Batch]:
    """The batch after one step, two steps, …; no start's loss ever grows."""
    while True:
        batch = _stepped(fit, batch)
        yield batch


def _stepped(fit: EntryFit, batch: Batch) -> Batch:
    A, B = batch.A, batch.B
    J = fit.jacobian(A, B)
    Jt = J.transpose(0, 2, 1)
    # Of the two forms of the step, (JᵀJ + λ)⁻¹ Jᵀ r = Jᵀ (J Jᵀ + λ)⁻¹ r, the smaller system.
    wide = J.shape[1] <= J.shape[2]
    gram = J @ Jt if wide else Jt @ J
    size = gram.shape[1]
    weight = batch.damping + FLOOR * np.trace(gram, axis1=1, axis2=2)
    gram += weight[:, None, None] * np.eye(size)
    r = batch.residual[:, :, None]
    step = Jt @ np.linalg.solve(gram, r) if wide else np.linalg.solve(gram, Jt @ r)
    A_new, B_new = fit.moved(A, B, step[:, :, 0])
    # A step that leaves the range of the numbers is none.
    with np.errstate(over="ignore", invalid="ignore"):
        r_new = fit.residual(A_new, B_new)
        tried = np.square(r_new).sum(axis=1)
    better = tried < batch.loss
    return Batch(
        np.where(better[:, None, None], A_new, A),
        np.where(better[:, None, None], B_new, B),
        np.where(better[:, None], r_new, batch.residual),
        np.where(better, tried, batch.loss),
        np.clip(np.where(better, batch.damping / FALL, batch.damping * RISE), LEAST, MOST),
        tried,
    )
