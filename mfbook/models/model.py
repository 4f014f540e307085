"""The model that a problem means: how W is built, and how a gradient is pulled back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models.product import Product
from mfbook.models.square import Square
from mfbook.problems.checks import require_problem
from mfbook.problems.protocols import Problem, is_symmetric

Arrays = Sequence[np.ndarray]


class Model(Protocol):
    """W as a function of factors; its gradient flow is that of `share` · f(W)."""

    share: float

    def degree(self, arrays: Arrays, /) -> int:
        """The degree of W in the entries of the factors."""

    def factors_of(
        self, problem: Problem, factors: Sequence[ArrayLike], /
    ) -> tuple[np.ndarray, ...]:
        """The factors as float64 arrays that fit the problem, leading axes being separate runs."""

    def one_run(
        self, problem: Problem, factors: Sequence[ArrayLike], who: str, /
    ) -> tuple[np.ndarray, ...]:
        """`factors_of` for one run; `who` says in the message what is about one."""

    def zeros(self, shape: tuple[int, int], width: int, /) -> tuple[np.ndarray, ...]:
        """Factors of zeros."""

    def product(self, arrays: Arrays, /) -> np.ndarray:
        """W."""

    def gradients(self, arrays: Arrays, G: np.ndarray, /) -> list[np.ndarray]:
        """Those of share · f(W) with respect to the factors, where ∇f(W) = G."""

    def jacobian(self, arrays: Arrays, /) -> np.ndarray:
        """The derivative of W, row by row, after the factors, one after another, row by row."""

    def bend(self, arrays: Arrays, G: np.ndarray, /) -> np.ndarray:
        """The second derivative of share · ⟨G, W⟩ after the same parameters."""

    def tall(self, arrays: Arrays, /) -> tuple[np.ndarray, ...]:
        """The factors with a hidden direction a column, those of the rows of W first."""

    def from_tall(self, pieces: Arrays, /) -> tuple[np.ndarray, ...]:
        """The factors again."""

    def escape(self, G: np.ndarray, /) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Rates at which a small column grows where ∇f(W) = G, falling, and (u, v) of the first."""


PRODUCT, SQUARE = Product(), Square()


def model_of(problem: Problem) -> Model:
    """The model of the problem: U Uᵀ if it is symmetric, a product of factors otherwise."""
    require_problem(problem)
    return SQUARE if is_symmetric(problem) else PRODUCT
