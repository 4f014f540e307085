"""Follow one component through all its saddles: step control, and when to stop."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from operator import attrgetter
from typing import Literal, Protocol

import numpy as np
from scipy.sparse.linalg import svds

from mfbook.flow import trajectory
from mfbook.flow.shallow.dense import Columns, DenseStepper, regraded
from mfbook.flow.shallow.field import CompletionField, Field, SensingField
from mfbook.flow.shallow.gauge import EPS, LOOSE, graded, normalised, time_to_reach
from mfbook.flow.shallow.large import LargeStepper, Memory, Record
from mfbook.flow.shallow.sectors import Reduced, apart, in_basis, in_sectors, invariant_basis
from mfbook.flow.unbounded import creeps, far_beyond, grows_on
from mfbook.problems.fit import ROUNDING

# W feels a column when its square exceeds this times rtol, as a fraction of the data's scale.
# Leaving out a smaller one changes W, and through it the growth of the others, by less than 1e-8
# rtol of the data; a much smaller threshold would let the rounding of the large active columns
# (1e-16) reach the small ones (1e-7 at rtol = 1e-6, so 1e-9 of their size).
FELT = 1e-8

# The large method is used near rtol = 1e-4. A column whose square is a share s of the data's scale
# changes W by s and the log-size of an escaping neighbour by about s, so that 1e-4 rtol may be left
# out. On 100×100, 2,000 entries, from 10^-100 (rtol = 1e-4) the error of W stays at 1.4 rtol from
# 1e-8 to 1e-3, and the steps fall from 240 to 235 and, with exponential steps, from 145 to 112.
FELT_LARGE = 1e-4

SHRINK, SAFETY = 0.1, 0.9

# Exact exponentials need eigenvectors of a matrix of order p × (active columns) a step: 20 ms at
# 300 on one core, against a few hundred cheap products. Beyond that `large` steps.
DENSE_P, DENSE_UNKNOWNS = 80, 320

# With many columns, making them orthogonal takes as long as some steps; they may first separate by
# e^11, which costs five of sixteen digits.
LEAN = 11.0

# Growth rates below this fraction of the largest at zero are rounding, not growth.
RATE_FLOOR = 1e-13

# Residuals down to this share of the size of W, of before its terms cancel, may still fall along a
# slow direction, while what is left of the speed is the rounding of fast ones: from starts of 10^5
# times the data, say. So much of a residual is no evidence of a critical point.
DROWNING = 1e-11

# A shaken run perturbs every entry of the columns by this share of it after every step on its way:
# what a computer may do to numbers without being wrong about any of them. So an entry that is tiny
# or zero because no observation couples it stays so.
SHAKE = 1e-13


class Stepper(Protocol):
    """The next step from a state, of any length."""

    LOCAL: float  # the local error that may be, over rtol
    ORDER: int  # of the step in its estimated error
    GROW: float  # by how much the next step may be longer
    longest: float
    at_rest: bool
    loss: float
    F: np.ndarray
    Z: np.ndarray
    state: Columns

    @property
    def n_gradients(self) -> int: ...

    @property
    def norm(self) -> float: ...

    @property
    def S_eigen(self) -> tuple[np.ndarray, np.ndarray]: ...

    def rests_within(self, unit: float) -> bool: ...

    def step(self, h: float, tol: float = np.inf) -> tuple[Columns | None, float]: ...


@dataclass
class Path:
    """The states of one component at its own times, and why it stopped ('' while it runs)."""

    field: CompletionField | SensingField | Reduced
    states: list[Columns]
    losses: list[float]
    norms: list[float]
    records: list[Record | Literal["dense"] | None]
    log_active: float
    reason: str = ""
    n_steps: int = 0
    n_rejected: int = 0
    n_gradients: int = 0
    lean: float = 0.0
    method: str = "auto"
    shaker: np.random.Generator | None = None
    memory: Memory = dataclass_field(default_factory=Memory, repr=False)
    _last: tuple[int, Stepper] | None = dataclass_field(default=None, repr=False)

    def stepper(
        self, state: Columns, record: Record | Literal["dense"] | None = None
    ) -> DenseStepper | LargeStepper:
        """The method for the next step: exact exponentials while their matrices are small."""
        dense = False
        if record is None:
            small = self.field.p <= DENSE_P and self.field.p * state.active.sum() <= DENSE_UNKNOWNS
            exact = self.method == "dense" or self.field.basis is not None
            dense = exact or (self.method == "auto" and small)
        # A reduced field has a basis, so its records are dense too.
        if dense or isinstance(record, str) or isinstance(self.field, Reduced):
            return DenseStepper(self.field, state)
        return LargeStepper(self.field, state, self.memory, record)

    def append(self, new: Columns) -> None:
        """Take a step's result; the columns are made orthogonal again where they need it."""
        old = self.states[-1]
        small = self.field.p <= DENSE_P
        if small:
            loose = LOOSE
        else:
            self.lean += 2 * self.memory.sigma * (new.t - old.t)
            loose = LOOSE if self.lean > LEAN else np.inf
            self.lean = 0.0 if self.lean > LEAN else self.lean
        self.states.append(regraded(new, self.log_active, loose))

    def whole(self, X: np.ndarray) -> np.ndarray:
        """Columns in the part's own rows and columns."""
        return X if self.field.basis is None else self.field.basis @ X

    @property
    def t(self) -> float:
        return self.states[-1].t

    def columns_at(self, t: float) -> Columns:
        """The state at time t, by redoing the step that contains it with the length that is asked.

        From the end of the path on it is the last state.
        """
        k = max(bisect_right(self.states, t, key=attrgetter("t")) - 1, 0)
        h = min(t, self.t) - self.states[k].t
        if not h > 0:
            return self.states[k]
        if self._last is None or self._last[0] != k:
            self._last = k, self.stepper(self.states[k], self.records[k])
        columns, _ = self._last[1].step(h)
        assert columns is not None  # a step that was taken can be taken shorter
        return columns


def shaken(columns: Columns, shaker: np.random.Generator, rests: bool) -> Columns:
    """The columns perturbed; the active ones only on their way, and not where they rest.

    There the perturbation itself would be all that moves them, and for ever. What they have of
    directions that grow it has brought in before.
    """
    noise = SHAKE * shaker.standard_normal(columns.X.shape)
    if rests:
        noise[:, columns.active] = 0.0
    X, ell = normalised(columns.X * (1 + noise), columns.ell)
    return replace(columns, X=X, ell=ell)


def largest_rate(field: Field) -> float:
    """The growth rate at zero of the fastest direction, |∇f(0)| but for a subspace."""
    if field.basis is not None:
        return float(np.linalg.norm(field.S(field.residual(np.zeros((field.p, 1)))), 2))
    _, G = field.gradient(np.zeros((field.p, 1)))
    if isinstance(G, np.ndarray):
        return float(np.linalg.norm(G, 2))
    return float(svds(G, k=1, return_singular_vectors=False, random_state=0)[0])


def start(
    field: CompletionField | SensingField | Reduced,
    U0: np.ndarray,
    log_scale: float,
    rtol: float,
    shaker: np.random.Generator | None = None,
) -> Path:
    """The path's first state: the graded columns of exp(log_scale) · U0.

    A start in a subspace that the flow cannot leave is followed inside it, and sectors have columns
    of their own.
    """
    small = field.p <= DENSE_P
    if small and isinstance(field, SensingField):
        field = in_sectors(field)
    if field.blocks is None or field.basis is None:
        X, ell, V = graded(U0, log_scale)
    else:
        X, ell, V = apart(in_basis(field.basis, U0), field.blocks, log_scale)
    if small and 0 < X.shape[1] < field.p:
        E = invariant_basis(field, X)
        if E is not None:
            field, (X, ell) = Reduced(field, E), normalised(E.T @ X, ell)
    # The size of W at which the data are fitted: |∇f(0)| over the curvature of f.
    # It has none where nothing is measured.
    scale = largest_rate(field) / field.curvature if field.curvature > 0 else 0.0
    largest = float(np.exp(np.minimum(2 * ell.max(initial=-np.inf), 700.0)))
    if scale == 0.0:  # zero fits the data: what is felt is measured by the start itself
        scale = largest
    felt = FELT if field.p <= DENSE_P else FELT_LARGE
    log_active = 0.5 * np.log(felt * rtol * scale) if scale > 0 else np.inf
    state = Columns(0.0, X, ell, V, ell >= log_active)
    return Path(field, [state], [], [], [], log_active, shaker=shaker)


def follow(path: Path, *, rtol: float, t_max: float) -> Iterator[None]:
    """Extend the path step by step until its loss is rounding or it rests for ever; a generator.

    It yields after every accepted step and once at the start; the path's `reason` is set when it
    ends. Whoever drives it may stop at any time.
    """
    field = path.field
    rate_floor = RATE_FLOOR * largest_rate(field)
    loss_floor = ROUNDING * field.weight * np.sum(field.values**2)
    far = far_beyond(field.values)
    h = None
    while True:
        state = path.states[-1]
        stepper = path.stepper(state)
        tol = stepper.LOCAL * rtol
        path.n_gradients += stepper.n_gradients
        path.losses.append(stepper.loss)
        path.norms.append(stepper.norm)
        if path.losses[-1] <= loss_floor:
            path.reason = trajectory.LOSS_REACHED
        elif state.t >= t_max:
            path.reason = trajectory.TIME_LIMIT
        elif state.active.all() and _runs_away(path, far):
            path.reason = trajectory.UNBOUNDED
        yield
        if path.reason:
            return
        bound = np.inf
        if stepper.at_rest and stepper.by_series:
            if stepper.sigma > rate_floor:
                bound = stepper.time_to_reach(path.log_active + 1e-6)
        elif stepper.at_rest or isinstance(stepper, DenseStepper):
            bound = _time_to_reach(path, stepper, rate_floor)
            if isinstance(stepper, LargeStepper) and np.isfinite(bound):
                grows = np.isfinite(_time_to_reach(path, stepper, max(rate_floor, stepper.unrest)))
                if not grows and stepper.still:
                    bound = np.inf
                elif not grows:
                    stepper.move_on()
                    bound, h = np.inf, min(h or np.inf, stepper.longest)
        if stepper.at_rest:
            if not np.isfinite(bound):
                if stepper.loss <= _rounding(field, state.Z):
                    path.reason = trajectory.DROWNED
                else:
                    path.reason = trajectory.UNBOUNDED if _creeps(path) else trajectory.STUCK
                return
            h = bound
        elif h is None:
            speed = np.linalg.norm(stepper.F, axis=0) / np.linalg.norm(stepper.Z, axis=0)
            h = tol ** (1 / stepper.ORDER) / max(float(speed.max()), rate_floor, 1e-300)
        new, h, error = _accepted(
            path, stepper, min(h, bound, stepper.longest, t_max - state.t), tol
        )
        if new is None:
            path.reason = trajectory.STEP_TOO_SMALL
            return
        path.n_steps += 1
        if path.shaker is not None:
            new = shaken(new, path.shaker, stepper.rests_within(SHAKE))
        path.append(new)
        path.records.append(stepper.record)
        h *= min(stepper.GROW, SAFETY * (tol / max(error, 1e-300)) ** (1 / stepper.ORDER))


def _time_to_reach(path: Path, stepper: DenseStepper | LargeStepper, floor: float) -> float:
    """When W feels the next column, where S stays as it is and rates up to the floor are zero."""
    state = path.states[-1]
    rates, basis = stepper.S_eigen
    quiet = ~state.active
    return time_to_reach(
        np.ascontiguousarray(state.X[:, quiet]),
        state.ell[quiet],
        np.where(np.abs(rates) <= floor, 0.0, rates),
        basis,
        path.log_active + 1e-6,
    )


def _rounding(field: Field, Z: np.ndarray) -> float:
    """A loss that residuals of a W of this size may have where rounding hides how they fall."""
    size = np.abs(field.values).max(initial=0.0) + field.curvature * np.sum(Z**2)
    return field.weight * len(field.values) * (DROWNING * size) ** 2


def _runs_away(path: Path, far: float) -> bool:
    """Whether W is far beyond the data and has grown on while its time grew tenfold."""
    state = path.states[-1]
    size = np.sum(np.exp(2 * state.ell))
    if size <= far:
        return False
    before = bisect_right(path.states, state.t / 10, key=attrgetter("t")) - 1
    earlier = np.sum(np.exp(2 * path.states[before].ell))
    return grows_on(size, path.losses[-1], earlier, path.losses[before])


def _creeps(path: Path) -> bool:
    """Whether W grows on where rounding hides that it moves."""
    times = [state.t for state in path.states]
    return creeps(lambda t: float(np.sum(np.exp(2 * path.columns_at(t).ell))), times)


def _accepted(
    path: Path, stepper: Stepper, h: float, tol: float
) -> tuple[Columns | None, float, float]:
    """The first step, tried shorter and shorter, whose error is at most tol."""
    counted = stepper.n_gradients
    while h > 4 * EPS * stepper.state.t and h > 0:
        new, error = stepper.step(h, tol)
        path.n_gradients += stepper.n_gradients - counted
        counted = stepper.n_gradients
        overshot = False
        if new is not None and error <= tol:
            overshot = bool(np.any(new.ell[~new.active] > path.log_active + 3.0))
            if not overshot:
                return new, h, error
        path.n_rejected += 1
        if overshot or not np.isfinite(error):
            h *= 0.25
        else:
            h *= max(SHRINK, SAFETY * (tol / error) ** (1 / stepper.ORDER))
    return None, h, np.inf
