"""What the built site carries, taken into an empty folder and a fresh environment.

The environment holds the site's wheel and borrows everything else from the one that tests, without
the source tree: so it shows that the wheel is enough of *this book*. That pip can fetch what the
wheel names is not shown here; that it names all that is imported is, in tests/book/test_downloads.
"""

import json
import os
import re
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path
from site import getsitepackages
from urllib.parse import urlsplit

import nbformat
import pytest
from lxml.html import document_fromstring

from tests.browser.watch import watched
from tools import downloads, wheel
from tools.chapters import ROOT, chapters

NAMES = [chapter.name for chapter in chapters()]
# One reads the ledger, the other a stored result.
RUN_WHOLE = ("welcome", "bias/map")

EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=None, resources={"metadata": {"path": "."}}).execute()
"""

# For each notebook its imports and the results that it reads; what of them is not to be had.
RESOLVE = """
import importlib, json, sys
import mfbook as mf

def lacks(call, names):
    for name in names:
        try:
            call(name)
        except Exception as error:
            yield repr(error)

asked = json.load(sys.stdin)
found = {
    name: [*lacks(importlib.import_module, imported), *lacks(mf.stored, read)]
    for name, (imported, read) in asked.items()
}
print(json.dumps([mf.__file__, found]))
"""


@pytest.fixture(scope="session")
def elsewhere(html, tmp_path_factory):
    """A fresh environment: its Python, and the folder that its packages are in."""
    place = tmp_path_factory.mktemp("elsewhere") / "a new environment"
    venv.create(place, with_pip=False)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
    packages = Path(subprocess.check_output([python, "-c", ask], text=True))
    # A wheel of plain Python is installed by unpacking it.
    zipfile.ZipFile(html / "downloads" / wheel.name()).extractall(packages)
    # Folders named here are searched, and the links to source trees inside them are not followed.
    borrowed = [path for path in getsitepackages() if Path(path).is_dir()]
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n", "utf-8")
    take_over_what_is_compiled(packages)
    return python, packages


def take_over_what_is_compiled(packages: Path) -> None:
    """Numba's files hold for the same bytes of the same age, and making them takes a minute."""
    for file in (ROOT / "mfbook" / "flow").rglob("*.py"):
        copy = packages / file.relative_to(ROOT)
        if copy.read_bytes() == file.read_bytes():
            os.utime(copy, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    for file in (ROOT / "mfbook" / "flow").rglob("*.nb[ci]"):
        copy = packages / file.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)


def run(python: Path, code: str, *words: str, folder: Path, said: str = "") -> str:
    """In an empty folder, with nothing of this session but the path to programs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    done = subprocess.run(
        [python, "-c", code, *words],
        cwd=folder,
        env=kept | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        input=said,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def taken(html: Path, name: str) -> nbformat.NotebookNode:
    return nbformat.read(html / "downloads" / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="session")
def lacks(html, elsewhere, tmp_path_factory):
    """What each notebook names and does not find, all asked in one process."""
    python, packages = elsewhere
    folder = tmp_path_factory.mktemp("empty")
    asked = {}
    for name in NAMES:
        notebook = taken(html, name)
        code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        read = re.findall(r'mf\.stored\(\s*"([^"]+)"', code)
        asked[name] = (sorted(downloads.imported(notebook)), read)
    assert sum(len(read) for _, read in asked.values()) >= 9
    said = run(python, RESOLVE, folder=folder, said=json.dumps(asked))
    place, found = json.loads(said.splitlines()[-1])
    assert Path(place).is_relative_to(packages)
    assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_finds_elsewhere_all_that_it_names(html, lacks, name):
    cells = taken(html, name).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert not re.findall(r"!\[[^\]]*\]\((?!attachment:|https?:)[^)]*\)", text)
    assert not lacks[name]


@pytest.mark.parametrize("name", RUN_WHOLE)
def test_a_notebook_runs_elsewhere(html, elsewhere, tmp_path, name):
    file = tmp_path / "taken.ipynb"
    nbformat.write(taken(html, name), file)
    run(elsewhere[0], EXECUTE, "taken.ipynb", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.ipynb"]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_offers_the_notebook_and_says_how_to_run_it(html, name):
    page = html / "book" / f"{name}.html"
    tree = document_fromstring(page.read_text("utf-8"))
    meant = html / "downloads" / f"{name}.ipynb"
    button = tree.find_class("btn-download-source-button")[0]
    assert (page.parent / urlsplit(button.get("href")).path).resolve() == meant
    lines = tree.get_element_by_id("run-it-anywhere").find(".//pre").text_content()
    assert wheel.name() in lines
    # Torch is no small thing to install: only where a chapter compares with it.
    assert ("torch" in lines) == ("torch" in downloads.imported(taken(html, name)))


def test_the_site_carries_the_wheel_of_these_sources(html, tmp_path):
    carried = html / "downloads" / wheel.name()
    with zipfile.ZipFile(carried) as site, zipfile.ZipFile(wheel.build(tmp_path)) as now:
        assert {x.filename: x.CRC for x in site.infolist() if ".dist-info" not in x.filename} == {
            x.filename: x.CRC for x in now.infolist() if ".dist-info" not in x.filename
        }, "make book builds it anew"


def test_where_a_page_is_served_pip_is_given_its_address(browser, site):
    with watched(browser, site) as (page, _):
        page.goto(f"{site}/book/bias/seed.html")
        line = page.locator("#run-it-anywhere pre").text_content()
    assert line == f"pip install {site}/downloads/{wheel.name()}"
