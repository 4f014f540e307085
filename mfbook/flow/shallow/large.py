"""One time step of a large problem: products with G only, three methods and an exact one.

Most steps are taken by the Runge–Kutta–Chebyshev method (`explicit`): s stages, each one evaluation
of G at the observed entries and one product with the columns. Active and passive columns are
advanced together; only the active ones enter G.

Where accuracy and not stability bounds the step (an escape), order two is dear: short steps are
taken by the pair of order five of Dormand and Prince. On 100×100 with 2,000 entries, from
‖W(0)‖ = 1e-3 at rtol = 1e-4, this took the steps from 273 to 102 and the evaluations of G from
1,895 to 1,206.

With few active columns, longer steps are exponential ones (`exponential`), which a plateau does not
bound in their accuracy.

On a plateau no explicit method can take long steps. When the active columns have come to rest to
within the tolerance, S is constant, and the passive columns are advanced exactly by the singular
value decomposition of G (as in the dense method, but from a looser notion of rest), or, where that
is dear, by power series of a few units of growth each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mfbook.flow.shallow.dense import Columns
from mfbook.flow.shallow.explicit import EXPLICIT, chebyshev, dormand_prince, longest_chebyshev
from mfbook.flow.shallow.exponential import MOST, Exponential, series
from mfbook.flow.shallow.field import LargeField
from mfbook.flow.shallow.gauge import linear_flow, normalised
from mfbook.flow.shallow.kernel import REST
from mfbook.flow.shallow.krylov import Krylov

# Up to this many active columns a step beyond WORTH (times the stability interval's unit 1/ρ) is
# taken by Krylov spaces. With 100 active columns on 100×100 they took 1,279 products where the
# Chebyshev method took 1,018 gradients, each half as dear as a product with the Jacobian.
FEW = 40
WORTH = 8.0
# A linear step of the passive columns is at most this long, times the largest singular value of G.
LONGEST = 5.0
# A component with more rows and columns has its plateaus passed by many products with G: at
# 943×1682 a singular value decomposition takes 5 s, a product 1 ms.
LARGEST_SVD = 1000

# After the Chebyshev method failed on a step of nearly that length, leave it alone for some steps.
PATIENCE = 8

# The power iteration approaches ρ from below.
MARGIN = 1.1
# Its iterations from scratch and, every RENEW steps, from the last vector; then the same for
# Lanczos' method on the nonlinear part, whose largest eigenvalue it finds in half the products.
COLD, WARM = 30, 6
LANCZOS_COLD, LANCZOS_WARM = 15, 5
RENEW = 5


# Rest, as a fraction of one unit of log-growth: what a passive column's log-size loses by it only
# shifts its escape in time, by a tenth of the local tolerance at rtol = 1e-4.
FREEZE = 1e-5
# What is left of the speed, over the terms that it is the sum of, where it is rounding.
STILL = 1e-14
# Growth rates up to so many times the relative speed of a column are not told from it.
UNREST = 10.0
# By how much the decay of the speed may be faster than over the step before.
FASTER = 3.0


@dataclass
class Memory:
    """What one step hands to the next: vectors of the power iterations, the decay of the speed."""

    shape: tuple[int, ...] = ()
    nonlinear: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    linear: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    last: tuple[float, float, int] | None = None
    decay: float = np.inf
    patience: int = 0
    radius: float = 0.0
    sigma: float = 0.0
    age: int = 0
    rested: int = -1


def _by_size(state: Columns) -> np.ndarray:
    """The passive columns, largest first."""
    quiet = np.flatnonzero(~state.active)
    return quiet[np.argsort(-state.ell[quiet], kind="stable")]


@dataclass(frozen=True)
class Record:
    """How a step was taken, so that it can be taken again with another length."""

    method: str
    rho: float
    sigma: float
    tol: float


class LargeStepper:
    """Everything a step needs that does not depend on its length."""

    # The estimate is of the method's own order, and an explicit method always errs to the same
    # side along a growing column, so its errors add up. On 100×100 with 2,000 entries, from 1e-3
    # and 10^-100 at rtol = 1e-4, worst error of W over the data in units of rtol, and gradients:
    # 0.3: 0.4 and 0.6, 1,127 and 2,642; 1: 1.1 and 1.6, 974 and 2,458; 3: 1.7 and 3.0, 926 and
    # 2,310.
    LOCAL, ORDER, GROW = 1.0, 3, 8.0

    def __init__(
        self,
        field: LargeField,
        state: Columns,
        memory: Memory,
        record: Record | None = None,
    ) -> None:
        self.field, self.state = field, state
        self.k = int(state.active.sum())
        first = np.flatnonzero(state.active)
        self.order = np.concatenate([first, _by_size(state)])
        Y = state.X[:, self.order].copy()
        Y[:, : self.k] *= np.exp(state.ell[first])
        self.Y, self.Z = Y, Y[:, : self.k]
        self.loss, self.G = field.gradient(self.Z)
        self.F_all = field.stack.times(self.G, Y)
        self.F = self.F_all[:, : self.k]
        self._evaluations = 1
        self.memory = memory
        self._exponential: Exponential | None = None
        self._S_eigen: tuple[np.ndarray, np.ndarray] | None = None
        self.record = record
        if record is not None:
            self.rho, self.sigma = record.rho, record.sigma
            self.at_rest = record.method == "rest"
            return
        self.rho = MARGIN * self._radius(memory)
        self.still = False
        self.at_rest = self._resting(memory)
        if self.at_rest:
            self.longest = LONGEST / max(self.sigma, 1e-300) if self.by_series else np.inf
        else:
            self.longest = self._longest_moving()

    def _longest_moving(self) -> float:
        if self.memory.patience > 0:
            return EXPLICIT / self.rho
        if self.k <= FEW:
            return LONGEST / max(self.sigma, 1e-300)
        return longest_chebyshev(self.rho)

    @property
    def unrest(self) -> float:
        """Rates up to this may be what is left of the active columns' motion."""
        if not self.k:
            return 0.0
        speed = np.linalg.norm(self.F, axis=0) / np.linalg.norm(self.Z, axis=0)
        return UNREST * float(speed.max())

    def rests_within(self, unit: float) -> bool:
        """Whether all that moves the active columns is a change of their entries by that share.

        Not where one of their directions grows, as far as a Krylov space finds it.
        """
        noise = REST * unit * self.rho
        if not np.linalg.norm(self.F) <= noise * np.linalg.norm(self.Z):
            return False
        if not self.k:
            return True
        start = np.random.default_rng(0).standard_normal(self.F.shape)
        space = Krylov(self.exponential.product, start, np.ones(self.k), MOST)
        while not space.complete and len(space.diagonal) < MOST:
            space.extend()
        return bool(space.eigen[0][-1] <= noise)

    def move_on(self) -> None:
        """Take no rest: nothing grows that would be told from the motion that is left."""
        self.at_rest, self.longest = False, self._longest_moving()
        self.memory.rested = -1

    def _radius(self, memory: Memory) -> float:
        """Spectral radius of the Jacobian: active block J, and S for the passive columns."""
        shape = self.Y.shape[0], self.k
        cold = memory.shape != shape
        memory.age += 1
        if not cold and memory.age % RENEW:
            self.sigma = memory.sigma
            return memory.radius
        if cold:
            rng = np.random.default_rng(0)
            memory.shape = shape
            memory.nonlinear = rng.standard_normal(shape)
            memory.linear = rng.standard_normal((shape[0], 1))
        radius, stack = 0.0, self.field.stack
        for _ in range(COLD if cold else WARM):
            v = memory.linear / np.linalg.norm(memory.linear)
            # S has the eigenvalues ±σ: one product with S² has a single largest one.
            memory.linear = stack.times(self.G, stack.times(self.G, v))
            size = np.linalg.norm(memory.linear)
            radius = float(np.sqrt(size))
            if size == 0:
                memory.linear = v
                break
        memory.radius = self.sigma = memory.sigma = radius
        if not self.k:
            return memory.radius
        count = LANCZOS_COLD if cold else LANCZOS_WARM
        space = Krylov(self.exponential.product, memory.nonlinear, np.ones(self.k), count)
        while not space.complete and len(space.diagonal) < count:
            space.extend()
        largest, memory.nonlinear = space.largest()
        memory.radius = max(radius, largest)
        return memory.radius

    def _resting(self, memory: Memory) -> bool:
        """Whether what is left of the active columns' motion changes S too little to matter.

        If the speed |F| falls like e^{−μt}, S still changes by |dS/dt|/μ, and this change acts
        on the growth of the passive columns for a time 1/μ.
        """
        if not self.k:
            self.still = True
            return True
        now = self.state.t, float(np.linalg.norm(self.F)), self.k
        self.still = now[1] <= STILL * self._size_of_terms()
        if self.k == self.Y.shape[1]:  # no column waits for the rest: it is the end
            return self.still
        last, memory.last = memory.last, now
        if memory.rested == self.k and last is not None and now[1] <= 1.01 * last[1]:
            return True
        memory.rested = -1
        if last is None or last[2] != self.k:
            memory.decay = np.inf
        if self.still:
            return True
        if last is None or last[2] != self.k or not 0 < now[1] < last[1] or now[0] <= last[0]:
            return False
        # A decay that is suddenly faster is that of a stiff part, an error of the last step
        # perhaps, and what is left decays as slowly as before.
        mu = np.log(last[1] / now[1]) / (now[0] - last[0])
        mu = memory.decay = mu if mu <= FASTER * memory.decay else memory.decay
        change = np.linalg.norm(self.field.change(self.Z, self.F).data)
        if change <= FREEZE * mu**2:
            memory.rested = self.k
        return memory.rested == self.k

    def _size_of_terms(self) -> float:
        """Of what F is the sum: G, and what W and the data make of it before they cancel, times Z.

        Far from balance, as factors of a large start are, that is far less than ρ |Z|.
        """
        stack = self.field.stack
        left, right = (np.linalg.norm(self.Z[side]) for side in (stack.left, stack.right))
        of_G = np.linalg.norm(self.G.data) + self.field.curvature * left * right
        return float(of_G * np.linalg.norm(self.Z))

    @property
    def n_gradients(self) -> int:
        """Evaluations of the gradient, and products with the Jacobian."""
        steps = self._exponential
        return self._evaluations + (0 if steps is None else steps.n_gradients)

    @property
    def exponential(self) -> Exponential:
        if self._exponential is None:
            self._exponential = Exponential(self.field, self.Y, self.k, self.G, self.F, self.sigma)
        return self._exponential

    @property
    def by_series(self) -> bool:
        """Whether a singular value decomposition of G is dearer than many products with it."""
        return self.field.p > LARGEST_SVD

    def time_to_reach(self, target: float) -> float:
        """A time before which no passive column gets to `target`; nearly when one does, if S is
        constant and the column has turned into the direction that grows fastest."""
        quiet = self.state.ell[~self.state.active]
        if self.sigma <= 0 or not quiet.size:
            return np.inf
        return max(target - float(quiet.max()), 0.01) / self.sigma

    @property
    def norm(self) -> float:
        """Of the gradient of all factors."""
        sizes = np.ones(self.Y.shape[1])
        sizes[self.k :] = np.exp(self.state.ell[self.order[self.k :]])
        return float(np.linalg.norm(self.F_all * sizes))

    @property
    def S_eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates and directions of S, as far as the columns have a part along them."""
        if self._S_eigen is None:
            G = self.G if isinstance(self.G, np.ndarray) else self.G.toarray()
            self._S_eigen = self.field.stack.spectrum(G, self.state.X)
        return self._S_eigen

    def step(self, h: float, tol: float = np.inf) -> tuple[Columns | None, float]:
        """The columns after time h, and the largest error of a column relative to its size."""
        state, k = self.state, self.k
        # The step is repeated as it was taken, so that it agrees with it at its end.
        again = None if np.isfinite(tol) else self.record
        tol = tol if again is None else again.tol
        if self.at_rest:
            self.record = Record("rest", self.rho, self.sigma, tol)
            quiet = self.order[k:]
            if self.by_series:
                grown = series(self.field.stack, h * self.G, self.Y[:, k:], tol)
                X, ell = normalised(grown, state.ell[quiet])
                return self._columns(h, self.Z, X, ell, state.V[:, quiet]), 0.0
            rates, basis = self.S_eigen
            X, V = (np.ascontiguousarray(array[:, quiet]) for array in (state.X, state.V))
            X, ell, V = linear_flow(X, state.ell[quiet], V, h * rates, basis)
            return self._columns(h, self.Z, X, ell, V), 0.0
        if again is not None:
            method = again.method
        elif h * self.rho <= EXPLICIT * (1 + 1e-9):
            method = "explicit"
        elif self.k <= FEW and h * self.rho < WORTH:
            h, method = EXPLICIT / self.rho, "explicit"
        else:
            method = "exponential" if self.k <= FEW else "chebyshev"
        self.record = Record(method, self.rho, self.sigma, tol)
        with np.errstate(all="ignore"):
            if method == "exponential":
                found = self.exponential.step(h, tol, anyway=again is not None)
                if isinstance(found, float):
                    if h * self.rho < 2 * WORTH:
                        self.memory.patience = PATIENCE
                    return None, found
                new, gap = found
            elif method == "explicit":
                new, gap = dormand_prince(self._field, self.Y, self.F_all, h)
            else:
                new, gap = chebyshev(self._field, self.Y, self.F_all, h, self.rho)
            norm = np.sqrt(np.einsum("ij,ij->j", new, new))
            before = np.sqrt(np.einsum("ij,ij->j", self.Y, self.Y))
            errors = np.sqrt(np.einsum("ij,ij->j", gap, gap)) / np.maximum(norm, before)
            error = float(np.max(errors))
        if method == "explicit":
            self.memory.patience -= 1
        elif not error <= tol and h * self.rho < 5 * EXPLICIT:
            self.memory.patience = PATIENCE
        if not np.isfinite(error):
            return None, np.inf
        if error > tol and again is None:
            return None, error
        quiet = self.order[k:]
        X, ell = normalised(np.ascontiguousarray(new[:, k:]), state.ell[quiet])
        return self._columns(h, new[:, :k], X, ell, state.V[:, quiet]), error

    def _columns(
        self, h: float, Z: np.ndarray, X: np.ndarray, ell: np.ndarray, V: np.ndarray
    ) -> Columns:
        Za, la = normalised(np.ascontiguousarray(Z), np.zeros(Z.shape[1]))
        X, ell = np.concatenate([Za, X], axis=1), np.concatenate([la, ell])
        V = np.concatenate([self.state.V[:, self.order[: self.k]], V], axis=1)
        return Columns(self.state.t + h, X, ell, V, np.arange(len(ell)) < self.k)

    def _field(self, Y: np.ndarray) -> np.ndarray:
        self._evaluations += 1
        return self.field.stack.times(self.field.gradient(Y[:, : self.k])[1], Y)
