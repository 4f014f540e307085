"""Execute the chapters whose code changed and store their outputs beside them.

    python tools/execute.py [CHAPTER ...] [--all] [--jobs N]

A chapter is named by its place under book/, such as `data/graph`. Its outputs are up to date
when nothing that they were made from has changed: the chapter's code, the package, the data
and the claims that the code names. Where only the text changed, the twin takes over the text
and keeps its outputs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import kernels
from tools.chapters import ROOT, STORED, Chapter, chapters, code_hash, code_of, outputs_hash
from tools.normalize import normalize

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass(frozen=True)
class Result:
    chapter: Chapter
    seconds: float
    failure: str = ""


class NotStored(Exception):
    """The disk did not take a twin."""


def refresh_text(chapter: Chapter, package: Path) -> str:
    """Say whether the chapter must run ("run"), after renewing the text of one that need not."""
    source, twin = chapter.read_source(), chapter.read_twin()
    if twin is None or code_of(source) != code_of(twin):
        return "run"
    stored = twin.metadata.get(STORED, {})
    if stored.get("code") != code_hash(chapter, source, package):
        return "run"
    if stored.get("outputs") != outputs_hash(twin):
        return "run"
    outputs = [cell for cell in twin.cells if cell.cell_type == "code"]
    for cell in source.cells:
        if cell.cell_type == "code":
            done = outputs.pop(0)
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
    source.metadata.widgets = twin.metadata.get("widgets", {})
    return "text" if store(chapter, source, stored["code"]) else "current"


def store(chapter: Chapter, notebook: nbformat.NotebookNode, code: str) -> bool:
    """Replace the twin in one step, so that it is the old one or the new one and never half."""
    notebook.metadata.kernelspec = nbformat.from_dict(KERNEL)
    if not notebook.metadata.get("widgets"):
        notebook.metadata.pop("widgets", None)
    normalize(notebook)
    stored = {"code": code, "outputs": outputs_hash(notebook)}
    notebook.metadata[STORED] = nbformat.from_dict(stored)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if chapter.twin.exists() and chapter.twin.read_text("utf-8") == text:
        return False
    draft = chapter.twin.with_name(f".{chapter.twin.name}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # some disks say only now that they are full
        os.replace(draft, chapter.twin)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise NotStored(
            f"{os.path.relpath(chapter.twin)}: the outputs could not be stored: {error.strerror}; "
            "the old ones are still there. Make room, and execute the chapter again"
        ) from error
    return True


class Runner:
    """Runs one chapter in a kernel of its own, showing which cell it is at."""

    def __init__(self, package: Path, places: int) -> None:
        self.package = package
        self.free_places = list(range(places))
        self.lock = threading.Lock()

    def __call__(self, chapter: Chapter) -> Result:
        start = time.monotonic()
        source = chapter.read_source()
        code = code_hash(chapter, source, self.package)
        with self.lock:
            place = self.free_places.pop(0)
        bar = tqdm(
            total=len(source.cells),
            desc=f"{chapter.name:24}",
            unit="cell",
            position=place,
            leave=False,
            disable=None,
        )
        reached: list[nbformat.NotebookNode] = []

        def started(cell: nbformat.NotebookNode, cell_index: int) -> None:
            reached[:] = [cell]
            bar.update(cell_index - bar.n)

        client = NotebookClient(
            source,
            kernel_name=KERNEL["name"],
            timeout=None,
            record_timing=False,
            # The kernel's own warnings are about its sockets, which never leave this machine.
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": str(chapter.source.parent)}},
            on_cell_start=started,
        )
        failure = ""
        try:
            asyncio.run(client.async_execute())
            store(chapter, source, code)
        except CellExecutionError as error:
            failure = describe_failure(chapter, reached[0], error.traceback)
        except NotStored as error:
            failure = str(error)
        except DeadKernelError:
            failure = f"{os.path.relpath(chapter.source)}: the kernel died (out of memory?)"
        finally:
            bar.close()
            with self.lock:
                self.free_places.insert(0, place)
        return Result(chapter, time.monotonic() - start, failure)


def describe_failure(chapter: Chapter, cell: nbformat.NotebookNode, trace: str) -> str:
    """The failing cell: where it stands in the source, its code, and the traceback."""
    text = chapter.source.read_text("utf-8")
    line = text[: max(text.find(f"\n{cell.source}\n"), 0) + 1].count("\n") + 1
    code = "\n".join(f"    {part}" for part in cell.source.splitlines())
    if not sys.stdout.isatty():
        trace = re.sub(r"\x1b\[[0-9;]*m", "", trace)
    where = os.path.relpath(chapter.source)
    return f"{where}:{line}: this cell failed\n\n{code}\n\n{trace}"


def choose(names: list[str], book: Path) -> list[Chapter]:
    known = {chapter.name: chapter for chapter in chapters(book)}
    wanted = [re.sub(r"^(\./)?book/|\.(md|ipynb)$", "", name) for name in names]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"no such chapter: {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(known.values())


def main(words: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Execute the chapters whose code changed.")
    parser.add_argument("chapters", nargs="*", help="such as data/graph; default: all of them")
    parser.add_argument("--all", action="store_true", help="execute them even when up to date")
    parser.add_argument("--jobs", type=int, default=2, help="chapters at once (default: 2)")
    arguments = parser.parse_args(words)

    kernels.prepare()
    package = root / "mfbook"
    waiting: list[Chapter] = []
    failures: list[str] = []
    for chapter in choose(arguments.chapters, root / "book"):
        try:
            state = "run" if arguments.all else refresh_text(chapter, package)
        except NotStored as error:
            failures.append(str(error))
            continue
        if state == "run":
            waiting.append(chapter)
        else:
            print(f"{chapter.name:24} {'text renewed' if state == 'text' else 'up to date'}")

    start = time.monotonic()
    failed = 0
    pool = ThreadPoolExecutor(arguments.jobs)
    try:
        runner = Runner(package, arguments.jobs)
        for done in as_completed([pool.submit(runner, chapter) for chapter in waiting]):
            result = done.result()
            if result.failure:
                failures.append(result.failure)
                failed += 1
            state = "FAILED after" if result.failure else "executed in"
            tqdm.write(f"{result.chapter.name:24} {state} {result.seconds:.1f} s")
    except KeyboardInterrupt:
        # The kernels watch this process and end when it does; nothing half-done was stored.
        print("\ninterrupted: the chapters still running keep their old outputs", file=sys.stderr)
        os._exit(130)
    for failure in failures:
        print(f"\n{'=' * 80}\n{failure}")
    if waiting:
        done = len(waiting) - failed
        print(f"{done} of {len(waiting)} chapters executed in {time.monotonic() - start:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
