"""The steps of the end-to-end flow, where they end, and the trajectory read off them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfbook.flow.balanced.forms import EPS, Decomposed, Form
from mfbook.flow.balanced.units import Units
from mfbook.flow.options import Limits
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

    def __init__(self, form: Form, units: Units, y: np.ndarray, t_max: float) -> None:
        self.form, self.units = form, units
        self.times, self.states = [0.0], [y]
        self.pieces: list[tuple[float, object]] = []
        self.reason, self.n_gradients = "", 0
        self.t_max = t_max

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


class Clock:
    """Radau's steps by a clock that is set to 0 again where they get short beside its time."""

    def __init__(self, form: Form, y: np.ndarray, t_max: float, rtol: float) -> None:
        self.form, self.t_max, self.rtol = form, t_max, rtol
        self.begun, self.taken, self._evaluations = 0.0, 0, 0
        self.solver = _solver(form, y, t_max, rtol, None)

    @property
    def t(self) -> float:
        return float(self.begun + self.solver.t)

    @property
    def has_run_out(self) -> bool:
        return self.t >= self.t_max or self.t_max < SHORTEST

    @property
    def n_gradients(self) -> int:
        return int(self._evaluations + self.solver.nfev)

    @property
    def last_step(self) -> float:
        assert self.solver.step_size is not None  # a step was taken
        return float(self.solver.step_size)

    def step(self) -> bool:
        """Take a step; False where none is short enough."""
        with warnings.catch_warnings():
            # A trial state far off may overflow; the step is then cut.
            warnings.simplefilter("ignore", RuntimeWarning)
            self.solver.step()
        self.taken += 1
        return self.solver.status != "failed"

    def set_again(self) -> None:
        """Begin at 0 where the last step was short, or where there were many, and time is left."""
        solver = self.solver
        enough = self.last_step >= SHORT * solver.t and self.taken < MANY
        if enough or self.has_run_out:
            return
        self._evaluations += solver.nfev
        self.begun, self.taken = self.t, 0
        y, left = self.form.normalised(solver.y), self.t_max - self.begun
        self.solver = _solver(self.form, y, left, self.rtol, self.last_step)


def follow(form: Form, units: Units, y: np.ndarray, options: Limits) -> Path:
    """Step until the loss is down, W rests, or a limit is reached."""
    path = Path(form, units, y, options["t_max"])
    clock = Clock(form, y, options["t_max"] * units.rate, options["rtol"])
    above = _height(form, y, options["loss_tol"])
    if above(y) <= 0:
        path.reason = LOSS_REACHED
    while not path.reason:
        path.reason = _reason_to_end(path, clock, options["max_steps"])
        if not path.reason:
            _step(path, clock, above)
        if not path.reason:
            clock.set_again()
    path.n_gradients = clock.n_gradients
    return path


def _height(form: Form, y: np.ndarray, loss_tol: float) -> Callable[[np.ndarray], float]:
    """By how much the loss of a state is above the one at which a run from y ends."""
    fit = fit_of(form.problem)
    goal = fit.threshold(loss_tol)
    if fit.learnable == 0.0:  # only the start has a size then
        goal = max(goal, loss_tol * excess(form.problem, form.W(y)))
    return lambda state: excess(form.problem, form.W(state)) - goal


def _reason_to_end(path: Path, clock: Clock, max_steps: int) -> str:
    """Why there is no further step; empty where there is one."""
    if clock.has_run_out:
        return TIME_LIMIT
    if len(path.states) > max_steps:
        return STEP_LIMIT
    if path.form.rests(path.states[-1], path.times[-1]):
        return STUCK
    return UNBOUNDED if path.runs_away() else ""


def _step(path: Path, clock: Clock, above: Callable[[np.ndarray], float]) -> None:
    """Take a step, or its beginning where the loss is down; the path's reason says if it ends."""
    if not clock.step():
        path.reason = STEP_TOO_SMALL
        return
    solver = clock.solver
    piece, end, state = solver.dense_output(), solver.t, solver.y
    if above(state) <= 0:
        end = _crossing(lambda t: above(piece(t)), solver.t_old, end)
        state, path.reason = piece(end), LOSS_REACHED
    path.pieces.append((clock.begun, piece))
    path.times.append(clock.begun + end)
    path.states.append(state)
    if path.form.depth < 2 and clock.last_step < EPS * path.times[-1]:
        # A singular value goes to 0 there, and the clock that is set to 0 would follow it.
        path.reason = path.reason or STEP_TOO_SMALL


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


def _crossing(height: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(height, low, high, xtol=1e-300, rtol=4 * EPS))


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
