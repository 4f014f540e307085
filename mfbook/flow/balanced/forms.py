r"""The states of the end-to-end flow, and what the equations say of them.

At depth 1 the state is W. Above it is a singular value decomposition that does not mind ties:
W = U exp(Λ) Vᵀ with orthonormal columns U (m, r), V (n, r), r the rank of the start, and a
symmetric Λ (r, r), whose eigenvalues are the logarithms ℓ_i = ln σ_i. So singular values that lie
far apart keep all their digits, as separate numbers, and equal ones are nothing special. In the
eigenbasis of Λ, with g = Uᵀ ∇f V and a_i = σ_i^{2/N},

    Λ'_ij = −(ℓ_i − ℓ_j)/(a_i − a_j) · (g_ij σ_j + g_ji σ_i),
    (Vᵀ V')_ij = (σ_i − σ_j)/(a_i − a_j) · (g_ij − g_ji),      Uᵀ U' = 0,

the columns of U leave their space by −(I − U Uᵀ) ∇f V σ^{1−2/N}, those of V likewise, and the
quotients are derivatives where a_i = a_j. They follow from d(W Wᵀ)^{1/N}/dt = −∇f Wᵀ − W ∇fᵀ
(the first layer's W_1 W_1ᵀ) and the formula of Daleckii and Krein.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mfbook.problems.fit import gradient, size_of_data
from mfbook.problems.protocols import Problem

EPS = np.finfo(float).eps
# What the loss sees: singular values above this share of the data's size and W's.
FELT = 1e-8
# A gradient below this share of ∇f, in all directions that are felt, is none.
AT_REST = 1e-8
# And what moves on by less than this share of itself in a time as long as the run.
CREEPING = 1e-3


@dataclass(frozen=True, eq=False)
class Plain:
    """Depth 1: W is the state."""

    problem: Problem
    depth: float = 1.0

    def W(self, y: np.ndarray) -> np.ndarray:
        return y.reshape(*y.shape[:-1], *self.problem.shape)

    def velocity(self, _: float, y: np.ndarray) -> np.ndarray:
        return -gradient(self.problem, self.W(y)).reshape(y.shape)

    def gradient_norm(self, y: np.ndarray) -> float:
        return float(np.linalg.norm(self.velocity(0.0, y)))

    def singular_values(self, y: np.ndarray) -> np.ndarray:
        return np.linalg.svd(self.W(y), compute_uv=False)

    def layers(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return ()

    def normalised(self, y: np.ndarray) -> np.ndarray:
        return y

    def rests(self, y: np.ndarray, t: float) -> bool:
        """Never but at a minimum, which the loss tells: f is convex."""
        return False


@dataclass(frozen=True, eq=False)
class Decomposed:
    """Depth above 1: Λ, U and V, and what the equations say of them."""

    problem: Problem
    depth: float
    rank: int

    def parts(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Λ, U and V of a state, or of each of a stack."""
        (m, n), r = self.problem.shape, self.rank
        rows, cols = self._lower
        stack = y.shape[:-1]
        L = np.empty((*stack, r, r))
        L[..., rows, cols] = L[..., cols, rows] = y[..., : len(rows)]
        begin, end = len(rows), len(rows) + m * r
        return L, y[..., begin:end].reshape(*stack, m, r), y[..., end:].reshape(*stack, n, r)

    def joined(self, L: np.ndarray, U: np.ndarray, V: np.ndarray) -> np.ndarray:
        (rows, cols), stack = self._lower, L.shape[:-2]
        parts = L[..., rows, cols], U.reshape(*stack, -1), V.reshape(*stack, -1)
        return np.concatenate(parts, axis=-1)

    @cached_property
    def _lower(self) -> tuple[np.ndarray, ...]:
        """Where Λ is kept; to find this takes as long as an eigendecomposition of a small one."""
        return np.tril_indices(self.rank)

    def triple(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(u_i), ln σ_i, rising, and (v_i)."""
        L, U, V = self.parts(y)
        ell, R = np.linalg.eigh(L)
        return U @ R, ell, V @ R

    def W(self, y: np.ndarray) -> np.ndarray:
        U, ell, V = self.triple(y)
        return (U * np.exp(ell)) @ V.T

    def velocity(self, _: float, y: np.ndarray) -> np.ndarray:
        """Of a state, or of each of a stack."""
        L, U, V = self.parts(y)
        ell, R = np.linalg.eigh(L)
        U, V = U @ R, V @ R
        of_row, of_column = ell[..., :, None], ell[..., None, :]
        G = gradient(self.problem, (U * np.exp(of_column)) @ V.mT)
        GV, GtU = G @ V, G.mT @ U
        g = U.mT @ GV
        high = np.maximum(of_row, of_column)
        gap = high - np.minimum(of_row, of_column)
        if np.isinf(self.depth):
            # N (a_i − a_j) tends to 2 (ℓ_i − ℓ_j); the spaces of U and V do not turn.
            first = 0.5 * g * np.exp(of_column)
            L = -(first + first.mT)
            turn = 0.5 * np.exp(high) * _ratio(gap, 1.0) * (g - g.mT)
            outward = np.zeros_like(of_column)
        else:
            N = self.depth
            # (ℓ_i − ℓ_j)/(a_i − a_j) σ_j, in logarithms: σ_j may be 10^-100 of σ_i.
            first = g * np.exp(of_column - 2 / N * high)
            slower = _ratio(gap, 2 / N)
            L = -(first + first.mT) / slower
            turn = np.exp((1 - 2 / N) * high) * _ratio(gap, 1.0) / slower * (g - g.mT)
            outward = np.exp((1 - 2 / N) * of_column)
        # Errors in UᵀU = I do not grow, but they would not fall either, and long steps need that.
        pace = np.exp(of_column[..., -1:] * max(1 - 2 / self.depth, 0.0))
        pull = 0.5 * np.abs(g).max(axis=(-2, -1), keepdims=True) * pace
        dU = pull * U @ _defect(U) - _outside(U, GV) * outward
        dV = V @ turn + pull * V @ _defect(V) - _outside(V, GtU) * outward
        return self.joined(R @ L @ R.mT, dU @ R.mT, dV @ R.mT)

    def _kernel(self, ell: np.ndarray) -> np.ndarray:
        """K_ij, at infinite depth divided by it."""
        low, high = np.minimum.outer(ell, ell), np.maximum.outer(ell, ell)
        if np.isinf(self.depth):
            return np.exp(2 * high) * _ratio(high - low, 2.0) / 2
        share = _ratio(high - low, 2.0) / _ratio(high - low, 2 / self.depth)
        return np.exp((2 - 2 / self.depth) * high) * share

    def gradient_norm(self, y: np.ndarray) -> float:
        """√(−df/dt), f's decrease summed over all pairs of singular vectors."""
        U, ell, V = self.triple(y)
        G = gradient(self.problem, (U * np.exp(ell)) @ V.T)
        GV, GtU = G @ V, G.T @ U
        decrease = np.sum(self._kernel(ell) * (U.T @ GV) ** 2)
        if np.isfinite(self.depth):
            outward = np.exp((2 - 2 / self.depth) * ell)
            for turned, base in ((GV, U), (GtU, V)):
                decrease += np.sum(_outside(base, turned) ** 2 * outward)
        return float(np.sqrt(decrease))

    def singular_values(self, y: np.ndarray) -> np.ndarray:
        values = np.exp(self.triple(y)[1])[::-1]
        return np.pad(values, (0, min(self.problem.shape) - self.rank))

    def layers(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        """(U σ^{1/N}, σ^{1/N}, …, σ^{1/N} Vᵀ) in the hidden basis of singular vectors."""
        if np.isinf(self.depth) or self.depth != int(self.depth):
            return ()
        U, ell, V = self.triple(y)
        root = np.exp(ell / self.depth)
        return (U * root, *[np.diag(root)] * (int(self.depth) - 2), (V * root).T)

    def normalised(self, y: np.ndarray) -> np.ndarray:
        """The state with orthonormal U and V and a diagonal Λ: what is slow has its own numbers."""
        U, ell, V = self.triple(y)
        return self.joined(np.diag(ell), _polar(U), _polar(V))

    def rests(self, y: np.ndarray, t: float) -> bool:
        """Whether all that W feels is at rest, and what is smaller does not grow.

        What creeps on to infinity is slow as well, but changes by its own size while t doubles.
        """
        U, ell, V = self.triple(y)
        W = (U * np.exp(ell)) @ V.T
        G = gradient(self.problem, W)
        size = float(np.linalg.norm(G, 2))
        felt = np.exp(ell) > FELT * max(size_of_data(self.problem), float(np.exp(ell[-1])))
        if size == 0.0 or not felt.any():
            return False
        moving = max(np.abs(G @ V[:, felt]).max(), np.abs(G.T @ U[:, felt]).max())
        pace = np.exp(ell[-1] * max(1 - 2 / self.depth, 0.0))
        small = -U[:, ~felt].T @ G @ V[:, ~felt]
        growing = np.linalg.eigvalsh(small + small.T).max(initial=-np.inf)
        still = moving <= AT_REST * size and moving * pace * t <= CREEPING
        return bool(still and growing <= AT_REST * size)


Form = Plain | Decomposed


def decomposed(
    problem: Problem, depth: float, U: np.ndarray, log_sizes: np.ndarray, V: np.ndarray
) -> tuple[Decomposed, np.ndarray]:
    form = Decomposed(problem, depth, len(log_sizes))
    return form, form.joined(np.diag(log_sizes), U, V)


def _ratio(gap: np.ndarray, p: float) -> np.ndarray:
    """(1 − e^{−p x})/x for x ≥ 0, which is p at 0."""
    x = np.where(gap > 0, gap, 1.0)
    return np.where(gap > 0, -np.expm1(-p * x) / x, p)


def _outside(base: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The part of X outside the columns' space of `base`, nearly orthonormal ones."""
    if base.shape[-2] == base.shape[-1]:
        return np.zeros_like(X)
    return X - base @ np.linalg.solve(base.mT @ base, base.mT @ X)


def _defect(X: np.ndarray) -> np.ndarray:
    """I − XᵀX, exactly symmetric, so that its rounding turns nothing."""
    return np.eye(X.shape[-1]) - X.mT @ X


def _polar(X: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(X, full_matrices=False)
    return left @ right
