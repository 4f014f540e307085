"""The loss that both kinds of problem share: a weighted sum of squared residuals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import real_array, require_finite

LOSSES = ("mean", "half")


def require_loss(loss: str) -> None:
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(
            f"loss must be 'mean' (the mean of the squared residuals) or 'half' (half their "
            f"sum), but is {loss!r}"
        )


def truth_of(truth: ArrayLike | None, shape: tuple[int, int]) -> np.ndarray | None:
    if truth is None:
        return None
    array = real_array("truth", truth, ndim=2)
    if array.shape != shape:
        raise ValueError(
            f"truth must have the problem's shape {shape}, but has {array.shape}; it is the whole "
            "matrix that the data were taken from"
        )
    require_finite("truth", array)
    array.setflags(write=False)
    return array


class LeastSquares(ABC):
    """The loss of a vector or matrix of residuals, shared by both kinds of problem.

    What engines ask a problem, whatever its class, is said in `protocols`.
    """

    loss: str
    observes_entries: ClassVar[bool] = False
    _residual_ndim: ClassVar[int]

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy is frozen as well: NumPy's copies and pickles of arrays may be written to.
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        self.__dict__.update(state)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]: ...

    @property
    @abstractmethod
    def n_observed(self) -> int: ...

    @abstractmethod
    def residual(self, W: ArrayLike) -> np.ndarray: ...

    @abstractmethod
    def _gradient_at(self, W: np.ndarray, residual: np.ndarray) -> np.ndarray: ...

    @property
    def weight(self) -> float:
        """Factor c in loss = c · Σ r²."""
        return 0.5 if self.loss == "half" else 1.0 / self.n_observed

    def loss_value(self, W: ArrayLike) -> float | np.ndarray:
        """f(W), inf beyond 1e308; an array over the leading axes of W where it has any."""
        return self._loss_of(self.residual(W))

    def gradient(self, W: ArrayLike) -> np.ndarray:
        """∇f(W), of the shape of W."""
        W = self._candidate(W)
        return self._gradient_at(W, self.residual(W))

    def value_and_gradient(self, W: ArrayLike) -> tuple[float | np.ndarray, np.ndarray]:
        """f(W) and ∇f(W) from one evaluation of the residual."""
        W = self._candidate(W)
        residual = self.residual(W)
        return self._loss_of(residual), self._gradient_at(W, residual)

    @np.errstate(over="ignore")
    def _loss_of(self, residual: np.ndarray) -> float | np.ndarray:
        axes = tuple(range(-self._residual_ndim, 0))
        value = self.weight * np.square(residual).sum(axis=axes)
        return float(value) if np.ndim(value) == 0 else value

    def _candidate(self, W: ArrayLike) -> np.ndarray:
        W = _floats("W", W)
        if W.shape[-2:] != self.shape:
            raise ValueError(
                f"W must end in the problem's shape {self.shape}, but has {W.shape}; give a matrix "
                "of that shape, or a stack of them"
            )
        return W

    def _weights(self, r: ArrayLike) -> np.ndarray:
        """One number a measurement, with any leading axes."""
        r = _floats("r", r)
        if r.shape[-1:] != (self.n_observed,):
            raise ValueError(
                f"r must hold one number a measurement, {self.n_observed}, in its last axis, but "
                f"has shape {r.shape}"
            )
        return r


def _floats(name: str, array: ArrayLike) -> np.ndarray:
    # Engines come here once a step, with arrays that need no look.
    if type(array) is np.ndarray and array.dtype == np.float64:
        return array
    return real_array(name, array)


def require_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, but is {name!r}")
