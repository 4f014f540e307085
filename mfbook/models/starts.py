"""Where a flow starts: Gaussian directions for the factors of a shape, or of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mfbook.problems.checks import Rng, generator, shape_of, whole_number
from mfbook.problems.protocols import Problem, is_symmetric


def small_init(
    shape: tuple[int, int] | Problem,
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
        (m, n), the shape of the product; or a problem, which has one. The start of a symmetric
        problem is (U,), with W = U Uᵀ.
    depth
        number of factors N ≥ 1; a symmetric problem takes none.
    width
        hidden width h of every inner dimension; min(m, n), which restricts no rank, if None.
    rng
        a `numpy.random.Generator` or an integer seed; required, so that every start is explicit.
    batch
        leading axes, for many starts at once: an integer or a tuple of them.

    Returns
    -------
    tuple of arrays
        (m, h), (h, h), …, (h, n) in product order, behind the leading axes; (U,) of shape (d, h)
        for a symmetric problem.

    Raises
    ------
    TypeError
        no rng, a shape that is neither a pair nor a problem, sizes that are no integers.
    ValueError
        sizes below 1, a depth other than 2 for a symmetric problem.

    Examples
    --------
    >>> [factor.shape for factor in small_init((3, 4), rng=0)]
    [(3, 3), (3, 4)]
    >>> [factor.shape for factor in small_init((3, 4), depth=3, width=5, rng=0, batch=100)]
    [(100, 3, 5), (100, 5, 5), (100, 5, 4)]
    >>> from mfbook.problems import SymmetricCompletion
    >>> problem = SymmetricCompletion.from_text("1 2 ?; 2 ? ?; ? ? 3")
    >>> [factor.shape for factor in small_init(problem, rng=0)]
    [(3, 3)]
    """
    given: Any = shape
    problem: Problem | None = given if hasattr(given, "observes_entries") else None
    m, n = shape_of(given) if problem is None else problem.shape
    symmetric = problem is not None and is_symmetric(problem)
    depth = whole_number("depth", depth, least=1)
    if symmetric and depth != 2:
        raise ValueError(
            f"a symmetric problem has the model W = U Uᵀ with one factor, but depth is {depth}; "
            "leave depth out"
        )
    width = min(m, n) if width is None else whole_number("width", width, least=1)
    rng = generator(rng)
    axes = batch if isinstance(batch, (tuple, list)) else (batch,)
    batch = tuple(whole_number("an axis of batch", axis, least=1) for axis in axes)
    sizes = [m, width] if symmetric else [m, *[width] * (depth - 1), n]
    return tuple(rng.standard_normal((*batch, rows, cols)) for rows, cols in pairwise(sizes))
