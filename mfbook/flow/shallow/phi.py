"""The φ-functions of exponential integrators, φ_k(x) = ∫₀¹ e^{(1−s)x} s^{k−1}/(k−1)! ds."""

from __future__ import annotations

import math

import numpy as np

# Where |x| is below this the Taylor series is summed; above it the recursion φ_{k+1} =
# (φ_k − 1/k!)/x loses at most 4!·1.5^-4 < 5 units in the last place per application.
SERIES_BELOW = 1.5
SERIES_TERMS = 24  # 1.5^24 / 24! < 1e-19


def phi_functions(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """φ_1, φ_2, φ_3, φ_4 of every entry of x.

    >>> [float(f.round(6)) for f in phi_functions(np.array(0.0))]
    [1.0, 0.5, 0.166667, 0.041667]
    """
    x = np.asarray(x, dtype=float)
    small = np.abs(x) < SERIES_BELOW
    s = np.where(small, x, 0.0)
    last = np.zeros_like(s)
    for k in range(SERIES_TERMS, -1, -1):
        last = last * s + 1 / math.factorial(k + 4)
    series = [last]
    for k in (3, 2, 1):
        series.append(series[-1] * s + 1 / math.factorial(k))
    y = np.where(small, 1.0, x)
    with np.errstate(over="ignore"):
        value = np.expm1(y) / y
    out = [value]
    for k in (1, 2, 3):
        value = (value - 1 / math.factorial(k)) / y
        out.append(value)
    return tuple(np.where(small, a, b) for a, b in zip(reversed(series), out, strict=True))
