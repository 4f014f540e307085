"""What the Python engine answers to a front end: the same request, and the same answer, as the
engine that computes in a page."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from mfbook.flow import gradient_flow
from mfbook.flow.trajectory import Trajectory
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion
from mfbook.problems.graph import components, connectivity
from mfbook.rivals.glrl import glrl
from mfbook.rivals.minrank import min_rank
from mfbook.rivals.nuclear import min_nuclear_norm

Request = dict[str, Any]
Answer = dict[str, Any]


def answer(request: Request) -> Answer:
    """Answer a request, whose `task` is "flow" (if not given), "deep", "glrl", "minNuclear" or
    "minRank".

    Raises ValueError or TypeError where it makes no sense, in words for the reader.
    """
    task = request.get("task", "flow")
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, but is {task!r}")
    problem = MatrixCompletion.from_array(request["values"], loss=request.get("loss", "mean"))
    return TASKS[task](problem, request)


def flow(problem: MatrixCompletion, request: Request) -> Answer:
    """The run from `factors`, or from the start of `seed`, at `log10_scale`."""
    begin = time.perf_counter()
    factors = request.get("factors") or small_init(problem.shape, rng=int(request["seed"]))
    run = gradient_flow(
        problem,
        tuple(np.array(factor, dtype=float) for factor in factors),
        log10_scale=float(request["log10_scale"]),
        rtol=float(request.get("rtol", 1e-4)),
        loss_tol=float(request.get("loss_tol", 1e-8)),
        max_steps=int(request.get("max_steps", 5000)),
        progress=False,
    )
    return told(run) | {
        "A": run.factors[0].tolist(),
        "B": run.factors[1].tolist(),
        "frames": [frame(problem, run, t) for t in instants(run, int(request.get("frames", 60)))],
        "classes": {
            "connectivity": connectivity(problem.mask),
            "components": [
                {"rows": rows.tolist(), "cols": cols.tolist()}
                for rows, cols in components(problem.mask)
            ],
        },
        "ms": round(1000 * (time.perf_counter() - begin)),
    }


def deep(problem: MatrixCompletion, request: Request) -> Answer:
    """The run of `depth` factors from the start of `seed`, at `log10_scale`."""
    begin = time.perf_counter()
    run = gradient_flow(
        problem,
        small_init(problem.shape, depth=int(request["depth"]), rng=int(request["seed"])),
        log10_scale=float(request["log10_scale"]),
        rtol=float(request.get("rtol", 1e-4)),
        loss_tol=float(request.get("loss_tol", 1e-10)),
        max_steps=int(request.get("max_steps", 5000)),
        progress=False,
    )
    return told(run) | {
        "frames": [
            {
                "t": float(t),
                "loss": float(loss),
                "singular_values": s.tolist(),
            }
            for t, loss, s in zip(run.t, run.loss, run.singular_values, strict=True)
        ],
        "ms": round(1000 * (time.perf_counter() - begin)),
    }


def told(run: Trajectory) -> Answer:
    """Where a run came to, and where it rested."""
    return {
        "converged": bool(run.converged),
        "reason": run.reason,
        "n_steps": int(run.n_steps),
        "W": run.W.tolist(),
        "phases": [
            {"time": phase.time, "rank": phase.rank, "W": phase.W.tolist(), "loss": phase.loss}
            for phase in run.phases
        ],
    }


def instants(run: Trajectory, count: int) -> np.ndarray:
    """So many times along a run, half of them spread over time and half over what changes."""
    moved = np.abs(np.diff(run.singular_values, axis=0)).sum(axis=1)
    moved = moved / (moved.sum() or 1) + np.diff(run.t) / (run.t[-1] - run.t[0] or 1)
    along = np.concatenate([[0], np.cumsum(moved)])
    return np.interp(np.linspace(0, along[-1], max(count, 2)), along, run.t)


def frame(problem: MatrixCompletion, run: Trajectory, t: float) -> Answer:
    A, B = run.factors_at(t)
    W = run.W_at(t)
    return {
        "t": float(t),
        "loss": float(problem.loss_value(W)),
        "singular_values": np.linalg.svd(W, compute_uv=False).tolist(),
        "W": W.tolist(),
        "A": A.tolist(),
        "B": B.tolist(),
    }


def least_nuclear_norm(problem: MatrixCompletion, request: Request) -> Answer:
    found = min_nuclear_norm(problem)
    return {
        "W": found.W.tolist(),
        "value": found.value,
        "lower_bound": found.lower_bound,
        "gap": found.gap,
        "sure": bool(found.converged),
    }


def smallest_rank(problem: MatrixCompletion, request: Request) -> Answer:
    found = min_rank(problem)
    return {
        "rank": found.rank,
        "W": found.W.tolist(),
        "proven": found.proven,
        "why": found.proof,
    }


def greedy(problem: MatrixCompletion, request: Request) -> Answer:
    path = glrl(
        problem,
        rtol=float(request.get("rtol", 1e-5)),
        loss_tol=float(request.get("loss_tol", 1e-10)),
        max_steps=int(request.get("max_steps", 2000)),
    )
    return {
        "critical_points": [W.tolist() for W in path.critical_points],
        "ranks": list(path.ranks),
        "W": path.W.tolist(),
        "converged": bool(path.converged),
        "reason": path.reason,
    }


TASKS = {
    "flow": flow,
    "deep": deep,
    "glrl": greedy,
    "minNuclear": least_nuclear_norm,
    "minRank": smallest_rank,
}
