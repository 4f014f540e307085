"""Where a run is, and the pieces of path that lead on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mfbook.flow.deep.layers import State
from mfbook.flow.shallow.gauge import EPS

StateOfPiece = TypeVar("StateOfPiece", covariant=True)


@dataclass(frozen=True)
class Clock:
    """A time: its natural logarithm, itself (inf beyond 1e308), and that in the orbit it is in."""

    log: float = -np.inf
    value: float = 0.0
    orbit: int = 0
    local: float = 0.0

    def after(self, log_dt: float) -> Clock:
        dt = float(np.exp(min(log_dt, 710.0))) if log_dt < 709.0 else np.inf
        return Clock(
            float(np.logaddexp(self.log, log_dt)), self.value + dt, self.orbit, self.local + dt
        )


class PieceOf(Protocol[StateOfPiece]):
    """A piece of the path, from one moment to the next, in a time of its own."""

    @property
    def length(self) -> float: ...

    def at(self, local: float) -> StateOfPiece: ...

    def local_of(self, dt: float) -> float: ...

    def log_dt(self, local: float) -> float: ...


# Exact and large layers have states and pieces of their own.
AnyState = TypeVar("AnyState")
AnyPiece = TypeVar("AnyPiece", bound=PieceOf[Any])


@dataclass
class MomentOf(Generic[AnyState, AnyPiece]):
    """A state of the run at the end of a step, and the piece that leads on from there."""

    clock: Clock
    state: AnyState
    loss: float
    norm: float
    piece: AnyPiece | None = None


Piece = PieceOf[State]
Moment = MomentOf[State, Piece]


@dataclass
class Rest:
    """The beginning of a plateau: its moment, and the first singular values of the gradient there.

    `waited` is the time that it has lasted so far, in units of exp(log_start)^−(N−2); `rate` the
    growth rate of the column that leaves alone, 0 until one does.
    """

    moment: int
    top: float
    second: float
    waited: float = 0.0
    rate: float = 0.0
    largest: float = -np.inf  # the logarithm of the level's size, so far


def crossing(loss_at: Callable[[float], float], length: float, loss: float) -> float:
    """Where a loss that is above `loss` at 0, and not at `length`, has just come down to it."""
    low, high = 0.0, length
    while high - low > 2 * EPS * high:
        middle = (low + high) / 2
        low, high = (middle, high) if loss_at(middle) > loss else (low, middle)
    return high
