"""Complete small and middle-sized matrices by the flow and by its rivals, once, and store it.

    python -m studies.rivals [--jobs 2]

About half an hour on two busy cores; it goes through `mf.sweep`, so that a killed run is continued
by the same command. `book/greedy/rivals.json` holds the result with its provenance; the chapter
that reads it computes a part of it again. `LEGEND` says what it holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from studies.provenance import provenance, versions

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "greedy" / "rivals.json"
STORES = ROOT / "_build" / "sweeps"

SEED = 2015
# 4×4 problems of each kind of connectivity, and the start of the flow.
COUNTS = {"connected": 216, "disconnected": 54, "complete-bipartite": 54}
EXPONENT = 1000
# The paper's truth: its eigenvalues; and how much of it is observed.
D, EIGENVALUES = 20, (17.41, 8.85, 4.31)
SHARES, DRAWS = (0.25, 0.3, 0.35, 0.4, 0.5, 0.6), 16
# So many draws at 0.25 are looked through for those that determine the truth.
LOOKED_THROUGH = 400
# Where a phase runs away, so many steps or sweeps are waited for, at 4×4 and at 20×20.
STEPS, SWEEPS = (3000, 1000), (10_000, 500)

LEGEND = {
    "small": "a list for each problem: kind of connectivity, number, smallest rank, then for each "
    "of methods the rank of W, None where it does not fit",
    "middle": "share p → a list for each draw: number, observed pairs, rank of the Jacobian at the "
    "truth, then method → relative squared test error (for r1mp and geco after each atom)",
    "determined": "number, observed pairs, ranks of GLRL and relative squared test error, for the "
    "draws at p = 0.25 whose Jacobian has the full rank 57",
}


def small_problem(kind: str, number: int) -> mf.MatrixCompletion:
    """A 4×4 problem of rank 1 to 3 without an empty row or column."""
    rng = np.random.default_rng([SEED, list(COUNTS).index(kind), number])
    truth = mf.populations.random_low_rank(rng, (4, 4), 1 + number % 3)
    while True:
        mask = (
            mf.populations.random_block_mask(rng, 4)
            if kind == "complete-bipartite"
            else mf.populations.random_mask(rng, (4, 4), int(rng.integers(5, 16)))
        )
        whole = mask.any(axis=0).all() and mask.any(axis=1).all()
        if whole and mf.connectivity(mask) == kind:
            return mf.MatrixCompletion(truth, mask, truth=truth)


def small_answers(problem: mf.MatrixCompletion, number: int) -> dict[str, Any]:
    """What every method says to a 4×4 problem, with the threshold of its rank."""
    start = mf.small_init(problem.shape, rng=[SEED, number])
    steps, sweeps = STEPS[0], SWEEPS[0]
    return {
        "flow": mf.gradient_flow(problem, start, log10_scale=-EXPONENT, max_steps=steps),
        "glrl": mf.glrl(problem, max_steps=steps),
        "als": mf.alternating_least_squares(problem, max_sweeps=sweeps),
        "r1mp": mf.rank_one_matrix_pursuit(problem, 16),
        "economic": mf.rank_one_matrix_pursuit(problem, 100, economic=True),
        "geco": mf.geco(problem, 7),
        "nuclear": mf.min_nuclear_norm(problem),
    }


def rank_that_fits(problem: mf.MatrixCompletion, method: str, W: np.ndarray) -> int | None:
    """The rank of W, or None where it misses the data by more than 1e-5 of their length."""
    missing = np.linalg.norm(problem.residual(W)) / np.linalg.norm(problem.targets)
    # A solver's singular values are known to about the root of its gap.
    rank = mf.numerical_rank(W, rtol=1e-4 if method == "nuclear" else 1e-6)
    return int(rank) if missing <= 1.001e-5 else None


def small_row(task: tuple[str, int]) -> list:
    problem = small_problem(*task)
    answers = small_answers(problem, task[1])
    smallest = mf.min_rank(problem)
    ranks = [rank_that_fits(problem, method, answer.W) for method, answer in answers.items()]
    return [*task, int(smallest.rank) if smallest.proven else None, *ranks]


def middle_problem(share: float, number: int) -> mf.SymmetricCompletion:
    """The paper's truth in a random basis, each pair of entries observed with probability share."""
    rng = np.random.default_rng([SEED, 3, number])
    Q = np.linalg.qr(rng.standard_normal((D, D)))[0][:, : len(EIGENVALUES)]
    truth = (Q * EIGENVALUES) @ Q.T
    upper = np.triu(rng.random((D, D)) < share)
    return mf.SymmetricCompletion(truth, upper | upper.T, truth=(truth + truth.T) / 2)


def determined(problem: mf.SymmetricCompletion) -> tuple[int, int]:
    """The number of observed pairs, and the rank of their Jacobian after U at the truth U Uᵀ."""
    values, vectors = np.linalg.eigh(problem.truth)
    r = len(EIGENVALUES)
    U = vectors[:, -r:] * np.sqrt(values[-r:])
    i, j = np.nonzero(np.triu(problem.mask))
    J = np.zeros((len(i), D, r))
    J[np.arange(len(i)), i] += U[j]
    J[np.arange(len(i)), j] += U[i]
    return len(i), int(np.linalg.matrix_rank(J.reshape(len(i), -1), rtol=1e-9))


def two_factors(problem: mf.SymmetricCompletion) -> mf.MatrixCompletion:
    """The same data for W = A B."""
    return mf.MatrixCompletion(problem.values, problem.mask, loss="half", truth=problem.truth)


def middle_answers(problem: mf.SymmetricCompletion, number: int) -> dict[str, Callable[[], Any]]:
    """What every method says to a 20×20 problem."""
    start = mf.small_init(problem, rng=[SEED, number])
    steps, sweeps = STEPS[1], SWEEPS[1]

    def flow(exponent: float) -> mf.Trajectory:
        return mf.gradient_flow(problem, start, log10_scale=-exponent, rtol=1e-4, max_steps=steps)

    return {
        "flow 1e-2": lambda: flow(2),
        "flow 1e-100": lambda: flow(100),
        "glrl": lambda: mf.glrl(problem, max_steps=steps, rtol=1e-4),
        "als": lambda: mf.alternating_least_squares(two_factors(problem), 3, max_sweeps=sweeps),
        "r1mp": lambda: mf.rank_one_matrix_pursuit(problem, 100),
        "geco": lambda: mf.geco(problem, 20),
        "nuclear": lambda: mf.min_nuclear_norm(problem),
    }


def error(problem: mf.SymmetricCompletion, W: np.ndarray) -> float:
    return float(f"{mf.reconstruction_error(W, problem.truth):.3g}")


def middle_row(task: tuple[float, int]) -> list:
    problem = middle_problem(*task)
    found: dict[str, Any] = {}
    for method, solve in middle_answers(problem, task[1]).items():
        answer = solve()
        along = method in ("r1mp", "geco")
        found[method] = (
            [error(problem, W) for W in answer.critical_points[1:]]
            if along
            else error(problem, answer.W)
        )
    return [task[1], *determined(problem), found]


def determined_row(number: int) -> list:
    problem = middle_problem(0.25, number)
    path = mf.glrl(problem, max_steps=2 * STEPS[1])
    return [number, determined(problem)[0], list(path.ranks), error(problem, path.W)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    settings = {
        "seed": SEED,
        "counts": COUNTS,
        "exponent": EXPONENT,
        "eigenvalues": EIGENVALUES,
        "shares": SHARES,
        "draws": DRAWS,
        "looked_through": LOOKED_THROUGH,
        "steps": STEPS,
        "sweeps": SWEEPS,
        **versions(),
    }

    def swept(function: Callable[[Any], list], tasks: dict[str, Any]) -> list[list]:
        store = STORES / f"rivals_{function.__name__}.jsonl"
        found = mf.sweep(function, tasks, store=store, provenance=settings, n_jobs=jobs)
        return list(found.values())

    small = swept(
        small_row,
        {f"{kind} {k}": (kind, k) for kind, count in COUNTS.items() for k in range(count)},
    )
    middle = {
        str(share): swept(middle_row, {f"{share} {k}": (share, k) for k in range(DRAWS)})
        for share in SHARES
    }
    lucky = [
        k for k in range(LOOKED_THROUGH) if determined(middle_problem(0.25, k))[1] == 3 * D - 3
    ]
    rows = swept(determined_row, {str(k): k for k in lucky})
    stored = {
        "provenance": provenance("python -m studies.rivals", **settings),
        "legend": LEGEND,
        "methods": list(small_answers(small_problem("connected", 0), 0)),
        "small": small,
        "middle": middle,
        "determined": rows,
    }
    RESULT.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
