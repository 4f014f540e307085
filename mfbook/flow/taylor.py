r"""Gradient flow in many digits: slow, plain, and independent of everything else here.

The layers are kept as integers in units of 2^-bits (fixed point). With G = ∇f(W), which is affine
in W, the coefficients of all Taylor series follow from each other by Cauchy products,

    (k+1) (W_j)_{k+1} = −[(W_1 ⋯ W_{j−1})ᵀ G (W_{j+1} ⋯ W_N)ᵀ]_k,

and a step is as long as the last two terms stay below 2^-goal of what is kept, column by column.
There is no change of the hidden basis, no logarithm and no threshold: the oracle for the flow
engines has to work in another way than the engines do.

How many bits an answer takes is found out by asking twice. Every step is disturbed in the last
bit of every entry, and the flow is followed with two numbers of bits and two goals. Where what is
lost, rounded or cut off at that level matters, because parts fall below it and come back, or
because the flow carries small differences apart, the two paths differ, and more bits are taken.
The paths are compared at every step and not at the end alone: two runs that have both left an
unstable solution may well have come to the same end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from mfbook.models import one_run, product, require_layers
from mfbook.problems.checks import real_array, whole_number
from mfbook.problems.protocols import Problem

# Bits of an answer beside those that are asked for.
GUARD = 20
# The second run has so many bits more, and a sixteenth of all: what grows at a rate λ from the last
# bits is later in it by 22/λ or more, and a step, for which λ h ≤ goal/60, does not pass over that.
MORE = 32
MOST_BITS = 1 << 15
BITS_PER_DIGIT = float(np.log2(10))
# What is below is 0 in float64, whatever its digits.
SMALLEST = Fraction(1, 1 << 1074)


def taylor_flow(
    problem: Problem,
    factors: Sequence[ArrayLike],
    *,
    log10_scale: int,
    times: Sequence[float | Fraction],
    digits: int = 20,
    max_steps: int = 20_000,
) -> list[np.ndarray]:
    r"""Follow gradient flow on f(W_1 ⋯ W_N) from 10^log10_scale · factors in many digits.

    The flow is dW_j/dt = −(W_1 ⋯ W_{j−1})ᵀ ∇f(W) (W_{j+1} ⋯ W_N)ᵀ for any number N ≥ 1 of layers,
    balanced or not. W at each of the times is right to `digits` digits of its largest entry there:
    the flow is followed with more and more bits until two runs, each disturbed in its last bits,
    agree so far there and at every step before. So digits that a plateau eats, that a decaying
    solution loses, or that an unstable direction takes are put in at the start. A start that the
    exact flow keeps on an invariant set, where rounding would not, costs as many bits as the way
    out takes of them.

    A 2×2 problem takes seconds from 1e-60, larger or much smaller ones minutes: this is an oracle,
    not a tool. The method is explicit. The first plateau costs some hundred steps however long it
    lasts, but after something has been learned a step is no longer than a few times the fastest
    relaxation, and a second plateau of length 10^5 takes some 10^4 of them.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    factors
        (W_1, …, W_N) in product order, of shapes (m, h_1), …, (h_{N−1}, n).
    log10_scale
        an integer exponent.
    times
        rising times ≥ 0; Fractions are taken exactly.
    digits
        how many decimal digits of W, at least 1. What is returned is rounded to float64, which
        holds 16.
    max_steps
        the most steps of one run.

    Returns
    -------
    W at each of the times, rounded to float64.

    Raises
    ------
    TypeError
        no problem, factors that are not a tuple, numbers that are none, a log10_scale, digits or
        max_steps that are no integers.
    ValueError
        factors that do not fit the problem or are a batch; times that do not rise, are negative or
        not finite.
    ArithmeticError
        max_steps do not lead to the last time, or 32,768 bits do not hold the answer.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("2")
    >>> [W] = taylor_flow(problem, ([[1]], [[1]]), log10_scale=-2, times=[2.0])
    >>> alpha = 1e-2  # one entry: w(t) = 2 / (1 + (2 / α² − 1) exp(−8 t)) with both factors α
    >>> exact = 2 / (1 + (2 / alpha**2 - 1) * np.exp(-16.0))
    >>> bool(abs(W[0, 0] - exact) < 1e-14)
    True
    >>> falling = MatrixCompletion.from_text("-1", loss="half")  # 1/w + 1 grows as exp(2 t)
    >>> [W] = taylor_flow(falling, ([[1]], [[1]]), log10_scale=0, times=[20])
    >>> bool(abs(W[0, 0] * (2 * np.exp(40) - 1) - 1) < 1e-13)
    True
    """
    require_layers(problem, "taylor_flow follows layers, W = W_1 W_2 ⋯,")
    arrays = one_run(problem, factors, "taylor_flow follows")
    log10_scale = whole_number("log10_scale", log10_scale)
    digits = whole_number("digits", digits, least=1)
    max_steps = whole_number("max_steps", max_steps, least=1)
    ends = _exact_times(times)
    scale = Fraction(10) ** log10_scale
    # The product of all layers is as small as 2^−small. On a plateau at zero, of length 2^lost, an
    # error of the start becomes one of time. What is multiplied with ∇f is smaller by its size.
    small = int(sum(_bits_below_one(array, log10_scale) for array in arrays))
    lost = small * max(len(arrays) - 2, 0) // len(arrays)
    small += int(_bits_below_one(2 * problem.weight * problem.adjoint(problem.targets), 0))
    goal = int(digits * BITS_PER_DIGIT) + GUARD + lost

    def follow(extra: int, ends: list[Fraction]) -> dict[Fraction, np.ndarray]:
        bits = goal + small + extra
        if bits > MOST_BITS:
            raise ArithmeticError(
                f"the answer takes more than {MOST_BITS:,} bits: the solution decays too far, or "
                "differences of the last of so many grow up to it; ask for earlier times"
            )
        series = _Series(problem, bits, goal + extra)
        return _path(series, [series.fixed(array, scale) for array in arrays], ends, max_steps)

    extra = 0
    while True:
        more = MORE + (goal + extra) // 16
        first = follow(extra, ends)
        second = follow(extra + more, sorted(first))
        missing = max((_missing_bits(W, second[t], digits) for t, W in first.items()), default=0)
        if missing == 0:
            return [second[end].astype(float) for end in ends]
        # A small part of one bit may be missing all of them: at most twice as many at once.
        extra += min(max(missing + more, extra), goal + small + extra)


def _bits_below_one(array: np.ndarray, log10_scale: int) -> float:
    """How many bits behind the point the largest entry, scaled, begins; 0 for zero."""
    largest = np.abs(array).max()
    return max(-np.log2(largest) - log10_scale * BITS_PER_DIGIT, 0.0) if largest else 0.0


def _missing_bits(W: np.ndarray, V: np.ndarray, digits: int) -> int:
    """By how many bits two answers are too far apart to agree in so many digits."""
    apart = np.abs(W - V).max()
    allowed = max(np.abs(W).max(), np.abs(V).max(), SMALLEST) / 10**digits
    return int(apart / allowed).bit_length()


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


def _path(
    series: _Series, layers: list[np.ndarray], ends: list[Fraction], max_steps: int
) -> dict[Fraction, np.ndarray]:
    """W at the ends and after every step on the way to the last of them."""
    path = {end: series.W(layers) for end in ends if end == 0}
    rest = [end for end in ends if end > 0]
    unit = _exponent(rest[-1]) if rest else 0
    t = Fraction(0)
    for _ in range(max_steps):
        if not rest:
            return path
        terms, h = series.step(layers, unit)
        while rest and rest[0] <= t + h:
            path[rest[0]] = series.W(series.at(terms, rest[0] - t, unit))
            del rest[0]
        layers = series.disturbed(series.at(terms, h, unit))
        t, unit = t + h, _exponent(h) + 1
        if rest:
            path[t] = series.W(layers)
    if rest:
        raise ArithmeticError(
            f"after {max_steps} steps t is {float(t):.6g}, and {float(rest[-1]):.6g} is asked for: "
            "once something is learned, a step is no longer than a few times the fastest "
            "relaxation; raise max_steps, or ask for earlier times"
        )
    return path


def _exponent(h: Fraction) -> int:
    """The least k, or one more, with h ≤ 2^k."""
    return h.numerator.bit_length() - h.denominator.bit_length() + 1


class _Series:
    """The equations of one problem, in fixed point with `bits` bits behind the point."""

    def __init__(self, problem: Problem, bits: int, goal: int) -> None:
        self.bits, self.goal = bits, goal
        # Terms fall off by e² from one to the next: the least work for a given length of time.
        self.order = max(int(goal * np.log(2) / 2), 8)
        m, n = problem.shape
        self.shape = m, n
        # ⟨X_l, W⟩ = X w with the entries of W row by row.
        self.X = self.fixed(problem.measure(np.eye(m * n).reshape(-1, m, n)).T)
        self.y = self.fixed(problem.targets[:, None])
        # One third is meant, where float64 says 0.333….
        self.double = 2 * Fraction(problem.weight).limit_denominator(10**9)
        self.random = random.Random(bits)

    def fixed(self, array: np.ndarray, scale: Fraction = Fraction(1)) -> np.ndarray:
        one = scale * (1 << self.bits)
        entries = [[int(Fraction(float(x)) * one) for x in row] for row in array]
        return np.array(entries, dtype=object)

    def W(self, layers: list[np.ndarray]) -> np.ndarray:
        """W_1 ⋯ W_N without any rounding, as fractions."""
        one = 1 << len(layers) * self.bits
        return np.array([[Fraction(x, one) for x in row] for row in product(layers)], dtype=object)

    def step(self, layers: list[np.ndarray], unit: int) -> tuple[list[np.ndarray], Fraction]:
        """The series of the layers in t/2^unit, and how far they reach: 2^unit at most.

        Coefficients of powers of t itself would underflow on a plateau, where t is 10^12 and more.
        """
        series = self._coefficients(layers, unit)
        log2 = 0.0
        for number, terms in enumerate(series):
            axis = 1 if number == len(series) - 1 and number else 0
            kept = np.abs(terms[0]).max(axis=axis)
            for k in (self.order - 1, self.order):
                for size, last in zip(kept, np.abs(terms[k]).max(axis=axis), strict=True):
                    # The last bit of what is kept has no digits to keep.
                    allowed = max(int(size).bit_length() - self.goal, 1)
                    log2 = min(log2, (allowed - int(last).bit_length()) / k)
        whole, part = divmod(log2, 1)
        return series, Fraction(int(2.0 ** (part + 20))) * Fraction(2) ** (int(whole) + unit - 20)

    def at(self, series: list[np.ndarray], h: Fraction, unit: int) -> list[np.ndarray]:
        """The layers after the time h."""
        x = int(h * (1 << self.bits) / Fraction(2) ** unit)
        return [self._sum(terms, x) for terms in series]

    def disturbed(self, layers: list[np.ndarray]) -> list[np.ndarray]:
        """The layers, each entry up or down by at most one in its last bit."""
        return [
            layer + np.array([self.random.randint(-1, 1) for _ in layer.flat]).reshape(layer.shape)
            for layer in layers
        ]

    def _coefficients(self, layers: list[np.ndarray], unit: int) -> list[np.ndarray]:
        model = _Layers(layers, self.order, self.bits)
        for k in range(self.order):
            G = self._gradient(model.end_to_end(), constant=k == 0)
            model.append([self._integral(v, k, unit) for v in model.pullback(G)])
        return model.series

    def _gradient(self, W: np.ndarray, constant: bool) -> np.ndarray:
        """A coefficient of G = 2c Σ (⟨X_l, W⟩ − y_l) X_l."""
        r = self.X @ W.reshape(-1, 1) >> self.bits
        if constant:
            r = r - self.y
        G = (self.X.T @ r >> self.bits).reshape(self.shape)
        return G * self.double.numerator // self.double.denominator

    def _integral(self, velocity: np.ndarray, k: int, unit: int) -> np.ndarray:
        """The next coefficient, from one of a velocity with twice the bits."""
        shift = self.bits - unit
        scaled = velocity >> shift if shift >= 0 else velocity << -shift
        return -scaled // (k + 1)

    def _sum(self, terms: np.ndarray, x: int) -> np.ndarray:
        value = terms[-1]
        for term in terms[-2::-1]:
            value = (value * x >> self.bits) + term
        return value


class _Layers:
    """W = W_1 ⋯ W_N as series: coefficient by coefficient, W and the pullback of a gradient."""

    def __init__(self, layers: list[np.ndarray], order: int, bits: int) -> None:
        self.bits, self.known = bits, 1
        self.series = [_empty(order, layer.shape) for layer in layers]
        for terms, layer in zip(self.series, layers, strict=True):
            terms[0] = layer
        n, m = layers[-1].shape[1], len(layers[0])
        # W_j ⋯ W_N for j < N, and (W_1 ⋯ W_{j−1})ᵀ G.
        self.tails = [_empty(order, (len(layer), n)) for layer in layers[:-1]]
        self.heads = [_empty(order, (rows, n)) for rows in (m, *(A.shape[1] for A in layers[:-1]))]

    def append(self, coefficients: list[np.ndarray]) -> None:
        for terms, coefficient in zip(self.series, coefficients, strict=True):
            terms[self.known] = coefficient
        self.known += 1

    def end_to_end(self) -> np.ndarray:
        """The last known coefficient of W."""
        following = self.series[-1]
        for terms, tail in zip(self.series[-2::-1], self.tails[::-1], strict=True):
            tail[self.known - 1] = self._cauchy(terms, following) >> self.bits
            following = tail
        return following[self.known - 1]

    def pullback(self, G: np.ndarray) -> list[np.ndarray]:
        """The same of (W_1 ⋯ W_{j−1})ᵀ G (W_{j+1} ⋯ W_N)ᵀ, with twice the bits."""
        last = self.known - 1
        self.heads[0][last] = G
        for terms, head, after in zip(self.series, self.heads, self.heads[1:], strict=False):
            after[last] = self._cauchy(_transposed(terms), head) >> self.bits
        following = [*self.tails, self.series[-1]][1:]
        found = [
            self._cauchy(head, _transposed(tail))
            for head, tail in zip(self.heads, following, strict=False)
        ]
        return [*found, self.heads[-1][last] << self.bits]

    def _cauchy(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Σ_i first_i second_{k−i} for the last known k, as one product of matrices."""
        left = first[: self.known].transpose(1, 0, 2).reshape(first.shape[1], -1)
        return left @ second[: self.known][::-1].reshape(-1, second.shape[2])


def _empty(order: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.empty((order + 1, *shape), dtype=object)


def _transposed(terms: np.ndarray) -> np.ndarray:
    return terms.transpose(0, 2, 1)
