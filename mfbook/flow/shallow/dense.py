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

from mfbook.flow.shallow import kernel
from mfbook.flow.shallow.compiled import say_that_it_compiles
from mfbook.flow.shallow.field import Field
from mfbook.flow.shallow.gauge import largest_cosine, linear_flow, normalised, orthogonalise


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
        say_that_it_compiles(kernel.active_step)
        self.field, self.state = field, state
        self.Z = np.ascontiguousarray(state.Z)
        X = np.ascontiguousarray(state.X)
        found = kernel.state_of(field.arrays, self.Z, X, state.ell, field.curvature)
        self.S, self.F, self.loss, self.norm, self.at_rest = found
        self.n_gradients = 1
        self._eigen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._S_eigen: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def S_eigen(self) -> tuple[np.ndarray, np.ndarray]:
        if self._S_eigen is None:
            self._S_eigen = kernel.eigh(self.S, self.field.arrays.label)
        return self._S_eigen

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The Jacobian of the active flow, its eigenvalues and eigenvectors."""
        if self._eigen is None:
            self._eigen = kernel.jacobian(self.field.arrays, self.Z, self.S)
        return self._eigen

    def rests_within(self, unit: float) -> bool:
        """Whether all that moves the active columns is a change of their entries by that share.

        Not where one of their directions grows: at its start that is as slow.
        """
        field = self.field
        if not kernel.rests_within(unit, self.S, self.F, self.Z, field.curvature):
            return False
        rates = self.eigen[1]
        noise = kernel.noise_of(unit, self.S, self.Z, field.curvature)
        return bool(rates.max(initial=0.0) <= noise)

    def step(self, h: float, tol: float = np.inf) -> tuple[Columns | None, float]:
        """The columns after time h, and the largest error of a column relative to its size.

        Gives up, with None for the columns, as soon as the error is seen to exceed `tol`.
        """
        state = self.state
        quiet = np.flatnonzero(~state.active)
        # One layout in memory is one compilation.
        X, V = (np.ascontiguousarray(array[:, quiet]) for array in (state.X, state.V))
        columns = X, state.ell[quiet], V
        if self.at_rest:
            rates, basis = self.S_eigen
            return self._assemble(h, self.Z, *linear_flow(*columns, h * rates, basis)), 0.0
        path, error = kernel.active_step(self.field.arrays, self.Z, self.F, *self.eigen, h)
        self.n_gradients += 2
        if not error <= tol:
            return None, error
        if not quiet.size:
            return self._assemble(h, path[0], *columns), error
        found = kernel.passive_step(self.field.arrays, path[1:], *columns, h)
        X, ell, V, passive_error = found
        self.n_gradients += 4
        return self._assemble(h, path[0], X, ell, V), max(error, passive_error)

    def _assemble(
        self, h: float, Z: np.ndarray, X: np.ndarray, ell: np.ndarray, V: np.ndarray
    ) -> Columns:
        """All columns together again, orthogonal enough."""
        state = self.state
        Za, la = normalised(np.ascontiguousarray(Z), np.zeros(Z.shape[1]))
        X = kernel.pure(np.concatenate([Za, X], axis=1), self.field.arrays.label)
        ell = np.concatenate([la, ell])
        V = np.concatenate([state.V[:, state.active], V], axis=1)
        active = np.arange(len(ell)) < Z.shape[1]
        return Columns(state.t + h, X, ell, V, active)


def regraded(state: Columns, log_active: float, loose: float) -> Columns:
    """Make the columns orthogonal if they lean, then decide anew which of them W feels."""
    X, ell, V = state.X, state.ell, state.V
    active = state.active
    if largest_cosine(np.ascontiguousarray(X)) > loose:
        X, ell, V = orthogonalise(*map(np.ascontiguousarray, (X, ell, V)))
        active = ell >= log_active
    else:
        # A column that has been felt stays so until it is a hundred times below the threshold.
        active = (ell >= log_active) | (active & (ell >= log_active - np.log(100)))
    return Columns(state.t, X, ell, V, active)
