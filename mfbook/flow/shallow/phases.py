"""The saddles that a run visits: where its gradient is smallest, and how it leaves."""

from __future__ import annotations

import numpy as np

from mfbook.flow.shallow.composite import Composite
from mfbook.flow.shallow.dense import Columns
from mfbook.flow.shallow.gauge import time_to_reach
from mfbook.flow.shallow.kernel import eigh
from mfbook.flow.trajectory import Phase, resting_times

# Rates and directions of escape are computed up to this many rows and columns of a part.
LARGEST_EIGENPROBLEM = 600

Escape = tuple[float, tuple[np.ndarray, np.ndarray]]


def phases_of(
    run: Composite, times: np.ndarray, norm: np.ndarray, values: np.ndarray
) -> tuple[Phase, ...]:
    """Where the gradient is smallest between two rises, found to better than a step.

    `times` are the engine's, `norm` and `values` the gradient norms and singular values there.
    """
    known = 1e-3 * values.max()
    rests = resting_times(norm)
    phases = []
    for k in rests:
        t = float(times[k])
        if 0 < k < len(times) - 1:
            t = _quietest(run, times[k - 1], times[k + 1], t)
        columns = run.at(t)
        rank = int((run.singular_values(columns) > known).sum())
        rate, direction = (None, None) if k == rests[-1] else _escape(run, columns)
        phases.append(
            Phase(
                time=float(run.time(t)),
                rank=rank,
                W=run.W(columns),
                loss=run.loss(columns),
                rate=rate,
                direction=direction,
                factors=run.factors(columns),
            )
        )
    return tuple(phases)


def _quietest(run: Composite, low: float, high: float, at: float) -> float:
    from scipy.optimize import minimize_scalar  # takes longer to import than all the rest

    def log_norm(t: float) -> float:
        return np.log(max(run.gradient_norm(run.at(t)), 1e-308))

    found = minimize_scalar(
        log_norm,
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-3 * (high - low), "maxiter": 25},
    )
    return float(found.x) if found.fun < log_norm(at) else at


def _escape(run: Composite, columns: list[Columns]) -> Escape | tuple[None, None]:
    """Rate and direction of the part that a column leaves first."""
    first = np.inf
    best: Escape | tuple[None, None] = (None, None)
    for part, path, column in zip(run.parts, run.paths, columns, strict=True):
        field = path.field
        if field.p > LARGEST_EIGENPROBLEM:
            continue
        S = field.S(field.residual(column.Z))
        rates, basis = eigh(S, field.arrays.label)
        quiet = ~column.active
        X = np.ascontiguousarray(column.X[:, quiet])
        wait = time_to_reach(X, column.ell[quiet], rates, basis, path.log_active)
        if rates[-1] > 0 and (wait < first or best[0] is None):
            top = path.whole(basis[:, -1:])[:, 0]
            u, v = np.zeros(run.problem.shape[0]), np.zeros(run.problem.shape[1])
            u[part.rows], v[part.cols] = top[field.stack.left], top[field.stack.right]
            sign = np.sign(u[np.argmax(np.abs(u))])
            rate = float(run.units.rate * rates[-1])
            first = wait
            best = rate, (sign * u / np.linalg.norm(u), sign * v / np.linalg.norm(v))
    return best
