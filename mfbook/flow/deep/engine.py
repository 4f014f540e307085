"""One run of gradient flow with three factors or more: followed and returned."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import Unpack

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.deep.data import Data, units_of
from mfbook.flow.deep.drive import Moment, Path
from mfbook.flow.deep.layers import State
from mfbook.flow.shallow.engine import Options
from mfbook.flow.trajectory import Phase, Trajectory, resting_times
from mfbook.problems.fit import fit_of
from mfbook.problems.protocols import Problem

# Rests are told apart down to this share of the gradient at zero; below it is rounding.
QUIET = 1e-12


class Run:
    """A path in the caller's units."""

    def __init__(self, problem: Problem, arrays: tuple[np.ndarray, ...], options: Options) -> None:
        self.problem, self.arrays = problem, arrays
        depth = len(arrays)
        self.log_scale = options["log10_scale"] * float(np.log(10.0))
        largest = [np.abs(array).max() for array in arrays]
        with np.errstate(divide="ignore"):
            log_start = depth * self.log_scale + float(np.sum(np.log(largest)))
        measurement = float(problem.sizes.max()) or 1.0
        self.units = units_of(depth, problem.targets, measurement, max(log_start, -1e4))
        self.data = Data(problem, self.units)
        fit = fit_of(problem)
        self.least = fit.least
        threshold = fit.threshold(options["loss_tol"]) / self.units.loss
        first, last = arrays[0][self.data.rows], arrays[-1][:, self.data.cols]
        layers = (first, *arrays[1:-1], last)
        log_layers = self.log_scale - self.units.log_layer
        if fit.learnable == 0.0:
            W = first
            for layer in layers[1:]:
                W = W @ layer
            start = self.data.loss(np.exp(depth * log_layers) * W)
            threshold = max(threshold, options["loss_tol"] * start)
        self.path = Path(
            self.data,
            layers,
            log_layers,
            rtol=options["rtol"],
            threshold=threshold,
            t_max=options["t_max"] * self.units.rate,
        )

    @property
    def moments(self) -> list[Moment]:
        return self.path.moments

    def state_at(self, t: float) -> State:
        """The state at an absolute time in the caller's units."""
        t = t * self.units.rate
        k = bisect_right(self.moments, t, key=lambda moment: moment.clock.value) - 1
        return self._inside(max(k, 0), t - self.moments[max(k, 0)].clock.value)

    def _inside(self, k: int, dt: float) -> State:
        moment = self.moments[k]
        if moment.piece is None or not dt > 0:
            return moment.state
        return moment.piece.at(min(moment.piece.local_of(dt), moment.piece.length))

    def factors(self, state: State) -> tuple[np.ndarray, ...]:
        found = self.path.layers(state)
        first = np.exp(self.log_scale) * self.arrays[0]
        last = np.exp(self.log_scale) * self.arrays[-1]
        first[self.data.rows] = self.units.layer * found[0]
        last[:, self.data.cols] = self.units.layer * found[-1]
        return (first, *(self.units.layer * layer for layer in found[1:-1]), last)

    def W(self, state: State) -> np.ndarray:
        factors = self.factors(state)
        W = factors[0]
        for factor in factors[1:]:
            W = W @ factor
        # Columns of one hidden basis give W without the rounding of a rotation.
        W[np.ix_(self.data.rows, self.data.cols)] = self.units.W * self.path.W(state)
        return W

    def W_at(self, t: float) -> np.ndarray:
        return self.W(self.state_at(t))

    def factors_at(self, t: float) -> tuple[np.ndarray, ...]:
        return self.factors(self.state_at(t))


def flow(
    problem: Problem,
    arrays: tuple[np.ndarray, ...],
    *,
    progress: bool | None,
    **options: Unpack[Options],
) -> Trajectory:
    """One run from 10^log10_scale · (W_1, …, W_N); the options are those of `gradient_flow`."""
    run = Run(problem, arrays, options)
    path = run.path
    try:
        while not path.reason:
            if path.n_steps >= options["max_steps"]:
                path.advance()
                path.reason = path.reason or trajectory.STEP_LIMIT
                break
            path.advance()
    except KeyboardInterrupt:
        path.reason = trajectory.INTERRUPTED
    readings = Readings(run)
    units = run.units
    end = run.moments[-1].state
    rate = units.rate
    return Trajectory(
        t=np.array([moment.clock.value for moment in run.moments]) / rate,
        loss=run.least + units.loss * np.array([moment.loss for moment in run.moments]),
        gradient_norm=rate * units.layer * np.array([moment.norm for moment in run.moments]),
        W=run.W(end),
        factors=run.factors(end),
        converged=path.reason == trajectory.LOSS_REACHED,
        reason=path.reason,
        n_steps=path.n_steps,
        n_gradients=path.n_gradients,
        dense_output=run.W_at,
        dense_factors=run.factors_at,
        readings=readings,
    )


class Readings:
    """What a trajectory tells of its run when it is asked."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def Ws(self) -> list[np.ndarray]:
        return [self.run.W(moment.state) for moment in self.run.moments]

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        return np.array([np.linalg.svd(W, compute_uv=False) for W in self.Ws])

    def log10_columns(self, trajectory: Trajectory) -> None:
        return None

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        norm = np.maximum(trajectory.gradient_norm, QUIET * trajectory.gradient_norm.max())
        values = trajectory.singular_values
        known = 1e-3 * values.max()
        found = []
        for k in resting_times(norm):
            moment = self.run.moments[k]
            found.append(
                Phase(
                    time=float(trajectory.t[k]),
                    rank=int((values[k] > known).sum()),
                    W=self.Ws[k],
                    loss=float(trajectory.loss[k]),
                    factors=self.run.factors(moment.state),
                )
            )
        return tuple(found)

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return trajectory
