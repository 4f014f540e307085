"""Check everything, the fast things first, and stop at the first stage that fails.

The last stage is pytest's, so that its summary line ends the run.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT

PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-q"]
# Two workers, and a chapter's cells all on one of them, because they share a kernel.
PARALLEL = ["-n", "2", "--dist", "loadfile"]

STAGES: list[tuple[str, list[list[str]]]] = [
    # What is missing is said, or fetched, before the first minutes are spent.
    ("a browser", [[PYTHON, "tools/browser.py"]]),
    (
        "style and types",
        [
            [PYTHON, "-m", "ruff", "check", "--quiet", "."],
            [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."],
            [PYTHON, "-m", "mypy", "--no-error-summary"],
        ],
    ),
    ("package", [[*PYTEST, *PARALLEL, "--doctest-modules", "mfbook", "tests/package"]]),
    ("book", [[*PYTEST, *PARALLEL, "tests/book"]]),
    (
        "stored outputs",
        [
            [
                *PYTEST,
                *PARALLEL,
                "--nbval",
                "--nbval-current-env",
                "--nbval-sanitize-with=tests/book/sanitize.cfg",
                "book",
            ]
        ],
    ),
    ("pages", [["make", "--no-print-directory", "book"]]),
    ("browser", [[*PYTEST, "-n", "2", "tests/browser"]]),
]


def main() -> int:
    kernels.prepare()
    for number, (stage, commands) in enumerate(STAGES, 1):
        print(f"\n== {number} of {len(STAGES)}: {stage} ==", flush=True)
        start = time.monotonic()
        for command in commands:
            code = subprocess.run(command, cwd=ROOT).returncode
            if code:
                return code
        if number < len(STAGES):
            print(f"-- {stage}: {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
