"""All parts of a problem in one run: when it ends, and what is read off it at a time.

The parts evolve without knowing of each other, in units of their own making (`units`); the
caller's hidden basis and units tie them together again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.shallow.dense import Columns
from mfbook.flow.shallow.drive import Path, start
from mfbook.flow.shallow.field import Part, parts_of
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.shallow.stack import Factors, stack_of
from mfbook.flow.shallow.units import units_of
from mfbook.problems.fit import fit_of
from mfbook.problems.protocols import Problem, is_symmetric

# From this many rows and columns on, singular values leave out what drowns in the rounding of W.
LARGE = 80

# The end of a run is where the loss crosses its tolerance, to this in the loss.
CROSSING = 1e-6


class Composite:
    """The paths of all parts, and the loss at which they end."""

    def __init__(
        self,
        problem: Problem,
        arrays: Factors,
        log10_scale: float,
        rtol: float,
        loss_tol: float,
        shaker: np.random.Generator | None = None,
    ) -> None:
        self.problem = problem
        self.stack = stack_of(problem.shape, is_symmetric(problem))
        U = self.stack.joined(arrays)
        log_scale = log10_scale * np.log(10.0)
        largest = np.abs(U).max()
        measurement = float(problem.sizes.max()) or 1.0
        self.units = units_of(problem.targets, measurement, log_scale + np.log(largest))
        self.parts: list[Part] = parts_of(problem, self.units)
        self.places = [self.stack.places(part.rows, part.cols) for part in self.parts]
        log_start = log_scale - self.units.log_factor
        self.paths: list[Path] = [
            start(part.field, U[places], log_start, rtol, shaker)
            for part, places in zip(self.parts, self.places, strict=True)
        ]
        # Rows and columns without an observed entry have no gradient: they stay.
        self.still = np.exp(log_scale) * U
        fit = fit_of(problem)
        self.least, self.threshold = fit.least, fit.threshold(loss_tol) / self.units.loss
        if fit.learnable == 0.0:
            # Zero fits the data: only the start has a size that a tolerance may refer to.
            self.threshold = max(self.threshold, loss_tol * self.excess(self.at(0.0)))
        # The last time at which the loss is known to be above the threshold, and where it ends.
        self.above = 0.0
        self.crossing: float | None = None

    @property
    def n_steps(self) -> int:
        return sum(path.n_steps for path in self.paths)

    @property
    def n_gradients(self) -> int:
        return sum(path.n_gradients for path in self.paths)

    def running(self) -> list[Path]:
        return [path for path in self.paths if not path.reason]

    def has_arrived(self) -> bool:
        """Whether the loss has crossed the threshold at a time that all parts have reached.

        The crossing is then found on the dense output, so that the end of a run does not depend
        on where its steps happen to end.
        """
        horizon = self.end()
        # Every part's loss falls, so the last ones are below those at the common time.
        if sum(path.losses[-1] for path in self.paths) <= self.threshold:
            if self.excess(self.at(horizon)) <= self.threshold:
                self.crossing = self._cross(self.above, horizon)
                return True
        self.above = horizon
        self._let_go()
        return False

    def _let_go(self) -> None:
        """Where a part has stopped above the threshold, others end at their share of it."""
        stuck = [
            path for path in self.paths if path.reason in (trajectory.STUCK, trajectory.DROWNED)
        ]
        if sum(path.losses[-1] for path in stuck) <= self.threshold:
            return
        for path in self.running():
            if path.losses[-1] <= self.threshold / len(self.paths):
                path.reason = trajectory.LOSS_REACHED

    def _cross(self, low: float, high: float) -> float:
        """Where log f meets its threshold, by the Illinois variant of the false position."""

        if self.threshold == 0.0:
            return high

        def height(t: float) -> float:
            return np.log(max(self.excess(self.at(t)), 1e-300) / self.threshold)

        at_low, at_high = height(low), height(high)
        if at_low <= 0:
            return low
        side = 0
        for _ in range(100):
            middle = (low * at_high - high * at_low) / (at_high - at_low)
            if not low < middle < high:
                break
            value = height(middle)
            if -CROSSING <= value <= 0:
                return middle
            if value > 0:
                low, at_low = middle, value
                at_high /= 2 if side > 0 else 1
                side = 1
            else:
                high, at_high = middle, value
                at_low /= 2 if side < 0 else 1
                side = -1
        return high

    def end(self) -> float:
        """The last time that all parts reach; one that has stopped for good stays there."""
        if self.crossing is not None:
            return self.crossing
        moving = [path.t for path in self.paths if path.reason not in trajectory.AT_REST]
        return min(moving) if moving else max(path.t for path in self.paths)

    def at(self, t: float) -> list[Columns]:
        """The columns of all parts at a time in the engine's units."""
        return [path.columns_at(t) for path in self.paths]

    def times(self) -> np.ndarray:
        """Those of all steps up to the end, in the engine's units."""
        end = self.end()
        found = np.unique([s.t for path in self.paths for s in path.states if s.t <= end])
        return found if found[-1] == end else np.append(found, end)

    # What is read off is in the caller's units.

    def time(self, t: Any) -> Any:
        return t / self.units.rate

    def factors_at(self, t: float) -> Factors:
        return self.factors(self.at(t * self.units.rate))

    def W_at(self, t: float) -> np.ndarray:
        return self.W(self.at(t * self.units.rate))

    def factors(self, columns: list[Columns]) -> Factors:
        return self.stack.split(self._stacked(columns))

    def _stacked(self, columns: list[Columns]) -> np.ndarray:
        U = self.still.copy()
        for places, path, column in zip(self.places, self.paths, columns, strict=True):
            X = path.whole(column.X)
            U[places] = self.units.factor * ((X * np.exp(column.ell)) @ column.V.T)
        return U

    def W(self, columns: list[Columns]) -> np.ndarray:
        W = self.stack.product(self._stacked(columns))
        for part, path, column in zip(self.parts, self.paths, columns, strict=True):
            if path.field.blocks is not None:
                continue
            # Columns of one hidden basis give W without the rounding of a rotation.
            Z = path.whole(column.X) * np.exp(column.ell)
            block = part.field.stack.product(Z)
            W[np.ix_(part.rows, part.cols)] = self.units.W * block
        return W

    def singular_values(self, columns: list[Columns]) -> np.ndarray:
        m, n = self.problem.shape
        if min(m, n) >= LARGE and self._in_one_piece():
            return self._few_singular_values(columns[0])
        U = self._stacked(columns)
        if min(m, n) <= 2 * U.shape[1] or m * n <= 10_000:
            return np.linalg.svd(self.W(columns), compute_uv=False)
        # W = Q_A R_A R_Bᵀ Q_Bᵀ: a long product has the singular values of its small core.
        # NumPy's annotations know no mode in which `qr` returns one matrix.
        A, B = U[self.stack.left], U[self.stack.right]
        core = np.linalg.qr(A, mode="r") @ np.linalg.qr(B, mode="r").T  # type: ignore[attr-defined]
        values = np.zeros(min(m, n))
        values[: len(core)] = np.linalg.svd(core, compute_uv=False)
        return values

    def _in_one_piece(self) -> bool:
        """Whether the columns of one part are those of W: all its rows, in one hidden basis."""
        whole = [path.field.p for path in self.paths if path.field.basis is None]
        return whole == [self.stack.p]

    def _few_singular_values(self, column: Columns) -> np.ndarray:
        """Those of one large part, without the columns that drown in its rounding."""
        values = np.zeros(min(self.problem.shape))
        stack = self.parts[0].field.stack
        kept = 2 * column.ell > 2 * column.ell.max(initial=-np.inf) + np.log(1e-2 * EPS)
        Z = column.X[:, kept] * np.exp(column.ell[kept])
        A, B = Z[stack.left], Z[stack.right]
        if 2 * Z.shape[1] <= min(A.shape[0], B.shape[0]):
            A, B = np.linalg.qr(A, mode="r"), np.linalg.qr(B, mode="r")
        found = np.linalg.svd(A @ B.T, compute_uv=False)
        values[: len(found)] = self.units.W * found
        return values

    def excess(self, columns: list[Columns]) -> float:
        """f − min f, in the engine's units."""
        pairs = zip(self.paths, columns, strict=True)
        return float(sum(path.field.gradient(column.Z)[0] for path, column in pairs))

    def loss(self, columns: list[Columns]) -> float:
        return self.least + self.units.loss * self.excess(columns)

    def gradient_norm(self, columns: list[Columns]) -> float:
        """Frobenius norm of the gradient of all factors, |S U|; it needs no common basis."""
        total = 0.0
        for part, path, column in zip(self.parts, self.paths, columns, strict=True):
            X, U = path.whole(column.X), path.whole(column.Z)
            _, G = part.field.gradient(U)
            total += float(np.sum((part.field.stack.times(G, X) * np.exp(column.ell)) ** 2))
        return self.units.rate * self.units.factor * np.sqrt(total)

    def losses_and_norms(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At the times of all steps up to the end; those of a single part are at hand."""
        kept = 0
        if len(self.paths) == 1:
            path = self.paths[0]
            # The last of the times may lie inside a step.
            inside = path.states[len(times) - 1].t != self.end()
            kept = min(len(path.norms), len(times) - inside)
            loss = self.least + self.units.loss * np.array(path.losses[:kept])
            norm = self.units.rate * self.units.factor * np.array(path.norms[:kept])
        else:
            loss, norm = np.zeros(0), np.zeros(0)
        rest = [self.at(t) for t in times[kept:]]
        return (
            np.append(loss, [self.loss(columns) for columns in rest]),
            np.append(norm, [self.gradient_norm(columns) for columns in rest]),
        )

    def log10_columns(self, columns: list[Columns]) -> np.ndarray:
        ell = np.concatenate([column.ell for column in columns]) + self.units.log_factor
        return -np.sort(-ell) / np.log(10.0)
