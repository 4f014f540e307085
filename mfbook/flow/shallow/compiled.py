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
