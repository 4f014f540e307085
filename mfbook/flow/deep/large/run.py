"""A run of large layers in the caller's units, and what a trajectory reads off it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse.linalg import svds

from mfbook.flow.deep.large.field import DENSE_ENTRIES, Data
from mfbook.flow.deep.large.path import LargePath
from mfbook.flow.deep.large.pieces import Piece
from mfbook.flow.deep.large.reading import W_of, layers_of, singular_values_of
from mfbook.flow.deep.large.state import State
from mfbook.flow.deep.phases import Readings
from mfbook.flow.deep.run import Run
from mfbook.flow.deep.symmetry import Kept
from mfbook.flow.shallow.engine import Options
from mfbook.flow.trajectory import Trajectory
from mfbook.models import product
from mfbook.problems.fit import gradient
from mfbook.problems.protocols import Problem

# Layers with more entries are large: the eigenvectors of a Jacobian of so many take a second.
LARGE = 1000
# Symmetries are looked for by eigenvectors of matrices with so many rows at most.
MOST_ROWS = 600


def are_large(arrays: tuple[np.ndarray, ...]) -> bool:
    return sum(array.size for array in arrays) > LARGE


class LargeRun(Run[State, Piece]):
    """A path of large layers in the caller's units."""

    data: Data
    path: LargePath

    def __init__(self, problem: Problem, arrays: tuple[np.ndarray, ...], options: Options) -> None:
        super().__init__(problem, arrays, options)
        self.data = Data(problem, self.units)
        goal = self._goal(options, self._loss_at_start)
        self.path = LargePath(self.data, self._measured(arrays), self.log_start, goal)

    def _loss_at_start(self) -> float:
        *layers, last = self._measured(self.arrays)
        first = np.exp(len(self.arrays) * self.log_start) * product(layers)
        return self.data.observed.gradient(first, last)[1]

    def has_left(self, rests: list[int]) -> bool:
        """Parts are among it, for nothing keeps them here; and only some sizes are looked at."""
        if max(max(array.shape) for array in self.arrays) > MOST_ROWS:
            return False
        start = self._with_gradients(self.arrays)
        return self._loses(Kept(*start, with_parts=True), rests)

    def _layers(self, state: State) -> list[np.ndarray]:
        return layers_of(state)

    def _W(self, state: State) -> np.ndarray:
        return W_of(self.data, state)


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
        run = self.run
        if run.has_unmeasured:
            return super().singular_values(trajectory)
        found = [singular_values_of(run.data, moment.state) for moment in run.moments]
        return run.units.W * np.array(found)

    def _direction(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if W.size <= DENSE_ENTRIES:
            return super()._direction(W)
        G = -gradient(self.run.problem, W)
        u, _, vt = svds(G, k=1, v0=np.ones(min(G.shape)))
        sign = float(np.sign(u[np.argmax(np.abs(u[:, 0])), 0]))
        return sign * u[:, 0], sign * vt[0]
