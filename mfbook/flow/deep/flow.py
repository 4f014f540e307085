"""One run of gradient flow with three factors or more: followed and returned."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.deep.exact_run import ExactRun
from mfbook.flow.deep.large.run import LargeReadings, LargeRun, are_large
from mfbook.flow.deep.phases import Readings
from mfbook.flow.deep.run import Run
from mfbook.flow.shallow.engine import Options
from mfbook.flow.trajectory import Trajectory
from mfbook.problems.protocols import Problem


def flow(
    problem: Problem,
    arrays: tuple[np.ndarray, ...],
    *,
    progress: bool | None,
    **options: Unpack[Options],
) -> Trajectory:
    """One run from 10^log10_scale · (W_1, …, W_N); the options are those of `gradient_flow`."""
    run, readings = _engine(problem, arrays, options)
    path = run.path
    try:
        while not path.reason:
            left = options["max_steps"] - path.n_steps
            path.advance(max(left, 0))
            if left <= 0:
                path.reason = path.reason or trajectory.STEP_LIMIT
    except KeyboardInterrupt:
        if not run.moments:
            raise
        path.reason = trajectory.INTERRUPTED
    reason = path.end
    if reason == trajectory.LOSS_REACHED and run.has_left(readings.rests):
        reason = trajectory.ROUNDING
    units = run.units
    end = run.moments[-1].state
    rate = units.rate
    return Trajectory(
        t=np.array([moment.clock.value for moment in run.moments]) / rate,
        loss=run.fit.least + units.loss * np.array([moment.loss for moment in run.moments]),
        gradient_norm=rate * units.factor * np.array([moment.norm for moment in run.moments]),
        W=run.W(end),
        factors=run.factors(end),
        converged=reason == trajectory.LOSS_REACHED,
        reason=reason,
        n_steps=path.n_steps,
        n_gradients=path.n_gradients,
        dense_output=run.W_at,
        dense_factors=run.factors_at,
        readings=readings,
        dense_phase=readings.W_in,
    )


def _engine(
    problem: Problem, arrays: tuple[np.ndarray, ...], options: Options
) -> tuple[Run[Any, Any], Readings]:
    """The run of layers of that size, and what reads it."""
    if are_large(arrays):
        large = LargeRun(problem, arrays, options)
        return large, LargeReadings(large)
    run = ExactRun(problem, arrays, options)
    return run, Readings(run)
