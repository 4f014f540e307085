"""What is recorded of runs of gradient descent, and the trajectory that is read off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mfbook.flow.trajectory import ARRIVED, Phase, Trajectory, resting_phases


class Records:
    """The points kept along the path, of all runs at common iterations."""

    # W is kept at every record: 64 MB hold 1,000 records of 500 runs of 4×4.
    BYTES = 64e6

    def __init__(self, shape: tuple[int, int], runs: int, most: int) -> None:
        self.most = int(np.clip(self.BYTES / (8 * runs * shape[0] * shape[1]), 16, most))
        self.stride = 1
        self.iterations: list[int] = []
        self.W: list[np.ndarray] = []
        self.loss: list[np.ndarray] = []
        self.norm: list[np.ndarray] = []
        self.now = (np.zeros((runs, *shape)), np.zeros(runs), np.zeros(runs))

    def due(self, iteration: int) -> bool:
        return iteration % self.stride == 0

    def next_due(self, iteration: int) -> int:
        return self.stride * (iteration // self.stride + 1)

    def update(self, runs: np.ndarray, W: np.ndarray, loss: np.ndarray, norm: np.ndarray) -> None:
        for store, value in zip(self.now, (W, loss, norm), strict=True):
            store[runs] = value

    def keep(self, iteration: int, last: bool = False) -> None:
        if self.iterations and self.iterations[-1] == iteration:
            return
        self.iterations.append(iteration)
        for series, value in zip((self.W, self.loss, self.norm), self.now, strict=True):
            series.append(value.copy())
        if len(self.iterations) >= self.most and not last:  # the end of the path stays
            self.stride *= 2
            del self.iterations[1::2]
            for series in (self.W, self.loss, self.norm):
                del series[1::2]


def trajectory_of(
    records: Records,
    final: list[np.ndarray],
    n_iters: np.ndarray,
    reason: np.ndarray,
    steps: np.ndarray,
    batch: tuple[int, ...],
) -> Trajectory:
    iterations = np.array(records.iterations, dtype=float)
    count = len(iterations)
    path = np.stack(records.W).reshape(count, *batch, *records.W[0].shape[1:])
    loss = np.stack(records.loss).reshape(count, *batch)
    norm = np.stack(records.norm).reshape(count, *batch)
    t = np.multiply.outer(iterations, steps)

    dense_output = _Interpolation(path, iterations, steps, batch)
    single = not batch
    shaped = reason.reshape(batch)
    n_steps = n_iters.reshape(batch)
    return Trajectory(
        t=t,
        loss=loss,
        gradient_norm=norm,
        W=path[-1],
        factors=tuple(array.reshape(*batch, *array.shape[1:]) for array in final),
        converged=bool(shaped in ARRIVED) if single else np.isin(shaped.astype(str), ARRIVED),
        reason=str(shaped) if single else shaped,
        n_steps=int(n_steps) if single else n_steps,
        n_gradients=int(n_steps) + 1 if single else n_steps + 1,
        dense_output=dense_output,
        readings=_Recorded(path),
    )


@dataclass(frozen=True, eq=False)
class _Recorded:
    """What is read off the recorded W, (T, …, m, n)."""

    path: np.ndarray

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        return np.linalg.svd(np.where(np.isfinite(self.path), self.path, 0.0), compute_uv=False)

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        return () if np.ndim(trajectory.converged) else resting_phases(trajectory)

    def log10_columns(self, trajectory: Trajectory) -> None:
        return None

    def one_of(self, batch: Trajectory, run: tuple[int, ...]) -> Trajectory:
        if not run:
            return batch
        # A run that stopped before the last of its batch repeats its end point from there on.
        path: tuple[Any, ...] = slice(None), *run
        loss = batch.loss[path]
        moving = np.flatnonzero(loss[1:] != loss[:-1])
        there: tuple[Any, ...] = slice(moving[-1] + 2 if moving.size else 1), *run
        return replace(
            batch,
            t=batch.t[there[:1]] if batch.t.ndim == 1 else batch.t[there],
            loss=batch.loss[there],
            gradient_norm=batch.gradient_norm[there],
            W=batch.W[run],
            factors=tuple(factor[run] for factor in batch.factors),
            converged=bool(np.asarray(batch.converged)[run]),
            reason=str(np.asarray(batch.reason)[run]),
            n_steps=int(np.asarray(batch.n_steps)[run]),
            n_gradients=int(np.asarray(batch.n_gradients)[run]),
            dense_output=_OneOf(batch.dense_output, run),
            readings=_Recorded(self.path[there]),
        )


@dataclass(frozen=True, eq=False)
class _OneOf:
    """The dense output of one run of a batch; a class, so that it can be pickled."""

    batch: Callable[[float], np.ndarray]
    run: tuple[int, ...]

    def __call__(self, t: float) -> np.ndarray:
        return self.batch(t)[self.run]


@dataclass(frozen=True, eq=False)
class _Interpolation:
    """Linear interpolation between the records, each run at its own iteration.

    A class, so that trajectories can be pickled.
    """

    path: np.ndarray
    iterations: np.ndarray
    steps: np.ndarray
    batch: tuple[int, ...]

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, at: float) -> np.ndarray:
        path, iterations, count = self.path, self.iterations, len(self.iterations)
        position = np.clip(np.broadcast_to(at / self.steps, self.batch), 0, iterations[-1])
        k = np.clip(np.searchsorted(iterations, position), 1, max(count - 1, 1))
        low, high = iterations[k - 1], iterations[np.minimum(k, count - 1)]
        share = np.where(high > low, (position - low) / np.where(high > low, high - low, 1), 1.0)
        where = np.indices(self.batch)
        before, after = path[(k - 1, *where)], path[(np.minimum(k, count - 1), *where)]
        return before + share[..., None, None] * (after - before)
