"""Sensing: linear measurements of a matrix are observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import real_array, require_finite
from mfbook.problems.in_units import power_of_two
from mfbook.problems.least_squares import LeastSquares, require_loss, require_name, truth_of


@dataclass(frozen=True, eq=False, repr=False)
class MatrixSensing(LeastSquares):
    r"""Find a matrix W ∈ ℝ^{m×n} from k linear measurements ⟨X_l, W⟩ = y_l.

    With the residuals r_l = ⟨X_l, W⟩ − y_l the loss is ½ Σ r_l² (loss="half"; Li, Luo & Lyu
    2021; Arora et al. 2019) or (1/k) Σ r_l² (loss="mean"). Matrix completion is the case X_l =
    e_i e_jᵀ.

    Parameters
    ----------
    measurements
        (k, m, n) array, the X_l.
    targets
        (k,) array, the y_l.
    loss, truth, name
        as for `MatrixCompletion`.

    Raises
    ------
    TypeError
        what is no array of real numbers: complex numbers, text, dates, None, sparse matrices.
    ValueError
        shapes that disagree, no measurement, entries that are not finite or masked.

    Examples
    --------
    >>> problem = MatrixSensing([[[1, 0], [0, 1]]], [3.0])
    >>> problem.loss_value([[1, 5], [5, 1]])
    0.5
    >>> problem.gradient([[1, 5], [5, 1]]).tolist()
    [[-1.0, 0.0], [0.0, -1.0]]

    References
    ----------
    Li, Luo & Lyu 2021, Section 3; Arora et al. 2019.
    """

    _residual_ndim = 1

    measurements: np.ndarray
    targets: np.ndarray
    loss: str = field(default="half", kw_only=True)
    truth: np.ndarray | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        measurements = real_array("measurements", self.measurements, ndim=3)
        targets = real_array("targets", self.targets, ndim=1)
        if len(measurements) != len(targets):
            raise ValueError(
                f"there must be one target a measurement, but there are {len(measurements)} "
                f"measurements and {len(targets)} targets; leave out what has no partner"
            )
        if measurements.size == 0:
            raise ValueError(
                f"measurements of shape {measurements.shape} hold nothing to fit; give at least one"
            )
        require_finite("measurements", measurements)
        require_finite("targets", targets)
        require_loss(self.loss)
        require_name(self.name)
        measurements.setflags(write=False)
        targets.setflags(write=False)
        object.__setattr__(self, "measurements", measurements)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "truth", truth_of(self.truth, self.shape))

    @property
    def shape(self) -> tuple[int, int]:
        return self.measurements.shape[1:]

    @property
    def n_observed(self) -> int:
        return len(self.targets)

    @np.errstate(over="ignore")
    def residual(self, W: ArrayLike) -> np.ndarray:
        """⟨X_l, W⟩ − y_l; (..., k) for W of shape (..., m, n)."""
        return self._measured(self._candidate(W)) - self.targets

    def measure(self, W: ArrayLike) -> np.ndarray:
        """⟨X_l, W⟩; (..., k) for W of shape (..., m, n)."""
        return self._measured(self._candidate(W))

    def _measured(self, W: np.ndarray) -> np.ndarray:
        flat = W.reshape(*W.shape[:-2], self.shape[0] * self.shape[1])
        return _summed(flat, self.measurements.reshape(self.n_observed, -1).T)

    def adjoint(self, r: ArrayLike) -> np.ndarray:
        """Σ r_l X_l; (..., m, n) for r of shape (..., k)."""
        return self._adjoint(self._weights(r))

    def _adjoint(self, r: np.ndarray) -> np.ndarray:
        flat = _summed(r, self.measurements.reshape(self.n_observed, -1))
        return flat.reshape(*r.shape[:-1], *self.shape)

    @property
    def sizes(self) -> np.ndarray:
        """The norms ‖X_l‖_F."""
        unit = _unit(self.measurements)
        with np.errstate(over="ignore"):
            return unit * np.linalg.norm(self.measurements / unit, axis=(1, 2))

    @cached_property
    def attainable(self) -> np.ndarray:
        """The targets nearest to the y_l that some matrix meets exactly.

        They are the y_l themselves unless the measurements depend on each other.
        """
        flat = self.measurements.reshape(self.n_observed, -1)
        left, sizes, _ = np.linalg.svd(flat, full_matrices=False)
        kept = left[:, sizes > max(flat.shape) * np.finfo(float).eps * sizes[0]]
        if kept.shape[1] == self.n_observed:
            return self.targets
        return kept @ (kept.T @ self.targets)

    @property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """One part, all rows and columns: measurements may link anything."""
        return [(np.arange(self.shape[0]), np.arange(self.shape[1]))]

    @np.errstate(over="ignore")
    def _gradient_at(self, W: np.ndarray, residual: np.ndarray) -> np.ndarray:
        found = 2.0 * self.weight * self._adjoint(residual)
        if np.isfinite(found).all() or not np.isfinite(W).all():
            return found
        # A residual beyond double precision has no share in entries that it does not see.
        unit = _unit(W, axis=(-2, -1))
        residual = self._measured(W / unit) - self.targets / unit[..., 0]
        return unit * (2.0 * self.weight * self._adjoint(residual))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<{self.n_observed} measurements of {self.shape}>)"


def _unit(array: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """A power of 2 of the size of the largest entry; 1 where all are 0."""
    return power_of_two(np.abs(array).max(axis=axis, keepdims=axis is not None))


@np.errstate(over="ignore", invalid="ignore")
def _summed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left @ right, where sums beyond double precision are inf and not the difference of two."""
    found = left @ right
    if np.isfinite(found).all() or not np.isfinite(left).all():
        return found
    of_left, of_right = _unit(left, axis=-1), _unit(right)
    return (left / of_left) @ (right / of_right) * of_left * of_right
