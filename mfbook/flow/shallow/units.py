"""Units in which the data have size one, so that no answer depends on the unit they came in.

With W = u Ŵ, X_l = s X̂_l, y_l = u s ŷ_l and U = √u Û the flow dU/dt = S(W) U is the same flow in
the time t̂ = u s² t, and f(W) = (u s)² f̂(Ŵ). Here u is a power of 4 and s a power of 2, so that
all conversions are exact: data that differ by a factor 4^k are integrated by the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Squares of the data are summed, and double precision ends at 1e308: what is as large or as small
# as this may pass, what is larger or smaller is refused.
LARGEST = 1e152
LARGEST_MEASUREMENT = 1e50
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


def require_size(name: str, array: np.ndarray, most: float) -> None:
    """Refuse what is so large or small that its squares leave double precision."""
    size = float(np.abs(array).max())
    if size > 0 and not 1 / most <= size <= most:
        raise ValueError(
            f"{name} must be of a size between {1 / most:g} and {most:g}, whose squares are "
            f"numbers in double precision, but the largest is {size:g}; choose another unit"
        )
