"""Everything that is compiled, run once, so that it is on disk before many processes want it.

python -m mfbook.flow.engines
"""

import numpy as np

from mfbook.flow import gradient_flow
from mfbook.flow.descent import gradient_descent
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing


def compile_all() -> None:
    """A run of each kind of problem."""
    connected = MatrixCompletion.from_text("1 2 ?; 3 ? 1; ? 1 2")
    sensing = MatrixSensing(np.array([[[1.0, 0.0], [0.0, 2.0]]]), np.array([1.0]))
    for problem, start in (
        (connected, small_init((3, 3), rng=0)),
        (sensing, small_init((2, 2), rng=0)),
        (MatrixCompletion.from_text("1 2; 2 1"), ([[1.0, 0.0], [0.0, 1.0]],) * 2),
        (connected, small_init((3, 3), depth=3, rng=0)),
        # What it has of one component waits as a trace while the other is learned.
        (MatrixCompletion.from_text("1 ?; ? 9"), small_init((2, 2), depth=3, rng=0)),
    ):
        run = gradient_flow(problem, start, log10_scale=-20)
        _ = run.phases, run.singular_values
    gradient_descent(connected, small_init((3, 3), rng=0), lr=0.01, max_iters=2)


if __name__ == "__main__":
    compile_all()
