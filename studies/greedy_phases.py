"""Follow greedy low-rank learning through all of its phases, on random problems, and store it.

    python -m studies.greedy_phases [--jobs 2]

About ten minutes on two cores. `book/greedy/phases.json` holds two parts. The first is a
population of small symmetric problems: the critical points of greedy low-rank learning, what is
asked of each, and the flow from 10^-1000. The second is Figure 1 of Li, Luo & Lyu 2021 at its
size, for twenty starts and scales down to 10^-1000. The chapter that reads it computes a part of
both again.
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
from studies.provenance import provenance
from studies.rounding import rounded

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "book" / "greedy" / "phases.json"
BUILD = ROOT / "_build" / "sweeps"

D, COUNT, SEED, EXPONENT = 5, 120, 511, 1000
OPTIONS = {"rtol": 1e-9, "loss_tol": 1e-13, "max_steps": 3000}
EPS = 1e-12
# A power is read off between the scales with about these distances, in the data's unit.
FAR, NEAR = 1e-5, 1e-9
# Alignment is looked at where the escaping column has this share of the saddle's square.
SHARE = 1e-5
# Below it the flow from 10^-1000 is not yet near the path, or the saddle is degenerate.
LEAST_POWER = 0.005

# Appendix C.1 of the paper.
SPECTRUM, RATES, OBSERVED = (17.41, 8.85, 4.31), (6.23, 5.41), 0.3
SCANNED, WITHIN = 4100, 0.02
# Of those with λ₁ and λ₂ of −∇f(0) within 2 % of the paper's the first whose truth greedy low-rank
# learning recovers.
PROBLEM = 2150
STARTS = 20
EXPONENTS = (1, 3, 5, 10, 30, 100, 1000)
DRAWN = EXPONENTS[:3]
FIGURE_OPTIONS = {"rtol": 1e-6, "loss_tol": 1e-10}
CURVE = 60


def small_problem(index: int) -> mf.SymmetricCompletion:
    """5×5, three with a truth V Vᵀ of rank 1, 2, 3, and one of Gaussian data in turn.

    With a truth, up to three pairs i ≤ j less or two more are observed than it has unknowns, and
    at most 13 of the 15. The graph of the pairs is connected and touches all indices.
    """
    rng = np.random.default_rng([SEED, index])
    rank = 1 + index % 4
    unknowns = rank * D - rank * (rank - 1) // 2
    S = rng.standard_normal((D, min(rank, 3) if rank < 4 else D))
    truth = S @ S.T if rank < 4 else S + S.T
    size = int(np.clip(unknowns + rng.integers(-3, 3), D - 1, 13))
    pairs = list(itertools.combinations_with_replacement(range(D), 2))
    while True:
        mask = np.zeros((D, D), dtype=bool)
        for k in rng.permutation(len(pairs))[:size]:
            mask[pairs[k]] = mask[pairs[k][::-1]] = True
        problem = mf.SymmetricCompletion(truth, mask, truth=truth)
        if mask.any(axis=0).all() and len(mf.components(problem)) == 1:
            return problem


def saddle(problem: mf.SymmetricCompletion, W: np.ndarray, r: int) -> tuple[np.ndarray, float]:
    """At a critical point of rank r: the rates of −∇f on its kernel, and the largest ξ."""
    values, vectors = np.linalg.eigh(W)
    N, U = vectors[:, : D - r], vectors[:, D - r :] * np.sqrt(values[D - r :].clip(0))
    rates = np.linalg.eigvalsh(-N.T @ problem.gradient(W) @ N)[::-1]
    if r == 0:
        return rates, -np.inf
    xi = -np.linalg.eigvalsh(mf.hessian(problem, (U,), tol=np.inf))
    # Changes of the hidden basis have ξ = 0, r(r − 1)/2 of them.
    return rates, float(np.delete(xi, np.argsort(np.abs(xi))[: r * (r - 1) // 2]).max())


def right_eigenvector(
    problem: mf.SymmetricCompletion, W: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """v₁, and the right eigenvector R of J(W) for 2μ₁ with v₁ᵀ R v₁ = 1."""
    G, flat = problem.gradient(W), problem.gradient(np.zeros((D, D)))
    v = np.linalg.eigh(-G)[1][:, -1]
    columns = []
    for i, j in itertools.combinations_with_replacement(range(D), 2):
        E = np.zeros((D, D))
        E[i, j] = E[j, i] = 1.0
        bent = problem.gradient(E) - flat
        moved = -G @ E - E @ G - bent @ W - W @ bent
        columns.append(moved[np.triu_indices(D)])
    values, vectors = np.linalg.eig(np.array(columns).T)
    R = np.zeros((D, D))
    R[np.triu_indices(D)] = vectors[:, np.argmax(values.real)].real
    R = R + np.triu(R, 1).T
    return v, R / (v @ R @ v)


def crossing(run: mf.Trajectory, value, level: float, last: int | None = None) -> float:
    """The last time before step `last` at which value(t) rises through a level."""
    high = np.array([value(t) > level for t in run.t[: None if last is None else last + 1]])
    k = int(np.flatnonzero(~high)[-1])
    return brentq(lambda t: value(t) - level, run.t[k], run.t[k + 1], rtol=1e-14)


def at_loss(problem: mf.SymmetricCompletion, run: mf.Trajectory, level: float) -> np.ndarray:
    """W where the run's loss falls through a level."""
    return run.W_at(crossing(run, lambda t: -problem.loss_value(run.W_at(t)), -level))


def alignment(problem: mf.SymmetricCompletion, W: np.ndarray, run: mf.Trajectory, level: float):
    """⟨v₁v₁ᵀ, W(t) − W̄⟩ / ‖W(t) − W̄‖ as the flow leaves W̄, and its limit 1/‖R‖."""
    v, R = right_eigenvector(problem, W)
    last = int(np.flatnonzero(run.loss < level)[0])
    level = SHARE * np.linalg.norm(W, 2)
    t = crossing(run, lambda t: float(np.sum((run.factors_at(t)[0].T @ v) ** 2)), level, last)
    away = run.W_at(t) - W
    return rounded(v @ away @ v / np.linalg.norm(away), 6), rounded(1 / np.linalg.norm(R), 6)


def measured_power(problem, U, half: float, reference, unit: float, power: float) -> list[float]:
    """The power that is due, the measured one, and between which distances it was measured."""

    def off(exponent: float) -> float:
        run = mf.gradient_flow(problem, (U,), log10_scale=-exponent, **OPTIONS)
        return np.linalg.norm(at_loss(problem, run, half) - reference) / unit

    # The first run tells the factor in front, and with it the scales for the two others.
    first = -np.log10(FAR) / power
    factor = np.log10(off(first)) + power * first
    exponents = [max((factor - np.log10(distance)) / power, 1.0) for distance in (FAR, NEAR)]
    far, near = (off(e) for e in exponents)
    measured = np.log10(far / near) / (exponents[1] - exponents[0])
    return [rounded(x, 5) for x in (power, measured, far, near)]


def study(index: int) -> dict:
    """The greedy path of one problem, its saddles, and how the flow compares."""
    problem = small_problem(index)
    unit = float(np.abs(problem.values[problem.mask]).max())
    path = mf.glrl(problem, eps=EPS, **OPTIONS)
    points = path.critical_points
    # The last one is the end: a minimum, or no critical point at all.
    saddles = [saddle(problem, W, r) for r, W in enumerate(points[:-1])]
    (U,) = mf.small_init(problem, rng=[SEED, index])
    run = mf.gradient_flow(problem, (U,), log10_scale=-EXPONENT, **OPTIONS)
    times = [run.W_at(t) for t in run.t]
    found = {
        "phases": len(points) - 1,
        "greedy": path.reason,
        "flow": run.reason,
        "rates": [[rounded(x) for x in rates[:2]] for rates, _ in saddles],
        "xi": [rounded(xi) for _, xi in saddles[1:]],
        "size": rounded(np.linalg.norm(path.W, 2) / unit),
        "apart": rounded(np.linalg.norm(run.W - path.W) / unit, 2),
        "nearest": [
            rounded(min(np.linalg.norm(V - W) for V in times) / unit, 2) for W in points[1:-1]
        ],
        "aligned": [],
        "powers": [],
    }
    losses = [problem.loss_value(W) for W in points]
    c = np.ones(D)
    for k, (rates, xi) in enumerate(saddles):
        half = (losses[k] + losses[k + 1]) / 2
        if k and found["nearest"][k - 1] < 1e-6 and found["apart"] < 1e-4:
            found["aligned"].append(alignment(problem, points[k], run, half))
            power = c[k] * min(1 - rates[1] / rates[0], -xi / rates[0])
            if LEAST_POWER < power < 1:
                reference = at_loss(problem, path.trajectories[k], half)
                measured = measured_power(problem, U, half, reference, unit, power)
                found["powers"].append([k + 1, *measured])
        c[k + 1 :] -= rates[1:] / rates[0] * c[k]
    return found


def paper_problem(seed: int) -> mf.SymmetricCompletion:
    """C.1: 20×20 with the eigenvalues of the paper, each pair observed with probability 0.3."""
    rng = np.random.default_rng([1, seed])
    Q, _ = np.linalg.qr(rng.standard_normal((20, 3)))
    truth = (Q * np.array(SPECTRUM)) @ Q.T
    mask = np.triu(rng.random((20, 20)) < OBSERVED)
    truth = (truth + truth.T) / 2
    return mf.SymmetricCompletion(truth, mask | mask.T, truth=truth)


def like_the_paper() -> list[int]:
    """The problems scanned whose λ₁ and λ₂ of −∇f(0) are near those of the paper."""
    found = []
    for seed in range(SCANNED):
        top = np.linalg.eigvalsh(-paper_problem(seed).gradient(np.zeros((20, 20))))[:-3:-1]
        if np.abs(top / np.array(RATES) - 1).max() < WITHIN:
            found.append(seed)
    return found


def greedy_end(seed: int) -> dict:
    """Where greedy low-rank learning ends on one of them."""
    problem = paper_problem(seed)
    path = mf.glrl(problem, max_rank=4, max_steps=1500, **FIGURE_OPTIONS)
    return {
        "seed": seed,
        "observed": int(np.triu(problem.mask).sum()),
        "phases": len(path.critical_points) - 1,
        "reason": path.reason,
        "size": rounded(np.linalg.norm(path.W)),
        "off": rounded(np.linalg.norm(path.W - problem.truth), 2),
    }


def balanced_start(seed: int) -> np.ndarray:
    """C.1: U = V₁ D^½ V₂ᵀ with ‖D‖_F = 1, so that ‖W(0)‖_F = 1; V₂ changes nothing."""
    rng = np.random.default_rng([2, seed])
    V, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    diagonal = np.abs(rng.standard_normal(20))
    return V * np.sqrt(diagonal / np.linalg.norm(diagonal))


@cache
def greedy_line() -> np.ndarray:
    """Points along the greedy path, equally spaced in each phase by the length of the way."""
    points = []
    for run in mf.glrl(paper_problem(PROBLEM), **FIGURE_OPTIONS).trajectories:
        between = [np.linspace(a, b, 10) for a, b in itertools.pairwise(run.t)]
        times = np.unique(np.concatenate(between))
        W = np.array([run.W_at(t).ravel() for t in times])
        way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(W, axis=0), axis=1))])
        even = np.interp(np.linspace(0, way[-1], 1000), way, times)
        points += [run.W_at(t).ravel() for t in even]
    return np.array(points)


def distances_to(line: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The distance of each state from a polyline, near the vertex that is nearest."""
    nearest = ((line**2).sum(axis=1) - 2 * states @ line.T).argmin(axis=1)
    found = []
    for W, vertex in zip(states, nearest, strict=True):
        around = line[max(vertex - 3, 0) : vertex + 4]
        a, step = around[:-1], np.diff(around, axis=0)
        length = np.maximum((step**2).sum(axis=1), 1e-300)
        share = (((W - a) * step).sum(axis=1) / length).clip(0, 1)
        found.append(np.linalg.norm(a + share[:, None] * step - W, axis=1).min())
    return np.array(found)


def distances(task: tuple[int, int]) -> dict:
    """dist(t) of Figure 1 along one run: the largest, and a curve over the time."""
    exponent, seed = task
    line = greedy_line()
    start = (balanced_start(seed),)
    # ‖W(0)‖_F = 10^-exponent
    run = mf.gradient_flow(
        paper_problem(PROBLEM), start, log10_scale=-exponent / 2, **FIGURE_OPTIONS
    )
    states = np.array([run.W_at(t).ravel() for t in run.t])
    found = {"largest": rounded(distances_to(line, states).max())}
    if exponent in DRAWN:
        times = np.geomspace(1e-2, run.t[-1], CURVE)
        states = np.array([run.W_at(t).ravel() for t in times])
        found["t"] = [rounded(t) for t in times]
        found["distance"] = [rounded(x, 3) for x in distances_to(line, states)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    small = {"d": D, "count": COUNT, "seed": SEED, "exponent": EXPONENT, "eps": EPS, **OPTIONS}
    population = mf.sweep(
        study,
        {str(k): k for k in range(COUNT)},
        store=BUILD / "greedy_phases.jsonl",
        provenance=small,
        n_jobs=jobs,
    )
    large = {"problem": PROBLEM, "starts": STARTS, **FIGURE_OPTIONS}
    figure = mf.sweep(
        distances,
        {f"{e} {s}": (e, s) for e in EXPONENTS for s in range(STARTS)},
        store=BUILD / "greedy_figure_1.jsonl",
        provenance=large,
        n_jobs=jobs,
    )
    like = mf.sweep(
        greedy_end,
        {str(seed): seed for seed in like_the_paper()},
        store=BUILD / "greedy_ends.jsonl",
        provenance={"scanned": SCANNED, "within": WITHIN, **FIGURE_OPTIONS},
        n_jobs=jobs,
    )
    stored = {
        "provenance": provenance(
            "python -m studies.greedy_phases", small=small, figure_1=large, scanned=SCANNED
        ),
        "population": list(population.values()),
        "like_the_paper": list(like.values()),
        "figure_1": figure,
    }
    text = (
        json.dumps(stored).replace('{"phases"', '\n{"phases"').replace('{"largest"', '\n{"largest"')
    )
    RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
