"""The file that keeps the tables, and what has changed since it was last committed."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.table import Table

FILE = Path(__file__).with_name("results.md")
HEAD = """# Benchmarks

Written by `make bench`, which also says which counts are no longer those of the last commit. In
each table what was run comes first, then what is counted, then what is measured.
"""
PACKAGES = ("numpy", "scipy", "clarabel", "cvxpy")

Rows = list[dict[str, str]]


def machine() -> str:
    """Where a table was measured, and with what."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{processor}, {os.cpu_count()} cores, threads: {threads}; "
        f"Python {platform.python_version()}, {packages}"
    )


def section(table: Table) -> str:
    lines = [table.columns, ("---",) * len(table.columns), *table.rows]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"## {table.name}\n\n{table.about}\n\n{machine()}\n\n{rows}\n"


def sections(text: str) -> dict[str, str]:
    """The sections of a file of tables, by their names."""
    found = re.findall(r"^(## (\S+)\n.*?)\s*(?=^## |\Z)", text, re.M | re.S)
    return {name: f"{body}\n" for body, name in found}


def machine_of(body: str) -> str:
    """The line of a section that says where it was measured."""
    return body.split("\n\n")[2]


def rows_of(body: str) -> Rows:
    lines = (line[2:-2].split(" | ") for line in body.splitlines() if line.startswith("| "))
    head, _, *rows = lines
    return [dict(zip(head, row, strict=True)) for row in rows]


def committed() -> str:
    """The file as it was last committed; nothing where it never was."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{FILE.name}"], cwd=FILE.parent, capture_output=True, text=True
    )
    return shown.stdout if shown.returncode == 0 else ""


def write(tables: list[Table]) -> None:
    """Put these tables into the file, beside those that were not made again."""
    kept = sections(FILE.read_text("utf-8")) if FILE.exists() else {}
    made = {table.name: section(table) for table in tables}
    FILE.write_text("\n".join([HEAD, *(kept | made).values()]), "utf-8")


def differences(table: Table, stored: Rows) -> list[str]:
    """Each count that is not the stored one, with what was run."""
    before = {tuple(row.get(key, "") for key in table.keys): row for row in stored}
    found = []
    for row in (dict(zip(table.columns, cells, strict=True)) for cells in table.rows):
        key = tuple(row[key] for key in table.keys)
        old = before.pop(key, None)
        if old is None:
            found.append(f"{table.name}, {', '.join(key)}: new")
            continue
        for column in table.counted:
            if old.get(column) != row[column]:
                change = f"{column} {old.get(column, 'not there')} → {row[column]}"
                found.append(f"{table.name}, {', '.join(key)}: {change}")
    return found + [f"{table.name}, {', '.join(key)}: gone" for key in before]


def compare(tables: list[Table]) -> str:
    """What the counts say beside those of the last commit."""
    stored = sections(committed())
    known = [table for table in tables if table.name in stored]
    found = [one for table in known for one in differences(table, rows_of(stored[table.name]))]
    new = [table.name for table in tables if table.name not in stored]
    lines = [f"nothing is committed to compare with: {', '.join(new)}"] if new else []
    if known:
        lines.append("Counts that changed since the last commit:" if found else "No count changed.")
    here = machine()
    there = {machine_of(stored[table.name]) for table in known} - {here}
    elsewhere = [f"Measured here with: {here}", *(f"and committed: {one}" for one in sorted(there))]
    return "\n".join([*lines, *found, *(elsewhere if found and there else ())])
