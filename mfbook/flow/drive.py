"""Follow one component through all its saddles: step control, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np

from mfbook import trajectory
from mfbook.flow.dense import Columns, DenseStepper, regraded
from mfbook.flow.gauge import EPS, LOOSE, graded, time_to_reach

# W feels a column when its square exceeds this fraction of the data's scale. Leaving out a
# smaller one changes W, and through it the growth of the others, by less than 1e-14 of the data;
# a larger threshold would show in the results, a much smaller one would let the rounding of the
# large active columns (1e-16) reach the small ones (1e-7 here, so 1e-9 of their size).
FELT = 1e-14

# The step control compares the method of order five with an embedded one of order three, which
# overestimates the error by orders of magnitude; so it may look larger than rtol. Measured on
# [[1,2],[20,★]] at 10^-10 with rtol = 1e-6, worst error of W along the run over the data's scale,
# and steps: factor 0.1: 5e-9, 415; 1: 8e-8, 241; 3: 6e-8, 186; 10: 3e-7, 141. The promise is
# 10 rtol = 1e-5.
LOCAL = 5.0

SHRINK, GROW, SAFETY = 0.1, 8.0, 0.9

# Growth rates below this fraction of the largest at zero are rounding, not growth.
RATE_FLOOR = 1e-13


@dataclass
class Path:
    """The states of one component at its own times, and why it stopped ('' while it runs)."""

    field: object
    states: list
    losses: list
    log_active: float
    reason: str = ""
    n_steps: int = 0
    n_rejected: int = 0
    n_gradients: int = 0
    _last: tuple = dataclass_field(default=(-1, None), repr=False)

    @property
    def t(self) -> float:
        return self.states[-1].t

    def stepper_at(self, t: float) -> tuple[DenseStepper, float]:
        """The step that contains t, ready to be redone with the length that leads there."""
        times = [state.t for state in self.states]
        k = int(np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 1))
        if self._last[0] != k:
            self._last = k, DenseStepper(self.field, self.states[k])
        return self._last[1], min(t, times[-1]) - times[k]

    def columns_at(self, t: float) -> Columns:
        """The state at time t; the last one from the end of the path on."""
        stepper, h = self.stepper_at(t)
        return stepper.step(h)[0] if h > 0 else stepper.state


def data_scale(field) -> float:
    """The size of W at which the data are fitted: |∇f(0)| over the curvature of f."""
    return float(np.linalg.norm(field.S(-field.values), 2) / field.curvature)


def loss_of(field, residual) -> float:
    return float(field.weight * np.sum(residual**2))


def start(field, U0, log_scale) -> Path:
    """The path's first state: the graded columns of exp(log_scale) · U0."""
    X, ell, V = graded(U0, log_scale)
    scale = data_scale(field)
    largest = float(np.exp(np.minimum(2 * ell.max(initial=-np.inf), 700.0)))
    if scale == 0.0:  # zero fits the data: what is felt is measured by the start itself
        scale = largest
    log_active = 0.5 * np.log(FELT * scale) if scale > 0 else np.inf
    state = Columns(0.0, X, ell, V, ell >= log_active)
    return Path(field, [state], [], log_active)


def follow(path: Path, *, loss_tol, rtol, t_max):
    """Extend the path step by step until the loss is at most loss_tol; a generator.

    It yields after every accepted step and once at the start; the path's `reason` is set when it
    ends. Whoever drives it may stop at any time.
    """
    field = path.field
    tol = LOCAL * rtol
    rate_floor = RATE_FLOOR * np.linalg.norm(field.S(-field.values), 2)
    # Below this the loss is the rounding of the residuals.
    loss_floor = field.weight * np.sum((4 * EPS * field.values) ** 2)
    h = None
    while True:
        state = path.states[-1]
        stepper = DenseStepper(field, state)
        path.n_gradients += stepper.n_gradients
        path.losses.append(loss_of(field, stepper.residual))
        if path.losses[-1] <= max(loss_tol, loss_floor):
            path.reason = trajectory.LOSS_REACHED
        elif state.t >= t_max:
            path.reason = trajectory.TIME_LIMIT
        yield
        if path.reason:
            return
        rates, basis = stepper.S_eigen
        quiet = ~state.active
        bound = time_to_reach(
            state.X[:, quiet],
            state.ell[quiet],
            np.where(np.abs(rates) <= rate_floor, 0.0, rates),
            basis,
            path.log_active + 1e-6,
        )
        if stepper.at_rest:
            if not np.isfinite(bound):
                path.reason = trajectory.STUCK
                return
            h = bound
        elif h is None:
            speed = np.linalg.norm(stepper.F, axis=0) / np.linalg.norm(stepper.Z, axis=0)
            h = tol**0.25 / max(float(speed.max()), rate_floor, 1e-300)
        new, h, error = _accepted(path, stepper, min(h, bound, t_max - state.t), tol)
        if new is None:
            path.reason = trajectory.STEP_TOO_SMALL
            return
        path.n_steps += 1
        path.states.append(regraded(new, path.log_active, LOOSE))
        h *= min(GROW, SAFETY * (tol / max(error, 1e-300)) ** 0.25)


def _accepted(path, stepper, h, tol):
    """The first step, tried shorter and shorter, whose error is at most tol."""
    counted = stepper.n_gradients
    while h > 4 * EPS * stepper.state.t and h > 0:
        new, error = stepper.step(h, tol)
        path.n_gradients += stepper.n_gradients - counted
        counted = stepper.n_gradients
        overshot = error <= tol and np.any(new.ell[~new.active] > path.log_active + 3.0)
        if error <= tol and not overshot:
            return new, h, error
        path.n_rejected += 1
        if overshot or not np.isfinite(error):
            h *= 0.25
        else:
            h *= max(SHRINK, SAFETY * (tol / error) ** 0.25)
    return None, h, np.inf
