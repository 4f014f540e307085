"""Follow N layers through all saddles: which piece of the path comes next, and when to stop.

A run is made of four kinds of pieces. While felt columns move they are advanced by an exponential
Rosenbrock method with the exact Jacobian (`Active`). While they rest, blocks that they have only in
traces grow linearly (`Wait`); then the first level follows its scale-free flow (`Plateau`), at the
end of which one hidden column of it grows alone (`Alone`) until it is felt.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.deep import kernel
from mfbook.flow.deep.active import Active, flows_of
from mfbook.flow.deep.data import Data
from mfbook.flow.deep.endings import ending, stuck
from mfbook.flow.deep.felt import (
    log_trace,
    split_while_moving,
    started,
    taken_in,
)
from mfbook.flow.deep.joining import with_column, with_level
from mfbook.flow.deep.layers import (
    Layers,
    State,
    divided,
    flat,
    sizes_of,
    split,
    turned_felt,
    turned_level,
)
from mfbook.flow.deep.march import Limits, march
from mfbook.flow.deep.moments import Clock, Moment, Piece, Rest, crossing
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


class Path:
    """The moments of a run, and why it stopped ('' while it runs)."""

    def __init__(
        self,
        data: Data,
        layers: Layers,
        log_start: float,
        *,
        rtol: float,
        threshold: float,
        t_max: float,
    ) -> None:
        self.data, self.rtol, self.t_max = data, rtol, t_max
        self.depth = len(layers)
        self.threshold = threshold
        self.moments: list[Moment] = []
        self.reason = ""
        self.n_steps = self.n_gradients = 0
        self.rests: list[Rest] = []  # where plateaus begin
        self.log_start = log_start
        self.clock = Clock()
        self.h: float | None = None
        self.lost = False  # whether a part of a component that has more to learn was LOST
        self.joined: Clock | None = None  # when a level became felt that had hardly grown
        self.far = far_beyond(data.targets)
        # What is conserved, in the caller's hidden bases and in units of the square of the scale.
        self.balance = [_unbalanced(a, b) for a, b in pairwise(layers)]
        self.sectors = sectors_of(data.whole, layers)
        self.log_felt = float(np.log(FELT * data.scale)) if data.scale > 0 else -np.inf
        self.state = started(data, layers, log_start, self.log_felt)

    def _conserved(self, state: State) -> np.ndarray:
        """W_jᵀW_j − W_{j+1}W_{j+1}ᵀ of the felt layers, in their bases, one after the other."""
        size = np.exp(2 * self.log_start)
        return np.concatenate(
            [
                (size * (basis[:, :width].T @ balance @ basis[:, :width])).ravel()
                for basis, balance, width in zip(
                    state.bases, self.balance, state.widths, strict=True
                )
            ]
        )

    def _allowed(self, state: State) -> np.ndarray | None:
        if self.sectors is None:
            return None
        return allowed_entries(self.data.part(state.present), self.sectors, state)

    def advance(self, most: int) -> None:
        """One more moment and the piece that leads on from it, or the reason why there is none.

        Where felt layers move, up to `most` moments; for `most` = 0 the moment alone.
        """
        state = self.state = self._tidied(self.state)
        empty = 0 in state.widths
        active = (
            None
            if empty
            else Active(self.data, state, self._conserved(state), self._allowed(state))
        )
        if active is not None:
            self.n_gradients += 1
            loss, norm = active.now.loss, float(np.linalg.norm(active.now.F))
        else:
            loss, norm = loss_of(self.data, state), self._norm_of_level(state)
        moment = Moment(self.clock, state, loss, norm)
        self.moments.append(moment)
        sizes = None if active is None else self._felt_size
        self.reason = ending(self.moments, self.threshold, self.t_max, self.far, sizes)
        if self.reason == trajectory.LOSS_REACHED:
            self._cross()
        if self.reason or most == 0:
            return
        resting = active is None or self._rests(active)
        if resting:
            self._from_rest(moment)
        else:
            assert active is not None
            affordable = np.clip(MARCH / len(active.z) ** 3, 1, LONGEST_MARCH)
            self._move(moment, active, min(most, int(affordable)))

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
                self._take(moment, Wait(state, flows, min(wait, self.t_max - self.clock.value)))
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
        state = moment.state
        part = self.data.part(state.present)
        G = self.data.gradient(W_felt(self.data, state))
        if 0 not in state.widths:
            G = gradient_at_rest(state, G, part.rows, part.cols)
        level = state.levels[0]
        if log_product(level) >= self.log_felt:
            # No time passes: the moment itself belongs to the new orbit.
            self.moments.pop()
            self._joined(with_level(self.data, state))
            self.joined = self.clock
            return
        z, dims, offsets = flat(level.layers)
        slope = kernel.slope_along(np.ascontiguousarray(G), z, dims, offsets)
        floor = EPS * float(np.linalg.norm(self.data.at_zero))
        if float(np.linalg.norm(slope)) <= floor * float(np.linalg.norm(z)) ** (self.depth - 1):
            self.reason = self._stuck(moment)
            return
        if not self.rests or self.moments[self.rests[-1].moment].clock.orbit != self.clock.orbit:
            values = [*np.linalg.svd(G, compute_uv=False), 0.0]
            self.rests.append(Rest(len(self.moments) - 1, float(values[0]), float(values[1])))
        rest = self.rests[-1]
        rest.largest = max(rest.largest, level.ell)
        if level.ell < rest.largest - np.log(FADED):
            self.reason = self._stuck(moment)
            return
        if is_alone(level.layers):
            divided_state = divided(state)
            growth = Growth(divided_state.levels[0], G, tuple(self.data.blocks))
            if growth.grows and growth.log_size(0.0) < self.log_felt / self.depth:
                moment.state = divided_state
                tau = growth.tau_of_size(self.log_felt / self.depth + 1e-9)
                self._take(moment, Alone(divided_state, growth, tau))
                rest.waited += float(
                    np.exp(growth.log_time(tau) + (self.depth - 2) * self.log_start)
                )
                rest.rate = growth.rate
                if self.clock.value >= self.t_max and np.isfinite(self.t_max):
                    self._stop_inside(moment)
                else:
                    new, lost = with_column(self.data, self.state, growth, tau)
                    self._joined(new)
                    self.lost |= lost
                return
        left = self.t_max - self.clock.value
        log_unit = -(self.depth - 2) * level.ell
        longest = np.exp(np.log(left) - log_unit) if np.isfinite(left) else np.inf
        piece = Plateau(state, G, float(longest))
        self.n_gradients += ORDER
        self._take(moment, piece)
        in_units = piece.log_unit + (self.depth - 2) * self.log_start
        rest.waited += piece.length * float(np.exp(in_units))
        self.state = turned_level(self.state, 0.0)

    def _stop_inside(self, moment: Moment) -> None:
        """The run ends inside a piece, at t_max."""
        piece = moment.piece
        assert piece is not None
        local = piece.local_of(self.t_max - moment.clock.value)
        self.clock = moment.clock.after(float(np.log(self.t_max - moment.clock.value)))
        piece.length = local
        self.state = piece.at(local)

    def _joined(self, state: State) -> None:
        """A new orbit begins, with more felt columns."""
        self.state, self.h = state, None
        self.clock = replace(self.clock, orbit=self.clock.orbit + 1, local=0.0)

    @property
    def end(self) -> str:
        """The reason, or that it is not known where the run should have ended."""
        arrived = self.reason == trajectory.LOSS_REACHED
        return trajectory.LOST_PART if arrived and self.lost else self.reason

    def _take(self, moment: Moment, piece: Piece) -> None:
        moment.piece = piece
        self.state = piece.at(piece.length)
        self.clock = self.clock.after(piece.log_dt(piece.length))
        self.n_steps += 1

    def _move(self, moment: Moment, active: Active, most: int) -> None:
        """Steps of the felt layers until something else is to be decided; `most` of them at most.

        With passengers one by one, no longer than they stay traces.
        """
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
            moment.piece, active.length = active, found.lengths[k]
            self.state = state
            self.clock = self.clock.after(float(np.log(found.lengths[k])))
            self.n_steps += 1
        if found.failed:
            k = found.steps
            if k:
                last = Moment(self.clock, self.state, found.losses[k], found.norms[k])
                self.moments.append(last)
            self.reason = trajectory.STEP_TOO_SMALL

    def _felt_size(self, state: State) -> float:
        return float(np.linalg.norm(W_felt(self.data, state)))

    def _cross(self) -> None:
        """End where the loss meets the threshold, inside the last piece."""
        if len(self.moments) < 2 or self.moments[-2].piece is None or self.threshold == 0.0:
            return
        before = self.moments[-2]
        piece = before.piece
        assert piece is not None
        if before.clock.orbit != self.clock.orbit or before.loss <= self.threshold:
            return
        high = crossing(lambda x: loss_of(self.data, piece.at(x)), piece.length, self.threshold)
        state, clock = piece.at(high), before.clock.after(piece.log_dt(high))
        self.moments[-1] = Moment(clock, state, loss_of(self.data, state), self.moments[-1].norm)
