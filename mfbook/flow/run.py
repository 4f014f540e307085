"""`gradient_flow`: from the caller's problem to the components and back."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow import trajectory
from mfbook.flow.shallow.drive import Path, follow, start
from mfbook.flow.shallow.field import Part, connected_parts, times
from mfbook.flow.shallow.gauge import EPS, time_to_reach
from mfbook.flow.trajectory import Phase, Trajectory, resting_times
from mfbook.models import factors_of

SILENT_SECONDS = 3.0

# Rates and directions of escape are computed up to this many rows and columns of a component.
LARGEST_EIGENPROBLEM = 600
# From this many rows and columns on, singular values leave out what drowns in the rounding of W.
LARGE = 80
MAX_STEPS = 50_000
SMALLEST_RTOL, LARGEST_RTOL = 1e-9, 1e-2

# Double precision ends at 1e308; the flow cubes the factors, and squares of residuals are summed.
LARGEST_LOG10_FACTOR = 50.0


def gradient_flow(
    problem,
    factors: Sequence[ArrayLike],
    *,
    log10_scale: float = 0.0,
    loss_tol: float = 1e-10,
    rtol: float = 1e-6,
    t_max: float = np.inf,
    max_steps: int = MAX_STEPS,
    progress: bool | None = None,
) -> Trajectory:
    r"""Follow gradient flow on f(A B) from 10^log10_scale · (A, B), right at any scale.

    With G = ∇f(A B) the flow is

        dA/dt = −G Bᵀ,    dB/dt = −Aᵀ G,    A(0) = α A_0,  B(0) = α B_0,  α = 10^log10_scale,

    until f(A B) ≤ loss_tol. The scale α may be as small as 10^-10000: it is kept as a logarithm,
    and every hidden column, in a rotated hidden space where they are orthogonal, carries its own
    size. So the answer does not depend on the hidden basis of the factors, and a plateau costs a
    few steps however long it lasts. Connected components of the observed entries evolve without
    knowing of each other and are integrated so.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` with matrices of shape (m, n).
    factors
        (A_0, B_0) of shapes (m, h), (h, n) for any width h ≥ 1.
    log10_scale
        log₁₀ α, any finite number.
    loss_tol
        stop where the loss is at most this (or at the rounding of the data, if larger).
    rtol
        accuracy of W(t) relative to the data, from 1e-9 to 1e-2; the error stays below
        10 rtol along the run. Where an escape is steep, that is its error at equal times.
    t_max, max_steps
        further limits.
    progress
        True shows a line on standard error after three seconds, False never; None
        shows it where standard error is a terminal.

    Returns
    -------
    Trajectory
        Times, losses, singular values at every step; `W_at(t)` and `factors_at(t)` in between;
        `phases`, each with the rate at which the escaping column of the factors grows (W grows
        at twice that) and its direction. The factors are in the caller's hidden basis; a part of
        them below 1e-308 is returned as 0. A run that Ctrl-C interrupts returns what there is.

    Raises
    ------
    TypeError
        factors that are not a tuple, complex numbers, a problem of another kind.
    ValueError
        a number of factors other than two, shapes that do not fit, entries that are not
        finite, factors that are all zero (zero is a saddle: the flow stays there), a scale that
        is not finite, an rtol out of range, limits that are negative or not numbers.

    Notes
    -----
    With U = [A; Bᵀ] the flow is dU/dt = S U, S = [[0, −G], [−Gᵀ, 0]], linear in U but for the
    dependence of S on W. Columns that W feels are advanced by an exponential Rosenbrock method
    of order five with the exact Jacobian (Luan & Ostermann 2014), the others by a Magnus method
    of order four along them. Components with more than 80 rows and columns, or with many active
    columns, take explicit, stabilized (Sommeijer, Shampine & Verwer 1998) and Krylov exponential
    steps instead, meant for rtol near 1e-4; rates and directions of escape are then left out above
    600 rows and columns. The invariance of the flow's rank (Bai, Zhao & Zhang 2024,
    Proposition 1) is the statement that a column that is zero stays so.

    Where `MatrixSensing` measurements decouple in directions other than rows and columns
    (commuting measurements, for instance) the parts are not told apart: below a scale of about
    1e-16 their columns differ by more than rounding, and the end point can be that of another
    start. Entries of a matrix have no such limit.

    Examples
    --------
    >>> from mfbook import MatrixCompletion, small_init
    >>> problem = MatrixCompletion.from_text("1 2; 100 ?")
    >>> run = gradient_flow(problem, small_init((2, 2), rng=0), log10_scale=-100)
    >>> run.converged, round(float(run.W[1, 1]), 1), [phase.rank for phase in run.phases]
    (True, 200.0, [0, 1])
    """
    arrays = _two_factors(problem, factors)
    _require_numbers(arrays, log10_scale, loss_tol, rtol, t_max, max_steps)
    composite = _Composite(problem, arrays, float(log10_scale), rtol)
    notice = _Progress(progress, loss_tol)
    share = loss_tol / len(composite.paths)
    runs = [follow(path, loss_tol=share, rtol=rtol, t_max=t_max) for path in composite.paths]
    limit = ""
    try:
        for run in runs:
            next(run)
        running = dict(enumerate(runs))
        while running:
            # The component that is furthest behind goes next, so that all end near one time.
            k = min(running, key=lambda k: composite.paths[k].t)
            if composite.paths[k].reason:
                del running[k]
                continue
            if composite.n_steps >= max_steps:
                limit = trajectory.STEP_LIMIT
                break
            next(running[k], None)
            notice.update(composite)
    except KeyboardInterrupt:
        limit = trajectory.INTERRUPTED
    finally:
        notice.close()
    return composite.trajectory(limit)


def _two_factors(problem, factors) -> tuple[np.ndarray, np.ndarray]:
    arrays = factors_of(problem, factors)
    if len(arrays) != 2:
        raise ValueError(
            f"gradient_flow follows two factors, W = A B, but got {len(arrays)}; use "
            "gradient_descent for another depth"
        )
    if arrays[0].ndim != 2:
        raise ValueError(
            f"gradient_flow follows one run, but the factors have the leading axes "
            f"{arrays[0].shape[:-2]}; call it once a run"
        )
    if not any(array.any() for array in arrays):
        raise ValueError(
            "the factors are zero, and zero is a critical point: the flow stays there for ever; "
            "give directions, for example small_init(problem.shape, rng=0)"
        )
    return arrays


def _require_numbers(arrays, log10_scale, loss_tol, rtol, t_max, max_steps) -> None:
    if not np.isfinite(log10_scale):
        meaning = "a scale of 0" if log10_scale == -np.inf else f"a scale of 10^{log10_scale}"
        raise ValueError(
            f"log10_scale must be finite, but is {log10_scale}: {meaning} is not a start "
            "(zero is a saddle that the flow never leaves); any finite number will do, -10000 too"
        )
    largest = log10_scale + np.log10(max(np.abs(array).max() for array in arrays))
    if largest > LARGEST_LOG10_FACTOR:
        raise ValueError(
            f"the start has entries near 10^{largest:.0f}, whose products leave double precision; "
            f"keep log10_scale + log10(largest entry) below {LARGEST_LOG10_FACTOR:g}"
        )
    if not SMALLEST_RTOL <= rtol <= LARGEST_RTOL:
        raise ValueError(
            f"rtol must lie between {SMALLEST_RTOL:g} and {LARGEST_RTOL:g}, but is {rtol}: double "
            "precision holds no more through an escape, and less is no trajectory"
        )
    if not loss_tol >= 0:
        raise ValueError(f"loss_tol must not be negative, but is {loss_tol}")
    if not t_max >= 0:
        raise ValueError(f"t_max must not be negative, but is {t_max}; time starts at 0")
    if not max_steps >= 0:
        raise ValueError(f"max_steps must not be negative, but is {max_steps}")


class _Composite:
    """All components of a problem, and the caller's hidden basis that ties them together."""

    def __init__(self, problem, arrays, log10_scale: float, rtol: float) -> None:
        self.problem, self.arrays = problem, arrays
        self.m = problem.shape[0]
        self.parts: list[Part] = connected_parts(problem)
        log_scale = log10_scale * np.log(10.0)
        A, B = arrays
        self.paths: list[Path] = [
            start(part.field, np.concatenate([A[part.rows], B.T[part.cols]]), log_scale, rtol)
            for part in self.parts
        ]
        # Rows and columns without an observed entry have no gradient: they stay.
        self.still = tuple(np.exp(log_scale) * array for array in arrays)

    @property
    def n_steps(self) -> int:
        return sum(path.n_steps for path in self.paths)

    def end(self) -> float:
        """The last time that all components reach; one that has stopped for good stays there."""
        halted = [
            path.t
            for path in self.paths
            if path.reason not in (trajectory.LOSS_REACHED, trajectory.STUCK)
        ]
        return min(halted) if halted else max(path.t for path in self.paths)

    def factors_at(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        return self._factors([path.columns_at(t) for path in self.paths])

    def W_at(self, t: float) -> np.ndarray:
        return self._W([path.columns_at(t) for path in self.paths])

    def _factors(self, columns):
        A, B = (array.copy() for array in self.still)
        for part, column in zip(self.parts, columns, strict=True):
            U = (column.X * np.exp(column.ell)) @ column.V.T
            A[part.rows], B[:, part.cols] = U[: part.field.m], U[part.field.m :].T
        return A, B

    def _W(self, columns):
        A, B = self._factors(columns)
        W = A @ B
        for part, column in zip(self.parts, columns, strict=True):
            # Inside a component the graded columns give W without the rounding of a rotation.
            Z = column.X * np.exp(column.ell)
            W[np.ix_(part.rows, part.cols)] = Z[: part.field.m] @ Z[part.field.m :].T
        return W

    def _singular_values(self, columns) -> np.ndarray:
        m, n = self.problem.shape
        if len(columns) == 1 and min(m, n) >= LARGE:
            return self._few_singular_values(columns[0])
        A, B = self._factors(columns)
        if min(m, n) <= 2 * A.shape[1] or m * n <= 10_000:
            return np.linalg.svd(self._W(columns), compute_uv=False)
        # W = Q_A R_A R_Bᵀ Q_Bᵀ: a long product has the singular values of its small core.
        core = np.linalg.qr(A, mode="r") @ np.linalg.qr(B.T, mode="r").T
        values = np.zeros(min(m, n))
        values[: len(core)] = np.linalg.svd(core, compute_uv=False)
        return values

    def _few_singular_values(self, columns) -> np.ndarray:
        """Those of one large component, without the columns that drown in its rounding."""
        values = np.zeros(min(self.problem.shape))
        part = self.parts[0]
        kept = 2 * columns.ell > 2 * columns.ell.max(initial=-np.inf) + np.log(1e-2 * EPS)
        Z = columns.X[:, kept] * np.exp(columns.ell[kept])
        A, B = Z[: part.field.m], Z[part.field.m :]
        if 2 * Z.shape[1] <= min(A.shape[0], B.shape[0]):
            # W = Q_A R_A R_Bᵀ Q_Bᵀ: a long product has the singular values of its small core.
            A, B = np.linalg.qr(A, mode="r"), np.linalg.qr(B, mode="r")
        found = np.linalg.svd(A @ B.T, compute_uv=False)
        values[: len(found)] = found
        return values

    def gradient_norm(self, columns) -> float:
        """Frobenius norm of the gradient of all factors, |S U|; it needs no common basis."""
        total = 0.0
        for part, column in zip(self.parts, columns, strict=True):
            _, G = part.field.gradient(column.Z)
            total += float(np.sum((times(G, column.X) * np.exp(column.ell)) ** 2))
        return np.sqrt(total)

    def trajectory(self, limit: str) -> Trajectory:
        end = self.end()
        times = np.unique([s.t for path in self.paths for s in path.states if s.t <= end])
        if times[-1] < end:
            times = np.append(times, end)
        samples = [[path.columns_at(t) for path in self.paths] for t in times]
        if len(self.paths) == 1 and len(self.paths[0].norms) == len(times):
            loss, norm = np.array(self.paths[0].losses), np.array(self.paths[0].norms)
        else:
            loss = np.array([self.loss(columns) for columns in samples])
            norm = np.array([self.gradient_norm(columns) for columns in samples])
        values = np.array([self._singular_values(columns) for columns in samples])
        reasons = [path.reason for path in self.paths]
        converged = all(reason == trajectory.LOSS_REACHED for reason in reasons)
        if converged:
            limit = trajectory.LOSS_REACHED
        elif not limit:
            limit = next(r for r in _BY_WEIGHT if r in reasons)
        return Trajectory(
            t=times,
            loss=loss,
            gradient_norm=norm,
            singular_values=values,
            W=self._W(samples[-1]),
            factors=self._factors(samples[-1]),
            phases=self._phases(times, norm, values),
            converged=converged,
            reason=limit,
            n_steps=self.n_steps,
            n_gradients=sum(path.n_gradients for path in self.paths),
            dense_output=self.W_at,
            dense_factors=self.factors_at,
            log10_columns=np.array([self._log10_columns(columns) for columns in samples]),
        )

    @staticmethod
    def _log10_columns(columns) -> np.ndarray:
        ell = np.concatenate([column.ell for column in columns])
        return -np.sort(-ell) / np.log(10.0)

    def loss(self, columns) -> float:
        return float(
            sum(
                part.field.gradient(column.Z)[0]
                for part, column in zip(self.parts, columns, strict=True)
            )
        )

    def _phases(self, times, norm, values) -> tuple[Phase, ...]:
        """Where the gradient is smallest between two rises, found to better than a step."""
        known = 1e-3 * values.max()
        rests = resting_times(norm)
        phases = []
        for k in rests:
            t = float(times[k])
            if 0 < k < len(times) - 1:
                t = self._quietest(times[k - 1], times[k + 1], t)
            columns = [path.columns_at(t) for path in self.paths]
            W = self._W(columns)
            rank = int((self._singular_values(columns) > known).sum())
            last = k == rests[-1]
            rate, direction = (None, None) if last else self._escape(columns)
            factors = self._factors(columns)
            phases.append(Phase(t, rank, W, self.loss(columns), rate, direction, factors))
        return tuple(phases)

    def _quietest(self, low, high, at) -> float:
        from scipy.optimize import minimize_scalar  # takes longer to import than all the rest

        def log_norm(t):
            return np.log(max(self.gradient_norm([p.columns_at(t) for p in self.paths]), 1e-308))

        found = minimize_scalar(
            log_norm,
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-3 * (high - low), "maxiter": 25},
        )
        return float(found.x) if found.fun < log_norm(at) else at

    def _escape(self, columns):
        """Rate and direction of the component that a column leaves first."""
        first, best = np.inf, (None, None)
        for part, path, column in zip(self.parts, self.paths, columns, strict=True):
            field = part.field
            if field.p > LARGEST_EIGENPROBLEM:
                continue
            rates, basis = np.linalg.eigh(field.S(field.residual(column.Z)))
            quiet = ~column.active
            wait = time_to_reach(
                column.X[:, quiet], column.ell[quiet], rates, basis, path.log_active
            )
            if rates[-1] > 0 and (wait < first or best[0] is None):
                u, v = np.zeros(self.problem.shape[0]), np.zeros(self.problem.shape[1])
                u[part.rows], v[part.cols] = basis[: field.m, -1], basis[field.m :, -1]
                sign = np.sign(u[np.argmax(np.abs(u))])
                first, best = (
                    wait,
                    (
                        float(rates[-1]),
                        (sign * u / np.linalg.norm(u), sign * v / np.linalg.norm(v)),
                    ),
                )
        return best


_BY_WEIGHT = (
    trajectory.INTERRUPTED,
    trajectory.STEP_TOO_SMALL,
    trajectory.DIVERGED,
    trajectory.STEP_LIMIT,
    trajectory.TIME_LIMIT,
    trajectory.STUCK,
)


class _Progress:
    """One line on standard error, rewritten a few times a second once a run is long."""

    def __init__(self, wanted: bool | None, loss_tol: float) -> None:
        self.on = sys.stderr.isatty() if wanted is None else bool(wanted)
        self.loss_tol, self.begun, self.next = loss_tol, time.monotonic(), SILENT_SECONDS
        self.shown = False

    def update(self, composite: _Composite) -> None:
        if not self.on or time.monotonic() - self.begun < self.next:
            return
        passed = time.monotonic() - self.begun
        self.next = passed + 0.3
        self.shown = True
        loss = sum(path.losses[-1] for path in composite.paths)
        rank = sum(int(path.states[-1].active.sum()) for path in composite.paths)
        sys.stderr.write(
            f"\rgradient flow: {passed:.0f} s, {composite.n_steps} steps, "
            f"t = {max(p.t for p in composite.paths):.4g}, {rank} active columns, "
            f"loss {loss:.2e} (until {self.loss_tol:.0e})\033[K"
        )
        sys.stderr.flush()

    def close(self) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
