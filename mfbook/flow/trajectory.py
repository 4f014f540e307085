"""What a run returns: one frozen result, the same for gradient descent and gradient flow."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import numpy as np

LOSS_REACHED = "loss reached"
STEP_LIMIT = "step limit"
TIME_LIMIT = "time limit"
DIVERGED = "diverged"
STUCK = "stopped at a critical point that is not a global minimum"
DROWNED = "the loss is down to the rounding of W, and not to its tolerance"
UNBOUNDED = "W grows on, far beyond the data: no critical point in sight"
ROUNDING = "where it ends is decided by rounding: a symmetry of data and start hides a direction"
INTERRUPTED = "interrupted"
STEP_TOO_SMALL = "step size below rounding"


# Those of a part that has come to rest for good.
AT_REST = (LOSS_REACHED, STUCK, DROWNED)

#: What to do next, for each reason of a run that did not arrive.
ADVICE = {
    STEP_LIMIT: "it may arrive later: raise max_steps or max_iters, or ask for less with loss_tol",
    TIME_LIMIT: "it may arrive later: raise t_max",
    DIVERGED: "the step of descent exceeds 2 / (largest curvature): take a smaller lr",
    STUCK: "the start never leaves a set in which no better fit exists: take more hidden columns, "
    "or a start without its symmetry; escape_direction tells the way out of phases[-1]",
    INTERRUPTED: "run it again to go on; what there is may be read off",
    STEP_TOO_SMALL: "the error cannot be kept: ask for less with rtol, or take a start that is "
    "nearer in size to the data",
    DROWNED: "double precision holds no more: raise loss_tol, or take a smaller start",
    UNBOUNDED: "the end is none to quote: W_at(t) and loss tell how it grows",
    ROUNDING: "take a larger scale, perturb the data or the start, or use disconnected_limit or "
    "taylor_flow where they apply",
}


@dataclass(frozen=True, eq=False)
class Phase:
    """A saddle that a run approaches: where it rests, and how it leaves.

    `time` is when the gradient is smallest there, `W` the product at that time, `rank` its rank as
    far as it has been learned, `loss` its loss. `rate` is the growth rate of the escaping
    direction (per unit time) and `direction` the pair (u, v) of unit vectors along which W leaves,
    u vᵀ; both are None where the method does not compute them, and at the end point. `factors` are
    those of W, None where the method keeps only W.
    """

    time: float
    rank: int
    W: np.ndarray
    loss: float
    rate: float | None = None
    direction: tuple[np.ndarray, np.ndarray] | None = None
    factors: tuple[np.ndarray, ...] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """A path of W(t) = product of the factors, from its start to where it was stopped.

    For one run the shapes are as below. For a batch of runs (factors with leading axes) every
    field gains those axes: in front, or behind T where there is a T; `t` gains them only if the
    runs have different step sizes. A batch carries no `phases`: take one run, `trajectory[k]`.

    Attributes
    ----------
    t
        (T,) times of gradient flow (iterations times learning rate for gradient descent).
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
        True where the loss tolerance was reached.
    reason
        why the run stopped, in words; `advice` says what to do next.
    n_steps, n_gradients
        accepted steps, and evaluations of the gradient.
    log10_columns
        (T, k) decimal logarithms of the sizes of the hidden columns of [A; Bᵀ], in the
        hidden basis that makes them nearly orthogonal within each connected component (cosines
        up to 0.2, which is 0.01 in the logarithm), largest first; −inf for a column that is zero.
        None where the method does not keep them.
    """

    t: np.ndarray
    loss: np.ndarray
    gradient_norm: np.ndarray
    singular_values: np.ndarray
    W: np.ndarray
    factors: tuple[np.ndarray, ...]
    phases: tuple[Phase, ...]
    converged: bool | np.ndarray
    reason: str | np.ndarray
    n_steps: int | np.ndarray
    n_gradients: int | np.ndarray
    dense_output: Callable[[float], np.ndarray] = field(repr=False)
    dense_factors: Callable[[float], tuple[np.ndarray, ...]] | None = field(
        default=None, repr=False
    )
    log10_columns: np.ndarray | None = field(default=None, repr=False)

    @property
    def advice(self) -> str:
        """What to do next where the run did not arrive; empty where it did.

        Raises ValueError for a batch: take one run, `trajectory[k].advice`.
        """
        if not isinstance(self.reason, str):
            raise ValueError("a batch has a reason for each of its runs; take one, trajectory[k]")
        return ADVICE.get(self.reason, "")

    def W_at(self, t: float) -> np.ndarray:
        """W at time t, for t between the first and the last time of the run."""
        self._require_time(t)
        return self.dense_output(t)

    def factors_at(self, t: float) -> tuple[np.ndarray, ...]:
        """The factors at time t; known where the method keeps them (`gradient_flow` does)."""
        if self.dense_factors is None:
            raise ValueError("this run kept W along its path, but not its factors; use W_at(t)")
        self._require_time(t)
        return self.dense_factors(t)

    def _require_time(self, t: float) -> None:
        first, last = float(np.min(self.t)), float(np.max(self.t))
        if not first <= t <= last:
            raise ValueError(f"t must lie in [{first:g}, {last:g}], but is {t:g}")

    def __getitem__(self, run: SupportsIndex | tuple[SupportsIndex, ...]) -> Trajectory:
        """One run of a batch, with its phases; `run` is an index into all the leading axes.

        That is an integer, or a tuple of one integer an axis. Raises TypeError for slices and
        whatever else is no integer, IndexError for an index that is out of range.
        """
        index = self._index(run if isinstance(run, tuple) else (run,))
        if not index:  # no axes: this is the one run
            return self
        path: tuple[Any, ...] = slice(None), *index
        # A run that stopped before the last of its batch repeats its end point from there on.
        moving = np.flatnonzero(np.diff(self.loss[path]))
        length = moving[-1] + 2 if moving.size else 1
        t = self.t if self.t.ndim == 1 else self.t[path]
        series = {
            name: getattr(self, name)[path][:length]
            for name in ("loss", "gradient_norm", "singular_values")
        }
        series["t"] = t[:length]

        dense_output = _OneOf(self.dense_output, index)
        return replace(
            self,
            **series,
            W=self.W[index],
            factors=tuple(factor[index] for factor in self.factors),
            phases=resting_phases(**series, W_at=dense_output),
            converged=bool(np.asarray(self.converged)[index]),
            reason=str(np.asarray(self.reason)[index]),
            n_steps=int(np.asarray(self.n_steps)[index]),
            n_gradients=int(np.asarray(self.n_gradients)[index]),
            dense_output=dense_output,
        )

    def _index(self, run: tuple[Any, ...]) -> tuple[int, ...]:
        axes = np.shape(self.converged)
        if len(run) != len(axes):
            raise IndexError(
                f"this trajectory has {len(axes)} leading axes, but the index has "
                f"{len(run)}; give one number an axis"
            )
        for k, size in zip(run, axes, strict=True):
            if isinstance(k, bool | np.bool_) or not hasattr(k, "__index__"):
                raise TypeError(
                    f"an index of a trajectory must be an integer, but is {k!r}; take one run at "
                    "a time, [trajectory[k] for k in range(…)]"
                )
            if not -size <= operator.index(k) < size:
                raise IndexError(f"an index must be below {size}, the number of runs, but is {k}")
        return tuple(map(operator.index, run))

    def __repr__(self) -> str:
        if np.ndim(self.converged):
            converged = int(np.sum(self.converged))
            return f"Trajectory(<{np.size(self.converged)} runs, {converged} converged>)"
        return (
            f"Trajectory({self.reason}, loss {self.loss[-1]:.1e}, t = {self.t[-1]:.4g}, "
            f"{self.n_steps} steps, {len(self.phases)} phases)"
        )


@dataclass(frozen=True, eq=False)
class _OneOf:
    """The dense output of one run of a batch; a class, so that it can be pickled."""

    batch: Callable[[float], np.ndarray]
    run: tuple[int, ...]

    def __call__(self, t: float) -> np.ndarray:
        return self.batch(t)[self.run]


def resting_times(gradient_norm: np.ndarray, prominence: float = 10.0) -> list[int]:
    """Indices at which a run rests: minima of the gradient norm, and the last index.

    A minimum counts if the norm rises by the factor `prominence` on both sides of it; the start
    counts if the norm rises by that factor after it, because a run from a tiny initialization
    starts next to the saddle at zero.

    >>> resting_times(np.array([1e-6, 1.0, 1e-3, 0.5, 0.4, 0.5, 1e-9]))
    [0, 2, 6]
    """
    log = np.log(np.maximum(gradient_norm, np.finfo(float).tiny))
    threshold = np.log(prominence)
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


def resting_phases(
    t: np.ndarray,
    loss: np.ndarray,
    gradient_norm: np.ndarray,
    singular_values: np.ndarray,
    W_at: Callable[[float], np.ndarray],
) -> tuple[Phase, ...]:
    """The phases of one run, read off its recorded path: where `resting_times` finds rests.

    The rank at a rest counts singular values above a thousandth of the largest that the run
    reaches: what has not grown yet is far below that, what has been learned far above.
    """
    ranks = (singular_values > 1e-3 * singular_values.max()).sum(axis=-1)
    return tuple(
        Phase(float(t[k]), int(ranks[k]), W_at(float(t[k])), float(loss[k]))
        for k in resting_times(gradient_norm)
    )
