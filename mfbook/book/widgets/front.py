"""The front end of the explorers: plain JavaScript, in the order in which it is loaded."""

from __future__ import annotations

from importlib.resources import files

#: What computes, in the order in which it is loaded. Nothing here touches a page.
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
)


def engine_source() -> str:
    """The engine as one classic script that defines the global object `mflive`."""
    front = files("mfbook.book.widgets") / "front"
    return "".join((front / name).read_text("utf-8") for name in ENGINE)


def worker_source() -> str:
    """The engine as the script of a Worker, which answers the requests that it is sent."""
    worker = files("mfbook.book.widgets") / "front" / "engine" / "worker.js"
    return engine_source() + worker.read_text("utf-8")
