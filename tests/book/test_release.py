"""A release is of a commit, whole, and the same bytes when it is built again."""

import gzip
import os
import subprocess
import tarfile

import pytest

from tools import release
from tools.release import BOUND, NotReleased, build, pack

WHEEL = "mfbook-7.0-py3-none-any.whl"
MAKE = f"""
book:
\tmkdir -p _build/html/downloads && cp page.txt _build/html && touch _build/html/.built
\techo wheel > _build/html/downloads/{WHEEL}
"""
BIND = """
pdf epub: %: book
\techo $* > _build/mfbook.$*
"""


def git(folder, *words: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *named, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def book(tmp_path):
    """A committed book of one page, whose Makefile copies it."""
    root = tmp_path / "a böok"
    root.mkdir()
    (root / "Makefile").write_text(MAKE + BIND, "utf-8")
    (root / "page.txt").write_text("the page", "utf-8")
    (root / "run").write_text("#!/bin/sh\n", "utf-8")
    (root / "run").chmod(0o755)
    (root / "pyproject.toml").write_text('[project]\nversion = "7.0"\n', "utf-8")
    (root / ".gitignore").write_text("_build/\n.venv\n", "utf-8")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one", "--date=2026-01-02T03:04:05Z")
    return root


def names(archive) -> list[str]:
    with tarfile.open(archive) as packed:
        return packed.getnames()


def test_a_release_holds_source_package_pages_prints_and_checksums(book, tmp_path):
    made = {path.name: path for path in build(tmp_path / "out", book)}
    printed = {"mfbook-7.0.pdf", "mfbook-7.0.epub"}
    packed = {"mfbook-7.0.tar.gz", "mfbook-7.0-html.tar.gz"}
    assert set(made) == {"SHA256SUMS", WHEEL} | packed | printed
    source = [".gitignore", "Makefile", "page.txt", "pyproject.toml", "run"]
    assert names(made["mfbook-7.0.tar.gz"]) == [f"mfbook-7.0/{name}" for name in source]
    assert names(made["mfbook-7.0-html.tar.gz"]) == [
        f"mfbook-7.0-html/downloads/{WHEEL}",
        "mfbook-7.0-html/page.txt",
    ]
    sums = dict(reversed(line.split("  ")) for line in made["SHA256SUMS"].read_text().splitlines())
    assert sums == {
        name: release.checksum(path) for name, path in made.items() if name != "SHA256SUMS"
    }


def test_the_same_commit_gives_the_same_bytes(book, tmp_path):
    first = {path.name: path.read_bytes() for path in build(tmp_path / "one", book)}
    os.umask(mask := os.umask(0o077))
    (book / "_build").mkdir()
    (book / "_build" / "left over").write_text("x", "utf-8")
    os.umask(0o077)
    try:
        second = {path.name: path.read_bytes() for path in build(tmp_path / "two", book)}
    finally:
        os.umask(mask)
    assert first == second


@pytest.mark.parametrize("kind", BOUND)
def test_a_book_that_cannot_be_bound_is_not_released(book, tmp_path, kind):
    others = "".join(f"{other}: book\n\techo x > _build/mfbook.{other}\n" for other in BOUND)
    (book / "Makefile").write_text(MAKE + others.replace(f"{kind}:", "no:"), "utf-8")
    git(book, "commit", "-qam", "two")
    with pytest.raises(NotReleased, match=f"make {kind} failed"):
        build(tmp_path / "out", book)
    assert not (tmp_path / "out").exists()


def test_what_is_not_committed_is_not_released(book, tmp_path):
    (book / "page.txt").write_text("changed", "utf-8")
    with pytest.raises(NotReleased, match=r"commit them[\s\S]*page\.txt"):
        build(tmp_path / "out", book)
    assert not (tmp_path / "out").exists()


def test_what_else_lies_in_the_folder_stays(book, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine", "utf-8")
    (tmp_path / "out" / "mfbook-6.9.tar.gz").write_text("old", "utf-8")
    build(tmp_path / "out", book)
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert "notes.txt" in there and "mfbook-6.9.tar.gz" not in there


def test_a_book_that_does_not_build_is_not_released(book, tmp_path):
    (book / "Makefile").write_text("book:\n\tfalse\n", "utf-8")
    git(book, "commit", "-qam", "two")
    with pytest.raises(NotReleased, match="make book failed"):
        build(tmp_path / "out", book)


def test_an_archive_says_nothing_of_who_packed_it(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ä.txt").write_text("x", "utf-8")
    pack(tmp_path / "a.tar.gz", tmp_path / "folder", "n", 1_000_000_000)
    with tarfile.open(tmp_path / "a.tar.gz") as packed:
        (entry,) = packed.getmembers()
    assert (entry.name, entry.mtime, entry.uid, entry.uname) == ("n/ä.txt", 1_000_000_000, 0, "")
    # Neither a time nor a file's name in the header of the compression.
    assert (tmp_path / "a.tar.gz").read_bytes()[3:8] == b"\0" * 5
    assert gzip.decompress((tmp_path / "a.tar.gz").read_bytes())
