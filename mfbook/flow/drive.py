"""Follow one component through all its saddles: step control, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, field as dataclass_field

import numpy as np

from mfbook import trajectory
from mfbook.flow.dense import Columns, DenseStepper, regraded
from mfbook.flow.gauge import EPS, LOOSE, graded, time_to_reach

# W feels a column when its square exceeds this fraction of the data's scale. Leaving out a
# smaller one changes W, and through it the growth of the others, by less than 1e-14 of the data;
# a larger threshold shows in the results, a much smaller one lets rounding of the large active
# columns (1e-16) reach the small ones (1e-7 here, so 1e-9 of their size).
FELT = 1e-14

# Step control works on this fraction of rtol, so that the error of a whole run stays below
# 10 rtol; see tests/package/test_flow_reference.py for what is measured.
LOCAL = 0.1

SHRINK, GROW, SAFETY = 0.1, 8.0, 0.9


@dataclass
class Path:
    """The states of one component at its own times, and why it stopped."""

    field: object
    states: list
    reason: str
    n_steps: int = 0
    n_rejected: int = 0
    n_gradients: int = 0
    _last: tuple = dataclass_field(default=(-1, None), repr=False)

    @property
    def t(self) -> np.ndarray:
        return np.array([state.t for state in self.states])

    def columns_at(self, t: float) -> Columns:
        """The state at time t: the step that contains t, redone with the length that is asked."""
        times = self.t
        k = int(np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 1))
        if t >= times[-1]:
            return self.states[-1]
        if t == times[k]:
            return self.states[k]
        if self._last[0] != k:
            self._last = k, DenseStepper(self.field, self.states[k])
        return self._last[1].step(t - times[k])[0]


def data_scale(field) -> float:
    """The size of W at which the data are fitted: |∇f(0)| over the curvature of f."""
    S = field.S(-field.values)
    scale = np.linalg.norm(S, 2) / field.curvature
    return float(scale)


def loss_of(field, residual) -> float:
    return float(field.weight * np.sum(residual**2))


def follow(field, U0, log_scale, *, loss_tol, rtol, t_max, max_steps, watch=None) -> Path:
    """Integrate dU/dt = S(U) U from exp(log_scale) · U0 until the loss is at most loss_tol."""
    tol = LOCAL * rtol
    X, ell, V = graded(U0, log_scale)
    scale = data_scale(field)
    if scale == 0.0:  # zero is a global minimum: what is felt is measured by the start itself
        scale = float(np.exp(2 * ell.max(initial=-np.inf)))
    with np.errstate(divide="ignore"):
        log_active = 0.5 * np.log(FELT * scale) if scale > 0 else np.inf
    rate_floor = 1e-13 * np.linalg.norm(field.S(-field.values), 2)
    state = Columns(0.0, X, ell, V, ell >= log_active)
    path = Path(field, [state], "")
    h = None
    try:
        while True:
            stepper = DenseStepper(field, state)
            path.n_gradients += stepper.n_gradients
            stepper.n_gradients = 0
            loss = loss_of(field, stepper.residual)
            if watch is not None:
                watch(state, loss)
            if loss <= loss_tol:
                path.reason = trajectory.LOSS_REACHED
                break
            if state.t >= t_max:
                path.reason = trajectory.TIME_LIMIT
                break
            if path.n_steps >= max_steps:
                path.reason = trajectory.STEP_LIMIT
                break
            rates, basis = stepper.S_eigen
            passive = ~state.active
            bound = time_to_reach(
                state.X[:, passive],
                state.ell[passive],
                np.where(np.abs(rates) <= rate_floor, 0.0, rates),
                basis,
                log_active + 1e-6,
            )
            if stepper.at_rest:
                if not np.isfinite(bound):
                    path.reason = trajectory.STUCK
                    break
                h = bound
            else:
                if h is None:
                    speed = np.linalg.norm(stepper.F, axis=0) / np.linalg.norm(stepper.Z, axis=0)
                    h = tol**0.25 / max(float(speed.max()), rate_floor)
                h = min(h, bound)
            while True:
                h = min(h, t_max - state.t)
                new, error = stepper.step(h, tol)
                if new is not None and error <= tol and np.all(new.ell[~new.active] <= log_active + 3.0):
                    break
                path.n_rejected += 1
                if not np.isfinite(error) or error <= tol:
                    h *= 0.25
                else:
                    h *= max(SHRINK, SAFETY * (tol / error) ** 0.25)
                if h <= 4 * EPS * state.t or h < 1e-300:
                    raise FloatingPointError
            path.n_gradients += stepper.n_gradients
            path.n_steps += 1
            state = regraded(new, log_active, LOOSE)
            path.states.append(state)
            h *= min(GROW, SAFETY * (tol / max(error, 1e-300)) ** 0.25)
    except KeyboardInterrupt:
        path.reason = trajectory.INTERRUPTED
    except FloatingPointError:
        path.reason = "step size below rounding"
    return path
