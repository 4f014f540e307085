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

FLOW = Path(__file__).resolve().parent.parent / "mfbook" / "flow"
ENGINES = (FLOW / "shallow", FLOW / "deep", FLOW / "descent")
# Numba writes again only what changed, so that its files do not tell when all was last compiled.
DONE = FLOW / "__pycache__" / "engines"


def prepare() -> None:
    """Set it for this process and for the kernels that it starts, and compile the engines.

    Else two kernels would each compile it, and say so in the outputs of a chapter.
    """
    os.environ.update(ENVIRONMENT)
    # With a backend of the caller's own a kernel shows no figure, and its outputs lack all of them.
    os.environ.pop("MPLBACKEND", None)
    if not compiled():
        subprocess.run([sys.executable, "-m", "mfbook.flow.engines"], check=True)
        DONE.parent.mkdir(exist_ok=True)
        DONE.touch()


def compiled() -> bool:
    """Whether the engines have been compiled since their code changed, if there are any."""
    changed = [path.stat().st_mtime for engine in ENGINES for path in engine.glob("*.py")]
    return not changed or (DONE.exists() and DONE.stat().st_mtime > max(changed))
