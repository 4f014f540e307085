"""Follow N layers through all saddles: which piece of the path comes next, and when to stop.

A run is made of four kinds of pieces. While felt columns move they are advanced by an exponential
Rosenbrock method with the exact Jacobian (`Active`). While they rest, components that they have
only in traces grow linearly (`Wait`); then the first level follows its scale-free flow (`Plateau`),
at the end of which one hidden column of it grows alone (`Alone`) until it is felt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mfbook.flow import trajectory
from mfbook.flow.deep import kernel
from mfbook.flow.deep.data import Data
from mfbook.flow.deep.layers import (
    Layers,
    Level,
    State,
    divided,
    flat,
    merged,
    sizes_of,
    split,
    turned_felt,
    turned_level,
    unflat,
    without_dead,
)
from mfbook.flow.deep.passengers import Passenger, exponents
from mfbook.flow.deep.plateau import (
    ORDER,
    Growth,
    along,
    gradient_at_rest,
    is_alone,
    log_product,
    taylor_step,
)
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.shallow.kernel import REST
from mfbook.flow.unbounded import far_beyond, grows_on
from mfbook.models import product

# W feels a product that exceeds this share of the data: what is smaller changes ∇f by as much.
FELT = 1e-13
# A column is left to a level where it is this much smaller than one that would be felt.
CLEARLY_LESS = 0.5
# A component that felt columns have below this share of their size goes by itself, linearly.
TRACE = 1e-7
# Columns smaller than the felt ones by this are split off while those still move.
APART = 1e-8
# The blocks that link columns may be dropped below this share of the smaller ones.
LINKED = 1e-6

# What a new column has of a component that felt columns have already moves in the same plain
# numbers as the rest of it. Below this share, some thousand roundings, its sign is rounding's.
LOST = 1e-12
# A component has something left to learn where its gradient is above this share of that at zero.
LEFT = 1e-9

# The step control compares with an embedded method of order three, which overestimates the error.
LOCAL, ORDER_OF_ERROR, GROW = 5.0, 4, 8.0
SHRINK, SAFETY = 0.1, 0.9

# A column of size a that is wrong by a share δ escapes at a time that is wrong by δ/a^(N−2), when W
# changes at a rate of order one. So while it is small its error counts more, by a power of a^(N−2):
# as the estimate is of order three and the error of order five, not the first. Worst error of W at
# equal times over the data at rtol = 1e-6, and steps, on M3 (N = 3) from 1e-2 and 1e-4, and (N = 4)
# from 1e-2: power 0: 1e-5, 1e-3, 7e-4 (189, 315, 246); 0.4: 1.5e-6, 1.6e-5, 9e-6 (254, 596, 511);
# 0.8: 1.4e-7, 1.8e-7, 8e-8 (405, 1523, 1553).
EARLY, MOST_EXACT = 0.6, 1e-6
# While larger columns move, smaller ones need not count much more than they.
OTHERS, MOVING = 3.0, 1e-3

# A level that shrinks by this factor is on its way to rest: it has a part that blows up no larger
# than 1e-6 of itself, which is as much as rounding has made of it by then, as its square shrinks.
FADED = 1e6


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


class Piece(Protocol):
    """A piece of the path, from one moment to the next, in a time of its own."""

    length: float

    def at(self, local: float) -> State: ...

    def local_of(self, dt: float) -> float: ...

    def log_dt(self, local: float) -> float: ...


@dataclass
class Moment:
    """A state of the run at the end of a step, and the piece that leads on from there."""

    clock: Clock
    state: State
    loss: float
    norm: float
    piece: Piece | None = None


class Active:
    """The felt layers, exactly linearised; passengers and levels are carried along."""

    def __init__(
        self, data: Data, state: State, conserved: np.ndarray, allowed: np.ndarray | None
    ) -> None:
        self.data, self.state, self.depth = data, state, len(state.felt)
        self.conserved, self.allowed = conserved, allowed
        self.part = data.part(state.present)
        self.z, self.dims, self.offsets = flat(state.felt)
        self.F, loss, self.G = kernel.slope(self.part.terms, self.z, self.dims, self.offsets)
        self.loss = loss + self.part.loss_of_others
        self.n_gradients, self.length = 1, 0.0
        reference = data.scale ** (1 / self.depth) if data.scale > 0 else 0.0
        sizes = kernel.column_sizes(self.z, self.dims, self.offsets)
        live = sizes > kernel.floors_of(sizes, self.dims)
        self.sizes, sizes = sizes, sizes / np.sqrt(2)
        shares = np.minimum(1.0, sizes / reference) if reference > 0 else np.ones_like(sizes)
        weights = 1 / np.maximum(shares ** (EARLY * (self.depth - 2)), MOST_EXACT)
        speeds = kernel.column_sizes(self.F, self.dims, self.offsets)
        self.speeds = speeds
        relative = np.where(live, speeds / np.where(live, sizes, 1.0), -1.0)
        self.fastest = float(relative.max())
        moving = relative >= MOVING * self.fastest
        self.weights = np.minimum(weights, OTHERS * weights[moving].min(initial=np.inf))
        self._eigen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._eigen is None:
            self._eigen = kernel.jacobian(self.part.terms, self.z, self.dims, self.offsets, self.G)
        return self._eigen

    def resting(self) -> np.ndarray:
        """Which of the felt columns do not move by more than rounding, interface by interface."""
        noise = kernel.noise_of(
            self.part.terms, self.z, self.dims, self.offsets, self.data.curvature
        )
        return self.speeds <= REST * noise * self.sizes

    def step(self, h: float) -> tuple[np.ndarray, float]:
        self.n_gradients += 2
        return kernel.active_step(
            self.part.terms, self.z, self.dims, self.offsets, self.F, *self.eigen, h, self.weights
        )

    def assembled(self, path: np.ndarray, h: float) -> State:
        path = path.copy() if self.allowed is None else path * self.allowed
        path[0] = kernel.rebalanced(path[0], self.dims, self.offsets, self.conserved)
        nodes = [unflat(z, self.dims, self.offsets) for z in path]
        passengers = self.state.passengers
        if passengers:
            K = [middle(node) for node in nodes[1:]]
            passengers = tuple(p.after(exponents(K[0], K[1], h)) for p in passengers)
        levels = self.state.levels
        if levels:
            route = [self.state.felt, nodes[1], nodes[2], nodes[0]]
            left = carried([self._rows(node[0]) for node in route])
            right = carried([self._cols(node[-1]) for node in route])
            levels = tuple(
                replace(
                    level,
                    layers=(
                        left @ level.layers[0],
                        *level.layers[1:-1],
                        level.layers[-1] @ right.T,
                    ),
                )
                for level in levels
            )
        return replace(self.state, felt=nodes[0], passengers=passengers, levels=levels)

    def _rows(self, layer: np.ndarray) -> np.ndarray:
        out = np.zeros((self.data.shape[0], layer.shape[1]))
        out[self.part.rows] = layer
        return out

    def _cols(self, layer: np.ndarray) -> np.ndarray:
        out = np.zeros((self.data.shape[1], layer.shape[0]))
        out[self.part.cols] = layer.T
        return out

    def at(self, local: float) -> State:
        return self.assembled(self.step(local)[0], local) if local > 0 else self.state

    def local_of(self, dt: float) -> float:
        return dt

    def log_dt(self, local: float) -> float:
        return float(np.log(local)) if local > 0 else -np.inf


class Wait:
    """The felt layers rest, and passengers grow."""

    def __init__(self, state: State, length: float) -> None:
        self.state, self.length = state, length
        self.K = middle(state.felt)

    def at(self, local: float) -> State:
        moved = tuple(p.after(exponents(self.K, self.K, local)) for p in self.state.passengers)
        return replace(self.state, passengers=moved)

    def local_of(self, dt: float) -> float:
        return dt

    def log_dt(self, local: float) -> float:
        return float(np.log(local)) if local > 0 else -np.inf


class Plateau:
    """A Taylor step of the first level, in its scale-free time s."""

    def __init__(self, state: State, G: np.ndarray, longest: float) -> None:
        self.state = state
        self.series, self.length = taylor_step(state.levels[0], G, longest)
        self.log_unit = -(len(state.felt) - 2) * state.levels[0].ell

    def at(self, local: float) -> State:
        level = along(self.state.levels[0], self.series, local)
        return replace(self.state, levels=(level, *self.state.levels[1:]))

    def local_of(self, dt: float) -> float:
        return float(np.exp(np.log(dt) - self.log_unit)) if dt > 0 else 0.0

    def log_dt(self, local: float) -> float:
        return float(np.log(local) + self.log_unit) if local > 0 else -np.inf


class Alone:
    """The linear growth of one column of rank one, in the time τ = ∫ a^(N−2) dt."""

    def __init__(self, state: State, growth: Growth, length: float) -> None:
        self.state, self.growth, self.length = state, growth, length

    def at(self, local: float) -> State:
        return replace(self.state, levels=(self.growth.at(local), *self.state.levels[1:]))

    def local_of(self, dt: float) -> float:
        return self.growth.tau_of_time(float(np.log(dt)), self.length) if dt > 0 else 0.0

    def log_dt(self, local: float) -> float:
        return self.growth.log_time(local)


def middle(layers: Layers) -> np.ndarray:
    """K = W_2 ⋯ W_{N−1}."""
    return product(layers[1:-1])


def sectors_of(data: Data, layers: Layers) -> list[np.ndarray] | None:
    """Numbers of the sectors of rows, hidden columns and columns of W; None where there is one.

    Link what an entry of a layer links, and rows and columns that ∇f links. An entry between two
    of the components that is zero at the start stays so, and rounding must not lead out of there.
    """
    sizes = [layers[0].shape[0], *(layer.shape[1] for layer in layers)]
    begins = np.concatenate([[0], np.cumsum(sizes)])
    links = np.zeros((begins[-1], begins[-1]), dtype=bool)
    for j, layer in enumerate(layers):
        links[begins[j] : begins[j + 1], begins[j + 1] : begins[j + 2]] = layer != 0.0
    links[data.whole.i, begins[-2] + data.whole.j] = True
    count, labels = connected_components(csr_array(links), directed=False)
    if count == 1:
        return None
    return [labels[low:high] for low, high in pairwise(begins)]


def carried(route: list[np.ndarray]) -> np.ndarray:
    """The rotation that carries vectors in parallel along the column spaces of a few matrices.

    From one space to the next it turns principal vectors into each other, and nothing else.
    """
    total = np.eye(len(route[0]))
    spaces = []
    for matrix in route:
        u, s, _ = np.linalg.svd(matrix, full_matrices=False)
        spaces.append(u[:, s > 1e-12 * s[0]] if s.size and s[0] > 0 else u[:, :0])
    for low, high in pairwise(spaces):
        if low.shape[1] != high.shape[1] or not low.shape[1]:
            continue
        x, cosines, yt = np.linalg.svd(low.T @ high)
        u, v = low @ x, high @ yt.T
        rest = v - u * cosines
        sines = np.linalg.norm(rest, axis=0)
        turning = sines > 1e-15
        u, c, s = u[:, turning], cosines[turning], sines[turning]
        w = rest[:, turning] / s
        turn = np.eye(len(total))
        turn += (u * (c - 1)) @ u.T + (w * (c - 1)) @ w.T + (w * s) @ u.T - (u * s) @ w.T
        total = turn @ total
    return total


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
        self.far = far_beyond(data.whole.values)
        # What is conserved, in the caller's hidden bases and in units of the square of the scale.
        self.balance = [a.T @ a - b @ b.T for a, b in pairwise(layers)]
        self.sectors = sectors_of(data, layers)
        self.state = self._started(layers, log_start)

    def _started(self, layers: Layers, log_start: float) -> State:
        layers, bases = without_dead(layers)
        everything = tuple(range(len(self.data.blocks)))
        m, n = self.data.shape
        log_size = float(
            self.depth * log_start
            + sum(np.log(np.linalg.norm(layer)) if layer.any() else -np.inf for layer in layers)
        )
        scale = self.data.scale
        self.log_felt = float(np.log(FELT * scale)) if scale > 0 else -np.inf
        if log_size >= self.log_felt or scale == 0.0:
            felt = tuple(np.exp(log_start) * layer for layer in layers)
            return State(felt, (), bases, everything)
        ends = [m, *[0] * (self.depth - 1), n]
        felt = tuple(np.zeros(shape) for shape in pairwise(ends))
        size = max(float(s.max()) for s in sizes_of(layers))
        scaled = tuple(layer / size for layer in layers)
        rows, cols = [0, *ends[1:-1]], [*ends[1:-1], 0]
        into = tuple(
            np.zeros((r, V.shape[1] if k < self.depth - 1 else 0))
            for k, (r, V) in enumerate(zip(rows, scaled, strict=True))
        )
        out_of = tuple(
            np.zeros((V.shape[0] if k else 0, c))
            for k, (c, V) in enumerate(zip(cols, scaled, strict=True))
        )
        level = Level(scaled, log_start + float(np.log(size)), into, out_of)
        return State(felt, (level,), bases, everything)

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
        """1 for the entries of the felt layers inside sectors, 0 for those between; None for one.

        Columns of different sectors share no row, so the bases never mix them.
        """
        if self.sectors is None:
            return None
        part = self.data.part(state.present)
        rows, *hidden, cols = self.sectors
        of_columns = [
            labels[np.argmax(np.abs(basis[:, :width]), axis=0)]
            for labels, basis, width in zip(hidden, state.bases, state.widths, strict=True)
        ]
        ends = [rows[part.rows], *of_columns, cols[part.cols]]
        blocks = [a[:, None] == b[None, :] for a, b in pairwise(ends)]
        return np.concatenate([block.ravel() for block in blocks]).astype(float)

    # What is read off a state.

    def W(self, state: State) -> np.ndarray:
        """W on the measured rows and columns."""
        W = np.zeros(self.data.shape)
        part = self.data.part(state.present)
        z, dims, offsets = flat(state.felt)
        if 0 not in dims:
            W[np.ix_(part.rows, part.cols)] = kernel.product_of(z, dims, offsets)
        for level in state.levels:
            z, dims, offsets = flat(level.layers)
            log = self.depth * level.ell
            if log > -745.0 and 0 not in dims:
                W += np.exp(log) * kernel.product_of(z, dims, offsets)
        if state.passengers:
            K = middle(state.felt)
            for passenger in state.passengers:
                X, Y = passenger.blocks()
                pairs = passenger.pairs
                W[np.ix_(pairs.rows, part.cols)] += X @ K @ state.felt[-1]
                W[np.ix_(part.rows, pairs.cols)] += state.felt[0] @ K @ Y
                W[np.ix_(pairs.rows, pairs.cols)] += X @ K @ Y
        return W

    def layers(self, state: State) -> list[np.ndarray]:
        """The layers in the caller's hidden bases, in the engine's units."""
        part = self.data.part(state.present)
        m, n = self.data.shape
        widths = [basis.shape[1] for basis in state.bases]
        shapes = list(zip([m, *widths], [*widths, n], strict=True))
        out = [np.zeros(shape) for shape in shapes]
        felt, last = state.felt, self.depth - 1
        for j, F in enumerate(felt):
            rows = part.rows if j == 0 else np.arange(F.shape[0])
            cols = part.cols if j == last else np.arange(F.shape[1])
            out[j][np.ix_(rows, cols)] = F
        for passenger in state.passengers:
            X, Y = passenger.blocks()
            out[0][passenger.pairs.rows, : X.shape[1]] = X
            out[-1][: Y.shape[0], passenger.pairs.cols] = Y
        at = list(state.widths)
        for k, level in enumerate(state.levels):
            size = np.exp(level.ell)
            for j, V in enumerate(level.layers):
                row = 0 if j == 0 else at[j - 1]
                col = 0 if j == last else at[j]
                out[j][row : row + V.shape[0], col : col + V.shape[1]] += size * V
                if k == 0 and 0 < j < last:
                    B, D = level.into[j], level.out_of[j]
                    out[j][: B.shape[0], col : col + B.shape[1]] += size * B
                    out[j][row : row + D.shape[0], : D.shape[1]] += size * D
            at = [a + w for a, w in zip(at, level.widths, strict=True)]
        for j in range(self.depth):
            left = state.bases[j - 1] if j else np.eye(m)
            right = state.bases[j] if j < last else np.eye(n)
            out[j] = left @ out[j] @ right.T
        return out

    def loss(self, state: State) -> float:
        return self.data.loss(self.W(state))

    # The run.

    def advance(self) -> None:
        """One more moment, and the piece that leads on from it; or the reason why there is none."""
        state = self.state = self._tidied(self.state)
        empty = 0 in state.widths
        active = (
            None
            if empty
            else Active(self.data, state, self._conserved(state), self._allowed(state))
        )
        if active is not None:
            self.n_gradients += 1
            loss, norm = active.loss, float(np.linalg.norm(active.F))
        else:
            loss, norm = self.loss(state), self._norm_of_level(state)
        moment = Moment(self.clock, state, loss, norm)
        self.moments.append(moment)
        if loss <= self.threshold:
            self.reason = trajectory.LOSS_REACHED
            self._cross()
        elif np.isfinite(self.t_max) and self.clock.value >= self.t_max:
            self.reason = trajectory.TIME_LIMIT
        elif active is not None and self._runs_away():
            self.reason = trajectory.UNBOUNDED
        if self.reason:
            return
        resting = active is None or self._rests(active)
        if resting:
            self._from_rest(moment)
        else:
            assert active is not None
            self._move(moment, active)

    def _tidied(self, state: State) -> State:
        """Bases turned, traces that have grown taken in, columns far below the others split off."""
        if 0 in state.widths:
            return state
        if state.passengers:
            target = self._trace(state)
            grown = [p for p in state.passengers if p.size >= target - 1e-6]
            state = self._taken_in(state, grown) if grown else state
        state = turned_felt(state)
        if not state.passengers:
            state = self._split_while_moving(state)
        return state

    def _trace(self, state: State) -> float:
        """The logarithm of the size at which a passenger is felt."""
        largest = max(float(s.max()) for s in sizes_of(state.felt))
        return float(np.log(TRACE * largest))

    def _taken_in(self, state: State, grown: list[Passenger]) -> State:
        old = self.data.part(state.present)
        present = tuple(sorted({*state.present, *(p.pairs.component for p in grown)}))
        new = self.data.part(present)
        first = np.zeros((len(new.rows), state.felt[0].shape[1]))
        last = np.zeros((state.felt[-1].shape[0], len(new.cols)))
        first[np.searchsorted(new.rows, old.rows)] = state.felt[0]
        last[:, np.searchsorted(new.cols, old.cols)] = state.felt[-1]
        for passenger in grown:
            X, Y = passenger.blocks()
            first[np.searchsorted(new.rows, passenger.pairs.rows)] = X
            last[:, np.searchsorted(new.cols, passenger.pairs.cols)] = Y
        left = tuple(p for p in state.passengers if p not in grown)
        felt = (first, *state.felt[1:-1], last)
        return replace(state, felt=felt, present=present, passengers=left)

    def _split_while_moving(self, state: State) -> State:
        sizes = [np.sort(s)[::-1] for s in sizes_of(state.felt)]
        if any(s[-1] > APART * s[0] for s in sizes):
            return state
        for r in range(1, min(state.widths) + 1):
            if not all(r == len(s) or s[r] <= APART * s[r - 1] for s in sizes):
                continue
            if all(r == len(s) for s in sizes):
                return state
            turned = turned_felt(state, 0.0)
            parted = split(turned, r)
            if len(parted.levels) == len(state.levels):
                return parted
            level = parted.levels[0]
            least = min(float(s.max(initial=0.0)) for s in sizes_of(level.layers))
            blocks = [*level.into, *level.out_of]
            if max(float(np.abs(b).max(initial=0.0)) for b in blocks) > LINKED * least:
                return state
            clear = replace(
                level,
                into=tuple(0 * b for b in level.into),
                out_of=tuple(0 * b for b in level.out_of),
            )
            return replace(parted, levels=(clear, *parted.levels[1:]))
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
        resting = active.resting()
        if not np.all(resting[active.sizes > self._least_felt]):
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
            K = middle(state.felt)
            target = self._trace(state)
            wait = min(p.time_to(K, target) for p in state.passengers)
            if np.isfinite(wait):
                self._take(moment, Wait(state, min(wait, self.t_max - self.clock.value)))
                return
        if 0 not in state.widths:
            counts = self._felt_counts(state)
            apart = len(set(counts)) == 1 and counts[0] < max(state.widths)
            if apart and self.clock != self.joined:
                state = split(turned_felt(state, 0.0), counts[0])
                state = turned_level(state, 0.0) if state.levels else state
                moment.state = state
        if not state.levels:
            self.reason = self._stuck(moment)
            return
        self._plateau(moment)

    def _stuck(self, moment: Moment) -> str:
        """Whether a rest is one of rounding alone."""
        if self.data.scale == 0.0 and moment.loss < np.finfo(float).tiny:
            return trajectory.LOSS_REACHED  # zero fits, and the start is zero as a number
        terms = self.data.whole
        size = np.abs(terms.values).max(initial=0.0) + self.data.curvature * float(
            np.linalg.norm(self._W_felt(moment.state))
        )
        noise = terms.weight * len(terms.values) * (16 * EPS * size) ** 2
        return trajectory.DROWNED if moment.loss <= noise else trajectory.STUCK

    def _plateau(self, moment: Moment) -> None:
        state = moment.state
        part = self.data.part(state.present)
        G = self.data.gradient(self._W_felt(state))
        if 0 not in state.widths:
            G = gradient_at_rest(state, G, part.rows, part.cols)
        level = state.levels[0]
        if log_product(level) >= self.log_felt:
            self._join(moment, level)
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
                    self._join(moment, None, growth, tau)
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

    def _W_felt(self, state: State) -> np.ndarray:
        return self.W(replace(state, levels=(), passengers=()))

    def _join(
        self, moment: Moment, level: Level | None, growth: Growth | None = None, tau: float = 0.0
    ) -> None:
        """The first level becomes felt, and a new orbit begins."""
        state = self.state if growth is not None else moment.state
        passengers = state.passengers
        present = state.present
        empty = 0 in state.widths
        if growth is not None:
            log_a = growth.log_size(tau)
            sizes = [log for _, log in growth.parts(tau)]
            shown = {k for k, log in enumerate(sizes) if log >= log_a + np.log(TRACE)}
            kept = set(present) if not empty else set()
            self.lost |= any(
                -np.inf < sizes[k] < log_a + np.log(LOST) and self._has_more(growth.G, k)
                for k in kept
            )
            present_new = tuple(sorted(kept | shown))
        else:
            present_new = tuple(range(len(self.data.blocks)))
        # What passengers had of a component that is felt now comes in with them.
        known = {p.pairs.component: p for p in passengers}
        if empty:
            state = replace(state, present=present_new, felt=self._no_felt(present_new))
        else:
            arriving = [k for k in present_new if k not in present]
            for k in arriving:
                if k not in known:
                    known[k] = self._no_trace(k, state.widths[0])
            state = self._taken_in(state, [known[k] for k in arriving])
        part = self.data.part(present_new)
        joined = merged(state, part.rows, part.cols)
        others = []
        for k in range(len(self.data.blocks)):
            if k in present_new or growth is None:
                continue
            old = known.get(k, self._no_trace(k, 0 if empty else state.widths[0]))
            others.append(self._traced(old, growth, tau, k))
        joined = replace(joined, passengers=tuple(p for p in others if p.size > -np.inf))
        self.state = joined
        self.clock = replace(self.clock, orbit=self.clock.orbit + 1, local=0.0)
        self.h = None
        if growth is None:
            # No time has passed: the moment itself belongs to the new orbit.
            self.moments.pop()
            self.joined = self.clock

    def _has_more(self, G: np.ndarray, k: int) -> bool:
        """Whether component k is not fitted where the gradient is G."""
        block = np.linalg.norm(G[np.ix_(*self.data.blocks[k])])
        return bool(block > LEFT * np.linalg.norm(self.data.at_zero))

    @property
    def end(self) -> str:
        """The reason, or that it is not known where the run should have ended."""
        arrived = self.reason == trajectory.LOSS_REACHED
        return trajectory.LOST_PART if arrived and self.lost else self.reason

    def _no_felt(self, present: tuple[int, ...]) -> Layers:
        part = self.data.part(present)
        ends = [len(part.rows), *[0] * (self.depth - 1), len(part.cols)]
        return tuple(np.zeros(shape) for shape in pairwise(ends))

    def _no_trace(self, k: int, width: int) -> Passenger:
        pairs = self.data.pairs[k]
        count = len(pairs.s)
        return Passenger(pairs, np.zeros((count, 2 * width)), np.full(count, -np.inf))

    def _traced(self, old: Passenger, growth: Growth, tau: float, k: int) -> Passenger:
        """The passenger with what the new column has of its component."""
        rows = len(old.pairs.rows)
        turn = float(np.prod(growth.signs))
        rates, basis, signs, logs = growth.modes[k]
        count = len(old.pairs.s)
        grown = logs + rates * tau
        # Modes 0 … count − 1 are the growing ones; their x and y are of one size.
        x, y = np.zeros(count), np.zeros(count)
        sizes = np.full(count, -np.inf)
        for i in range(count):
            mode = basis[:, i]
            x[i] = signs[i] * float(old.pairs.u[:, i] @ mode[:rows])
            y[i] = turn * signs[i] * float(old.pairs.v[i] @ mode[rows:])
            sizes[i] = grown[i]
        return old.joined_by(x, y, sizes)

    def _take(self, moment: Moment, piece: Piece) -> None:
        moment.piece = piece
        self.state = piece.at(piece.length)
        self.clock = self.clock.after(piece.log_dt(piece.length))
        self.n_steps += 1

    def _move(self, moment: Moment, active: Active) -> None:
        """A step of the felt layers, tried shorter and shorter until its error is small."""
        tol = LOCAL * self.rtol
        if self.h is None:
            self.h = tol ** (1 / ORDER_OF_ERROR) / max(active.fastest, 1e-300)
        h = min(self.h, self.t_max - self.clock.value)
        target = self._trace(active.state) if active.state.passengers else np.inf
        while h > 4 * EPS * self.clock.local and h > 0:
            path, error = active.step(h)
            self.n_gradients += 2
            if error <= tol:
                active.length = h
                new = active.assembled(path, h)
                if all(p.size <= target + 3.0 for p in new.passengers):
                    moment.piece = active
                    self.state = new
                    self.clock = self.clock.after(float(np.log(h)))
                    self.n_steps += 1
                    factor = SAFETY * (tol / max(error, 1e-300)) ** (1 / ORDER_OF_ERROR)
                    self.h = h * min(GROW, factor)
                    return
                h *= 0.25
            elif not np.isfinite(error):
                h *= 0.25
            else:
                h *= max(SHRINK, SAFETY * (tol / error) ** (1 / ORDER_OF_ERROR))
        self.reason = trajectory.STEP_TOO_SMALL

    def _runs_away(self) -> bool:
        """Whether W is far beyond the data and has grown on while its time grew tenfold."""
        now = self.moments[-1]
        size = float(np.linalg.norm(self._W_felt(now.state)))
        if size <= self.far:
            return False
        for before in reversed(self.moments):
            if before.clock.orbit != now.clock.orbit:
                return False
            if before.clock.local <= now.clock.local / 10:
                earlier = float(np.linalg.norm(self._W_felt(before.state)))
                return grows_on(size, now.loss, earlier, before.loss)
        return False

    def _cross(self) -> None:
        """End where the loss meets the threshold, inside the last piece."""
        if len(self.moments) < 2 or self.moments[-2].piece is None or self.threshold == 0.0:
            return
        before = self.moments[-2]
        piece = before.piece
        assert piece is not None
        if before.clock.orbit != self.clock.orbit or before.loss <= self.threshold:
            return
        low, high = 0.0, piece.length
        for _ in range(60):
            middle_ = (low + high) / 2
            if not low < middle_ < high or high - low < 1e-12 * high:
                break
            if self.loss(piece.at(middle_)) > self.threshold:
                low = middle_
            else:
                high = middle_
        state = piece.at(high)
        clock = before.clock.after(piece.log_dt(high))
        self.moments[-1] = Moment(clock, state, self.loss(state), self.moments[-1].norm)
