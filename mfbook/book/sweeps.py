"""Thousands of runs that survive being killed: every result is on disk as soon as it is known.

The work goes through joblib, so `joblib.parallel_config` decides where it is done (processes,
threads, a Dask cluster) without a change of the code that asks for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1


def sweep(
    function: Callable[[Any], Any],
    instances: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    store: str | os.PathLike,
    provenance: Mapping[str, Any] | None = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Call a function on many instances, and keep every result in a file as soon as it is there.

    The store is a text file. Its first line says what the sweep computes, and each further line
    is `{"key": …, "result": …}`, forced to the disk before the next one is awaited. A sweep that
    was killed is started again by the same call: instances that the store holds are not computed
    again, and a last line that was cut off is computed anew. A store may hold more instances than
    are asked for, so that a sweep can begin with a few of them.

    Parameters
    ----------
    function
        called as `function(argument)` for each instance. The result must be JSON: numbers,
        strings, booleans, None, and lists and dictionaries of those. Where the work goes to
        other processes, function and arguments must be picklable.
    instances
        pairs (key, argument), as a mapping or a sequence; the keys are strings, all different.
    store
        path of the store; its folder is made if need be.
    provenance
        what the results depend on besides the keys: seeds, sizes, versions (JSON too). A store
        is continued only by a sweep with the same provenance and a function of the same name.
    n_jobs
        how many instances at a time, as for `joblib.Parallel`; None is one, or what
        `joblib.parallel_config` says.
    progress
        True shows a line on standard error, False never; None shows it where standard error is
        a terminal.

    Returns
    -------
    dict
        key → result in the order of `instances`, read as from the store (tuples are lists).

    Raises
    ------
    TypeError
        a key that is not a string; a result or a provenance that is not JSON.
    ValueError
        a key that occurs twice; a store of another sweep; a store with a damaged line
        before the last.
    RuntimeError
        another sweep is writing the store.

    Any error of `function` is raised with the key in a note; what was finished stays in the store.

    Examples
    --------
    >>> import math, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Path(folder) / "factorials.jsonl"
    ...     few = sweep(math.factorial, {"three": 3}, store=store)
    ...     more = sweep(math.factorial, {"four": 4, "three": 3}, store=store)
    ...     print(few, more, store.read_text(), sep="\\n")
    {'three': 6}
    {'four': 24, 'three': 6}
    {"sweep": 1, "function": "factorial", "provenance": {}}
    {"key": "three", "result": 6}
    {"key": "four", "result": 24}
    <BLANKLINE>

    To spread the work over a Dask cluster::

        with distributed.Client(address), joblib.parallel_config(backend="dask"):
            mf.sweep(function, instances, store="results.jsonl")
    """
    pairs = _pairs(instances)
    header = _header(function, dict(provenance or {}))
    store = Path(store)
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("ab") as file:
        _lock(file)
        known = _open_store(store, header)
        todo = [(key, argument) for key, argument in pairs if key not in known]
        if todo:
            import joblib  # takes as long to import as the rest of the package

            finished = joblib.Parallel(
                n_jobs=n_jobs,
                return_as="generator_unordered",
                # A batch would hold finished results back until its last one is there.
                batch_size=1,
            )(joblib.delayed(_evaluate)(function, key, argument) for key, argument in todo)
            with _bar(progress, pairs, todo) as bar:
                for key, result in finished:
                    line = _line(key, result)
                    file.write(line.encode())
                    file.flush()
                    os.fsync(file.fileno())
                    known[key] = json.loads(line)["result"]
                    bar.update()
    return {key: known[key] for key, _ in pairs}


def _evaluate(function, key: str, argument):
    try:
        return key, function(argument)
    except Exception as error:
        error.add_note(f"in the instance {key!r} of the sweep")
        raise


def _pairs(instances) -> list[tuple[str, Any]]:
    pairs = list(instances.items() if isinstance(instances, Mapping) else instances)
    seen = set()
    for key, _ in pairs:
        if not isinstance(key, str):
            raise TypeError(f"keys must be strings, but one is {key!r}; write str(key)")
        if key in seen:
            raise ValueError(f"keys must be different, but {key!r} occurs twice; number them")
        seen.add(key)
    return pairs


def _header(function, provenance: dict) -> dict:
    inner = getattr(function, "func", function)  # of a functools.partial
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    header = {"sweep": FORMAT, "function": name, "provenance": provenance}
    try:
        return json.loads(json.dumps(header, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"provenance must be JSON, but {error}; write numbers, strings, lists and dictionaries"
        ) from error


def _line(key: str, result) -> str:
    try:
        return json.dumps({"key": key, "result": result}, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"results must be JSON, but for {key!r}: {error}; return array.tolist() for an array, "
            "int(x) or float(x) for a NumPy number, None for a number that is not finite"
        ) from error


def _open_store(store: Path, header: dict) -> dict[str, Any]:
    """What the store holds; afterwards it is there and ends with a whole line."""
    first = json.dumps(header) + "\n"
    content = store.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if not whole and first.encode().startswith(content):
        store.write_text(first, encoding="utf-8")
        return {}
    cure = "give another store, or remove this one to compute everything anew"
    found, *lines = whole.splitlines() or [content]
    try:
        there = json.loads(found)
    except ValueError:
        there = None
    if not isinstance(there, dict) or "sweep" not in there:
        raise ValueError(f"{store} is no store of a sweep: its first line is no header; {cure}")
    if there != header:
        different = ", ".join(
            f"{name}: {there.get(name)!r} there, {header[name]!r} here"
            for name in header
            if there.get(name) != header[name]
        )
        raise ValueError(f"{store} is the store of another sweep ({different}); {cure}")
    known = {}
    for number, line in enumerate(lines, 2):
        try:
            entry = json.loads(line)
            known[entry["key"]] = entry["result"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"line {number} of {store} is damaged; remove that line, and its instance is "
                "computed again"
            ) from error
    if len(whole) < len(content):
        with store.open("r+b") as file:
            file.truncate(len(whole))
    return known


def _lock(file) -> None:
    """Keep two processes from writing the same store; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where two writers are the user's care
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RuntimeError(
            f"{file.name} is being written by another sweep; wait for it, or give another store"
        ) from None


def _bar(progress: bool | None, pairs, todo):
    from tqdm import tqdm

    shown = sys.stderr.isatty() if progress is None else bool(progress)
    done = len(pairs) - len(todo)
    return tqdm(total=len(pairs), initial=done, disable=not shown, unit=" runs")
