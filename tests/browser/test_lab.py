"""JupyterLab as a reader meets it: readable, and without harm to the book."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

import nbformat
import pytest

from tests.browser.watch import tex_errors
from tools.chapters import ROOT

CHAPTER = "welcome"
PATIENCE = 60_000


def state_of_the_book() -> tuple[str, dict[str, str]]:
    """What git says of the tree, and the bytes of everything under book/."""
    said = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    files = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((ROOT / "book").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return said, files


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the book, and where the copy is."""
    copy = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "tools/lab.py", "--copy", str(copy), "--no-browser"),
        *(f"--ServerApp.port={port}", "--IdentityProvider.token=test"),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]
    log = (copy.parent / "lab.log").open("w")
    settings = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    own = {name: str(copy.parent / folder) for name, folder in settings.items()}
    server = subprocess.Popen(
        command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=os.environ | own
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urlopen(f"{address}/api?token=test", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (copy.parent / "lab.log").read_text()
                time.sleep(0.5)
        yield address, copy
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


def code_cells(path, patience: float = 30.0) -> list[nbformat.NotebookNode]:
    """The code cells of a file that JupyterLab may just be writing: it empties it first."""
    end = time.monotonic() + patience
    while True:
        try:
            cells = nbformat.read(path, as_version=4).cells
            return [c for c in cells if c.cell_type == "code"]
        except (nbformat.reader.NotJSONError, UnicodeDecodeError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_a_notebook_that_is_being_written_is_waited_for(tmp_path):
    whole = (ROOT / "book" / f"{CHAPTER}.ipynb").read_text("utf-8")
    for cut in (0, len(whole) // 2):
        path = tmp_path / f"{cut}.ipynb"
        path.write_text(whole[:cut], "utf-8")
        writer = threading.Timer(0.5, path.write_text, (whole, "utf-8"))
        writer.start()
        assert code_cells(path)
        writer.join()
    path.write_text("", "utf-8")
    with pytest.raises(nbformat.reader.NotJSONError):
        code_cells(path, patience=0.2)


def opened(page, address: str, name: str):
    page.goto(f"{address}/lab/tree/{name}.ipynb?token=test&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE)
    page.wait_for_selector(".jp-RenderedHTMLCommon h1", timeout=PATIENCE)


def test_running_and_saving_a_chapter_leaves_the_book_as_it_is(browser, lab):
    address, copy = lab
    before = state_of_the_book()
    stored = copy / f"{CHAPTER}.ipynb"
    cleared = nbformat.read(stored, as_version=4)
    for cell in cleared.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(cleared, stored)
    code = code_cells(stored)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    opened(page, address, CHAPTER)
    # Cells that are run before there is a kernel are passed over.
    page.get_by_text("| Idle").wait_for(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    end = time.monotonic() + 120
    while not all(c.execution_count for c in code_cells(stored)) and time.monotonic() < end:
        page.wait_for_timeout(500)
        page.keyboard.press("Control+s")
    page.close()
    saved = code_cells(stored)
    assert [c.source for c in saved] == [c.source for c in code]
    assert all(c.execution_count for c in saved)
    assert not any(o.output_type == "error" for c in saved for o in c.outputs)
    assert state_of_the_book() == before


def test_a_chapter_reads_well(browser, lab):
    """No directive, no role, no raw TeX, captions and folded cells where the page has them."""
    address, _ = lab
    page = browser.new_page(viewport={"width": 1280, "height": 20_000})
    opened(page, address, "data/graph")
    page.wait_for_selector("mjx-container", timeout=PATIENCE)
    page.wait_for_timeout(3000)
    text = page.evaluate("() => document.querySelector('.jp-Notebook').innerText")
    prose = page.evaluate(
        """() => [...document.querySelectorAll('.jp-MarkdownOutput')].map(one => {
          const copy = one.cloneNode(true);
          copy.querySelectorAll('mjx-container, code').forEach(node => node.remove());
          return copy.textContent;
        }).join('\\n')"""
    )
    assert not re.findall(r":::|\{[a-z:]+\}|\\[a-zA-Z]+", prose)
    assert "Definition 2.1" in prose and "Fig. 2.1" in prose and "Bai et al." in prose
    assert "Solution to Exercise 2.1" in text
    assert not tex_errors(page)
    assert page.locator(".jp-RenderedMarkdown details[open]").count() == 0
    assert page.locator(".jp-CodeCell .jp-InputPlaceholder, .jp-Placeholder").count() > 0
    page.close()


def test_an_explorer_is_answered_by_the_kernel(browser, lab):
    """A slider moves the answer, what is typed reaches the next cell, and the book stays whole."""
    address, _ = lab
    before = state_of_the_book()
    page = browser.new_page(viewport={"width": 1280, "height": 2400})
    opened(page, address, "explore")
    page.get_by_text("| Idle").wait_for(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    said = page.locator("section.mfx .mfx-said").first

    def settled() -> str:
        page.wait_for_function(
            "() => document.querySelector('section.mfx .mfx-said')?.textContent"
            " && !document.querySelector('section.mfx.mfx-busy')",
            timeout=PATIENCE,
        )
        return said.inner_text()

    def changed(old: str) -> str:
        page.wait_for_function(
            "old => document.querySelector('section.mfx .mfx-said').innerText !== old",
            arg=old,
            timeout=PATIENCE,
        )
        return settled()

    first = settled()
    # Ten to the −100 and −8, and the rank that each of them learns.
    assert "10−100" in first and "rank 1, the smallest" in first
    slider = page.locator("section.mfx input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowLeft")
    moved = changed(first)
    assert "10−50" in moved
    # The key went to the slider alone: the notebook is still at the same cell, in the same mode.
    assert page.locator("section.mfx").count() == 1
    page.get_by_label("row 1, column 1").fill("7")
    assert "rank 2, the smallest" in changed(moved)
    last = page.locator(".jp-CodeCell").last
    last.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    last.get_by_text("MatrixCompletion('7 2").wait_for(timeout=PATIENCE)
    page.close()
    assert state_of_the_book() == before
