"""When a run is given up as unbounded.

That is where W exceeds FAR times y_max²/y_min, for the largest and the smallest target that is not
zero, has grown by GROWN while time grew tenfold, and the loss has not fallen by FALLEN meanwhile.
The quotient is as large as an unknown entry of a matrix of rank one can be made by dividing
targets; but whether W is bounded after all no finite run can tell, and the reason does not say
more. In `examples.runaway_3x3` W grows like t^(1/3), by 2.15.
"""

from __future__ import annotations

import numpy as np

FAR, GROWN, FALLEN = 1e3, 1.2, 0.1


def far_beyond(targets: np.ndarray) -> float:
    """The size of W that is far beyond the data; none is where all targets are zero.

    >>> far_beyond(np.array([2.0, 0.0, -4.0]))
    8000.0
    """
    sizes = np.abs(targets[targets != 0.0])
    return float(FAR * sizes.max() ** 2 / sizes.min()) if sizes.size else np.inf


def grows_on(size: float, loss: float, earlier_size: float, earlier_loss: float) -> bool:
    """Whether W has grown, and the loss has not fallen, since time was a tenth of what it is.

    >>> grows_on(2.0, 0.9, 1.0, 1.0), grows_on(1.1, 0.9, 1.0, 1.0), grows_on(2.0, 0.01, 1.0, 1.0)
    (True, False, False)
    """
    return bool(earlier_size * GROWN <= size and loss >= FALLEN * earlier_loss)
