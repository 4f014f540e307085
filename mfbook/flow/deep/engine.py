"""A run of three factors or more in the caller's units, and what a trajectory reads off it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from mfbook.flow.deep.data import Data
from mfbook.flow.deep.drive import Path
from mfbook.flow.deep.layers import Layers, State
from mfbook.flow.deep.moments import Moment, Piece, crossing
from mfbook.flow.deep.reading import W_of, layers_of, loss_of
from mfbook.flow.deep.symmetry import Kept
from mfbook.flow.shallow.engine import Options
from mfbook.flow.shallow.units import units_of
from mfbook.flow.trajectory import Phase, Trajectory, resting_times
from mfbook.models import product
from mfbook.problems.fit import fit_of, gradient
from mfbook.problems.protocols import Problem

# Rests are told apart down to this share of the gradient at zero; below it is rounding.
QUIET = 1e-12


@dataclass(frozen=True)
class Start:
    """The middle of a step: the moment before it, its local time, the logarithm of its time."""

    moment: int
    local: float
    log: float


class Run:
    """A path in the caller's units."""

    def __init__(self, problem: Problem, arrays: tuple[np.ndarray, ...], options: Options) -> None:
        self.problem, self.arrays = problem, arrays
        depth = len(arrays)
        self.log_scale = options["log10_scale"] * float(np.log(10.0))
        largest = [np.abs(array).max() for array in arrays]
        with np.errstate(divide="ignore"):
            log_start = self.log_scale + float(np.mean(np.log(largest)))
        measurement = float(problem.sizes.max()) or 1.0
        self.units = units_of(problem.targets, measurement, max(log_start, -1e4), depth)
        self.data = Data(problem, self.units, arrays)
        fit = fit_of(problem)
        self.least = fit.least
        threshold = fit.threshold(options["loss_tol"]) / self.units.loss
        layers = self.data.layers
        log_layers = self.log_scale - self.units.log_factor
        if fit.learnable == 0.0:
            start = self.data.loss(np.exp(depth * log_layers) * product(layers))
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

    def has_left(self, rests: list[int]) -> bool:
        """Whether the layers have lost a symmetry that the exact flow keeps, at one of the rests.

        Parts are kept by zeros (`sectors`), so only copies and the mirror may be lost.
        """
        return self._loses(Kept(*self._with_gradients(self.arrays)), rests)

    def _loses(self, kept: Kept, rests: list[int]) -> bool:
        if not kept.anything:
            return False
        states = [self.moments[k].state for k in rests]
        return not all(kept.holds(self._measured(self.factors(state))) for state in states)

    def _measured(self, layers: Layers) -> Layers:
        """The layers on the rows and columns that are measured."""
        return (layers[0][self.data.rows], *layers[1:-1], layers[-1][:, self.data.cols])

    def _with_gradients(
        self, layers: Layers
    ) -> tuple[Layers, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Layers on what is measured, ∇f(0), and W ↦ ∇f(W) − ∇f(0); up to a factor."""
        problem, measured = self.problem, np.ix_(self.data.rows, self.data.cols)

        def linear(W: np.ndarray) -> np.ndarray:
            whole = np.zeros(problem.shape)
            whole[measured] = W
            return problem.adjoint(problem.measure(whole))[measured]

        at_zero = -problem.adjoint(problem.attainable)[measured]
        return self._measured(layers), at_zero, linear

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

    def W_in(self, start: Start, t: float) -> np.ndarray:
        """W at a time in the caller's units, counted from a place inside a piece.

        Beyond the orbit that the place lies in, on the plateaus before and after it, W has moved by
        less than rounding, unless the clock of the orbit before it reaches there.
        """
        local = start.local + t * self.units.rate
        orbit = self.moments[start.moment].clock.orbit
        own = [k for k, moment in enumerate(self.moments) if moment.clock.orbit == orbit]
        if local < 0.0 and np.isfinite(self.moments[own[0]].clock.value):
            absolute = self.moments[own[0]].clock.value + local
            return self.W_at(max(absolute, 0.0) / self.units.rate)
        if local < 0.0:
            return self.W(self.moments[own[0]].state)
        k = bisect_right(own, local, key=lambda k: self.moments[k].clock.local) - 1
        return self.W(
            self._inside(own[max(k, 0)], local - self.moments[own[max(k, 0)]].clock.local)
        )

    def starts(self, losses: list[float]) -> list[Start | None]:
        """Where the loss is half-way between each two of those losses, which fall."""
        return [self._start((a + b) / 2) for a, b in pairwise(losses)]

    def _start(self, loss: float) -> Start | None:
        for k, (before, after) in enumerate(pairwise(self.moments)):
            if not before.loss > loss >= after.loss or before.piece is None:
                continue
            piece = before.piece

            def loss_at(local: float, piece: Piece = piece) -> float:
                return loss_of(self.data, piece.at(local))

            high = crossing(loss_at, piece.length, loss)
            log_dt = piece.log_dt(high)
            clock = before.clock.after(log_dt)
            return Start(k, clock.local, clock.log)
        return None

    def factors(self, state: State) -> tuple[np.ndarray, ...]:
        found = self.data.in_callers_spaces(layers_of(self.data, state))
        first = np.exp(self.log_scale) * self.arrays[0]
        last = np.exp(self.log_scale) * self.arrays[-1]
        bases = self.data.bases
        first[self.data.rows] = self.units.factor * (bases.left @ found[0])
        last[:, self.data.cols] = self.units.factor * (found[-1] @ bases.right.T)
        return (first, *(self.units.factor * layer for layer in found[1:-1]), last)

    def W(self, state: State) -> np.ndarray:
        W = product(self.factors(state))
        # Columns of one hidden basis give W without the rounding of a rotation.
        bases = self.data.bases
        measured = bases.left @ W_of(self.data, state) @ bases.right.T
        W[np.ix_(self.data.rows, self.data.cols)] = self.units.W * measured
        return W

    def W_at(self, t: float) -> np.ndarray:
        return self.W(self.state_at(t))

    def factors_at(self, t: float) -> tuple[np.ndarray, ...]:
        return self.factors(self.state_at(t))


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

    @cached_property
    def rests(self) -> list[int]:
        norm = np.array([moment.norm for moment in self.run.moments])
        return resting_times(np.maximum(norm, QUIET * norm.max()))

    @cached_property
    def starts(self) -> list[Start | None]:
        """The middles of the steps from each rest to the next."""
        return self.run.starts([self.run.moments[k].loss for k in self.rests])

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        values = trajectory.singular_values
        known = 1e-3 * values.max()
        log_rate = float(np.log10(self.run.units.rate))
        found = []
        for place, k in enumerate(self.rests):
            moment = self.run.moments[k]
            start = self.starts[place - 1] if place else None
            last = place == len(self.rests) - 1
            found.append(
                Phase(
                    time=float(trajectory.t[k]),
                    rank=int((values[k] > known).sum()),
                    W=self.Ws[k],
                    loss=float(trajectory.loss[k]),
                    direction=None if last else self._direction(self.Ws[k]),
                    factors=self.run.factors(moment.state),
                    log10_time=moment.clock.log / float(np.log(10.0)) - log_rate,
                    log10_arrival=None
                    if start is None
                    else start.log / float(np.log(10.0)) - log_rate,
                )
            )
        return tuple(found)

    def _direction(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The top singular pair of −∇f, along which W leaves a plateau."""
        u, _, vt = np.linalg.svd(-gradient(self.run.problem, W))
        sign = float(np.sign(u[np.argmax(np.abs(u[:, 0])), 0]))
        return sign * u[:, 0], sign * vt[0]

    def W_in(self, phase: int, t: float) -> np.ndarray:
        """W at t by the clock of a phase."""
        start = Start(0, 0.0, -np.inf) if phase == 0 else self.starts[phase - 1]
        if start is None:
            raise ValueError(f"phase {phase} begins with no step of the loss: it has no clock")
        return self.run.W_in(start, t)

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return trajectory
