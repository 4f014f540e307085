"""Blocks of the data that felt columns have only in traces: a linear flow in logarithms.

Where the rows and columns X, Y of a block in the felt columns are tiny, its residual is −M, and
with K = W_2 ⋯ W_{N−1} they obey X' = M Yᵀ Kᵀ, Y' = Kᵀ Xᵀ M. In the singular pairs (s, u, v) of the
gradient that is x' = s K y, y' = s Kᵀ x for x = Xᵀu and y = Y v: every pair on its own, of a size
exp(log) of its own. So a trace of 10^-5000 grows to what it has to be.

Where felt columns have rows A and columns B of the same component, what X and Y put between them
and the block is observed to be zero, and that takes D x and D' y away, with D = c K B Bᵀ Kᵀ and
D' = c Kᵀ Aᵀ A K, c twice the weight of a square. Hidden columns that are taken by larger pairs of a
component leave none of it to smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mfbook.flow.shallow.compiled import compiled
from mfbook.flow.shallow.eigenpairs import eigenpairs
from mfbook.flow.shallow.gauge import EPS, time_to_reach

# A rate below this share of the largest is rounding.
STILL = 16 * EPS

# E = [[0, K], [Kᵀ, 0]], and D.
Flow = tuple[np.ndarray, np.ndarray]


@compiled
def pairs_after(
    vectors: np.ndarray, logs: np.ndarray, s: np.ndarray, E: np.ndarray, D: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and logarithms of lengths, row by row, after the flows exp(s · E − D)."""
    vectors, logs = vectors.copy(), logs.copy()
    count = len(E)
    sizes = np.empty(count)
    for k in range(len(s)):
        values, basis = eigenpairs(s[k] * E - D)
        coordinates = np.ascontiguousarray(basis.T) @ vectors[k]
        peak = -np.inf
        for i in range(count):
            sizes[i] = np.log(np.abs(coordinates[i])) + values[i]
            peak = max(peak, sizes[i])
        if peak == -np.inf:
            continue
        for i in range(count):
            coordinates[i] = np.sign(coordinates[i]) * np.exp(sizes[i] - peak)
        vector = basis @ coordinates
        length = np.sqrt(np.sum(vector * vector))
        vectors[k] = vector / length
        logs[k] += peak + np.log(length)
    return vectors, logs


@dataclass(frozen=True)
class Pairs:
    """Singular pairs of −∇f(0) in one block, and its rows and columns."""

    block: int
    rows: np.ndarray
    cols: np.ndarray
    s: np.ndarray
    u: np.ndarray
    v: np.ndarray


@dataclass(frozen=True)
class Passenger:
    """(x, y) of every pair: unit vectors (pairs, 2r), and the logarithms of their lengths."""

    pairs: Pairs
    vectors: np.ndarray
    logs: np.ndarray

    @property
    def size(self) -> float:
        """The logarithm of the largest."""
        return float(self.logs.max(initial=-np.inf))

    def turned(self, first: np.ndarray | None, last: np.ndarray | None) -> Passenger:
        """In turned hidden bases behind the first layer and before the last."""
        r = self.vectors.shape[1] // 2
        x, y = self.vectors[:, :r], self.vectors[:, r:]
        x = x if first is None else x @ first
        y = y if last is None else y @ last
        return replace(self, vectors=np.concatenate([x, y], axis=1))

    def after(self, flows: list[Flow]) -> Passenger:
        """After the flows exp(s · E − D), one after the other."""
        vectors, logs = self.vectors, self.logs
        for E, D in flows:
            vectors, logs = pairs_after(vectors, logs, self.pairs.s, E, D)
        return replace(self, vectors=vectors, logs=logs)

    def time_to(self, flow: Flow, target: float) -> float:
        """When the first pair has the size exp(target), at the rates s · E − D."""
        E, D = flow
        times = []
        for vector, log, s in zip(self.vectors, self.logs, self.pairs.s, strict=True):
            if log == -np.inf:
                continue
            rates, basis = eigenpairs(s * E - D)
            rates[np.abs(rates) <= STILL * np.abs(rates).max()] = 0.0
            start = np.ascontiguousarray(vector[:, None]), np.array([log])
            times.append(time_to_reach(*start, rates, basis, target))
        return min(times, default=np.inf)

    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """X (rows, r) and Y (r, cols) in plain numbers."""
        r = self.vectors.shape[1] // 2
        sized = self.vectors * np.exp(self.logs)[:, None]
        return self.pairs.u @ sized[:, :r], sized[:, r:].T @ self.pairs.v

    def joined_by(self, x: np.ndarray, y: np.ndarray, logs: np.ndarray) -> Passenger:
        """With one more felt column, whose parts are (x, y) exp(logs), pair by pair."""
        r = self.vectors.shape[1] // 2
        old, new = self.vectors, np.zeros((len(logs), 2 * r + 2))
        peak = np.maximum(self.logs, logs)
        with np.errstate(invalid="ignore"):
            before = np.where(peak == -np.inf, 0.0, np.exp(self.logs - peak))
            added = np.where(peak == -np.inf, 0.0, np.exp(logs - peak))
        new[:, :r], new[:, r + 1 : -1] = before[:, None] * old[:, :r], before[:, None] * old[:, r:]
        new[:, r], new[:, -1] = added * x, added * y
        length = np.linalg.norm(new, axis=1)
        with np.errstate(divide="ignore"):
            sizes = peak + np.log(length)
        return replace(self, vectors=new / np.where(length > 0, length, 1.0)[:, None], logs=sizes)


def coupling(K: np.ndarray) -> np.ndarray:
    """[[0, K], [Kᵀ, 0]]."""
    r, q = K.shape
    return np.block([[np.zeros((r, r)), K], [K.T, np.zeros((q, q))]])


def damping(K: np.ndarray, A: np.ndarray, B: np.ndarray, c: float) -> np.ndarray:
    """diag(D, D'), for the felt rows A and columns B of the component."""
    r, q = K.shape
    D = np.zeros((r + q, r + q))
    KB, AK = K @ B, A @ K
    D[:r, :r], D[r:, r:] = c * (KB @ KB.T), c * (AK.T @ AK)
    return D


def exponents(first: Flow, second: Flow, h: float) -> list[Flow]:
    """Magnus' two exponents of order four, for flows at the Gauss nodes of a step of length h."""
    root = np.sqrt(3.0)
    early, late = h * (3 + 2 * root) / 12, h * (3 - 2 * root) / 12
    (E, D), (E2, D2) = first, second
    return [
        (early * E + late * E2, early * D + late * D2),
        (late * E + early * E2, late * D + early * D2),
    ]
