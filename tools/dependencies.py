"""What a chapter's outputs are made from: the modules that its code reaches, as code.

`mf.min_rank` in a cell leads to the module that `mfbook/__init__.py` takes `min_rank` from, and on
to every module that this one imports. Of each only the code counts, without docstrings, comments
and blank lines, so that better words make nothing stale.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path


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
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.name):
            found += [_home(node.module, alias.name, package) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == package.name]
            found += [_file(name, package) for name in names]
    return found


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
    return ast.parse(file.read_text("utf-8"))


@cache
def code_of_text(text: str) -> str:
    """A module's text without docstrings, comments and blank lines."""
    lines = [list(line) for line in text.splitlines(keepends=True)]

    def blank(first: tuple[int, int], last: tuple[int, int]) -> None:
        for number in range(first[0], last[0] + 1):
            line = lines[number - 1]
            begin = first[1] if number == first[0] else 0
            end = last[1] if number == last[0] else len(line)
            line[begin:end] = " " * (min(end, len(line)) - begin)

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            blank(token.start, token.end)
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, bodies) and ast.get_docstring(node, clean=False) is not None:
            said = node.body[0]
            # Columns of the syntax tree count bytes; a docstring ends its line.
            blank((said.lineno, 0), (said.end_lineno, len(lines[said.end_lineno - 1])))
    kept = ("".join(line).rstrip() for line in lines)
    return "\n".join(line for line in kept if line)


def code_of_module(file: Path) -> str:
    return code_of_text(file.read_text("utf-8"))
