"""What is observed of W, the slope of N layers there, and products with its Jacobian.

W itself is formed only where that is cheaper than its observed entries.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from mfbook.flow.deep.layers import Layers, unflat
from mfbook.flow.deep.slopes import partial_products, pulled, slopes_along, swept_back
from mfbook.flow.shallow.units import Units
from mfbook.problems.protocols import Problem, measurements_of, reads_entries

# Up to this many entries of W a masked dense matrix is faster than gathering the observed ones, and
# beyond it for more columns than FEW, if at least every SPARSE-th entry is observed: at 943×1682
# with 100,000 entries gathering takes 0.02 s for 4 columns, 0.4 for 16, the product 0.05 for 16.
DENSE_ENTRIES, FEW, SPARSE = 250_000, 8, 50

Gradient = np.ndarray | csr_array


class Observed(Protocol):
    """What is measured of W = L R."""

    weight: float
    values: np.ndarray

    def gradient(self, L: np.ndarray, R: np.ndarray, /) -> tuple[Gradient, float]:
        """G = ∇f(L R), and the loss."""

    def change(self, pairs: list[tuple[np.ndarray, np.ndarray]], /) -> Gradient:
        """The change of G with that of W, Σ L R over the pairs."""


class MaskedEntries:
    """Observed entries of a matrix that is small enough to be formed."""

    def __init__(
        self,
        i: np.ndarray,
        j: np.ndarray,
        values: np.ndarray,
        weight: float,
        shape: tuple[int, int],
    ) -> None:
        self.weight, self.values = weight, values
        self.mask, self.M = np.zeros(shape), np.zeros(shape)
        self.mask[i, j] = 1.0
        self.M[i, j] = values

    def gradient(self, L: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, float]:
        G = L @ R
        G -= self.M
        G *= self.mask
        loss = self.weight * float(np.vdot(G, G))
        G *= 2 * self.weight
        return G, loss

    def change(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        G = pairs[0][0] @ pairs[0][1]
        for L, R in pairs[1:]:
            G += L @ R
        G *= self.mask
        G *= 2 * self.weight
        return G


class SparseEntries:
    """Observed entries of a large matrix, row by row."""

    def __init__(
        self,
        i: np.ndarray,
        j: np.ndarray,
        values: np.ndarray,
        weight: float,
        shape: tuple[int, int],
    ) -> None:
        order = np.lexsort((j, i))
        self.i, self.j = i[order], j[order]
        self.weight, self.values, self.shape = weight, values[order], shape
        counts = np.bincount(self.i, minlength=shape[0])
        self._rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._cols = self.j.astype(np.int32)
        self._whole = self.i * shape[1] + self.j

    def _read(self, L: np.ndarray, R: np.ndarray) -> np.ndarray:
        if L.shape[1] > FEW and self.shape[0] * self.shape[1] <= SPARSE * len(self.i):
            return (L @ R).ravel().take(self._whole)
        # `take` of whole rows is ten times faster than an index into both.
        right = np.ascontiguousarray(R.T)
        return np.einsum("lk,lk->l", L.take(self.i, axis=0), right.take(self.j, axis=0))

    def _matrix(self, r: np.ndarray) -> csr_array:
        r = 2 * self.weight * r
        return csr_array((r, self._cols, self._rows), shape=self.shape)

    def gradient(self, L: np.ndarray, R: np.ndarray) -> tuple[csr_array, float]:
        r = self._read(L, R) - self.values
        return self._matrix(r), self.weight * float(r @ r)

    def change(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> csr_array:
        r = self._read(*pairs[0])
        for L, R in pairs[1:]:
            r += self._read(L, R)
        return self._matrix(r)


class Measured:
    """Measurements of a matrix, one a row of X."""

    def __init__(
        self, X: np.ndarray, values: np.ndarray, weight: float, shape: tuple[int, int]
    ) -> None:
        self.X, self.values, self.weight, self.shape = X, values, weight, shape

    def gradient(self, L: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, float]:
        r = self.X @ (L @ R).ravel() - self.values
        G = (2 * self.weight * r) @ self.X
        return G.reshape(self.shape), self.weight * float(r @ r)

    def change(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        D = pairs[0][0] @ pairs[0][1]
        for L, R in pairs[1:]:
            D += L @ R
        return ((2 * self.weight * (self.X @ D.ravel())) @ self.X).reshape(self.shape)


def observed_entries(
    i: np.ndarray, j: np.ndarray, values: np.ndarray, weight: float, shape: tuple[int, int]
) -> Observed:
    """The observed entries in the form that is fastest."""
    kind = MaskedEntries if shape[0] * shape[1] <= DENSE_ENTRIES else SparseEntries
    return kind(i, j, values, weight, shape)


class Point:
    """Layers z, their slope F, the loss, and products with the Jacobian there."""

    def __init__(
        self, data: Observed, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray
    ) -> None:
        self.data, self.z, self.dims, self.offsets = data, z, dims, offsets
        self.layers = unflat(z, dims, offsets)
        self.lefts = partial_products(self.layers)
        self.G, self.loss = data.gradient(self.lefts[-1], self.layers[-1])
        slopes, self.Xs = swept_back(
            self.lefts, pulled(self.G, self.layers[-1]), self.layers, self.G
        )
        self.F = joined(slopes)

    @cached_property
    def layers_T(self) -> Layers:
        return tuple(np.ascontiguousarray(layer.T) for layer in self.layers)

    def product(self, d: np.ndarray) -> np.ndarray:
        """The Jacobian times d."""
        W, D, lefts, G = self.layers, unflat(d, self.dims, self.offsets), self.lefts, self.G
        changes = [D[0]]
        for k in range(1, len(W) - 1):
            changes.append(changes[-1] @ W[k] + lefts[k - 1] @ D[k])
        dG = self.data.change([(changes[-1], W[-1]), (lefts[-1], D[-1])])
        X = pulled(dG, W[-1])
        X += pulled(G, D[-1])
        last = G.T @ changes[-1]
        last += dG.T @ lefts[-1]
        out: list[np.ndarray] = [-last.T]
        for k in range(len(W) - 2, 0, -1):
            block = changes[k - 1].T @ self.Xs[k]
            block += lefts[k - 1].T @ X
            out.append(block)
            X = X @ self.layers_T[k]
            X += self.Xs[k] @ D[k].T
        return joined((X, *out[::-1]))


def joined(layers: Layers) -> np.ndarray:
    """One vector of all layers."""
    return np.concatenate([layer.ravel() for layer in layers])


def slope_of(data: Observed, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The slope alone."""
    layers = unflat(z, dims, offsets)
    lefts = partial_products(layers)
    return joined(slopes_along(data.gradient(lefts[-1], layers[-1])[0], layers, lefts))


def column_sizes(z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """|[W_j; W_{j+1}ᵀ]| for every hidden column, interface after interface."""
    layers = unflat(z, dims, offsets)
    below = [np.einsum("ij,ij->j", a, a) for a in layers[:-1]]
    above = [np.einsum("ij,ij->i", b, b) for b in layers[1:]]
    return np.sqrt(np.concatenate([a + b for a, b in zip(below, above, strict=True)]))


class Data:
    """All measured rows and columns, numbered from 0, and the components among them."""

    def __init__(self, problem: Problem, units: Units) -> None:
        targets = problem.attainable / units.target
        none = np.zeros(0, dtype=int)
        self.rows = np.sort(np.concatenate([none, *(rows for rows, _ in problem.parts)]))
        self.cols = np.sort(np.concatenate([none, *(cols for _, cols in problem.parts)]))
        self.shape = len(self.rows), len(self.cols)
        self.blocks = tuple(
            (np.searchsorted(self.rows, rows), np.searchsorted(self.cols, cols))
            for rows, cols in problem.parts
        )
        weight = float(problem.weight)
        if reads_entries(problem):
            i, j = np.nonzero(problem.mask)
            i, j = np.searchsorted(self.rows, i), np.searchsorted(self.cols, j)
            self.observed = observed_entries(i, j, targets, weight, self.shape)
            self.curvature = 2 * weight
        else:
            X = measurements_of(problem) / units.measurement
            X = X[:, self.rows][:, :, self.cols].reshape(len(targets), -1)
            self.observed = Measured(X, targets, weight, self.shape)
            self.curvature = 2 * weight * float(np.linalg.norm(X, 2)) ** 2
        m, n = self.shape
        self.at_zero, self.loss_at_zero = self.observed.gradient(np.zeros((m, 1)), np.zeros((1, n)))
        self.top = largest_singular_value(self.at_zero) if m and n else 0.0

    @property
    def scale(self) -> float:
        """The size of W at which the data are fitted; 0 where zero fits them."""
        return self.top / self.curvature if self.curvature > 0 else 0.0


def norm_of(G: Gradient) -> float:
    """‖G‖_F."""
    return float(np.linalg.norm(G if isinstance(G, np.ndarray) else G.data))


def largest_singular_value(G: Gradient) -> float:
    if isinstance(G, np.ndarray):
        return float(np.linalg.norm(G, 2))
    start = np.ones(min(G.shape))
    return float(svds(G, k=1, v0=start, return_singular_vectors=False)[0])
