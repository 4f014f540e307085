"""Plateaus of large layers: what W does not feel, by products with a constant G.

With G constant the layers exp(ell) V follow, in s = exp((N−2) ell) t, the flow of
Φ(V) = −⟨G, V_1 ⋯ V_N⟩, which is not stiff and blows up at a finite s. In the time τ with
dτ = |V_1|^(N−2) ds it does not: what escapes grows like e^(σ τ), and an explicit method of order
eight takes steps of a third to a half of 1/σ (`Still`). Once one hidden column has outgrown the
others it grows by itself, linearly in τ (`Lone`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from mfbook.flow.deep.large.field import Gradient, column_sizes, joined
from mfbook.flow.deep.layers import Layers, flat, unflat
from mfbook.flow.deep.slopes import slopes_along

# Panels of Gauss' rule for the time that a linear growth takes, in units of 1/σ_1; beyond LAST
# powers of e the integrand adds nothing.
PANEL, NODES, LAST = 0.5, 12, 45.0
# The size of the first layer sets the pace, but where it is below this share of the largest, for a
# start may have a layer of zeros.
SLIGHT = 1e-3
# What is left of a coordinate where it is rounding of the largest.
NOTHING = 1e-15


class AtRest:
    """G without what it does to felt columns; at rest that is rounding."""

    def __init__(self, G: Any, left: np.ndarray, right: np.ndarray) -> None:
        # A matrix that multiplies, dense or sparse, by rows or by columns.
        self.G, self.left, self.right = G, left, right

    @property
    def T(self) -> AtRest:
        return AtRest(self.G.T, self.right, self.left)

    def __matmul__(self, X: np.ndarray) -> np.ndarray:
        Y = self.G @ (X - self.right @ (self.right.T @ X))
        Y -= self.left @ (self.left.T @ Y)
        return Y

    def toarray(self) -> np.ndarray:
        G = dense(self.G)
        G = G - self.left @ (self.left.T @ G)
        return G - (G @ self.right) @ self.right.T


def dense(G: Gradient | AtRest) -> np.ndarray:
    return G if isinstance(G, np.ndarray) else G.toarray()


def span(matrix: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the columns."""
    if matrix.shape[1] == 0 or not matrix.any():
        return np.zeros((len(matrix), 0))
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    return u[:, s > 1e-9 * s[0]]


def at_rest(G: Gradient, felt: Layers) -> Gradient | AtRest:
    """The gradient that the others see where the felt layers rest."""
    left, right = span(felt[0]), span(felt[-1].T)
    if left.shape[1] == 0 and right.shape[1] == 0:
        return G
    seen = AtRest(G, left, right)
    return seen.toarray() if isinstance(G, np.ndarray) else seen


def log_sizes(layers: Layers) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.array([np.log(np.linalg.norm(layer)) for layer in layers])


def reflection(stack: np.ndarray) -> np.ndarray | None:
    """q of the reflection 1 − 2qqᵀ that takes the top right singular vector of a stack to e_1.

    None where no column stands out, so that the vector would be found slowly, and is not needed.
    """
    sizes = np.einsum("ij,ij->j", stack, stack)
    v = np.zeros(stack.shape[1])
    first = 0 if sizes[0] >= 0.5 * sizes.max() else int(np.argmax(sizes))
    v[first] = 1.0
    for _ in range(4):
        w = stack.T @ (stack @ v)
        v = w / np.linalg.norm(w)
    top = float(np.sum((stack @ v) ** 2))
    if top < 0.9 * float(sizes.sum()):
        return None
    v = v if v[0] <= 0 else -v
    v[0] -= 1.0
    return v / np.linalg.norm(v)


def reflect(layers: list[np.ndarray], bases: list[np.ndarray]) -> None:
    """Hidden bases turned, in place, so that a column that stands out comes first."""
    for j in range(len(layers) - 1):
        if layers[j].shape[1] == 1:
            continue
        q = reflection(np.concatenate([layers[j], layers[j + 1].T]))
        if q is None:
            continue
        layers[j] = layers[j] - np.outer(2 * (layers[j] @ q), q)
        layers[j + 1] = layers[j + 1] - np.outer(2 * q, q @ layers[j + 1])
        bases[j] = bases[j] - np.outer(2 * (bases[j] @ q), q)


def standing_out(layers: Layers) -> float:
    """How small the other hidden columns are against the first of them."""
    z, dims, offsets = flat(layers)
    sizes = column_sizes(z, dims, offsets)
    worst, low = 0.0, 0
    for width in dims[1:-1]:
        here = sizes[low : low + width]
        if here[0] == 0.0:
            return np.inf
        worst = max(worst, float(here[1:].max(initial=0.0)) / float(here[0]))
        low += width
    return worst


def unbalance(column: Layers) -> float:
    """How far the sizes of the layers of one hidden column are apart, beside the largest."""
    sizes = [float(np.linalg.norm(layer)) for layer in column]
    return (max(sizes) - min(sizes)) / max(sizes) if max(sizes) > 0 else np.inf


class Still:
    """Steps of quiet layers V, of order eight (Dormand & Prince's, as SciPy's DOP853 has them).

    The unknowns are V, in one vector, and s; the independent variable is τ.
    """

    def __init__(self, G: Gradient | AtRest, layers: Layers) -> None:
        self.G, self.power = G, len(layers) - 2
        z, self.dims, self.offsets = flat(layers)
        self.y = np.append(z, 0.0)
        self.n_gradients = 0
        sizes = [float(np.linalg.norm(layer)) for layer in layers]
        self.timer = 0 if sizes[0] > SLIGHT * max(sizes) else int(np.argmax(sizes))
        self.pace = sizes[self.timer] ** self.power  # dτ/ds at the start

    def slope(self, y: np.ndarray) -> np.ndarray:
        self.n_gradients += 1
        layers = unflat(y[:-1], self.dims, self.offsets)
        clock = float(np.linalg.norm(layers[self.timer])) ** -self.power
        return np.append(joined(slopes_along(self.G, layers)) * clock, clock)

    @cached_property
    def F(self) -> np.ndarray:
        return self.slope(self.y)

    @property
    def rate(self) -> float:
        """The largest relative speed of a hidden column."""
        sizes = self._sizes(self.y)
        live = sizes > 0
        return float((self._sizes(self.F)[live] / sizes[live]).max(initial=0.0))

    def step(self, h: float) -> tuple[np.ndarray, float]:
        """V and s after h in τ, and the error relative to each hidden column."""
        from scipy.integrate import DOP853  # takes longer to import than all the rest

        slopes = np.empty((13, len(self.y)))
        slopes[0] = self.F
        for k in range(1, 12):
            slopes[k] = self.slope(self.y + (h * DOP853.A[k, :k]) @ slopes[:k])
        new = self.y + (h * DOP853.B) @ slopes[:12]
        if not np.all(np.isfinite(new)):
            return new, np.inf
        slopes[12] = self.slope(new)
        scale = np.maximum(self._sizes(self.y), self._sizes(new))
        scale = np.where(scale > 0, scale, 1.0)
        fifth, third = ((h * E) @ slopes for E in (DOP853.E5, DOP853.E3))
        a = np.append(self._sizes(fifth) / scale, abs(fifth[-1]) / (new[-1] - self.y[-1]))
        b = np.append(self._sizes(third) / scale, abs(third[-1]) / (new[-1] - self.y[-1]))
        size = np.sqrt(a**2 + 0.01 * b**2)
        return new, float((a**2 / np.where(size > 0, size, 1.0)).max())

    def _sizes(self, y: np.ndarray) -> np.ndarray:
        return column_sizes(y[:-1], self.dims, self.offsets)

    def layers(self, y: np.ndarray) -> Layers:
        return unflat(y[:-1], self.dims, self.offsets)


class Lone:
    """One hidden column (x, c_2, …, c_{N−1}, y) of size a, |x| = |c_j| = |y| = a, growing alone.

    With −G = Σ σ u vᵀ and τ = ∫ a^(N−2) dt, x' = −G y, y' = −Gᵀ x (the sign of c_2 ⋯ c_{N−1} is
    taken into y): (uᵀx + vᵀy)/2 grows like e^(στ), (uᵀx − vᵀy)/2 decays, the rest stays. Each is
    kept as a sign and a logarithm, over any number of decades.
    """

    def __init__(self, G: Gradient | AtRest, layers: Layers, ell: float) -> None:
        self.depth, self.ell = len(layers), ell
        self.signs = [1.0 if c[0, 0] >= 0 else -1.0 for c in layers[1:-1]]
        self.turn = float(np.prod(self.signs))
        x, y = layers[0][:, 0], self.turn * layers[-1][0]
        u, self.s, vt = np.linalg.svd(-dense(G), full_matrices=False)
        self.u, self.v = u, vt.T
        a, b = u.T @ x, vt @ y
        self.rest = x - u @ a, y - self.v @ b
        size = float(np.sqrt(x @ x + y @ y))
        rates = np.concatenate([self.s, -self.s])
        coordinates = np.concatenate([(a + b) / 2, (a - b) / 2])
        coordinates[np.abs(coordinates) <= NOTHING * size] = 0.0
        self.rates, self.coordinates = rates, coordinates
        with np.errstate(divide="ignore"):
            # The two parts of a pair add up to 2 (f² + g²) of |x|² + |y|².
            self.logs = np.log(np.abs(coordinates)) + 0.5 * np.log(2.0)
            still = np.log(max(float(np.linalg.norm(np.concatenate(self.rest))), 0.0))
        self.logs = np.concatenate([self.logs, [still]]) + ell
        self.exponents = np.concatenate([rates, [0.0]])
        alive = self.exponents[self.logs > -np.inf]
        self.rate = float(alive.max(initial=-np.inf))

    @property
    def grows(self) -> bool:
        """Whether most of the column lies along modes that grow."""
        weights = np.exp(2 * (self.logs - self.ell))
        return bool(weights[self.exponents > 0].sum() > 0.5 * weights.sum())

    def log_size(self, tau: np.ndarray | float) -> np.ndarray:
        """log a at τ."""
        logs = self.logs + np.multiply.outer(np.asarray(tau), self.exponents)
        peak = logs.max(axis=-1, keepdims=True)
        total = np.log(np.sum(np.exp(2 * (logs - peak)), axis=-1))
        return peak[..., 0] + 0.5 * (total - np.log(2.0))

    def tau_of_size(self, log_a: float) -> float:
        """When a is exp(log_a): log a is convex and rises like the fastest mode in the end."""
        high = max((log_a - float(self.log_size(0.0))) / self.rate, 0.0) + 1.0
        while self.log_size(high) < log_a:
            high *= 2
        return bisected(lambda tau: float(self.log_size(tau)) < log_a, 0.0, high)

    @cached_property
    def _gauss(self) -> tuple[np.ndarray, np.ndarray]:
        x, w = np.polynomial.legendre.leggauss(NODES)
        return (x + 1) / 2, w / 2

    def log_time(self, tau: float) -> float:
        """log of the time that it takes to τ: ∫ a^{−(N−2)} dτ."""
        if tau <= 0:
            return -np.inf
        power, panel = self.depth - 2, PANEL / self.rate
        start = -power * float(self.log_size(0.0))
        low, total = 0.0, 0.0
        x, w = self._gauss
        while low < tau:
            high = min(low + panel, tau)
            values = np.exp(-power * self.log_size(low + (high - low) * x) - start)
            added = (high - low) * float(w @ values)
            total += added
            if high > 10 * panel and added < np.exp(-LAST) * total:
                break
            low = high
        return start + float(np.log(total))

    def tau_of_time(self, log_t: float, longest: float) -> float:
        """The inverse of `log_time`."""
        return bisected(lambda tau: self.log_time(tau) < log_t, 0.0, longest)

    def at(self, tau: float) -> tuple[Layers, float]:
        """The column at τ, of size one, and the logarithm of its size."""
        log_a = float(self.log_size(tau))
        with np.errstate(divide="ignore"):
            grown = np.sign(self.coordinates) * np.exp(
                np.log(np.abs(self.coordinates)) + self.ell + self.rates * tau - log_a
            )
        f, g = np.split(grown, 2)
        shrink = np.exp(self.ell - log_a)
        x = self.u @ (f + g) + shrink * self.rest[0]
        y = self.v @ (f - g) + shrink * self.rest[1]
        middle = tuple(np.array([[sign]]) for sign in self.signs)
        return (x[:, None], *middle, self.turn * y[None]), log_a


def bisected(is_below: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at first ceases to hold."""
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high
