"""Run the experiments of Arora et al. (2019), Figures 1, 2, 4 and 5, at their size, and store them.

    python -m studies.printed

About fifteen minutes of one core, and three gigabytes of memory. 100×100, rank 5; 2,000 and 5,000
entries (completion) and Gaussian measurements (sensing); two, three and four layers of width 100,
the protocol of Appendix D.2. It goes through `mf.sweep`, so that a killed run is continued by
the same command. `book/depth/printed.json` holds errors, nuclear norms and effective ranks with
their provenance; the chapter that reads it computes a part of them again. `LEGEND` says what it
holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from mfbook.models.product import factor_gradients, product
from studies.provenance import provenance, versions

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "depth" / "printed.json"
STORES = ROOT / "_build" / "sweeps"

D, RANK, SIZES, DEPTHS, TRIALS = 100, 5, (2000, 5000), (2, 3, 4), 3
DATA_SEED, START_SEED = 2019, 905
# Descent of ½ Σ r² by steps RATE until the mean of r² is below STOP, from starts whose product has
# the expected Frobenius norm 10^exponent. Four layers and 5,000 entries do not bear them, and
# take SMALL_RATE. From 10^-1 the losses of three and four layers fall slowly, and one case is
# enough. The flow, the limit of small steps, is followed in one trial, with two layers from far
# smaller starts too.
STOP, RATE, SMALL_RATE = 1e-6, 1e-3, 3e-4
EXPONENTS, LARGER = (-3,), {(2000, 2): (-1,), (2000, 3): (-1,), (5000, 2): (-1,)}
FLOW_EXPONENTS, FAR_EXPONENTS = (-5, -3, -1, 1), (-30, -100)
FLOW_RTOL, MAX_ITERS = 1e-4, 100_000
# Sensing takes larger steps where it can, as its measurements are dense: size → depth → step;
# exponent → trials. The largest step for 5,000 and four layers is 7.5e-4.
SENSING_RATES = {2000: {2: 5e-3, 3: 1.5e-3, 4: 1e-3}, 5000: {2: 5e-3, 3: 1.5e-3, 4: 6e-4}}
SENSING_TRIALS, SENSING_ITERS, KEEP = {-3: TRIALS, 0: 1}, 4000, 5
# Other data: truth and entries drawn anew, by gradient flow from 10^-3.
DRAWS = 3

LEGEND = {
    "nuclear": "kind size → certified minimum: value, gap, effective rank, error; of the truth",
    "runs": "kind size depth exponent rate (0: flow) → for each trial: reason, iterations "
    "(gradients of a flow), error ‖W − W*‖²/‖W*‖², nuclear norm, effective rank",
    "draws": "draw → depth → the same for other data at 2,000 entries, by gradient flow; the truth",
    "paths": "sensing, first trial from 10^-3: size depth → times and ten singular values",
}


def truth(draw: int = 0) -> np.ndarray:
    """U Vᵀ with Gaussian U and V (Appendix D.2)."""
    return mf.populations.random_low_rank([DATA_SEED, draw], (D, D), RANK)


def completion(size: int, draw: int = 0) -> mf.MatrixCompletion:
    """The truth at `size` entries, all sets equally likely."""
    W = truth(draw)
    mask = mf.populations.random_mask([DATA_SEED, draw, size], (D, D), size)
    return mf.MatrixCompletion(W, mask, loss="half", truth=W)


def sensing(size: int) -> mf.MatrixSensing:
    """The truth through Gaussian matrices with entries from N(0, 1/100²).

    Divided by 100 they weigh as much as the entries of a completion do, ‖X‖_F ≈ 1; as printed, with
    entries from N(0, 1), the same steps would have to be 10^4 times smaller.
    """
    X = np.random.default_rng([DATA_SEED, size, 1]).standard_normal((size, D, D)) / D
    W = truth()
    return mf.MatrixSensing(X, X.reshape(size, -1) @ W.ravel(), loss="half", truth=W)


def share(problem: mf.MatrixCompletion) -> float:
    """The stop as a share of the loss at zero."""
    return STOP * problem.n_observed / 2 / problem.loss_value(np.zeros((D, D)))


def start(depth: int, exponent: float, trials: int = TRIALS) -> tuple[np.ndarray, ...]:
    """Gaussian layers, the first trials of a batch, with E‖W_1 ⋯ W_N‖_F² = 10^(2 exponent)."""
    V = mf.small_init((D, D), depth=depth, rng=[START_SEED, depth], batch=TRIALS)
    deviation = (10**exponent / D ** ((depth + 1) / 2)) ** (1 / depth)
    return tuple(deviation * layer[:trials] for layer in V)


def said(W: np.ndarray, W_true: np.ndarray) -> list[float]:
    """Error, nuclear norm and effective rank."""
    if not np.isfinite(W).all():
        return [float("inf")] * 3
    found = mf.reconstruction_error(W, W_true), mf.nuclear_norm(W), mf.effective_rank(W)
    return [float(f"{x:.5g}") for x in found]


def trained(task: tuple[int, int, float, float]) -> list:
    """Completion by descent from one scale with one step, all trials; or one flow."""
    size, depth, exponent, rate = task
    problem = completion(size)
    if rate == 0:
        run = flow(problem, depth, exponent)
        return [[str(run.reason), int(run.n_gradients), *said(run.W, problem.truth)]]
    runs = mf.gradient_descent(
        problem, start(depth, exponent), lr=rate, loss_tol=share(problem), max_iters=MAX_ITERS
    )
    return [
        [str(runs[k].reason), int(runs.n_steps[k]), *said(runs[k].W, problem.truth)]
        for k in range(TRIALS)
    ]


def flow(problem: mf.MatrixCompletion, depth: int, exponent: float) -> mf.Trajectory:
    """Gradient flow from the first trial's layers."""
    return mf.gradient_flow(
        problem,
        [layer[0] for layer in start(depth, 0, 1)],
        log10_scale=exponent / depth,
        loss_tol=share(problem),
        rtol=FLOW_RTOL,
    )


@dataclass
class Group:
    """Runs of one depth that are still moving: which, where they are, and what they ended as."""

    rate: float
    layers: list[np.ndarray]
    alive: np.ndarray
    ends: dict[int, list] = field(default_factory=dict)
    path: list[list[float]] = field(default_factory=list)

    def leave(self, gone: np.ndarray, reason: str, iteration: int, W: np.ndarray) -> None:
        """Note where these runs are, and go on without them."""
        for k in np.flatnonzero(gone):
            self.ends[int(self.alive[k])] = [reason, iteration, *said(W[k], truth())]
        self.layers = [layer[~gone] for layer in self.layers]
        self.alive = self.alive[~gone]


def descend(problem: mf.MatrixSensing, groups: Sequence[Group], most: int, keep: int) -> None:
    """The iteration of `mf.gradient_descent`, for batches of several depths together.

    The measurements of all runs are one product of matrices, which takes nearly all of the time.
    Of each first run ten singular values are noted every `keep` iterations.
    """
    A = problem.measurements.reshape(len(problem.targets), -1)
    for iteration in range(most + 1):
        moving = [group for group in groups if len(group.alive)]
        products = [product(group.layers) for group in moving]
        flat = np.concatenate([W.reshape(len(W), -1) for W in products])
        residual = flat @ A.T - problem.targets
        G = (residual @ A).reshape(-1, *problem.shape)
        loss = np.square(residual).mean(axis=1)
        first = 0
        for group, W in zip(moving, products, strict=True):
            mine = slice(first, first + len(W))
            first += len(W)
            if iteration % keep == 0 and 0 in group.alive:
                sizes = np.linalg.svd(W[0], compute_uv=False)[:10]
                group.path.append([iteration * group.rate, *(float(f"{s:.4g}") for s in sizes)])
            steps = factor_gradients(group.layers, G[mine])
            done = loss[mine] < STOP
            group.layers = [x - group.rate * g for x, g in zip(group.layers, steps, strict=True)]
            if done.any():
                group.leave(done, "loss reached", iteration, W)
            elif iteration == most:
                group.leave(np.ones(len(W), dtype=bool), "step limit", iteration, W)
        if not any(len(group.alive) for group in groups):
            break


def sensed(size: int) -> dict[str, Any]:
    """Sensing at one size: all depths, scales and trials in one loop."""
    groups = {
        (depth, exponent): Group(
            SENSING_RATES[size][depth], list(start(depth, exponent, trials)), np.arange(trials)
        )
        for depth in DEPTHS
        for exponent, trials in SENSING_TRIALS.items()
    }
    descend(sensing(size), list(groups.values()), SENSING_ITERS, KEEP)
    return {
        "runs": {
            f"sensing {size} {depth} {exponent} {group.rate}": [
                group.ends[k] for k in range(SENSING_TRIALS[exponent])
            ]
            for (depth, exponent), group in groups.items()
        },
        "paths": {f"{size} {depth}": groups[depth, -3].path for depth in DEPTHS},
    }


def smallest_norm(task: tuple[str, int]) -> list[float]:
    """The certified minimum of the nuclear norm: value, gap, effective rank, error."""
    kind, size = task
    problem = completion(size) if kind == "completion" else sensing(size)
    found = mf.min_nuclear_norm(problem)
    error, _, rank = said(found.W, problem.truth)
    return [found.value, float(f"{found.gap:.2g}"), rank, error]


def drawn(draw: int) -> dict[str, list]:
    """Other data with few entries, by gradient flow from 10^-3 at every depth."""
    problem = completion(min(SIZES), draw)
    found: dict[str, list] = {"truth": said(problem.truth, problem.truth)}
    for depth in DEPTHS:
        run = flow(problem, depth, -3)
        found[str(depth)] = [str(run.reason), int(run.n_gradients), *said(run.W, problem.truth)]
    return found


def tasks_of_completion() -> dict[str, tuple[int, int, float, float]]:
    tasks = []
    for size in SIZES:
        for depth in DEPTHS:
            large = depth == max(DEPTHS) and size == max(SIZES)
            exponents = [*EXPONENTS, *LARGER.get((size, depth), ())]
            tasks += [(size, depth, e, SMALL_RATE if large else RATE) for e in exponents]
            tasks += [(size, depth, e, 0) for e in FLOW_EXPONENTS]
    tasks += [(min(SIZES), 2, e, 0) for e in FAR_EXPONENTS]
    return {"completion {} {} {} {}".format(*task): task for task in tasks}


def main() -> None:
    settings = {
        "data_seed": DATA_SEED,
        "start_seed": START_SEED,
        "size_of_W": D,
        "rank": RANK,
        "stop": STOP,
        "trials": TRIALS,
        "flow_rtol": FLOW_RTOL,
        "max_iters": MAX_ITERS,
        "sensing_iters": SENSING_ITERS,
        **versions(),
    }

    def swept(function: Callable[[Any], Any], tasks: dict[str, Any]) -> dict[str, Any]:
        store = STORES / f"printed_{function.__name__}.jsonl"
        return mf.sweep(function, tasks, store=store, provenance=settings, n_jobs=1)

    sensing_runs = swept(sensed, {str(size): size for size in reversed(SIZES)})
    runs = swept(trained, tasks_of_completion())
    draws = swept(drawn, {str(draw): draw for draw in range(1, DRAWS + 1)})
    # With 5,000 measurements the truth is the minimizer, which the chapter proves by a dual point.
    kinds = [("completion", size) for size in SIZES] + [("sensing", min(SIZES))]
    nuclear = swept(smallest_norm, {f"{kind} {size}": (kind, size) for kind, size in kinds})
    nuclear["truth"] = said(truth(), truth())[1:]
    for found in sensing_runs.values():
        runs |= found["runs"]
    stored = {
        "provenance": provenance("python -m studies.printed", **settings),
        "legend": LEGEND,
        "nuclear": nuclear,
        "runs": runs,
        "draws": draws,
        "paths": {key: path for f in sensing_runs.values() for key, path in f["paths"].items()},
    }
    RESULT.write_text(json.dumps(stored, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
