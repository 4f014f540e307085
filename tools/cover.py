"""Say which lines of the package neither a test nor a chapter runs.

    python tools/cover.py

The tests of the package and of the book run as in `make test`, and every process that they start
is watched. The chapters run as scripts: the kernels that compare outputs are killed when they are
done, and a killed process says nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT, Chapter, chapters
from tools.run_tests import LONGEST, PYTHON, stages


def script(chapter: Chapter) -> str:
    """The code of a chapter, without the cells that are meant to fail."""
    return "\n\n".join(
        cell.source
        for cell in chapter.read_source().cells
        if cell.cell_type == "code" and "raises-exception" not in cell.metadata.get("tags", [])
    )


def run(chapter: Chapter, folder: Path) -> str:
    """Run a chapter where its data lie; what it said where it failed."""
    file = folder / f"{chapter.name.replace('/', '-')}.ipy"
    file.write_text(script(chapter), "utf-8")
    command = [PYTHON, "-m", "IPython", "--quick", "--no-banner", str(file)]
    done = subprocess.run(
        command,
        cwd=chapter.source.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # where a traceback goes depends on the version of IPython
        text=True,
    )
    return done.stdout if done.returncode else ""


def main() -> int:
    folder = ROOT / "_build" / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kernels.prepare()
    os.environ |= {
        "COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"),
        "COVERAGE_FILE": str(folder / "data"),
        "MPLBACKEND": "agg",
    }
    code = 0
    for stage in ("package", "book"):
        for command in stages()[stage]:
            code = subprocess.run(command, cwd=ROOT).returncode or code
    ordered = sorted(chapters(), key=lambda chapter: chapter.name not in LONGEST)
    with ThreadPoolExecutor(2) as pool:
        for chapter, said in zip(
            ordered, pool.map(lambda chapter: run(chapter, folder), ordered), strict=True
        ):
            print(f"{chapter.name}: {f'FAILED{chr(10)}{said}' if said else 'ran'}", flush=True)
            code = code or bool(said)
    # Tests also run copies of the package, in folders that are gone by now.
    here = f"--include={ROOT / 'mfbook'}/*"
    for words in (["combine", "--quiet"], ["report", here]):
        code = subprocess.run([PYTHON, "-m", "coverage", *words], cwd=ROOT).returncode or code
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
