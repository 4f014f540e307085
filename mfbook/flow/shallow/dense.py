"""One time step of a small problem: exact Jacobian, exact exponentials.

Active columns Z (those that W feels) follow the nonlinear flow dZ/dt = F(Z) = S(W) Z. It is a
gradient flow, so its Jacobian J is symmetric, and one eigendecomposition a step makes every
function of h J exact; the step is the exponential Rosenbrock method of `rosenbrock`, at its end and
inside. Where the flow is linear, as it is near a saddle, a step of any length is exact: the method
does not pay for plateaus.

Passive columns (those too small for W to feel) follow dx/dt = S(t) x along the active solution:
the commutator-free Magnus method of order four with two exponentials (Blanes & Moan 2006),
exact for constant S. Two half steps are kept, the whole step gives the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfbook.flow.shallow.field import Field
from mfbook.flow.shallow.gauge import (
    DIRECT_SPREAD,
    EPS,
    Graded,
    largest_cosine,
    linear_flow,
    normalised,
    orthogonalise,
)
from mfbook.flow.shallow.phi import phi_functions
from mfbook.flow.shallow.rosenbrock import C2, C3, difference, inside, second_stage, third_stage
from mfbook.flow.shallow.sectors import eigh, pure

GAUSS = 0.5 + np.array([-1.0, 1.0]) * np.sqrt(3) / 6
EARLY, LATE = (3 + 2 * np.sqrt(3)) / 12, (3 - 2 * np.sqrt(3)) / 12
# Nodes of the two halves of a step; the whole step takes its moments of S from the same four.
NODES = np.concatenate([GAUSS / 2, 0.5 + GAUSS / 2])

# An active column may grow by at most this factor in a step. Its neighbours grow along with it, and
# what tells them apart loses as much of their sixteen digits; and in a long exponential step the
# stages see too little of the nonlinearity at its end. Measured on the 1×1 problem with M = 10, α =
# 10^-60, rtol = 1e-6, worst error over the run and steps: factor 3000: 2.3e-6, 49; 100: 1.5e-7, 50;
# 30: 6e-8, 54; 10: 7e-8, 54.
LARGEST_GROWTH = 30.0

# The active columns rest where |F| is below this many roundings of the terms it is the sum of.
REST = 16.0


@dataclass(frozen=True)
class Columns:
    """U(t) in graded form: X diag(exp(ell)) Vᵀ; `active` marks the columns that W feels."""

    t: float
    X: np.ndarray
    ell: np.ndarray
    V: np.ndarray
    active: np.ndarray

    @property
    def Z(self) -> np.ndarray:
        return self.X[:, self.active] * np.exp(self.ell[self.active])


class DenseStepper:
    """Everything a step needs that does not depend on its length."""

    # The step control compares the method of order five with an embedded one of order three, which
    # overestimates the error by orders of magnitude; so it may look larger than rtol. Measured on
    # [[1,2],[20,★]] at 10^-10 with rtol = 1e-6, worst error of W along the run over the data's
    # scale, and steps: factor 0.1: 5e-9, 415; 1: 8e-8, 241; 3: 6e-8, 186; 10: 3e-7, 141. The
    # promise is 10 rtol = 1e-5.
    LOCAL, ORDER, GROW = 5.0, 4, 8.0
    longest: float = np.inf
    by_series: Literal[False] = False
    record: Literal["dense"] = "dense"  # a step of another length is taken in the same way

    def __init__(self, field: Field, state: Columns) -> None:
        self.field, self.state = field, state
        self.Z = Z = state.Z
        self.residual = field.residual(Z)
        self.S = field.S(self.residual)
        self.F = self.S @ Z
        self.n_gradients = 1
        noise = EPS * np.sqrt(field.p) * (np.linalg.norm(self.S) + field.curvature * np.sum(Z * Z))
        size = np.sqrt(np.einsum("ij,ij->j", Z, Z))
        speed = np.sqrt(np.einsum("ij,ij->j", self.F, self.F))
        self.at_rest = bool(np.all(speed <= REST * noise * size))
        self.loss = field.weight * float(np.sum(self.residual**2))
        self._eigen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._S_eigen: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def norm(self) -> float:
        """Of the gradient of all factors."""
        return float(np.linalg.norm((self.S @ self.state.X) * np.exp(self.state.ell)))

    @property
    def S_eigen(self) -> tuple[np.ndarray, np.ndarray]:
        if self._S_eigen is None:
            self._S_eigen = eigh(self.field, self.S)
        return self._S_eigen

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigendecomposition of J = S ⊗ I − 2w KᵀK, the Jacobian of the active flow."""
        if self._eigen is None:
            K = self.field.derivative(self.Z)
            J = np.kron(self.S, np.eye(self.Z.shape[1])) - 2 * self.field.weight * (K.T @ K)
            self._eigen = J, *np.linalg.eigh(J)
        return self._eigen

    def step(self, h: float, tol: float = np.inf) -> tuple[Columns | None, float]:
        """The columns after time h, and the largest error of a column relative to its size.

        Gives up, with None for the columns, as soon as the error is seen to exceed `tol`.
        """
        state = self.state
        passive = ~state.active
        if self.at_rest:
            rates, basis = self.S_eigen
            X, ell, V = linear_flow(
                state.X[:, passive], state.ell[passive], state.V[:, passive], h * rates, basis
            )
            return self._assemble(h, self.Z, X, ell, V), 0.0
        Z, nodes, error = self._active(h)
        if not error <= tol or not np.all(np.isfinite(nodes)):
            return None, error
        if not passive.any():
            return self._assemble(h, Z, *(a[..., :0] for a in (state.X, state.ell, state.V))), error
        X, ell, V, passive_error = self._passive(h, nodes, passive)
        return self._assemble(h, Z, X, ell, V), max(error, passive_error)

    def _nonlinear(self, Z: np.ndarray, shift: np.ndarray) -> np.ndarray:
        J = self.eigen[0]
        F = self.field.S(self.field.residual(Z)) @ Z
        self.n_gradients += 1
        return F - self.F - (J @ shift.ravel()).reshape(Z.shape)

    def _active(self, h: float) -> tuple[np.ndarray, np.ndarray, float]:
        _, lam, Q = self.eigen
        shape = self.Z.shape
        theta = np.concatenate([[C2, C3, 1.0], NODES])
        phi = np.array(phi_functions(h * theta[:, None] * lam))
        early, late, end = phi[:, 0], phi[:, 1], phi[:, 2]
        f = Q.T @ self.F.ravel()

        with np.errstate(all="ignore"):  # what overflows is refused below
            shift = (Q @ (second_stage(h, early) * f)).reshape(shape)
            D2 = Q.T @ self._nonlinear(self.Z + shift, shift).ravel()
            first, second = third_stage(h, early, late)
            shift = (Q @ (first * f + second * D2)).reshape(shape)
            D3 = Q.T @ self._nonlinear(self.Z + shift, shift).ravel()
            weights = inside(h, theta[2:, None], phi[:, 2:])
            path = sum(w * v for w, v in zip(weights, (f, D2, D3), strict=True))
            gap = sum(w * v for w, v in zip(difference(h, end), (D2, D3), strict=True))
            path = (path @ Q.T).reshape(-1, *shape) + self.Z
            gap = (Q @ gap).reshape(shape)
            new = path[0]
            before, after = np.linalg.norm(self.Z, axis=0), np.linalg.norm(new, axis=0)
            error = np.max(np.linalg.norm(gap, axis=0) / np.maximum(before, after))
            sound = np.all(np.isfinite(path)) and np.all(after <= LARGEST_GROWTH * before)
        return new, path[1:], float(error) if sound and np.isfinite(error) else np.inf

    def _passive(
        self, h: float, nodes: np.ndarray, passive: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        S = self.field.S(self.field.residual(nodes))
        self.n_gradients += len(nodes)
        first, second = S[0::2], S[1::2]
        mean = S.mean(axis=0)
        moment = np.tensordot(NODES - 0.5, S, axes=1) / len(NODES)
        whole = h * np.array([mean / 2 - 2 * moment, mean / 2 + 2 * moment])
        early = h / 2 * (EARLY * first + LATE * second)
        late = h / 2 * (LATE * first + EARLY * second)
        # The two exponentials of the whole step, of the first half and of the second.
        exponents = np.stack([*whole, early[0], late[0], early[1], late[1]])
        growth, basis = eigh(self.field, exponents)
        state = self.state
        start = state.X[:, passive], state.ell[passive], state.V[:, passive]
        long = bool(np.any(growth[:, -1] - growth[:, 0] > DIRECT_SPREAD))

        def through(order: tuple[int, ...]) -> Graded:
            columns = start
            for k in order:
                columns = linear_flow(*columns, growth[k], basis[k])
            return orthogonalise(*columns) if long else columns

        Xc, lc, _ = through((0, 1))
        X, ell, V = through((2, 3, 4, 5))
        alive = ell > -np.inf
        if not alive.any():
            return X, ell, V, 0.0
        scale = np.exp(np.where(alive, lc - ell, 0.0))
        if long:
            # The gauges of the two differ; sizes and the leading direction do not.
            grown = np.abs(ell - np.sort(start[1])[::-1])
            gap = (np.abs(np.log(scale)) / np.maximum(1.0, grown)).max()
            gap = max(gap, np.linalg.norm(Xc[:, 0] - (Xc[:, 0] @ X[:, 0]) * X[:, 0]))
        else:
            gap = np.linalg.norm(Xc * scale - X, axis=0).max()
        return X, ell, V, float(gap) / 15  # 2⁴ − 1, Richardson

    def _assemble(
        self, h: float, Z: np.ndarray, X: np.ndarray, ell: np.ndarray, V: np.ndarray
    ) -> Columns:
        """All columns together again, orthogonal enough."""
        state = self.state
        Za, la = normalised(Z, np.zeros(Z.shape[1]))
        X = pure(self.field, np.concatenate([Za, X], axis=1))
        ell = np.concatenate([la, ell])
        V = np.concatenate([state.V[:, state.active], V], axis=1)
        active = np.arange(len(ell)) < Z.shape[1]
        return Columns(state.t + h, X, ell, V, active)


def regraded(state: Columns, log_active: float, loose: float) -> Columns:
    """Make the columns orthogonal if they lean, then decide anew which of them W feels."""
    X, ell, V = state.X, state.ell, state.V
    active = state.active
    if largest_cosine(X) > loose:
        X, ell, V = orthogonalise(X, ell, V)
        active = ell >= log_active
    else:
        # A column that has been felt stays so until it is a hundred times below the threshold.
        active = (ell >= log_active) | (active & (ell >= log_active - np.log(100)))
    return Columns(state.t, X, ell, V, active)
