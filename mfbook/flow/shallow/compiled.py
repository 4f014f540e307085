"""Functions of the engine that are compiled at their first call, and kept compiled on disk.

A step of a 4×4 problem is a few thousand operations on matrices of a few rows: as calls of NumPy
nearly all of its time is the way to them and back. So the loops are written out and compiled by
Numba. They are plain Python: with NUMBA_DISABLE_JIT=1 they run as they stand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from numba import config, njit

# Divisions by zero give inf and nan, as NumPy's do.
compiled = njit(cache=True, error_model="numpy")


_said = False


def say_that_it_compiles() -> None:
    """One line on standard error where nothing has been compiled on this machine yet."""
    global _said
    folder = Path(__file__).parent / "__pycache__"
    fresh = config.CACHE_DIR == "" and not any(folder.glob("kernel.*.nbi"))
    if fresh and not _said and not config.DISABLE_JIT:
        print("mfbook: compiling the flow engine, once on this machine (a minute)", file=sys.stderr)
    _said = True


def compile_all() -> None:
    """Run what is compiled once, for each kind of problem, so that it is on disk."""
    from mfbook.flow import gradient_flow
    from mfbook.models import small_init
    from mfbook.problems import MatrixCompletion, MatrixSensing

    connected = MatrixCompletion.from_text("1 2 ?; 3 ? 1; ? 1 2")
    for problem, start in (
        (connected, small_init((3, 3), rng=0)),
        (MatrixSensing([[[1.0, 0.0], [0.0, 2.0]]], [1.0]), small_init((2, 2), rng=0)),
        (MatrixCompletion.from_text("1 2; 2 1"), ([[1.0, 0.0], [0.0, 1.0]],) * 2),
    ):
        run = gradient_flow(problem, start, log10_scale=-20)
        _ = run.phases, run.singular_values


if __name__ == "__main__":
    compile_all()
