"""Completion: some entries of a matrix are observed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import observed_mask, real_array, require_finite
from mfbook.problems.least_squares import LeastSquares, require_loss, truth_of

UNOBSERVED_WORDS = frozenset({"?", "*", "★", "nan"})


@dataclass(frozen=True, eq=False, repr=False)
class MatrixCompletion(LeastSquares):
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
        require_finite("an observed value", values, where=mask)
        require_loss(self.loss)
        values[~mask] = np.nan
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "truth", truth_of(self.truth, values.shape))

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
