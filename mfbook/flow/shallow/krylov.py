"""Exponential Rosenbrock steps of a large problem: products with the Jacobian only.

The method is that of `dense` (exprb53s3 of Luan & Ostermann 2014). Its φ-functions of h J act on
three vectors, F, D_2 and D_3, and each action is taken from the Krylov space of that vector: the
Jacobian of a gradient flow is symmetric, so Lanczos' recursion builds the space (Hochbruck &
Lubich, SIAM J. Numer. Anal. 34, 1997). The number of products grows like √(h ρ), and a step is
not bounded by the stiff directions in its accuracy, as one by polynomials of order two is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh_tridiagonal

from mfbook.flow.shallow.phi import phi_functions

# Up to this many numbers in a vector the basis is kept orthogonal to all its members.
REORTHOGONALISE = 20_000
# How often the size of the last coefficients is looked at.
EVERY = 3


class Krylov:
    """The space of b, Jb, J²b, …, enlarged as far as a step asks."""

    def __init__(
        self,
        product: Callable[[np.ndarray], np.ndarray],
        b: np.ndarray,
        sizes: np.ndarray,
        most: int,
    ) -> None:
        self.product, self.shape, self.sizes = product, b.shape, sizes
        self.norm = float(np.linalg.norm(b))
        self.V = np.empty((most + 1, b.size))
        self.V[0] = b.ravel() / (self.norm or 1.0)
        self.diagonal: list[float] = []
        self.side: list[float] = []
        self.shares = [self._share(0)]
        self.most, self.complete = most, self.norm == 0.0
        self._eigen: tuple[np.ndarray, np.ndarray] | None = None
        self.products = 0

    def _share(self, k: int) -> float:
        """The part of a basis vector in each column, against the size of the column."""
        v = self.V[k].reshape(self.shape)
        return float(np.max(np.sqrt(np.einsum("ij,ij->j", v, v)) / self.sizes))

    def extend(self) -> None:
        m = len(self.diagonal)
        v = self.V[m]
        w = self.product(v.reshape(self.shape)).ravel()
        self.products += 1
        a = float(v @ w)
        w -= a * v
        if m:
            w -= self.side[-1] * self.V[m - 1]
        if w.size <= REORTHOGONALISE:
            w -= self.V[: m + 1].T @ (self.V[: m + 1] @ w)
        b = float(np.linalg.norm(w))
        self.diagonal.append(a)
        self._eigen = None
        # In a full space what is left is the rounding of the largest eigenvalue, whatever its size.
        full = len(self.diagonal) == w.size
        if full or b <= 1e-13 * max(abs(a), max(self.side, default=0.0)):
            self.complete = True
            return
        self.side.append(b)
        self.V[m + 1] = w / b
        self.shares.append(self._share(m + 1))

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of J that the space knows, rising, and their vectors in its basis."""
        if self._eigen is None:
            d, e = np.array(self.diagonal), np.array(self.side[: len(self.diagonal) - 1])
            self._eigen = eigh_tridiagonal(d, e)
        return self._eigen

    def largest(self) -> tuple[float, np.ndarray]:
        """The eigenvalue of largest modulus that the space knows, and its vector."""
        lam, Q = self.eigen
        top = int(np.argmax(np.abs(lam)))
        vector = Q[:, top] @ self.V[: len(lam)]
        return float(abs(lam[top])), vector.reshape(self.shape)

    def _coefficients(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """function(T) e_1 · |b| for a function given on eigenvalues; (..., m)."""
        lam, Q = self.eigen
        return self.norm * (function(lam) * Q[0]) @ Q.T

    def reach(self, h: float, tol: float) -> bool:
        """Enlarge the space until h φ_1(h J) b is known to tol; False where it stays too small."""
        while not self.complete:
            m = len(self.diagonal)
            if m >= 2 and (m % EVERY == 0 or m == self.most):
                last = np.abs(self._coefficients(lambda x: h * phi_functions(h * x)[0])[-2:])
                if last[0] * self.shares[m - 2] + last[1] * self.shares[m - 1] <= tol:
                    return True
            if m == self.most:
                return False
            self.extend()
        return True

    def apply(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """function(J) b; leading axes of the function's values come first."""
        if self.norm == 0.0:
            return np.zeros((*np.shape(function(np.zeros(1)))[:-1], *self.shape))
        y = self._coefficients(function)
        return (y @ self.V[: len(self.diagonal)]).reshape(*y.shape[:-1], *self.shape)
