"""One line where an engine is compiled, and none where it was: beside it or with the user."""

import ast
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mfbook import flow
from mfbook.flow.shallow import compiled

LINE = "mfbook: compiling the engine, once on this machine (a minute)\n"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_said", False)
    monkeypatch.setattr(compiled.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "shallow" / "kernel.py"
    file.parent.mkdir()
    file.write_text("def step():\n    pass\n", "utf-8")
    found = runpy.run_path(str(file))
    return found["step"]


def keep(folder, name="step") -> None:
    folder.mkdir(parents=True)
    (folder / f"kernel.{name}-1.py311.nbi").touch()


def said(engine, capsys) -> str:
    compiled.say_that_it_compiles(engine)
    compiled.say_that_it_compiles(engine)
    return capsys.readouterr().err


def test_it_is_said_once(engine, capsys):
    assert said(engine, capsys) == LINE


def test_it_is_not_said_where_the_engine_is_kept_beside_its_code(engine, tmp_path, capsys):
    keep(tmp_path / "shallow" / "__pycache__")
    assert said(engine, capsys) == ""


def test_it_is_said_where_only_a_part_is_kept(engine, tmp_path, capsys):
    """A large problem compiles less, in seconds."""
    keep(tmp_path / "shallow" / "__pycache__", "first_step")
    assert said(engine, capsys) == LINE


# A problem too large for exact steps, with as many factors as said.
LARGE = """
import sys
import numpy as np
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems.populations import random_low_rank, random_mask
from mfbook.problems import MatrixCompletion
rng = np.random.default_rng(0)
W = random_low_rank(rng, (50, 50), 1)
problem = MatrixCompletion(W, random_mask(rng, (50, 50), 1250))
start = small_init((50, 50), depth=int(sys.argv[1]), width=3 if sys.argv[1] == "2" else None, rng=0)
gradient_flow(problem, start, log10_scale=-3, rtol=1e-3, max_steps=3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_a_large_problem_compiles_no_engine_and_says_nothing(tmp_path, depth):
    fresh = tmp_path / "mfbook"
    shutil.copytree(
        Path(flow.__file__).parent.parent, fresh, ignore=shutil.ignore_patterns("__pycache__")
    )
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(depth)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert not list(fresh.rglob("kernel.active_step*.nbi"))


@pytest.mark.parametrize("kept", [False, True])
def test_where_nothing_can_be_written_the_user_keeps_it(
    engine, tmp_path, monkeypatch, capsys, kept
):
    monkeypatch.setattr(compiled.os, "access", lambda *_: False)
    monkeypatch.setattr(compiled.AppDirs, "user_cache_dir", str(tmp_path / "cache" / "numba"))
    if kept:
        keep(tmp_path / "cache" / "numba" / "shallow_0123")
    assert said(engine, capsys) == ("" if kept else LINE)


# Runs all that is to be compiled as plain Python, and says which functions of the package ran.
RUN = """
import sys
from mfbook.flow import engines
ran = set()
sys.setprofile(lambda frame, event, _: ran.add(frame.f_code) if event == "call" else None)
engines.compile_all()
sys.setprofile(None)
for code in ran:
    print(code.co_filename, code.co_name)
"""


@pytest.mark.slow
def test_everything_that_is_compiled_is_compiled_by_one_command():
    """Else many processes would compile it at the same time. What runs is compiled, with all that
    it calls."""
    calls = {}
    for file in Path(flow.__file__).parent.rglob("*.py"):
        for found in ast.parse(file.read_text("utf-8")).body:
            if isinstance(found, ast.FunctionDef) and any(
                isinstance(mark, ast.Name) and mark.id == "compiled"
                for mark in found.decorator_list
            ):
                names = {node.id for node in ast.walk(found) if isinstance(node, ast.Name)}
                calls[str(file), found.name] = names
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    ran = {tuple(line.rsplit(" ", 1)) for line in done.stdout.splitlines()}
    reached, new = set(), {which for which in calls if which in ran}
    assert len(new) > 30
    while new:
        reached |= new
        called = {name for which in new for name in calls[which]}
        new = {which for which in calls if which[1] in called} - reached
    assert set(calls) - reached == set()
