"""The front end as text: classic scripts in one order, for pages, for workers and for notebooks.

There is no build step: what a page loads is these files one after the other. Each adds to one
global object, `mflive`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "front"
#: computes; never looks at a page, so that it can run in a worker
ENGINE = (
    "engine/linalg.js",
    "engine/eigen.js",
    "engine/random.js",
    "engine/graph.js",
    "engine/gauge.js",
    "engine/field.js",
    "engine/step.js",
    "engine/sectors.js",
    "engine/path.js",
    "engine/run.js",
    "engine/flow.js",
    "engine/answer.js",
    "engine/nuclear.js",
    "engine/exclude.js",
    "engine/levenberg.js",
    "engine/rank.js",
    "engine/glrl.js",
    "engine/landscape.js",
    "engine/deep.js",
)
#: the loop that a worker runs around it
SERVE = ("engine/worker.js",)
#: what explorers are made of
PARTS = (
    "parts/begin.js",
    "parts/dom.js",
    "parts/numbers.js",
    "parts/text.js",
    "parts/controls.js",
    "parts/pictures.js",
    "parts/ask.js",
    "parts/link.js",
    "parts/runs.js",
    "parts/foot.js",
    "parts/shell.js",
)
EXPLORERS = (
    "explorers/matrix.js",
    "explorers/mask.js",
    "explorers/scale.js",
    "explorers/time.js",
    "explorers/seed.js",
    "explorers/predict.js",
    "explorers/map.js",
    "explorers/greedy.js",
    "explorers/depth.js",
)


def source(files: tuple[str, ...]) -> str:
    """These files, one after the other."""
    return "\n".join((FOLDER / file).read_text("utf-8") for file in files)


def engine_source() -> str:
    """The engine as one classic script that defines the global object `mflive`."""
    return source(ENGINE)


@cache
def script() -> str:
    """Everything, as one classic script. The engine is a function, so that a worker can be made
    from its text where nothing can be fetched, as in a page that was opened from a file."""
    return (
        "globalThis.mflive = {};\n"
        f"mflive.engine = function () {{\n{engine_source()}\n}};\n"
        f"mflive.serve = function () {{\n{source(SERVE)}\n}};\n"
        "mflive.engine();\n"
        f"{source(PARTS)}\n{source(EXPLORERS)}"
    )


def page_script() -> str:
    """For a page: its explorers come alive."""
    return f"{script()}\nmflive.shell.inPages();\n"


def module() -> str:
    """For a notebook: the module that a widget's view is rendered by."""
    return f"{script()}\nexport default {{ render: mflive.shell.render }};\n"


@cache
def style() -> str:
    return (FOLDER / "live.css").read_text("utf-8")
