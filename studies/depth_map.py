"""What two, three and four factors learn from random 4×4 data of five classes, once, and store it.

    python -m studies.depth_map [--jobs 2]

Half an hour on two cores. A thousand problems, 200 a class, the same for every depth: two factors
from 10^-1000, where the time is a logarithm of the scale; three and four from 10^-6. Those of
three and four that do not end at the smallest rank are followed to 10^-12 and to 10^-30, but not if
W grows beyond all bounds; `studies.deep_rank_one` goes on where a theorem says that it must not.
`book/depth/depth_map.json` holds ranks, singular values and reasons with their provenance; the
chapter that reads it computes a part of them again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from mfbook.flow.trajectory import LOSS_REACHED, UNBOUNDED
from mfbook.problems.populations import CLASSES, problem_of_class
from studies.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "depth" / "depth_map.json"
STORE = ROOT / "_build" / "sweeps" / "depth_map.jsonl"
COUNT, SEED, START_SEED = 1000, 31, 32
EXPONENTS = {2: (1000,), 3: (6, 12, 30), 4: (6, 12, 30)}
# The loss at the end, and what counts as a singular value, as shares of the data.
LOSS_TOL, SEEN = 1e-12, 1e-3
MAX_STEPS = 20_000


def problems() -> list[tuple[str, mf.MatrixCompletion]]:
    """The classes in turn."""
    rng = np.random.default_rng(SEED)
    kinds = list(CLASSES) * (COUNT // len(CLASSES))
    return [(kind, problem_of_class(rng, kind, loss="half")) for kind in kinds]


def learned(problem: mf.MatrixCompletion, index: int, depth: int, exponent: int) -> dict[str, Any]:
    """The end of one run: its rank, its singular values over the data's size, the reason."""
    run = mf.gradient_flow(
        problem,
        mf.small_init(problem.shape, depth=depth, rng=[START_SEED, depth, index]),
        log10_scale=-exponent,
        loss_tol=LOSS_TOL,
        rtol=1e-5,
        max_steps=MAX_STEPS,
    )
    sigma = run.singular_values[-1] / np.nanmax(np.abs(problem.values))
    return {
        "exponent": exponent,
        "rank": int((sigma > SEEN).sum()),
        "sigma": [float(f"{s:.2g}") for s in sigma],
        "reason": run.reason,
    }


def followed(task: tuple[int, mf.MatrixCompletion, int]) -> dict[str, Any]:
    """The runs of one problem at one depth, down to the first scale at the smallest rank."""
    index, problem, depth = task
    smallest = mf.min_rank(problem)
    runs: list[dict[str, Any]] = []
    for exponent in EXPONENTS[depth]:
        runs.append(learned(problem, index, depth, exponent))
        arrived = runs[-1]["reason"] == LOSS_REACHED and runs[-1]["rank"] <= smallest.rank
        # Such runs take long. A smaller start may end elsewhere, see studies.deep_rank_one.
        if arrived or runs[-1]["reason"] == UNBOUNDED:
            break
    return {"min_rank": smallest.rank, "proof": smallest.proof != "not proven", "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    tasks = {
        f"{depth}/{index}": (index, problem, depth)
        for depth in EXPONENTS
        for index, (_, problem) in enumerate(problems())
    }
    settings = {
        "classes": list(CLASSES),
        "count": COUNT,
        "population_seed": SEED,
        "start_seed": START_SEED,
        "loss_tol": LOSS_TOL,
        "seen": SEEN,
        "max_steps": MAX_STEPS,
    }
    found = mf.sweep(followed, tasks, store=STORE, provenance=settings, n_jobs=jobs)
    stored = {"provenance": provenance("python -m studies.depth_map", **settings), "found": found}
    RESULT.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
