"""An independent flow in many digits: Taylor series of the plain equations, no gauge, no scales.

A and B are kept as integers in units of 2^-BITS (fixed point), the series coefficients of
A, B, W and G = ∇f(W) follow from each other by Cauchy products,

    (k+1) A_{k+1} = −Σ G_i B_{k−i}ᵀ,   (k+1) B_{k+1} = −Σ A_iᵀ G_{k−i},   W_k = Σ A_i B_{k−i},

and the step is chosen so that the last term is below 2^-100 of what is kept. It shares
nothing with the engine: it works in the caller's gauge, in real time, with the literal scale α.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

ORDER = 40


class TaylorFlow:
    """dA/dt = −G Bᵀ, dB/dt = −Aᵀ G for entries (i, j), values and weight c: G = 2c (W − M) on Ω."""

    def __init__(self, values, mask, weight: Fraction, bits: int = 360):
        self.bits, self.one = bits, 1 << bits
        self.mask = np.asarray(mask, dtype=bool)
        self.double = 2 * Fraction(weight)
        self.M = np.array(
            [
                [self.fixed(v) if o else 0 for v, o in zip(r, q, strict=True)]
                for r, q in zip(values, self.mask, strict=True)
            ],
            dtype=object,
        )

    def fixed(self, x) -> int:
        return int(Fraction(x) * self.one)

    def matrix(self, array, scale: Fraction = Fraction(1)):
        return np.array([[self.fixed(Fraction(x) * scale) for x in row] for row in array], object)

    def times(self, X, Y):
        return (X @ Y) >> self.bits

    def step(self, A, B, h_max: Fraction):
        """One step of at most h_max; returns A, B and the length taken."""
        one, bits = self.one, self.bits
        zero = np.zeros(self.mask.shape, dtype=object)
        As, Bs, Gs = [A], [B], []
        for k in range(ORDER):
            W = sum((As[i] @ Bs[k - i] for i in range(k + 1)), start=zero) >> bits
            R = np.where(self.mask, W - self.M if k == 0 else W, 0)
            Gs.append(R * self.double.numerator // self.double.denominator)
            dA = sum((Gs[i] @ Bs[k - i].T for i in range(k + 1)), start=0 * A) >> bits
            dB = sum((As[i].T @ Gs[k - i] for i in range(k + 1)), start=0 * B) >> bits
            As.append(-dA // (k + 1))
            Bs.append(-dB // (k + 1))
        # |a_k| h^k ≤ 2^-goal |a_0| for the last two orders, by columns of A and of B.
        goal = 100
        h = h_max
        for k in (ORDER - 1, ORDER):
            for series, axis in ((As, 0), (Bs, 1)):
                last = np.abs(series[k]).max(axis=axis)
                size = np.abs(series[0]).max(axis=axis)
                for a, s in zip(last, size, strict=True):
                    if a and s:
                        log = (s.bit_length() - a.bit_length() - goal) / k
                        h = min(h, Fraction(2.0**log))
        h = Fraction(int(h * (1 << 60)), 1 << 60)  # a short fraction
        num = int(h * one)
        for series in (As, Bs):
            value = series[-1]
            for term in reversed(series[:-1]):
                value = (value * num >> bits) + term
            series[0] = value
        return As[0], Bs[0], h

    def run(self, A, B, times, on=None):
        """A and B (as integers) at each of the rising `times`."""
        t = Fraction(0)
        out = []
        for end in map(Fraction, times):
            while t < end:
                A, B, h = self.step(A, B, end - t)
                t += h
                if end - t < Fraction(1, 1 << 50):
                    t = end
            out.append((A, B))
        return out

    def floats(self, X):
        return np.array([[float(Fraction(int(x), self.one)) for x in row] for row in X])
