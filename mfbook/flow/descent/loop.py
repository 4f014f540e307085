"""The iteration, many runs at once, and where each of them stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow.descent.records import Records, trajectory_of
from mfbook.flow.descent.stacked_loss import StackedLoss
from mfbook.flow.trajectory import (
    DIVERGED,
    LEAST_REACHED,
    LOSS_REACHED,
    STEP_LIMIT,
    Trajectory,
)
from mfbook.models import Model, model_of
from mfbook.problems.checks import real_array, real_number, whole_number
from mfbook.problems.fit import LOSS_TOL
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

    Returns
    -------
    Trajectory
        W, loss and gradient at the iterations that are kept, with straight lines between them in
        `W_at`, and the factors at the end; `n_steps` counts iterations, and one run of a batch is
        `trajectory[k]`.

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

    References
    ----------
    Bai, Zhao & Zhang 2024, Section B.1; Arora et al. 2019; Li, Luo & Lyu 2021.
    """
    loss = StackedLoss(problem)
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
    if steps.ndim:
        steps = np.broadcast_to(steps, batch)
    step = np.broadcast_to(steps, batch).reshape(runs, 1, 1)
    records = Records(loss.example.shape, runs, max_records)
    descent = _Descent(loss, model, arrays, step, max_iters, loss_tol, records)
    return trajectory_of(records, *descent.to_the_end(), steps, batch)


class _Descent:
    """The runs that go on, and how the others ended."""

    def __init__(
        self,
        loss: StackedLoss,
        model: Model,
        arrays: list[np.ndarray],
        step: np.ndarray,
        max_iters: int,
        loss_tol: float,
        records: Records,
    ) -> None:
        self.loss, self.model, self.records = loss, model, records
        self.max_iters, self.loss_tol = max_iters, loss_tol
        runs = len(step)
        # Of every run: the factors at its end, its iterations, and why it stopped.
        self.final = [array.copy() for array in arrays]
        self.n_iters = np.full(runs, max_iters)
        self.reason = np.full(runs, STEP_LIMIT, dtype=object)
        self.least = loss.least(runs)
        # Of those that go on: which they are, their factors, steps and iterations, and the excess
        # of the loss at which they have diverged or arrived.
        self.alive, self.arrays, self.step = np.arange(runs), arrays, step
        self.done = np.zeros(runs, dtype=int)
        self.bound = self.goal = np.full(runs, np.inf)
        self.iteration = 0
        self.walk = _walk(loss, arrays)
        # Read in two orders of summation a loss that hardly moves would seem to rise.
        self.judged = None if self.walk is None else self._walked(self.walk, 0)[2]

    def to_the_end(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """The factors at the end of every run, its iterations, and why it stopped."""
        while True:
            W = self.model.product(self.arrays)
            value, G = self._excess_and_gradient(W)
            last = self.iteration == self.max_iters
            stops = self._stopped(W, G, value, last)
            gradients = self.model.gradients(self.arrays, G)
            if self.records.due(self.iteration) or last or stops.any():
                self._record(W, value, gradients)
            if stops.any():
                self._let_go(stops)
                gradients = [g[~stops] for g in gradients]
            if last or not self.alive.size:
                break
            self._go_on(gradients)
        for target, array in zip(self.final, self.arrays, strict=True):
            target[self.alive] = array
        self.records.keep(self.iteration, last=True)
        return self.final, self.n_iters, self.reason

    def _excess_and_gradient(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, G = self.loss.excess_and_gradient(W, self.alive)
        if self.judged is not None:
            value = self.judged
        value = np.where(np.isnan(value), np.inf, value)
        if self.iteration == 0:
            if np.isinf(value).any():
                raise ValueError(
                    "the factors must have a loss in double precision, but it is beyond 1e308; "
                    "start from smaller ones"
                )
            self.bound = np.minimum(DIVERGENCE_FACTOR * (value + self.least), LARGEST)
            self.goal = self.loss.goals(self.loss_tol, value)
        return value, G

    def _stopped(self, W: np.ndarray, G: np.ndarray, value: np.ndarray, last: bool) -> np.ndarray:
        """Which runs are at their end, for a reason that is noted."""
        reached = value <= self.goal
        diverged = ~(value <= self.bound)
        self.reason[self.alive[reached]] = LOSS_REACHED
        self.reason[self.alive[diverged]] = DIVERGED
        stops = reached | diverged
        if self.iteration % EVERY == 0 or last:
            least = ~stops & self.loss.is_least(W, G, self.alive, self.goal, self.loss_tol)
            self.reason[self.alive[least]] = LEAST_REACHED
            stops |= least
        return stops

    def _record(self, W: np.ndarray, value: np.ndarray, gradients: list[np.ndarray]) -> None:
        norm = np.nan_to_num(_norms(gradients), nan=np.inf, posinf=np.inf)
        self.records.update(self.alive, W, value + self.least[self.alive], norm)
        if self.records.due(self.iteration):
            self.records.keep(self.iteration)

    def _let_go(self, stops: np.ndarray) -> None:
        """Keep how those runs ended, and go on with the others."""
        for target, array in zip(self.final, self.arrays, strict=True):
            target[self.alive[stops]] = array[stops]
        self.n_iters[self.alive[stops]] = self.done[stops]
        rest = ~stops
        self.alive, self.done = self.alive[rest], self.done[rest]
        self.bound, self.goal, self.step = self.bound[rest], self.goal[rest], self.step[rest]
        self.arrays = [array[rest] for array in self.arrays]

    def _go_on(self, gradients: list[np.ndarray]) -> None:
        """One iteration, or some of them to where something is to be looked at."""
        if self.walk is None:
            pairs = zip(self.arrays, gradients, strict=True)
            self.arrays = [array - self.step * g for array, g in pairs]
            self.done += 1
            self.iteration += 1
            return
        until = min(self.records.next_due(self.iteration), self.max_iters)
        if is_symmetric(self.loss.example):
            until = min(until, EVERY * (self.iteration // EVERY + 1))
        self.arrays, taken, self.judged = self._walked(self.walk, until - self.iteration)
        self.done += taken
        self.iteration += int(taken.max())

    def _walked(self, walk: Walk, count: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        return walk(self.arrays, self.alive, self.step.ravel(), self.goal, self.bound, count)


def _walk(loss: StackedLoss, arrays: Sequence[np.ndarray]) -> Walk | None:
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
