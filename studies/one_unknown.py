"""What three factors learn for one unknown entry of other matrices than the paper's, and store it.

    python -m studies.one_unknown

Some minutes. Figure B7 of Bai et al. (2024) shows one matrix, in a picture. Here are 36 others of
sizes 3, 4 and 5, Gaussian, of integers, and symmetric, the last entry unknown, each from three
starts at the variance of the figure. `book/depth/one_unknown.json` holds the value at which the
determinant is zero and what was learned, with its provenance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from studies.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "depth" / "one_unknown.json"
STORE = ROOT / "_build" / "sweeps" / "one_unknown.jsonl"
SIZES, KINDS, EACH, STARTS, SEED = (3, 4, 5), ("Gaussian", "integers", "symmetric"), 4, 3, 8
LOG10_SCALE = -7  # layers of the variance 1e-14


def draw(size: int, kind: str, index: int) -> tuple[mf.MatrixCompletion, float]:
    """A matrix without its last entry, and the value of it at which the determinant is zero."""
    rng = np.random.default_rng([SEED, size, KINDS.index(kind), index])
    while True:
        values = rng.standard_normal((size, size))
        if kind != "Gaussian":
            values = rng.integers(-5, 6, (size, size)).astype(float)
        if kind == "symmetric":
            values = values + values.T
        minor = np.linalg.det(values[:-1, :-1])
        if abs(minor) > 1e-6:  # else no value will do, or every one
            break
    value = values[-1, -1] - np.linalg.det(values) / minor
    values[-1, -1] = np.nan
    return mf.MatrixCompletion.from_array(values, loss="half"), float(value)


def learned(task: tuple[int, str, int]) -> dict[str, Any]:
    size, kind, index = task
    problem, value = draw(size, kind, index)
    runs = []
    for seed in range(STARTS):
        start = mf.small_init((size, size), depth=3, rng=[SEED, size, index, seed])
        run = mf.gradient_flow(
            problem, start, log10_scale=LOG10_SCALE, loss_tol=1e-14, rtol=1e-5, max_steps=20_000
        )
        runs.append({"learned": float(f"{run.W[-1, -1]:.6g}"), "reason": run.reason})
    return {"value": float(f"{value:.6g}"), "runs": runs}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    tasks = {
        f"{size}/{kind}/{index}": (size, kind, index)
        for size in SIZES
        for kind in KINDS
        for index in range(EACH)
    }
    settings = {"seed": SEED, "starts": STARTS, "log10_scale": LOG10_SCALE}
    found = mf.sweep(learned, tasks, store=STORE, provenance=settings, n_jobs=1)
    stored = {"provenance": provenance("python -m studies.one_unknown", **settings)}
    RESULT.write_text(json.dumps({**stored, "found": found}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
