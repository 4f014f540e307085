"""The iteration, its batches, where a run stops, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow.trajectory import (
    ARRIVED,
    DIVERGED,
    LEAST_REACHED,
    LOSS_REACHED,
    STEP_LIMIT,
    Phase,
    Trajectory,
    resting_phases,
)
from mfbook.models import model_of
from mfbook.problems.checks import real_array, real_number, require_problem, whole_number
from mfbook.problems.fit import LOSS_TOL, fit_of, is_least_over_cone
from mfbook.problems.protocols import EntryProblem, Problem, is_symmetric, reads_entries

if TYPE_CHECKING:
    from mfbook.flow.descent.kernel import Walk

# A symmetric problem is asked so often whether no U Uᵀ does any better.
EVERY = 100

# Entry by entry an iteration costs what is observed, as products of matrices it costs all entries,
# each of them less. CPU microseconds of an iteration, compiled and (in batches) of matrices, for
# n×n matrices of which a share is observed, in the width n: n = 4, 1/2: 0.11, 0.4; 10, 1/5: 0.2,
# 1.0; 10, all: 1.5, 1.0; 30, 1/5: 5, 12; 60, 1/10: 21, 51; 60, 1/2: 93, 53; 100, 1/10: 95, 190.
FEW_ENTRIES, FEW_SHARE = 64, 0.3

# A run is given up as diverged once its loss exceeds the loss it started from by this factor:
# gradient descent with a step below 2 / (largest curvature) never increases the loss, and the
# factor leaves room for the harmless overshoot of a step slightly above it.
DIVERGENCE_FACTOR = 1e3
LARGEST = np.finfo(float).max


# A run that diverges may leave double precision in one step, which its loss tells.
@np.errstate(over="ignore", invalid="ignore")
def gradient_descent(
    problem: Problem | Sequence[EntryProblem],
    factors: Sequence[ArrayLike],
    *,
    lr: float | ArrayLike,
    max_iters: int = 100_000,
    loss_tol: float = LOSS_TOL,
    max_records: int = 1000,
) -> Trajectory:
    r"""Minimize f(W_1 W_2 ⋯ W_N) by gradient descent on the factors, with a constant step.

    Every iteration moves every factor by −lr times its gradient,

        W_j ← W_j − lr · (W_1 ⋯ W_{j−1})ᵀ ∇f(W) (W_{j+1} ⋯ W_N)ᵀ,

    until f(W) − min f ≤ loss_tol · (f(0) − min f), as `gradient_flow` has it. One factor, `(W,)`,
    is the unfactored model; two are Bai et al. 2024 (Section B.1), N are Arora et al. 2019. For a
    symmetric problem the factors are (U,), with W = U Uᵀ, and an iteration is that of Li et al.
    2021,

        U ← U − lr · ∇f(U Uᵀ) U;

    a run also ends where its loss is the least that U Uᵀ can have. Time along the run is lr ×
    iterations, the time of gradient flow. A run is stopped as diverged when its loss has grown a
    thousandfold, or is beyond double precision and recorded as inf; then its W may hold inf or nan.

    Leading axes of the factors are separate runs (seeds, scales), advanced together; a sequence
    of completion problems of one shape runs along the first of these axes. Each run stops by
    itself and takes the same path as if it ran alone.

    Parameters
    ----------
    problem
        a completion or sensing problem, or a sequence of completion problems.
    factors
        tuple of arrays (..., m, h), …, (..., h, n), in product order; (U,) of shape (..., d, h) for
        a symmetric problem.
    lr
        the step, > 0; an array over the leading axes gives each run its own.
    max_iters, loss_tol
        when to stop.
    max_records
        the most points that are kept along the path, beside its end (fewer for large batches;
        the spacing doubles whenever they are full).

    Raises
    ------
    TypeError
        no problem, factors that are not a tuple, numbers that are none, a sequence that holds
        other than completion problems.
    ValueError
        lr ≤ 0, limits that are negative or not finite, max_records below 2, factors that do not
        multiply to the problem's shape, are not finite, hold no run, or have a loss beyond double
        precision.

    Examples
    --------
    >>> from mfbook import MatrixCompletion, small_init
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> A, B = small_init((2, 2), rng=0)
    >>> run = gradient_descent(problem, (1e-4 * A, 1e-4 * B), lr=0.05)
    >>> run.converged, run.reason, round(float(run.W[1, 1]), 2)
    (True, 'loss reached', 5.95)
    """
    loss = _StackedLoss(problem)
    model = model_of(loss.example)
    given = model.factors_of(loss.example, factors)
    batch = given[0].shape[:-2]
    loss.require_batch(batch)
    steps = _steps(lr, batch)
    max_iters = whole_number("max_iters", max_iters, least=0)
    max_records = whole_number("max_records", max_records, least=2)
    loss_tol = real_number("loss_tol", loss_tol, least=0)
    runs = int(np.prod(batch, dtype=int))
    arrays = [array.reshape(runs, *array.shape[-2:]) for array in given]
    final = [array.copy() for array in arrays]
    step = np.broadcast_to(steps, batch).reshape(runs, 1, 1)
    n_iters = np.full(runs, max_iters)
    reason = np.full(runs, STEP_LIMIT, dtype=object)
    records = _Records(loss.example.shape, runs, max_records)

    alive, done = np.arange(runs), np.zeros(runs, dtype=int)
    bound = goal = np.full(runs, np.inf)
    least = loss.least(runs)
    walk = _walk(loss, arrays)
    # Read in two orders of summation a loss that hardly moves would seem to rise.
    judged = None if walk is None else walk(arrays, alive, step.ravel(), goal, bound, 0)[2]
    iteration = 0
    while True:
        W = model.product(arrays)
        value, G = loss.excess_and_gradient(W, alive)
        if judged is not None:
            value = judged
        value = np.where(np.isnan(value), np.inf, value)
        if iteration == 0:
            if np.isinf(value).any():
                raise ValueError(
                    "the factors must have a loss in double precision, but it is beyond 1e308; "
                    "start from smaller ones"
                )
            bound = np.minimum(DIVERGENCE_FACTOR * (value + least), LARGEST)
            goal = loss.goals(loss_tol, value)
        reached = value <= goal
        diverged = ~(value <= bound)
        stops = reached | diverged
        if iteration % EVERY == 0 or iteration == max_iters:
            least_reached = ~stops & loss.is_least(W, G, alive, goal, loss_tol)
            reason[alive[least_reached]] = LEAST_REACHED
            stops |= least_reached
        gradients = model.gradients(arrays, G)
        if records.due(iteration) or iteration == max_iters or stops.any():
            norm = np.nan_to_num(_norms(gradients), nan=np.inf, posinf=np.inf)
            records.update(alive, W, value + least[alive], norm)
            if records.due(iteration):
                records.keep(iteration)
        if stops.any():
            for target, array in zip(final, arrays, strict=True):
                target[alive[stops]] = array[stops]
            reason[alive[reached]] = LOSS_REACHED
            reason[alive[diverged]] = DIVERGED
            n_iters[alive[stops]] = done[stops]
            rest = ~stops
            alive, done, bound, goal, step = (a[rest] for a in (alive, done, bound, goal, step))
            arrays = [array[rest] for array in arrays]
            gradients = [g[rest] for g in gradients]
            if not alive.size:
                break
        if iteration == max_iters:
            break
        if walk is None:
            arrays = [array - step * g for array, g in zip(arrays, gradients, strict=True)]
            done += 1
            iteration += 1
        else:
            until = min(records.next_due(iteration), max_iters)
            if is_symmetric(loss.example):
                until = min(until, EVERY * (iteration // EVERY + 1))
            count = until - iteration
            arrays, taken, judged = walk(arrays, alive, step.ravel(), goal, bound, count)
            done += taken
            iteration += int(taken.max())
    for target, array in zip(final, arrays, strict=True):
        target[alive] = array
    records.keep(iteration, last=True)
    return _trajectory(records, final, n_iters, reason, steps, batch)


def _walk(loss: _StackedLoss, arrays: Sequence[np.ndarray]) -> Walk | None:
    """Many iterations at once, compiled, where A and B, or U, meet in few entries."""
    problems = [one for one in loss.problems if reads_entries(one)]
    square = is_symmetric(loss.example)
    if len(problems) < len(loss.problems) or len(arrays) != (1 if square else 2):
        return None
    m, n = loss.example.shape
    if max(len(one.targets) for one in problems) > max(FEW_ENTRIES, FEW_SHARE * m * n):
        return None
    # Numba takes half a second to import.
    from mfbook.flow.descent.kernel import Walk

    return Walk(problems, loss.of_run(len(arrays[0])))


def _norms(gradients: list[np.ndarray]) -> np.ndarray:
    """√Σ g² of each run; squares of what is as large as 1e225 would overflow."""
    largest = np.max([np.abs(g).max(axis=(-2, -1)) for g in gradients], axis=0)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    squares = (np.square(g / unit[:, None, None]).sum(axis=(-2, -1)) for g in gradients)
    return unit * np.sqrt(sum(squares))


class _StackedLoss:
    """Loss and gradient of run k at W[k], for one problem or one problem a run."""

    def __init__(self, problem: Any) -> None:
        self.problems: list[Problem] = (
            list(problem)
            if isinstance(problem, Sequence) and not isinstance(problem, (str, bytes))
            else [problem]
        )
        if not self.problems:
            raise ValueError("the sequence of problems is empty; give at least one")
        entries = (
            "only completion problems can be run as a sequence" if len(self.problems) > 1 else ""
        )
        for one in self.problems:
            require_problem(one, entries=entries)
        self.example = self.problems[0]
        self.fits = [fit_of(one) for one in self.problems]
        self.owner: np.ndarray | None = None
        if len(self.problems) == 1:
            return
        if len({is_symmetric(p) for p in self.problems}) > 1:
            raise ValueError(
                "problems run together must mean one model, but some are symmetric, W = U Uᵀ, and "
                "some are not; run the two kinds apart"
            )
        shapes = {p.shape for p in self.problems}
        if len(shapes) > 1:
            raise ValueError(f"problems run together must have one shape, but have {shapes}")
        completions = [p for p in self.problems if reads_entries(p)]  # all of them
        self.mask = np.stack([p.mask for p in completions])
        self.values = np.stack([np.where(p.mask, p.values, 0.0) for p in completions])
        self.weight = np.array([p.weight for p in completions])

    def require_batch(self, batch: tuple[int, ...]) -> None:
        if len(self.problems) == 1:
            return
        if not batch or batch[0] != len(self.problems):
            raise ValueError(
                f"the first axis of the factors must run over the {len(self.problems)} problems, "
                f"but the leading axes are {batch}"
            )
        self.owner = np.repeat(np.arange(batch[0]), int(np.prod(batch[1:], dtype=int)))

    def _of_one(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f − min f and ∇f, from residuals to the attainable targets (see `problems.fit`)."""
        one = self.example
        if reads_entries(one):
            residual = np.where(one.mask, W - one.values, 0.0)
            gradient = 2.0 * one.weight * residual
            residual = residual.reshape(*residual.shape[:-2], -1)
        else:
            residual = one.measure(W) - one.attainable
            gradient = 2.0 * one.weight * one.adjoint(residual)
        return one.weight * np.square(residual).sum(axis=-1), gradient

    def goals(self, loss_tol: float, start: np.ndarray) -> np.ndarray:
        """The excess at or below which each run has arrived, given that of its start."""
        goals = np.array([fit.threshold(loss_tol) for fit in self.fits])[self.of_run(len(start))]
        # Where zero fits the data, only the start has a size that a tolerance may refer to.
        nothing = np.array([fit.learnable == 0.0 for fit in self.fits])[self.of_run(len(start))]
        return np.where(nothing, np.maximum(goals, loss_tol * start), goals)

    def least(self, runs: int) -> np.ndarray:
        """min f of each run's problem."""
        return np.array([fit.least for fit in self.fits])[self.of_run(runs)]

    def of_run(self, runs: int) -> np.ndarray:
        """The number of each run's problem."""
        return np.zeros(runs, dtype=int) if self.owner is None else self.owner

    def is_least(
        self, W: np.ndarray, G: np.ndarray, runs: np.ndarray, goal: np.ndarray, loss_tol: float
    ) -> np.ndarray:
        """Whether W has the least loss of all U Uᵀ, where the problems are symmetric."""
        found = np.zeros(len(runs), dtype=bool)
        if not is_symmetric(self.example):
            return found
        owner = self.of_run(int(runs.max()) + 1)[runs]
        # Where ⟨G, W⟩ is not small the factors still move.
        for k in np.flatnonzero(np.abs(np.sum(G * W, axis=(-2, -1))) <= goal):
            found[k] = is_least_over_cone(self.problems[owner[k]], W[k], loss_tol)
        return found

    def excess_and_gradient(self, W: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.owner is None:
            return self._of_one(W)
        owner = self.owner[runs]
        weight = self.weight[owner, None, None]
        residual = self.mask[owner] * (W - self.values[owner])
        weighted = weight * residual
        return (weighted * residual).sum(axis=(-2, -1)), 2.0 * weighted


class _Records:
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


def _steps(lr: float | ArrayLike, batch: tuple[int, ...]) -> np.ndarray:
    steps = real_array("lr", lr)
    if np.asarray(lr).dtype.kind == "b":
        raise TypeError(f"lr must be a real number, the step of descent, but is {lr!s}")
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(
            f"lr must be positive and finite, but is {lr!s}: descent moves against the gradient"
        )
    try:
        np.broadcast_to(steps, batch)
    except ValueError:
        raise ValueError(
            f"lr must be a number or match the leading axes {batch} of the factors, but has "
            f"shape {steps.shape}"
        ) from None
    return steps


def _trajectory(
    records: _Records,
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
