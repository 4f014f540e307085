"""Check everything, the fast things first, and stop at the first stage that fails.

    python tools/run_tests.py [STAGE ...]

In the end it says where the time went; its last line counts the tests of all stages, as pytest
counts them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT, chapters

PYTHON = sys.executable
# What each stage of pytest's tells of its tests.
REPORTS = ROOT / "_build" / "tests"
# The chapters that take longest to run, by the CPU seconds of their cells. They are begun first, so
# that no core is left with a long one when the other is done.
LONGEST = (
    *("depth/printed", "numerics/depth", "data/connectivity", "depth/limit", "depth/connectivity"),
    *("depth/norms", "depth/product", "greedy/phases", "depth/endless", "depth/escaping"),
)


def style() -> list[list[str]]:
    """Style, and types where a checker is configured."""
    commands = [
        [PYTHON, "-m", "ruff", "check", "--quiet", "."],
        [PYTHON, "-m", "ruff", "format", "--check", "--quiet", "."],
    ]
    if "mypy" in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]:
        commands.append([PYTHON, "-m", "mypy", "--no-error-summary"])
    return commands


def tests(stage: str, *words: str, dist: str = "worksteal") -> list[str]:
    """Pytest's command: two workers, and the one that is done first takes over from the other."""
    report = REPORTS / f"{stage}.xml"
    return [
        *(PYTHON, "-m", "pytest", "-q", "-n", "2", "--dist", dist, f"--junitxml={report}"),
        *words,
    ]


def compared(twins: list[Path]) -> list[str]:
    """The words that let pytest run notebooks and compare their outputs with the stored ones."""
    nbval = "-p nbval.plugin --nbval --nbval-current-env"
    return [
        *nbval.split(),
        "--nbval-sanitize-with=tests/book/sanitize.cfg",
        *(twin.relative_to(ROOT).as_posix() for twin in twins),
    ]


def stages() -> dict[str, list[list[str]]]:
    """The commands of each stage."""
    found = {chapter.name: chapter.twin for chapter in chapters()}
    twins = [found[name] for name in (*LONGEST, *sorted(found.keys() - set(LONGEST)))]
    return {
        # What is missing is said, or fetched, before the first minutes are spent.
        "a browser": [[PYTHON, "tools/browser.py"]],
        "style": style(),
        "package": [tests("package", "--doctest-modules", "mfbook", "tests/package")],
        "book": [tests("book", "tests/book")],
        # A chapter's cells share a kernel, so one worker runs all of them, in the order given.
        "stored outputs": [
            tests("stored outputs", "--no-loadscope-reorder", *compared(twins), dist="loadfile")
        ],
        "pages": [["make", "--no-print-directory", "book"]],
        "browser": [tests("browser", "tests/browser")],
        "bound": [
            ["make", "--no-print-directory", "-j2", "pdf", "epub"],
            tests("bound", "tests/artefacts", dist="loadfile"),
        ],
    }


def read_report(stage: str) -> tuple[Counter[str], Counter[str]]:
    """How a stage's tests ended, and the seconds of each of its files."""
    ends: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    file = REPORTS / f"{stage}.xml"
    for case in ET.parse(file).iter("testcase") if file.exists() else ():
        end = next((part.tag for part in case if part.tag in ("failure", "error", "skipped")), "")
        ends[{"": "passed", "failure": "failed", "error": "failed"}.get(end, end)] += 1
        seconds[case.get("classname", "").removeprefix("tests.")] += float(case.get("time", 0))
    return ends, seconds


def summary(took: dict[str, float]) -> str:
    """A line a stage: how long it took and, of its files, the longest."""
    total: Counter[str] = Counter()
    lines = ["== where the time went =="]
    for stage, wall in took.items():
        ends, seconds = read_report(stage)
        total += ends
        longest = ", ".join(f"{name} {time:.0f}" for name, time in seconds.most_common(5))
        lines.append(f"{stage:14} {wall:7.1f} s  {longest}".rstrip())
    counts = ", ".join(
        f"{total[end]} {end}" for end in ("failed", "passed", "skipped") if total[end]
    )
    return "\n".join([*lines, f"{counts or 'no tests ran'} in {sum(took.values()):.2f}s"])


def main(words: list[str] | None = None) -> int:
    known = stages()
    parser = argparse.ArgumentParser(description="Check everything, or some of the stages.")
    parser.add_argument("stages", nargs="*", help=f"some of: {', '.join(known)}")
    wanted = parser.parse_args(words).stages or list(known)
    unknown = [stage for stage in wanted if stage not in known]
    if unknown:
        parser.error(f"no such stage: {', '.join(unknown)}; there are: {', '.join(known)}")
    kernels.prepare()
    took: dict[str, float] = {}
    code = 0
    for number, stage in enumerate(wanted, 1):
        print(f"\n== {number} of {len(wanted)}: {stage} ==", flush=True)
        (REPORTS / f"{stage}.xml").unlink(missing_ok=True)
        start = time.monotonic()
        for command in known[stage]:
            code = code or subprocess.run(command, cwd=ROOT).returncode
        took[stage] = time.monotonic() - start
        print(f"-- {stage}: {took[stage]:.1f} s", flush=True)
        if code:
            break
    print(f"\n{summary(took)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
