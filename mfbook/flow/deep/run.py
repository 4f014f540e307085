"""A run of three factors or more in the caller's units, whatever the method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, Protocol

import numpy as np

from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.moments import AnyPiece, MomentOf
from mfbook.flow.deep.path import AnyState, Goal, Path
from mfbook.flow.deep.symmetry import Kept
from mfbook.flow.shallow.engine import Options
from mfbook.flow.shallow.units import units_of
from mfbook.models import product
from mfbook.problems.fit import fit_of
from mfbook.problems.protocols import Problem


@dataclass(frozen=True)
class Start:
    """The middle of a step: the moment before it, its local time, the logarithm of its time."""

    moment: int
    local: float
    log: float


class Measured(Protocol):
    """What of the rows and columns of W is measured."""

    rows: np.ndarray
    cols: np.ndarray

    @property
    def shape(self) -> tuple[int, int]: ...


class Run(ABC, Generic[AnyState, AnyPiece]):
    """A path in the caller's units."""

    data: Measured
    path: Path[AnyState, AnyPiece, Any]

    def __init__(self, problem: Problem, arrays: tuple[np.ndarray, ...], options: Options) -> None:
        self.problem, self.arrays = problem, arrays
        self.log_scale = options["log10_scale"] * float(np.log(10.0))
        largest = [np.abs(array).max() for array in arrays]
        with np.errstate(divide="ignore"):
            log_start = self.log_scale + float(np.mean(np.log(largest)))
        measurement = float(problem.sizes.max()) or 1.0
        self.units = units_of(problem.targets, measurement, max(log_start, -1e4), len(arrays))
        self.log_start = self.log_scale - self.units.log_factor
        self.fit = fit_of(problem)

    def _goal(self, options: Options, loss_at_start: Callable[[], float]) -> Goal:
        """In the engine's units; where zero fits the data the loss falls from that at the start."""
        threshold = self.fit.threshold(options["loss_tol"]) / self.units.loss
        if self.fit.learnable == 0.0:
            threshold = max(threshold, options["loss_tol"] * loss_at_start())
        return Goal(options["rtol"], threshold, options["t_max"] * self.units.rate)

    @property
    def moments(self) -> list[MomentOf[AnyState, AnyPiece]]:
        return self.path.moments

    @abstractmethod
    def has_left(self, rests: list[int]) -> bool:
        """Whether the layers have lost what the exact flow keeps, at one of the rests."""

    @abstractmethod
    def _layers(self, state: AnyState) -> list[np.ndarray]:
        """The layers on what is measured, in the caller's bases and the engine's units."""

    @abstractmethod
    def _W(self, state: AnyState) -> np.ndarray:
        """W on what is measured, in the engine's units."""

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

    def state_at(self, t: float) -> AnyState:
        """The state at an absolute time in the caller's units."""
        t = t * self.units.rate
        k = bisect_right(self.moments, t, key=lambda moment: moment.clock.value) - 1
        return self._inside(max(k, 0), t - self.moments[max(k, 0)].clock.value)

    def _inside(self, k: int, dt: float) -> AnyState:
        moment = self.moments[k]
        piece: Any = moment.piece
        if piece is None or not dt > 0:
            return moment.state
        state: AnyState = piece.at(min(piece.local_of(dt), piece.length))
        return state

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
            if before.loss > loss >= after.loss and before.piece is not None:
                local = self.path.crossing(k, loss)
                clock = before.clock.after(before.piece.log_dt(local))
                return Start(k, clock.local, clock.log)
        return None

    def factors(self, state: AnyState) -> tuple[np.ndarray, ...]:
        found = self._layers(state)
        first = np.exp(self.log_scale) * self.arrays[0]
        last = np.exp(self.log_scale) * self.arrays[-1]
        first[self.data.rows] = self.units.factor * found[0]
        last[:, self.data.cols] = self.units.factor * found[-1]
        return (first, *(self.units.factor * layer for layer in found[1:-1]), last)

    @cached_property
    def has_unmeasured(self) -> bool:
        return self.data.shape != self.problem.shape

    def W(self, state: AnyState) -> np.ndarray:
        W = product(self.factors(state)) if self.has_unmeasured else np.zeros(self.problem.shape)
        W[np.ix_(self.data.rows, self.data.cols)] = self.units.W * self._W(state)
        return W

    def W_at(self, t: float) -> np.ndarray:
        return self.W(self.state_at(t))

    def factors_at(self, t: float) -> tuple[np.ndarray, ...]:
        return self.factors(self.state_at(t))
