"""Units of W, of the measurements and of time, in which an end-to-end flow has size one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfbook.flow.shallow.units import units_of
from mfbook.problems.fit import LARGEST
from mfbook.problems.in_units import InUnits
from mfbook.problems.protocols import Problem

LARGEST_LOG10_TIME = 290.0
# And below depth 2, where small singular values have fast vectors.
LARGEST_LOG10_PACE = 150.0
# A start may be so many times as large as the data: fourth powers of W are summed.
LARGEST_START = 1e50


@dataclass(frozen=True)
class Units:
    """Those of W and the measurements, and what follows from them at a depth."""

    W: float
    measurement: float
    depth: float

    def of(self, problem: Problem) -> InUnits:
        return InUnits(problem, self.W, self.measurement)

    @property
    def log_W(self) -> float:
        return float(np.log(self.W))

    @property
    def target(self) -> float:
        return self.W * self.measurement

    @property
    def rate(self) -> float:
        """One over the unit of time, u^(2−2/N) s²."""
        return self.W ** (1 - 2 / self.depth) * self.measurement * self.target


def units_at(problem: Problem, depth: float, log_sizes: np.ndarray, name: str) -> Units:
    """Units for a start with those logarithms of singular values; or the start is refused.

    `name` is that of the number which the caller may change.
    """
    log_start = float(log_sizes.max())
    measurement = float(problem.sizes.max()) or 1.0
    found = units_of(problem.targets, measurement, log_start, depth=1)
    units = Units(found.W, found.measurement, depth)
    ten = float(np.log(10.0))
    size = units.log_W if problem.targets.any() else np.inf
    most = min(size + np.log(LARGEST_START), np.log(LARGEST / units.measurement))
    if log_start > most:
        raise ValueError(
            f"the start is of size 10^{log_start / ten:.0f}, and numbers of the flow would leave "
            f"double precision; take a smaller {name}, for a start below 10^{most / ten:.0f}"
        )
    longest = -(1 - 2 / depth) * float(log_sizes.min() - units.log_W) / ten
    if longest < -LARGEST_LOG10_PACE:
        raise ValueError(
            f"the smallest singular vectors of this start turn 10^{-longest:.0f} times as fast as "
            f"others; take a larger {name}, or depth 2, where all turn alike"
        )
    if max(longest, longest - np.log10(units.rate)) > LARGEST_LOG10_TIME:
        raise ValueError(
            f"the plateau of this start lasts about 10^{longest - np.log10(units.rate):.0f}, and "
            f"double precision ends at 10^308; take a larger {name}"
        )
    return units
