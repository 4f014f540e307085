"""What a run returns: one frozen result, the same for gradient descent and gradient flow."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, SupportsIndex

import numpy as np

from mfbook.problems.checks import real_number, whole_number
from mfbook.problems.text import Printable

LOSS_REACHED = "loss reached"
# For U Uᵀ, where no matrix that is positive semidefinite fits any better (Li, Luo & Lyu 2021,
# Lemma A.2).
LEAST_REACHED = "least loss over the cone W ⪰ 0 reached: λ₁(−∇f(W)) ≤ 0 to within the tolerance"
STEP_LIMIT = "step limit"
TIME_LIMIT = "time limit"
DIVERGED = "diverged"
STUCK = "stopped at a critical point that is not a global minimum"
DROWNED = "the loss is down to the rounding of W, and not to its tolerance"
UNBOUNDED = "W grows on, far beyond the data: no critical point in sight"
ROUNDING = "where it ends is decided by rounding: a symmetry of data and start hides a direction"
CROSSED = "the determinant of a layer or of W has changed its sign, which the exact flow keeps"
LOST_PART = "rounding decides between components: a new hidden column has too little of one of them"
INTERRUPTED = "interrupted"
STEP_TOO_SMALL = "step size below rounding"
TOO_LARGE = "large layers would be left with rounding alone of a component that has more to learn"


# Those of a run that converged.
ARRIVED = (LOSS_REACHED, LEAST_REACHED)

# Those of a part that has come to rest for good.
AT_REST = (LOSS_REACHED, STUCK, DROWNED)

#: What to do next, for each reason of a run that does not fit the data.
ADVICE = {
    LEAST_REACHED: "no U Uᵀ fits better; W = A B may, from a MatrixCompletion or MatrixSensing of "
    "the same data",
    STEP_LIMIT: "it may arrive later: raise max_steps or max_iters, or ask for less with loss_tol",
    TIME_LIMIT: "it may arrive later: raise t_max",
    DIVERGED: "the step of descent exceeds 2 / (largest curvature): take a smaller lr",
    STUCK: "the start never leaves a set in which no better fit exists: take more hidden columns, "
    "or a start without its symmetry; escape_direction tells the way out of phases[-1]",
    INTERRUPTED: "run it again to go on; what there is may be read off",
    STEP_TOO_SMALL: "the error cannot be kept: ask for less with rtol, or take a start that is "
    "nearer in size to the data",
    TOO_LARGE: "take a larger scale, or layers of fewer than 1,000 entries, which keep such parts "
    "as logarithms; or complete the components one by one",
    DROWNED: "double precision holds no more: raise loss_tol, or take a smaller start",
    UNBOUNDED: "the end is none to quote: W_at(t) and loss tell how it grows",
    LOST_PART: "the observed entries are fitted; for what is learned between components take a "
    "larger scale, such as 1e-10",
    CROSSED: "W_at(t) is right while the smallest singular value is above its rounding; the exact "
    "flow goes on from there without the crossing: ask for a shorter t_max, or use taylor_flow",
    ROUNDING: "take a larger scale, perturb the data or the start, or use disconnected_limit or "
    "taylor_flow where they apply",
}


@dataclass(frozen=True, eq=False)
class Phase:
    """A saddle that a run approaches: where it rests, and how it leaves.

    Attributes
    ----------
    time
        when the gradient is smallest there.
    rank
        the rank of W, as far as it has been learned.
    W
        (m, n), the product at that time.
    loss
        its loss.
    rate
        the growth rate of the escaping column of the factors, per unit time; W grows at twice that.
        None where the method does not compute it, and at the end point.
    direction
        the pair (u, v) of unit vectors, of lengths m and n, along which W leaves, u vᵀ; None as
        `rate` is.
    factors
        those of W; None where the method keeps only W.
    log10_time
        log₁₀ of `time`, finite where `time` is inf because it is beyond 1e308, and −inf at 0.
    log10_arrival
        log₁₀ of the time at which the loss is half-way between those of the phase before and of
        this one: the middle of the step that leads here, from which `Trajectory.W_at(t, phase=k)`
        counts. None for the first phase, which a run starts in, and where the method does not
        compute it.

    Examples
    --------
    >>> import mfbook as mf
    >>> problem = mf.MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> run = mf.gradient_flow(problem, (np.eye(2), np.eye(2)), log10_scale=-6)
    >>> zero = run.phases[0]
    >>> zero.rank, round(zero.rate, 6), np.outer(*zero.direction).round(6).tolist()
    (0, 2.0, [[1.0, 0.0], [0.0, 0.0]])
    """

    time: float
    rank: int
    W: np.ndarray
    loss: float
    rate: float | None = None
    direction: tuple[np.ndarray, np.ndarray] | None = None
    factors: tuple[np.ndarray, ...] | None = None
    log10_time: float = np.nan
    log10_arrival: float | None = None

    def __post_init__(self) -> None:
        if np.isnan(self.log10_time):
            log = float(np.log10(self.time)) if self.time > 0 else -np.inf
            object.__setattr__(self, "log10_time", log)


class Readings(Protocol):
    """What a method computes of a run only when it is asked, each given the trajectory."""

    def singular_values(self, trajectory: Trajectory) -> np.ndarray: ...

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]: ...

    def log10_columns(self, trajectory: Trajectory) -> np.ndarray | None: ...

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        """One run of a batch, or the one run there is where there are no axes."""


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Printable):
    """A path of W(t) = product of the factors, from its start to where it was stopped.

    For one run the shapes are as below. For a batch of runs (factors with leading axes) every
    field gains those axes: in front, or behind T where there is a T; `t` gains them unless all
    runs have the same times. A batch carries no `phases`: take one run, `trajectory[k]`.

    Attributes
    ----------
    t
        (T,) times of gradient flow (iterations times learning rate for gradient descent). With
        three factors or more they grow like α^−(N−2), and are inf beyond 1e308: there the phases
        have `log10_time`, and each a clock of its own, see `W_at`.
    loss
        (T,) the loss at those times.
    gradient_norm
        (T,) Frobenius norm of the gradient with respect to all factors.
    singular_values
        (T, min(m, n)) singular values of W, largest first.
    W
        (m, n) the end point.
    factors
        the factors of the end point, in product order.
    phases
        the saddles visited and the end point, in order (see `Phase`).
    converged
        True where the loss tolerance was reached; for U Uᵀ also where the loss is the least that a
        positive semidefinite W can have, which the reason says.
    reason
        why the run stopped, in words; `advice` says what to do next.
    n_steps, n_gradients
        accepted steps, and evaluations of the gradient.
    log10_columns
        (T, k) decimal logarithms of the sizes of the hidden columns of [A; Bᵀ], in the
        hidden basis that makes them nearly orthogonal within each connected component (cosines
        up to 0.2, which is 0.01 in the logarithm), largest first; −inf for a column that is zero.
        None where the method does not keep them.

    Examples
    --------
    >>> import mfbook as mf
    >>> problem = mf.MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> run = mf.gradient_flow(problem, (np.eye(2), np.eye(2)), log10_scale=-6)
    >>> [(phase.rank, phase.W.round(2).tolist()) for phase in run.phases[1:]]
    [(1, [[2.0, 0.0], [0.0, 0.0]]), (2, [[2.0, 0.0], [0.0, 1.0]])]
    >>> run.W_at(10.0).round(2).tolist(), run.W.round(2).tolist()  # on a plateau, and at the end
    ([[2.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]])
    """

    t: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray
    W: np.ndarray
    factors: tuple[np.ndarray, ...]
    converged: bool | np.ndarray
    reason: str | np.ndarray
    n_steps: int | np.ndarray
    n_gradients: int | np.ndarray
    dense_output: Callable[[float], np.ndarray] = field(repr=False)
    dense_factors: Callable[[float], tuple[np.ndarray, ...]] | None = field(
        default=None, repr=False
    )
    readings: Readings = field(kw_only=True, repr=False)
    dense_phase: Callable[[int, float], np.ndarray] | None = field(
        default=None, kw_only=True, repr=False
    )

    @cached_property
    def singular_values(self) -> np.ndarray:
        return self.readings.singular_values(self)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        return self.readings.phases(self)

    @cached_property
    def log10_columns(self) -> np.ndarray | None:
        return self.readings.log10_columns(self)

    @property
    def advice(self) -> str:
        """What to do next where the run does not fit the data; empty where it does.

        Raises ValueError for a batch: take one run, `trajectory[k].advice`.
        """
        if not isinstance(self.reason, str):
            raise ValueError("a batch has a reason for each of its runs; take one, trajectory[k]")
        return ADVICE.get(self.reason, "")

    def W_at(self, t: float, *, phase: int | None = None) -> np.ndarray:
        """W at time t, for t between the first and the last time of the run.

        With three factors or more a plateau may last for 10^10000, and what happens at its end
        takes a time of order one. So `phase=k` looks at the step from phase k − 1 to phase k by a
        clock of its own: t is then counted from the middle of that step, where the loss is half-way
        between the two, and may be negative. For k = 0 it is counted from the start.

        Raises TypeError for a time that is not one number, or a phase that is no integer, and
        ValueError for times out of range, a phase that is not there, and a phase of a method that
        keeps one clock alone.
        """
        if phase is not None:
            return self._W_in(phase, t)
        return self.dense_output(self._time(t))

    def _W_in(self, phase: int, t: float) -> np.ndarray:
        if self.dense_phase is None:
            raise ValueError("this run has one clock for all its phases; use W_at(t)")
        phase = whole_number("phase", phase, least=0, most=len(self.phases) - 1)
        t = _one_time(t)
        if not np.isfinite(t):
            raise ValueError(f"t must be finite, counted from the middle of a step, but is {t}")
        return self.dense_phase(phase, t)

    def factors_at(self, t: float) -> tuple[np.ndarray, ...]:
        """The factors at time t; known where the method keeps them (`gradient_flow` does).

        Raises as `W_at` does, and ValueError where the method does not keep them.
        """
        if self.dense_factors is None:
            raise ValueError("this run kept W along its path, but not its factors; use W_at(t)")
        return self.dense_factors(self._time(t))

    def _time(self, t: float) -> float:
        """`t` as a float, a time of this run, or what is wrong with it."""
        t = _one_time(t)
        first, last = float(np.min(self.t)), float(np.max(self.t))
        if not first <= t <= last:
            raise ValueError(
                f"t must lie in [{first:g}, {last:g}], but is {t:g}: the run was followed there "
                "alone; it goes further with a smaller loss_tol, or larger limits"
            )
        if not np.isfinite(t):
            raise ValueError(
                "t must be finite, but is inf, where the times of this run are beyond 1e308; look "
                "into a phase with W_at(t, phase=k)"
            )
        return t

    def __getitem__(self, run: SupportsIndex | tuple[SupportsIndex, ...]) -> Trajectory:
        """One run of a batch, with its phases; `run` is an index into all the leading axes.

        That is an integer, or a tuple of one integer an axis. Raises TypeError for slices and
        whatever else is no integer, IndexError for an index that is out of range.
        """
        return self.readings.one_of(self, self._index(run if isinstance(run, tuple) else (run,)))

    def _index(self, run: tuple[Any, ...]) -> tuple[int, ...]:
        axes = np.shape(self.converged)
        if len(run) != len(axes):
            raise IndexError(
                f"this trajectory has {len(axes)} leading axes, but the index has "
                f"{len(run)}; give one number an axis"
            )
        for k, size in zip(run, axes, strict=True):
            if isinstance(k, bool | np.bool_) or np.ndim(k) or not hasattr(k, "__index__"):
                raise TypeError(
                    f"an index of a trajectory must be an integer, but is {k!r}; take one run at "
                    "a time, [trajectory[k] for k in range(…)]"
                )
            if not -size <= operator.index(k) < size:
                raise IndexError(
                    f"an index must be from {-size} to {size - 1}, as there are {size} runs along "
                    f"its axis, but is {k}"
                )
        return tuple(map(operator.index, run))

    @property
    def _end(self) -> str:
        if np.isfinite(self.t[-1]):
            return f"{self.t[-1]:.4g}"
        return f"10^{self.phases[-1].log10_time:.2f}"

    def __repr__(self) -> str:
        if np.ndim(self.converged):
            converged = int(np.sum(self.converged))
            return f"Trajectory(<{np.size(self.converged)} runs, {converged} converged>)"
        return (
            f"Trajectory({self.reason}, loss {self.loss[-1]:.1e}, t = {self._end}, "
            f"{self.n_steps} steps, {len(self.phases)} phases)"
        )


def _one_time(t: float) -> float:
    if np.ndim(t):
        raise TypeError(
            f"t must be one time, but is a {type(t).__name__}; take them one by one, "
            "[trajectory.W_at(t) for t in times]"
        )
    return real_number("t", t, infinite=True)


def batch_of(runs: np.ndarray) -> Trajectory:
    """A batch from an array of trajectories, each repeating its end point once it has stopped."""
    first = runs.flat[0]
    count = max(len(run.t) for run in runs.flat)

    def series(name: str) -> np.ndarray:
        """(T, …) → (T, *axes, …)."""
        arrays = [_prolonged(getattr(run, name), count) for run in runs.flat]
        stacked = np.stack(arrays, axis=1)
        return stacked.reshape(count, *runs.shape, *stacked.shape[2:])

    def each(name: str, dtype: type | None = None) -> np.ndarray:
        return np.array([getattr(run, name) for run in runs.flat], dtype=dtype).reshape(runs.shape)

    return Trajectory(
        t=series("t"),
        loss=series("loss"),
        gradient_norm=series("gradient_norm"),
        W=np.stack([run.W for run in runs.flat]).reshape(*runs.shape, *first.W.shape),
        factors=tuple(
            np.stack([run.factors[k] for run in runs.flat]).reshape(*runs.shape, *factor.shape)
            for k, factor in enumerate(first.factors)
        ),
        converged=each("converged"),
        reason=each("reason", object),
        n_steps=each("n_steps"),
        n_gradients=each("n_gradients"),
        dense_output=_AllOf(runs, "W_at"),
        dense_factors=_AllOf(runs, "factors_at"),
        readings=_Runs(runs, count),
    )


def _prolonged(array: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)])


@dataclass(frozen=True, eq=False)
class _AllOf:
    """A dense output of all runs at one time, each at its end from there on."""

    runs: np.ndarray
    name: str

    def __call__(self, t: float) -> Any:
        found = [getattr(run, self.name)(min(t, run.t[-1])) for run in self.runs.flat]
        if self.name == "W_at":
            return np.stack(found).reshape(*self.runs.shape, *found[0].shape)
        return tuple(
            np.stack(factors).reshape(*self.runs.shape, *factors[0].shape)
            for factors in zip(*found, strict=True)
        )


@dataclass(frozen=True, eq=False)
class _Runs:
    """The readings of a batch that consists of trajectories."""

    runs: np.ndarray
    count: int

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        arrays = [_prolonged(run.singular_values, self.count) for run in self.runs.flat]
        stacked = np.stack(arrays, axis=1)
        return stacked.reshape(self.count, *self.runs.shape, stacked.shape[-1])

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        return ()

    def log10_columns(self, trajectory: Trajectory) -> None:
        return None

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return self.runs[run]


def resting_times(gradient_norm: np.ndarray) -> list[int]:
    """Indices at which a run rests: minima of the gradient norm, and the last index.

    A minimum counts if the norm rises tenfold on both sides of it; the start counts if the norm
    rises tenfold after it, because a run from a tiny initialization starts next to the saddle at
    zero.

    >>> resting_times(np.array([1e-6, 1.0, 1e-3, 0.5, 0.4, 0.5, 1e-9]))
    [0, 2, 6]
    """
    log = np.log(np.maximum(gradient_norm, np.finfo(float).tiny))
    threshold = np.log(10.0)
    rests: list[int] = []
    low, high, at = log[0], -np.inf, 0
    falling = True
    for k in range(1, len(log)):
        if falling:
            if log[k] < low:
                low, at = log[k], k
            elif log[k] > low + threshold:
                rests.append(at)
                falling, high = False, log[k]
        else:
            high = max(high, log[k])
            if log[k] < high - threshold:
                falling, low, at = True, log[k], k
    return [*rests, len(log) - 1]


def resting_phases(run: Trajectory) -> tuple[Phase, ...]:
    """The phases of one run, read off its recorded path: where `resting_times` finds rests.

    The rank at a rest counts singular values above a thousandth of the largest that the run
    reaches: what has not grown yet is far below that, what has been learned far above.
    """
    ranks = (run.singular_values > 1e-3 * run.singular_values.max()).sum(axis=-1)
    return tuple(
        Phase(float(run.t[k]), int(ranks[k]), run.W_at(float(run.t[k])), float(run.loss[k]))
        for k in resting_times(run.gradient_norm)
    )
