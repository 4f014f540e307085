"""W = U Uᵀ: the one factor of a symmetric problem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models.product import in_order
from mfbook.problems.checks import real_array, require_finite, require_problem
from mfbook.problems.protocols import Problem


class Square:
    """The model W = U Uᵀ with the loss ½ f(U Uᵀ), whose gradient is ∇f(U Uᵀ) U."""

    share = 0.5

    def degree(self, arrays: Sequence[np.ndarray]) -> int:
        return 2

    def factors_of(self, problem: Problem, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
        """Return `factors` as (U,), a float64 array (..., d, h), or say what is wrong with it."""
        require_problem(problem)
        arrays = [real_array(f"factor {k}", factor) for k, factor in enumerate(in_order(factors))]
        shapes = [array.shape for array in arrays]
        d = problem.shape[0]
        if len(arrays) != 1:
            raise ValueError(
                f"a symmetric problem has one factor, (U,) with W = U Uᵀ, but got {len(arrays)} of "
                f"the shapes {shapes}; write (U,), or take a MatrixCompletion or MatrixSensing for "
                "W = A B"
            )
        U = arrays[0]
        if U.ndim < 2 or U.shape[-2] != d:
            raise ValueError(
                f"U must have {d} rows, one a row of W = U Uᵀ, but has the shape {U.shape}"
                + ("; write (U.T,)" if U.ndim > 1 and U.shape[-1] == d else "")
            )
        if U.shape[-1] == 0:
            raise ValueError(
                f"the hidden width must be at least 1, but U has the shape {U.shape}: without a "
                "column W is 0 for ever"
            )
        require_finite("U", U)
        if 0 in U.shape[:-2]:
            raise ValueError(
                f"the leading axes of U must hold at least one run, but are {U.shape[:-2]}"
            )
        return (U,)

    def one_run(
        self, problem: Problem, factors: Sequence[ArrayLike], who: str
    ) -> tuple[np.ndarray, ...]:
        """`factors_of` for one run; `who` says in the message what is about one."""
        (U,) = self.factors_of(problem, factors)
        if U.ndim != 2:
            raise ValueError(
                f"{who} one run, but U has the leading axes {U.shape[:-2]}; call it once a run"
            )
        return (U,)

    def zeros(self, shape: tuple[int, int], width: int) -> tuple[np.ndarray, ...]:
        return (np.zeros((shape[0], width)),)

    def product(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        W = arrays[0] @ np.swapaxes(arrays[0], -1, -2)
        return (W + np.swapaxes(W, -1, -2)) / 2

    def gradients(self, arrays: Sequence[np.ndarray], G: np.ndarray) -> list[np.ndarray]:
        return [G @ arrays[0]]

    def jacobian(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        (U,) = arrays
        d, h = U.shape
        # dW_ij = Σ_k dU_ik U_jk + U_ik dU_jk.
        one = np.einsum("ia,jk->ijak", np.eye(d), U)
        return (one + one.transpose(1, 0, 2, 3)).reshape(d * d, d * h)

    def bend(self, arrays: Sequence[np.ndarray], G: np.ndarray) -> np.ndarray:
        return np.kron(G, np.eye(arrays[0].shape[1]))

    def tall(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return (arrays[0],)

    def from_tall(self, pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return (pieces[0],)

    def escape(self, G: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        rates, vectors = np.linalg.eigh(-(G + G.T) / 2)
        return rates[::-1], (vectors[:, -1], vectors[:, -1])
