"""Hold the closed form of the limit against the flow on hundreds of problems, once, and store it.

    python -m studies.seed_limits [--jobs 2]

Some minutes on two cores. `book/bias/seed_limits.json` holds the distances with their
provenance; the chapter that reads it computes a part of them again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import mfbook as mf
from studies.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "bias" / "seed_limits.json"
STORE = ROOT / "_build" / "sweeps" / "seed_limits.jsonl"
SEED, COUNT, EXPONENT = 2024, 300, 10_000


def instance(index: int):
    """Problem number `index` and its start."""
    rng = np.random.default_rng([SEED, index])
    problem = mf.populations.random_block_problem(rng)
    return problem, mf.small_init(problem.shape, rng=rng, width=max(problem.shape))


def distance(index: int) -> float:
    """Largest entry of the difference between closed form and flow, over the largest entry."""
    problem, start = instance(index)
    run = mf.gradient_flow(problem, start, log10_scale=-EXPONENT, loss_tol=1e-22)
    if not run.converged:
        raise RuntimeError(f"the run of problem {index} did not converge: {run.reason}")
    predicted = mf.disconnected_limit(problem, start)
    return float(f"{np.abs(run.W - predicted).max() / np.abs(predicted).max():.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    settings = {"seed": SEED, "count": COUNT, "exponent": EXPONENT}
    found = mf.sweep(
        distance,
        [(str(k), k) for k in range(COUNT)],
        store=STORE,
        provenance=settings,
        n_jobs=jobs,
    )
    stored = {
        "provenance": provenance("python -m studies.seed_limits", **settings),
        "distance": list(found.values()),
    }
    RESULT.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
