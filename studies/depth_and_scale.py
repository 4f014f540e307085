"""How deep flows approach their limit: the process without a scale, and Figures 2 and 5 of Li,
Luo & Lyu 2021 at their size; stored.

    python -m studies.depth_and_scale [--jobs 2]

About twenty minutes on two cores. `book/depth/limit.json` holds two parts. The first compares
`deep_limit` with the flow from 10^-100 on random 4×4 problems. The second is about the problem of
`studies.greedy_phases`, 20×20 data of rank 3 with the eigenvalues of the paper: for every depth,
scale and start how near the flow comes to the critical points of greedy low-rank learning, what is
left of further singular values there, when it leaves them, and where it ends; for one start of some
scales also the three quantities of Figure 2 along the way.
"""

from __future__ import annotations

import argparse
import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

import mfbook as mf
from studies.depth_map import problems
from studies.greedy_phases import PROBLEM, paper_problem
from studies.provenance import provenance
from studies.rounding import rounded

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "depth" / "limit.json"
BUILD = ROOT / "_build" / "sweeps"

SEED, STARTS = 62, 5
EXPONENTS = {2: (1, 3, 5, 7, 9, 30, 100, 300, 1000), 3: (1, 3, 5, 7), 4: (1, 3, 5, 7)}
DRAWN = ((2, 3), (2, 7), (3, 3), (3, 7), (4, 3), (4, 7))
OPTIONS = {"rtol": 1e-6, "loss_tol": 1e-14}
# Three and four factors fit the last digits of the data in a valley, for thousands of steps. They
# end there; by then the loss is about 10^-11 of its beginning.
MAX_STEPS = {2: 10_000, 3: 1200, 4: 1200}
CURVE = 120

# The first of the problems of `studies.depth_map`, its five classes in turn.
COUNT, SMALL = 10, 100


def start(seed: int, depth: int) -> tuple[np.ndarray, ...]:
    """C.1: U_i = V_i D^(1/L) V_{i+1}ᵀ, V_{L+1} = V_1, ‖D‖_F = 1; U = V_1 D^½ at depth two.

    V_1 and D are those of the seed at every depth, and so is W(0) = V_1 D V_1ᵀ.
    """
    rng = np.random.default_rng([SEED, seed])
    D = np.abs(rng.standard_normal(20))
    D /= np.linalg.norm(D)
    V = [np.linalg.qr(rng.standard_normal((20, 20)))[0] for _ in range(depth)]
    if depth == 2:
        return (V[0] * np.sqrt(D),)
    return tuple((V[i] * D ** (1 / depth)) @ V[(i + 1) % depth].T for i in range(depth))


def layered(problem: mf.SymmetricCompletion) -> mf.MatrixCompletion:
    return mf.MatrixCompletion(problem.values, problem.mask, loss="half", truth=problem.truth)


@cache
def critical_points() -> list[np.ndarray]:
    """Those of greedy low-rank learning; the last is the truth."""
    problem = paper_problem(PROBLEM)
    path = mf.deep_glrl(layered(problem), 3, max_rank=2, rtol=1e-7)
    return [*path.critical_points, problem.truth]


def nearest(run: mf.Trajectory, point: np.ndarray, r: int) -> tuple[float, float]:
    """The least distance of the run from a point, and its r-low-rankness there."""
    k = int(np.argmin([np.linalg.norm(run.W_at(t) - point) for t in run.t]))
    around = np.linspace(run.t[max(k - 1, 0)], run.t[min(k + 1, len(run.t) - 1)], 41)
    states = [run.W_at(t) for t in around]
    k = int(np.argmin([np.linalg.norm(W - point) for W in states]))
    return rounded(np.linalg.norm(states[k] - point)), rounded(mf.low_rankness(states[k], r))


def passes(problem: mf.MatrixCompletion, run: mf.Trajectory, level: float) -> float:
    """The first time at which the loss is down to a level."""
    k = int(np.flatnonzero(run.loss <= level)[0])
    return brentq(lambda t: problem.loss_value(run.W_at(t)) - level, run.t[k - 1], run.t[k])


def study(task: tuple[int, int, int]) -> dict:
    depth, exponent, seed = task
    symmetric = paper_problem(PROBLEM)
    problem = layered(symmetric)
    points = critical_points()
    run = mf.gradient_flow(
        symmetric if depth == 2 else problem,
        start(seed, depth),
        log10_scale=-exponent / depth,
        max_steps=MAX_STEPS[depth],
        **OPTIONS,
    )
    near = [nearest(run, W, r) for r, W in enumerate(points)][1:]
    losses = [problem.loss_value(W) for W in points]
    half = [(a + b) / 2 for a, b in itertools.pairwise(losses)]
    found = {
        "near": [distance for distance, _ in near],
        "left": [low for _, low in near],
        "steps": [rounded(passes(problem, run, level), 6) for level in half],
        "end": rounded(np.linalg.norm(run.W - symmetric.truth)),
        "end_left": rounded(mf.low_rankness(run.W, 3)),
        "reason": run.reason,
    }
    if seed == 0 and (depth, exponent) in DRAWN:
        chosen = np.unique(np.linspace(0, len(run.t) - 1, CURVE).astype(int))
        states = [run.W_at(run.t[k]) for k in chosen]
        away = [[np.linalg.norm(W - V) for V in points] for W in states]
        found["t"] = [rounded(t) for t in run.t[chosen]]
        found["distance"] = [rounded(min(row), 3) for row in away]
        found["gradient"] = [rounded(x, 3) for x in run.gradient_norm[chosen]]
        found["low_rankness"] = [
            rounded(mf.low_rankness(W, int(np.argmin(row)) + 1), 3)
            for W, row in zip(states, away, strict=True)
        ]
    return found


def process(task: tuple[int, int]) -> dict:
    """One problem at one depth: `deep_limit`, and the flow from 10^-100 beside it."""
    depth, index = task
    kind, problem = problems()[index]
    layers = mf.small_init(problem.shape, depth=depth, rng=[SEED, depth, index])
    limit = mf.deep_limit(problem, layers)
    run = mf.gradient_flow(problem, layers, log10_scale=-SMALL, loss_tol=1e-16)
    size = np.nanmax(np.abs(problem.values))
    # A phase of the run may be a saddle inside a set of one rank, which takes no time here.
    arrivals = [10 ** (p.log10_arrival - SMALL * (depth - 2)) for p in run.phases[1:]]
    sums = np.cumsum(limit.waiting_times)
    return {
        "class": kind,
        "limit": limit.reason,
        "flow": run.reason,
        "ranks": list(limit.ranks),
        "apart": rounded(np.abs(run.W - limit.W).max() / size, 2),
        "delays": [rounded(min((abs(t / s - 1) for t in arrivals), default=1.0), 2) for s in sums],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    setting = {"problem": PROBLEM, "seed": SEED, "starts": STARTS, **OPTIONS}
    tasks = {
        f"{depth} {e} {seed}": (depth, e, seed)
        for depth, exponents in EXPONENTS.items()
        for e in exponents
        for seed in range(STARTS)
    }
    runs = mf.sweep(
        study,
        tasks,
        store=BUILD / "depth_and_scale.jsonl",
        provenance=setting,
        n_jobs=jobs,
    )
    small = {"count": COUNT, "seed": SEED, "exponent": SMALL}
    population = mf.sweep(
        process,
        {f"{depth} {k}": (depth, k) for depth in (3, 4) for k in range(COUNT)},
        store=BUILD / "deep_process.jsonl",
        provenance=small,
        n_jobs=jobs,
    )
    stored = {
        "provenance": provenance(
            "python -m studies.depth_and_scale",
            process=small,
            figures={**setting, "max_steps": MAX_STEPS},
        ),
        "process": population,
        "critical_points": [
            [rounded(x, 8) for x in np.linalg.eigvalsh(W)[:-4:-1]] for W in critical_points()
        ],
        "runs": runs,
    }
    text = json.dumps(stored).replace('{"near"', '\n{"near"').replace('{"class"', '\n{"class"')
    RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
