"""Plateaus, on which the gradient does not change: a problem without a scale.

With G constant the layers exp(ell) V follow, in s = exp((N−2) ell) t, the flow of
Φ(V) = −⟨G, V_1 ⋯ V_N⟩, which blows up at a finite s. It is followed by Taylor series. Once one
hidden column has outgrown the others it is of rank one and balanced, V = (x, c_2, …, c_{N−1}, y)
with |x| = |c_j| = |y| = a, and in τ = ∫ a^{N−2} dt it grows linearly,

    d/dτ (x, y) = S (x, y),   S = [[0, −G], [−Gᵀ, 0]],

over any number of decades: every coordinate along an eigenvector of S is kept as a logarithm. Where
singular values of G are close it turns all the way, and the smaller columns with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mfbook.flow.deep import kernel
from mfbook.flow.deep.layers import Layers, Level, State, flat, sizes_of, unflat
from mfbook.flow.deep.march import carried_along
from mfbook.flow.deep.passengers import Pairs
from mfbook.flow.shallow.gauge import EPS

ORDER = 24
# The last terms of a Taylor series, relative to every hidden column: what a plateau makes wrong
# moves the next escape by its length times that.
TAYLOR = 1e-15

# From this on a column is on its own: what it does to the others and they to it is the square.
ALONE = 1e-7
BALANCED = 1e-11
# A column that has just come to be alone has parts of 1e-7 and more, or none: less is rounding.
NOTHING = 1e-13

# Panels of Gauss' rule for the time that a linear growth takes, in units of 1/σ_1.
PANEL, NODES = 0.5, 12
# The integrand of time falls like a^-(N−2): beyond this many powers of e nothing is added.
LAST = 45.0

# The direction of a column that grows alone is followed at so many places in the time that it
# takes two of its modes to grow apart by a factor e; modes that are smaller than the largest by so
# many powers of e, and slower, turn it no more. Places are a multiple of four, see `carried_by`.
PLACES, GONE = 8, 36.0


def taylor_step(level: Level, G: np.ndarray) -> tuple[np.ndarray, float]:
    """The Taylor coefficients at a level, and the length in s of the step that they allow."""
    z, dims, offsets = flat(level.layers)
    series = kernel.taylor(np.ascontiguousarray(G), z, dims, offsets, ORDER)
    return series, kernel.taylor_length(series, dims, offsets, TAYLOR)


def along(level: Level, series: np.ndarray, s: float) -> Level:
    """The level after s."""
    _, dims, offsets = flat(level.layers)
    return replace(level, layers=unflat(kernel.taylor_sum(series, s), dims, offsets))


def log_product(level: Level) -> float:
    """A bound for the logarithm of what the level adds to W."""
    norms = [np.linalg.norm(V, 2) for V in level.layers]
    if min(norms) == 0.0:
        return -np.inf
    return len(norms) * level.ell + float(np.sum(np.log(norms)))


def is_alone(layers: Layers) -> bool:
    """Whether one hidden column, in turned bases, is by far the largest, and balanced."""
    for sizes in sizes_of(layers):
        if len(sizes) == 0 or (len(sizes) > 1 and sizes[1] > ALONE * sizes[0]):
            return False
    last = len(layers) - 1
    norms = [
        np.linalg.norm(V[slice(0, None if j == 0 else 1), slice(0, None if j == last else 1)])
        for j, V in enumerate(layers)
    ]
    return bool(max(norms) - min(norms) <= BALANCED * max(norms))


@dataclass(frozen=True, eq=False)
class Growth:
    """The linear growth of one column (x, c, …, y) under a constant G, by components.

    `blocks` are (rows, cols) of the components; `signs` those of c_2 … c_{N−1}.
    """

    level: Level
    G: np.ndarray
    blocks: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def depth(self) -> int:
        return len(self.level.layers)

    @cached_property
    def signs(self) -> list[float]:
        return [float(np.sign(c[0, 0])) for c in self.level.layers[1:-1]]

    @cached_property
    def modes(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Rates, eigenvectors, and signs and logarithms of the coordinates, by components."""
        x, y = self.level.layers[0][:, 0], self.level.layers[-1][0]
        turn, size = float(np.prod(self.signs)), float(np.sqrt(x @ x + y @ y))
        found = []
        for rows, cols in self.blocks:
            G = self.G[np.ix_(rows, cols)]
            u, s, vt = np.linalg.svd(G)
            count = len(s)
            # −G = Σ s (−u) vᵀ: grows along (−u, v), decays along (u, v).
            fast = np.concatenate([-u[:, :count], vt[:count].T]) / np.sqrt(2)
            slow = np.concatenate([u[:, :count], vt[:count].T]) / np.sqrt(2)
            left = np.concatenate([u[:, count:], np.zeros((len(cols), len(rows) - count))])
            right = np.concatenate([np.zeros((len(rows), len(cols) - count)), vt[count:].T])
            basis = np.concatenate([fast, slow, left, right], axis=1)
            rates = np.concatenate([s, -s, np.zeros(left.shape[1] + right.shape[1])])
            coordinates = basis.T @ np.concatenate([x[rows], turn * y[cols]])
            coordinates[np.abs(coordinates) <= NOTHING * size] = 0.0
            with np.errstate(divide="ignore"):
                logs = np.log(np.abs(coordinates)) + self.level.ell
            found.append((rates, basis, np.sign(coordinates), logs))
        return found

    @cached_property
    def rate(self) -> float:
        """That of the fastest mode that is there."""
        return max(
            (float(r[logs > -np.inf].max(initial=-np.inf)) for r, _, _, logs in self.modes),
            default=-np.inf,
        )

    @cached_property
    def grows(self) -> bool:
        """Whether most of the column lies along modes that grow, and not in those that decay."""
        up = [np.exp(2 * (log[r > 0] - self.level.ell)).sum() for r, _, _, log in self.modes]
        all_ = [np.exp(2 * (log - self.level.ell)).sum() for _, _, _, log in self.modes]
        return bool(sum(up) > 0.5 * sum(all_))

    def log_size(self, tau: float) -> float:
        """log a at τ."""
        logs = np.concatenate([log + r * tau for r, _, _, log in self.modes])
        peak = logs.max()
        return float(peak + 0.5 * np.log(0.5 * np.sum(np.exp(2 * (logs - peak)))))

    def tau_of_size(self, log_a: float) -> float:
        """When a is exp(log_a): log a is convex and rises like the fastest mode in the end."""
        low, high = 0.0, max((log_a - self.log_size(0.0)) / self.rate, 0.0) + 1.0
        while self.log_size(high) < log_a:
            low, high = high, 2 * high
        for _ in range(200):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            low, high = (middle, high) if self.log_size(middle) < log_a else (low, middle)
        return high

    def log_time(self, tau: float) -> float:
        """log of the time that it takes to τ: ∫ a^{−(N−2)} dτ."""
        power, panel = self.depth - 2, PANEL / self.rate
        x, w = np.polynomial.legendre.leggauss(NODES)
        start = -power * self.log_size(0.0)
        total, low = 0.0, 0.0
        while low < tau:
            high = min(low + panel, tau)
            nodes = low + (high - low) * (x + 1) / 2
            values = [np.exp(-power * self.log_size(t) - start) for t in nodes]
            added = (high - low) / 2 * float(w @ np.array(values))
            total += added
            if power * self.rate * (high - low) > 0 and added < np.exp(-LAST) * total:
                break
            low = high
        return start + np.log(total) if total > 0 else -np.inf

    def tau_of_time(self, log_t: float, longest: float) -> float:
        """The inverse of `log_time`, by bisection."""
        low, high = 0.0, longest
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.log_time(middle) < log_t else (low, middle)
        return high

    def places(self, tau: float) -> np.ndarray:
        """Times from 0 to τ, as dense as the column turns: panels of `PLACES` equal steps."""
        rates = np.concatenate([r for r, _, _, _ in self.modes])
        logs = np.concatenate([log for _, _, _, log in self.modes])
        found, low = [np.zeros(1)], 0.0
        while low < tau:
            now = logs + rates * low
            there = rates[now >= now.max() - GONE]
            spread = float(there.max() - there.min())
            high = min(low + 1 / spread, tau) if spread * tau > EPS else tau
            found.append(np.linspace(low, high, PLACES + 1)[1:])
            low = high
        return np.concatenate(found)

    def directions(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the column, up to their sizes, at all those τ: (places, m, 1), (…, n, 1)."""
        m, n = self.G.shape
        x, y = np.zeros((len(places), m, 1)), np.zeros((len(places), n, 1))
        log_a = np.array([self.log_size(tau) for tau in places])
        for (rows, cols), (rates, basis, signs, logs) in zip(self.blocks, self.modes, strict=True):
            sizes = logs + np.multiply.outer(places, rates) - log_a[:, None]
            parts = (signs * np.exp(sizes)) @ basis.T
            x[:, rows, 0], y[:, cols, 0] = parts[:, : len(rows)], parts[:, len(rows) :]
        return x, y

    def parts(self, tau: float) -> list[tuple[np.ndarray, float]]:
        """(x, sign · y) of every component, of size one, and the logarithm of its size."""
        found = []
        for rates, basis, signs, logs in self.modes:
            sizes = logs + rates * tau
            peak = float(sizes.max(initial=-np.inf))
            if peak == -np.inf:
                found.append((np.zeros(len(basis)), -np.inf))
            else:
                found.append((basis @ (signs * np.exp(sizes - peak)), peak))
        return found

    def traces(self, pairs: Pairs, tau: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, y) of the column, pair by pair of a block that it is small in, and logarithms.

        Only what grows: there x and y are of one size.
        """
        x, y = self.level.layers[0][:, 0], self.level.layers[-1][0]
        turn, size = float(np.prod(self.signs)), float(np.sqrt(x @ x + y @ y))
        grows = (pairs.u.T @ x[pairs.rows] + turn * (pairs.v @ y[pairs.cols])) / np.sqrt(2)
        grows[(np.abs(grows) <= NOTHING * size) | (pairs.s == 0.0)] = 0.0
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(grows)) + self.level.ell + pairs.s * tau
        half = np.sign(grows) / np.sqrt(2)
        return half, turn * half, logs

    def at(self, tau: float) -> Level:
        """The level at τ; parts that are 10^-308 of the largest are 0."""
        log_a = self.log_size(tau)
        x, y = np.zeros_like(self.level.layers[0]), np.zeros_like(self.level.layers[-1])
        turn = float(np.prod(self.signs))
        for (rows, cols), (part, log) in zip(self.blocks, self.parts(tau), strict=True):
            part = part * np.exp(log - log_a)
            x[rows, 0], y[0, cols] = part[: len(rows)], turn * part[len(rows) :]
        middle = tuple(np.array([[sign]]) for sign in self.signs)
        # What links the column to felt ones has not grown.
        shrink = np.exp(self.level.ell - log_a)
        return Level(
            (x, *middle, y),
            log_a,
            tuple(B * shrink for B in self.level.into),
            tuple(D * shrink for D in self.level.out_of),
        )


def carried_by(growth: Growth, tau: float, level: Level) -> Level:
    """A smaller level when the column has grown to τ: the column turns, and carries it along.

    Hidden columns of sizes p ≪ a stay orthogonal to p/a, by what is conserved. So the first and the
    last layer are carried in parallel along x and y. From place to place the smallest rotation does
    so to second order, and its error is a series in squares of the distance: with half as many
    places, and a quarter, two terms of it go. By itself a level moves by (p/a)^(N−2) of itself,
    early on, so that one slope of it, across x and y, is enough.
    """
    z, dims, offsets = flat(level.layers)
    if 0 in dims or tau == 0.0:
        return level
    s = np.exp(growth.log_time(tau) + (growth.depth - 2) * level.ell)
    slope = kernel.slope_along(np.ascontiguousarray(growth.G), z, dims, offsets)
    first, *middle, last = unflat(z + s * slope, dims, offsets)
    x, y = growth.directions(growth.places(tau))
    first, last = _carried(first, x), _carried(last.T, y).T
    return replace(level, layers=(first, *middle, np.ascontiguousarray(last)))


def _carried(columns: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Columns across the first vector of a path, carried in parallel to its last one."""
    unit = path[0] / np.linalg.norm(path[0])
    across = np.ascontiguousarray(columns - unit @ (unit.T @ columns))
    rows = np.arange(len(across))
    quarter, half, whole = (
        carried_along(across, rows, np.ascontiguousarray(path[::step])) for step in (4, 2, 1)
    )
    return (64 * whole - 20 * half + quarter) / 45


def projected(G: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """G without what it does to the columns of `left` and `right`; at rest that is rounding."""
    for basis, side in ((left, 0), (right, 1)):
        u, s, _ = np.linalg.svd(basis, full_matrices=False)
        u = u[:, s > 1e-9 * s[0]] if s[0] > 0 else u[:, :0]
        G = G - (u @ (u.T @ G) if side == 0 else (G @ u) @ u.T)
    return G


def gradient_at_rest(state: State, G: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """The gradient that levels see where the felt layers rest, embedded in all rows and columns."""
    left = np.zeros((G.shape[0], state.felt[0].shape[1]))
    right = np.zeros((G.shape[1], state.felt[-1].shape[0]))
    left[rows], right[cols] = state.felt[0], state.felt[-1].T
    return projected(G, left, right)
