"""N large layers through all saddles, by products of layers alone.

What W feels are plain numbers, followed by `orbit`; what it does not are `quiet` layers of a size
exp(ell), which rest while others move and follow their scale-free flow where those rest (`quiet`).
Columns are quiet where they are smaller than the felt ones by APART: what the two do to each other
is then of the square of that. Where quiet columns of which all escape together become felt, they
become so together; from smaller scales one leaves alone, and the orbit that follows is of the felt
columns only, r (m + n) + (N − 2) r² numbers for r of them.

A valley along which W runs away slowly within a rank is followed badly. At 100×100, N = 3, within
rank 2, from 10^-100, the slope of size 1e-3 is what steps leave of modes that decay at rates of up
to 8,000, and the columns move by less than 1e-6 in a unit of time. A Krylov space may end without
the direction of the valley, and steps are as long as `LONGEST` lets them be; or 100 products do not
make a space, and they are far shorter. With spaces that know their vectors 300 times better steps
are shorter yet, and the slope is 2e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from mfbook.flow import trajectory
from mfbook.flow.deep.endings import stuck
from mfbook.flow.deep.large.field import Data, Gradient, joined, norm_of
from mfbook.flow.deep.large.orbit import Frame, Memory, Orbit
from mfbook.flow.deep.large.pieces import Leaving, Moment, Move, Piece
from mfbook.flow.deep.large.plateau import after_waiting, loses, walk
from mfbook.flow.deep.large.quiet import (
    AtRest,
    Lone,
    at_rest,
    log_sizes,
    standing_out,
    unbalance,
)
from mfbook.flow.deep.large.reading import ends_of, loss_of, size_of
from mfbook.flow.deep.large.state import (
    State,
    all_felt,
    carried,
    dependent,
    first_column,
    of_size_one,
    parted,
    rebalanced,
    stood,
    turned_felt,
)
from mfbook.flow.deep.layers import Layers, flat, unflat, without_dead
from mfbook.flow.deep.march import GROW, SAFETY, SHRINK
from mfbook.flow.deep.path import Goal, Path
from mfbook.flow.deep.plateau import BALANCED
from mfbook.flow.deep.slopes import slopes_along
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.shallow.kernel import REST
from mfbook.flow.unbounded import far_beyond

# Columns are quiet below this many rtol of the largest, and never above the second. What both do to
# each other moves the next escape by a share of the square of that.
APART, MOST_APART = 30.0, 3e-3
# W feels a lone column where its product is this many rtol of the data.
FELT = 1e-3
# A double tells times apart to 1e-16 of them. Where a plateau lasts for less than this many units
# of an escape, its length is followed so well that the escape is where it should be, and a column
# is alone where the others are smaller by ALONE; where it lasts longer, nobody could tell.
RESOLVED, ALONE = 1e5, 1e-8
# On the way to a plateau that lasts longer the felt layers rest where they move by this many rtol
# in the time of an escape.
REMAINS = 1e-4
# A step of felt layers takes at most so many times as long as an escape: a Krylov space may not
# know a direction of which the slope has next to nothing, and along which it would go wrong.
LONGEST = 1e6
# The steps on a plateau are this many rtol exact.
QUIET, EXACT = 1e-2, 1e-14


class LargePath(Path[State, Piece, Orbit]):
    """A path of layers that are too large for their Jacobian."""

    def __init__(self, data: Data, layers: Layers, log_start: float, goal: Goal) -> None:
        balance = tuple(a.T @ a - b @ b.T for a, b in pairwise(layers))
        super().__init__(goal, log_start, balance, far_beyond(data.observed.values))
        self.data, self.memory = data, Memory()
        self.tau: float | None = None  # the next step of a plateau
        self.reference = data.scale ** (1 / self.depth) if data.scale > 0 else 0.0
        self.apart = min(APART * self.rtol, MOST_APART)
        self.at_rest = False  # whether the felt layers of this orbit have come to rest
        self.state = self._started(layers)
        self.resolved = not self.state.waits or self._lasts(self.state.ell) < RESOLVED

    def _started(self, layers: Layers) -> State:
        m, n = self.data.shape
        bases = tuple(np.eye(layer.shape[1]) for layer in layers[:-1])
        if any(dependent(a, b) for a, b in pairwise(layers)):
            layers, bases = without_dead(layers)
        widest = max(float(np.linalg.norm(layer, 2)) for layer in layers)
        quiet = self.reference > 0 and bool(
            np.log(widest) + self.log_start < np.log(self.apart * self.reference)
        )
        empty = [m, *[0] * (self.depth - 1), n]
        nothing = tuple(np.zeros(shape) for shape in pairwise(empty))
        state = State(nothing, layers, self.log_start, bases)
        return of_size_one(state) if quiet else all_felt(state)

    # What its pieces and its run ask of it.

    def _frame(self, state: State) -> Frame:
        _, dims, offsets = flat(state.felt)
        return Frame(dims, offsets, self.data.blocks, self.reference)

    def orbit(self, state: State, memory: Memory) -> Orbit:
        return Orbit(self.data.observed, joined(state.felt), self._frame(state), memory)

    def moved(self, state: State, frame: Frame, nodes: list[np.ndarray]) -> State:
        """The state whose felt layers have gone through those nodes."""
        z = rebalanced(nodes[-1], frame, self._conserved(state))
        felt = unflat(z, frame.dims, frame.offsets)
        route = state.route
        if state.waits:
            inner = [unflat(node, frame.dims, frame.offsets) for node in nodes[:-1]]
            # The felt columns span at the start what they did at the end of the step before.
            goes_on = route and route[-1][0].shape[1] == state.felt[0].shape[1]
            through = (*inner, felt) if goes_on else (state.felt, *inner, felt)
            route = (*route, *((node[0], node[-1]) for node in through))
        return replace(state, felt=felt, route=route)

    def loss(self, state: State) -> float:
        return loss_of(self.data, state)

    def crossing(self, k: int, loss: float) -> float:
        piece = self.moments[k].piece
        assert piece is not None

        def above(local: float) -> float:
            return float(np.log(max(self.loss(piece.at(local)), 1e-300)) - np.log(loss))

        if above(0.0) <= 0:
            return 0.0
        if above(piece.length) >= 0:
            return piece.length
        return float(brentq(above, 0.0, piece.length, xtol=1e-14 * piece.length, rtol=1e-12))

    # What a moment is, and what comes next.

    def _seen(self) -> tuple[Orbit | None, float, float]:
        if 0 in self.state.widths:
            return None, self.data.loss_at_zero, self._quiet_norm(self.state)
        self.state = turned_felt(self.state)
        orbit = self.orbit(self.state, self.memory)
        self.n_gradients += 1
        return orbit, orbit.point.loss, float(np.linalg.norm(orbit.point.F))

    def _sizes(self, orbit: Orbit) -> Callable[[State], float]:
        return partial(self._size_near, self.state, orbit)

    def _size_near(self, own: State, orbit: Orbit, state: State) -> float:
        """The size of W in a state, which the orbit knows in its own."""
        return orbit.size if state is own else size_of(self.data, state)

    def _quiet_norm(self, state: State) -> float:
        slopes = slopes_along(self.data.at_zero, state.quiet)
        size = float(np.sqrt(sum(np.sum(slope**2) for slope in slopes)))
        return float(np.exp((self.depth - 1) * state.ell)) * size

    def _counts(self, sizes: np.ndarray, widths: tuple[int, ...]) -> list[int]:
        """How many columns of every interface are not smaller than the largest by `apart`."""
        parts = np.split(sizes[: sum(widths)], np.cumsum(widths)[:-1])
        return [int((part > self.apart * part.max(initial=0.0)).sum()) for part in parts]

    def _rests(self, orbit: Orbit) -> bool:
        """Whether all felt columns rest but those that may be left to a plateau."""
        if self.at_rest:
            return True
        widths = self.state.widths
        noise = REST * orbit.noise(self.data.curvature)
        parts = np.split(orbit.sizes[: sum(widths)], np.cumsum(widths)[:-1])
        counts = self._counts(orbit.sizes, widths)
        apart = len(set(counts)) == 1 and counts[0] < max(widths)
        apart = apart and self.clock != self.joined and not self.state.waits
        if self.state.waits:
            noise = max(noise, self._remains(self.state.ell))
        elif apart:
            next_size = max(float(part[counts[0] :].max(initial=0.0)) for part in parts)
            noise = max(noise, self._remains(np.log(next_size)) if next_size > 0 else 0.0)
        still = orbit.speeds <= noise * orbit.sizes
        if not apart:
            return bool(np.all(still))
        inner = np.concatenate([np.arange(w) < c for w, c in zip(widths, counts, strict=True)])
        return bool(np.all(still[: sum(widths)][inner]))

    def _remains(self, ell: float) -> float:
        """The relative speed that felt columns may have where others of size exp(ell) wait.

        Traces of further components may still have to grow.
        """
        if len(self.data.blocks) > 1:
            return 0.0
        lasts = self._lasts(ell)
        return REMAINS * self.rtol * self.rate / (max(lasts, 1.0) if self.resolved else 1.0)

    def _from_rest(self, moment: Moment) -> None:
        """The piece that leaves a rest of the felt layers."""
        state = moment.state
        if 0 not in state.widths and not state.waits:
            sizes = self._frame(state).sizes(joined(state.felt))
            counts = self._counts(sizes, state.widths)
            if len(set(counts)) == 1 and counts[0] < min(state.widths):
                if self.clock != self.joined:
                    state = parted(turned_felt(state, 0.0), counts[0])
        if not state.waits or self.reference == 0.0:
            self.reason = self._stuck(moment)
            return
        G: Gradient | AtRest = self.data.at_zero
        if 0 not in state.widths:
            G = at_rest(self.data.observed.gradient(*ends_of(self.data, state))[0], state.felt)
        state = carried(state)
        if not self.at_rest:
            state = self._made_up(state, G)
        self.at_rest = True
        state = moment.state = stood(state)
        self._plateau(moment, state, G)

    def _made_up(self, state: State, G: Gradient | AtRest) -> State:
        """The quiet layers, which waited while others moved, at the time of the rest.

        The gradient was what it is at rest from the time on at which the loss fell.
        """
        if 0 in state.widths or len(self.moments) < 2 or not self.moments[-2].state.waits:
            return state
        orbit = [m for m in self.moments if m.clock.orbit == self.clock.orbit]
        half = (orbit[0].loss + orbit[-1].loss) / 2
        fell = next(m.clock.local for m in orbit if m.loss <= half)
        state, n_gradients = after_waiting(state, G, orbit[-1].clock.local - fell)
        self.n_gradients += n_gradients
        return state

    def _stuck(self, moment: Moment) -> str:
        size = size_of(self.data, moment.state)
        return stuck(moment.loss, size, self.data.observed, self.data)

    def _plateau(self, moment: Moment, state: State, G: Gradient | AtRest) -> None:
        """The quiet layers go on, or their first column alone, or they join the felt ones."""
        if self._one_stands_out(state) and self._leave(moment, state, G):
            return
        if self._is_felt(state):
            self._join(self._merged(state))
            return
        floor = EPS * norm_of(self.data.at_zero)
        found = walk(state, G, self.tau, self._exactness(state.ell), floor, self._has_waited)
        self.n_gradients += found.n_gradients
        if found.piece is None:
            self.reason = self._stuck(moment)
            return
        self.tau = found.tau
        self._take(moment, found.piece, found.after)

    def _exactness(self, ell: float) -> float:
        """The error that a step of quiet layers of size exp(ell) may make of them."""
        tol = QUIET * self.rtol
        if not self.resolved:
            return tol
        share = np.exp((self.depth - 2) * (ell - float(np.log(self.reference))))
        return min(tol, max(0.1 * self.rtol * share, EXACT))

    def _one_stands_out(self, state: State) -> bool:
        """Whether the first hidden column is on its own, and balanced, as one that has grown is."""
        others, wrong = (ALONE, BALANCED) if self.resolved else (self.rtol, self.rtol)
        return standing_out(state.quiet) <= others and unbalance(first_column(state.quiet)) <= wrong

    def _is_felt(self, state: State) -> bool:
        """Whether W feels the largest hidden column of the quiet layers."""
        log_size = state.ell + float(log_sizes(state.quiet).max())
        return log_size >= float(np.log(self.reference)) + np.log(self.apart)

    def _has_waited(self, state: State) -> bool:
        return self._one_stands_out(state) or self._is_felt(state)

    def _lasts(self, ell: float) -> float:
        """How long quiet columns of that size wait, in units of an escape."""
        log = (self.depth - 2) * (np.log(self.reference) - ell)
        return float(np.exp(min(log, 700.0)))

    @property
    def rate(self) -> float:
        """That of an escape."""
        return self.data.top * self.reference ** (self.depth - 2)

    def _leave(self, moment: Moment, state: State, G: Gradient | AtRest) -> bool:
        """The first quiet column grows by itself until it is felt; False where it does not."""
        lone = Lone(G, first_column(state.quiet), state.ell)
        goal = float(np.log(self.reference) + np.log(FELT * self.rtol) / self.depth)
        if not lone.grows or float(lone.log_size(0.0)) >= goal:
            return False
        tau = lone.tau_of_size(goal)
        piece = Leaving(state, lone, tau)
        if loses(lone, tau, self.data, G):
            self.reason = trajectory.TOO_LARGE
            return True
        self._take(moment, piece, piece.at(tau))
        if self._is_over(self.clock):
            return True
        self._begin_orbit(self.state)
        return True

    def _begin_orbit(self, state: State) -> None:
        super()._begin_orbit(state)
        self.tau, self.memory, self.at_rest = None, Memory(), False

    def _merged(self, state: State) -> State:
        """The quiet layers among the felt ones, with what the flow conserves."""
        state = all_felt(state)
        frame = self._frame(state)
        z = rebalanced(joined(state.felt), frame, self._conserved(state))
        return replace(state, felt=unflat(z, frame.dims, frame.offsets))

    def _move(self, moment: Moment, orbit: Orbit, _most: int) -> None:
        """A step of the felt layers, tried shorter and shorter until its error is small."""
        tol = self.rtol
        h = self.h
        if h is None:
            h = tol ** (1 / 4) / max(orbit.fastest, 1e-300)
        h = min(h, self.t_max - self.clock.value)
        if self.rate > 0:
            h = min(h, LONGEST / self.rate)
        before = orbit.n_gradients
        while h > 4 * EPS * self.clock.local and h > 0:
            taken, h = orbit.plan(h, tol)
            nodes, error = orbit.step(h, taken)
            after = self.moved(moment.state, orbit.frame, nodes) if error <= tol else None
            if after is not None and all(np.all(np.isfinite(layer)) for layer in after.felt):
                orbit.succeeded(taken)
                self.n_gradients += orbit.n_gradients - before
                self._take(moment, Move(self, moment.state, taken, h), after)
                factor = SAFETY * (tol / max(error, 1e-300)) ** (1 / orbit.order(taken))
                self.h = h * min(GROW, factor)
                return
            orbit.failed(taken)
            error = max(error, 10 * tol)
            shorter = SAFETY * (tol / error) ** (1 / orbit.order(taken)) if error > 0 else 0.25
            h *= max(SHRINK, shorter) if np.isfinite(error) else 0.25
        self.reason = trajectory.STEP_TOO_SMALL
