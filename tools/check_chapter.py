"""Everything that concerns one page, and all that fails of it in one place.

    python tools/check_chapter.py CHAPTER

A chapter is named by its place under book/, such as `data/graph`. It is executed where its code
changed, its stored outputs are checked and compared with a run, its page is built and looked at
in a browser.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT, Chapter, has_code, pages
from tools.run_tests import PYTHON, compared

PYTEST = [PYTHON, "-m", "pytest", "-q"]
# When one of these fails, the next would look at the old outputs or the old page.
NEEDED = ("execute", "build")


def choose(words: list[str], book: Path) -> Chapter:
    """The chapter that is named, or the end with a list of those that there are."""
    known = sorted({page.relative_to(book).with_suffix("").as_posix() for page in pages(book)})
    names = [re.sub(r"^(\./)?book/|\.(md|ipynb)$", "", word) for word in words]
    if len(names) != 1 or names[0] not in known:
        said = f"no such chapter: {' '.join(words)}" if words else "make chapter CHAPTER=..."
        sys.exit(f"{said}; there are: {', '.join(known)}")
    return Chapter(names[0], book)


def steps(chapter: Chapter) -> dict[str, list[str]]:
    """What is done for a page, one command a step."""
    looked_at = {
        "build": ["make", "--no-print-directory", "book"],
        "browser": [*PYTEST, "tests/browser", "-k", f"book/{chapter.name}.html"],
    }
    if not has_code(chapter.source):
        return looked_at
    return {
        "execute": [PYTHON, "tools/execute.py", chapter.name],
        # The tests that know a chapter by its name: [data/graph] and [data/graph-bai2024-def1-...].
        "book": [*PYTEST, "tests/book", "-k", f"[{chapter.name}] or [{chapter.name}-"],
        "compare": [*PYTEST, *compared([chapter.twin])],
        **looked_at,
    }


def main(words: list[str] | None = None) -> int:
    chapter = choose(sys.argv[1:] if words is None else words, ROOT / "book")
    kernels.prepare()
    failures = {}
    for step, command in steps(chapter).items():
        start = time.monotonic()
        print(f"{step:10}", end="", flush=True)
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(f"{'FAILED' if done.returncode else 'fine'} {time.monotonic() - start:8.1f} s")
        if done.returncode:
            failures[step] = done.stdout
            if step in NEEDED:
                break
    for step, said in failures.items():
        print(f"\n{'=' * 80}\n{step}: {' '.join(steps(chapter)[step])}\n\n{said.rstrip()}")
    print(f"\n{chapter.name}: {'failed: ' + ', '.join(failures) if failures else 'all is fine'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
