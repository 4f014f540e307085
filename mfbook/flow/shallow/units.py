"""Units in which the data have size one, so that no answer depends on the unit they came in.

With W = u Ŵ, X_l = s X̂_l, y_l = u s ŷ_l and the N factors in units of v = u^(1/N), the flow is the
same flow in the time t̂ = v^(N−2) u s² t, and f(W) = (u s)² f̂(Ŵ). For two factors, and for U Uᵀ,
that is u s² t. Here v and s are powers of 2, so that no conversion rounds but that of the logarithm
of the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# log₂ of the sizes that a unit may take.
MOST = 505


@dataclass(frozen=True)
class Units:
    """v = 2^power, the size of a factor, s, that of the measurements, and N."""

    power: int
    measurement: float
    depth: int = 2

    @property
    def W(self) -> float:
        return 2.0 ** (self.depth * self.power)

    @property
    def factor(self) -> float:
        return 2.0**self.power

    @property
    def target(self) -> float:
        return self.W * self.measurement

    @property
    def loss(self) -> float:
        return self.target**2

    @property
    def rate(self) -> float:
        """One over that of time; for two factors that of S."""
        return self.factor ** (self.depth - 2) * self.target * self.measurement

    @property
    def log_factor(self) -> float:
        return self.power * float(np.log(2.0))


def units_of(targets: np.ndarray, measurement: float, log_start: float, depth: int = 2) -> Units:
    """Units for targets y_l of measurements of size max ‖X_l‖_F, and for N = depth factors.

    Where all targets are zero the start sets the size; log_start is the logarithm of that of a
    factor, the mean over the factors.

    >>> units_of(np.array([3e-6, -1e-6]), 1.0, 0.0).W
    9.5367431640625e-07
    """
    s = 1.0 if measurement == 1.0 else 2.0 ** np.frexp(measurement)[1]
    size = np.abs(targets).max() / s
    log2 = np.log2(size) if size > 0 else np.clip(depth * log_start / np.log(2), -MOST, MOST)
    return Units(int(np.floor(log2 / depth)), float(s), depth)
