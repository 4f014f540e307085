r"""The papers' invariant manifolds: hidden vectors that stay in a subspace.

Ω_k(α_1, …, α_k) holds the factors (A, B) with every row of A and every column of B in
span{α_1, …, α_k}; the sub-manifold ω_k of a connected component also asks that the rows and
columns outside of the component vanish. Gradient flow leaves neither (Bai, Zhao & Zhang 2024,
Propositions 1 and 2, in the reading of their proofs: "contained in the span").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models.product import in_order
from mfbook.problems.checks import real_array, whole_number
from mfbook.problems.graph import components
from mfbook.problems.in_units import power_of_two
from mfbook.problems.text import Printable

# A basis of unit vectors counts as dependent where its smallest singular value is below this times
# the largest: rounding in vectors that were computed reaches a few eps, and nobody means an angle
# of 1e-10.
DEPENDENT = 1e-10


class InvariantManifold(Printable):
    r"""Ω_k(α_1, …, α_k), or ω_k of one connected component of a mask: a linear subspace.

        Ω_k = {(A, B) : a_i, b_j ∈ span{α_1, …, α_k} for all rows a_i of A, columns b_j of B}

        ω_k = {(A, B) ∈ Ω_k : a_i = 0 for rows i, b_j = 0 for columns j outside the component}

    Parameters
    ----------
    basis
        (k, h) array whose rows are α_1, …, α_k, linearly independent; k = 0 gives {0}.
    mask
        (m, n) boolean array, or a completion problem, for ω_k.
    component
        index into `components(mask)`, for ω_k.

    Raises
    ------
    ValueError
        a basis that is linearly dependent or not finite, a component index out of range.
    TypeError
        a mask without a component, a component without a mask, or one that is no integer; a basis
        that is no array of real numbers.

    Examples
    --------
    >>> omega = InvariantManifold([[1.0, 0.0]])
    >>> omega.distance(([[3.0, 0.0]], [[0.0], [4.0]]))
    4.0
    >>> inside = InvariantManifold([[1.0, 0.0]], mask=np.eye(2, dtype=bool), component=0)
    >>> A, B = inside.project((np.ones((2, 2)), np.ones((2, 2))))
    >>> A.tolist(), B.tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]])

    References
    ----------
    Bai, Zhao & Zhang 2024, Propositions 1 and 2, in the reading of their proofs.
    """

    def __init__(
        self, basis: ArrayLike, *, mask: ArrayLike | None = None, component: int | None = None
    ) -> None:
        basis = real_array("basis", basis, ndim=2, finite=True)
        k, h = basis.shape
        largest = np.abs(basis).max(axis=1, initial=0.0, keepdims=True)
        unit = basis / np.where(largest > 0, largest, 1.0)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1.0)
        _, sizes, axes = np.linalg.svd(unit, full_matrices=False)
        if k > h or (k and sizes[-1] <= DEPENDENT * sizes[0]):
            raise ValueError(
                f"the {k} vectors of the basis must be linearly independent, but they span "
                f"a space of dimension {int((sizes > DEPENDENT * sizes.max(initial=0.0)).sum())} "
                f"in the hidden space R^{h}; leave out the dependent ones"
            )
        if (mask is None) != (component is None):
            raise TypeError("a sub-manifold needs both a mask and the index of a component")
        self.basis = basis
        self.rows: np.ndarray | None = None
        self.cols: np.ndarray | None = None
        self._mask_shape: tuple[int, ...] | None = None
        if mask is not None:
            component = whole_number("component", component)
            parts = components(mask)
            if not 0 <= component < len(parts):
                raise ValueError(
                    f"component must be between 0 and {len(parts) - 1}, for the mask has "
                    f"{len(parts)} connected components, but is {component}"
                )
            self.rows, self.cols = parts[component]
            self._mask_shape = np.shape(mask)
        # The orthogonal projector of the hidden space onto the span.
        self._projector = axes.T @ axes

    @property
    def k(self) -> int:
        """The dimension of the span, and the number of vectors of the basis."""
        return len(self.basis)

    def project(self, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
        """The nearest point (A', B') of the manifold, in the Frobenius norm of (A, B).

        Raises ValueError for other than two factors, and for shapes that do not fit the basis or
        the mask.
        """
        A, B = self._two(factors)
        unit = _unit(A, B)
        near_A, near_B = self._nearest(A / unit, B / unit)
        with np.errstate(over="ignore"):
            return unit * near_A, unit * near_B

    def _nearest(self, A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        A, B = A @ self._projector, self._projector @ B
        if self.rows is not None and self.cols is not None:
            A[np.setdiff1d(np.arange(len(A)), self.rows)] = 0.0
            B[:, np.setdiff1d(np.arange(B.shape[1]), self.cols)] = 0.0
        return A, B

    def distance(self, factors: Sequence[ArrayLike]) -> float:
        """Frobenius distance of (A, B) from the manifold; 0 on it. Raises what `project` does."""
        A, B = self._two(factors)
        unit = _unit(A, B)
        near_A, near_B = self._nearest(A / unit, B / unit)
        parts = np.linalg.norm(A / unit - near_A), np.linalg.norm(B / unit - near_B)
        return unit * float(np.hypot(*parts))

    def _two(self, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
        two = in_order(factors)
        if len(two) != 2:
            raise ValueError(f"the manifolds are those of two factors, W = A B, but got {len(two)}")
        A, B = (
            real_array(f"factor {k}", factor, ndim=2, finite=True) for k, factor in enumerate(two)
        )
        h = self.basis.shape[1]
        if A.shape[1] != h or B.shape[0] != h:
            raise ValueError(
                f"the factors must have the hidden width {h} of the basis, but have the shapes "
                f"{A.shape} and {B.shape}"
            )
        if self._mask_shape not in (None, (len(A), B.shape[1])):
            raise ValueError(
                f"the product of the factors must have the shape of the mask, but A B is "
                f"{len(A)} × {B.shape[1]} for a mask of shape {self._mask_shape}"
            )
        return A, B

    def __repr__(self) -> str:
        where = "" if self.rows is None else f", rows {self.rows}, columns {self.cols}"
        return f"InvariantManifold(k = {self.k}{where})"


def _unit(A: np.ndarray, B: np.ndarray) -> float:
    """A power of 2 of the size of the largest entry, so that no square leaves the numbers."""
    return float(power_of_two(max(np.abs(A).max(initial=0.0), np.abs(B).max(initial=0.0))))
