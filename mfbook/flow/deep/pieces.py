"""The pieces of a path on which felt layers rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mfbook.flow.deep.layers import State
from mfbook.flow.deep.passengers import Flow
from mfbook.flow.deep.plateau import Growth, along, carried_by, taylor_step


class Wait:
    """The felt layers rest, and passengers grow."""

    def __init__(self, state: State, flows: list[Flow], length: float) -> None:
        self.state, self.flows, self.length = state, flows, length

    def at(self, local: float) -> State:
        moved = tuple(
            p.after([(local * E, local * D)])
            for p, (E, D) in zip(self.state.passengers, self.flows, strict=True)
        )
        return replace(self.state, passengers=moved)

    def local_of(self, dt: float) -> float:
        return dt

    def log_dt(self, local: float) -> float:
        return float(np.log(local)) if local > 0 else -np.inf


class Plateau:
    """A Taylor step of the first level, in its scale-free time s."""

    def __init__(self, state: State, G: np.ndarray) -> None:
        self.state = state
        self.series, self.length = taylor_step(state.levels[0], G)
        self.log_unit = -(len(state.felt) - 2) * state.levels[0].ell

    def at(self, local: float) -> State:
        level = along(self.state.levels[0], self.series, local)
        return replace(self.state, levels=(level, *self.state.levels[1:]))

    def local_of(self, dt: float) -> float:
        return float(np.exp(np.log(dt) - self.log_unit))

    def log_dt(self, local: float) -> float:
        return float(np.log(local) + self.log_unit) if local > 0 else -np.inf


class Alone:
    """The linear growth of one column of rank one, in the time τ = ∫ a^(N−2) dt.

    The other levels are carried along as it turns.
    """

    def __init__(self, state: State, growth: Growth, length: float) -> None:
        self.state, self.growth, self.length = state, growth, length

    def at(self, local: float) -> State:
        others = (carried_by(self.growth, local, level) for level in self.state.levels[1:])
        return replace(self.state, levels=(self.growth.at(local), *others))

    def local_of(self, dt: float) -> float:
        return self.growth.tau_of_time(float(np.log(dt)), self.length)

    def log_dt(self, local: float) -> float:
        return self.growth.log_time(local)
