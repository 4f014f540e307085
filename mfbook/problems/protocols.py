"""What engines ask a problem, whatever its class.

The measurements of a matrix W are the numbers ⟨X_l, W⟩, and they should be y_l.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike


class Problem(Protocol):
    """What every problem has."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), the shape of W."""

    def measure(self, W: ArrayLike, /) -> np.ndarray:
        """The vector (⟨X_l, W⟩)_l; (..., k) for W of shape (..., m, n)."""

    def adjoint(self, r: ArrayLike, /) -> np.ndarray:
        """Σ r_l X_l, the transpose of `measure`; (..., m, n) for r of shape (..., k)."""

    @property
    def targets(self) -> np.ndarray:
        """The y_l."""

    @property
    def attainable(self) -> np.ndarray:
        """The numbers nearest to the y_l that the measurements of a matrix can be."""

    @property
    def sizes(self) -> np.ndarray:
        """The ‖X_l‖_F."""

    @property
    def weight(self) -> float:
        """The factor c in f(W) = c Σ r_l², r_l = ⟨X_l, W⟩ − y_l."""

    @property
    def parts(self) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        """Pairs (rows, cols) of index arrays: blocks of W that no measurement links."""

    @property
    def observes_entries(self) -> bool:
        """Whether the X_l read entries, row by row; then the problem is an `EntryProblem`."""


def is_symmetric(problem: Problem) -> bool:
    """Whether W = U Uᵀ is meant, for measurements that are symmetric matrices.

    A problem says so by an attribute `symmetric`; one without it means two factors or more.
    """
    return bool(getattr(problem, "symmetric", False))


def measurements_of(problem: Problem) -> np.ndarray:
    """The X_l; (k, m, n)."""
    stored = getattr(problem, "measurements", None)
    return problem.adjoint(np.eye(len(problem.targets))) if stored is None else stored


#: The names of what every problem has.
ASKED = tuple(name for name in vars(Problem) if not name.startswith("_"))


class EntryProblem(Problem, Protocol):
    """What a completion has besides."""

    @property
    def mask(self) -> np.ndarray:
        """(m, n) booleans, True where an entry is observed."""

    @property
    def values(self) -> np.ndarray:
        """(m, n), the observed entries; elsewhere anything."""


def reads_entries(problem: Problem) -> TypeGuard[EntryProblem]:
    """`problem.observes_entries`, in the form from which a type checker learns."""
    return problem.observes_entries
