"""Completion of a large matrix with a penalty on its nuclear norm, along a path of penalties.

    minimize  F(W) = ½ Σ_{(i,j) observed} (W_ij − M_ij)² + λ ‖W‖_*

by the iteration of Mazumder, Hastie & Tibshirani (2010, "soft-impute") with Nesterov's momentum:
fill the unobserved entries with those of W, and shrink all singular values by λ. Iterates are kept
as factors, and only as many singular vectors are computed as survive. What comes out is certified:
Y = s (M − W) on the observed entries with s = min(1, λ / ‖M − W‖₂) has ‖Y‖₂ ≤ λ, so that
⟨Y, M⟩ − ½ ‖Y‖² is a lower bound of min F.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

# So many singular vectors below the threshold are kept, so that the next one is seen in time.
SPARE = 12
# How often the certificate is looked at, which takes as long as some iterations.
EVERY = 10


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A minimizer U diag(s) Vᵀ, its certified relative gap, and the iterations that it took."""

    penalty: float
    U: np.ndarray
    s: np.ndarray
    Vt: np.ndarray
    gap: float
    iterations: int

    @property
    def rank(self) -> int:
        return len(self.s)

    def at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        return entries(self.U * self.s, self.Vt, rows, cols)


def entries(A: np.ndarray, B: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Entries of A B, some ten thousand at a time."""
    Bt = np.ascontiguousarray(B.T)
    chunks = range(0, len(rows), 20_000)
    parts = [
        np.einsum("ik,ik->i", A[rows[k : k + 20_000]], Bt[cols[k : k + 20_000]]) for k in chunks
    ]
    return np.concatenate(parts)


def path(
    rows: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    penalties: list[float],
    *,
    tol: float = 1e-4,
    most: int = 2000,
) -> Iterator[Shrunk]:
    """The minimizers for falling penalties, each begun at the one before, gaps below tol."""
    U, s, Vt = np.zeros((shape[0], 0)), np.zeros(0), np.zeros((0, shape[1]))
    basis = np.zeros((shape[1], 0))
    for penalty in penalties:
        now = Shrunk(penalty, U, s, Vt, np.inf, 0)
        before, momentum, last = now, 1.0, np.inf
        for count in range(1, most + 1):
            after = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
            beta = (momentum - 1) / after
            # W + β (W − W_before), as factors.
            left = np.hstack([(1 + beta) * now.U * now.s, -beta * before.U * before.s])
            right = np.vstack([now.Vt, before.Vt])
            missing = values - entries(left, right, rows, cols)
            filled = csr_array((missing, (rows, cols)), shape=shape), left, right
            before, (now, basis) = now, _shrunk(filled, penalty, basis, count)
            residual = values - now.at(rows, cols)
            objective = 0.5 * residual @ residual + penalty * now.s.sum()
            # Restarted where it overshoots (O'Donoghue & Candès 2015).
            momentum = 1.0 if objective > last else after
            last = objective
            if count % EVERY == 0:
                gap = certified_gap(now, residual, rows, cols, values, shape)
                now = Shrunk(penalty, now.U, now.s, now.Vt, gap, count)
                if gap < tol:
                    break
        U, s, Vt = now.U, now.s, now.Vt
        yield now


def _shrunk(
    filled: tuple[csr_array, np.ndarray, np.ndarray], penalty: float, basis: np.ndarray, count: int
) -> tuple[Shrunk, np.ndarray]:
    """S_λ(sparse + left · right) by block power iteration, and the basis for the next one."""
    sparse, left, right = filled
    fresh = np.random.default_rng(count).standard_normal((sparse.shape[1], 2))
    Q = np.hstack([basis, fresh])
    for _ in range(2):
        P = np.linalg.qr(sparse @ Q + left @ (right @ Q))[0]
        Q = np.linalg.qr(sparse.T @ P + right.T @ (left.T @ P))[0]
    U, s, Wt = np.linalg.svd(sparse @ Q + left @ (right @ Q), full_matrices=False)
    kept = int((s > penalty).sum())
    V = Q @ Wt.T[:, : kept + SPARE]
    found = Shrunk(penalty, U[:, :kept], s[:kept] - penalty, V[:, :kept].T, np.inf, count)
    return found, V


def certified_gap(
    found: Shrunk,
    residual: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
) -> float:
    """(F(W) − lower bound of min F) / F(W)."""
    # The residual has many singular values near λ, which Lanczos' method is slow to tell apart; it
    # is asked for six digits of the largest one, and what it may lack is added.
    top = (1 + 1e-6) * svds(
        csr_array((residual, (rows, cols)), shape=shape),
        k=1,
        tol=1e-3,
        v0=np.ones(min(shape)),
        return_singular_vectors=False,
    )
    Y = residual * min(1.0, found.penalty / float(top[0]))
    objective = 0.5 * residual @ residual + found.penalty * found.s.sum()
    return float((objective - (Y @ values - 0.5 * Y @ Y)) / objective)
