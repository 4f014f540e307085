"""`make execute`: what runs again and what does not, and that a twin is never half written."""

import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from tools import kernels
from tools.chapters import ROOT, Chapter, code_hash, out_of_step
from tools.execute import main, refresh_text, store

# Seconds that a step may take on a busy machine.
PATIENCE = 120.0
HEADER = """---
jupytext:
  formats: md:myst,ipynb
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""


def cell(code: str, options: str = "") -> str:
    return f"```{{code-cell}} ipython3\n{options}{code}\n```\n\n"


SUM = cell("import helper\nprint(helper.two() + 1)") + cell("object()")


def begin(root, monkeypatch) -> Chapter:
    """A book of one chapter, `part/sum`, and a package."""
    (root / "book" / "part").mkdir(parents=True)
    (root / "mfbook").mkdir()
    (root / "mfbook" / "helper.py").write_text("def two():\n    return 2\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(root / "mfbook"))
    return write(root, f"{HEADER}# A sum\n\n{SUM}")


@pytest.fixture
def root(tmp_path, monkeypatch):
    begin(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The twin that the first run of the chapter stores: a kernel takes seconds to begin."""
    root = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        chapter = begin(root, patch)
        assert main([], root) == 0
    return chapter.twin.read_bytes()


@pytest.fixture
def chapter(root, outputs):
    """The chapter of this book after such a run."""
    chapter = Chapter("part/sum", root / "book")
    chapter.twin.write_bytes(outputs)
    return chapter


def write(root, text: str) -> Chapter:
    chapter = Chapter("part/sum", root / "book")
    chapter.source.write_text(text, "utf-8")
    return chapter


def execute(root, capsys, *words: str) -> tuple[int, str]:
    code = main(list(words), root)
    return code, capsys.readouterr().out


def test_a_chapter_runs_again_only_for_a_reason(root, chapter, capsys):
    assert not out_of_step(chapter)
    assert chapter.read_twin().cells[1].outputs[0].text == "3\n"
    first = chapter.twin.read_bytes()

    assert "up to date" in execute(root, capsys)[1]
    code, said = execute(root, capsys, "--all")
    assert code == 0 and "executed in" in said
    assert chapter.twin.read_bytes() == first, "two runs differ"

    write(root, f"{HEADER}# A better title\n\n{SUM}")
    assert out_of_step(chapter)
    assert "text renewed" in execute(root, capsys)[1]
    assert not out_of_step(chapter)
    assert chapter.read_twin().cells[1].outputs[0].text == "3\n"

    (root / "mfbook" / "helper.py").write_text("def two():\n    return 2.0\n", "utf-8")
    assert "executed in" in execute(root, capsys, "part/sum")[1]
    assert chapter.read_twin().cells[1].outputs[0].text == "3.0\n"

    twin = chapter.read_twin()
    twin.cells[1].outputs[0].text = "4\n"
    nbformat.write(twin, chapter.twin)
    assert refresh_text(chapter, root / "mfbook") == "run", "a stored output was changed by hand"


def test_two_runs_name_widgets_alike(root, capsys):
    chapter = write(root, HEADER + cell("from ipywidgets import *\nVBox([IntSlider(), Text()])"))
    execute(root, capsys)
    first = chapter.twin.read_bytes()
    assert b"IPY_MODEL_00000000" in first
    execute(root, capsys, "--all")
    assert chapter.twin.read_bytes() == first


def test_what_has_html_beside_its_view_is_stored_still(root, capsys):
    """A stored view would be asked of a kernel that does not run; its HTML needs none."""
    both = (
        "from ipywidgets import *\n"
        "class Both(IntSlider):\n"
        "    def _repr_mimebundle_(self, **options):\n"
        '        return {"text/html": "<b>5</b>", **super()._repr_mimebundle_(**options)}\n'
    )
    chapter = write(root, HEADER + cell(f"{both}Both()") + cell("Both()"))
    execute(root, capsys)
    twin = chapter.read_twin()
    assert all("text/html" in c.outputs[0].data and len(c.outputs[0].data) == 2 for c in twin.cells)
    assert "widgets" not in twin.metadata
    write(root, HEADER + cell(f"{both}Both()") + cell("Text()"))
    execute(root, capsys)
    twin = chapter.read_twin()
    (state,) = twin.metadata.widgets.values()
    kept = {one["model_name"] for one in state["state"].values()}
    assert "TextModel" in kept and "IntSliderModel" not in kept


def test_data_and_claims_count_where_the_code_names_them(root):
    ledger, numbers = root / "book" / "claims.yml", root / "book" / "part" / "numbers.txt"
    ledger.write_text("- {id: one, note: a}\n- {id: two, note: a}\n", "utf-8")
    numbers.write_text("1", "utf-8")
    chapter = write(root, HEADER + cell('print(open("numbers.txt").read(), "one")'))

    def is_current() -> bool:
        return refresh_text(chapter, root / "mfbook") == "current"

    assert not is_current()
    source = chapter.read_source()
    store(chapter, source, code_hash(chapter, source, root / "mfbook"))
    assert is_current()
    ledger.write_text("- {id: one, note: a}\n- {id: two, note: b}\n", "utf-8")
    assert is_current()
    ledger.write_text("- {id: one, note: b}\n- {id: two, note: b}\n", "utf-8")
    assert not is_current()
    ledger.write_text("- {id: one, note: a}\n- {id: two, note: b}\n", "utf-8")
    assert is_current()
    numbers.write_text("2", "utf-8")
    assert not is_current()


def test_a_failing_cell_is_shown_and_its_chapter_kept(root, chapter, capsys):
    before = chapter.twin.read_bytes()
    write(root, f"{HEADER}# A sum\n\n{cell('zero = 0')}{cell('1 / zero')}")
    code, said = execute(root, capsys)
    assert code == 1
    assert "sum.md:20: this cell failed" in said
    assert "    1 / zero" in said and "ZeroDivisionError: division by zero" in said
    assert "0 of 1 chapters executed" in said
    assert chapter.twin.read_bytes() == before


@pytest.mark.parametrize("words", [["--all"], []])
def test_a_full_disk_is_named_and_leaves_the_old_twin(root, chapter, capsys, monkeypatch, words):
    before = chapter.twin.read_bytes()
    # With --all the code runs, without it the text is taken over: both write the twin.
    code = SUM + cell("'more'") if words else SUM
    write(root, f"{HEADER}# A better title\n\n{code}")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, said = execute(root, capsys, *words)
    assert code == 1
    assert "could not be stored: No space left on device" in said and "sum.ipynb" in said
    assert chapter.twin.read_bytes() == before
    assert {path.name for path in chapter.twin.parent.iterdir()} == {"sum.md", "sum.ipynb"}
    assert execute(root, capsys)[0] == 0 and not out_of_step(chapter)


def test_an_unknown_chapter_is_named(root):
    with pytest.raises(SystemExit, match=r"no such chapter: part/gone; there are: part/sum"):
        main(["part/gone"], root)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal as a keyboard does")
def test_an_interrupted_run_leaves_the_old_twin(root, chapter):
    before = chapter.twin.read_bytes()
    reached = root / "reached"
    waits = f"import os, pathlib, time\npathlib.Path({str(reached)!r}).write_text(str(os.getpid()))"
    write(root, HEADER + cell(waits) + cell("time.sleep(300)"))
    shutil.copytree(ROOT / "tools", root / "tools")

    run = subprocess.Popen(
        [sys.executable, "tools/execute.py"],
        cwd=root,
        stderr=subprocess.PIPE,
        # Tests that run in the background ignore a keyboard, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: reached.exists() and reached.read_text())
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=PATIENCE)

    assert run.returncode == 130
    assert b"keep their old outputs" in said
    assert chapter.twin.read_bytes() == before
    assert [path.name for path in chapter.twin.parent.iterdir() if path.suffix == ".tmp"] == []
    wait_for(lambda: not alive(int(reached.read_text())))


def wait_for(condition, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_backend_of_the_callers_own_does_not_reach_the_kernels(monkeypatch):
    """Else the outputs would lack their figures, and what these say without one."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    kernels.prepare()
    assert "MPLBACKEND" not in os.environ
