"""Build the wheel: the package, with the ledger and the stored results that chapters read.

    python tools/wheel.py [FOLDER]

The same commit gives the same bytes. It is built in a copy, so that nothing that another build left
comes along, and so that a checkout that cannot be written to has a wheel too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What the wheel is made from. The backend and what it takes from here stand in pyproject.toml.
SOURCES = ("pyproject.toml", "LICENSE", "mfbook/**/*", "book/claims.yml", "book/*/*.json")
# The first moment that the archive inside a wheel can name.
EARLIEST = 315_532_800
BUILD = """
import os, sys
from setuptools import build_meta
os.umask(0o022)
build_meta.build_wheel(sys.argv[1])
"""


def version(root: Path = ROOT) -> str:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def name(root: Path = ROOT) -> str:
    """The file name of the wheel."""
    return f"mfbook-{version(root)}-py3-none-any.whl"


def moment(root: Path = ROOT) -> int:
    """The time that everything built from here bears: SOURCE_DATE_EPOCH, else the commit's."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    try:
        asked = ["git", "log", "-1", "--format=%ct"]
        said = subprocess.run(asked, cwd=root, capture_output=True, text=True)
    except OSError:  # no git here
        return EARLIEST
    return int(said.stdout) if said.returncode == 0 and said.stdout.strip() else EARLIEST


def sources(root: Path = ROOT) -> list[Path]:
    return sorted(
        path
        for pattern in SOURCES
        for path in root.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts and path.name[0] != "."
    )


def build(folder: Path, root: Path = ROOT) -> Path:
    """Put the wheel into a folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        for path in sources(root):
            target = copy / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o644)  # whatever the checkout's mask was
        made = Path(scratch) / "made"
        made.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(made)],
            cwd=copy,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(max(moment(root), EARLIEST))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise RuntimeError(f"the wheel could not be built:\n{done.stdout}")
        target = folder / name(root)
        # First beside its place: a reader never gets half of one.
        draft = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(made / target.name, draft)
        os.replace(draft, target)
    return target


def main() -> int:
    words = sys.argv[1:]
    try:
        made = build(Path(words[0]) if words else ROOT / "_build" / "wheel")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"the wheel could not be stored: {where}{error.strerror}; name a folder that can be "
            "written to: python tools/wheel.py FOLDER",
            file=sys.stderr,
        )
        return 1
    print(os.path.relpath(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
