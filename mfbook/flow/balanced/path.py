"""The steps of the end-to-end flow, where they end, and the trajectory read off them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfbook.flow.balanced.forms import EPS, Decomposed, Form
from mfbook.flow.balanced.units import Units
from mfbook.flow.trajectory import (
    LOSS_REACHED,
    STEP_LIMIT,
    STEP_TOO_SMALL,
    STUCK,
    TIME_LIMIT,
    UNBOUNDED,
    Phase,
    Trajectory,
    resting_times,
)
from mfbook.flow.unbounded import far_beyond, grows_on
from mfbook.problems.fit import excess, fit_of

if TYPE_CHECKING:
    from scipy.integrate import Radau

# A step shorter than this share of the time since the clock was last set to 0 sets it again, and so
# do that many steps.
SHORT, MANY = 1e-6, 25
# In a time that is shorter than this, in units of the data, nothing moves by its rounding.
SHORTEST = 1e-200
# For central differences of velocities. The slow ones, 10^-10 of the fast ones and less, need their
# derivatives as well: what they feel of the fast ones then is of the third order.
DIFFERENCE = 1e-7


class Path:
    """The states after every step, and the polynomials between them, each with its own clock."""

    def __init__(self, form: Form, units: Units, y: np.ndarray) -> None:
        self.form, self.units = form, units
        self.times, self.states = [0.0], [y]
        self.pieces: list[tuple[float, object]] = []
        self.reason, self.n_gradients = "", 0
        self.t_max = np.inf

    def runs_away(self) -> bool:
        problem, size = self.form.problem, float(self.form.singular_values(self.states[-1])[0])
        if size <= far_beyond(problem.targets):
            return False
        before = self.states[int(np.searchsorted(self.times, self.times[-1] / 10))]
        earlier = float(self.form.singular_values(before)[0])
        now, then = (excess(problem, self.form.W(y)) for y in (self.states[-1], before))
        return grows_on(size, now, earlier, then)

    @property
    def t(self) -> np.ndarray:
        """The times in the caller's unit."""
        times = np.array(self.times) / self.units.rate
        if self.reason == TIME_LIMIT and len(times) > 1:
            times[-1] = self.t_max
        return times

    def state_at(self, t: float) -> np.ndarray:
        """The state at a time in the caller's unit."""
        times = self.t
        k = int(np.searchsorted(times, t, side="right")) - 1
        if k >= len(self.pieces) or times[k] == t:
            return self.states[min(k, len(self.states) - 1)]
        begun, piece = self.pieces[k]
        local = t * self.units.rate - begun
        return piece(np.clip(local, piece.t_min, piece.t_max))  # type: ignore[attr-defined, operator]

    def W_of(self, state: np.ndarray) -> np.ndarray:
        return self.units.W * self.form.W(state)

    def layers_of(self, state: np.ndarray) -> tuple[np.ndarray, ...]:
        root = self.units.W ** (1 / self.units.depth)
        return tuple(root * layer for layer in self.form.layers(state))

    def W_at(self, t: float) -> np.ndarray:
        return self.W_of(self.state_at(t))

    def layers_at(self, t: float) -> tuple[np.ndarray, ...]:
        return self.layers_of(self.state_at(t))


def follow(
    form: Form,
    units: Units,
    y: np.ndarray,
    loss_tol: float,
    rtol: float,
    t_max: float,
    max_steps: int,
) -> Path:
    """Step until the loss is down, W rests, or a limit is reached."""
    path = Path(form, units, y)
    path.t_max, t_max = t_max, t_max * units.rate
    fit = fit_of(form.problem)
    goal = fit.threshold(loss_tol)
    if fit.learnable == 0.0:  # only the start has a size then
        goal = max(goal, loss_tol * excess(form.problem, form.W(y)))

    def above(state: np.ndarray) -> float:
        return excess(form.problem, form.W(state)) - goal

    begun, taken = 0.0, 0
    solver = _solver(form, y, t_max, rtol, None)
    if above(y) <= 0:
        path.reason = LOSS_REACHED
    while not path.reason:
        if begun + solver.t >= t_max or t_max < SHORTEST:
            path.reason = TIME_LIMIT
        elif len(path.states) > max_steps:
            path.reason = STEP_LIMIT
        elif form.rests(path.states[-1], path.times[-1]):
            path.reason = STUCK
        elif path.runs_away():
            path.reason = UNBOUNDED
        else:
            with warnings.catch_warnings():
                # A trial state far off may overflow; the step is then cut.
                warnings.simplefilter("ignore", RuntimeWarning)
                solver.step()
            if solver.status == "failed":
                path.reason = STEP_TOO_SMALL
                break
            piece, end, state = solver.dense_output(), solver.t, solver.y
            if above(state) <= 0:
                end = _crossing(lambda t, piece=piece: above(piece(t)), solver.t_old, end)
                state, path.reason = piece(end), LOSS_REACHED
            path.pieces.append((begun, piece))
            path.times.append(begun + end)
            path.states.append(state)
            taken += 1
            assert solver.step_size is not None  # a step was taken
            if form.depth < 2 and solver.step_size < EPS * path.times[-1]:
                # A singular value goes to 0 there, and the clock that is set to 0 would follow it.
                path.reason = path.reason or STEP_TOO_SMALL
            if not path.reason and (solver.step_size < SHORT * solver.t or taken == MANY):
                path.n_gradients += solver.nfev
                begun, taken = begun + solver.t, 0
                solver = _solver(
                    form, form.normalised(state), t_max - begun, rtol, solver.step_size
                )
    path.n_gradients += solver.nfev
    return path


def _solver(form: Form, y: np.ndarray, longest: float, rtol: float, h: float | None) -> Radau:
    """Logarithms and unit vectors have no size that an error would be relative to."""
    size = 1.0 if isinstance(form, Decomposed) else max(float(np.abs(y).max()), 1.0)
    first = None if h is None else min(h, longest)

    def jacobian(t: float, at: np.ndarray) -> np.ndarray:
        moves = DIFFERENCE * size * np.eye(len(at))
        ahead, back = (form.velocity(t, at + sign * moves) for sign in (1, -1))
        return (ahead - back).T / (2 * DIFFERENCE * size)

    from scipy.integrate import Radau

    return Radau(
        form.velocity,
        0.0,
        y,
        longest,
        rtol=100 * EPS,
        atol=rtol * size,
        jac=jacobian,
        first_step=first,
    )


def _crossing(height: object, low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(height, low, high, xtol=1e-300, rtol=4 * EPS))  # type: ignore[call-overload]


def trajectory_of(path: Path) -> Trajectory:
    """What is returned, in the caller's units."""
    form, units, states = path.form, path.units, path.states
    layers = path.layers_of(states[-1])
    losses = np.array([excess(form.problem, form.W(y)) for y in states])
    norms = np.array([form.gradient_norm(y) for y in states])
    return Trajectory(
        t=path.t,
        loss=units.target**2 * (losses + fit_of(form.problem).least),
        gradient_norm=units.target * units.rate**0.5 * norms,
        W=path.W_of(states[-1]),
        factors=layers,
        converged=path.reason == LOSS_REACHED,
        reason=path.reason,
        n_steps=len(states) - 1,
        n_gradients=path.n_gradients,
        dense_output=path.W_at,
        dense_factors=path.layers_at if layers else None,
        readings=_Readings(path),
    )


@dataclass(frozen=True, eq=False)
class _Readings:
    """What is read off the states."""

    path: Path

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        path = self.path
        return path.units.W * np.array([path.form.singular_values(y) for y in path.states])

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        values, states = trajectory.singular_values, self.path.states
        ranks = (values > 1e-3 * values.max()).sum(axis=-1)
        return tuple(
            Phase(
                float(trajectory.t[k]),
                int(ranks[k]),
                self.path.W_of(states[k]),
                float(trajectory.loss[k]),
                factors=self.path.layers_of(states[k]) or None,
            )
            for k in resting_times(trajectory.gradient_norm)
        )

    def log10_columns(self, trajectory: Trajectory) -> None:
        return None

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return trajectory
