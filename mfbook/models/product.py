"""W = W_1 W_2 ⋯ W_N: the product, how a gradient is pulled back to the factors, and starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import (
    Rng,
    generator,
    real_array,
    require_finite,
    require_problem,
    shape_of,
    whole_number,
)
from mfbook.problems.protocols import Problem


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


def two_factors(
    problem: Problem, factors: Sequence[ArrayLike], who: str
) -> tuple[np.ndarray, np.ndarray]:
    """`one_run` for W = A B; `who` says in the message what is about these."""
    arrays = factors_of(problem, factors)
    if len(arrays) != 2:
        raise ValueError(
            f"{who} two factors, W = A B, but got {len(arrays)}; use gradient_descent for another "
            "depth"
        )
    A, B = one_run(problem, arrays, who)
    return A, B


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


def small_init(
    shape: tuple[int, int],
    *,
    depth: int = 2,
    width: int | None = None,
    rng: Rng,
    batch: int | Sequence[int] = (),
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
        leading axes, for many starts at once: an integer or a tuple of them.

    Raises
    ------
    TypeError
        no rng, a shape that is no pair, sizes that are no integers.
    ValueError
        sizes below 1.

    Examples
    --------
    >>> [factor.shape for factor in small_init((3, 4), rng=0)]
    [(3, 3), (3, 4)]
    >>> [factor.shape for factor in small_init((3, 4), depth=3, width=5, rng=0, batch=100)]
    [(100, 3, 5), (100, 5, 5), (100, 5, 4)]
    """
    m, n = shape_of(shape)
    depth = whole_number("depth", depth, least=1)
    width = min(m, n) if width is None else whole_number("width", width, least=1)
    rng = generator(rng)
    axes = batch if isinstance(batch, (tuple, list)) else (batch,)
    batch = tuple(whole_number("an axis of batch", axis, least=1) for axis in axes)
    sizes = [m, *[width] * (depth - 1), n]
    return tuple(rng.standard_normal((*batch, rows, cols)) for rows, cols in pairwise(sizes))
