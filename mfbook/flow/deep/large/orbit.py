"""One step of large layers that move, by products of layers alone.

Steps that accuracy bounds are taken by the pair of order five of Dormand and Prince, those that
stability bounds by explicit methods of order four that are stable for longer (`stabilised`). Longer
ones yet are with few felt columns those of the exponential Rosenbrock method of order five that
small problems take, its φ-functions applied in Krylov spaces of products with the Jacobian (as for
two factors, `shallow.exponential`); with many, where such a product costs as much as two slopes,
those of the Runge–Kutta–Chebyshev method of order two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mfbook.flow.deep.kernel import DUST
from mfbook.flow.deep.large.field import Observed, Point, column_sizes, norm_of, slope_of
from mfbook.flow.deep.march import EARLY, MOST_EXACT, MOVING, OTHERS
from mfbook.flow.shallow.explicit import EXPLICIT, chebyshev, dormand_prince, longest_chebyshev
from mfbook.flow.shallow.exponential import KNOWN, MOST, OVERESTIMATE
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.shallow.kernel import GAUSS, LARGEST_GROWTH
from mfbook.flow.shallow.krylov import EVERY, Krylov
from mfbook.flow.shallow.phi import phi_functions
from mfbook.flow.shallow.rosenbrock import C2, C3, difference, inside, second_stage, third_stage
from mfbook.flow.shallow.stabilised import METHODS, method_for, stabilised

# Up to this many felt columns between any two layers steps are exponential.
FEW = 20
# Methods of order four are for tolerances from ROUGH on: on a 6×6 problem of N = 3 from sizes of
# one the error of W along the run is 4 rtol at rtol = 1e-4, but some 20 rtol at 1e-6.
ROUGH = 3e-5
# Chebyshev and exponential steps are tried beyond their reach, and at tighter tolerances from this
# many times 1/ρ on. After a Chebyshev step has failed they are left alone for some steps, each time
# for twice as many.
WORTH, PATIENCE, MOST_PATIENT = 8.0, 4, 16
# A Krylov space knows its vector where its last coefficients are below this share of the others.
SHARE = 0.03
# The largest eigenvalue is found again after so many steps, from the last vector: Lanczos' steps
# from scratch and from there, and a margin, for it is approached from below.
RENEW, COLD, WARM, MARGIN = 5, 15, 5, 1.1


@dataclass
class Memory:
    """What one step hands to the next."""

    vector: np.ndarray | None = None
    radius: float = 0.0
    age: int = 0
    patience: int = 0
    pause: int = PATIENCE


@dataclass(frozen=True)
class Taken:
    """How a step was taken, so that it can be taken again with another length."""

    method: str
    rho: float
    tol: float
    stages: int = 0  # which of the stabilised methods


@dataclass(frozen=True)
class Frame:
    """What a step is measured by: the layout of the layers, and the rows of W of each component.

    `reference` is the size of a column at which the data are fitted. Where there are several
    components, what a column has of each of them counts by itself: it may be all that decides,
    later, between their signs.
    """

    dims: np.ndarray
    offsets: np.ndarray
    blocks: tuple[tuple[np.ndarray, np.ndarray], ...]
    reference: float

    @property
    def depth(self) -> int:
        return len(self.dims) - 1

    def sizes(self, z: np.ndarray) -> np.ndarray:
        """Of every hidden column, and then of what the outer ones have of every component."""
        found = column_sizes(z, self.dims, self.offsets)
        if len(self.blocks) < 2:
            return found
        first = z[: self.offsets[1]].reshape(self.dims[0], -1)
        last = z[self.offsets[-2] :].reshape(-1, self.dims[-1])
        parts = [found]
        for rows, cols in self.blocks:
            parts += [np.linalg.norm(first[rows], axis=0), np.linalg.norm(last[:, cols], axis=1)]
        return np.concatenate(parts)

    def dust(self, sizes: np.ndarray) -> np.ndarray:
        """Sizes below which a column is rounding of those beside it."""
        counts = list(self.dims[1:-1])
        if len(self.blocks) > 1:
            counts += [self.dims[1], self.dims[-2]] * len(self.blocks)
        out, low = np.empty_like(sizes), 0
        largest = float(sizes[: sum(self.dims[1:-1])].max(initial=0.0))
        for k, count in enumerate(counts):
            inner = k < self.depth - 1
            top = float(sizes[low : low + count].max(initial=0.0)) if inner else largest
            out[low : low + count] = DUST * top
            low += count
        return out

    def weights(self, sizes: np.ndarray, speeds: np.ndarray) -> tuple[np.ndarray, float]:
        """How much an error of each size counts (`march.EARLY`), and the fastest relative speed."""
        inner = int(sum(self.dims[1:-1]))
        live = sizes > self.dust(sizes)
        sizes = sizes / np.sqrt(2)
        shares = np.minimum(1.0, sizes[:inner] / self.reference) if self.reference > 0 else 1.0
        weights = np.ones_like(sizes)
        weights[:inner] = 1 / np.maximum(shares ** (EARLY * (self.depth - 2)), MOST_EXACT)
        relative = np.where(live, speeds / np.where(live, sizes, 1.0), -1.0)
        fastest = float(relative.max(initial=0.0))
        moving = relative[:inner] >= MOVING * fastest
        least = weights[:inner][moving].min(initial=np.inf)
        weights[:inner] = np.minimum(weights[:inner], OTHERS * least)
        return weights, fastest


class Space(Krylov):
    """A Krylov space that knows its vector well in every hidden column."""

    def __init__(
        self,
        product: Callable[[np.ndarray], np.ndarray],
        b: np.ndarray,
        share: Callable[[np.ndarray], float],
        most: int,
    ) -> None:
        self._of = share
        self._known: dict[int, float] = {}
        super().__init__(product, b, np.ones(1), most)

    def _share(self, k: int) -> float:
        """Not asked for of every vector."""
        return 1.0

    def _seen(self, k: int) -> float:
        if k not in self._known:
            self._known[k] = self._of(self.V[k])
        return self._known[k]

    def knows(self, h: float, tol: float, share: float = np.inf) -> bool:
        """Enlarge the space until h φ_1(h J) b is known to tol; False where it stays too small.

        With a `share` the last coefficients are also that small beside the first: near a rest the
        whole step is smaller than `tol`, but it has to lead there.
        """
        while not self.complete:
            m = len(self.diagonal)
            if m >= 2 and (m % EVERY == 0 or m == self.most):
                y = np.abs(self._coefficients(lambda x: h * phi_functions(h * x)[0]))
                last = float(y[-1] * self._seen(m - 1) + y[-2] * self._seen(m - 2))
                if last <= tol and last <= share * float(y[0]) * self._seen(0):
                    return True
            if m == self.most:
                return False
            self.extend()
        return True


@dataclass
class Orbit:
    """Everything a step needs that does not depend on its length."""

    data: Observed
    z: np.ndarray
    frame: Frame
    memory: Memory
    n_gradients: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        dims, offsets = self.frame.dims, self.frame.offsets
        self.point = Point(self.data, self.z, dims, offsets)
        self.sizes = self.frame.sizes(self.z)
        self.speeds = self.frame.sizes(self.point.F)
        self.floor = self.frame.dust(self.sizes)
        self.weights, self.fastest = self.frame.weights(self.sizes, self.speeds)
        self._linear: Space | None = None

    @property
    def few(self) -> bool:
        return int(max(self.frame.dims[1:-1])) <= FEW

    @cached_property
    def size(self) -> float:
        """That of W."""
        L, R = self.point.lefts[-1], self.point.layers[-1]
        return float(np.sqrt(max(np.sum((L.T @ L) * (R @ R.T)), 0.0)))

    def noise(self, curvature: float) -> float:
        """One rounding of the terms that the slope of a column of size one is the sum of."""
        size = norm_of(self.point.G) + curvature * self.size
        norms = sorted(float(np.linalg.norm(layer)) for layer in self.point.layers)
        return float(EPS * np.sqrt(len(self.z)) * size * np.prod(norms[2:]))

    def _slope(self, z: np.ndarray) -> np.ndarray:
        self.n_gradients += 1
        return slope_of(self.data, z, self.frame.dims, self.frame.offsets)

    def _product(self, v: np.ndarray) -> np.ndarray:
        self.n_gradients += 1
        return self.point.product(v)

    def radius(self) -> float:
        """The largest modulus of an eigenvalue of the Jacobian."""
        memory = self.memory
        cold = memory.vector is None or memory.vector.size != self.z.size
        if cold:
            memory.vector = np.random.default_rng(0).standard_normal(self.z.size)
        elif memory.age % RENEW:
            memory.age += 1
            return memory.radius
        memory.age = 1
        assert memory.vector is not None
        space = Space(self._product, memory.vector, lambda v: 1.0, COLD if cold else WARM)
        while not space.complete and len(space.diagonal) < space.most:
            space.extend()
        largest, memory.vector = space.largest()
        memory.radius = MARGIN * largest
        return memory.radius

    def plan(self, h: float, tol: float) -> tuple[Taken, float]:
        """The method for a step of that length, and the length that it should have."""
        rho = self.radius()
        if h * rho <= EXPLICIT:
            return Taken("explicit", rho, tol), h
        rough = tol >= ROUGH
        farthest = METHODS[-1].reach if rough else WORTH
        if h * rho < farthest or (self.memory.patience > 0 and not self.few):
            if not rough:
                return Taken("explicit", rho, tol), min(h, EXPLICIT / rho)
            h = min(h, farthest / rho)
            return Taken("stabilised", rho, tol, method_for(h * rho)), h
        if self.few:
            return Taken("exponential", 0.0, tol), h
        return Taken("chebyshev", rho, tol), min(h, longest_chebyshev(rho))

    def failed(self, taken: Taken) -> None:
        if taken.method == "chebyshev":
            self.memory.patience = self.memory.pause
            self.memory.pause = min(2 * self.memory.pause, MOST_PATIENT)

    def succeeded(self, taken: Taken) -> None:
        if taken.method == "chebyshev":
            self.memory.pause = PATIENCE
        else:
            self.memory.patience -= 1

    @staticmethod
    def order(taken: Taken) -> int:
        """By what power of its length the error of a step is taken to grow."""
        return {"exponential": 4, "explicit": 5, "stabilised": 4, "chebyshev": 3}[taken.method]

    def step(
        self, h: float, taken: Taken, *, anyway: bool = False
    ) -> tuple[list[np.ndarray], float]:
        """z at the end, after what the method knows in between; and the error.

        With `anyway` a step is finished that was accepted once with another length.
        """
        with np.errstate(all="ignore"):
            if taken.method == "exponential":
                return self._exponential(h, taken.tol, anyway)
            F = self.point.F
            if taken.method == "explicit":
                new, gap = dormand_prince(self._slope, self.z, F, h)
            elif taken.method == "stabilised":
                new, gap = stabilised(self._slope, self.z, F, h, METHODS[taken.stages])
            else:
                new, gap = chebyshev(self._slope, self.z, F, h, taken.rho)
            return [new], self._error(gap, new)

    def _error(self, gap: np.ndarray, new: np.ndarray) -> float:
        after = self.frame.sizes(new)
        if not np.all(np.isfinite(after)):  # squares of numbers that are finite may not be
            return np.inf
        seen = np.maximum(self.sizes, after) > np.maximum(self.floor, self.frame.dust(after))
        if not np.all(after[seen] <= LARGEST_GROWTH * np.maximum(self.sizes, self.floor)[seen]):
            return np.inf
        larger = np.where(seen, np.maximum(self.sizes, after), 1.0)
        errors = np.where(seen, self.weights * self.frame.sizes(gap) / larger, 0.0)
        error = float(errors.max(initial=0.0))
        return error if np.isfinite(error) else np.inf

    def _share(self, v: np.ndarray) -> float:
        seen = self.sizes > self.floor
        shares = self.weights * self.frame.sizes(v)
        return float((shares[seen] / self.sizes[seen]).max(initial=0.0))

    def _space(self, b: np.ndarray) -> Space:
        return Space(self._product, b, self._share, MOST)

    def _nonlinear(self, shift: np.ndarray) -> np.ndarray:
        return self._slope(self.z + shift) - self.point.F - self._product(shift)

    def _exponential(self, h: float, tol: float, anyway: bool) -> tuple[list[np.ndarray], float]:
        if self._linear is None:
            self._linear = self._space(self.point.F)
        linear = self._linear
        if not linear.knows(h, KNOWN * tol, SHARE) and not anyway:
            return [], 20 * tol

        def at(x: np.ndarray, theta: float) -> np.ndarray:
            return phi_functions(h * theta * x)

        shift = linear.apply(lambda x: second_stage(h, at(x, C2)))
        bent = self._nonlinear(shift)
        if not np.all(np.isfinite(bent)):
            return [], np.inf
        second = self._space(bent)
        second.knows(h, KNOWN * tol)
        shift = linear.apply(lambda x: third_stage(h, at(x, C2), at(x, C3))[0])
        shift = shift + second.apply(lambda x: third_stage(h, at(x, C2), at(x, C3))[1])
        bent = self._nonlinear(shift)
        if not np.all(np.isfinite(bent)):
            return [], np.inf
        third = self._space(bent)
        third.knows(h, KNOWN * tol)
        nodes = np.array([*GAUSS, 1.0])

        def weights(x: np.ndarray, of: int) -> np.ndarray:
            phi = phi_functions(h * nodes[:, None] * x)
            return inside(h, nodes[:, None], phi)[of]

        path = linear.apply(lambda x: weights(x, 0)) + second.apply(lambda x: weights(x, 1))
        path += third.apply(lambda x: weights(x, 2))
        gap = second.apply(lambda x: difference(h, at(x, 1.0))[0])
        gap = OVERESTIMATE * (gap + third.apply(lambda x: difference(h, at(x, 1.0))[1]))
        found = [self.z + part for part in path]
        return found, self._error(gap, found[-1])
