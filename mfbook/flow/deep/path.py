"""A path of N layers through all saddles, moment by moment, by whatever method it is followed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.deep.endings import ending
from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.moments import AnyPiece, Clock, MomentOf
from mfbook.flow.shallow.gauge import EPS


class Split(Protocol):
    """A state in hidden bases of its own, of which the first vectors are those of felt columns."""

    @property
    def bases(self) -> Layers: ...

    @property
    def widths(self) -> tuple[int, ...]: ...


AnyState = TypeVar("AnyState", bound=Split)
# Felt layers at a moment, with what a method knows of how they move.
Moving = TypeVar("Moving")


@dataclass(frozen=True)
class Goal:
    """How exact a path is to be, and the loss or the time that it ends at, in its own units."""

    rtol: float
    threshold: float
    t_max: float


class Path(ABC, Generic[AnyState, AnyPiece, Moving]):
    """The moments of a run, and why it stopped ('' while it runs).

    `balance` is what the flow conserves, W_jᵀW_j − W_{j+1}W_{j+1}ᵀ, in the caller's hidden bases
    and in units of the square of the scale; W of the size `far` is far beyond the data.
    """

    state: AnyState

    def __init__(self, goal: Goal, log_start: float, balance: Layers, far: float) -> None:
        self.rtol, self.threshold, self.t_max = goal.rtol, goal.threshold, goal.t_max
        self.log_start, self.balance, self.far = log_start, balance, far
        self.depth = len(balance) + 1
        self.moments: list[MomentOf[AnyState, AnyPiece]] = []
        self.reason = ""
        self.n_steps = self.n_gradients = 0
        self.clock = Clock()
        self.h: float | None = None
        self.joined: Clock | None = None  # when all that had waited became felt together

    @property
    def end(self) -> str:
        """The reason, or that it is not known where the run should have ended."""
        return self.reason

    def advance(self, most: int) -> None:
        """One more moment and the piece that leads on from it, or the reason why there is none.

        Where felt layers move, up to `most` moments; for `most` = 0 the moment alone.
        """
        moving, loss, norm = self._seen()
        moment = MomentOf[AnyState, AnyPiece](self.clock, self.state, loss, norm)
        self.moments.append(moment)
        sizes = None if moving is None else self._sizes(moving)
        self.reason = ending(self.moments, self.threshold, self.t_max, self.far, sizes)
        if self.reason == trajectory.LOSS_REACHED:
            self._cross()
        if self.reason or most == 0:
            return
        if moving is None or self._rests(moving):
            self._from_rest(moment)
        else:
            self._move(moment, moving, most)

    @abstractmethod
    def _seen(self) -> tuple[Moving | None, float, float]:
        """The felt layers, if there are any, the loss and the size of the slope, of the state."""

    @abstractmethod
    def _sizes(self, moving: Moving) -> Callable[[AnyState], float]:
        """The size of W in a state of the orbit that felt layers are on."""

    @abstractmethod
    def _rests(self, moving: Moving) -> bool:
        """Whether the felt layers rest, so that what waits goes on."""

    @abstractmethod
    def _from_rest(self, moment: MomentOf[AnyState, AnyPiece]) -> None:
        """The piece that leaves a rest of the felt layers."""

    @abstractmethod
    def _move(self, moment: MomentOf[AnyState, AnyPiece], moving: Moving, most: int) -> None:
        """Steps of the felt layers."""

    @abstractmethod
    def loss(self, state: AnyState) -> float:
        """That of W in a state."""

    @abstractmethod
    def crossing(self, k: int, loss: float) -> float:
        """Where, inside the piece after moment k, the loss comes down to that."""

    def _conserved(self, state: AnyState) -> list[np.ndarray]:
        """W_jᵀW_j − W_{j+1}W_{j+1}ᵀ of the felt layers, in their bases."""
        size = np.exp(2 * self.log_start)
        return [
            size * (basis[:, :width].T @ balance @ basis[:, :width])
            for basis, balance, width in zip(state.bases, self.balance, state.widths, strict=True)
        ]

    def _is_over(self, clock: Clock) -> bool:
        """Whether t_max is no further away than the shortest step."""
        return bool(np.isfinite(self.t_max) and clock.value >= (1 - 4 * EPS) * self.t_max)

    def _take(self, moment: MomentOf[AnyState, AnyPiece], piece: AnyPiece, after: AnyState) -> None:
        """The piece leads on from the moment, to the state after it, or to that at t_max."""
        moment.piece = piece
        clock = moment.clock.after(piece.log_dt(piece.length))
        if self._is_over(clock):
            left = self.t_max - moment.clock.value
            after = piece.at(min(piece.local_of(left), piece.length))
            clock = replace(moment.clock.after(float(np.log(left))), value=self.t_max)
        self.state, self.clock = after, clock
        self.n_steps += 1

    def _begin_orbit(self, state: AnyState) -> None:
        """A new orbit begins there, with more felt columns."""
        self.state, self.h = state, None
        self.clock = replace(self.clock, orbit=self.clock.orbit + 1, local=0.0)

    def _join(self, state: AnyState) -> None:
        """A new orbit begins, in which all that had waited is felt."""
        # No time has passed: the last moment itself belongs to the new orbit.
        self.moments.pop()
        self._begin_orbit(state)
        self.joined = self.clock

    def _cross(self) -> None:
        """End where the loss meets the threshold, inside the last piece."""
        if len(self.moments) < 2 or self.threshold == 0.0:
            return
        before = self.moments[-2]
        piece: Any = before.piece
        if piece is None or before.clock.orbit != self.clock.orbit:
            return
        local = self.crossing(len(self.moments) - 2, self.threshold)
        state = piece.at(local)
        # A root may lie before the crossing, by its rounding.
        while self.loss(state) > self.threshold and local < piece.length:
            local = min(local * (1 + 1e-10), piece.length)
            state = piece.at(local)
        clock = before.clock.after(piece.log_dt(local))
        norm = self.moments[-1].norm
        self.moments[-1] = MomentOf(clock, state, self.loss(state), norm)
