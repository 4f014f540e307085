"""The house: what is pinned, what is listed, and that no file knows the machine it came from."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tools.chapters import ROOT, chapters, pages

BOOK = ROOT / "book"
# The homes of people and of build machines, in text, code and outputs. A path that the reader
# is told to replace, such as /path/to, is none of them.
MACHINE_PATH = re.compile(
    r"(?<![\w.])(/home/|/Users/|/root/|/tmp/|/opt/|/work/|/workspace/|/var/|/mnt/|[A-Z]:\\)[\w.-]+"
)
REGISTRY = re.compile(r"--(extra-)?index-url|--find-links|@ (file|https?):|^-e ", re.M)


def pages_listed(toc: dict) -> list[str]:
    """Every page that the table of contents names."""
    entries = [toc["root"]]

    def walk(node: object) -> None:
        if isinstance(node, dict):
            entries.extend(node[key] for key in ("file",) if key in node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(toc)
    return entries


def requirements(path: Path) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def committed_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this copy of the book is no git checkout, so its files cannot be listed")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_table_of_contents_lists_every_page_once():
    listed = pages_listed(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))
    there = {page.relative_to(ROOT).with_suffix("").as_posix() for page in pages()}
    assert len(listed) == len(set(listed)), "a page is listed twice"
    assert set(listed) == there


def test_every_notebook_has_a_source():
    sources = {chapter.source for chapter in chapters()}
    twins = [page for page in pages() if page.suffix == ".ipynb"]
    assert {twin.with_suffix(".md") for twin in twins} == sources


def test_an_installed_package_holds_all_of_its_folders():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    folders = {init.parent.relative_to(ROOT) for init in (ROOT / "mfbook").rglob("__init__.py")}
    listed = set(project["tool"]["setuptools"]["packages"])
    assert listed == {".".join(folder.parts) for folder in folders}


def test_requirements_are_pinned_within_the_resolved_set():
    direct, resolved = (
        requirements(ROOT / f"{name}.txt") for name in ("requirements", "constraints")
    )
    assert direct.items() <= resolved.items()


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt"])
def test_requirements_name_no_place_to_fetch_from(name):
    assert not REGISTRY.search((ROOT / name).read_text("utf-8"))


def test_no_file_holds_a_path_of_the_machine_it_was_made_on():
    found = []
    for path in committed_files():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in MACHINE_PATH.finditer(text)]
    assert not found


@pytest.mark.parametrize("text", ["read /home/someone/data", '"/tmp/x.npz"', r"C:\Users"])
def test_the_search_for_machine_paths_sees_one(text):
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["PYTHON=/path/to/python3", "book/tmp/x", "a/home/b"])
def test_the_search_for_machine_paths_lets_others_pass(text):
    assert not MACHINE_PATH.search(text)
