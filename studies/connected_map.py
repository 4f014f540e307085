"""Follow a population of connected problems from five scales, once, and store what they learn.

    python -m studies.connected_map [--jobs 2] [--count 40]

Long (the seconds of every instance are in the result), so it goes through `mf.sweep`: a
killed run is continued by the same command. `book/bias/connected_map.json` holds the result
with its provenance; the chapter that reads it computes a part of it again. `LEGEND` says what
the columns are.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import numpy as np

import mfbook as mf
from mfbook.rivals.levenberg import Batch, EntryFit, at, descent
from studies.provenance import provenance, versions
from studies.rounding import rounded

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "bias" / "connected_map.json"
STORE = ROOT / "_build" / "sweeps" / "connected_map.jsonl"
SETTLED = ROOT / "_build" / "sweeps" / "connected_map_settled.jsonl"
EXPONENTS = (8, 16, 100, 1000, 10_000)
SEED, START_SEED, COUNT = 2024, 7, 40
MAX_STEPS = 5000
# Three digits of W(t) settle a rank, at under half the steps of the default.
RTOL = 1e-4
# The exponent at which the saddles are recorded: what has not been learned is far away there.
PHASES_AT = 1000
STARTS, FIRST, SECOND, LAST = 96, 100, 200, 600

LEGEND = {
    "index": "number of the problem in mf.populations.connected_population(count, seed)",
    "triple": "n, rank of the truth, observed entries",
    "vertices": "rows and columns with an observed entry",
    "cycles": "independent cycles of the observation graph; 0 is a tree",
    "min_rank": "smallest rank found, and smallest rank not excluded, by mf.min_rank",
    "sigma": "learned singular values, a list for each exponent; 0 below 1e-14 of the largest",
    "converged": "whether the run reached its loss tolerance, for each exponent",
    "loss": "at the end of the run, for each exponent",
    "phases": "of the run at phases_at, without the start: learned rank, loss, rate of escape "
    "(null at the end point), largest entry of W over the largest observed",
    "best": "for k = 1 … rank − 1: lowest loss found among matrices of rank k, largest entry of "
    "that matrix over the largest observed, relative fall of the loss over the last third of the "
    "search (0: at rest), number of the better half of the starts within 1e-6 of it",
    "settled": "only where a saddle of rank k ≤ the truth's has more than the lowest loss of its "
    "rank: for each of these phases its number in phases, and loss, largest entry and relative "
    "fall as in best, after a descent in rank k from where the run was",
    "seconds": "five runs, and the search",
}


def learned(problem: mf.MatrixCompletion, index: int, exponent: int) -> mf.Trajectory:
    start = mf.small_init(problem.shape, rng=[START_SEED, index])
    return mf.gradient_flow(problem, start, log10_scale=-exponent, rtol=RTOL, max_steps=MAX_STEPS)


def spectrum(sigma: np.ndarray) -> list[float]:
    """Six digits of what is learned, two of the rest, which is a size and no more."""
    top = sigma[0]
    return [
        0.0 if s < 1e-14 * top else rounded(s, 6 if s > 1e-6 * top else 2)
        for s in map(float, sigma)
    ]


def phases(run: mf.Trajectory, size: float) -> list[list]:
    """The rests of a run but the first, which is at zero; ranks count what has been learned."""
    scale = 1e-9 * run.singular_values[-1, 0]
    return [
        [
            int((np.linalg.svd(phase.W, compute_uv=False) > scale).sum()),
            rounded(phase.loss, 10),
            None if phase.rate is None else rounded(phase.rate, 4),
            rounded(np.abs(phase.W).max() / size, 4),
        ]
        for phase in run.phases[1:]
    ]


class Search:
    """Levenberg–Marquardt on factors of width k, from many starts at once.

    It shares nothing with the flow engine: the best loss among matrices of rank k is what the
    saddles of a run are held against.
    """

    def __init__(self, problem: mf.MatrixCompletion, k: int) -> None:
        self.shape, self.k = problem.shape, k
        self.fit = EntryFit(problem.mask, problem.values, k)
        self.filled = np.where(problem.mask, problem.values, 0.0)
        self.size = float(np.abs(self.fit.target).max())

    def starts(self, count: int, rng) -> tuple[np.ndarray, np.ndarray]:
        """Gaussian factors of three sizes, and the zero-filled data's best approximation."""
        (m, n), k = self.shape, self.k
        size = np.sqrt(np.abs(self.fit.target).mean())
        size = size * np.resize([0.1, 1.0, 3.0], count)[:, None, None]
        A = size * rng.standard_normal((count, m, k))
        B = (size * rng.standard_normal((count, n, k))).transpose(0, 2, 1)
        A[0], B[0] = truncated(self.filled, k)
        for i in range(1, count // 4):
            # The same after giving the entries random weights.
            A[i], B[i] = truncated(self.filled * np.exp(rng.standard_normal(self.shape)), k)
        return A, B

    def begin(self, A, B, damping: float) -> Batch:
        return at(self.fit, A, B, damping)

    def descend(self, batch: Batch, steps: int) -> Batch:
        """At most `steps` steps for each start; fewer once all are at rest."""
        rest = 0
        for after in islice(descent(self.fit, batch), steps):
            fall = np.maximum(1 - after.tried / np.maximum(batch.loss, 1e-300), 0.0)
            fits = after.tried < 1e-26 * self.size**2 * len(self.fit.target)
            rest = rest + 1 if ((fall < 1e-13) | fits).all() else 0
            batch = after
            if rest >= 12:
                break
        return batch

    def best(self, rng) -> list:
        """Lowest loss, largest entry, how much it still fell, and how many starts came there."""
        batch = self.descend(self.begin(*self.starts(STARTS, rng), 0.1 * self.size), FIRST)
        batch = batch.chosen(np.argsort(batch.loss)[: STARTS // 2])
        batch = self.descend(batch, SECOND)
        count = int((batch.loss <= batch.loss.min() * (1 + 1e-6)).sum())
        batch = self.descend(batch.chosen(np.argsort(batch.loss)[:4]), LAST)
        return [*self.lowest(batch), count]

    def lowest(self, batch: Batch) -> list[float]:
        """Lowest loss, largest entry, and how much the loss still fell, after some more steps."""
        after = self.descend(batch, LAST // 2)
        i = int(after.loss.argmin())
        fall = 0.0 if batch.loss[i] == 0 else 1 - after.loss[i] / batch.loss[i]
        size = rounded(np.abs(after.A[i] @ after.B[i]).max() / self.size, 4)
        mean = after.loss[i] / len(self.fit.target)
        return [rounded(mean, 10), size, rounded(max(fall, 0.0), 2)]


def truncated(W: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Balanced factors of the best approximation of rank k."""
    U, s, Vt = np.linalg.svd(W)
    root = np.sqrt(s[:k])
    return U[:, :k] * root, root[:, None] * Vt[:k]


def row(task: tuple[int, mf.MatrixCompletion, tuple[int, int, int]]) -> dict:
    index, problem, triple = task
    started = time.perf_counter()
    runs = {exponent: learned(problem, index, exponent) for exponent in EXPONENTS}
    searching = time.perf_counter()
    graph = mf.observation_graph(problem.mask)
    smallest = mf.min_rank(problem)
    rng = np.random.default_rng([SEED, index, 1])
    size = float(np.nanmax(np.abs(problem.values)))
    return {
        "index": index,
        "triple": list(triple),
        "vertices": len(graph),
        "cycles": graph.number_of_edges() - len(graph) + 1,
        "min_rank": [smallest.rank, smallest.lower_bound],
        "sigma": [spectrum(run.singular_values[-1]) for run in runs.values()],
        "converged": [bool(run.converged) for run in runs.values()],
        "loss": [rounded(run.loss[-1], 2) for run in runs.values()],
        "phases": phases(runs[PHASES_AT], size),
        "best": [Search(problem, k).best(rng) for k in range(1, triple[1])],
        "seconds": [
            round(searching - started, 2),
            round(time.perf_counter() - searching, 2),
        ],
    }


def short_of_best(row: dict) -> list[int]:
    """The saddles whose loss is more than the lowest of their rank, by more than 1e-6 of it."""
    lowest = [best[0] for best in row["best"]] + [0.0]
    return [
        number
        for number, (k, loss, *_) in enumerate(row["phases"][:-1])
        if 1 <= k <= row["triple"][1] and loss > lowest[k - 1] * (1 + 1e-6)
    ]


def settle(task: tuple[int, mf.MatrixCompletion, list[int]]) -> list[list]:
    """Where a descent in rank k comes from the saddles `numbers`: another minimum, or creeping?"""
    index, problem, numbers = task
    visited = learned(problem, index, PHASES_AT).phases[1:]
    found = []
    for number in numbers:
        W = visited[number].W
        k = mf.numerical_rank(W, rtol=1e-9)
        search = Search(problem, k)
        A, B = truncated(W, k)
        # Heavily damped at first, so that it begins where the flow was heading.
        batch = search.descend(search.begin(A[None], B[None], 10 * search.size), 4 * LAST)
        found.append([number, *search.lowest(batch)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--count", type=int, default=COUNT, help="problems of each triple")
    parser.add_argument("--first", type=int, help="only the first problems, and no result file")
    options = parser.parse_args()
    problems, triples = mf.populations.connected_population(options.count, SEED)
    tasks = {
        str(index): (index, problem, triple)
        for index, (problem, triple) in enumerate(zip(problems, triples, strict=True))
    }
    if options.first:
        tasks = {key: tasks[key] for key in list(tasks)[: options.first]}
    settings = {
        "population_seed": SEED,
        "start_seed": START_SEED,
        "exponents": EXPONENTS,
        "rtol": RTOL,
        "max_steps": MAX_STEPS,
        "phases_at": PHASES_AT,
        "search": {"starts": STARTS, "steps": [FIRST, SECOND, LAST, LAST // 2]},
        **versions(),
    }
    rows = mf.sweep(row, tasks, store=STORE, provenance=settings, n_jobs=options.jobs)
    if options.first:
        return
    short = {
        key: (*tasks[key][:2], numbers)
        for key, found in rows.items()
        if (numbers := short_of_best(found))
    }
    settled = mf.sweep(settle, short, store=SETTLED, provenance=settings, n_jobs=options.jobs)
    for key, found in settled.items():
        rows[key]["settled"] = found
    origin = provenance("python -m studies.connected_map", count=options.count, **settings)
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows.values())
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(
        f'{{"provenance": {json.dumps(origin)},\n"legend": {json.dumps(LEGEND)},\n'
        f'"rows": [\n{lines}\n]}}\n'
    )


if __name__ == "__main__":
    main()
