"""Gradient flow from an infinitesimal start, at depth three or more: a process without a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow.greedy_path import DeepLimit
from mfbook.flow.options import limits_of
from mfbook.flow.run import in_own_unit, require_moving
from mfbook.models import factors_of, require_layers
from mfbook.problems.fit import require_size
from mfbook.problems.protocols import Problem

# Waiting times are numbers in double precision, with some room for the data's.
LARGEST_LOG10_TIME = 150.0


def deep_limit(
    problem: Problem,
    factors: Sequence[ArrayLike],
    *,
    loss_tol: float = 1e-16,
    rtol: float = 1e-6,
    max_steps: int = 50_000,
) -> DeepLimit:
    r"""The limit α → 0 of gradient flow on f(W_1 ⋯ W_N) from α · (V_1, …, V_N), N ≥ 3.

    The process has no α in it. On plateau r the gradient G_r = ∇f(W_r) does not change, and what W
    does not feel yet follows, in s = α^(N−2) t, the flow of the homogeneous function

        Φ(V) = −⟨G_r, V_1 V_2 ⋯ V_N⟩

    in the orthogonal complements of what has been learned. It blows up at a finite s*_r, along the
    top singular pair of −G_r. From there an orbit leads, with one more hidden column, to W_{r+1}, a
    second-order stationary point of the set of rank ≤ r + 1: saddles inside that set are left in a
    time of order log 1/α, which is short against a plateau. Meanwhile the small parts of the first
    and the last layer are carried in parallel along the large ones, and those between stay.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    factors
        the directions (V_1, …, V_N), N ≥ 3, of one run.
    loss_tol, rtol, max_steps
        as those of `gradient_flow`; the end is taken more precisely by default.

    Returns
    -------
    DeepLimit
        With `converged=False` and a reason where a hypothesis fails: a top pair that is not simple
        or that the start has no part of, a plateau without blow-up, an orbit that is not bounded,
        layers that are too narrow. So does an end outside of a set that holds the start and that
        the exact flow keeps: layers that are each other's mirror, parts that are copies, signs of
        determinants. Rounding has led out of it.

    Raises
    ------
    TypeError
        no problem, factors that are not a tuple, options that are no numbers.
    ValueError
        two factors, for which plateaus are of length log 1/α and the limit is another; factors that
        do not fit, are a batch, or of which two are zero.

    Notes
    -----
    Whatever decides where a saddle inside a set of fixed rank is left, a part of size α^e of the
    felt columns, is carried along as its exponent and its direction. That the process is the limit
    is an observation: it is what `gradient_flow` does from 1e-100 and 1e-1000, where the two are
    compared in the tests.

    Examples
    --------
    >>> from mfbook import examples, small_init
    >>> limit = deep_limit(examples.disconnected_3x3, small_init((3, 3), depth=3, rng=0))
    >>> limit
    DeepLimit(loss reached, ranks 0 → 1)
    >>> np.abs(limit.W.round(3)).tolist()  # 2.236 is √5
    [[1.0, 2.236, 3.0], [2.236, 5.0, 6.708], [3.0, 6.708, 9.0]]

    See also
    --------
    gradient_flow : the flow from a scale that is not zero.
    disconnected_limit : where all components are complete, by its plateaus alone.
    glrl : the process of two factors, without the sharing of hidden columns among components.

    References
    ----------
    Li, Luo & Lyu 2021, Section 6 and Appendix J, for the first plateau at depth L ≥ 3.
    """
    arrays = _checked(problem, factors)
    options = limits_of(loss_tol, rtol, max_steps)
    # The engine is compiled code, and Numba takes half a second to import.
    from mfbook.flow.deep.process import process

    arrays, power = in_own_unit(arrays)
    found = process(problem, arrays, options)
    # The flow of Φ has degree N: directions that are c times as large blow up at c^−(N−2) s*.
    unit = 2.0 ** (-power * (len(arrays) - 2))
    return replace(found, waiting_times=tuple(unit * waited for waited in found.waiting_times))


def _checked(problem: Problem, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
    require_layers(problem, "deep_limit is that of layers, W = W_1 W_2 ⋯,")
    arrays = factors_of(problem, factors)
    require_size(problem)
    if len(arrays) < 3:
        raise ValueError(
            f"deep_limit is the limit of three factors or more, but got {len(arrays)}: with two a "
            "plateau lasts log 1/α, and what is small on it does not wait; use glrl, "
            "disconnected_limit, or gradient_flow from 1e-1000"
        )
    if arrays[0].ndim != 2:
        raise ValueError(
            f"deep_limit follows one start, but the factors have the leading axes "
            f"{arrays[0].shape[:-2]}; call it once a start"
        )
    require_moving(arrays)
    largest = max(float(np.abs(array).max()) for array in arrays)
    if abs(np.log10(largest)) * (len(arrays) - 2) > LARGEST_LOG10_TIME:
        raise ValueError(
            f"the directions must be of a size whose power {2 - len(arrays)}, which waiting times "
            f"follow, is a number in double precision, but the largest entry is {largest:g}; scale "
            "all layers alike, for nothing else depends on it"
        )
    return arrays
