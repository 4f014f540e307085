"""The runs of the map at three and four factors that grow on, from smaller starts, and store it.

    python -m studies.deep_rank_one

Some minutes. `studies.depth_map` leaves runs of connected data of rank one, and one of disconnected
data, at which W grows on. From almost every start the first kind must end at rank one as the scale
tends to zero. This follows the same starts to smaller scales until they do.
`book/depth/deep_rank_one.json` holds what was found, with its provenance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from mfbook.flow.trajectory import LOSS_REACHED
from studies import depth_map
from studies.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "depth" / "deep_rank_one.json"
STORE = ROOT / "_build" / "sweeps" / "deep_rank_one.jsonl"
EXPONENTS = (12, 30, 100, 300)
LEAVING = 0.01
LEFT_OUT = "connected, rank 2"


def arrived(row: dict[str, Any], run: dict[str, Any]) -> bool:
    return bool(run["reason"] == LOSS_REACHED and run["rank"] <= row["min_rank"])


def keeps_the_signs(problem: mf.MatrixCompletion, index: int, depth: int, exponent: int) -> bool:
    """Whether W leaves zero with the signs of the data, when its norm is a hundredth of theirs."""
    run = mf.gradient_flow(
        problem,
        mf.small_init(problem.shape, depth=depth, rng=[depth_map.START_SEED, depth, index]),
        log10_scale=-exponent,
        loss_tol=0.97,
        rtol=1e-5,
        max_steps=depth_map.MAX_STEPS,
    )
    size = np.linalg.norm(problem.values[problem.mask])
    left = run.W_at(run.t[np.argmax(run.singular_values[:, 0] > LEAVING * size)])
    return bool(np.all((left * problem.values)[problem.mask] > 0))


def followed(task: tuple[int, mf.MatrixCompletion, int, dict[str, Any]]) -> dict[str, Any]:
    """The run of the map and those from smaller scales, down to the first at the smallest rank."""
    index, problem, depth, row = task
    first = row["runs"][0]
    runs = [{**first, "signs": keeps_the_signs(problem, index, depth, first["exponent"])}]
    for exponent in EXPONENTS:
        run = depth_map.learned(problem, index, depth, exponent)
        runs.append({**run, "signs": keeps_the_signs(problem, index, depth, exponent)})
        if arrived(row, runs[-1]):
            break
    return {"min_rank": row["min_rank"], "runs": runs}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    population = depth_map.problems()
    tasks = {}
    for key, row in json.loads(depth_map.RESULT.read_text(encoding="utf-8"))["found"].items():
        depth, index = map(int, key.split("/"))
        kind, problem = population[index]
        if depth > 2 and kind != LEFT_OUT and not arrived(row, row["runs"][-1]):
            tasks[key] = (index, problem, depth, row)
    settings = {"exponents": list(EXPONENTS), "loss_tol": depth_map.LOSS_TOL}
    found = mf.sweep(followed, tasks, store=STORE, provenance=settings, n_jobs=1)
    stored = {"provenance": provenance("python -m studies.deep_rank_one", **settings)}
    RESULT.write_text(json.dumps({**stored, "found": found}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
