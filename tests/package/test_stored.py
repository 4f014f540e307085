"""Stored results are found beside the sources, in an installed package, and nowhere by guess."""

import json
import subprocess
import sys
import zipfile

import pytest

import mfbook as mf
from tools import wheel
from tools.chapters import ROOT


def test_a_stored_result_is_the_file_of_the_book():
    text = (ROOT / "book" / "bias" / "seed_limits.json").read_text("utf-8")
    assert mf.stored("seed_limits.json") == json.loads(text)


@pytest.mark.parametrize("name", ["seed_limits", "bias/seed_limits.json", "../claims.yml", ""])
def test_an_unknown_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(FileNotFoundError, match=r"there are: .*seed_limits\.json"):
        mf.stored(name)


@pytest.mark.parametrize("name", [None, 3, b"seed_limits.json"])
def test_a_name_is_a_string(name):
    with pytest.raises(TypeError, match="a string such as"):
        mf.stored(name)


SAY = "import mfbook as mf; print(mf.claim('bai2024-def1').id, mf.stored('rivals.json').keys())"


def run(place: str, folder) -> subprocess.CompletedProcess:
    """In another process, with the package from one place only."""
    code = f"import sys; sys.path.insert(0, {place!r}); {SAY}"
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_an_installed_package_finds_what_it_carries(tmp_path):
    zipfile.ZipFile(wheel.build(tmp_path)).extractall(tmp_path / "site")
    done = run(str(tmp_path / "site"), tmp_path)
    assert done.stdout.startswith("bai2024-def1 dict_keys(['provenance'"), done.stderr


def test_a_package_that_is_not_unpacked_finds_it_too(tmp_path):
    done = run(str(wheel.build(tmp_path)), tmp_path)
    assert done.stdout.startswith("bai2024-def1 dict_keys(['provenance'"), done.stderr


def test_a_package_without_the_ledger_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("mfbook.book.stored.BESIDE", tmp_path)
    monkeypatch.setattr("mfbook.book.stored.CARRIED", "nothing")
    with pytest.raises(FileNotFoundError, match="install mfbook from the wheel"):
        mf.stored("rivals.json")
