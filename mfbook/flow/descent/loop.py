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
    final, n_iters, reason = _descend(loss, model, arrays, step, max_iters, loss_tol, records)
    return trajectory_of(records, final, n_iters, reason, steps, batch)


def _descend(
    loss: StackedLoss,
    model: Model,
    arrays: list[np.ndarray],
    step: np.ndarray,
    max_iters: int,
    loss_tol: float,
    records: Records,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The factors at the end of every run, its iterations, and why it stopped."""
    runs = len(step)
    final = [array.copy() for array in arrays]
    n_iters = np.full(runs, max_iters)
    reason = np.full(runs, STEP_LIMIT, dtype=object)

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
    return final, n_iters, reason


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
