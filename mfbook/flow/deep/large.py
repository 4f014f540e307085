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

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from mfbook.flow import trajectory
from mfbook.flow.deep.endings import ending, stuck
from mfbook.flow.deep.felt import LEFT
from mfbook.flow.deep.field import Data, Gradient, joined, partial_products, slopes_along
from mfbook.flow.deep.joining import LOST
from mfbook.flow.deep.large_pieces import Leaving, Moment, Move, Rest
from mfbook.flow.deep.large_state import (
    State,
    all_felt,
    carried,
    dependent,
    of_size_one,
    parted,
    rebalanced,
    stood,
    turned_felt,
)
from mfbook.flow.deep.layers import Layers, flat, unflat, without_dead
from mfbook.flow.deep.march import GROW, SAFETY, SHRINK
from mfbook.flow.deep.moments import Clock
from mfbook.flow.deep.orbit import Frame, Memory, Orbit
from mfbook.flow.deep.quiet import (
    AtRest,
    Lone,
    Still,
    at_rest,
    log_sizes,
    standing_out,
)
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
# So many steps of a plateau are kept as one, where the layers have more than so many numbers.
TOGETHER, HEAVY = 8, 1_000_000


class LargePath:
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
        self.data, self.rtol, self.threshold, self.t_max = data, rtol, threshold, t_max
        self.depth, self.log_start = len(layers), log_start
        self.moments: list[Moment] = []
        self.reason = ""
        self.n_steps = self.n_gradients = 0
        self.clock, self.memory = Clock(), Memory()
        self.h: float | None = None
        self.tau: float | None = None  # the next step of a plateau
        self.observed = data.observed
        self.far = far_beyond(data.observed.values)
        self.balance = [a.T @ a - b @ b.T for a, b in pairwise(layers)]
        self.reference = data.scale ** (1 / self.depth) if data.scale > 0 else 0.0
        self.apart = min(APART * rtol, MOST_APART)
        self.at_rest = False  # whether the felt layers of this orbit have come to rest
        self.joined: Clock | None = None  # when quiet columns became felt together
        self.state = self._started(layers, log_start)
        self.resolved = not self.state.waits or self._lasts(self.state.ell) < RESOLVED

    def _started(self, layers: Layers, log_start: float) -> State:
        m, n = self.data.shape
        bases = tuple(np.eye(layer.shape[1]) for layer in layers[:-1])
        if any(dependent(a, b) for a, b in pairwise(layers)):
            layers, bases = without_dead(layers)
        widest = max(float(np.linalg.norm(layer, 2)) for layer in layers)
        quiet = self.reference > 0 and bool(
            np.log(widest) + log_start < np.log(self.apart * self.reference)
        )
        empty = [m, *[0] * (self.depth - 1), n]
        nothing = tuple(np.zeros(shape) for shape in pairwise(empty))
        state = State(nothing, layers, log_start, bases)
        return of_size_one(state) if quiet else all_felt(state)

    # What is read off a state.

    def frame(self, state: State) -> Frame:
        _, dims, offsets = flat(state.felt)
        return Frame(dims, offsets, self.data.blocks, self.reference)

    def orbit(self, state: State, memory: Memory) -> Orbit:
        return Orbit(self.observed, joined(state.felt), self.frame(state), memory)

    def ends(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """L and R with W = L R of what is felt, and of the rest where a double holds it."""
        if 0 not in state.widths:
            return partial_products(state.felt)[-1], state.felt[-1]
        log = self.depth * state.ell
        if not state.waits or log < -745.0:
            m, n = self.data.shape
            return np.zeros((m, 1)), np.zeros((1, n))
        return np.exp(log) * partial_products(state.quiet)[-1], state.quiet[-1]

    def W(self, state: State) -> np.ndarray:
        """W on the measured rows and columns."""
        L, R = self.ends(state)
        return L @ R

    def singular_values(self, state: State) -> np.ndarray:
        L, R = self.ends(state)
        count = min(self.data.shape)
        if L.shape[1] >= count:
            return np.linalg.svd(L @ R, compute_uv=False)
        inner = np.linalg.qr(L)[1] @ np.linalg.qr(R.T)[1].T
        values = np.linalg.svd(inner, compute_uv=False)
        return np.concatenate([values, np.zeros(max(count - len(values), 0))])[:count]

    def loss(self, state: State) -> float:
        return self.observed.gradient(*self.ends(state))[1]

    def layers(self, state: State) -> list[np.ndarray]:
        """The layers in the caller's hidden bases, in the engine's units."""
        state = carried(state)
        whole = all_felt(state).felt
        out = []
        for j, layer in enumerate(whole):
            left = layer if j == 0 else state.bases[j - 1] @ layer
            out.append(left if j == self.depth - 1 else left @ state.bases[j].T)
        return out

    def _conserved(self, state: State) -> list[np.ndarray]:
        """W_jᵀW_j − W_{j+1}W_{j+1}ᵀ of the felt layers, in their bases."""
        size = np.exp(2 * self.log_start)
        return [
            size * (basis[:, :width].T @ balance @ basis[:, :width])
            for basis, balance, width in zip(state.bases, self.balance, state.widths, strict=True)
        ]

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

    # The run.

    @property
    def end(self) -> str:
        return self.reason

    def advance(self, most: int = 1) -> None:
        """One more moment, and the piece that leads on from it; or the reason why there is none.

        For `most` = 0 the moment alone.
        """
        state = self.state
        orbit = None
        if 0 in state.widths:
            loss = self.data.loss_at_zero
            norm = self._quiet_norm(state)
        else:
            state = self.state = turned_felt(state)
            orbit = self.orbit(state, self.memory)
            loss, norm = orbit.point.loss, float(np.linalg.norm(orbit.point.F))
            self.n_gradients += 1
        moment = Moment(self.clock, state, loss, norm)
        self.moments.append(moment)
        sizes = None if orbit is None else partial(self._size_of_W, orbit)
        self.reason = ending(self.moments, self.threshold, self.t_max, self.far, sizes)
        if self.reason == trajectory.LOSS_REACHED:
            self._cross()
        if self.reason or most == 0:
            return
        if orbit is None or self.at_rest or self._rests(orbit):
            self._from_rest(moment)
        else:
            self._move(moment, orbit)

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
            sizes = self.frame(state).sizes(joined(state.felt))
            counts = self._counts(sizes, state.widths)
            if len(set(counts)) == 1 and counts[0] < min(state.widths):
                if self.clock != self.joined:
                    state = parted(turned_felt(state, 0.0), counts[0])
        if not state.waits or self.reference == 0.0:
            self.reason = self._stuck(moment)
            return
        G: Gradient | AtRest = self.data.at_zero
        if 0 not in state.widths:
            G = at_rest(self.observed.gradient(*self.ends(state))[0], state.felt)
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
        s = (orbit[-1].clock.local - fell) * np.exp((self.depth - 2) * state.ell)
        if not s > 0:
            return state
        still = Still(G, state.quiet)
        y, _ = still.step(s * float(np.linalg.norm(state.quiet[0])) ** (self.depth - 2))
        self.n_gradients += still.n_gradients
        return replace(state, quiet=still.layers(y))

    def _stuck(self, moment: Moment) -> str:
        return stuck(moment.loss, self._felt_size(moment.state), self.observed, self.data)

    def _plateau(self, moment: Moment, state: State, G: Gradient | AtRest) -> None:
        log_ref = float(np.log(self.reference))
        power = self.depth - 2
        resolved = self.resolved
        tol = QUIET * self.rtol
        if resolved:
            tol = min(tol, max(0.1 * self.rtol * np.exp(power * (state.ell - log_ref)), EXACT))
        alone = ALONE if resolved else self.rtol
        if standing_out(state.quiet) <= alone:
            if self._leave(moment, state, G):
                return
        if self._size(state) >= log_ref + np.log(self.apart):
            self._join(moment, state)
            return
        floor = EPS * float(np.linalg.norm(self._data_of(self.data.at_zero)))
        left = self.t_max - self.clock.value
        log_unit = -power * state.ell
        steps: list[float] = []
        ends: list[float] = []
        heavy = sum(V.size for V in state.quiet) > HEAVY
        now, h = state, self.tau
        for _ in range(TOGETHER if heavy else 1):
            still = Still(G, now.quiet)
            rate = still.rate
            if rate * float(np.linalg.norm(now.quiet[0])) ** power <= floor:
                self.reason = self._stuck(moment)
                return
            h = min(h or 0.1 / rate, 2.0 / rate)
            y, error = still.step(h)
            while not error <= tol:
                h *= max(SHRINK, SAFETY * (tol / error) ** (1 / 8)) if np.isfinite(error) else 0.25
                y, error = still.step(h)
            self.n_gradients += still.n_gradients
            # s runs in units of the size at the beginning of the piece.
            s = float(y[-1]) * float(np.exp(-power * (now.ell - state.ell)))
            steps.append(h)
            ends.append(s + (ends[-1] if ends else 0.0))
            h *= min(3.0, SAFETY * (tol / max(error, 1e-300)) ** (1 / 8))
            now = stood(replace(now, quiet=still.layers(y)))
            if standing_out(now.quiet) <= alone or self._size(now) > log_ref + np.log(self.apart):
                break
        self.tau = h
        self._take(moment, Rest(state, G, tuple(steps), tuple(ends), log_unit), now)
        if np.isfinite(left) and self.clock.value >= self.t_max:
            self._stop_inside(moment)

    def _lasts(self, ell: float) -> float:
        """How long quiet columns of that size wait, in units of an escape."""
        log = (self.depth - 2) * (np.log(self.reference) - ell)
        return float(np.exp(min(log, 700.0)))

    @property
    def rate(self) -> float:
        """That of an escape."""
        return self.data.top * self.reference ** (self.depth - 2)

    @staticmethod
    def _data_of(G: Gradient) -> np.ndarray:
        return G if isinstance(G, np.ndarray) else G.data

    def _size(self, state: State) -> float:
        """The logarithm of the largest hidden column of the quiet layers, where one stands out."""
        return state.ell + float(log_sizes(state.quiet).max())

    def _leave(self, moment: Moment, state: State, G: Gradient | AtRest) -> bool:
        """The first quiet column grows by itself until it is felt; False where it does not."""
        last = self.depth - 1
        column = tuple(
            V[: None if j == 0 else 1, : None if j == last else 1]
            for j, V in enumerate(state.quiet)
        )
        lone = Lone(G, column, state.ell)
        goal = float(np.log(self.reference) + np.log(FELT * self.rtol) / self.depth)
        if not lone.grows or float(lone.log_size(0.0)) >= goal:
            return False
        tau = lone.tau_of_size(goal)
        piece = Leaving(state, lone, tau)
        if self._loses(lone, tau, G):
            self.reason = trajectory.TOO_LARGE
            return True
        self._take(moment, piece, piece.at(tau))
        if self.clock.value >= self.t_max and np.isfinite(self.t_max):
            self._stop_inside(moment)
            return True
        self._new_orbit()
        return True

    def _loses(self, lone: Lone, tau: float, G: Gradient | AtRest) -> bool:
        """Whether the column has next to nothing of a component that has more to learn.

        It would grow, and its sign be that of rounding: small layers keep such parts by themselves.
        """
        if len(self.data.blocks) < 2:
            return False
        (x, *_, y), _ = lone.at(tau)
        dense = G if isinstance(G, np.ndarray) else G.toarray()
        for rows, cols in self.data.blocks:
            part = max(float(np.abs(x[rows]).max()), float(np.abs(y[:, cols]).max()))
            more = float(np.linalg.norm(dense[np.ix_(rows, cols)])) > LEFT * self.data.top
            if more and part < LOST:
                return True
        return False

    def _new_orbit(self) -> None:
        self.clock = replace(self.clock, orbit=self.clock.orbit + 1, local=0.0)
        self.h, self.tau, self.memory, self.at_rest = None, None, Memory(), False

    def _join(self, moment: Moment, state: State) -> None:
        """All quiet columns become felt, and a new orbit begins."""
        joined_state = all_felt(state)
        frame = self.frame(joined_state)
        z = rebalanced(joined(joined_state.felt), frame, self._conserved(joined_state))
        self.state = replace(joined_state, felt=unflat(z, frame.dims, frame.offsets))
        self._new_orbit()
        # No time has passed: the moment itself belongs to the new orbit.
        self.moments.pop()
        self.joined = self.clock

    def _take(self, moment: Moment, piece: Move | Rest | Leaving, after: State) -> None:
        moment.piece = piece
        self.state = after
        self.clock = self.clock.after(piece.log_dt(piece.length))
        self.n_steps += 1

    def _stop_inside(self, moment: Moment) -> None:
        """The run ends inside a piece, at t_max."""
        piece = moment.piece
        assert piece is not None
        local = piece.local_of(self.t_max - moment.clock.value)
        self.state = piece.at(local)
        self.clock = replace(
            moment.clock.after(float(np.log(self.t_max - moment.clock.value))), value=self.t_max
        )

    def _move(self, moment: Moment, orbit: Orbit) -> None:
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

    def _size_of_W(self, orbit: Orbit, state: State) -> float:
        """That of W in a state of the orbit."""
        return orbit.size if state is self.state else self._felt_size(state)

    def _felt_size(self, state: State) -> float:
        L, R = self.ends(state)
        return float(np.sqrt(max(np.sum((L.T @ L) * (R @ R.T)), 0.0)))

    def crossing(self, k: int, loss: float) -> float:
        """Where, inside the piece after moment k, the loss comes down to that."""
        moment = self.moments[k]
        piece = moment.piece
        assert piece is not None

        def above(local: float) -> float:
            return float(np.log(max(self.loss(piece.at(local)), 1e-300)) - np.log(loss))

        if above(0.0) <= 0:
            return 0.0
        if above(piece.length) >= 0:
            return piece.length
        return float(brentq(above, 0.0, piece.length, xtol=1e-14 * piece.length, rtol=1e-12))

    def _cross(self) -> None:
        """End where the loss meets the threshold, inside the last piece."""
        if len(self.moments) < 2 or self.moments[-2].piece is None or self.threshold == 0.0:
            return
        before = self.moments[-2]
        if before.clock.orbit != self.clock.orbit or before.loss <= self.threshold:
            return
        piece = before.piece
        assert piece is not None
        local = self.crossing(len(self.moments) - 2, self.threshold)
        state = piece.at(local)
        while self.loss(state) > self.threshold and local < piece.length:
            local = min(local * (1 + 1e-10), piece.length)
            state = piece.at(local)
        clock = before.clock.after(piece.log_dt(local))
        self.moments[-1] = Moment(clock, state, self.loss(state), self.moments[-1].norm)
