"""Functions of the engine that are compiled at their first call, and kept compiled on disk.

A step of a 4×4 problem is a few thousand operations on matrices of a few rows: as calls of NumPy
nearly all of its time is the way to them and back. So the loops are written out and compiled by
Numba. They are plain Python: with NUMBA_DISABLE_JIT=1 they run as they stand.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from numba import config, njit
from numba.misc.appdirs import AppDirs

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function compiled by Numba; of the types of Python nothing changes.

    Divisions by zero give inf and nan, as NumPy's do.
    """
    return cast(Function, njit(cache=True, error_model="numpy")(function))


_said = False


def say_that_it_compiles(function: Callable[..., object], takes: str = "a minute") -> None:
    """One line on standard error where this function, the dearest that an engine compiles, has not
    been compiled on this machine yet."""
    global _said
    # Numba's annotations do not know the names that it makes from the environment.
    elsewhere, disabled = config.CACHE_DIR, config.DISABLE_JIT  # type: ignore[attr-defined]
    if elsewhere == "" and not _said and not disabled and not _kept(function):
        print(f"mfbook: compiling the engine, once on this machine ({takes})", file=sys.stderr)
    _said = True


def _kept(function: Callable[..., object]) -> bool:
    """Whether Numba has kept it compiled: beside its code, or with the user where that cannot be
    written to."""
    file = Path(function.__code__.co_filename)
    folder, index = file.parent, f"{file.stem}.{function.__name__}-*.nbi"
    if os.access(folder, os.W_OK):
        return any(folder.glob(f"__pycache__/{index}"))
    places = AppDirs(appname="numba", appauthor=False)  # type: ignore[no-untyped-call]
    # Numba adds a hash of the folder's place to its name.
    return any(Path(places.user_cache_dir).glob(f"{folder.name}_*/{index}"))
