"""Thousands of runs that survive being killed: every result is on disk as soon as it is known.

The work goes through joblib, so `joblib.parallel_config` decides where it is done (processes,
threads, a Dask cluster) without a change of the code that asks for it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from mfbook.problems.checks import flag, whole_number

if TYPE_CHECKING:  # imported where a bar is shown first
    from tqdm import tqdm

FORMAT = 1
# How often a worker looks whether the sweep that it works for still lives.
WATCH_SECONDS = 1.0


def sweep(
    function: Callable[[Any], Any],
    instances: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    store: str | os.PathLike[str],
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
        other processes, function and arguments must be picklable. A store knows the function by
        its module and name, the arguments of a `functools.partial`, the values that an inner
        function or a method is bound to; not by its code, which `provenance` may give a version.
        A lambda has no name and is refused.
    instances
        pairs (key, argument), as a mapping or a sequence; the keys are strings, all different.
    store
        path of the store; its folder is made if need be.
    provenance
        what the results depend on besides function and keys: seeds, sizes, versions (JSON too). A
        store is continued only by a sweep with the same provenance and the same function.
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
        a key that is not a string; a result or a provenance that is not JSON; a function that
        cannot be called, is a lambda, or is bound to values that cannot be told apart.
    ValueError
        a key that occurs twice; a store of another sweep; a store with a damaged line
        before the last.
    RuntimeError
        another sweep is writing the store.

    Any error of `function` is raised with the key in a note; what was finished stays in the store.
    Where the calling process dies, its worker processes on the same machine end within seconds.

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
    {"sweep": 1, "function": "math.factorial", "provenance": {}}
    {"key": "three", "result": 6}
    {"key": "four", "result": 24}
    <BLANKLINE>

    To spread the work over a Dask cluster::

        with distributed.Client(address), joblib.parallel_config(backend="dask"):
            mf.sweep(function, instances, store="results.jsonl")
    """
    if not callable(function):
        raise TypeError(f"function must be callable, but is {function!r}; give it without ()")
    if progress is not None:
        progress = flag("progress", progress)
    if n_jobs is not None:
        n_jobs = whole_number("n_jobs", n_jobs)
        if n_jobs == 0:
            raise ValueError("n_jobs must be a number of jobs, or -1 for one a core, but is 0")
    pairs = _pairs(instances)
    header = _header(function, provenance)
    if not isinstance(store, (str, os.PathLike)):
        raise TypeError(f"store must be a path, but is {store!r}; give one for the results")
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
            )(
                joblib.delayed(_evaluate)(function, key, argument, os.getpid())
                for key, argument in todo
            )
            with _bar(progress, pairs, todo) as bar:
                for key, result in finished:
                    line = _line(key, result)
                    try:
                        file.write(line.encode())
                        file.flush()
                        os.fsync(file.fileno())
                    except OSError as error:
                        error.add_note(
                            f"the result of {key!r} is not in {store}, those before it are; make "
                            "room and call the sweep again"
                        )
                        raise
                    known[key] = json.loads(line)["result"]
                    bar.update()
    return {key: known[key] for key, _ in pairs}


def _evaluate(
    function: Callable[[Any], Any], key: str, argument: Any, owner: int
) -> tuple[str, Any]:
    _end_with(owner)
    try:
        return key, function(argument)
    except Exception as error:
        error.add_note(f"in the instance {key!r} of the sweep")
        raise


_watched: set[int] = set()


def _end_with(owner: int) -> None:
    """In a worker process that `owner` started: end when it does, however it ends.

    joblib's workers would wait for more to do for minutes. Elsewhere (threads, another machine's
    cluster) the parent process is not the owner, and nothing is done.
    """
    if os.getpid() == owner or os.getppid() != owner or owner in _watched:
        return
    _watched.add(owner)

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="mfbook-sweep-watch", daemon=True).start()


def _pairs(instances: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    try:
        pairs = list(instances.items() if isinstance(instances, Mapping) else instances)
        pairs = [(key, argument) for key, argument in pairs]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"instances must be pairs (key, argument) or a mapping, but {error}; write "
            "{str(k): argument, …}"
        ) from error
    seen = set()
    for key, _ in pairs:
        if not isinstance(key, str):
            raise TypeError(f"keys must be strings, but one is {key!r}; write str(key)")
        if key in seen:
            raise ValueError(f"keys must be different, but {key!r} occurs twice; number them")
        seen.add(key)
    return pairs


def _identity(function: Any, above: tuple[Any, ...] = ()) -> Any:
    """What tells the function from others, as JSON: its name, and what it is bound to."""
    if isinstance(function, partial):
        keywords = sorted((function.keywords or {}).items())
        return {
            "partial": _identity(function.func, above),
            "args": [_fingerprint(value, above) for value in function.args],
            "keywords": {name: _fingerprint(value, above) for name, value in keywords},
        }
    name = getattr(function, "__qualname__", None)
    if name is None:  # an object with __call__
        kind = type(function)
        return {"call": f"{kind.__module__}.{kind.__qualname__}", "of": _fingerprint(function)}
    if name.endswith("<lambda>"):
        raise TypeError(
            "function must have a name, by which the store knows what it holds, but is a lambda; "
            "write def name(argument): … for it"
        )
    place = getattr(function, "__module__", None)
    if place == "__main__":  # the module that `python -m` runs goes by its own name
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        place = spec.name if spec else place
    name = f"{place}.{name}" if place else name
    bound = getattr(function, "__self__", None)
    if bound is not None and not isinstance(bound, (ModuleType, type)):
        return {"method": name, "of": _fingerprint(bound)}
    if not isinstance(function, FunctionType) or "<locals>" not in name:
        return name
    # Inner functions of one name differ in what they close over.
    above = (*above, function)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed = {free: _fingerprint(_content(cell), above) for free, cell in cells}
    defaults = [function.__defaults__, function.__kwdefaults__]
    return {"inner": name, "closed": closed, "defaults": _fingerprint(defaults, above)}


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # assigned later, or never
        return None


def _fingerprint(value: Any, above: tuple[Any, ...] = ()) -> Any:
    """The value where it is JSON, else a hash of what it holds."""
    if any(value is function for function in above):
        return "itself"
    if isinstance(value, (FunctionType, partial)):
        return _identity(value, above)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        pass
    import joblib

    try:
        return f"{type(value).__name__} {joblib.hash(value)}"
    except Exception as error:
        raise TypeError(
            f"the store cannot tell what the function is bound to, {value!r}: {error}; pass it "
            "through the instances, or name it in provenance and use a function of a module"
        ) from error


def _header(function: Callable[[Any], Any], provenance: Mapping[str, Any] | None) -> dict[str, Any]:
    if provenance is not None and not isinstance(provenance, Mapping):
        raise TypeError(f"provenance must be a dictionary, but is {provenance!r}")
    header = {
        "sweep": FORMAT,
        "function": _identity(function),
        "provenance": dict(provenance or {}),
    }
    try:
        return json.loads(json.dumps(header, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"provenance must be JSON, but {error}; write numbers, strings, lists and dictionaries"
        ) from error


def _line(key: str, result: Any) -> str:
    try:
        return json.dumps({"key": key, "result": result}, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"results must be JSON, but for {key!r}: {error}; return array.tolist() for an array, "
            "int(x) or float(x) for a NumPy number, None for a number that is not finite"
        ) from error


def _open_store(store: Path, header: dict[str, Any]) -> dict[str, Any]:
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


def _lock(file: BinaryIO) -> None:
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


def _bar(
    progress: bool | None, pairs: list[tuple[str, Any]], todo: list[tuple[str, Any]]
) -> tqdm[NoReturn]:
    from tqdm import tqdm

    shown = sys.stderr.isatty() if progress is None else bool(progress)
    done = len(pairs) - len(todo)
    return tqdm(total=len(pairs), initial=done, disable=not shown, unit=" runs")
