"""What a run of N large layers is made of: its moments, and the pieces of the path between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.optimize import brentq

from mfbook.flow.deep.large.field import Gradient
from mfbook.flow.deep.large.orbit import Frame, Memory, Orbit, Taken
from mfbook.flow.deep.large.quiet import AtRest, Lone, Still
from mfbook.flow.deep.large.state import State, stood, with_column
from mfbook.flow.deep.moments import MomentOf

# So many directions of a column that grows alone are looked at.
PLACES = 40


class Stepper(Protocol):
    """What knows the orbit of the felt layers from a state, and the state at the end of a step."""

    def orbit(self, state: State, memory: Memory) -> Orbit: ...

    def moved(self, state: State, frame: Frame, nodes: list[np.ndarray]) -> State: ...


@dataclass(frozen=True)
class Move:
    """A step of the felt layers."""

    path: Stepper
    state: State
    taken: Taken
    length: float

    def at(self, local: float) -> State:
        if not local > 0:
            return self.state
        orbit = self.path.orbit(self.state, Memory())
        nodes, _ = orbit.step(local, self.taken, anyway=True)
        return self.path.moved(self.state, orbit.frame, nodes)

    def local_of(self, dt: float) -> float:
        return dt

    def log_dt(self, local: float) -> float:
        return float(np.log(local)) if local > 0 else -np.inf


@dataclass(frozen=True)
class Plateau:
    """Some steps of the quiet layers, in τ: their lengths, and s at the end of each."""

    state: State
    G: Gradient | AtRest
    steps: tuple[float, ...]
    s: tuple[float, ...]
    log_unit: float

    @property
    def length(self) -> float:
        return float(sum(self.steps))

    def _walk(self, local: float) -> tuple[State, float]:
        """The state at a τ, and s there."""
        state, total = self.state, 0.0
        for h in self.steps:
            if not local > 0:
                break
            still = Still(self.G, state.quiet)
            y, _ = still.step(min(h, local))
            total += float(y[-1]) * self.unit(state)
            state = stood(replace(state, quiet=still.layers(y)))
            local -= h
        return state, total

    def unit(self, state: State) -> float:
        """That of s in the middle of the piece, in the unit at its beginning."""
        return float(np.exp((len(state.felt) - 2) * (self.state.ell - state.ell)))

    def at(self, local: float) -> State:
        return self._walk(local)[0]

    def log_dt(self, local: float) -> float:
        s = self.s[-1] if local == self.length else self._walk(local)[1]
        return float(np.log(s)) + self.log_unit if s > 0 else -np.inf

    def local_of(self, dt: float) -> float:
        s = float(np.exp(np.log(dt) - self.log_unit))
        if s >= self.s[-1]:
            return self.length
        return float(brentq(lambda tau: self._walk(tau)[1] - s, 0.0, self.length))


@dataclass(frozen=True)
class Leaving:
    """The linear growth of one column, in τ."""

    state: State
    lone: Lone
    length: float

    def at(self, local: float) -> State:
        """The state with the column felt, and still the first of the quiet ones in its bases."""
        column, log_a = self.lone.at(local)
        sized = tuple(np.exp(log_a) * layer for layer in column)
        # While the column turns from where it left to where it grows fastest, it carries the others
        # along, as felt ones do.
        places = local * np.linspace(0.0, 1.0, PLACES) ** 3
        columns = [self.lone.at(tau)[0] for tau in places]
        route = tuple((layers[0], layers[-1]) for layers in columns)
        return with_column(replace(self.state, route=route), sized)

    def log_dt(self, local: float) -> float:
        return self.lone.log_time(local)

    def local_of(self, dt: float) -> float:
        return self.lone.tau_of_time(float(np.log(dt)), self.length)


Piece = Move | Plateau | Leaving
Moment = MomentOf[State, Piece]
