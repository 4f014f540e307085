"""The house: what is pinned, what is listed, and that no file knows the machine it came from."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mfbook as mf
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
    """The pinned versions in a file, and in the one that it includes."""
    found = {}
    for line in path.read_text("utf-8").splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["-r"]:
            found |= requirements(path.with_name(words[1]))
        elif words:
            name, version = words[0].split("==")
            found[normal(name)] = version
    return found


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def brought_along(names: set[str]) -> set[str]:
    """These distributions and all that they require on this machine."""
    found: set[str] = set()
    waiting = [(name, frozenset({""})) for name in names]
    while waiting:
        name, extras = waiting.pop()
        for text in requires(name) or ():
            needed = Requirement(text)
            wanted = any(not needed.marker or needed.marker.evaluate({"extra": e}) for e in extras)
            if wanted and (normal(needed.name) not in found or needed.extras):
                waiting.append((normal(needed.name), frozenset({"", *needed.extras})))
        found.add(name)
    return found


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
    # What a wheel carries of the book stands in book/.
    listed = set(project["tool"]["setuptools"]["packages"]) - {"mfbook.book.carried"}
    assert listed == {".".join(folder.parts) for folder in folders}


def test_requirements_are_pinned_within_the_resolved_set():
    direct, resolved = (
        requirements(ROOT / f"{name}.txt") for name in ("requirements", "constraints")
    )
    assert direct.items() <= resolved.items()


def test_what_is_pinned_installs_on_the_oldest_python():
    """As far as it is installed here. Debian 12 has Python 3.11.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    refused = []
    for name, pinned in requirements(ROOT / "constraints.txt").items():
        try:
            there = metadata(name)
        except PackageNotFoundError:  # on another system
            continue
        asks = SpecifierSet(there["Requires-Python"] or "")
        if there["Version"].split("+")[0] == pinned and oldest not in asks:
            refused.append(f"{name}=={pinned} asks for Python {asks}")
    assert not refused


PAGES = brought_along(set(requirements(ROOT / "requirements-pages.txt")))


def distributions(modules: set[str]) -> set[str]:
    homes = packages_distributions()
    return {normal(home) for module in modules for home in homes.get(module.split(".")[0], ())}


def test_what_only_runs_or_checks_chapters_is_not_among_what_the_pages_need():
    others = {"torch", "jupyterlab", "cvxpy", "pytest", "nbval", "playwright", "ruff", "hypothesis"}
    assert others <= set(requirements(ROOT / "requirements.txt"))
    assert not PAGES & others


def test_the_extensions_and_the_package_are_among_what_the_pages_need():
    settings = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]
    extensions = set(settings["config"]["extensions"]) - set(settings["local_extensions"])
    assert distributions(extensions) <= PAGES
    code = "import sys, mfbook; mfbook.plots; print(*sys.modules)"
    # Not with what `make coverage` puts into every process.
    plain = {name: x for name, x in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=plain
    )
    assert "matplotlib.axes" in loaded.stdout.split()
    assert distributions(set(loaded.stdout.split())) - {"mfbook"} <= PAGES


@pytest.mark.parametrize(
    ("target", "installs"),
    [
        ("book", ["requirements-pages.txt"]),
        *(
            (target, ["requirements-pages.txt", "requirements.txt"])
            for target in ("pdf", "epub", "test", "quick", "lab", "execute", "bench", "coverage")
        ),
    ],
)
def test_a_target_installs_what_it_needs(tmp_path, target, installs):
    for path in ("Makefile", "pyproject.toml", "_config.yml", "_toc.yml"):
        shutil.copy(ROOT / path, tmp_path)
    for path in ROOT.glob("*.txt"):
        shutil.copy(path, tmp_path)
    (tmp_path / "book" / "_static").mkdir(parents=True)
    said = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True)
    assert re.findall(r"-m pip install .* -r (\S+)", said.stdout) == installs


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-pages.txt", "constraints.txt"])
def test_requirements_name_no_place_to_fetch_from(name):
    assert not REGISTRY.search((ROOT / name).read_text("utf-8"))


def test_no_file_holds_a_path_of_the_machine_it_was_made_on():
    found = []
    for path in committed_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in MACHINE_PATH.finditer(text)]
    assert not found


# In pieces, so that no file of the book holds such a path, this one neither.
@pytest.mark.parametrize(
    ("between", "pieces"),
    [
        ("/", ("read ", "home", "someone", "data")),
        ("/", ('"', "tmp", 'x.npz"')),
        ("\\", ("C:", "Users")),
    ],
)
def test_the_search_for_machine_paths_sees_one(between, pieces):
    assert MACHINE_PATH.search(between.join(pieces))


@pytest.mark.parametrize("text", ["PYTHON=/path/to/python3", "book/tmp/x", "a/home/b"])
def test_the_search_for_machine_paths_lets_others_pass(text):
    assert not MACHINE_PATH.search(text)


def test_importing_the_package_loads_nothing_heavy():
    """What takes a second to import is imported by the call that needs it."""
    heavy = ("numba", "torch", "cvxpy", "anywidget", "ipywidgets", "scipy.optimize")
    code = f"import sys, mfbook; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stdout + found.stderr


def test_every_reference_is_cited():
    """The bibliography prints all of them, so that one that nobody cites would stand there."""
    keys = re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf-8"), re.M)
    text = "\n".join(page.read_text("utf-8") for page in pages() if page.suffix == ".md")
    text += "\n".join(path.read_text("utf-8") for path in sorted(BOOK.glob("*.yml")))
    cited = {
        key.strip()
        for keys in re.findall(r"\{cite[\w:]*\}`([^`]+)`", text)
        for key in keys.split(",")
    }
    assert set(keys) == cited


def test_every_public_name_is_on_the_page_of_the_package():
    """A module's page is a list of what it holds."""
    text = (BOOK / "api.md").read_text("utf-8")
    described = set(re.findall(r":: (?:[\w.]+\.)?(\w+)$", text, re.M))
    assert set(mf.__all__) <= described
    for kind in mf.widgets.__all__:
        assert kind in described


def test_an_example_is_no_part_of_what_is_raised():
    """Under another head the page of the package would set it as one of the items there."""
    head = re.compile(r"^([A-Z]\w+)\n-{3,}$", re.M)
    for file in (ROOT / "mfbook").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                continue
            _, *sections = head.split(ast.get_docstring(node) or "")
            for name, text in zip(sections[::2], sections[1::2], strict=True):
                assert name == "Examples" or ">>>" not in text, f"{file.name}: {name}"
