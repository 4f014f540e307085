"""What can be checked of a change in half a minute: style, types, and the tests that it touches.

    python tools/quick.py [--base COMMIT] [--all]

A test is touched when its own file changed, or the code of a module that it reaches: those of
tests/package through mfbook, those of tests/book through tools. The tests marked slow are left
out, except with --all. Of a chapter that changed, its stored twin and its rows of the ledger are
checked, and nothing is run: `make chapter` does that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT, has_code
from tools.dependencies import code_of_module, code_of_text, reached_by_file
from tools.run_tests import PYTHON, style

# What is checked of a chapter as it stands.
OF_CHAPTERS = ("tests/book/test_chapters.py", "tests/book/test_ledger.py")
# Where the tests of a package's modules are.
TESTS = {"mfbook": "tests/package", "tools": "tests/book"}
NO_TESTS = 5  # pytest's exit code where all were left out


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout


def changed_files(root: Path, base: str) -> list[str]:
    """What differs from the base: changed, removed and new files, committed or not."""
    named = git(root, "diff", "--name-only", "-z", "--no-renames", base)
    new = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted({name for name in (named + new).split("\0") if name})


def code_changed(root: Path, base: str, name: str) -> bool:
    """Whether a module differs in more than its words."""
    if not (root / name).exists() or not git(root, "ls-tree", "--name-only", base, name):
        return True
    return code_of_text(git(root, "show", f"{base}:{name}")) != code_of_module(root / name)


def touched_tests(root: Path, base: str, changed: list[str]) -> list[str]:
    """The files of tests that the change touches, and the changed modules that have doctests."""
    found = set()
    for package, folder in TESTS.items():
        inside = [n for n in changed if n.startswith(f"{package}/") and n.endswith(".py")]
        modules = {root / name for name in inside if code_changed(root, base, name)}
        # What a removed module was needed for can no longer be told.
        unknown = any(not module.exists() for module in modules)
        for test in sorted((root / folder).glob("test_*.py")):
            name = test.relative_to(root).as_posix()
            if name in changed or unknown:
                found.add(name)
            elif modules and modules & set(reached_by_file(test, root / package)):
                found.add(name)
        found |= {
            n for n in inside if (root / n).exists() and ">>> " in (root / n).read_text("utf-8")
        }
    return sorted(found)


def changed_chapters(root: Path, changed: list[str]) -> list[str]:
    """The chapters of which the source or the twin changed, by their names."""
    sources = {Path(n).with_suffix(".md") for n in changed if n.startswith("book/")}
    return sorted(
        source.relative_to("book").with_suffix("").as_posix()
        for source in sources
        if (root / source).exists() and has_code(root / source)
    )


def check_chapters(root: Path, names: list[str]) -> int:
    print("chapters that the change touches:", *names, flush=True)
    those = " or ".join(f"[{name}]" for name in names)
    command = [PYTHON, "-m", "pytest", "-q", *OF_CHAPTERS, "-k", those]
    return subprocess.run(command, cwd=root).returncode


def main(words: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Style, types, and the tests of what changed.")
    parser.add_argument("--base", default="HEAD", help="the commit to compare with (default: HEAD)")
    parser.add_argument("--all", action="store_true", help="with the tests marked slow")
    arguments = parser.parse_args(words)

    kernels.prepare()
    bad = max((subprocess.run(command, cwd=root).returncode for command in style()), default=0)
    print(f"style: {'FAILED' if bad else 'fine'}", flush=True)
    changed = changed_files(root, arguments.base)
    if chapters := changed_chapters(root, changed):
        bad = check_chapters(root, chapters) or bad
    tests = touched_tests(root, arguments.base, changed)
    if not tests:
        print(f"The change ({len(changed)} files) touches no test of the package or of the tools.")
        return bad
    print("tests that the change touches:", *tests, flush=True)
    command = [PYTHON, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "--doctest-modules"]
    slow = [name for name in tests if "pytest.mark.slow" in (root / name).read_text("utf-8")]
    if slow and not arguments.all:
        command += ["-m", "not slow"]
    code = subprocess.run([*command, *tests], cwd=root).returncode
    if slow and not arguments.all:
        print("left out: the slow tests of", *slow, "(make quick ALL=1 runs them)")
        code = 0 if code == NO_TESTS else code
    return bad or code


if __name__ == "__main__":
    sys.exit(main())
