"""One run of gradient flow with three large factors or more: followed and read off."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.sparse.linalg import svds

from mfbook.flow.deep.engine import Readings, Run, Start
from mfbook.flow.deep.field import DENSE_ENTRIES, Data
from mfbook.flow.deep.large import LargePath
from mfbook.flow.deep.large_pieces import Moment
from mfbook.flow.deep.large_state import State
from mfbook.flow.deep.symmetry import Kept
from mfbook.flow.shallow.engine import Options
from mfbook.flow.shallow.units import units_of
from mfbook.flow.trajectory import Trajectory
from mfbook.models import product
from mfbook.problems.fit import fit_of, gradient
from mfbook.problems.protocols import Problem

# Layers with more entries are large: the eigenvectors of a Jacobian of so many take a second.
LARGE = 1000
# Symmetries are looked for by eigenvectors of matrices with so many rows at most.
MOST_ROWS = 600


def are_large(arrays: tuple[np.ndarray, ...]) -> bool:
    return sum(array.size for array in arrays) > LARGE


class LargeRun(Run):
    """A path of large layers in the caller's units."""

    path: LargePath  # type: ignore[assignment]
    data: Data  # type: ignore[assignment]

    def __init__(self, problem: Problem, arrays: tuple[np.ndarray, ...], options: Options) -> None:
        self.problem, self.arrays = problem, arrays
        depth = len(arrays)
        self.log_scale = options["log10_scale"] * float(np.log(10.0))
        with np.errstate(divide="ignore"):
            logs = [np.log(np.abs(array).max()) for array in arrays]
        measurement = float(problem.sizes.max()) or 1.0
        log_start = max(self.log_scale + float(np.mean(logs)), -1e4)
        self.units = units_of(problem.targets, measurement, log_start, depth)
        self.data = Data(problem, self.units)
        fit = fit_of(problem)
        self.least = fit.least
        threshold = fit.threshold(options["loss_tol"]) / self.units.loss
        layers = (arrays[0][self.data.rows], *arrays[1:-1], arrays[-1][:, self.data.cols])
        log_layers = self.log_scale - self.units.log_factor
        if fit.learnable == 0.0:
            first = np.exp(depth * log_layers) * product(layers[:-1])
            start = self.data.observed.gradient(first, layers[-1])[1]
            threshold = max(threshold, options["loss_tol"] * start)
        self.path = LargePath(
            self.data,
            layers,
            log_layers,
            rtol=options["rtol"],
            threshold=threshold,
            t_max=options["t_max"] * self.units.rate,
        )

    def has_left(self, rests: list[int]) -> bool:
        """As for few entries, and no parts are kept here; as far as symmetries are looked for."""
        if max(max(array.shape) for array in self.arrays) > MOST_ROWS:
            return False
        start = self._with_gradients(self.arrays)
        return self._loses(Kept(*start, with_parts=True), rests)

    def _start(self, loss: float) -> Start | None:
        for k, (before, after) in enumerate(pairwise(self.moments)):
            if before.loss > loss >= after.loss and before.piece is not None:
                local = self.path.crossing(k, loss)
                clock = before.clock.after(before.piece.log_dt(local))
                return Start(k, clock.local, clock.log)
        return None

    @property
    def moments(self) -> list[Moment]:  # type: ignore[override]
        return self.path.moments

    def factors(self, state: State) -> tuple[np.ndarray, ...]:  # type: ignore[override]
        found = self.path.layers(state)
        first = np.exp(self.log_scale) * self.arrays[0]
        last = np.exp(self.log_scale) * self.arrays[-1]
        first[self.data.rows] = self.units.factor * found[0]
        last[:, self.data.cols] = self.units.factor * found[-1]
        return (first, *(self.units.factor * layer for layer in found[1:-1]), last)

    def W(self, state: State) -> np.ndarray:  # type: ignore[override]
        W = np.zeros(self.problem.shape)
        if self._has_unmeasured:
            W = product(self.factors(state))
        W[np.ix_(self.data.rows, self.data.cols)] = self.units.W * self.path.W(state)
        return W

    @cached_property
    def _has_unmeasured(self) -> bool:
        return self.data.shape != self.problem.shape

    @property
    def singular_values(self) -> np.ndarray:
        """Of W at every moment."""
        if self._has_unmeasured:
            found = [np.linalg.svd(self.W(m.state), compute_uv=False) for m in self.moments]
            return np.array(found)
        return self.units.W * np.array([self.path.singular_values(m.state) for m in self.moments])


class _Products:
    """W at every moment, each formed when it is asked for."""

    def __init__(self, run: LargeRun) -> None:
        self.run = run

    def __getitem__(self, k: int) -> np.ndarray:
        return self.run.W(self.run.moments[k].state)


class LargeReadings(Readings):
    """What a trajectory of large layers tells of its run when it is asked."""

    run: LargeRun

    @cached_property
    def Ws(self) -> _Products:  # type: ignore[override]
        return _Products(self.run)

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        return self.run.singular_values

    def _direction(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if W.size <= DENSE_ENTRIES:
            return super()._direction(W)
        G = -gradient(self.run.problem, W)
        u, _, vt = svds(G, k=1, v0=np.ones(min(G.shape)))
        sign = float(np.sign(u[np.argmax(np.abs(u[:, 0])), 0]))
        return sign * u[:, 0], sign * vt[0]
