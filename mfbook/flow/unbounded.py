"""When a run is given up as unbounded.

That is where W exceeds FAR times y_max²/y_min, for the largest and the smallest target that is not
zero, has grown by GROWN while time grew tenfold, and the loss has not fallen by FALLEN meanwhile.
The quotient is as large as an unknown entry of a matrix of rank one can be made by dividing
targets; but whether W is bounded after all no finite run can tell, and the reason does not say
more. In `examples.runaway_3x3` W grows like t^(1/3), by 2.15.

Far out the gradient drowns in the rounding of W, and a run that creeps on looks as if it rested.
Its path tells: a power of t is at its end about as fast as it was over its last per cent, to within
what rounding makes of a slope that nearly drowns, some hundredfold. An exponential approach to a
point of rest is slower by 10^9 and more, down to rounding; how long its last per cent took, or the
one before, does not tell, for it may have waited on a plateau.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

FAR, GROWN, FALLEN = 1e3, 1.2, 0.1
# The speed at the end is that in the last MOMENT of the time that the last per cent took, when a W
# that creeps still changes by some thousand roundings. In twenty runs of seven problems, to W of
# 10^5 to 10^7 times the data, it was 0.002 to 3 times the mean, and at nine rests it was nothing.
PER_CENT, MOMENT, SLOWER = 1.01, 1e-6, 1e3


def far_beyond(targets: np.ndarray) -> float:
    """The size of W that is far beyond the data; none is where all targets are zero.

    >>> far_beyond(np.array([2.0, 0.0, -4.0]))
    8000.0
    """
    sizes = np.abs(targets[targets != 0.0])
    if not sizes.size:
        return np.inf
    with np.errstate(over="ignore"):  # beyond all numbers, and no run gets there
        return float(FAR * sizes.max() * (sizes.max() / sizes.min()))


def grows_on(size: float, loss: float, earlier_size: float, earlier_loss: float) -> bool:
    """Whether W has grown, and the loss has not fallen, since time was a tenth of what it is.

    >>> grows_on(2.0, 0.9, 1.0, 1.0), grows_on(1.1, 0.9, 1.0, 1.0), grows_on(2.0, 0.01, 1.0, 1.0)
    (True, False, False)
    """
    return bool(earlier_size * GROWN <= size and loss >= FALLEN * earlier_loss)


def creeps(size_at: Callable[[float], float], times: Sequence[float]) -> bool:
    """Whether W was still growing when it seemed to rest, at the last of the times.

    >>> grid = [2.0**k for k in range(40)]
    >>> creeps(lambda t: t**0.25, grid), creeps(lambda t: 2 - np.exp(-t), grid)
    (True, False)
    >>> creeps(lambda t: 2 - (1 + t) ** -0.5, grid)
    False
    >>> creeps(lambda t: 1 - np.exp(-t) + 0.015 * (t > 2.0**38), grid)  # a late step to a rest
    False
    """
    end, time = size_at(times[-1]), times[-1]
    began = _last_below(size_at, times, end / PER_CENT)
    if began == 0:
        return False
    took = time - began
    average = end * (1 - 1 / PER_CENT) / took
    speed = (end - size_at(time - MOMENT * took)) / (MOMENT * took)
    return bool(SLOWER * speed > average)


def _last_below(size_at: Callable[[float], float], times: Sequence[float], size: float) -> float:
    """The last time of that size; 0 if W has always been larger."""
    for low, high in zip(times[-2::-1], times[:0:-1], strict=True):
        if size_at(low) <= size:
            while high - low > 1e-3 * (times[-1] - low):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if size_at(middle) <= size else (low, middle)
            return low
    return 0.0
