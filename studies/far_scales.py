"""Follow the problems of Figure 1 from 10^-1000 and 10^-10000, once, and store what they learn.

    python -m studies.far_scales [--jobs 2]

About ten minutes on two cores, too long for a chapter. `book/data/far_scales.json` holds
the result with its provenance; the chapter that reads it computes a part of it again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

import mfbook as mf
from studies.provenance import provenance

STORE = Path(__file__).resolve().parents[1] / "book" / "data" / "far_scales.json"
EXPONENTS = (1000, 10_000)
POPULATION_SEED, START_SEED, PER_SIZE = 2024, 0, 100
MAX_STEPS, LOSS_TOL = 5000, 1e-14


def learned_spectrum(problem: mf.MatrixCompletion, exponent: int) -> tuple[list[float], bool]:
    """The singular values that are learned from 10^-exponent, and whether the run converged."""
    start = mf.small_init(problem.shape, rng=START_SEED)
    run = mf.gradient_flow(
        problem, start, log10_scale=-exponent, max_steps=MAX_STEPS, loss_tol=LOSS_TOL
    )
    # Nine digits: the rest is the tolerance of the run.
    return [float(f"{s:.9g}") for s in run.singular_values[-1]], run.converged


def row(index: int, problem: mf.MatrixCompletion) -> dict:
    found = [learned_spectrum(problem, exponent) for exponent in EXPONENTS]
    return {
        "index": index,
        "singular_values": [spectrum for spectrum, _ in found],
        "converged": [converged for _, converged in found],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    problems, _ = mf.populations.figure_1_population(
        PER_SIZE, np.random.default_rng(POPULATION_SEED)
    )
    linked = [k for k, p in enumerate(problems) if mf.connectivity(p.mask) == "connected"]
    rows = Parallel(n_jobs=jobs, verbose=5)(delayed(row)(k, problems[k]) for k in linked)
    origin = provenance(
        "python -m studies.far_scales",
        population_seed=POPULATION_SEED,
        start_seed=START_SEED,
        per_size=PER_SIZE,
        exponents=EXPONENTS,
        max_steps=MAX_STEPS,
        loss_tol=LOSS_TOL,
    )
    lines = ",\n".join(json.dumps(r) for r in rows)
    STORE.write_text(f'{{"provenance": {json.dumps(origin)},\n"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
