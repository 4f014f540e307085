"""The φ-functions of exponential integrators, φ_k(x) = ∫₀¹ e^{(1−s)x} s^{k−1}/(k−1)! ds."""

from __future__ import annotations

import math

import numpy as np

from mfbook.flow.shallow.compiled import compiled

# Where |x| is below this the Taylor series is summed; above it the recursion φ_{k+1} =
# (φ_k − 1/k!)/x loses at most 4!·1.5^-4 < 5 units in the last place per application.
SERIES_BELOW = 1.5
SERIES_TERMS = 24  # 1.5^24 / 24! < 1e-19
FACTORIALS = np.array([float(math.factorial(k)) for k in range(SERIES_TERMS + 5)])


@compiled
def phi_into(x: np.ndarray, out: np.ndarray) -> None:
    """φ_1 … φ_4 of every entry of x into the rows of out."""
    for n in range(x.size):
        y = x[n]
        if abs(y) < SERIES_BELOW:
            last = 0.0
            for k in range(SERIES_TERMS, -1, -1):
                last = last * y + 1 / FACTORIALS[k + 4]
            out[3, n] = last
            for k in range(3, 0, -1):
                out[k - 1, n] = out[k, n] * y + 1 / FACTORIALS[k]
        else:
            value = np.expm1(y) / y
            out[0, n] = value
            for k in range(1, 4):
                value = (value - 1 / FACTORIALS[k]) / y
                out[k, n] = value


@compiled
def phis(x: np.ndarray, theta: float) -> np.ndarray:
    """φ_1 … φ_4 of θx, for compiled code; (4, count)."""
    out = np.empty((4, x.size))
    phi_into(theta * x, out)
    return out


def phi_functions(x: np.ndarray) -> np.ndarray:
    """φ_1, φ_2, φ_3, φ_4 of every entry of x, along the first axis.

    >>> [float(f.round(6)) for f in phi_functions(np.array(0.0))]
    [1.0, 0.5, 0.166667, 0.041667]
    """
    x = np.asarray(x, dtype=float)
    out = np.empty((4, x.size))
    phi_into(np.ascontiguousarray(x).ravel(), out)
    return out.reshape(4, *x.shape)
