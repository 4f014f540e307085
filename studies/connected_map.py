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
from pathlib import Path

import numpy as np

import mfbook as mf
from studies.provenance import provenance, versions

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


def rounded(x: float, digits: int = 6) -> float:
    return float(f"{x:.{digits}g}")


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
        (self.m, self.n), self.k = problem.shape, k
        self.rows, self.cols = np.nonzero(problem.mask)
        self.target = problem.values[self.rows, self.cols]
        self.size = float(np.abs(self.target).max())
        entry = np.arange(len(self.rows))[:, None]
        self.places = (
            (entry, self.rows[:, None] * k + np.arange(k)),
            (entry, self.m * k + self.cols[:, None] * k + np.arange(k)),
        )

    def starts(self, count: int, rng) -> tuple[np.ndarray, np.ndarray]:
        """Gaussian factors of three sizes, and the zero-filled data's best approximation."""
        root = np.sqrt(np.abs(self.target).mean())
        size = root * np.resize([0.1, 1.0, 3.0], count)[:, None, None]
        A = size * rng.standard_normal((count, self.m, self.k))
        B = size * rng.standard_normal((count, self.n, self.k))
        filled = np.zeros((self.m, self.n))
        filled[self.rows, self.cols] = self.target
        U, s, Vt = np.linalg.svd(filled)
        A[0], B[0] = U[:, : self.k] * np.sqrt(s[: self.k]), Vt[: self.k].T * np.sqrt(s[: self.k])
        for i in range(1, count // 4):
            # The same after giving the entries random weights.
            U, s, Vt = np.linalg.svd(filled * np.exp(rng.standard_normal(filled.shape)))
            A[i] = U[:, : self.k] * np.sqrt(s[: self.k])
            B[i] = Vt[: self.k].T * np.sqrt(s[: self.k])
        return A, B

    def residual(self, A, B):
        return (A[:, self.rows] * B[:, self.cols]).sum(axis=2) - self.target

    def descend(self, A, B, damping, steps: int):
        """At most `steps` steps for each start; fewer once all are at rest."""
        unknowns = (self.m + self.n) * self.k
        eye = np.eye(unknowns)
        r = self.residual(A, B)
        loss = np.square(r).mean(axis=1)
        rest = 0
        for _ in range(steps):
            J = np.zeros((len(A), len(self.rows), unknowns))
            J[:, *self.places[0]] = B[:, self.cols]
            J[:, *self.places[1]] = A[:, self.rows]
            Jt = J.transpose(0, 2, 1)
            normal = Jt @ J
            # Where the factors run to infinity the damping alone would drown in the rounding.
            floor = 1e-14 * np.trace(normal, axis1=1, axis2=2)
            normal += (damping + floor)[:, None, None] * eye
            step = np.linalg.solve(normal, Jt @ r[:, :, None])
            A_new = A - step[:, : self.m * self.k, 0].reshape(A.shape)
            B_new = B - step[:, self.m * self.k :, 0].reshape(B.shape)
            r_new = self.residual(A_new, B_new)
            loss_new = np.square(r_new).mean(axis=1)
            better = loss_new < loss
            fall = np.where(better, 1 - loss_new / np.maximum(loss, 1e-300), 0.0)
            done = (fall < 1e-13) | (loss_new < 1e-26 * self.size**2)
            rest = rest + 1 if done.all() else 0
            A = np.where(better[:, None, None], A_new, A)
            B = np.where(better[:, None, None], B_new, B)
            r, loss = np.where(better[:, None], r_new, r), np.where(better, loss_new, loss)
            damping = np.clip(np.where(better, damping / 4, damping * 3), 1e-12, 1e8)
            if rest >= 12:
                break
        return A, B, damping, loss

    def best(self, rng) -> list:
        """Lowest loss, largest entry, how much it still fell, and how many starts came there."""
        A, B = self.starts(STARTS, rng)
        A, B, damping, loss = self.descend(A, B, np.full(STARTS, 0.1 * self.size), FIRST)
        keep = np.argsort(loss)[: STARTS // 2]
        A, B, damping, loss = self.descend(A[keep], B[keep], damping[keep], SECOND)
        lowest = loss.min()
        count = int((loss <= lowest * (1 + 1e-6)).sum())
        keep = np.argsort(loss)[:4]
        A, B, damping, loss = self.descend(A[keep], B[keep], damping[keep], LAST)
        return [*self.lowest(A, B, damping), count]

    def lowest(self, A, B, damping) -> list[float]:
        """Lowest loss, largest entry, and how much the loss still fell, after some more steps."""
        before = np.square(self.residual(A, B)).mean(axis=1)
        A, B, _, loss = self.descend(A, B, damping, LAST // 2)
        i = int(loss.argmin())
        fall = 0.0 if before[i] == 0 else 1 - loss[i] / before[i]
        size = rounded(np.abs(A[i] @ B[i].T).max() / self.size, 4)
        return [rounded(loss[i], 10), size, rounded(max(fall, 0.0), 2)]


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
        U, s, Vt = np.linalg.svd(W)
        k = int((s > 1e-9 * s[0]).sum())
        search = Search(problem, k)
        A, B = (U[:, :k] * np.sqrt(s[:k]))[None], (Vt[:k].T * np.sqrt(s[:k]))[None]
        # Heavily damped at first, so that it begins where the flow was heading.
        A, B, damping, _ = search.descend(A, B, np.full(1, 10 * search.size), 4 * LAST)
        found.append([number, *search.lowest(A, B, damping)])
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
