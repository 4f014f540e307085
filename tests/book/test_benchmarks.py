"""`make bench`: the file that it writes, and the counts that it says have changed."""

import os
import subprocess
import sys

import pytest

from benchmarks import results
from benchmarks.table import Table, alone, peak
from tools.chapters import ROOT


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


def test_a_count_that_changed_on_another_machine_says_so(git, monkeypatch):
    results.write([table([("10", "-3", 40, "0.1")])])
    commit(git)
    monkeypatch.setattr(results, "machine", lambda: "an abacus, threads: 1")
    said = results.compare([table([("10", "-3", 40, "0.1")])])
    assert said == "No count changed."
    *_, change, here, there = results.compare([table([("10", "-3", 41, "0.1")])]).splitlines()
    assert change == "scales, 10, -3: steps 40 → 41"
    assert here == "Measured here with: an abacus, threads: 1"
    assert there.startswith("and committed: ") and "numpy" in there


def memory_of_megabytes(n):
    kept = bytearray(n << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    return peak()


def test_the_memory_of_a_row_is_its_own():
    """Not what a row before it has taken, nor who asks for it."""
    small = alone(memory_of_megabytes, 1)
    assert alone(memory_of_megabytes, 300) > small + 250
    assert memory_of_megabytes(400) > 400
    assert alone(memory_of_megabytes, 1) < small + 50


def test_benchmarks_take_one_thread_unless_told():
    command = [sys.executable, "-c", "import benchmarks, os; print(os.environ['OMP_NUM_THREADS'])"]
    bare = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for told, taken in (({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2")):
        done = subprocess.run(
            command, cwd=ROOT, env=bare | told, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == taken


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
