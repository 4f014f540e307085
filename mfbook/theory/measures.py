"""What we say about a matrix: norms, ranks and errors.

W is an array of real, finite numbers with a matrix in its last two axes; leading axes are a stack,
and the answer is then an array over them. Anything else raises TypeError or ValueError.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import matrices, real_number, whole_number


def _singular_values(W: ArrayLike) -> np.ndarray:
    return np.linalg.svd(matrices("W", W), compute_uv=False)


def _power_of_two(sizes: np.ndarray) -> int:
    """k with 2^k above the largest size; dividing by it keeps squares in range, and every digit."""
    return int(np.frexp(sizes.max(initial=0.0))[1])


def _in_range(what: str, value: np.ndarray) -> np.ndarray:
    """The value, or why no float can hold it."""
    if np.isinf(value).any():
        raise ValueError(
            f"the {what} is beyond 10^308, which no float can hold; divide W by one large number, "
            "which divides the answer by it"
        )
    return value


def _plain(value: Any) -> Any:
    """A float or int for one matrix, an array for a stack of them."""
    return value.item() if np.ndim(value) == 0 else value


def nuclear_norm(W: ArrayLike) -> float | np.ndarray:
    """‖W‖_* = Σ σ_i(W), the sum of the singular values.

    W is of shape (m, n), or (..., m, n) for a number a matrix. Raises TypeError for what is no
    array of real numbers, and ValueError where it is not finite or the norm beyond 10^308.
    (Recht, Fazel & Parrilo 2010, Section 2.)

    >>> nuclear_norm([[3, 0], [0, -4]])
    7.0
    """
    with np.errstate(over="ignore"):
        return _plain(_in_range("nuclear norm", _singular_values(W).sum(axis=-1)))


def numerical_rank(W: ArrayLike, *, rtol: float = 1e-6) -> int | np.ndarray:
    """The number of singular values above rtol · σ_1(W), rtol ≥ 0; 0 for the zero matrix.

    Takes and raises what `nuclear_norm` does, and ValueError for an rtol that is negative.

    >>> numerical_rank([[1, 2], [2, 4.000001]]), numerical_rank([[1, 2], [2, 4.1]])
    (1, 2)
    """
    rtol = real_number("rtol", rtol, least=0)
    s = _singular_values(W)
    return _plain((s > rtol * s[..., :1]).sum(axis=-1))


def effective_rank(W: ArrayLike) -> float | np.ndarray:
    """exp(−Σ p_i log p_i) with p_i = σ_i / Σ σ_j: the exponential of the spectrum's entropy.

    Between 1 and min(m, n), and k where k singular values are equal and the others zero. (Roy &
    Vetterli 2007; used by Arora et al. 2019, Figure 2.) Takes and raises what `nuclear_norm` does,
    and ValueError for the zero matrix, of which it is not defined.

    >>> round(effective_rank(np.eye(3)), 9), round(effective_rank([[1, 2], [2, 4]]), 9)
    (3.0, 1.0)
    """
    s = _singular_values(W)
    if not s.any(axis=-1).all():
        raise ValueError("W is zero: its spectrum has no entropy, so no effective rank")
    # In units of the largest of each matrix: the sum of large ones is no float, and a share of tiny
    # ones is rounded away.
    s = s / s[..., :1]
    p = s / s.sum(axis=-1, keepdims=True)
    entropy = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=-1)
    return _plain(np.exp(entropy))


def low_rankness(W: ArrayLike, r: int) -> float | np.ndarray:
    """(Σ_{i>r} σ_i²)^{1/2}: the Frobenius distance of W from the matrices of rank at most r.

    (Li, Luo & Lyu 2021, Definition 6.3.) Here 0 ≤ r ≤ min(m, n). Takes and raises what
    `nuclear_norm` does, and ValueError for another r.

    >>> low_rankness([[2, 0, 0], [0, 3, 0], [0, 0, 4]], 1)
    3.605551275463989
    """
    s = _singular_values(W)
    r = whole_number("r", r, least=0, most=s.shape[-1])
    k = _power_of_two(s)
    rest = np.sqrt(np.square(np.ldexp(s[..., r:], -k)).sum(axis=-1))
    with np.errstate(over="ignore"):
        return _plain(_in_range("distance", np.ldexp(rest, k)))


def reconstruction_error(W: ArrayLike, truth: ArrayLike) -> float | np.ndarray:
    """‖W − W*‖_F² / ‖W*‖_F². (Arora et al. 2019, Appendix D.)

    W and truth are of one shape (m, n); either may be a stack (..., m, n). Infinite where the error
    is beyond 10^308. Raises TypeError for what is no array of real numbers, and ValueError for
    numbers that are not finite, a truth that is zero, and shapes that disagree.

    >>> reconstruction_error([[1, 0], [0, 0]], [[1, 0], [0, 1]])
    0.5
    """
    W, truth = matrices("W", W), matrices("truth", truth)
    if W.shape[-2:] != truth.shape[-2:]:
        raise ValueError(
            f"W and truth must be matrices of one shape, but have {W.shape} and {truth.shape}"
        )
    try:
        np.broadcast_shapes(W.shape[:-2], truth.shape[:-2])
    except ValueError:
        raise ValueError(
            f"W and truth must have leading axes that agree, but have {W.shape} and {truth.shape}; "
            "give one of them as a single matrix, or as many of both"
        ) from None
    if not truth.any(axis=(-2, -1)).all():
        raise ValueError("truth is zero: an error relative to it is not defined")
    # Each truth in units of its own size, so that no square leaves the range of the numbers.
    k = -np.frexp(np.abs(truth).max(axis=(-2, -1), keepdims=True))[1]
    size = np.square(np.ldexp(truth, k)).sum(axis=(-2, -1))
    with np.errstate(over="ignore"):
        off = np.ldexp(W, k) - np.ldexp(truth, k)
        return _plain(np.square(off).sum(axis=(-2, -1)) / size)
