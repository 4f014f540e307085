"""One time step of a large problem: products with G only, three methods and an exact one.

The Runge–Kutta–Chebyshev method of order two (Sommeijer, Shampine & Verwer, J. Comput. Appl.
Math. 88, 1998) takes s stages, each one evaluation of G at the observed entries and one product
with the columns, and is stable for h ρ ≤ 0.65 s², ρ the spectral radius of the Jacobian: the stiff
directions that an explicit Euler step (gradient descent) pays for linearly cost a square root.
Active and passive columns are advanced together; only the active ones enter G.

Where accuracy and not stability bounds the step (an escape), order two is dear: steps with h ρ ≤ 3
are taken by the pair of order five of Dormand & Prince (1980), as SciPy's RK45 has it. On 100×100
with 2,000 entries, from ‖W(0)‖ = 1e-3 at rtol = 1e-4, this took the steps from 273 to 102 and the
evaluations of G from 1,895 to 1,206.

With few active columns, longer steps are exponential ones (`krylov`), which a plateau does not
bound in their accuracy. Their passive columns follow Magnus' method of order four, by power series.

On a plateau no explicit method can take long steps. When the active columns have come to rest to
within the tolerance, S is constant, and the passive columns are advanced exactly by the singular
value decomposition of G (as in the dense method, but from a looser notion of rest), or, where that
is dear, by power series of a few units of growth each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import RK45
from scipy.linalg.blas import daxpy

from mfbook.flow.shallow.dense import C2, C3, GAUSS, LARGEST_GROWTH, Columns
from mfbook.flow.shallow.field import times
from mfbook.flow.shallow.gauge import linear_flow, normalised
from mfbook.flow.shallow.krylov import Krylov
from mfbook.flow.shallow.phi import phi_functions

# Up to this many active columns a step beyond WORTH (times the stability interval's unit 1/ρ) is
# taken by Krylov spaces. With 100 active columns on 100×100 they took 1,279 products where the
# Chebyshev method took 1,018 gradients, each half as dear as a product with the Jacobian.
FEW = 40
WORTH = 8.0
# The largest Krylov space, and how well it must know its vector, against the step's tolerance.
MOST, KNOWN = 100, 0.03
# The embedded method of order three overestimates the error. On eight 8×8 problems and 100×100 the
# worst error of W along the run stays below 3 rtol with this factor.
OVERESTIMATE = 0.12
# The step control listens to this many passive columns, the largest: the others escape last.
LEADING = 6
# A linear step of the passive columns is at most this long, times the largest singular value of G.
LONGEST = 5.0
# A component with more rows and columns has its plateaus passed by many products with G: at
# 943×1682 a singular value decomposition takes 5 s, a product 1 ms.
LARGEST_SVD = 1000

# The stability interval of the Dormand–Prince pair is 3.3.
EXPLICIT = 3.0
# After the Chebyshev method failed on a step of nearly that length, leave it alone for some steps.
PATIENCE = 8

DAMPING = 2 / 13
MOST_STAGES = 150
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


@dataclass
class Memory:
    """What one step hands to the next: vectors of the power iterations, the decay of the speed."""

    shape: tuple = ()
    nonlinear: np.ndarray | None = None
    linear: np.ndarray | None = None
    last: tuple | None = None
    patience: int = 0
    radius: float = 0.0
    sigma: float = 0.0
    age: int = 0
    rested: int = -1


def _combined(start, factors, arrays):
    """start + Σ factor · array, summed in place."""
    total = start.copy()
    for factor, array in zip(factors, arrays, strict=False):
        if factor:
            daxpy(array.ravel(), total.ravel(), a=factor)
    return total


def _by_size(state):
    """The passive columns, largest first."""
    quiet = np.flatnonzero(~state.active)
    return quiet[np.argsort(-state.ell[quiet], kind="stable")]


def _norm(G):
    return float(np.linalg.norm(G if isinstance(G, np.ndarray) else G.data))


@dataclass(frozen=True)
class Record:
    """How a step was taken, so that it can be taken again with another length."""

    method: str
    rho: float
    sigma: float
    tol: float


class ChebyshevStepper:
    """Everything a step needs that does not depend on its length."""

    # The estimate is of the method's own order, and an explicit method always errs to the same
    # side along a growing column, so its errors add up. On 100×100 with 2,000 entries, from 1e-3
    # and 10^-100 at rtol = 1e-4, worst error of W over the data in units of rtol, and gradients:
    # 0.3: 0.4 and 0.6, 1,127 and 2,642; 1: 1.1 and 1.6, 974 and 2,458; 3: 1.7 and 3.0, 926 and
    # 2,310.
    LOCAL, ORDER, GROW = 1.0, 3, 8.0

    def __init__(self, field, state: Columns, memory: Memory, record: Record | None = None):
        self.field, self.state = field, state
        self.k = int(state.active.sum())
        first = np.flatnonzero(state.active)
        self.order = np.concatenate([first, _by_size(state)])
        Y = state.X[:, self.order].copy()
        Y[:, : self.k] *= np.exp(state.ell[first])
        self.Y, self.Z = Y, Y[:, : self.k]
        self.loss, self.G = field.gradient(self.Z)
        self.F_all = times(self.G, Y)
        self.F = self.F_all[:, : self.k]
        self.n_gradients = 1
        self.memory, self.space = memory, None
        self._S_eigen = None
        self.record = record
        if record is not None:
            self.rho, self.sigma = record.rho, record.sigma
            self.at_rest = record.method == "rest"
            return
        self.rho = MARGIN * self._radius(memory)
        if self.rho == 0:
            self.longest = np.inf
        elif memory.patience > 0:
            self.longest = EXPLICIT / self.rho
        elif self.k <= FEW:
            self.longest = LONGEST / max(self.sigma, 1e-300)
        else:
            self.longest = 0.65 * (MOST_STAGES**2 - 1) / self.rho
        self.at_rest = self._resting(memory)
        if self.at_rest:
            self.longest = LONGEST / max(self.sigma, 1e-300) if self.by_series else np.inf

    def _radius(self, memory: Memory) -> float:
        """Spectral radius of the Jacobian: active block J, and S for the passive columns."""
        shape = self.Y.shape[0], self.k
        cold = memory.shape != shape or memory.linear is None
        memory.age += 1
        if not cold and memory.age % RENEW:
            self.sigma = memory.sigma
            return memory.radius
        if cold:
            rng = np.random.default_rng(0)
            memory.shape = shape
            memory.nonlinear = rng.standard_normal(shape)
            memory.linear = rng.standard_normal((shape[0], 1))
        radius = 0.0
        for _ in range(COLD if cold else WARM):
            v = memory.linear / np.linalg.norm(memory.linear)
            # S has the eigenvalues ±σ: one product with S² has a single largest one.
            memory.linear = times(self.G, times(self.G, v))
            size = np.linalg.norm(memory.linear)
            radius = np.sqrt(size)
            if size == 0:
                memory.linear = v
                break
        memory.radius = self.sigma = memory.sigma = float(radius)
        if not self.k:
            return memory.radius
        count = LANCZOS_COLD if cold else LANCZOS_WARM
        space = Krylov(self._product, memory.nonlinear, np.ones(self.k), count)
        while not space.complete and len(space.diagonal) < count:
            space.extend()
        size, memory.nonlinear = space.largest()
        memory.radius = float(max(radius, size))
        return memory.radius

    def _resting(self, memory: Memory) -> bool:
        """Whether what is left of the active columns' motion changes S too little to matter.

        If the speed |F| falls like e^{−μt}, S still changes by |dS/dt|/μ, and this change acts
        on the growth of the passive columns for a time 1/μ.
        """
        if not self.k:
            return True
        if self.k == self.Y.shape[1]:
            return False
        now = self.state.t, float(np.linalg.norm(self.F)), self.k
        last, memory.last = memory.last, now
        if memory.rested == self.k and last is not None and now[1] <= 1.01 * last[1]:
            return True
        memory.rested = -1
        size = float(np.linalg.norm(self.Z))
        if now[1] <= 1e-14 * self.rho * size:
            return True
        if last is None or last[2] != self.k or not 0 < now[1] < last[1] or now[0] <= last[0]:
            return False
        mu = np.log(last[1] / now[1]) / (now[0] - last[0])
        change = np.linalg.norm(self.field.change(self.Z, self.F).data)
        if change <= FREEZE * mu**2:
            memory.rested = self.k
        return memory.rested == self.k

    @property
    def by_series(self):
        """Whether a singular value decomposition of G is dearer than many products with it."""
        return self.field.p > LARGEST_SVD

    def time_to_reach(self, target):
        """A time before which no passive column gets to `target`; nearly when one does, if S is
        constant and the column has turned into the direction that grows fastest."""
        quiet = self.state.ell[~self.state.active]
        if self.sigma <= 0 or not quiet.size:
            return np.inf
        return max(target - float(quiet.max()), 0.01) / self.sigma

    @property
    def norm(self):
        """Of the gradient of all factors."""
        sizes = np.ones(self.Y.shape[1])
        sizes[self.k :] = np.exp(self.state.ell[self.order[self.k :]])
        return float(np.linalg.norm(self.F_all * sizes))

    @property
    def S_eigen(self):
        """Rates and directions of S from the SVD of G, and of the columns' part with rate zero."""
        if self._S_eigen is None:
            G = self.G if isinstance(self.G, np.ndarray) else self.G.toarray()
            u, s, vt = np.linalg.svd(G, full_matrices=False)
            # S (u; v) = −(G v; Gᵀ u): the pairs of opposite sign are those that grow.
            down = np.concatenate([u, vt.T]) / np.sqrt(2)
            up = np.concatenate([u, -vt.T]) / np.sqrt(2)
            basis = np.concatenate([down, up[:, ::-1]], axis=1)
            X = self.state.X
            rest = X - basis @ (basis.T @ X)
            rest = np.linalg.qr(rest - basis @ (basis.T @ rest))[0]
            middle = len(s)
            basis = np.concatenate([basis[:, :middle], rest, basis[:, middle:]], axis=1)
            self._S_eigen = np.concatenate([-s, np.zeros(rest.shape[1]), s[::-1]]), basis
        return self._S_eigen

    def step(self, h: float, tol: float = np.inf):
        """The columns after time h, and the largest error of a column relative to its size."""
        state, k = self.state, self.k
        # The step is repeated as it was taken, so that it agrees with it at its end.
        again = self.record is not None and not np.isfinite(tol)
        self.again = again
        tol = self.record.tol if again else tol
        if self.at_rest:
            self.record = Record("rest", self.rho, self.sigma, tol)
            quiet = self.order[k:]
            if self.by_series:
                X, ell = normalised(self._series(h * self.G, self.Y[:, k:], tol), state.ell[quiet])
                return self._columns(h, self.Z, X, ell, state.V[:, quiet]), 0.0
            rates, basis = self.S_eigen
            X, ell, V = linear_flow(
                state.X[:, quiet], state.ell[quiet], state.V[:, quiet], h * rates, basis
            )
            return self._columns(h, self.Z, X, ell, V), 0.0
        if again:
            method = self.record.method
        elif h * self.rho <= EXPLICIT * (1 + 1e-9):
            method = "explicit"
        elif self.k <= FEW and h * self.rho < WORTH:
            h, method = EXPLICIT / self.rho, "explicit"
        else:
            method = "exponential" if self.k <= FEW else "chebyshev"
        self.record = Record(method, self.rho, self.sigma, tol)
        with np.errstate(all="ignore"):
            if method == "exponential":
                new, gap = self._exponential(h, tol)
                if new is None:
                    if h * self.rho < 2 * WORTH:
                        self.memory.patience = PATIENCE
                    return None, gap
            else:
                new, gap = (self._runge_kutta if method == "explicit" else self._chebyshev)(h)
            norm = np.sqrt(np.einsum("ij,ij->j", new, new))
            before = np.sqrt(np.einsum("ij,ij->j", self.Y, self.Y))
            error = np.sqrt(np.einsum("ij,ij->j", gap, gap)) / np.maximum(norm, before)
            error = float(np.max(error))
        if method == "explicit":
            self.memory.patience -= 1
        elif not error <= tol and h * self.rho < 5 * EXPLICIT:
            self.memory.patience = PATIENCE
        if not np.isfinite(error):
            return None, np.inf
        if error > tol and not again:
            return None, error
        quiet = self.order[k:]
        X, ell = normalised(new[:, k:], state.ell[quiet])
        return self._columns(h, new[:, :k], X, ell, state.V[:, quiet]), error

    def _columns(self, h, Z, X, ell, V):
        Za, la = normalised(Z, np.zeros(Z.shape[1]))
        X, ell = np.concatenate([Za, X], axis=1), np.concatenate([la, ell])
        V = np.concatenate([self.state.V[:, self.order[: self.k]], V], axis=1)
        return Columns(self.state.t + h, X, ell, V, np.arange(len(ell)) < self.k)

    def _chebyshev(self, h):
        """Y after time h by s stages, and its error."""
        s = max(2, int(np.ceil(np.sqrt(1 + h * self.rho / 0.65))))
        w0 = 1 + DAMPING / s**2
        T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
        for _ in range(2, s + 1):
            T.append(2 * w0 * T[-1] - T[-2])
            dT.append(2 * w0 * dT[-1] - dT[-2] + 2 * T[-2])
            ddT.append(2 * w0 * ddT[-1] - ddT[-2] + 4 * dT[-2])
        w1 = dT[s] / ddT[s]
        b = [0.0, 0.0] + [ddT[j] / dT[j] ** 2 for j in range(2, s + 1)]
        b[0] = b[1] = b[2]
        a = [1 - b[j] * T[j] for j in range(s + 1)]
        F0 = h * self.F_all
        start = self.Y
        previous, Y = start, start + b[1] * w1 * F0
        for j in range(2, s + 1):
            mu, nu = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2]
            step = 2 * b[j] * w1 / b[j - 1]
            F = self._field(Y)
            # In place, in the array of the stage before the last: no temporary arrays.
            new = start.copy() if j == 2 else previous
            new *= nu
            for factor, array in (
                (1 - mu - nu, start),
                (-a[j - 1] * step, F0),
                (mu, Y),
                (step * h, F),
            ):
                daxpy(array.ravel(), new.ravel(), a=factor)
            previous, Y = Y, new
        return Y, 0.8 * (self.Y - Y) + 0.4 * (F0 + h * self._field(Y))

    def _product(self, v):
        """The Jacobian of the active flow times v."""
        self.n_gradients += 1
        D = times(self.field.change(self.Z, v), self.Z)
        D += times(self.G, v)
        return D

    def _exponential(self, h, tol):
        """Y after time h by the exponential Rosenbrock method, and its error."""
        k, Z, F = self.k, np.ascontiguousarray(self.Z), self.F
        sizes = np.sqrt(np.einsum("ij,ij->j", Z, Z))
        if self.space is None:
            self.space = Krylov(self._product, np.ascontiguousarray(F), sizes, MOST)
        if not self.space.reach(h, KNOWN * tol) and not self.again:
            return None, 20 * tol

        def phi(x, *theta):
            return phi_functions(h * np.array(theta)[:, None] * x)

        def nonlinear(shift):
            new = self._only(Z + shift)
            return new - F - self._product(shift)

        shift = self.space.apply(lambda x: C2 * h * phi(x, C2)[0][0])
        second = Krylov(self._product, nonlinear(shift), sizes, MOST)
        second.reach(h, KNOWN * tol)

        def stage(x):
            early, late = phi(x, C2, C3)[2]
            return h * (27 / 25 * early + 729 / 125 * late)

        shift = self.space.apply(lambda x: C3 * h * phi(x, C3)[0][0]) + second.apply(stage)
        third = Krylov(self._product, nonlinear(shift), sizes, MOST)
        third.reach(h, KNOWN * tol)
        theta = np.array([1.0, *GAUSS])

        def from_first(x):
            return h * theta[:, None] * phi(x, *theta)[0]

        def from_second(x):
            _, _, phi3, phi4 = phi(x, *theta)
            th = theta[:, None]
            path = h * (18 * th**3 * phi3 - 60 * th**4 * phi4)
            return np.concatenate([path, h * (10 * phi3[:1] - 60 * phi4[:1])])

        def from_third(x):
            _, _, phi3, phi4 = phi(x, *theta)
            th = theta[:, None]
            path = h * 250 / 81 * (6 * th**4 * phi4 - th**3 * phi3)
            return np.concatenate([path, path[:1]])

        path = second.apply(from_second) + third.apply(from_third)
        gap = np.zeros_like(self.Y)
        gap[:, :k] = path[-1] * OVERESTIMATE
        path = path[:-1] + self.space.apply(from_first) + Z
        new = np.empty_like(self.Y)
        new[:, :k] = path[0]
        size = np.sqrt(np.einsum("ij,ij->j", path[0], path[0]))
        if not np.all(size <= LARGEST_GROWTH * sizes) and not self.again:
            return None, np.inf
        error = np.sqrt(np.einsum("ij,ij->j", gap[:, :k], gap[:, :k])) / np.maximum(size, sizes)
        if not np.max(error) <= tol and not self.again:
            return None, float(np.max(error))
        if k < self.Y.shape[1]:
            new[:, k:], gap[:, k:] = self._carried(h, path[1:], tol)
        return new, gap

    def _only(self, Z):
        self.n_gradients += 1
        return times(self.field.gradient(Z)[1], Z)

    def _carried(self, h, nodes, tol):
        """The passive columns through S at two nodes: Magnus' method of order four, by series."""
        first, second = (self.field.gradient(node)[1] for node in nodes)
        self.n_gradients += 2
        X = np.ascontiguousarray(self.Y[:, self.k :])
        mean = h / 2 * (first + second)

        def commutator(X):
            D = times(second, times(first, X)) - times(first, times(second, X))
            D *= np.sqrt(3) / 12 * h**2
            return D

        # exp(Ω) = exp(C/2) exp(h S) exp(C/2) to the order of the method, C the commutator.
        spread = h * self.sigma
        bound = np.sqrt(3) / 6 * spread * h * _norm(second - first)
        felt = bound > 0.1 * tol
        C = commutator(X) / 2 if felt else 0.0
        total = self._series(mean, X + C, tol)
        if not felt:
            return total, 0.0
        D = commutator(total) / 2
        gap = (D + C) * (2 * spread) ** 2 / 240
        gap[:, LEADING:] = 0.0
        return total + D, gap

    @staticmethod
    def _series(G, X, tol):
        """exp of S(G) applied to unit columns, by its power series."""
        term, total = X, X.copy()
        for j in range(1, 200):
            term = times(G, term)
            term /= j
            total += term
            if np.abs(term).max() <= 1e-3 * tol:
                break
        return total

    def _runge_kutta(self, h):
        """Y after time h by Dormand and Prince's pair, and its error."""
        stages = [self.F_all]
        for row in RK45.A[1:, :5]:
            stages.append(self._field(_combined(self.Y, h * row, stages)))
        new = _combined(self.Y, h * RK45.B, stages)
        stages.append(self._field(new))
        return new, _combined(np.zeros_like(new), h * RK45.E, stages)

    def _field(self, Y):
        self.n_gradients += 1
        return times(self.field.gradient(Y[:, : self.k])[1], Y)
