"""Completion: some entries of a matrix are observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import (
    index_array,
    observed_mask,
    real_array,
    require_finite,
    shape_of,
)
from mfbook.problems.graph import components
from mfbook.problems.least_squares import LeastSquares, require_loss, require_name, truth_of
from mfbook.problems.text import Printable, read_matrix

# A matrix that is kept whole takes 9 bytes an entry.
LARGEST_FROM_TRIPLETS = 10**9


@dataclass(frozen=True, eq=False, repr=False)
class MatrixCompletion(Printable, LeastSquares):
    r"""Complete a matrix M ∈ ℝ^{m×n} from the entries in a set Ω.

    The problem is to find W with W_ij = M_ij for the N observed entries (i, j) ∈ Ω. With
    the residual r_ij = W_ij − M_ij on Ω, and 0 elsewhere, the loss is

        loss="mean":  f(W) = (1/N) Σ r_ij²     (Bai, Zhao & Zhang 2024, Eq. 2)

        loss="half":  f(W) = ½ Σ r_ij²         (Li, Luo & Lyu 2021; Arora et al. 2019)

    The stored `values` are NaN where nothing was observed, so that no computation can look there.

    Parameters
    ----------
    values
        (m, n) array of real numbers; unobserved entries may hold any number, NaN included.
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
        values that are no array of real numbers (complex numbers, text, dates, None, sparse
        matrices), or a mask that is not boolean.
    ValueError
        shapes that disagree, an empty mask, an observed value that is not finite, a masked array
        with masked entries (`from_array` reads those as unobserved).

    Examples
    --------
    >>> problem = MatrixCompletion.from_text("1 2; 3 ?")
    >>> problem.shape, problem.n_observed
    ((2, 2), 3)
    >>> problem.loss_value([[1, 2], [3, 6]]), problem.loss_value([[0, 2], [1, 6]])
    (0.0, 1.6666666666666665)
    >>> problem.gradient([[0, 2], [1, 6]]).round(3).tolist()
    [[-0.667, 0.0], [-1.333, 0.0]]

    References
    ----------
    Bai, Zhao & Zhang 2024, Eq. 2; Li, Luo & Lyu 2021, Section 3; Arora et al. 2019.
    """

    _residual_ndim = 2
    observes_entries = True

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
                f"{mask.shape}; the mask is True where an entry of values is observed"
            )
        if not mask.any():
            raise ValueError(
                "mask selects no entry: gradient flow has nothing to fit; observe at least one "
                "entry"
            )
        require_finite("an observed value", values, where=mask)
        require_loss(self.loss)
        require_name(self.name)
        values[~mask] = np.nan
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "truth", truth_of(self.truth, values.shape))

    @classmethod
    def from_text(cls, text: str, **options: Any) -> MatrixCompletion:
        """Read a problem from rows of words, as people type or paste them.

        Rows end with `;` or a newline; a line without anything is no row. Where the text holds a
        comma, commas separate the cells of a row; otherwise, where it holds a tab, tabs do; a cell
        with nothing in it is an unobserved entry, also the one after the last comma of a row, so
        that no entry moves. Inside a cell, and where there is neither, spaces separate the
        entries. Square brackets around rows and around the whole, as Python and NumPy print them,
        are taken off.

        Unobserved are `?` `*` `★` `⋆` `☆` `_` `.` `-` `−` `–` `—` and, in upper or lower case,
        `nan` `na` `n/a` `<na>` `none` `null`. Numbers are decimal with a point, `-2.5e1`; the minus
        signs `−` `–` in front of a digit are understood. A comma is never a decimal comma, and
        there is no row or column of labels. A byte-order mark at the start is skipped.

        Options are those of the class.

        Raises
        ------
        TypeError
            what is not a string.
        ValueError
            rows of different lengths, a word that is neither a number nor one of those above,
            and text that can be read in two ways: semicolons inside lines of single entries
            (rows, or cells?), tabs both in front of all rows and inside them, an empty line
            inside a single column, spaces or tabs between numbers where commas stand between
            digits (decimal commas?).

        Examples
        --------
        >>> MatrixCompletion.from_text("1 2 ?; 3 ? ?; ? ? 5")
        MatrixCompletion('1 2 ★; 3 ★ ★; ★ ★ 5')
        >>> MatrixCompletion.from_text("1,,−3.5\\n,NA,2\\n")
        MatrixCompletion('1 ★ -3.5; ★ ★ 2')
        """
        return cls(*read_matrix(text), **options)

    @classmethod
    def from_array(cls, values: ArrayLike, **options: Any) -> MatrixCompletion:
        """The problem whose observed entries are those of `values` that are known.

        Unobserved are NaN, the masked entries of a masked array, None and pandas' NA.

        Parameters
        ----------
        values
            (m, n) array, or what makes one: nested lists, a DataFrame (its labels are dropped).
        options
            those of the class: loss, truth, name.

        Raises
        ------
        TypeError
            what is no array of real numbers; a sparse matrix, whose missing entries may be zeros
            (`from_triplets` takes its observed entries).
        ValueError
            no known entry, an infinite one, other than two dimensions.

        Examples
        --------
        >>> MatrixCompletion.from_array([[1, 2], [3, np.nan]])
        MatrixCompletion('1 2; 3 ★')
        >>> MatrixCompletion.from_array(np.ma.masked_equal([[1, 2], [3, -9]], -9), loss="half")
        MatrixCompletion('1 2; 3 ★')
        """
        if "mask" in options:
            raise TypeError(
                "from_array finds the observed entries by itself, but was given a mask; write "
                "MatrixCompletion(values, mask)"
            )
        values = real_array("values", values, ndim=2, unknown=True)
        return cls(values, ~np.isnan(values), **options)

    @classmethod
    def from_triplets(
        cls,
        rows: ArrayLike,
        cols: ArrayLike,
        values: ArrayLike,
        *,
        shape: tuple[int, int] | None = None,
        **options: Any,
    ) -> MatrixCompletion:
        """The problem with the observed entries M[rows[l], cols[l]] = values[l], l = 0, …, k − 1.

        An entry that is given more than once with one value is one observed entry, and counts
        once in the loss.

        Parameters
        ----------
        rows, cols
            (k,) integers that count from 0.
        values
            (k,) finite numbers.
        shape
            (m, n); the smallest that holds all entries if None.
        options
            those of the class: loss, truth, name.

        Raises
        ------
        TypeError
            what is no vector of numbers.
        ValueError
            vectors of different lengths or without an entry, an index that is negative, no
            integer or outside of the shape, an entry that is given with two values.

        Examples
        --------
        >>> MatrixCompletion.from_triplets([0, 1, 1], [0, 0, 2], [3.0, 4.0, 5.0])
        MatrixCompletion('3 ★ ★; 4 ★ 5')
        """
        rows, cols = index_array("rows", rows), index_array("cols", cols)
        numbers = real_array("values", values, ndim=1, finite=True)
        if not len(rows) == len(cols) == len(numbers):
            raise ValueError(
                "rows, cols and values must have one length, but have "
                f"{len(rows)}, {len(cols)} and {len(numbers)}"
            )
        if not len(rows):
            raise ValueError(
                "the triplets hold no entry: gradient flow has nothing to fit; give at least one"
            )
        least = int(rows.max()) + 1, int(cols.max()) + 1
        shape = least if shape is None else shape_of(shape)
        if least[0] > shape[0] or least[1] > shape[1]:
            raise ValueError(
                f"the entries must lie in the shape {shape}, but the largest indices are "
                f"{least[0] - 1} and {least[1] - 1}; they count from 0"
            )
        if shape[0] * shape[1] > LARGEST_FROM_TRIPLETS:
            raise ValueError(
                f"the matrix must have at most {LARGEST_FROM_TRIPLETS:,} entries, for it is kept "
                f"whole, but has the shape {shape}; number the rows and columns that occur with "
                "np.unique(rows, return_inverse=True)"
            )
        matrix, mask = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        matrix[rows, cols], mask[rows, cols] = numbers, True
        clash = np.flatnonzero(matrix[rows, cols] != numbers)
        if clash.size:
            first = int(clash[0])
            i, j = int(rows[first]), int(cols[first])
            other = int(np.flatnonzero((rows == i) & (cols == j) & (numbers != numbers[first]))[0])
            raise ValueError(
                f"an entry must have one value, but ({i}, {j}) is {numbers[first]:g} in triplet "
                f"{first} and {numbers[other]:g} in triplet {other}; keep one, or their mean"
            )
        return cls(matrix, mask, **options)

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape

    @property
    def n_observed(self) -> int:
        return int(self.mask.sum())

    @np.errstate(over="ignore")
    def residual(self, W: ArrayLike) -> np.ndarray:
        """W − M on the observed entries, zero elsewhere; (..., m, n) for W of shape (..., m, n)."""
        return np.where(self.mask, self._candidate(W) - self.values, 0.0)

    @np.errstate(over="ignore")
    def _gradient_at(self, W: np.ndarray, residual: np.ndarray) -> np.ndarray:
        return 2.0 * self.weight * residual

    @property
    def targets(self) -> np.ndarray:
        """The N observed values, row by row."""
        return self.values[self.mask]

    @property
    def sizes(self) -> np.ndarray:
        """The norms of the e_i e_jᵀ that read the entries: ones."""
        return np.ones(self.n_observed)

    @property
    def attainable(self) -> np.ndarray:
        """The targets: entries do not contradict each other."""
        return self.targets

    def measure(self, W: ArrayLike) -> np.ndarray:
        """The observed entries of W, row by row; (..., N) for W of shape (..., m, n)."""
        return self._candidate(W)[..., self.mask]

    def adjoint(self, r: ArrayLike) -> np.ndarray:
        """The matrix with r on the observed entries, zero elsewhere; (..., m, n) for (..., N)."""
        r = self._weights(r)
        W = np.zeros((*r.shape[:-1], *self.shape))
        W[..., self.mask] = r
        return W

    @cached_property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The connected components of the observed entries, as `components(mask)`."""
        return components(self.mask)

    def words(self) -> list[list[str]]:
        """The matrix as words, ★ where nothing is observed."""
        return [
            [f"{v:g}" if seen else "★" for v, seen in zip(row, mask, strict=True)]
            for row, mask in zip(self.values, self.mask, strict=True)
        ]

    def __repr__(self) -> str:
        if max(self.shape) > 8:
            return f"{type(self).__name__}(<{self.n_observed} entries of {self.shape}>)"
        return f"{type(self).__name__}({'; '.join(' '.join(row) for row in self.words())!r})"

    def _repr_latex_(self) -> str | None:
        if max(self.shape) > 8:
            return None
        body = r" \\ ".join(" & ".join(row) for row in self.words()).replace("★", r"\star")
        return rf"$\displaystyle \begin{{bmatrix}} {body} \end{{bmatrix}}$"
