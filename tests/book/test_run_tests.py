"""`make test`: the order of its stages, and what it says of them."""

import re
import sys

import pytest

from tools import run_tests
from tools.chapters import chapters
from tools.run_tests import LONGEST, main, stages, style


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two small files of tests, each a stage, of which the second fails; and a third stage."""
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\n\ndef test_a(): pass\n\n\ndef test_b(): pytest.skip('no')\n", "utf-8"
    )
    (tmp_path / "test_two.py").write_text("def test_c(): assert False\n", "utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:nbval -p no:hypothesispytest\n", "utf-8"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n", "utf-8")
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path / "reports")
    small = {
        "one": [run_tests.tests("one", "test_one.py")],
        "two": [run_tests.tests("two", "test_two.py")],
        "three": [[sys.executable, "-c", "open('reached', 'w')"]],
    }
    monkeypatch.setattr(run_tests, "stages", lambda: small)
    return tmp_path


def test_the_last_line_counts_the_tests_of_all_stages_until_one_fails(root, capfd):
    assert main([]) == 1
    *_, one, two, last = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"one +\d+\.\d s  test_one \d+", one)
    assert re.fullmatch(r"two +\d+\.\d s  test_two \d+", two)
    assert re.fullmatch(r"1 failed, 1 passed, 1 skipped in \d+\.\d\ds", last)
    assert not (root / "reached").exists()


def test_some_stages_can_be_named(root, capfd):
    assert main(["three"]) == 0
    assert (root / "reached").exists()
    assert re.search(r"no tests ran in \d+\.\d\ds$", capfd.readouterr().out)
    with pytest.raises(SystemExit):
        main(["four"])
    assert "no such stage: four; there are: one, two, three" in capfd.readouterr().err


def test_every_chapter_is_compared_once_and_the_longest_are_begun_first():
    names = [chapter.name for chapter in chapters()]
    assert set(LONGEST) <= set(names)
    [[*_, compared]] = [stages()["stored outputs"]]
    twins = [word for word in compared if word.endswith(".ipynb")]
    assert twins[: len(LONGEST)] == [f"book/{name}.ipynb" for name in LONGEST]
    assert sorted(twins) == [f"book/{name}.ipynb" for name in sorted(names)]


def test_types_are_checked_where_a_checker_is_configured(root):
    without = style()
    (root / "pyproject.toml").write_text("[tool.mypy]\nstrict = true\n", "utf-8")
    assert style() == [*without, [sys.executable, "-m", "mypy", "--no-error-summary"]]
