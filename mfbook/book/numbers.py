"""Numbers that only rounding makes, said in a way that a second run repeats."""

from __future__ import annotations

import math

from mfbook.problems.checks import real_number


def below(x: float) -> str:
    """The power of ten, from 1e-16 up, above the size of x: `below(3e-13)` is "below 1e-12".

    What rounding makes differs from machine to machine, so a chapter prints a bound for it. Raises
    TypeError for what is no number, and ValueError for one that is not finite.

    >>> below(3e-13)
    'below 1e-12'
    >>> below(0.0)
    'below 1e-16'
    """
    exponent = math.floor(math.log10(max(abs(real_number("x", x)), 1e-17))) + 1
    return f"below 1e{exponent}" if exponent < 0 else f"below {10**exponent}"
