"""Build what is archived of a version, from the last commit and nothing else.

    python tools/release.py [FOLDER]

The source, the wheel, the built pages, the PDF and the EPUB, with a list of checksums. Everything
is built in a copy of the commit and bears its date, so that the same commit gives the same bytes in
the same environment.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import wheel
from tools.chapters import ROOT

# Targets of the Makefile that bind the whole book into one file, and the name of that under _build.
BOUND = {"pdf": "mfbook.pdf", "epub": "mfbook.epub"}
SUMS = "SHA256SUMS"


class NotReleased(Exception):
    """What keeps a release from being built, and the cure."""


def git(root: Path, *words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True)
    if done.returncode:
        raise NotReleased(f"git {words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def committed(root: Path) -> int:
    """The date of the commit, where all that is there is in it."""
    changed = git(root, "status", "--porcelain").decode(errors="replace")
    if changed:
        raise NotReleased(
            "a release is built from a commit, and these files are in none; commit them, or "
            f"remove them:\n{changed.rstrip()}"
        )
    return int(git(root, "log", "-1", "--format=%ct"))


def pack(target: Path, folder: Path, name: str, moment: int) -> None:
    """A folder as NAME/... in a compressed archive that depends on its files alone."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    with (
        target.open("wb") as raw,
        # Its header would hold the time and the file's name.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in files:
            entry = archive.gettarinfo(path, f"{name}/{path.relative_to(folder).as_posix()}")
            entry.mtime = moment
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            # What git knows of a file's mode is whether it can be run.
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.isfile():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)


def export(root: Path, copy: Path) -> None:
    """The files of the commit, and the environment that stands beside them."""
    copy.mkdir()
    archive = copy.with_suffix(".tar")
    archive.write_bytes(git(root, "archive", "--format=tar", "HEAD"))
    with tarfile.open(archive) as packed:
        packed.extractall(copy, filter="data")
    archive.unlink()


def make(copy: Path, target: str, moment: int) -> None:
    """Run a target of the copy's Makefile, without setting up anything anew."""
    set_up = [word for stamp in (".venv/.pages", ".venv/.set-up") for word in ("-o", stamp)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(moment), "PYTHONHASHSEED": "0"}
    command = ["make", "--no-print-directory", *set_up, target]
    if subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.DEVNULL).returncode:
        raise NotReleased(f"make {target} failed in a copy of the commit")


def build(folder: Path, root: Path = ROOT) -> list[Path]:
    """Put the archive of the commit into a folder; return its files."""
    moment = committed(root)
    name = f"mfbook-{wheel.version(root)}"
    with tempfile.TemporaryDirectory() as scratch:
        copy, made = Path(scratch) / "copy", Path(scratch) / "made"
        made.mkdir()
        export(root, copy)
        pack(made / f"{name}.tar.gz", copy, name, moment)
        (copy / ".venv").symlink_to(root / ".venv", target_is_directory=True)
        for target in ("book", *BOUND):
            print(f"make {target}", flush=True)
            make(copy, target, moment)
        html = copy / "_build" / "html"
        (html / ".built").unlink(missing_ok=True)
        shutil.copyfile(html / "downloads" / wheel.name(root), made / wheel.name(root))
        for kind, file in BOUND.items():
            shutil.copyfile(copy / "_build" / file, made / f"{name}.{kind}")
        pack(made / f"{name}-html.tar.gz", html, f"{name}-html", moment)
        sums = [f"{checksum(path)}  {path.name}\n" for path in sorted(made.iterdir())]
        (made / SUMS).write_text("".join(sums), "utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("mfbook-*"), *folder.glob(SUMS)]:
            old.unlink()
        return [Path(shutil.copy(path, folder)) for path in sorted(made.iterdir())]


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "_build" / "release"
    try:
        for path in build(folder):
            print(f"{path.stat().st_size:12,} bytes  {os.path.relpath(path)}")
    except NotReleased as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
