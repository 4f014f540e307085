"""Of a chapter's code, the statements that one of them needs: a slice, by the names they share.

A statement is needed where it binds or changes a name that is read later on the way to the last.
What is read through a function is read where the function is named. Objects that are changed under
a second name are not seen, so whoever runs a slice makes sure that it does what the whole does.
"""

from __future__ import annotations

import ast
import builtins
import dis
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType

# The methods that change what they belong to, besides those that set something. A generator of
# random numbers is changed by all.
CHANGING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "fill", "insert", "pop"),
    *("manual_seed", "popleft", "put", "remove", "reverse", "seed", "setdefault", "sort", "update"),
}
GENERATOR = "rng"


@dataclass(frozen=True)
class Statement:
    """A statement of a chapter's top level, or several that share a line."""

    cell: int
    source: str
    reads: frozenset[str]  # before it binds them itself
    binds: frozenset[str]
    rebinds: frozenset[str]  # whatever there was before
    changes: frozenset[str]


def slice_of(cells: Sequence[str], last: str, more: dict[str, set[str]] | None = None) -> list[str]:
    """The cells up to the first statement that has the text `last`, with only what that one needs.

    `more` adds, to the statements that have a text, names that they read.
    """
    statements = [one for k, source in enumerate(cells) for one in split(k, source)]
    at = next(k for k, one in enumerate(statements) if last in one.source)
    named = functions(statements)
    live: set[str] = set()
    kept: list[list[str]] = [[] for _ in range(statements[at].cell + 1)]
    for one in reversed(statements[: at + 1]):
        reads, changes = through(named, one)
        if one is statements[at] or live & (one.binds | changes):
            kept[one.cell].insert(0, one.source)
            added = (names for text, names in (more or {}).items() if text in one.source)
            live = (live - one.rebinds).union(reads, *added)
    return ["\n".join(sources) for sources in kept]


def parted(cells: Sequence[str], text: str) -> tuple[list[str], list[str]]:
    """The statements that no change of the ones with this text can reach, and the others.

    Those that cannot be reached may be run before the others, once for all changes.
    """
    statements = [one for k, source in enumerate(cells) for one in split(k, source)]
    named = functions(statements)
    reached: set[str] = set()  # what the others bind or change
    read: set[str] = set()  # and what they read, which must not be another by then
    first, others = [], []
    for one in statements:
        reads, changes = through(named, one)
        makes = one.binds | changes
        if text in one.source or reached & (reads | makes) or read & makes:
            reached |= makes
            read |= reads
            others.append(one.source)
        else:
            first.append(one.source)
    return first, others


def functions(statements: Sequence[Statement]) -> dict[str, Statement]:
    return {
        name: one
        for one in statements
        if re.match(r"(@|def |class )", one.source)
        for name in one.binds
    }


def through(named: dict[str, Statement], one: Statement) -> tuple[set[str], set[str]]:
    """What a statement reads and changes, also in the functions that it names."""
    reads, changes, todo = set(one.reads), set(one.changes), list(one.reads)
    while todo:
        function = named.get(todo.pop())
        if function:
            todo += function.reads - reads
            reads |= function.reads
            changes |= function.changes
    return reads, changes


def split(cell: int, source: str) -> Iterator[Statement]:
    lines = source.splitlines()
    nodes = ast.parse(source).body
    while nodes:
        together = [nodes.pop(0)]
        while nodes and first_line(nodes[0]) <= (together[-1].end_lineno or 0):
            together.append(nodes.pop(0))
        text = "\n".join(lines[first_line(together[0]) - 1 : together[-1].end_lineno])
        reads, binds = read_and_bound(compile(text, "cell", "exec"))
        yield Statement(
            *(cell, text, frozenset(reads - vars(builtins).keys()), frozenset(binds)),
            frozenset(name for node in together for name in surely_bound(node)),
            frozenset(name for node in together for name in changed(node)),
        )


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(x.lineno for x in getattr(node, "decorator_list", ()))])


def read_and_bound(code: CodeType) -> tuple[set[str], set[str]]:
    """The names that code reads before it binds them, and those that it binds."""
    reads: set[str] = set()
    binds: set[str] = set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_NAME", "LOAD_GLOBAL") and step.argval not in binds:
            reads.add(step.argval)
        elif step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            binds.add(step.argval)
        elif isinstance(step.argval, CodeType):
            reads |= read_and_bound(step.argval)[0] - binds
    return reads, binds


def surely_bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import() | ast.ImportFrom():
            yield from ((x.asname or x.name).split(".")[0] for x in node.names)
        case ast.Assign() | ast.AnnAssign() | ast.For() | ast.With():
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.stmt):
                    yield from surely_bound(part)
                elif not isinstance(part, ast.withitem):
                    yield from names_bound(part)


def names_bound(target: ast.AST) -> Iterator[str]:
    match target:
        case ast.Name(ctx=ast.Store()):
            yield target.id
        case ast.Tuple() | ast.List() | ast.Starred():
            for part in ast.iter_child_nodes(target):
                yield from names_bound(part)


def changed(node: ast.AST) -> Iterator[str]:
    """The names of what may be another afterwards, although the name is not bound again."""
    for part in ast.walk(node):
        match part:
            case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store()):
                yield from root(part)
            case ast.AugAssign():
                yield from root(part.target)
            case ast.Call(func=ast.Attribute(attr=method)):
                if method in CHANGING or method.startswith("set_"):
                    yield from root(part.func)
            case ast.Name(id=name) if name == GENERATOR:
                yield name


def root(node: ast.AST) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Name):
        yield node.id
