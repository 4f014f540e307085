"""What a stack of columns stands for: how W is read off it, and how ∇f(W) moves it.

All rows that the columns have stand in one matrix U, and the flow is dU/dt = S(W) U with a
symmetric S. For two factors U = [A; Bᵀ] and S = [[0, −G], [−Gᵀ, 0]] with G = ∇f(A B). For the
symmetric model W = U Uᵀ it is S = −G, the flow of ½ f(U Uᵀ), as Li, Luo & Lyu (2021) write it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from mfbook.flow.shallow.eigenpairs import eigenpairs

# ∇f(W) as a matrix that multiplies: sparse where a problem is large.
Gradient = np.ndarray | csr_array

Factors = tuple[np.ndarray, ...]


class Stack(Protocol):
    """W = U_left U_rightᵀ for a stack U with p rows."""

    p: int
    left: slice
    right: slice
    pull: float  # S = −pull · c Σ r_l (X_l + X_lᵀ), X_l placed in rows `left`, columns `right`

    def joined(self, factors: Factors, /) -> np.ndarray:
        """The stack of these factors."""

    def split(self, U: np.ndarray, /) -> Factors:
        """The factors of this stack."""

    def product(self, U: np.ndarray, /) -> np.ndarray:
        """W."""

    def places(self, rows: np.ndarray, cols: np.ndarray, /) -> np.ndarray:
        """Where the rows and columns of a part stand."""

    def sides(self, block: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """The rows and columns of W that belong to these rows of the stack."""

    def bases(self, X: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Orthogonal P and Q, bases of rows and columns, for which Pᵀ X Q is diagonal."""

    def matrix(self, G: np.ndarray, /) -> np.ndarray:
        """S; (..., p, p)."""

    def times(self, G: Gradient, Y: np.ndarray, /) -> np.ndarray:
        """S Y without forming S."""

    def spectrum(self, G: np.ndarray, X: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of S, rising, and eigenvectors that X is a combination of."""


class Pair:
    """U = [A; Bᵀ] with m and n rows stands for W = A B."""

    pull = 2.0

    def __init__(self, m: int, n: int) -> None:
        self.m, self.p = m, m + n
        self.left, self.right = slice(0, m), slice(m, m + n)

    def joined(self, factors: Factors) -> np.ndarray:
        A, B = factors
        return np.concatenate([A, B.T])

    def split(self, U: np.ndarray) -> Factors:
        return U[: self.m].copy(), U[self.m :].T.copy()

    def product(self, U: np.ndarray) -> np.ndarray:
        return U[: self.m] @ U[self.m :].T

    def places(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, self.m + cols])

    def sides(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return block[block < self.m], block[block >= self.m] - self.m

    def bases(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        P, _, Qt = np.linalg.svd(X)
        return P, Qt.T

    def matrix(self, G: np.ndarray) -> np.ndarray:
        S = np.zeros((*G.shape[:-2], self.p, self.p))
        S[..., self.left, self.right] = -G
        S[..., self.right, self.left] = -np.swapaxes(G, -1, -2)
        return S

    def times(self, G: Gradient, Y: np.ndarray) -> np.ndarray:
        """S Y = [−G Y_B; −Gᵀ Y_A]."""
        m = self.m
        out = np.empty_like(Y)
        if isinstance(G, np.ndarray):
            np.matmul(G, Y[m:], out=out[:m])
            np.matmul(G.T, Y[:m], out=out[m:])
        else:
            out[:m], out[m:] = G @ Y[m:], G.T @ Y[:m]
        return np.negative(out, out=out)

    def spectrum(self, G: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the singular value decomposition of G, and what is left of X with rate zero."""
        u, s, vt = np.linalg.svd(G, full_matrices=False)
        # S (u; v) = −(G v; Gᵀ u): the pairs of opposite sign are those that grow.
        down = np.concatenate([u, vt.T]) / np.sqrt(2)
        up = np.concatenate([u, -vt.T]) / np.sqrt(2)
        basis = np.concatenate([down, up[:, ::-1]], axis=1)
        rest = X - basis @ (basis.T @ X)
        rest = np.linalg.qr(rest - basis @ (basis.T @ rest))[0]
        middle = len(s)
        basis = np.concatenate([basis[:, :middle], rest, basis[:, middle:]], axis=1)
        return np.concatenate([-s, np.zeros(rest.shape[1]), s[::-1]]), basis


class Square:
    """U with d rows stands for W = U Uᵀ; gradients are symmetric."""

    pull = 1.0

    def __init__(self, d: int) -> None:
        self.p = d
        self.left = self.right = slice(0, d)

    def joined(self, factors: Factors) -> np.ndarray:
        return factors[0]

    def split(self, U: np.ndarray) -> Factors:
        return (U.copy(),)

    def product(self, U: np.ndarray) -> np.ndarray:
        W = U @ U.T
        return (W + W.T) / 2  # no library promises to sum both halves in one order

    def places(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        return rows

    def sides(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return block, block

    def bases(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        P = eigenpairs(np.ascontiguousarray(X))[1]
        return P, P

    def matrix(self, G: np.ndarray) -> np.ndarray:
        return -G

    def times(self, G: Gradient, Y: np.ndarray) -> np.ndarray:
        out: np.ndarray = G @ Y
        return np.negative(out, out=out)

    def spectrum(self, G: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return eigenpairs(np.ascontiguousarray(-G))


def stack_of(shape: tuple[int, int], symmetric: bool) -> Stack:
    """The stack for a W of this shape."""
    return Square(shape[0]) if symmetric else Pair(*shape)
