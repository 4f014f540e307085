"""A run of small layers in the caller's units: by their exact Jacobian."""

from __future__ import annotations

import numpy as np

from mfbook.flow.deep import kernel
from mfbook.flow.deep.data import Data
from mfbook.flow.deep.exact_path import ExactPath
from mfbook.flow.deep.layers import State
from mfbook.flow.deep.moments import Piece
from mfbook.flow.deep.reading import W_of, layers_of
from mfbook.flow.deep.run import Run
from mfbook.flow.deep.symmetry import Kept
from mfbook.flow.shallow.compiled import say_that_it_compiles
from mfbook.flow.shallow.engine import Options
from mfbook.models import product
from mfbook.problems.protocols import Problem


class ExactRun(Run[State, Piece]):
    """An exact path in the caller's units."""

    data: Data
    path: ExactPath

    def __init__(self, problem: Problem, arrays: tuple[np.ndarray, ...], options: Options) -> None:
        say_that_it_compiles(kernel.active_step)
        super().__init__(problem, arrays, options)
        self.data = Data(problem, self.units, arrays)
        goal = self._goal(options, self._loss_at_start)
        self.path = ExactPath(self.data, self.data.layers, self.log_start, goal)

    def _loss_at_start(self) -> float:
        layers = self.data.layers
        return self.data.loss(np.exp(len(layers) * self.log_start) * product(layers))

    def has_left(self, rests: list[int]) -> bool:
        """Parts are kept by zeros (`sectors`), so only copies and the mirror may be lost."""
        return self._loses(Kept(*self._with_gradients(self.arrays)), rests)

    def _layers(self, state: State) -> list[np.ndarray]:
        first, *inner, last = self.data.in_callers_spaces(layers_of(self.data, state))
        bases = self.data.bases
        return [bases.left @ first, *inner, last @ bases.right.T]

    def _W(self, state: State) -> np.ndarray:
        # Columns of one hidden basis give W without the rounding of a rotation.
        bases = self.data.bases
        return bases.left @ W_of(self.data, state) @ bases.right.T
