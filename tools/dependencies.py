"""What a chapter's outputs are made from: the modules that its code reaches, as code.

`mf.min_rank` in a cell leads to the module that `mfbook/__init__.py` takes `min_rank` from, and on
to every module that this one imports. Of each only the code counts, without docstrings, comments,
blank lines and what functions say of their types, so that better words make nothing stale.
"""

from __future__ import annotations

import ast
import copy
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def reached_modules(code: str, package: Path) -> list[Path]:
    """The files of the package that `code` reaches, sorted; all of them where it cannot be told."""
    init = package / "__init__.py"
    everything = sorted(p for p in package.rglob("*.py") if "__pycache__" not in p.parts)
    if not init.exists():
        return everything
    aliases = re.findall(rf"^\s*import {package.name}(?: as (\w+))?", code, re.M)
    names = {
        name for alias in aliases for name in re.findall(rf"\b{alias or package.name}\.(\w+)", code)
    }
    for imported in re.findall(rf"from {package.name} import ([\w, ]+)", code):
        names |= {name.split()[0] for name in imported.split(",")}
    exports = _exports(init, package)
    if re.search(rf"from {package.name}\.|import_module|getattr\(", code) or not names <= set(
        exports
    ):
        return everything
    # The list of public names itself decides nothing: what it leads to does.
    return sorted(_closure([exports[name] for name in names], package))


def reached_by_file(file: Path, package: Path) -> list[Path]:
    """The files of the package that a Python file outside of it reaches, sorted: by its imports
    and by the public names that it uses; all of them where it cannot be told."""
    init = package / "__init__.py"
    tree = _tree(file)
    aliases, names = set(), set()
    in_a_string = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {a.asname or a.name for a in node.names if a.name == package.name}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Code for another process, which begins with the whole package.
            in_a_string |= bool(re.search(rf"\bimport\b.*\b{package.name}\b", node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in aliases:
                names.add(node.attr)
    exports = _exports(init, package)
    rooms = {name: _file(f"{package.name}.{name}", package) for name in names - exports.keys()}
    if in_a_string or not all(room.exists() for room in rooms.values()):
        return sorted(package.rglob("*.py"))
    homes = {**exports, **rooms}
    imported = [found for found in _imports(file, package) if found != init]
    return sorted(_closure([*imported, *(homes[name] for name in names)], package))


def _closure(start: list[Path], package: Path) -> set[Path]:
    """These modules, and all that they import."""
    found: set[Path] = set()
    waiting = list(start)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(module, package)
    return found


def _exports(init: Path, package: Path) -> dict[str, Path]:
    """Where each public name comes from, those that are loaded at their first use included."""
    exports = {}
    for node in ast.walk(_tree(init)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.name):
            for alias in node.names:
                exports[alias.asname or alias.name] = _home(node.module, alias.name, package)
        elif isinstance(node, ast.Constant) and re.fullmatch(
            rf"{package.name}(\.\w+)+", str(node.value)
        ):
            exports[str(node.value).rsplit(".", 1)[1]] = _file(str(node.value), package)
    return exports


def _imports(module: Path, package: Path) -> list[Path]:
    """The modules of the package that a module imports, wherever in it."""
    found = []
    for node in _import_statements(module.read_text("utf-8")):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.name):
            found += [_home(node.module, alias.name, package) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == package.name]
            found += [_file(name, package) for name in names]
    return found


@cache
def _import_statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [n for n in ast.walk(_parsed(text)) if isinstance(n, ast.Import | ast.ImportFrom)]


def _home(module: str, name: str, package: Path) -> Path:
    """The file that `from module import name` ends at, through the `__init__` of a room."""
    inner = _file(f"{module}.{name}", package)
    if inner.exists():
        return inner
    file = _file(module, package)
    if file.name == "__init__.py":
        for node in _tree(file).body:
            if isinstance(node, ast.ImportFrom) and any(
                (alias.asname or alias.name) == name for alias in node.names
            ):
                return _home(node.module, name, package)
    return file


def _file(module: str, package: Path) -> Path:
    path = package.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(file: Path) -> ast.Module:
    return _parsed(file.read_text("utf-8"))


@cache
def _parsed(text: str) -> ast.Module:
    """The same tree for every caller: all of them only read it."""
    return ast.parse(text)


@cache
def code_of_text(text: str) -> str:
    """A module's text without docstrings, comments and blank lines.

    Nor with the annotations of arguments, returns and local variables, where `from __future__
    import annotations` keeps them from being evaluated. Those in the bodies of classes count:
    dataclasses read them.
    """
    tree = _parsed(text)
    lines = text.split("\n")
    begins = [0, *accumulate(len(line) + 1 for line in lines)]

    def place(line: int, column: int) -> int:
        """Where in the text a place of the syntax tree is, whose columns count bytes."""
        return begins[line - 1] + len(lines[line - 1].encode()[:column].decode())

    def begin(node: ast.AST) -> int:
        return place(node.lineno, node.col_offset)

    def end(node: ast.AST) -> int:
        return place(node.end_lineno, node.end_col_offset)

    tokens = [
        (begins[token.start[0] - 1] + token.start[1], token)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    ]
    cuts = [(at, at + len(t.string), "") for at, t in tokens if t.type == tokenize.COMMENT]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            if ast.get_docstring(node, clean=False) is not None:
                cuts.append((begin(node.body[0]), end(node.body[0]), ""))
    for node in _annotated(tree) if _postpones(tree) else ():
        if isinstance(node, FUNCTIONS):
            header = [(at, t.string) for at, t in tokens if begin(node) <= at < begin(node.body[0])]
            cuts.append((begin(node), _colon(header), _bare_header(node)))
        elif node.value is None:
            cuts.append((begin(node), end(node), ""))
        else:
            cuts.append((end(node.target), end(node.annotation), ""))
    left, at = [], 0
    for first, last, by in sorted(cuts):
        if first >= at:  # and not a comment among arguments
            left += [text[at:first], by]
            at = last
    kept = (line.rstrip() for line in "".join([*left, text[at:]]).split("\n"))
    return "\n".join(line for line in kept if line)


def _postpones(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


def _annotated(node: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """All functions, and what is annotated in the body of one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS) or (inside and isinstance(child, ast.AnnAssign)):
            yield child
        within = isinstance(child, FUNCTIONS) or (inside and not isinstance(child, ast.ClassDef))
        yield from _annotated(child, within)


def _colon(header: list[tuple[int, str]]) -> int:
    """Where the colon is that ends the header of a function."""
    depth = 0
    for at, token in header:
        depth += (token in "([{") - (token in ")]}") if len(token) == 1 else 0
        if token == ":" and depth == 0:
            return at
    raise ValueError("a function without a colon")


def _bare_header(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """`def` with names and defaults, on one line however it was laid out."""
    arguments = copy.deepcopy(node.args)
    for part in ast.walk(arguments):
        if isinstance(part, ast.arg):
            part.annotation = None
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{kind} {node.name}({ast.unparse(arguments)})"


def code_of_module(file: Path) -> str:
    return code_of_text(file.read_text("utf-8"))
