"""Make an executed notebook depend on its code alone: two runs give the same bytes."""

from __future__ import annotations

import hashlib
import json
import re

import nbformat

ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def normalize(notebook: nbformat.NotebookNode) -> None:
    """Fix in place what differs between two runs of the same code."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_still(_without_addresses(output)) for output in _merged(cell.outputs)]
    _name_cells(notebook)
    _name_widgets(notebook)


def _merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """One stream's text arrives in pieces whose cut depends on timing."""
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def _without_addresses(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if output.output_type == "stream":
        output.text = ADDRESS.sub("at 0x0", output.text)
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(content, str):
            output.data[kind] = ADDRESS.sub("at 0x0", content)
    return output


def _still(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A view needs its kernel; what has HTML beside it shows that where none runs."""
    if "text/html" in output.get("data", {}):
        output.data.pop(VIEW, None)
    return output


def _name_cells(notebook: nbformat.NotebookNode) -> None:
    """Name a cell after its content, so that a new cell renames no other."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"


def _name_widgets(notebook: nbformat.NotebookNode) -> None:
    """Widgets get random identifiers: rename them in the order of their appearance."""
    models = [
        view["model_id"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind, view in output.get("data", {}).items()
        if kind == VIEW
    ]
    if not models:
        notebook.metadata.pop("widgets", None)
        return
    text = json.dumps({"cells": notebook.cells, "widgets": notebook.metadata.get("widgets", {})})
    # A view's own parts are named only in the widgets' state, reached from the view.
    order = dict.fromkeys(models)
    state = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    queue = list(order)
    while queue:
        for found in re.findall(r"IPY_MODEL_([0-9a-f]{32})", json.dumps(state.get(queue.pop(0)))):
            if found not in order:
                order[found] = None
                queue.append(found)
    for number, model in enumerate(order):
        text = text.replace(model, f"{number:032x}")
    renamed = json.loads(text)
    notebook.cells = nbformat.from_dict(renamed["cells"])
    widgets = renamed["widgets"][STATE]
    shown = sorted(f"{number:032x}" for number in range(len(order)))
    widgets["state"] = {name: widgets["state"][name] for name in shown if name in widgets["state"]}
    notebook.metadata.widgets = nbformat.from_dict(renamed["widgets"])
