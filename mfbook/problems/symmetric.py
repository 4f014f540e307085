"""Symmetric data for the model W = U Uᵀ: entries, and measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import real_number
from mfbook.problems.completion import MatrixCompletion
from mfbook.problems.graph import symmetric_parts
from mfbook.problems.in_units import power_of_two
from mfbook.problems.sensing import MatrixSensing

# Data that were computed as a product in double precision are symmetric to within some roundings.
SYMMETRY_TOL = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class SymmetricCompletion(MatrixCompletion):
    r"""Complete a symmetric matrix M ∈ ℝ^{d×d} from the entries in a symmetric set Ω, by W = U Uᵀ.

    The loss is that of `MatrixCompletion`, over ordered pairs: with r_ij = W_ij − M_ij on Ω,

        loss="half":  f(W) = ½ Σ_{(i,j) ∈ Ω} r_ij²,     loss="mean":  f(W) = (1/N) Σ r_ij²,

    so that a pair i ≠ j counts twice and a diagonal entry once. Wherever a problem is accepted, a
    symmetric one means the model W = U Uᵀ, with the factors (U,) and U of shape (d, h). Its
    gradient flow is that of ½ f(U Uᵀ), in the clock of Li, Luo & Lyu (2021, Eq. 1),

        dU/dt = −∇f(U Uᵀ) U.

    All these W are positive semidefinite, so data may leave a loss that no U removes.

    Parameters
    ----------
    values
        (d, d) array, symmetric where observed; unobserved entries may hold any number.
    mask
        (d, d) boolean array, symmetric, True where an entry is observed.
    loss, truth, name
        as for `MatrixCompletion`, but loss="half" is the default; truth is symmetric.
    tol
        M_ij and M_ji may differ by this share of the largest observed entry; what is stored is
        their mean. The default allows for double precision; data in single precision need 1e-6.

    Raises
    ------
    TypeError
        as for `MatrixCompletion`.
    ValueError
        a shape that is not square, an asymmetric mask or data (the first pair of entries that
        differs is named), and whatever `MatrixCompletion` refuses.

    Examples
    --------
    >>> problem = SymmetricCompletion.from_text("1 2; 2 ?")
    >>> problem.loss_value([[1, 1], [1, 5]])
    1.0
    >>> problem.gradient([[1, 1], [1, 5]]).tolist()
    [[0.0, -1.0], [-1.0, 0.0]]

    References
    ----------
    Li, Luo & Lyu 2021, Section 3 and Example 5.9.
    """

    symmetric: ClassVar[bool] = True

    loss: str = field(default="half", kw_only=True)
    tol: float = field(default=SYMMETRY_TOL, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_square(self.shape)
        tol = real_number("tol", self.tol, least=0)
        mask = self.mask
        if (mask != mask.T).any():
            i, j = _first(mask & ~mask.T)
            raise ValueError(
                f"the mask must be symmetric, but ({i}, {j}) is observed and ({j}, {i}) is not; "
                "observe both, as mask | mask.T does with values that are known, or take a "
                "MatrixCompletion, whose model is W = A B"
            )
        object.__setattr__(self, "values", _symmetric("an observed value", self.values, tol))
        if self.truth is not None:
            object.__setattr__(self, "truth", _symmetric("truth", self.truth, tol))
        object.__setattr__(self, "tol", tol)

    @classmethod
    def from_triplets(
        cls,
        rows: ArrayLike,
        cols: ArrayLike,
        values: ArrayLike,
        *,
        shape: tuple[int, int] | None = None,
        **options: Any,
    ) -> SymmetricCompletion:
        """The problem with M[rows[l], cols[l]] = M[cols[l], rows[l]] = values[l].

        Either of the two entries, or both, may be given; the rest is as for `MatrixCompletion`.

        >>> SymmetricCompletion.from_triplets([0, 0], [0, 2], [3.0, 4.0])
        SymmetricCompletion('3 ★ 4; ★ ★ ★; 4 ★ ★')
        """
        given = MatrixCompletion.from_triplets(rows, cols, values, shape=shape)
        if shape is None:
            size = max(given.shape)
            given = MatrixCompletion.from_triplets(rows, cols, values, shape=(size, size))
        _require_square(given.shape)
        known = np.where(given.mask, given.values, given.values.T)
        return cls(known, given.mask | given.mask.T, **options)

    @property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The connected components of the graph on d vertices, as `components(problem)`."""
        return symmetric_parts(self.mask)


@dataclass(frozen=True, eq=False, repr=False)
class SymmetricSensing(MatrixSensing):
    r"""Find W = U Uᵀ from linear measurements ⟨X_l, W⟩ = y_l with symmetric X_l ∈ ℝ^{d×d}.

    The loss is that of `MatrixSensing`, f(W) = ½ Σ (⟨X_l, W⟩ − y_l)² with loss="half"; the model
    and the clock are those of `SymmetricCompletion`, dU/dt = −∇f(U Uᵀ) U.

    Parameters
    ----------
    measurements
        (k, d, d) array, the X_l, each symmetric.
    targets
        (k,) array, the y_l.
    loss, truth, name, tol
        as for `SymmetricCompletion`; tol is relative to the largest entry of a measurement.

    Raises
    ------
    TypeError
        as for `MatrixSensing`.
    ValueError
        measurements that are not square or not symmetric (the first pair of entries that differs
        is named), and whatever `MatrixSensing` refuses.

    Examples
    --------
    >>> problem = SymmetricSensing([[[1, 0], [0, 1]]], [3.0])
    >>> problem.gradient([[1, 5], [5, 1]]).tolist()
    [[-1.0, 0.0], [0.0, -1.0]]

    References
    ----------
    Li, Luo & Lyu 2021, Section 3.
    """

    symmetric: ClassVar[bool] = True

    tol: float = field(default=SYMMETRY_TOL, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_square(self.shape)
        tol = real_number("tol", self.tol, least=0)
        measurements = np.array(
            [_symmetric(f"measurement {k}", X, tol) for k, X in enumerate(self.measurements)]
        )
        measurements.setflags(write=False)
        object.__setattr__(self, "measurements", measurements)
        if self.truth is not None:
            object.__setattr__(self, "truth", _symmetric("truth", self.truth, tol))
        object.__setattr__(self, "tol", tol)


def _require_square(shape: tuple[int, int]) -> None:
    if shape[0] != shape[1]:
        raise ValueError(
            f"a symmetric matrix is square, but the problem has the shape {shape}; take "
            "MatrixCompletion or MatrixSensing, whose model is W = A B"
        )


def _symmetric(name: str, array: np.ndarray, tol: float) -> np.ndarray:
    """The mean of the array and its transpose, where they differ by at most tol of the largest."""
    # In units, so that no difference leaves double precision.
    unit = power_of_two(np.nanmax(np.abs(array), initial=0.0))
    gap = np.abs(array / unit - array.T / unit)
    largest = np.nanmax(np.abs(array), initial=0.0) / unit
    if (gap > tol * largest).any():
        i, j = _first(gap > tol * largest)
        raise ValueError(
            f"{name} must be symmetric, but is {array[i, j]:.17g} at ({i}, {j}) and "
            f"{array[j, i]:.17g} at ({j}, {i}), which differ by {gap[i, j] / largest:.1e} of the "
            f"largest; pass tol={_next_power(gap, largest):.0e} if that is rounding, or the mean "
            "(M + M.T) / 2"
        )
    mean = np.where(array == array.T, array, array / 2 + array.T / 2)
    mean.setflags(write=False)
    return mean


def _next_power(gap: np.ndarray, largest: float) -> float:
    """The power of ten that the largest gap stays below."""
    return float(10.0 ** np.ceil(np.log10(np.nanmax(gap) / largest)))


def _first(where: np.ndarray) -> tuple[int, int]:
    i, j = np.argwhere(where)[0]
    return int(i), int(j)
