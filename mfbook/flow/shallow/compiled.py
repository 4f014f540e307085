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
