"""Gradient flow and its rivals on MovieLens 100K, at depths one, two and three, once, and store it.

    python -m studies.movielens && python -m studies.ratings

About five minutes on one core and 1.2 GB; the parts go through `mf.sweep`, so that a killed
run is continued by the same command. `book/beyond/ratings.json` holds singular values, errors and
counts with their provenance, and nothing from which a rating could be read. `LEGEND` says what the
columns are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

import mfbook as mf
from studies import full_width, movielens, soft_impute
from studies.movielens import SHAPE, Ratings
from studies.provenance import provenance, versions
from studies.rounding import rounded

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "beyond" / "ratings.json"
STORE = ROOT / "_build" / "sweeps" / "ratings.jsonl"

# Of the split, and of the starts.
SEED, START_SEED = 100, 1
TRAIN, CHOOSE = 80_000, 10_000
# The expected Frobenius norm of the product at the start (Arora et al. 2019, D.2), and log10 of the
# scale of the factors of a start that keeps phases apart.
NORM, TINY = 1e-3, -300
# Full width, on half the sum of squares: steps, and where the state is looked at.
LR = 4e-4
STOPS = (0, 5, 10, 20, 30, 34, 38, 42, 50, 60, 100, 160, 220, 270, 310, 350, 400, 450, 500)
# Hidden columns of the flow, and the root mean square on the training entries that ends it.
WIDTH = {2: 20, 3: 12}
UNTIL = {2: {"raw": 0.7, "centred": 0.7, "tiny": 0.78}, 3: {"raw": 0.78}}
RTOL, MAX_STEPS, LOOKS = 1e-3, 600, 40
PENALTIES = {"raw": (20, 14, 11, 9, 7.5), "centred": (16, 13, 11, 9, 7.5)}
GAP = 1e-3
RANKS, SWEEPS = 3, 8
RIDGES = (1, 2, 4, 8)
# Films by their number of ratings in the training part.
BINS = (0, 1, 3, 6, 11, 31, 101, 1000)
CORES = (1, 2, 5, 10, 20)

LEGEND = {
    "graph": "of all ratings and of the training part: vertices with a rating, components, "
    "independent cycles, degrees (least, median, largest) of people and of films, films with at "
    "most 1, 2, 3, 5 ratings; of cores, left after removing again and again whoever has fewer than "
    "k ratings: k, people, films, ratings, components, first r with r (m + n − r) as large as the "
    "number of ratings; the last core has the largest r",
    "rows": "of flows, for each look: time, root mean square error on the training part, on the "
    "part for choosing, on the part for testing, ten singular "
    "values",
    "phases": "rank, and the same three errors",
    "alignment": "iteration, root mean square residual, ten singular values, then mean and "
    "standard deviation of the absolute values on and off the diagonal of UᵀGV, all of it, and "
    "means of its first 10×10 block",
    "nuclear": "penalty, rank, certified relative gap, three errors, nuclear norm, sum of the "
    "processor seconds so far",
    "als": "rank, sweeps, three errors; then processor seconds",
    "bins": "least number of training ratings of the film, test ratings, root mean square error of "
    "each method at its chosen stop",
    "seconds": "of processor time, on one core",
}


class Split:
    """The ratings in three parts, and what is predicted without any factors.

    Errors are over entries whose film has a rating in the training part: no method says anything
    about the others.
    """

    def __init__(self, data: Ratings) -> None:
        self.data, order = data, np.random.default_rng(SEED).permutation(movielens.COUNT)
        train, choose, test = np.split(order, [TRAIN, TRAIN + CHOOSE])
        known = np.isin(data.films, data.films[train])
        self.unknown = [int((~known[part]).sum()) for part in (choose, test)]
        self.parts = [train, choose[known[choose]], test[known[test]]]
        self.values = data.ratings.astype(float)
        self.ridge, self.baseline = self._baseline()

    def _baseline(self) -> tuple[int, np.ndarray]:
        """Mean + how generous people are + how popular films are, for the best of some ridges."""
        train, choose, _ = self.parts
        found = {}
        for ridge in RIDGES:
            told = means(self.data, train, self.values, ridge)
            found[ridge] = self.rms(self.values - told, choose), told
        best = min(found, key=lambda ridge: found[ridge][0])
        return best, found[best][1]

    @staticmethod
    def rms(residual: np.ndarray, part: np.ndarray) -> float:
        return float(np.sqrt(np.mean(residual[part] ** 2)))

    def targets(self, kind: str) -> np.ndarray:
        return self.values if kind == "raw" else self.values - self.baseline

    def errors(self, kind: str, told: np.ndarray) -> list[float]:
        residual = self.targets(kind) - told
        return [rounded(self.rms(residual, part), 5) for part in self.parts]

    def problem(self, kind: str) -> mf.MatrixCompletion:
        train, data = self.parts[0], self.data
        return mf.MatrixCompletion.from_triplets(
            data.users[train], data.films[train], self.targets(kind)[train], shape=SHAPE,
            loss="half",
        )  # fmt: skip


def means(data: Ratings, part: np.ndarray, values: np.ndarray, ridge: float) -> np.ndarray:
    """μ + b_i + c_j for all ratings, b and c by least squares on a part with a ridge."""
    users, films = data.users[part], data.films[part]
    mu = values[part].mean()
    b, c = np.zeros(SHAPE[0]), np.zeros(SHAPE[1])
    for _ in range(30):
        b = np.bincount(users, values[part] - mu - c[films], SHAPE[0])
        b /= np.bincount(users, minlength=SHAPE[0]) + ridge
        c = np.bincount(films, values[part] - mu - b[users], SHAPE[1])
        c /= np.bincount(films, minlength=SHAPE[1]) + ridge
    return mu + b[data.users] + c[data.films]


def two_factors(layers: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    A, *rest = layers
    for layer in rest[:-1]:
        A = A @ layer
    return A, rest[-1]


def top_values(A: np.ndarray, B: np.ndarray) -> list[float]:
    s = np.linalg.svd(np.linalg.qr(A)[1] @ np.linalg.qr(B.T)[1].T, compute_uv=False)
    return [rounded(x) for x in s[:10]]


def start_of(problem: mf.MatrixCompletion, depth: int, width: int) -> tuple[Any, float]:
    """Gaussian factors, and log10 of the scale at which E‖W‖_F² = NORM²."""
    (m, n), scale = problem.shape, np.log10(NORM)
    scale -= 0.5 * (np.log10(m) + np.log10(n) + (depth - 1) * np.log10(width))
    return mf.small_init(problem, depth=depth, width=width, rng=START_SEED), scale / depth


def followed(
    problem: mf.MatrixCompletion, depth: int, until: float, log10_scale: float | None = None
) -> tuple[mf.Trajectory, float]:
    """A flow to a root mean square residual, and its processor seconds."""
    factors, scale = start_of(problem, depth, WIDTH[depth])
    at_zero = np.sqrt(np.mean(problem.targets**2))
    began = time.process_time()
    run = mf.gradient_flow(
        problem, factors, log10_scale=scale if log10_scale is None else log10_scale,
        loss_tol=(until / at_zero) ** 2, rtol=RTOL, max_steps=MAX_STEPS,
    )  # fmt: skip
    return run, time.process_time() - began


def looks(run: mf.Trajectory) -> np.ndarray:
    """Steps at which the loss has fallen by equal shares, or the time has grown."""
    loss, t = run.loss / run.loss[0], run.t / run.t[-1]
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(np.log(loss))) + np.diff(t))])
    return np.unique(np.searchsorted(way, np.linspace(0, way[-1], LOOKS)).clip(max=len(t) - 1))


def along(run: mf.Trajectory, errors: Callable[[np.ndarray, np.ndarray], list]) -> list[list]:
    found = []
    for k in looks(run):
        A, B = two_factors(run.factors_at(run.t[k]))
        found.append([rounded(run.t[k]), *errors(A, B), top_values(A, B)])
    return found


# The parts of the study; each is named by what follows the underscore.


def part_graph(data: Ratings) -> dict:
    train = Split(data).parts[0]

    def of(users: np.ndarray, films: np.ndarray) -> dict:
        graph = nx.Graph()
        graph.add_edges_from(
            (("row", int(i)), ("col", int(j))) for i, j in zip(users, films, strict=True)
        )
        rows, cols = (np.unique(x, return_counts=True)[1] for x in (users, films))
        pieces = nx.number_connected_components(graph)
        level, cores = nx.core_number(graph), []
        for k in range(1, max(level.values()) + 1):
            core = graph.subgraph(v for v in graph if level[v] >= k)
            m = sum(side == "row" for side, _ in core)
            n, edges = len(core) - m, core.number_of_edges()
            # r (m + n − r) numbers are too few for more entries.
            bound = next(r for r in range(min(m, n) + 1) if r * (m + n - r) >= edges)
            cores.append([k, m, n, edges, nx.number_connected_components(core), bound])
        shown = [core for core in cores if core[0] in CORES]
        most = max(cores, key=lambda core: core[-1])
        return {
            "vertices": [len(rows), len(cols)],
            "components": pieces,
            "cycles": graph.number_of_edges() - len(graph) + pieces,
            "people": [int(rows.min()), float(np.median(rows)), int(rows.max())],
            "films": [int(cols.min()), float(np.median(cols)), int(cols.max())],
            "few": [int((cols <= few).sum()) for few in (1, 2, 3, 5)],
            "cores": [*shown, most] if most not in shown else shown,
        }

    return {
        "all": of(data.users, data.films),
        "train": of(data.users[train], data.films[train]),
        "shares": [round(x, 4) for x in np.bincount(data.ratings)[1:] / movielens.COUNT],
    }


def part_depth_one(data: Ratings) -> dict:
    """W(t) = (1 − e^-t) P ⊙ M, so there is nothing to follow."""
    split = Split(data)
    start = np.ones(SHAPE[0])
    zero = csr_array((split.values, (data.users, data.films)), shape=SHAPE)
    values = svds(zero, k=10, v0=start, return_singular_vectors=False)[::-1]
    told = np.zeros(movielens.COUNT)
    return {
        "sigma": [rounded(s) for s in values],
        "raw": split.errors("raw", told)[1:],
        "centred": split.errors("centred", told)[1:],
        "constant": [
            rounded(split.rms(split.values - split.values[split.parts[0]].mean(), part), 5)
            for part in split.parts
        ],
        "ridge": split.ridge,
        "unknown": split.unknown,
    }


def part_alignment(data: Ratings, start: str = "gaussian") -> dict:
    """Figure 3 at depth two as in the paper: descent, full width, all ratings.

    The published code starts at 0.001 times the identity instead.
    """
    m, n = SHAPE
    if start == "gaussian":
        scale = np.sqrt(NORM / np.sqrt(m * n * m))
        factors = [scale * X for X in mf.small_init(SHAPE, rng=START_SEED)]
    else:
        factors = [np.sqrt(NORM) * np.eye(m), np.sqrt(NORM) * np.eye(m, n)]
    values, began, found = data.ratings.astype(float), time.process_time(), []
    first = ~np.eye(10, dtype=bool)
    for count, A, B, loss in full_width.descend(
        (factors[0], factors[1]), data.users, data.films, values, lr=LR, stops=STOPS
    ):
        sigma, D = full_width.alignment(A, B, data.users, data.films, values)
        D = np.abs(D)
        on, off, block = np.diag(D), D[~np.eye(len(D), dtype=bool)], D[:10, :10]
        found.append([
            count, rounded(np.sqrt(2 * loss / movielens.COUNT)), [rounded(s) for s in sigma[:10]],
            *(rounded(float(x)) for x in (on.mean(), on.std(), off.mean(), off.std())),
            *(rounded(float(x)) for x in (np.diag(block).mean(), block[first].mean())),
        ])  # fmt: skip
    return {"rows": found, "seconds": round(time.process_time() - began)}


def sharpness(data: Ratings, W: np.ndarray, depth: int) -> float:
    """The largest curvature of ½ Σ r² at balanced factors of the best rank-one part of W."""
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    u, v, size = U[:, 0], Vt[0], s[0] ** (1 / depth)
    layers = [size * u, *[np.array([size])] * (depth - 2), size * v]
    values = data.ratings.astype(float)

    def slope(x: list[np.ndarray]) -> list[np.ndarray]:
        middle = float(np.prod([y[0] for y in x[1:-1]]))
        a, b = x[0][data.users], x[-1][data.films]
        r = middle * a * b - values
        ends = [
            np.bincount(data.users, r * middle * b, W.shape[0]),
            np.bincount(data.films, r * middle * a, W.shape[1]),
        ]
        inner = [np.array([(r * a * b).sum() * middle / y[0]]) for y in x[1:-1]]
        return [ends[0], *inner, ends[1]]

    rng, top = np.random.default_rng(0), 0.0
    d = [rng.standard_normal(x.shape) for x in layers]
    for _ in range(100):
        top = np.sqrt(sum(float(y @ y) for y in d))
        d = [1e-4 * y / top for y in d]
        up = slope([x + y for x, y in zip(layers, d, strict=True)])
        down = slope([x - y for x, y in zip(layers, d, strict=True)])
        d = [(p - q) / 2e-4 for p, q in zip(up, down, strict=True)]
    return rounded(float(top), 3)


def part_sharpness(data: Ratings) -> dict:
    """At the critical point of rank one, all ratings, and of the step that the paper takes."""
    values = data.ratings.astype(float)
    u, v = np.ones(SHAPE[0]), np.ones(SHAPE[1])
    for _ in range(200):
        users, films = data.users, data.films
        u = np.bincount(users, values * v[films]) / np.bincount(users, v[films] ** 2)
        v = np.bincount(films, values * u[users]) / np.bincount(films, u[users] ** 2)
    return {str(depth): sharpness(data, np.outer(u, v), depth) for depth in (2, 3)}


def part_flow(data: Ratings, depth: int, kind: str, scale: str = "paper") -> dict:
    """Held-out errors along a flow and at its phases."""
    split = Split(data)
    problem = split.problem(kind)
    tiny = scale == "tiny"
    exponent = TINY if tiny else None
    run, seconds = followed(problem, depth, UNTIL[depth]["tiny" if tiny else kind], exponent)

    def errors(A: np.ndarray, B: np.ndarray) -> list:
        return split.errors(kind, soft_impute.entries(A, B, data.users, data.films))

    found = {
        "phases": [
            [phase.rank, *split.errors(kind, phase.W[data.users, data.films])]
            for phase in run.phases[1:]
        ],
        "seconds": round(seconds),
        "reason": run.reason,
    }
    rows = along(run, errors)
    found["rows"] = rows
    best = looks(run)[int(np.argmin([row[2] for row in rows]))]
    A, B = two_factors(run.factors_at(run.t[best]))
    told = soft_impute.entries(A, B, data.users, data.films)
    found["bins"] = binned(split, split.targets(kind) - told)
    return found


def binned(split: Split, residual: np.ndarray) -> list[list]:
    """Of the films with few and with many training ratings: how many tests, and their error."""
    train, _, test = split.parts
    count = np.bincount(split.data.films[train], minlength=SHAPE[1])[split.data.films[test]]
    found = []
    for low, high in zip(BINS[1:], [*BINS[2:], 10**6], strict=True):
        here = test[(count >= low) & (count < high)]
        if len(here):
            found.append([low, len(here), rounded(split.rms(residual, here), 4)])
    return found


def part_nuclear(data: Ratings, kind: str) -> dict:
    split = Split(data)
    train, targets = split.parts[0], split.targets(kind)
    began, rows, kept = time.process_time(), [], []
    for best in soft_impute.path(
        data.users[train], data.films[train], targets[train], SHAPE, list(PENALTIES[kind]), tol=GAP
    ):
        seconds = time.process_time() - began
        told = best.at(data.users, data.films)
        kept.append(told)
        rows.append([
            best.penalty, best.rank, rounded(best.gap, 2), *split.errors(kind, told),
            rounded(float(best.s.sum())), round(seconds, 1),
        ])  # fmt: skip
    chosen = int(np.argmin([row[4] for row in rows]))
    return {"rows": rows, "bins": binned(split, targets - kept[chosen])}


def part_als(data: Ratings) -> dict:
    """The ranks one by one; a few sweeps each, as nothing but noise is left to wait for."""
    split = Split(data)
    began = time.process_time()
    path = mf.alternating_least_squares(
        split.problem("raw"), RANKS, loss_tol=1e-3, rest_tol=1e-2, max_sweeps=SWEEPS
    )
    seconds = time.process_time() - began
    told = [W[data.users, data.films] for W in path.critical_points[1:]]
    errors = [split.errors("raw", x) for x in told]
    best = int(np.argmin([e[1] for e in errors]))
    return {
        "rows": [
            [k + 1, s, *e] for k, (s, e) in enumerate(zip(path.iterations, errors, strict=True))
        ],
        "bins": binned(split, split.values - told[best]),
        "seconds": round(seconds),
    }


def part_baseline(data: Ratings) -> dict:
    split = Split(data)
    return {
        "errors": split.errors("raw", split.baseline),
        "bins": binned(split, split.values - split.baseline),
    }


PARTS: dict[str, tuple[Callable[..., dict], tuple]] = {
    "graph": (part_graph, ()),
    "depth one": (part_depth_one, ()),
    "baseline": (part_baseline, ()),
    "flow 2 raw": (part_flow, (2, "raw")),
    "flow 2 centred": (part_flow, (2, "centred")),
    "alignment": (part_alignment, ()),
    "identity": (part_alignment, ("identity",)),
    "sharpness": (part_sharpness, ()),
    "flow 3 raw": (part_flow, (3, "raw")),
    "nuclear raw": (part_nuclear, ("raw",)),
    "nuclear centred": (part_nuclear, ("centred",)),
    "als": (part_als, ()),
    "flow 2 tiny": (part_flow, (2, "raw", "tiny")),
}


def computed(name: str) -> dict:
    function, arguments = PARTS[name]
    return function(movielens.load(), *arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts, and no result file")
    only = parser.parse_args().only
    movielens.load()
    settings = {
        "data": movielens.SHA256,
        "split_seed": SEED,
        "start_seed": START_SEED,
        "parts": [TRAIN, CHOOSE, movielens.COUNT - TRAIN - CHOOSE],
        "norm": NORM,
        "tiny": TINY,
        "lr": LR,
        "width": {str(k): v for k, v in WIDTH.items()},
        "until": {str(k): v for k, v in UNTIL.items()},
        "rtol": RTOL,
        "max_steps": MAX_STEPS,
        "gap": GAP,
        "penalties": PENALTIES,
        "ranks": RANKS,
        "sweeps": SWEEPS,
        **versions(),
    }
    names = only or list(PARTS)
    found = mf.sweep(computed, {name: name for name in names}, store=STORE, provenance=settings)
    if only:
        return
    stored = {
        "provenance": provenance("python -m studies.ratings", **settings),
        "legend": LEGEND,
        **found,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
