"""Sweeps: nothing is lost or computed twice, whatever kills them and whoever computes."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest

import mfbook as mf

KEYS = [f"run {k}" for k in range(12)]
# A call leaves a file of its own; from the sixth on they are slow, so that there is time to kill.
SCRIPT = """
import sys, tempfile, time
import mfbook as mf

def called(task):
    folder, k, pause = task
    tempfile.mkstemp(prefix=f"{k}-", dir=folder)
    time.sleep(pause if k > 4 else 0)
    return [k, k * k]

if __name__ == "__main__":
    folder, store, jobs, pause = sys.argv[1:]
    tasks = {f"run {k}": (folder, k, float(pause)) for k in range(12)}
    for key, result in mf.sweep(called, tasks, store=store, n_jobs=int(jobs)).items():
        print(key, result)
"""


def counted(folder: Path, x):
    """x², and a file for the call."""
    (folder / f"{x}-{len(list(folder.iterdir()))}").touch()
    return x * x


def calls(folder: Path) -> dict[int, int]:
    names = [int(path.name.split("-")[0]) for path in folder.iterdir()]
    return {k: names.count(k) for k in set(names)}


def stored(store: Path) -> list[str]:
    """The keys of the whole lines."""
    content = store.read_text() if store.exists() else ""
    lines = content[: content.rfind("\n") + 1].splitlines()[1:]
    return [json.loads(line)["key"] for line in lines]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "calls"
    path.mkdir()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_sweep_loses_nothing_and_computes_nothing_twice(tmp_path, folder, jobs):
    script, store = tmp_path / "script.py", tmp_path / "store.jsonl"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder), str(store), str(jobs)]
    killed = subprocess.Popen([*command, "1"], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(stored(store)) < 6:
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with suppress(ProcessLookupError):  # its workers would wait some minutes for more to do
        os.killpg(killed.pid, signal.SIGTERM)
    finished = stored(store)
    assert 6 <= len(finished) < len(KEYS)
    again = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == [f"{key} {[k, k * k]}" for k, key in enumerate(KEYS)]
    # What was in the making when the sweep was killed is called twice, and nothing else.
    twice = {KEYS[k] for k, count in calls(folder).items() if count > 1}
    assert twice.isdisjoint(finished) and len(twice) <= 2 * jobs
    assert sorted(stored(store)) == sorted(KEYS)


def test_results_come_in_the_order_of_the_instances(tmp_path, folder):
    with joblib.parallel_config(backend="threading"):
        pairs = [("c", 3), ("a", 1), ("b", 2)]
        found = mf.sweep(partial(counted, folder), pairs, store=tmp_path / "s", n_jobs=2)
    assert list(found.items()) == [("c", 9), ("a", 1), ("b", 4)]


def test_a_result_is_stored_before_the_next_is_computed(tmp_path):
    store = tmp_path / "store.jsonl"

    def lines(_):
        return len(stored(store))

    assert mf.sweep(lines, {"a": 0, "b": 0, "c": 0}, store=store) == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_computed_again(tmp_path, folder, cut):
    store, function = tmp_path / "store.jsonl", partial(counted, folder)
    instances = {"a": 1, "b": 2, "c": 3}
    whole = mf.sweep(function, instances, store=store)
    content = store.read_bytes()
    store.write_bytes(content[:-cut])
    assert mf.sweep(function, instances, store=store) == whole
    assert calls(folder) == {1: 1, 2: 1, 3: 2}
    assert store.read_bytes() == content


def test_a_torn_first_line_is_written_again(tmp_path, folder):
    store, function = tmp_path / "store.jsonl", partial(counted, folder)
    mf.sweep(function, {"a": 1}, store=store)
    content = store.read_bytes()
    store.write_bytes(content[:10])
    mf.sweep(function, {"a": 1}, store=store)
    assert store.read_bytes() == content


def test_a_damaged_line_before_the_last_is_an_error(tmp_path):
    store = tmp_path / "store.jsonl"
    mf.sweep(abs, {"a": 1, "b": 2}, store=store)
    store.write_text(store.read_text().replace('{"key": "a"', '{"ke'))
    with pytest.raises(ValueError, match=r"line 2 of .* is damaged; remove that line"):
        mf.sweep(abs, {"a": 1, "b": 2}, store=store)


def test_a_store_may_hold_more_than_is_asked_for(tmp_path, folder):
    store, function = tmp_path / "store.jsonl", partial(counted, folder)
    mf.sweep(function, {"a": 1, "b": 2}, store=store)
    assert mf.sweep(function, {"c": 3, "b": 2}, store=store) == {"c": 9, "b": 4}
    assert calls(folder) == {1: 1, 2: 1, 3: 1}


def test_the_store_of_another_sweep_is_refused(tmp_path):
    store = tmp_path / "store.jsonl"
    mf.sweep(abs, {"a": 1}, store=store, provenance={"seed": 0})
    content = store.read_bytes()
    for function, provenance in [(abs, {"seed": 1}), (abs, None), (round, {"seed": 0})]:
        with pytest.raises(ValueError, match=r"another sweep .* there, .* here.*another store"):
            mf.sweep(function, {"a": 1}, store=store, provenance=provenance)
    assert mf.sweep(abs, {"a": 1}, store=store, provenance={"seed": 0}) == {"a": 1}
    assert store.read_bytes() == content


def test_two_sweeps_do_not_write_one_store(tmp_path):
    store = tmp_path / "store.jsonl"

    def another(_):
        with pytest.raises(RuntimeError, match="written by another sweep; wait for it"):
            mf.sweep(another, {"b": 2}, store=store)
        return True

    assert mf.sweep(another, {"a": 1}, store=store) == {"a": True}
    assert stored(store) == ["a"]


def test_where_files_cannot_be_locked_a_sweep_is_stored_as_well(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    store = tmp_path / "store.jsonl"
    assert mf.sweep(abs, {"a": -1}, store=store) == {"a": 1}
    assert stored(store) == ["a"]


def scaled(factor, x):
    return factor * x


def scaling(factor):
    def inner(x):
        return factor * x

    return inner


def called(function, x):
    return function(x)


def calling(function):
    def inner(x):
        return function(x)

    return inner


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return self.factor * x


DIFFERENT = {
    "partials": lambda k: partial(scaled, k),
    "partials by name": lambda k: partial(pow, exp=k),
    "partials of partials": lambda k: partial(partial(scaled), k),
    "partials of arrays": lambda k: partial(np.dot, np.full(1, k)),
    "closures": scaling,
    "methods": lambda k: Scaled(k).method,
    "objects": Scaled,
    "methods of builtins": lambda k: [0, k, 2 * k].__getitem__,
    "closures of closures": lambda k: calling(scaling(k)),
    "partials of closures": lambda k: partial(called, scaling(k)),
    "functions of one name": lambda k: (json.dumps, pickle.dumps)[k - 2],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_a_store_tells_functions_of_one_name_apart(tmp_path, kind):
    make, store = DIFFERENT[kind], tmp_path / "store.jsonl"
    instances = {} if kind == "functions of one name" else {"a": 1}
    found = mf.sweep(make(2), instances, store=store) if kind != "partials of arrays" else None
    if found is None:  # NumPy's numbers are no results
        mf.sweep(make(2), {}, store=store)
    content = store.read_bytes()
    with pytest.raises(ValueError, match="the store of another sweep"):
        mf.sweep(make(3), instances, store=store)
    # The same work, bound again, goes on with the store.
    if found is not None:
        assert mf.sweep(make(2), instances, store=store) == found
    assert store.read_bytes() == content


def test_a_lambda_is_refused(tmp_path):
    for function in (lambda x: x, partial(lambda y, x: x, 1)):
        with pytest.raises(TypeError, match=r"must have a name.*write def"):
            mf.sweep(function, {"a": 1}, store=tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_what_is_assigned_later_counts(tmp_path):
    store = tmp_path / "store.jsonl"

    def inner(x):
        try:
            return later * x
        except NameError:
            return x

    assert mf.sweep(inner, {"a": 1}, store=store) == {"a": 1}
    later = 2
    with pytest.raises(ValueError, match="the store of another sweep"):
        mf.sweep(inner, {"a": 1}, store=store)


def test_what_cannot_be_told_apart_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"cannot tell what .* bound to.*name it in provenance"):
        mf.sweep(partial(scaled, (k for k in range(3))), {"a": 1}, store=tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_the_workers_of_a_killed_sweep_end_soon(tmp_path, folder):
    script, store = tmp_path / "script.py", tmp_path / "store.jsonl"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder), str(store), "2", "0.5"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(stored(store)) < 6:
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    workers = children(killed.pid)
    assert len(workers) >= 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    deadline = time.monotonic() + 20
    while any(map(runs, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet waited for


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def test_a_full_disk_names_the_result_that_is_not_stored(tmp_path, monkeypatch):
    store = tmp_path / "store.jsonl"
    mf.sweep(abs, {"a": -1}, store=store)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            mf.sweep(abs, {"a": -1, "b": -2}, store=store)
    assert "the result of 'b' is not in" in caught.value.__notes__[0]
    assert mf.sweep(abs, {"a": -1, "b": -2}, store=store) == {"a": 1, "b": 2}


@pytest.mark.parametrize("content", ["my notes", "my notes\n", '{"rows": []}\n', "[1]\n"])
def test_a_file_that_is_no_store_is_left_alone(tmp_path, content):
    store = tmp_path / "notes.txt"
    store.write_text(content)
    with pytest.raises(ValueError, match="no store of a sweep"):
        mf.sweep(abs, {"a": 1}, store=store)
    assert store.read_text() == content


def test_keys_must_be_different_strings(tmp_path):
    with pytest.raises(ValueError, match="'a' occurs twice"):
        mf.sweep(abs, [("a", 1), ("b", 2), ("a", 3)], store=tmp_path / "s")
    with pytest.raises(TypeError, match="keys must be strings, but one is 1"):
        mf.sweep(abs, {1: 1}, store=tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("result", [np.int64(1), np.ones(2), float("nan"), {1, 2}])
def test_a_result_that_is_not_json_names_the_key_and_the_cure(tmp_path, result):
    store = tmp_path / "store.jsonl"
    with pytest.raises(TypeError, match=r"for 'bad': .*tolist"):
        mf.sweep([1, result].__getitem__, {"good": 0, "bad": 1}, store=store)
    assert stored(store) == ["good"]


def test_provenance_must_be_json(tmp_path):
    with pytest.raises(TypeError, match="provenance must be JSON"):
        mf.sweep(abs, {"a": 1}, store=tmp_path / "s", provenance={"seed": np.int64(1)})


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_names_its_instance_and_keeps_what_was_finished(tmp_path, jobs):
    store = tmp_path / "store.jsonl"
    inverse = partial(pow, exp=-1)
    with joblib.parallel_config(backend="threading"):
        mf.sweep(inverse, {"a": 1, "b": 2}, store=store, n_jobs=jobs)
        with pytest.raises(ZeroDivisionError) as caught:
            mf.sweep(inverse, {"a": 1, "b": 2, "c": 0}, store=store, n_jobs=jobs)
    assert "in the instance 'c' of the sweep" in caught.value.__notes__
    assert stored(store) == ["a", "b"]


def test_what_is_returned_is_what_is_stored(tmp_path):
    first, second = (mf.sweep(tuple, {"a": "xy"}, store=tmp_path / "s") for _ in range(2))
    assert first == second == {"a": ["x", "y"]}


def test_the_line_of_progress_counts_what_was_known(tmp_path, capsys):
    store = tmp_path / "store.jsonl"
    mf.sweep(abs, {"a": 1}, store=store)
    assert capsys.readouterr().err == ""  # no terminal
    mf.sweep(abs, {"a": 1, "b": 2, "c": 3}, store=store, progress=True)
    err = capsys.readouterr().err
    assert "1/3" in err and "3/3" in err


@pytest.mark.slow
def test_importing_the_package_does_not_import_joblib():
    code = "import sys, mfbook; sys.exit('joblib' in sys.modules or 'tqdm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def computed_by(x):
    from distributed import get_worker

    return [x * x, get_worker().name]


@pytest.mark.slow
def test_a_dask_cluster_computes_through_joblib(tmp_path):
    from distributed import Client, LocalCluster

    store = tmp_path / "store.jsonl"
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        few = mf.sweep(computed_by, {str(k): k for k in range(4)}, store=store)
        found = mf.sweep(computed_by, {str(k): k for k in range(20)}, store=store)
        names = {worker.name for worker in cluster.workers.values()}
    assert [square for square, _ in found.values()] == [k * k for k in range(20)]
    assert {worker for _, worker in found.values()} <= names
    assert few.items() <= found.items()
    assert len(stored(store)) == 20
