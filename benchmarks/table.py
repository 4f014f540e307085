"""What all tables are made with.

A table's columns are of three kinds. Its keys say what was run. What is counted comes out again on
the same kind of machine, so a change of it is a change of the code. What is measured, such as
seconds, is only shown.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def peak() -> int:
    """The most memory that this process has held so far, in MB, as Linux tells it.

    `getrusage` counts in what the process was before it became Python: a copy of its parent.
    """
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def alone(function: Callable[..., Any], *words: Any) -> Any:
    """A function of a module, called in a new process: what it tells of its memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *words).result()


@dataclass
class Table:
    """A table that prints each of its rows as soon as it is there."""

    name: str
    about: str
    keys: tuple[str, ...]
    counted: tuple[str, ...]
    measured: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        print(f"\n{self.about}")
        self._print(self.columns)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.keys + self.counted + self.measured

    def row(self, *cells: object) -> None:
        """The cells in the order of the columns."""
        row = tuple(map(str, cells))
        if len(row) != len(self.columns):
            raise ValueError(f"{self.name}: {len(row)} cells for {len(self.columns)} columns")
        self.rows.append(row)
        self._print(row)

    def _print(self, cells: tuple[str, ...]) -> None:
        print("  ".join(f"{cell:>14}" for cell in cells), flush=True)
