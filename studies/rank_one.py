"""Hold what the flow learns on connected data of rank 1 against the truth, once, and store it.

    python -m studies.rank_one [--jobs 2]

Some minutes on two cores. The problems are those of rank 1 in the population of
`studies.connected_map`, from the same starts. There the runs end at a loss of 1e-10, which
leaves entries that the loss hardly sees unsettled; here they go on to 1e-20.
`book/bias/rank_one.json` holds the distances with their provenance; the chapter that reads it
computes a part of them again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import mfbook as mf
from studies.connected_map import COUNT, MAX_STEPS, RTOL, SEED, START_SEED
from studies.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "bias" / "rank_one.json"
STORE = ROOT / "_build" / "sweeps" / "rank_one.jsonl"
EXPONENT, LOSS_TOL = 10_000, 1e-20


def distance(task: tuple[int, mf.MatrixCompletion]) -> float:
    """Largest error on the observed rows and columns, over the largest entry there."""
    index, problem = task
    run = mf.gradient_flow(
        problem,
        mf.small_init(problem.shape, rng=[START_SEED, index]),
        log10_scale=-EXPONENT,
        rtol=RTOL,
        max_steps=MAX_STEPS,
        loss_tol=LOSS_TOL,
    )
    if not run.converged:
        raise RuntimeError(f"the run of problem {index} did not converge: {run.reason}")
    seen = np.ix_(problem.mask.any(axis=1), problem.mask.any(axis=0))
    truth = problem.truth[seen]
    return float(f"{np.abs(run.W[seen] - truth).max() / np.abs(truth).max():.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    problems, triples = mf.populations.connected_population(COUNT, SEED)
    tasks = {
        str(index): (index, problem)
        for index, (problem, (_, rank, _)) in enumerate(zip(problems, triples, strict=True))
        if rank == 1
    }
    settings = {
        "population_seed": SEED,
        "start_seed": START_SEED,
        "count": COUNT,
        "exponent": EXPONENT,
        "loss_tol": LOSS_TOL,
        "rtol": RTOL,
        "max_steps": MAX_STEPS,
    }
    found = mf.sweep(distance, tasks, store=STORE, provenance=settings, n_jobs=jobs)
    stored = {
        "provenance": provenance("python -m studies.rank_one", **settings),
        "distance": found,
    }
    RESULT.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
