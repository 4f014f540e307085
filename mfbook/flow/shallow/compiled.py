"""Functions of the engine that are compiled at their first call, and kept compiled on disk.

A step of a 4×4 problem is a few thousand operations on matrices of a few rows: as calls of NumPy
nearly all of its time is the way to them and back. So the loops are written out and compiled by
Numba. They are plain Python: with NUMBA_DISABLE_JIT=1 they run as they stand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numba import config, njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function compiled by Numba; of the types of Python nothing changes.

    Divisions by zero give inf and nan, as NumPy's do.
    """
    return cast(Function, njit(cache=True, error_model="numpy")(function))


_said = False


def say_that_it_compiles(engine: str, takes: str = "a minute") -> None:
    """One line on standard error where an engine has not been compiled on this machine yet."""
    global _said
    folder = Path(engine).parent / "__pycache__"
    # Numba's annotations do not know the names that it makes from the environment.
    elsewhere, disabled = config.CACHE_DIR, config.DISABLE_JIT  # type: ignore[attr-defined]
    fresh = elsewhere == "" and not any(folder.glob("kernel.*.nbi"))
    if fresh and not _said and not disabled:
        print(f"mfbook: compiling the engine, once on this machine ({takes})", file=sys.stderr)
    _said = True


def compile_all() -> None:
    """Run what is compiled once, for each kind of problem, so that it is on disk."""
    from mfbook.flow import gradient_flow
    from mfbook.flow.descent import gradient_descent
    from mfbook.models import small_init
    from mfbook.problems import MatrixCompletion, MatrixSensing

    connected = MatrixCompletion.from_text("1 2 ?; 3 ? 1; ? 1 2")
    sensing = MatrixSensing(np.array([[[1.0, 0.0], [0.0, 2.0]]]), np.array([1.0]))
    for problem, start in (
        (connected, small_init((3, 3), rng=0)),
        (sensing, small_init((2, 2), rng=0)),
        (MatrixCompletion.from_text("1 2; 2 1"), ([[1.0, 0.0], [0.0, 1.0]],) * 2),
        (connected, small_init((3, 3), depth=3, rng=0)),
    ):
        run = gradient_flow(problem, start, log10_scale=-20)
        _ = run.phases, run.singular_values
    gradient_descent(connected, small_init((3, 3), rng=0), lr=0.01, max_iters=2)


if __name__ == "__main__":
    compile_all()
