"""What we say about a matrix: norms, ranks and errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def _singular_values(W: ArrayLike) -> np.ndarray:
    W = np.asarray(W, dtype=np.float64)
    if W.ndim < 2:
        raise ValueError(f"W must be a matrix, but has shape {W.shape}")
    return np.linalg.svd(W, compute_uv=False)


def _plain(value):
    """A float or int for one matrix, an array for a stack of them."""
    return value.item() if np.ndim(value) == 0 else value


def nuclear_norm(W: ArrayLike) -> float | np.ndarray:
    """‖W‖_* = Σ σ_i(W), the sum of the singular values; over the last two axes.

    >>> nuclear_norm([[3, 0], [0, -4]])
    7.0
    """
    return _plain(_singular_values(W).sum(axis=-1))


def numerical_rank(W: ArrayLike, *, rtol: float = 1e-6) -> int | np.ndarray:
    """The number of singular values above rtol · σ_1(W); 0 for the zero matrix.

    >>> numerical_rank([[1, 2], [2, 4.000001]]), numerical_rank([[1, 2], [2, 4.1]])
    (1, 2)
    """
    s = _singular_values(W)
    return _plain((s > rtol * s[..., :1]).sum(axis=-1))


def effective_rank(W: ArrayLike) -> float | np.ndarray:
    """exp(−Σ p_i log p_i) with p_i = σ_i / Σ σ_j: the exponential of the spectrum's entropy.

    Between 1 and min(m, n), and k where k singular values are equal and the others zero. (Roy &
    Vetterli 2007; used by Arora et al. 2019, Figure 2.) Undefined for the zero matrix.

    >>> round(effective_rank(np.eye(3)), 9), round(effective_rank([[1, 2], [2, 4]]), 9)
    (3.0, 1.0)
    """
    s = _singular_values(W)
    total = s.sum(axis=-1, keepdims=True)
    if (total == 0).any():
        raise ValueError("W is zero: its spectrum has no entropy, so no effective rank")
    p = s / total
    entropy = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=-1)
    return _plain(np.exp(entropy))


def low_rankness(W: ArrayLike, r: int) -> float | np.ndarray:
    """(Σ_{i>r} σ_i²)^{1/2}: the Frobenius distance of W from the matrices of rank at most r.

    (Li, Luo & Lyu 2021, Definition 6.3.)

    >>> low_rankness([[2, 0, 0], [0, 3, 0], [0, 0, 4]], 1)
    3.605551275463989
    """
    s = _singular_values(W)
    if not 0 <= r <= s.shape[-1]:
        raise ValueError(f"r must be between 0 and {s.shape[-1]}, but is {r}")
    return _plain(np.sqrt(np.square(s[..., r:]).sum(axis=-1)))


def reconstruction_error(W: ArrayLike, truth: ArrayLike) -> float | np.ndarray:
    """‖W − W*‖_F² / ‖W*‖_F². (Arora et al. 2019, Appendix D.)

    >>> reconstruction_error([[1, 0], [0, 0]], [[1, 0], [0, 1]])
    0.5
    """
    W, truth = np.asarray(W, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if W.shape[-2:] != truth.shape[-2:]:
        raise ValueError(f"W and truth must have one shape, but have {W.shape} and {truth.shape}")
    size = np.square(truth).sum(axis=(-2, -1))
    if np.any(size == 0):
        raise ValueError("truth is zero: an error relative to it is not defined")
    return _plain(np.square(W - truth).sum(axis=(-2, -1)) / size)
