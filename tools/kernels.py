"""The environment that every chapter's kernel runs in, when executed and when checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Two kernels run at once on two cores. One thread each is faster than four threads that
# compete, and it fixes the order of summation, so that stored numbers come out again.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}

ENGINE = Path(__file__).resolve().parent.parent / "mfbook" / "flow" / "shallow"


def prepare() -> None:
    """Set it for this process and for the kernels that it starts, and compile the engine.

    Else two kernels would each compile it, and say so in the outputs of a chapter.
    """
    os.environ.update(ENVIRONMENT)
    if not compiled():
        subprocess.run([sys.executable, "-m", "mfbook.flow.shallow.compiled"], check=True)


def compiled() -> bool:
    """Whether what Numba keeps on disk is younger than the engine's code, if there is any."""
    sources = [path.stat().st_mtime for path in ENGINE.glob("*.py")]
    kept = [path.stat().st_mtime for path in ENGINE.glob("__pycache__/kernel.*.nbi")]
    return not sources or (bool(kept) and max(kept) > max(sources))
