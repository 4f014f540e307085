"""One line where an engine is compiled, and none where it was: beside it or with the user."""

import pytest

from mfbook.flow.shallow import compiled

LINE = "mfbook: compiling the engine, once on this machine (a minute)\n"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_said", False)
    monkeypatch.setattr(compiled.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "shallow").mkdir()
    return tmp_path / "shallow" / "engine.py"


def keep(folder) -> None:
    folder.mkdir(parents=True)
    (folder / "kernel.step-10.py311.nbi").touch()


def said(engine, capsys) -> str:
    compiled.say_that_it_compiles(str(engine))
    compiled.say_that_it_compiles(str(engine))
    return capsys.readouterr().err


def test_it_is_said_once(engine, capsys):
    assert said(engine, capsys) == LINE


def test_it_is_not_said_where_the_engine_is_kept_beside_its_code(engine, capsys):
    keep(engine.parent / "__pycache__")
    assert said(engine, capsys) == ""


@pytest.mark.parametrize("kept", [False, True])
def test_where_nothing_can_be_written_the_user_keeps_it(
    engine, tmp_path, monkeypatch, capsys, kept
):
    monkeypatch.setattr(compiled.os, "access", lambda *_: False)
    monkeypatch.setattr(compiled.AppDirs, "user_cache_dir", str(tmp_path / "cache" / "numba"))
    if kept:
        keep(tmp_path / "cache" / "numba" / "shallow_0123")
    assert said(engine, capsys) == ("" if kept else LINE)
