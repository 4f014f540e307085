"""Gradient flow in many digits: slow, plain, and independent of everything else here.

The factors are kept as integers in units of 2^-bits (fixed point). With G = ∇f(W) = 2c (W − M) on
the observed entries the coefficients of their Taylor series follow from each other by Cauchy
products,

    (k+1) A_{k+1} = −Σ G_i B_{k−i}ᵀ,   (k+1) B_{k+1} = −Σ A_iᵀ G_{k−i},   W_k = Σ A_i B_{k−i},

and a step is as long as the last two terms stay below 2^-100 of what is kept, column by column.
There is no change of the hidden basis, no logarithm and no threshold: the oracle for the flow
engine has to work in another way than the engine does.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import two_factors
from mfbook.problems import MatrixCompletion
from mfbook.problems.checks import real_array, require_problem, whole_number

ORDER = 40
GOAL_BITS = 100


def taylor_flow(
    problem: MatrixCompletion,
    factors: Sequence[ArrayLike],
    *,
    log10_scale: int,
    times: Sequence[float | Fraction],
    digits: int = 60,
) -> list[np.ndarray]:
    """Follow dA/dt = −G Bᵀ, dB/dt = −Aᵀ G from 10^log10_scale · (A, B) in `digits` digits.

    The digits are those of W at the start, W(0) = α² A B; later there are more. A 2×2 problem takes
    seconds from 1e-60, larger or much smaller ones minutes: this is an oracle, not a tool.

    Parameters
    ----------
    problem
        a completion problem of shape (m, n).
    factors
        (A, B) of shapes (m, h), (h, n).
    log10_scale
        an integer exponent.
    times
        rising times ≥ 0; Fractions are taken exactly.
    digits
        how many decimal digits, at least 1.

    Returns
    -------
    W at each of the times, rounded to float64.

    Raises
    ------
    TypeError
        a problem of another kind, factors that are not a tuple, numbers that are none, a
        log10_scale or digits that are no integers.
    ValueError
        factors that do not fit the problem or are a batch; times that do not rise, are negative or
        not finite.

    Examples
    --------
    >>> problem = MatrixCompletion.from_text("2")
    >>> [W] = taylor_flow(problem, ([[1]], [[1]]), log10_scale=-2, times=[2.0])
    >>> alpha = 1e-2  # one entry: w(t) = 2 / (1 + (2 / α² − 1) exp(−8 t)) with both factors α
    >>> exact = 2 / (1 + (2 / alpha**2 - 1) * np.exp(-16.0))
    >>> bool(abs(W[0, 0] - exact) < 1e-14)
    True
    """
    require_problem(problem, entries="the series is written for observed entries")
    arrays = two_factors(problem, factors, "taylor_flow follows")
    log10_scale = whole_number("log10_scale", log10_scale)
    digits = whole_number("digits", digits, least=1)
    ends = _exact_times(times)
    # α² = 10^(2 log10_scale) must keep its digits.
    bits = int(np.ceil((digits - 2 * min(log10_scale, 0)) * np.log2(10)))
    series = _Series(problem, bits)
    scale = Fraction(10) ** log10_scale
    A, B = (series.fixed(factor, scale) for factor in arrays)
    t, found = Fraction(0), []
    for end in ends:
        while t < end:
            A, B, h = series.step(A, B, end - t)
            t += h
            if end - t < Fraction(1, 1 << 50):
                t = end
        found.append(series.floats((A @ B) >> bits))
    return found


def _exact_times(times: Sequence[float | Fraction]) -> list[Fraction]:
    """The times as fractions of Python's integers: those of NumPy overflow without a word."""
    rounded = real_array("times", times, ndim=1, finite=True)
    exact = [
        Fraction(given) if isinstance(given, Fraction | int) else Fraction(float(time))
        for given, time in zip(times, rounded, strict=True)
    ]
    if any(time < 0 for time in exact):
        raise ValueError(f"times must be at least 0, where the flow starts, but are {times}")
    if any(late <= early for early, late in pairwise(exact)):
        raise ValueError(f"times must rise, but are {times}; sort them, each once")
    return exact


class _Series:
    """The equations of one problem in fixed point."""

    def __init__(self, problem: MatrixCompletion, bits: int) -> None:
        self.bits, self.one = bits, 1 << bits
        self.mask = problem.mask
        weight = Fraction(1, problem.n_observed) if problem.loss == "mean" else Fraction(1, 2)
        self.double = 2 * weight
        self.M = self.fixed(np.where(problem.mask, problem.values, 0.0))

    def fixed(self, array: np.ndarray, scale: Fraction = Fraction(1)) -> np.ndarray:
        return np.array(
            [[int(Fraction(x) * scale * self.one) for x in row] for row in array], dtype=object
        )

    def floats(self, array: np.ndarray) -> np.ndarray:
        return np.array([[float(Fraction(int(x), self.one)) for x in row] for row in array])

    def step(
        self, A: np.ndarray, B: np.ndarray, longest: Fraction
    ) -> tuple[np.ndarray, np.ndarray, Fraction]:
        """A and B after one step of at most `longest`, and the length of the step."""
        As, Bs = self._coefficients(A, B)
        h = longest
        for k in (ORDER - 1, ORDER):
            for series, axis in ((As, 0), (Bs, 1)):
                last = np.abs(series[k]).max(axis=axis)
                size = np.abs(series[0]).max(axis=axis)
                for a, s in zip(last, size, strict=True):
                    if a and s:
                        log2 = (s.bit_length() - a.bit_length() - GOAL_BITS) / k
                        h = min(h, Fraction(2.0**log2))
        h = Fraction(int(h * (1 << 60)), 1 << 60)  # a short fraction
        return self._sum(As, h), self._sum(Bs, h), h

    def _coefficients(
        self, A: np.ndarray, B: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        zero = np.zeros(self.mask.shape, dtype=object)
        As, Bs = [A], [B]
        Gs: list[np.ndarray] = []
        for k in range(ORDER):
            W = sum((As[i] @ Bs[k - i] for i in range(k + 1)), start=zero) >> self.bits
            R = np.where(self.mask, W - self.M if k == 0 else W, 0)
            Gs.append(R * self.double.numerator // self.double.denominator)
            dA = sum((Gs[i] @ Bs[k - i].T for i in range(k + 1)), start=0 * A) >> self.bits
            dB = sum((As[i].T @ Gs[k - i] for i in range(k + 1)), start=0 * B) >> self.bits
            As.append(-dA // (k + 1))
            Bs.append(-dB // (k + 1))
        return As, Bs

    def _sum(self, series: list[np.ndarray], h: Fraction) -> np.ndarray:
        step = int(h * self.one)
        value = series[-1]
        for term in reversed(series[:-1]):
            value = (value * step >> self.bits) + term
        return value
