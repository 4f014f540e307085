"""Exponential steps of a large problem, from products with the Jacobian and with S.

The φ-functions of h J act on three vectors, and each action is taken from the Krylov space of that
vector (`krylov`), with the weights of `rosenbrock`. Passive columns follow Magnus' method of order
four along the active ones, by power series.
"""

from __future__ import annotations

import numpy as np

from mfbook.flow.shallow.field import LargeField
from mfbook.flow.shallow.kernel import GAUSS, LARGEST_GROWTH
from mfbook.flow.shallow.krylov import Krylov
from mfbook.flow.shallow.phi import phi_functions
from mfbook.flow.shallow.rosenbrock import C2, C3, difference, inside, second_stage, third_stage
from mfbook.flow.shallow.stack import Gradient, Stack

# The largest Krylov space, and how well it must know its vector, against the step's tolerance.
MOST, KNOWN = 100, 0.03
# The embedded method of order three overestimates the error. On eight 8×8 problems and 100×100 the
# worst error of W along the run stays below 3 rtol with this factor.
OVERESTIMATE = 0.12
# The step control listens to this many passive columns, the largest: the others escape last.
LEADING = 6


class Exponential:
    """Steps of any length from one state: columns Y, the first k of them active, their slope F.

    `sigma` is the largest singular value of G. Gradients and products are counted.
    """

    def __init__(
        self,
        field: LargeField,
        Y: np.ndarray,
        k: int,
        G: Gradient,
        F: np.ndarray,
        sigma: float,
    ) -> None:
        self.field, self.Y, self.k, self.G, self.sigma = field, Y, k, G, sigma
        self.times = field.stack.times
        self.Z, self.F = np.ascontiguousarray(Y[:, :k]), np.ascontiguousarray(F)
        self.sizes = np.sqrt(np.einsum("ij,ij->j", self.Z, self.Z))
        self.space = Krylov(self.product, self.F, self.sizes, MOST)
        self.n_gradients = 0

    def product(self, v: np.ndarray) -> np.ndarray:
        """The Jacobian of the active flow times v."""
        self.n_gradients += 1
        D = self.times(self.field.change(self.Z, v), self.Z)
        D += self.times(self.G, v)
        return D

    def step(
        self, h: float, tol: float, *, anyway: bool = False
    ) -> tuple[np.ndarray, np.ndarray] | float:
        """Y after time h and its error; only a measure of it where that exceeds tol.

        With `anyway` a step is finished that was accepted once with another length.
        """
        k = self.k
        if not self.space.reach(h, KNOWN * tol) and not anyway:
            return 20 * tol

        def phi(x: np.ndarray, *theta: float) -> np.ndarray:
            return phi_functions(h * np.array(theta)[:, None] * x)

        def at(x: np.ndarray, theta: float) -> np.ndarray:
            return phi_functions(h * theta * x)

        shift = self.space.apply(lambda x: second_stage(h, at(x, C2)))
        second = self._space_of(self._nonlinear(shift), h, tol)
        shift = self.space.apply(lambda x: third_stage(h, at(x, C2), at(x, C3))[0])
        shift += second.apply(lambda x: third_stage(h, at(x, C2), at(x, C3))[1])
        third = self._space_of(self._nonlinear(shift), h, tol)
        nodes = np.array([1.0, *GAUSS])

        def weights(x: np.ndarray, of: int) -> np.ndarray:
            """Of D_2 or D_3: in the step, at the nodes, and in the estimate of the error."""
            path = inside(h, nodes[:, None], phi(x, *nodes))[of]
            return np.concatenate([path, difference(h, at(x, 1.0))[of - 1][None]])

        path = second.apply(lambda x: weights(x, 1)) + third.apply(lambda x: weights(x, 2))
        gap = np.zeros_like(self.Y)
        gap[:, :k] = path[-1] * OVERESTIMATE
        linear = self.space.apply(lambda x: inside(h, nodes[:, None], phi(x, *nodes))[0])
        path = path[:-1] + linear + self.Z
        new = np.empty_like(self.Y)
        new[:, :k] = path[0]
        size = np.sqrt(np.einsum("ij,ij->j", path[0], path[0]))
        if not np.all(size <= LARGEST_GROWTH * self.sizes) and not anyway:
            return np.inf
        error = np.sqrt(np.einsum("ij,ij->j", gap[:, :k], gap[:, :k]))
        error /= np.maximum(size, self.sizes)
        if not np.max(error) <= tol and not anyway:
            return float(np.max(error))
        if k < self.Y.shape[1]:
            new[:, k:], gap[:, k:] = self._carried(h, path[1:], tol)
        return new, gap

    def _nonlinear(self, shift: np.ndarray) -> np.ndarray:
        self.n_gradients += 1
        Z = self.Z + shift
        return self.times(self.field.gradient(Z)[1], Z) - self.F - self.product(shift)

    def _space_of(self, vector: np.ndarray, h: float, tol: float) -> Krylov:
        space = Krylov(self.product, vector, self.sizes, MOST)
        space.reach(h, KNOWN * tol)
        return space

    def _carried(
        self, h: float, nodes: np.ndarray, tol: float
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """The passive columns through S at two nodes: Magnus' method of order four, by series."""
        first, second = (self.field.gradient(node)[1] for node in nodes)
        self.n_gradients += 2
        X = np.ascontiguousarray(self.Y[:, self.k :])
        mean, times = h / 2 * (first + second), self.times

        def commutator(X: np.ndarray) -> np.ndarray:
            D = times(second, times(first, X)) - times(first, times(second, X))
            D *= np.sqrt(3) / 12 * h**2
            return D

        # exp(Ω) = exp(C/2) exp(h S) exp(C/2) to the order of the method, C the commutator.
        spread = h * self.sigma
        bound = np.sqrt(3) / 6 * spread * h * _norm(second - first)
        felt = bound > 0.1 * tol
        C = commutator(X) / 2 if felt else 0.0
        total = series(self.field.stack, mean, X + C, tol)
        if not felt:
            return total, 0.0
        D = commutator(total) / 2
        gap = (D + C) * (2 * spread) ** 2 / 240
        gap[:, LEADING:] = 0.0
        return total + D, gap


def series(stack: Stack, G: Gradient, X: np.ndarray, tol: float) -> np.ndarray:
    """exp of S(G) applied to unit columns, by its power series."""
    term, total = X, X.copy()
    for j in range(1, 200):
        term = stack.times(G, term)
        term /= j
        total += term
        if np.abs(term).max() <= 1e-3 * tol:
            break
    return total


def _norm(G: Gradient) -> float:
    return float(np.linalg.norm(G if isinstance(G, np.ndarray) else G.data))
