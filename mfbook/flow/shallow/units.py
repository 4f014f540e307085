"""Units in which the data have size one, so that no answer depends on the unit they came in.

With W = u Ŵ, X_l = s X̂_l, y_l = u s ŷ_l and U = √u Û the flow dU/dt = S(W) U is the same flow in
the time t̂ = u s² t, and f(W) = (u s)² f̂(Ŵ). Here u is a power of 4 and s a power of 2, so that
no conversion rounds but that of the logarithm of the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# log₂ of the sizes that a unit may take.
MOST = 505


@dataclass(frozen=True)
class Units:
    """u = 4^power, the size of W, and s, that of the measurements."""

    power: int
    measurement: float

    @property
    def W(self) -> float:
        return 4.0**self.power

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
        """That of S, and one over that of time."""
        return self.target * self.measurement

    @property
    def log_factor(self) -> float:
        return self.power * np.log(2.0)


def units_of(targets: np.ndarray, measurement: float, log_start: float) -> Units:
    """Units for targets y_l of measurements of size max ‖X_l‖_F.

    Where all targets are zero the start sets the size; log_start is the logarithm of its largest
    entry.

    >>> units_of(np.array([3e-6, -1e-6]), 1.0, 0.0).W
    9.5367431640625e-07
    """
    s = 1.0 if measurement == 1.0 else 2.0 ** np.frexp(measurement)[1]
    size = np.abs(targets).max() / s
    log2 = np.log2(size) if size > 0 else np.clip(2 * log_start / np.log(2), -MOST, MOST)
    return Units(int(np.floor(log2 / 2)), float(s))
