"""Small layers, followed through all saddles: which piece of the path comes next.

A run is made of four kinds of pieces. While felt columns move they are advanced by an exponential
Rosenbrock method with the exact Jacobian (`Active`). While they rest, blocks that they have only in
traces grow linearly (`Wait`); then the first level follows its scale-free flow (`Plateau`), at the
end of which one hidden column of it grows alone (`Alone`) until it is felt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.deep import kernel
from mfbook.flow.deep.active import Active, flows_of
from mfbook.flow.deep.data import Data
from mfbook.flow.deep.endings import stuck
from mfbook.flow.deep.felt import (
    log_trace,
    split_while_moving,
    started,
    taken_in,
)
from mfbook.flow.deep.joining import with_column, with_level
from mfbook.flow.deep.layers import (
    Layers,
    Level,
    State,
    divided,
    flat,
    sizes_of,
    split,
    turned_felt,
    turned_level,
)
from mfbook.flow.deep.march import Limits, march
from mfbook.flow.deep.moments import Moment, Piece, Rest, crossing
from mfbook.flow.deep.path import Goal, Path
from mfbook.flow.deep.pieces import Alone, Plateau, Wait
from mfbook.flow.deep.plateau import ORDER, Growth, gradient_at_rest, is_alone, log_product
from mfbook.flow.deep.reading import W_felt, loss_of
from mfbook.flow.deep.sectors import allowed_entries, sectors_of
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.unbounded import far_beyond

# W feels a product that exceeds this share of the data: what is smaller changes ∇f by as much.
FELT = 1e-13
# A column is left to a level where it is this much smaller than one that would be felt.
CLEARLY_LESS = 0.5
# A level that shrinks by this factor is on its way to rest: it has a part that blows up no larger
# than 1e-6 of itself, which is as much as rounding has made of it by then, as its square shrinks.
FADED = 1e6

# A march has so many steps at most, and so many operations: it hears of an interrupt at its end.
LONGEST_MARCH, MARCH = 1000, 1e8


# What is conserved counts as zero below so many roundings of the squares that it is made of.
BALANCED = 32 * EPS


def _unbalanced(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """W_jᵀW_j − W_{j+1}W_{j+1}ᵀ, zero where that is rounding.

    Squares of columns that fade are soon below the rounding of those that they began with.
    """
    found = before.T @ before - after @ after.T
    a, b = np.abs(before), np.abs(after)
    return np.where(np.abs(found) > BALANCED * (a.T @ a + b @ b.T), found, 0.0)


class ExactPath(Path[State, Piece, Active]):
    """A path of layers whose Jacobian is small enough to be taken apart at every step."""

    def __init__(self, data: Data, layers: Layers, log_start: float, goal: Goal) -> None:
        balance = tuple(_unbalanced(a, b) for a, b in pairwise(layers))
        super().__init__(goal, log_start, balance, far_beyond(data.targets))
        self.data = data
        self.rests: list[Rest] = []  # where plateaus begin
        self.lost = False  # whether a part of a component that has more to learn was LOST
        self.sectors = sectors_of(data.whole, layers)
        self.log_felt = float(np.log(FELT * data.scale)) if data.scale > 0 else -np.inf
        self.state = started(data, layers, log_start, self.log_felt)

    @property
    def end(self) -> str:
        arrived = self.reason == trajectory.LOSS_REACHED
        return trajectory.LOST_PART if arrived and self.lost else self.reason

    def loss(self, state: State) -> float:
        return loss_of(self.data, state)

    def crossing(self, k: int, loss: float) -> float:
        piece = self.moments[k].piece
        assert piece is not None
        return crossing(lambda local: self.loss(piece.at(local)), piece.length, loss)

    def _allowed(self, state: State) -> np.ndarray | None:
        if self.sectors is None:
            return None
        return allowed_entries(self.data.part(state.present), self.sectors, state)

    def _seen(self) -> tuple[Active | None, float, float]:
        state = self.state = self._tidied(self.state)
        if 0 in state.widths:
            return None, self.loss(state), self._norm_of_level(state)
        conserved = np.concatenate([target.ravel() for target in self._conserved(state)])
        active = Active(self.data, state, conserved, self._allowed(state))
        self.n_gradients += 1
        return active, active.now.loss, float(np.linalg.norm(active.now.F))

    def _sizes(self, moving: Active) -> Callable[[State], float]:
        return self._felt_size

    def _tidied(self, state: State) -> State:
        """Bases turned, traces that have grown taken in, columns far below the others split off."""
        if 0 in state.widths:
            return state
        if state.passengers:
            target = log_trace(state)
            grown = [p for p in state.passengers if p.size >= target - 1e-6]
            state = taken_in(self.data, state, grown) if grown else state
        state = turned_felt(state)
        if not state.passengers:
            state = split_while_moving(self.data, state)
        return state

    def _norm_of_level(self, state: State) -> float:
        if not state.levels:
            return 0.0
        z, dims, offsets = flat(state.levels[0].layers)
        slope = kernel.slope_along(np.ascontiguousarray(self.data.at_zero), z, dims, offsets)
        return float(np.exp((self.depth - 1) * state.levels[0].ell) * np.linalg.norm(slope))

    def _felt_counts(self, state: State) -> list[int]:
        """How many columns at every interface are so large that W feels them."""
        return [int((s > self._least_felt).sum()) for s in sizes_of(state.felt)]

    @property
    def _least_felt(self) -> float:
        return CLEARLY_LESS * float(np.exp(self.log_felt / self.depth))

    def _rests(self, active: Active) -> bool:
        """Whether all columns that W feels rest, and the others may be left to a plateau."""
        resting = active.now.resting
        if not np.all(resting[active.now.sizes > self._least_felt]):
            return False
        counts = self._felt_counts(active.state)
        whole = all(c == w for c, w in zip(counts, active.state.widths, strict=True))
        if whole or (len(set(counts)) == 1 and self.clock != self.joined):
            return True
        return bool(np.all(resting))

    def _from_rest(self, moment: Moment) -> None:
        """The piece that leaves a rest of the felt layers."""
        state = moment.state
        if state.passengers:
            target = log_trace(state)
            part = self.data.part(state.present)
            flows = flows_of(self.data, part, state.passengers, state.felt)
            pairs = zip(state.passengers, flows, strict=True)
            wait = min(p.time_to(flow, target) for p, flow in pairs)
            if np.isfinite(wait):
                piece = Wait(state, flows, wait)
                self._take(moment, piece, piece.at(piece.length))
                return
        if 0 not in state.widths:
            # Traces that do not grow fade while a plateau lasts.
            state = moment.state = replace(state, passengers=())
            counts = self._felt_counts(state)
            apart = len(set(counts)) == 1 and counts[0] < max(state.widths)
            if apart and self.clock != self.joined:
                part = self.data.part(state.present)
                state = split(turned_felt(state, 0.0), counts[0], part, self.data.shape)
                state = turned_level(state, 0.0) if state.levels else state
                moment.state = state
        if not state.levels:
            self.reason = self._stuck(moment)
            return
        self._plateau(moment)

    def _stuck(self, moment: Moment) -> str:
        return stuck(moment.loss, self._felt_size(moment.state), self.data.whole, self.data)

    def _plateau(self, moment: Moment) -> None:
        """The first level goes on, joins the felt layers, or is found to be at rest as well."""
        state = moment.state
        part = self.data.part(state.present)
        G = self.data.gradient(W_felt(self.data, state))
        if 0 not in state.widths:
            G = gradient_at_rest(state, G, part.rows, part.cols)
        level = state.levels[0]
        if log_product(level) >= self.log_felt:
            self._join(with_level(self.data, state))
            return
        if self._stands_still(level, G):
            self.reason = self._stuck(moment)
            return
        rest = self._rest(G)
        rest.largest = max(rest.largest, level.ell)
        if level.ell < rest.largest - np.log(FADED):
            self.reason = self._stuck(moment)
            return
        if not (is_alone(level.layers) and self._leave(moment, rest, G)):
            self._wait(moment, rest, G)

    def _stands_still(self, level: Level, G: np.ndarray) -> bool:
        """Whether the slope of a level is rounding."""
        z, dims, offsets = flat(level.layers)
        slope = kernel.slope_along(np.ascontiguousarray(G), z, dims, offsets)
        floor = EPS * float(np.linalg.norm(self.data.at_zero))
        largest = floor * float(np.linalg.norm(z)) ** (self.depth - 1)
        return bool(np.linalg.norm(slope) <= largest)

    def _rest(self, G: np.ndarray) -> Rest:
        """That of the plateau that the last moment is on, a new one where it begins there."""
        if not self.rests or self.moments[self.rests[-1].moment].clock.orbit != self.clock.orbit:
            values = [*np.linalg.svd(G, compute_uv=False), 0.0]
            self.rests.append(Rest(len(self.moments) - 1, float(values[0]), float(values[1])))
        return self.rests[-1]

    def _leave(self, moment: Moment, rest: Rest, G: np.ndarray) -> bool:
        """One column of the first level grows alone until it is felt; False where it does not."""
        state = divided(moment.state)
        growth = Growth(state.levels[0], G, tuple(self.data.blocks))
        if not (growth.grows and growth.log_size(0.0) < self.log_felt / self.depth):
            return False
        moment.state = state
        tau = growth.tau_of_size(self.log_felt / self.depth + 1e-9)
        piece = Alone(state, growth, tau)
        self._take(moment, piece, piece.at(tau))
        rest.waited += float(np.exp(growth.log_time(tau) + (self.depth - 2) * self.log_start))
        rest.rate = growth.rate
        if self._is_over(self.clock):
            return True
        new, lost = with_column(self.data, self.state, growth, tau)
        self._begin_orbit(new)
        self.lost |= lost
        return True

    def _wait(self, moment: Moment, rest: Rest, G: np.ndarray) -> None:
        """A step of the first level."""
        piece = Plateau(moment.state, G)
        self.n_gradients += ORDER
        self._take(moment, piece, turned_level(piece.at(piece.length), 0.0))
        in_units = piece.log_unit + (self.depth - 2) * self.log_start
        rest.waited += piece.length * float(np.exp(in_units))

    def _move(self, moment: Moment, active: Active, most: int) -> None:
        """Steps of the felt layers until something else is to be decided; `most` of them at most.

        With passengers one by one, no longer than they stay traces.
        """
        most = min(most, int(np.clip(MARCH / len(active.z) ** 3, 1, LONGEST_MARCH)))
        longest, target = self.t_max - self.clock.value, np.inf
        if moment.state.passengers:
            most, target = 1, log_trace(moment.state)
        limits = Limits(self.rtol, self.threshold, self._least_felt, self.far)
        h = 0.0 if self.h is None else self.h
        while True:
            found = march(
                active.felt, active.z, active.now, h, self.clock.local, longest, limits, most
            )
            self.n_gradients += 2 * found.tries + min(found.steps, most - 1)
            self.h = found.h
            if found.steps == 0:
                break
            state = active.assembled(found.paths[0], found.lengths[0])
            if all(p.size <= target + 3.0 for p in state.passengers):
                break
            h = found.lengths[0] / 4
        for k in range(found.steps):
            if k:
                active = active.after(self.state, found.paths[k - 1, 0])
                moment = Moment(self.clock, self.state, found.losses[k], found.norms[k])
                self.moments.append(moment)
                state = active.assembled(found.paths[k], found.lengths[k])
            active.length = found.lengths[k]
            self._take(moment, active, state)
        if found.failed:
            k = found.steps
            if k:
                last = Moment(self.clock, self.state, found.losses[k], found.norms[k])
                self.moments.append(last)
            self.reason = trajectory.STEP_TOO_SMALL

    def _felt_size(self, state: State) -> float:
        return float(np.linalg.norm(W_felt(self.data, state)))
