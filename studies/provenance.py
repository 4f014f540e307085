"""How a stored result came about: the command, the versions and the day."""

from __future__ import annotations

import platform
from datetime import date

import numpy as np
import scipy


def versions() -> dict[str, str]:
    """Those that the digits of a result may depend on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def provenance(command: str, **settings) -> dict:
    """What a stored result says about itself, with the seeds and sizes in `settings`."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        **versions(),
        **settings,
    }
