"""The scale: how small must the start be, and is smaller always better?"""

from __future__ import annotations

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.begin import SCALES, begins, followed, require_one_of
from mfbook.problems import MatrixCompletion, examples

STOPS_OF_C = (1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100)
ONE_UNKNOWN = {"M4": examples.M4, "M5": examples.M5, "runaway": examples.runaway_3x3}


def scale(example: str = "M5", *, c: int = 20, seed: int = 0, log10_scale: int = -4) -> Explorer:
    """Make the start smaller, from 1 to 10^-1000, and watch the one unknown entry.

    Parameters
    ----------
    example
        "M4", "M5", "c" (rows 1 2 and c ★) or "runaway", to begin with.
    c
        for "c", one of the stops of its slider.
    seed, log10_scale
        of the start; the scale is one of the stops of its slider.

    Raises
    ------
    ValueError
        an example, a c or a scale that is none of those.

    Examples
    --------
    >>> scale("M4", log10_scale=-100)
    widgets.scale('1 2; 3 ★', seed=0, log10_scale=-100)
    """
    require_one_of("example", example, (*ONE_UNKNOWN, "c"))
    require_one_of("c", c, STOPS_OF_C)
    require_one_of("log10_scale", log10_scale, SCALES)
    two = MatrixCompletion.from_text(f"1 2; {c} ?")
    given = ONE_UNKNOWN.get(example, two)
    state = begins(given, seed, log10_scale) | {"example": example, "c": c}
    shown = (0, -2, -4, -10, -50, -100, -1000)
    rows = [
        (
            f"10^{exponent}",
            *(
                static.digits(float(followed(problem, seed, exponent).W[-1, -1]), 3)
                for problem in ONE_UNKNOWN.values()
            ),
        )
        for exponent in shown
    ]
    figure = static.frame(
        "The scale",
        "How small must the start be, and is smaller always better?",
        static.table(
            "The unknown entry that is learned. The smallest rank needs 6, 40 and −3.",
            ("size of the start", "M₄", "M₅", "the one that runs away"),
            rows,
        ),
    )
    return Explorer("scale", state, figure)
