"""`make bench`: the file that it writes, and the counts that it says have changed."""

import subprocess

import pytest

from benchmarks import results
from benchmarks.table import Table


def table(rows, name="scales"):
    made = Table(name, "About α | β.", keys=("n", "α"), counted=("steps",), measured=("seconds",))
    for row in rows:
        made.row(*row)
    return made


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A repository in whose folder the file is written."""
    monkeypatch.setattr(results, "FILE", tmp_path / "results.md")

    def git(*words):
        name = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run([*name, *words], cwd=tmp_path, check=True)

    git("init", "-q")
    return git


def commit(git):
    git("add", "-A")
    git("commit", "-qm", "measured")


def test_counts_are_compared_with_the_last_commit_and_seconds_are_not(git):
    made = [table([("10", "-3", 40, "0.1"), ("20", "-3", 80, "0.2")])]
    results.write(made)
    assert results.compare(made) == "nothing is committed to compare with: scales"
    commit(git)
    assert results.compare(made) == "No count changed."

    made = [table([("10", "-3", 40, "9.9"), ("20", "-3", 81, "0.2"), ("30", "-3", 90, "0.3")])]
    results.write(made)
    assert results.compare(made).splitlines()[1:] == [
        "scales, 20, -3: steps 80 → 81",
        "scales, 30, -3: new",
    ]
    made = [table([("20", "-3", 80, "0.2")])]
    assert results.compare(made).splitlines()[1:] == ["scales, 10, -3: gone"]


def test_a_table_that_is_not_made_again_is_kept(git):
    results.write([table([("1", "2", 3, "4")]), table([("5", "6", 7, "8")], "nuclear")])
    first = results.FILE.read_text("utf-8")
    results.write([table([("5", "6", 7, "8")], "nuclear")])
    assert results.FILE.read_text("utf-8") == first
    results.write([table([("5", "6", 9, "8")], "nuclear")])
    stored = results.sections(results.FILE.read_text("utf-8"))
    assert list(stored) == ["scales", "nuclear"]
    assert results.rows_of(stored["nuclear"]) == [
        {"n": "5", "α": "6", "steps": "9", "seconds": "8"}
    ]
    assert "numpy" in stored["scales"]


def test_a_row_fills_all_columns():
    with pytest.raises(ValueError, match="scales: 3 cells for 4 columns"):
        table([("1", "2", 3)])
