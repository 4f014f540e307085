"""W = W_1 W_2 ⋯ W_N: the product, and how a gradient is pulled back to the factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import real_array, require_finite, require_problem
from mfbook.problems.protocols import Problem, is_symmetric


def product(arrays: Sequence[np.ndarray]) -> np.ndarray:
    W = arrays[0]
    for array in arrays[1:]:
        W = W @ array
    return W


def factor_gradients(arrays: Sequence[np.ndarray], G: np.ndarray) -> list[np.ndarray]:
    """(W_1 ⋯ W_{j−1})ᵀ G (W_{j+1} ⋯ W_N)ᵀ for every j, sharing the partial products."""
    left, lefts = G, [G]
    for array in arrays[:-1]:
        left = np.swapaxes(array, -2, -1) @ left
        lefts.append(left)
    gradients = [lefts[-1]]
    right = None
    for k in range(len(arrays) - 2, -1, -1):
        following = np.swapaxes(arrays[k + 1], -2, -1)
        right = following if right is None else right @ following
        gradients.append(lefts[k] @ right)
    return gradients[::-1]


def factors_of(problem: Problem, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
    """Return `factors` as float64 arrays whose product has the problem's shape.

    Leading axes (seeds, scales) are broadcast against each other. Raises where the product is
    not defined, has another shape, or holds entries that are not finite, and where there is no
    run: a leading axis of length 0.
    """
    require_problem(problem)
    arrays = [real_array(f"factor {k}", factor) for k, factor in enumerate(in_order(factors))]
    shapes = [array.shape for array in arrays]
    if not arrays or min(array.ndim for array in arrays) < 2:
        raise ValueError(
            f"factors must be matrices, but have the shapes {shapes}; small_init(problem, rng=0) "
            "draws some"
        )
    inner = all(a.shape[-1] == b.shape[-2] for a, b in pairwise(arrays))
    if not inner or (arrays[0].shape[-2], arrays[-1].shape[-1]) != problem.shape:
        raise ValueError(
            f"the factors must multiply to the problem's shape {problem.shape}, but have the "
            f"shapes {shapes}; small_init(problem, rng=0) draws some that do"
        )
    if any(array.shape[-1] == 0 for array in arrays[:-1]):
        raise ValueError(
            f"the hidden width must be at least 1, but the factors have the shapes {shapes}"
        )
    for k, array in enumerate(arrays):
        require_finite(f"factor {k}", array)
    try:
        batch = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    except ValueError:
        raise ValueError(
            f"the leading axes of the factors must agree, but their shapes are {shapes}"
        ) from None
    if 0 in batch:
        raise ValueError(
            f"the leading axes of the factors must hold at least one run, but are {batch}"
        )
    return tuple(np.broadcast_to(a, batch + a.shape[-2:]).copy() for a in arrays)


def one_run(problem: Problem, factors: Sequence[ArrayLike], who: str) -> tuple[np.ndarray, ...]:
    """`factors_of` for one run; `who` says in the message what is about one."""
    arrays = factors_of(problem, factors)
    if arrays[0].ndim != 2:
        raise ValueError(
            f"{who} one run, but the factors have the leading axes {arrays[0].shape[:-2]}; call it "
            "once a run"
        )
    return arrays


def require_layers(problem: Problem, what: str) -> None:
    """Raise where the problem means U Uᵀ; `what` begins the message."""
    require_problem(problem)
    if is_symmetric(problem):
        raise ValueError(
            f"{what} but the problem is a {type(problem).__name__}, whose model is W = U Uᵀ; make "
            "a MatrixCompletion or MatrixSensing of its data"
        )


def two_factors(
    problem: Problem, factors: Sequence[ArrayLike], who: str, otherwise: str
) -> tuple[np.ndarray, np.ndarray]:
    """`one_run` for W = A B; `who` says in the message what is about these.

    And `otherwise` says what to do with another number of factors.
    """
    require_layers(problem, f"{who} two factors, W = A B,")
    arrays = factors_of(problem, factors)
    if len(arrays) != 2:
        raise ValueError(f"{who} two factors, W = A B, but got {len(arrays)}; {otherwise}")
    A, B = one_run(problem, arrays, who)
    return A, B


def _head(arrays: Sequence[np.ndarray], j: int) -> np.ndarray:
    """W_1 ⋯ W_{j−1}, the product before the factor number j, counted from 0."""
    return product([np.eye(len(arrays[0])), *arrays[:j]])


def _tail(arrays: Sequence[np.ndarray], j: int) -> np.ndarray:
    """The product behind it."""
    return product([*arrays[j + 1 :], np.eye(arrays[-1].shape[1])])


class Product:
    """The model W = W_1 W_2 ⋯ W_N with the loss f(W)."""

    share = 1.0

    def degree(self, arrays: Sequence[np.ndarray]) -> int:
        return len(arrays)

    def factors_of(self, problem: Problem, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
        return factors_of(problem, factors)

    def one_run(
        self, problem: Problem, factors: Sequence[ArrayLike], who: str
    ) -> tuple[np.ndarray, ...]:
        return one_run(problem, factors, who)

    def zeros(self, shape: tuple[int, int], width: int) -> tuple[np.ndarray, ...]:
        return np.zeros((shape[0], width)), np.zeros((width, shape[1]))

    def product(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return product(arrays)

    def gradients(self, arrays: Sequence[np.ndarray], G: np.ndarray) -> list[np.ndarray]:
        return factor_gradients(arrays, G)

    def jacobian(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        blocks = [np.kron(_head(arrays, j), _tail(arrays, j).T) for j in range(len(arrays))]
        return np.concatenate(blocks, axis=1)

    def bend(self, arrays: Sequence[np.ndarray], G: np.ndarray) -> np.ndarray:
        ends = np.cumsum([0, *(array.size for array in arrays)])
        H = np.zeros((ends[-1], ends[-1]))
        for k in range(len(arrays)):
            between = np.eye(arrays[k].shape[0])
            for j in range(k - 1, -1, -1):
                # W_1 ⋯ E_j (W_{j+1} ⋯ W_{k−1}) E_k ⋯ W_N: E_j[a, b] meets E_k[c, d].
                around = _head(arrays, j).T @ G @ _tail(arrays, k).T
                cross = np.einsum("ad,bc->abcd", around, between)
                cross = cross.reshape(arrays[j].size, arrays[k].size)
                H[ends[j] : ends[j + 1], ends[k] : ends[k + 1]] = cross
                H[ends[k] : ends[k + 1], ends[j] : ends[j + 1]] = cross.T
                between = arrays[j] @ between
        return H

    def tall(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        A, B = arrays
        return A, B.T

    def from_tall(self, pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        A, Bt = pieces
        return A, Bt.T

    def escape(self, G: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        left, sizes, right = np.linalg.svd(-G)
        return sizes, (left[:, 0], right[0])


def in_order(factors: Any) -> list[Any]:
    """The factors as a list, or why they are none."""
    if not isinstance(factors, Iterable) or isinstance(factors, (str, bytes, Mapping, Set)):
        raise TypeError(
            "factors must be a tuple in product order, W = factors[0] @ factors[1] @ …, but are "
            f"{'None' if factors is None else 'a ' + type(factors).__name__}; small_init(shape, "
            "rng=0) draws them"
        )
    if hasattr(factors, "__array__"):
        raise TypeError(
            "factors must be a tuple in product order, W = factors[0] @ factors[1] @ …, but are "
            "one array; for an unfactored model write (W,)"
        )
    return list(factors)
