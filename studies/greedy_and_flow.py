"""Hold greedy low-rank learning against the flow on a population, once, and store where they end.

    python -m studies.greedy_and_flow [--jobs 2] [--count 20]

`book/greedy/greedy_and_flow.json` holds the result with its provenance; the chapter that reads it
computes a part of it again. A killed run is continued by the same command. `LEGEND` says what the
columns are.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np

import mfbook as mf
from mfbook.flow.trajectory import STEP_LIMIT
from studies.provenance import provenance, versions
from studies.rounding import rounded

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "greedy" / "greedy_and_flow.json"
STORE = ROOT / "_build" / "sweeps" / "greedy_and_flow.jsonl"
SETTLED = ROOT / "_build" / "sweeps" / "greedy_and_flow_settled.jsonl"
SEED, START_SEED, COUNT = 2021, 9, 28
SIZES = (3, 4, 5)
EXPONENTS = (1000, 10_000)
# Followed once more where the greedy path arrives and the flow from the smallest of these does not
# end there.
FURTHER = 100_000
APART = 1e-3
LOSS_TOL = 1e-14
# A phase that runs to infinity takes thousands of steps before rounding hides its motion.
MAX_STEPS, MORE_STEPS = 3000, 30_000

LEGEND = {
    "key": "'AB' or 'UUT', and the number of the problem in its population",
    "triple": "n, rank of the truth, number of observed entries (pairs, for UUT)",
    "greedy": "why mf.glrl stopped, its ranks, the largest entry of its last W over the largest "
    "observed one, and the growth of W and the loss over the last tenfold of time",
    "rates": "for W_0, W_1, … up to the last but one: second rate of escape over the first",
    "inside": "for W_1, …: least eigenvalue of the Hessian of the loss in the r hidden columns of "
    "phase r, over the largest observed entry",
    "lengths": "for each greedy phase: the time from where half of its loss is gone until W is "
    "within 1e-3 of its end; the whole time of a phase without an end",
    "settled": "only where mf.glrl stopped at its step limit: as greedy, with ten times the steps",
    "flow": "for each exponent: why the flow stopped and when, its rank (singular values above "
    "1e-6 of the largest), its largest entry, its distance from the greedy W over the norm of the "
    "data",
    "first": "where they are apart, of the run from the smallest scale: the number r of the first "
    "rest that is further than 1e-3 from W_r, the rank there, the distance, and the second rate "
    "over the first at the rest before",
    "seconds": "of greedy learning and of the flows",
}


def symmetric_problem(rng, d: int, rank: int, size: int) -> mf.SymmetricCompletion:
    """Truth V Vᵀ with a Gaussian d×r matrix V, `size` pairs i ≤ j, connected on all d indices."""
    V = rng.standard_normal((d, rank))
    pairs = list(itertools.combinations_with_replacement(range(d), 2))
    while True:
        mask = np.zeros((d, d), dtype=bool)
        for i, j in (pairs[p] for p in rng.permutation(len(pairs))[:size]):
            mask[i, j] = mask[j, i] = True
        problem = mf.SymmetricCompletion(V @ V.T, mask)
        if mask.any(axis=0).all() and len(mf.components(problem)) == 1:
            return problem


def population(count: int) -> dict[str, tuple]:
    """Key → problem and triple, for both models; a smaller population is a part of a larger one.

    Of two factors those of `connected_population` that are 3×3 to 5×5, `count` of each triple. For
    U Uᵀ as many of each (d, r, size) with d from 3 to 5, r < d, and as many pairs as a matrix of
    rank r has unknowns, dr − r(r−1)/2, or one more.
    """
    tasks = {}
    for k, (problem, triple) in enumerate(
        zip(*mf.populations.connected_population(count, SEED), strict=True)
    ):
        if triple[0] in SIZES:
            tasks[f"AB {k}"] = (problem, triple)
    triples = [
        (d, rank, size)
        for d in SIZES
        for rank in range(1, d)
        for size in (d * rank - rank * (rank - 1) // 2 + more for more in (0, 1))
        if size < d * (d + 1) // 2
    ]
    for k, triple in enumerate(triples * count):
        problem = symmetric_problem(np.random.default_rng([SEED, 1, k]), *triple)
        tasks[f"UUT {k}"] = (problem, triple)
    return tasks


def start_of(key: str, problem):
    name, number = key.split()
    rng = np.random.default_rng([START_SEED, name == "UUT", int(number)])
    return mf.small_init(problem, rng=rng)


def sizes(problem) -> tuple[float, float]:
    """Largest observed entry, and norm of the observed entries."""
    observed = problem.values[problem.mask]
    return float(np.abs(observed).max()), float(np.linalg.norm(observed))


def rates_at(problem, W) -> float:
    """Second rate of escape over the first, from a critical point W that is no minimum."""
    S = -problem.gradient(W)
    symmetric = isinstance(problem, mf.SymmetricCompletion)
    rates = np.linalg.eigvalsh(S)[::-1] if symmetric else np.linalg.svd(S, compute_uv=False)
    return float(rates[1] / rates[0])


def least_curvature(problem, phase: mf.Trajectory) -> float:
    """Of the loss in the hidden columns of a phase, at its end."""
    return float(np.linalg.eigvalsh(mf.hessian(problem, phase.factors, tol=np.inf))[0])


def greedy(problem, max_steps: int = MAX_STEPS) -> mf.GreedyPath:
    return mf.glrl(problem, loss_tol=LOSS_TOL, max_steps=max_steps)


def flow(problem, start, exponent: int) -> mf.Trajectory:
    return mf.gradient_flow(problem, start, log10_scale=-exponent, loss_tol=LOSS_TOL)


def ends(problem, path: mf.GreedyPath, run: mf.Trajectory) -> list:
    largest, norm = sizes(problem)
    sigma = run.singular_values[-1]
    return [
        run.reason,
        rounded(run.t[-1]),
        int((sigma > 1e-6 * sigma[0]).sum()),
        rounded(np.abs(run.W).max() / largest),
        rounded(np.linalg.norm(run.W - path.W) / norm),
    ]


def first_difference(problem, path: mf.GreedyPath, run: mf.Trajectory) -> list | None:
    """The first rest of the flow that is not the critical point of the same number."""
    _, norm = sizes(problem)
    pairs = zip(path.critical_points, run.phases, strict=False)
    for r, (W, phase) in enumerate(pairs):
        off = np.linalg.norm(phase.W - W) / norm
        if off > APART:
            return [r, phase.rank, rounded(off), rounded(rates_at(problem, run.phases[r - 1].W))]
    return None


def lengths(problem, path: mf.GreedyPath) -> list[float]:
    """How long each phase takes, not counting how long it waits for its new column."""
    _, norm = sizes(problem)
    found = []
    for run, W in zip(path.trajectories, path.critical_points[1:], strict=True):
        if run is path.trajectories[-1] and not path.converged:
            found.append(rounded(run.t[-1]))
            continue
        half = run.t[np.argmax(run.loss < 0.5 * (run.loss[0] + run.loss[-1]))]
        away = [t for t in run.t if np.linalg.norm(run.W_at(t) - W) > APART * norm]
        found.append(rounded(max(away[-1] - half, 0.0) if away else 0.0))
    return found


def last_decade(path: mf.GreedyPath) -> list[float]:
    """Factors of ‖W‖₂ and of the loss between a tenth of the time and the end of the last phase."""
    run = path.trajectories[-1]
    k = int(np.searchsorted(run.t, run.t[-1] / 10))
    sigma = run.singular_values[:, 0]
    return [rounded(sigma[-1] / sigma[k]), rounded(run.loss[-1] / run.loss[k])]


def end_of(problem, path: mf.GreedyPath) -> list:
    size = rounded(np.abs(path.W).max() / sizes(problem)[0])
    return [path.reason, list(path.ranks), size, *last_decade(path)]


def settle(problem) -> list:
    return end_of(problem, greedy(problem, MORE_STEPS))


def row(task: tuple) -> dict:
    key, problem, triple = task
    began = time.perf_counter()
    path = greedy(problem)
    largest, _ = sizes(problem)
    between = time.perf_counter()
    start = start_of(key, problem)
    runs = {exponent: flow(problem, start, exponent) for exponent in EXPONENTS}
    found = {exponent: ends(problem, path, run) for exponent, run in runs.items()}
    apart = found[EXPONENTS[-1]][-1] > APART
    if apart and path.converged:
        runs[FURTHER] = flow(problem, start, FURTHER)
        found[FURTHER] = ends(problem, path, runs[FURTHER])
    last = runs[max(runs)]
    return {
        "key": key,
        "triple": list(triple),
        "greedy": end_of(problem, path),
        "rates": [rounded(rates_at(problem, W)) for W in path.critical_points[:-1]],
        "inside": [
            rounded(least_curvature(problem, run) / largest, 2) for run in path.trajectories
        ],
        "lengths": lengths(problem, path),
        "flow": {str(exponent): end for exponent, end in found.items()},
        "first": first_difference(problem, path, last) if apart else None,
        "seconds": [
            round(between - began, 2),
            round(time.perf_counter() - between, 2),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--count", type=int, default=COUNT, help="problems of each triple")
    parser.add_argument("--first", type=int, help="only the first problems, and no result file")
    options = parser.parse_args()
    tasks = {key: (key, *task) for key, task in population(options.count).items()}
    if options.first:
        tasks = dict(itertools.islice(tasks.items(), options.first))
    settings = {
        "seed": SEED,
        "start_seed": START_SEED,
        "exponents": [*EXPONENTS, FURTHER],
        "loss_tol": LOSS_TOL,
        "max_steps": MAX_STEPS,
        **versions(),
    }
    rows = mf.sweep(row, tasks, store=STORE, provenance=settings, n_jobs=options.jobs)
    if options.first:
        return
    undecided = {
        key: tasks[key][1] for key, found in rows.items() if found["greedy"][0] == STEP_LIMIT
    }
    settings["more_steps"] = MORE_STEPS
    settled = mf.sweep(settle, undecided, store=SETTLED, provenance=settings, n_jobs=options.jobs)
    for key, end in settled.items():
        rows[key]["settled"] = end
    origin = provenance("python -m studies.greedy_and_flow", count=options.count, **settings)
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows.values())
    RESULT.write_text(
        f'{{"provenance": {json.dumps(origin)},\n"legend": {json.dumps(LEGEND)},\n'
        f'"rows": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
