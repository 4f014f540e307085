"""A problem in units in which its data and its measurements have size one."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.protocols import Problem


def power_of_two(size: ArrayLike) -> np.ndarray:
    """The largest power of two that is at most `size`; 1 for 0. As a unit it changes no digit.

    >>> power_of_two([0, 1, 7e300]).tolist() == [1, 1, 2.0**999]
    True
    """
    size = np.asarray(size)
    return np.where(size > 0, np.ldexp(1.0, np.frexp(size)[1] - 1), 1.0)


class InUnits:
    """What engines ask of `problem` where W has the unit u and the measurements the unit s.

    With W = u Ŵ, X_l = s X̂_l, y_l = u s ŷ_l its loss is f̂(Ŵ) = f(W)/(u s)². Units that are powers
    of 2 change no digit.

    >>> from mfbook.problems import MatrixCompletion
    >>> InUnits(MatrixCompletion.from_text("4 8; 2 ?"), 2.0, 1.0).targets.tolist()
    [2.0, 4.0, 1.0]
    """

    observes_entries = False

    def __init__(self, problem: Problem, W: float, measurement: float) -> None:
        self._problem, self._measurement = problem, measurement
        self.shape, self.weight, self.parts = problem.shape, problem.weight, problem.parts
        self.targets = problem.targets / W / measurement
        self.sizes = problem.sizes / measurement
        self._unit = W

    @cached_property
    def attainable(self) -> np.ndarray:
        return self._problem.attainable / self._unit / self._measurement

    def measure(self, W: ArrayLike) -> np.ndarray:
        return self._problem.measure(W) / self._measurement

    def adjoint(self, r: ArrayLike) -> np.ndarray:
        return self._problem.adjoint(r) / self._measurement
