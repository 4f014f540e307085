"""What is observed: completion and sensing problems, and where a flow starts.

A problem knows its data and three functions of a candidate W: the residual, the loss and the
gradient of the loss with respect to W. Everything else in the package is built on those three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

UNOBSERVED_WORDS = frozenset({"?", "*", "★", "nan"})
LOSSES = ("mean", "half")


def real_array(name: str, value: ArrayLike, ndim: int | None = None) -> np.ndarray:
    """Return `value` as a float64 copy, or say what keeps it from being a real array."""
    if np.iscomplexobj(value):
        raise TypeError(
            f"{name} must be real, but holds complex numbers: the flows here live on real "
            "matrices; pass the real part if the imaginary part is zero"
        )
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers: {error}") from error
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimensions, but has shape {array.shape}; reshape it"
        )
    return array


def _require_finite(name: str, array: np.ndarray, where: np.ndarray | None = None) -> None:
    bad = ~np.isfinite(array) if where is None else where & ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} must be finite, but the entry at {place} is {array[place]}; "
            "mark it as unobserved or correct it"
        )


def _require_loss(loss: str) -> None:
    if loss not in LOSSES:
        raise ValueError(
            f"loss must be 'mean' (the mean of the squared residuals) or 'half' (half their "
            f"sum), but is {loss!r}"
        )


def _truth_of(truth: ArrayLike | None, shape: tuple[int, int]) -> np.ndarray | None:
    if truth is None:
        return None
    array = real_array("truth", truth, ndim=2)
    if array.shape != shape:
        raise ValueError(f"truth must have the problem's shape {shape}, but has {array.shape}")
    _require_finite("truth", array)
    array.setflags(write=False)
    return array


class _LeastSquares:
    """The loss of a vector or matrix of residuals, shared by both kinds of problem."""

    loss: str
    n_observed: int
    _residual_ndim: ClassVar[int]

    @property
    def _weight(self) -> float:
        """Factor c in loss = c · Σ r²."""
        return 0.5 if self.loss == "half" else 1.0 / self.n_observed

    def loss_value(self, W: ArrayLike) -> float | np.ndarray:
        """f(W); an array over the leading axes of W where it has any."""
        return self._loss_of(self.residual(W))

    def gradient(self, W: ArrayLike) -> np.ndarray:
        """∇f(W), of the shape of W."""
        return self._gradient_of(self.residual(W))

    def value_and_gradient(self, W: ArrayLike) -> tuple[float | np.ndarray, np.ndarray]:
        """f(W) and ∇f(W) from one evaluation of the residual."""
        residual = self.residual(W)
        return self._loss_of(residual), self._gradient_of(residual)

    def _loss_of(self, residual: np.ndarray) -> float | np.ndarray:
        axes = tuple(range(-self._residual_ndim, 0))
        value = self._weight * np.square(residual).sum(axis=axes)
        return float(value) if np.ndim(value) == 0 else value

    def _candidate(self, W: ArrayLike) -> np.ndarray:
        W = np.asarray(W, dtype=np.float64)
        if W.shape[-2:] != self.shape:
            raise ValueError(f"W must end in the problem's shape {self.shape}, but has {W.shape}")
        return W


@dataclass(frozen=True, eq=False, repr=False)
class MatrixCompletion(_LeastSquares):
    r"""Complete a matrix M ∈ ℝ^{m×n} from the entries in a set Ω.

    The problem is to find W with W_ij = M_ij for the N observed entries (i, j) ∈ Ω. With
    the residual r_ij = W_ij − M_ij on Ω, and 0 elsewhere, the loss is

        loss="mean":  f(W) = (1/N) Σ r_ij²     (Bai, Zhao & Zhang 2024, Eq. 2)
        loss="half":  f(W) = ½ Σ r_ij²         (Li, Luo & Lyu 2021; Arora et al. 2019)

    The stored `values` are NaN where nothing was observed, so that no computation can look there.

    Parameters
    ----------
    values
        (m, n) array of real numbers; unobserved entries may hold anything, NaN included.
    mask
        (m, n) boolean array, True where an entry is observed; at least one must be.
    loss
        "mean" or "half".
    truth
        (m, n) array, optional: the matrix that the entries were taken from.
    name
        a short name for tables and figures.

    Raises
    ------
    TypeError
        complex numbers, or a mask that is not boolean.
    ValueError
        shapes that disagree, an empty mask, an observed value that is not finite.

    Examples
    --------
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> problem.shape, problem.n_observed
    ((2, 2), 3)
    >>> problem.loss_value([[1, 2], [3, 6]]), problem.loss_value([[0, 2], [1, 6]])
    (0.0, 1.6666666666666665)
    >>> problem.gradient([[0, 2], [1, 6]]).round(3).tolist()
    [[-0.667, 0.0], [-1.333, 0.0]]
    """

    _residual_ndim = 2

    values: np.ndarray
    mask: np.ndarray
    loss: str = field(default="mean", kw_only=True)
    truth: np.ndarray | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        values = real_array("values", self.values, ndim=2)
        mask = observed_mask(self.mask)
        if mask.shape != values.shape:
            raise ValueError(
                f"values and mask must have the same shape, but have {values.shape} and "
                f"{mask.shape}"
            )
        if not mask.any():
            raise ValueError(
                "mask selects no entry: gradient flow has nothing to fit; observe at least one "
                "entry"
            )
        _require_finite("an observed value", values, where=mask)
        _require_loss(self.loss)
        values[~mask] = np.nan
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "truth", _truth_of(self.truth, values.shape))

    @classmethod
    def from_text(cls, text: str, **options) -> MatrixCompletion:
        """Read a problem from rows of words; `?`, `*`, `★` and `nan` are unobserved.

        Rows end with `;` or a newline, words are separated by spaces or commas. Options are those
        of the class.

        >>> MatrixCompletion.from_text("1 2 ?; 3 ? ?; ? ? 5")
        MatrixCompletion('1 2 ★; 3 ★ ★; ★ ★ 5')
        """
        rows = [row.replace(",", " ").split() for row in text.replace(";", "\n").splitlines()]
        rows = [row for row in rows if row]
        if not rows:
            raise ValueError("the text holds no row; write one like '1 2; 3 ?'")
        widths = [len(row) for row in rows]
        if len(set(widths)) > 1:
            raise ValueError(
                f"all rows must have the same number of entries, but they have {widths}; write "
                "'?' for an entry that is not observed"
            )
        values = np.full((len(rows), widths[0]), np.nan)
        mask = np.zeros(values.shape, dtype=bool)
        for i, row in enumerate(rows):
            for j, word in enumerate(row):
                if word.lower() in UNOBSERVED_WORDS:
                    continue
                try:
                    values[i, j] = float(word)
                except ValueError:
                    raise ValueError(
                        f"row {i}, column {j}: {word!r} is neither a number nor one of "
                        f"{', '.join(sorted(UNOBSERVED_WORDS))}"
                    ) from None
                mask[i, j] = True
        return cls(values, mask, **options)

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape

    @property
    def n_observed(self) -> int:
        return int(self.mask.sum())

    def residual(self, W: ArrayLike) -> np.ndarray:
        """W − M on the observed entries, zero elsewhere; (..., m, n) for W of shape (..., m, n)."""
        return np.where(self.mask, self._candidate(W) - self.values, 0.0)

    def _gradient_of(self, residual: np.ndarray) -> np.ndarray:
        return 2.0 * self._weight * residual

    def words(self) -> list[list[str]]:
        """The matrix as words, ★ where nothing is observed."""
        return [
            [f"{v:g}" if seen else "★" for v, seen in zip(row, mask, strict=True)]
            for row, mask in zip(self.values, self.mask, strict=True)
        ]

    def __repr__(self) -> str:
        if max(self.shape) > 8:
            return f"MatrixCompletion(<{self.n_observed} entries of {self.shape}>)"
        return f"MatrixCompletion({'; '.join(' '.join(row) for row in self.words())!r})"

    def _repr_latex_(self) -> str | None:
        if max(self.shape) > 8:
            return None
        body = r" \\ ".join(" & ".join(row) for row in self.words()).replace("★", r"\star")
        return rf"$\displaystyle \begin{{bmatrix}} {body} \end{{bmatrix}}$"


@dataclass(frozen=True, eq=False, repr=False)
class MatrixSensing(_LeastSquares):
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
        complex numbers.
    ValueError
        shapes that disagree, no measurement, entries that are not finite.

    Examples
    --------
    >>> problem = MatrixSensing([[[1, 0], [0, 1]]], [3.0])
    >>> problem.loss_value([[1, 5], [5, 1]])
    0.5
    >>> problem.gradient([[1, 5], [5, 1]]).tolist()
    [[-1.0, 0.0], [0.0, -1.0]]
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
                f"measurements and {len(targets)} targets"
            )
        if measurements.size == 0:
            raise ValueError(
                f"measurements of shape {measurements.shape} hold nothing to fit; give at least one"
            )
        _require_finite("measurements", measurements)
        _require_finite("targets", targets)
        _require_loss(self.loss)
        measurements.setflags(write=False)
        targets.setflags(write=False)
        object.__setattr__(self, "measurements", measurements)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "truth", _truth_of(self.truth, self.shape))

    @property
    def shape(self) -> tuple[int, int]:
        return self.measurements.shape[1:]

    @property
    def n_observed(self) -> int:
        return len(self.targets)

    def residual(self, W: ArrayLike) -> np.ndarray:
        """⟨X_l, W⟩ − y_l; (..., k) for W of shape (..., m, n)."""
        W = self._candidate(W)
        flat = W.reshape(*W.shape[:-2], -1)
        return flat @ self.measurements.reshape(self.n_observed, -1).T - self.targets

    def _gradient_of(self, residual: np.ndarray) -> np.ndarray:
        flat = residual @ self.measurements.reshape(self.n_observed, -1)
        return 2.0 * self._weight * flat.reshape(*residual.shape[:-1], *self.shape)

    def __repr__(self) -> str:
        return f"MatrixSensing(<{self.n_observed} measurements of {self.shape}>)"


def observed_mask(mask: ArrayLike) -> np.ndarray:
    """Return `mask` as a read-only two-dimensional boolean array, or say what is wrong with it."""
    array = np.array(mask)
    if array.dtype != np.bool_:
        raise TypeError(
            f"mask must be boolean, but has dtype {array.dtype}; write mask != 0 or mask == 1, "
            "whichever you mean"
        )
    if array.ndim != 2:
        raise ValueError(f"mask must have 2 dimensions, but has shape {array.shape}")
    array.setflags(write=False)
    return array


def factors_of(problem, factors) -> tuple[np.ndarray, ...]:
    """Return `factors` as float64 arrays whose product has the problem's shape.

    Leading axes (seeds, scales) are broadcast against each other. Raises where the product is
    not defined, has another shape, or holds entries that are not finite.
    """
    if isinstance(factors, np.ndarray):
        raise TypeError(
            "factors must be a tuple in product order, W = factors[0] @ factors[1] @ …; for an "
            "unfactored model write (W,)"
        )
    arrays = [real_array(f"factor {k}", factor) for k, factor in enumerate(factors)]
    shapes = [array.shape for array in arrays]
    if not arrays or min(array.ndim for array in arrays) < 2:
        raise ValueError(f"factors must be matrices, but have the shapes {shapes}")
    inner = all(a.shape[-1] == b.shape[-2] for a, b in pairwise(arrays))
    if not inner or (arrays[0].shape[-2], arrays[-1].shape[-1]) != problem.shape:
        raise ValueError(
            f"the factors must multiply to the problem's shape {problem.shape}, but have the "
            f"shapes {shapes}"
        )
    if any(array.shape[-1] == 0 for array in arrays[:-1]):
        raise ValueError(
            f"the hidden width must be at least 1, but the factors have the shapes {shapes}"
        )
    for k, array in enumerate(arrays):
        _require_finite(f"factor {k}", array)
    try:
        batch = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    except ValueError:
        raise ValueError(
            f"the leading axes of the factors must agree, but their shapes are {shapes}"
        ) from None
    return tuple(np.broadcast_to(a, batch + a.shape[-2:]).copy() for a in arrays)


def small_init(
    shape: tuple[int, int], *, depth: int = 2, width: int | None = None, rng, batch=()
) -> tuple[np.ndarray, ...]:
    """Gaussian directions for a factored model: `depth` factors with entries from N(0, 1).

    They are directions only: multiply each by a scale α, or give gradient flow its
    `log10_scale`. (Bai et al. 2024, B.1: Gaussian, mean zero.)

    Parameters
    ----------
    shape
        (m, n), the shape of the product.
    depth
        number of factors N ≥ 1.
    width
        hidden width h of every inner dimension; min(m, n), which restricts no rank, if None.
    rng
        a `numpy.random.Generator` or an integer seed; required, so that every start is explicit.
    batch
        leading axes, for many starts at once.

    Examples
    --------
    >>> [factor.shape for factor in small_init((3, 4), rng=0)]
    [(3, 3), (3, 4)]
    >>> [factor.shape for factor in small_init((3, 4), depth=3, width=5, rng=0, batch=100)]
    [(100, 3, 5), (100, 5, 5), (100, 5, 4)]
    """
    if rng is None:
        raise TypeError("rng must be a numpy Generator or an integer seed, so that runs repeat")
    m, n = shape
    if width is None:
        width = min(m, n)
    if min(m, n, depth, width) < 1:
        raise ValueError(
            f"shape, depth and width must be at least 1, but are {tuple(shape)}, {depth}, {width}"
        )
    rng = np.random.default_rng(rng)
    batch = (batch,) if np.ndim(batch) == 0 else tuple(batch)
    sizes = [m, *[width] * (depth - 1), n]
    return tuple(rng.standard_normal((*batch, rows, cols)) for rows, cols in pairwise(sizes))
