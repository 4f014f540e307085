"""One run of gradient flow: followed, doubted where it must be, and returned."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Unpack

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.options import Limits
from mfbook.flow.progress import Progress
from mfbook.flow.shallow import drive
from mfbook.flow.shallow.composite import Composite
from mfbook.flow.shallow.dense import Columns
from mfbook.flow.shallow.drive import follow
from mfbook.flow.shallow.phases import phases_of
from mfbook.flow.shallow.sectors import falls_apart
from mfbook.flow.shallow.stack import Factors
from mfbook.flow.trajectory import Phase, Trajectory, resting_times
from mfbook.problems.fit import is_least_over_cone
from mfbook.problems.protocols import Problem

# Between two rests of a run so many S(W) tell whether they share an invariant subspace; those near
# the end say little, for S is the difference of W and the data, and drowns in rounding there.
WITNESSES, NEAR_THE_END = 6, 1e-8
# Two runs of the same start may each be off by the promise of 10 rtol.
APART = 20.0
# The logarithm of a column's size, when it is first felt, may differ by this. A lost direction that
# the perturbation takes the place of shifts it by log(1e-13/1e-16) = 7 and more.
SHIFTED = 0.1


# Of several reasons of parts the first of these is that of the run.
_BY_WEIGHT = (
    trajectory.STEP_TOO_SMALL,
    trajectory.UNBOUNDED,
    trajectory.TIME_LIMIT,
    trajectory.DROWNED,
    trajectory.STUCK,
    # Each part may be fitted to rounding, and the sum, computed anew, be above it by rounding.
    trajectory.LOSS_REACHED,
)

# Reasons of a run that may all the same have come to the least loss that U Uᵀ can have.
_SHORT = (
    trajectory.STUCK,
    trajectory.DROWNED,
    trajectory.TIME_LIMIT,
    trajectory.STEP_LIMIT,
    trajectory.STEP_TOO_SMALL,
)


class Options(Limits):
    log10_scale: float


def flow(
    problem: Problem,
    arrays: Factors,
    *,
    progress: bool | None,
    **options: Unpack[Options],
) -> Trajectory:
    """One run from 10^log10_scale · factors; the options are those of `gradient_flow`."""
    run, limit = _followed(problem, arrays, options, progress)
    if run.crossing is not None:
        reason = trajectory.LOSS_REACHED
    else:
        reasons = [path.reason for path in run.paths]
        reason = limit or next(reason for reason in _BY_WEIGHT if reason in reasons)
    if reason in (trajectory.LOSS_REACHED, trajectory.STUCK) and _may_lose_sectors(run):
        again, _ = _followed(problem, arrays, options, progress, np.random.default_rng(0))
        if not _same_run(run, again, options["rtol"]):
            reason = trajectory.ROUNDING
    readings = Readings(run)
    loss, norm = run.losses_and_norms(readings.times)
    end = run.at(readings.times[-1])
    W = run.W(end)
    if reason in _SHORT and is_least_over_cone(problem, W, options["loss_tol"]):
        reason = trajectory.LEAST_REACHED
    return Trajectory(
        t=run.time(readings.times),
        loss=loss,
        gradient_norm=norm,
        W=W,
        factors=run.factors(end),
        converged=reason in trajectory.ARRIVED,
        reason=reason,
        n_steps=run.n_steps,
        n_gradients=run.n_gradients,
        dense_output=run.W_at,
        dense_factors=run.factors_at,
        readings=readings,
    )


class Readings:
    """What a trajectory tells of its run when it is asked."""

    def __init__(self, run: Composite) -> None:
        self.run, self.times = run, run.times()

    @cached_property
    def samples(self) -> list[list[Columns]]:
        return [self.run.at(t) for t in self.times]

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        return np.array([self.run.singular_values(columns) for columns in self.samples])

    def log10_columns(self, trajectory: Trajectory) -> np.ndarray:
        return np.array([self.run.log10_columns(columns) for columns in self.samples])

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        return phases_of(self.run, self.times, trajectory.gradient_norm, trajectory.singular_values)

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return trajectory


def _followed(
    problem: Problem,
    arrays: Factors,
    options: Options,
    progress: bool | None,
    shaker: np.random.Generator | None = None,
) -> tuple[Composite, str]:
    """All parts to the end of the run, and the limit that ended it before, if one did."""
    run = Composite(
        problem, arrays, options["log10_scale"], options["rtol"], options["loss_tol"], shaker
    )
    notice = Progress(progress)
    t_max = options["t_max"] * run.units.rate
    steppers = [follow(path, rtol=options["rtol"], t_max=t_max) for path in run.paths]
    try:
        for stepper in steppers:
            next(stepper)
        while not run.has_arrived():
            running = [k for k, path in enumerate(run.paths) if not path.reason]
            if not running:
                break
            if run.n_steps >= options["max_steps"]:
                return run, trajectory.STEP_LIMIT
            # The part that is furthest behind goes next, so that all end near one time.
            next(steppers[min(running, key=lambda k: run.paths[k].t)], None)
            notice.update(run)
    except KeyboardInterrupt:
        return run, trajectory.INTERRUPTED
    finally:
        notice.close()
    return run, ""


def _may_lose_sectors(run: Composite) -> bool:
    """Whether S(W) falls apart along the run of a part, so that rounding may decide where it ends.

    A complete part does so at its singular vectors, but the columns come apart with them, and the
    closed form of its limit is met from 10^-10000.
    """
    for part, path in zip(run.parts, run.paths, strict=True):
        field = path.field
        complete = run.problem.observes_entries and len(field.values) == part.field.m * part.field.n
        if field.p > drive.DENSE_P or complete:
            continue
        blocks = [np.arange(field.p)] if field.blocks is None else field.blocks
        blocks = [block for block in blocks if len(block) > 1]
        far = np.flatnonzero(np.array(path.losses) > NEAR_THE_END * path.losses[0])
        if not len(far):  # fitted from the start, as zeros are by what underflows
            continue
        rests = [k for k in resting_times(np.array(path.norms)) if k in far]
        # What is lost is lost on the way from one rest to the next.
        for low, high in pairwise(sorted({0, *rests, far[-1]})):
            chosen = np.unique(np.linspace(low, high, WITNESSES).astype(int))
            states = [path.states[k] for k in chosen]
            S = np.array([field.S(field.residual(state.Z)) for state in states])
            if any(falls_apart(S[np.ix_(np.arange(len(S)), b, b)]) for b in blocks):
                return True
    return False


def _same_run(one: Composite, other: Composite, rtol: float) -> bool:
    """Whether two runs end at one W, and their columns were felt one after the other at one time.

    Rounding that takes the place of a lost direction may always lead to one end; but then it is
    the size of the rounding that decides when.
    """
    for a, b in zip(one.paths, other.paths, strict=True):
        felt = 0
        for state in a.states:
            if (count := int(state.active.sum())) > felt:
                felt = count
                sizes = [np.sort(s.ell)[-count] for s in (state, b.columns_at(state.t))]
                if not abs(sizes[0] - sizes[1]) <= max(SHIFTED, APART * rtol):
                    return False
    ends = [run.W(run.at(run.end())) for run in (one, other)]
    size = max(np.abs(ends[0]).max(), one.units.W)
    return bool(np.abs(ends[0] - ends[1]).max() <= APART * rtol * size)
