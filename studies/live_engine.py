"""Follow random and hard problems by the Python engine, for the engine in the page to be held to.

    python -m studies.live_engine

Some minutes on one core. `tests/browser/live_engine.json` holds the problems and their answers with
their provenance; the test that reads it computes a part of them again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from studies.provenance import provenance

STORE = Path(__file__).resolve().parents[1] / "tests" / "browser" / "live_engine.json"
SEED, COUNT = 11, 300
SCALES = (0, -1, -2, -5, -10, -30, -100, -300, -1000)
RTOL, LOSS_TOL, MAX_STEPS = 1e-6, 1e-10, 5000

# A problem as it is stored: rows of numbers and None, the start, the scale, the loss.
Case = dict[str, Any]


def random_case(k: int) -> Case:
    """Case k: any shape up to 6×6, any mask, three kinds of data, any scale."""
    rng = np.random.default_rng([SEED, k])
    m, n = (int(side) for side in rng.integers(1, 7, 2))
    blocks = k % 5 == 0
    if blocks:  # complete blocks, and rows and columns without an entry
        mask = rng.integers(0, 3, m)[:, None] == rng.integers(0, 3, n)
        mask[0, 0] |= not mask.any()
    else:
        mask = mf.populations.random_mask(rng, (m, n), int(rng.integers(1, m * n + 1)))
    kind = ("integer", "Gaussian", "low rank")[k % 3]
    if kind == "integer":
        M = rng.integers(-9, 10, (m, n)).astype(float)
    elif kind == "Gaussian":
        M = rng.standard_normal((m, n))
    else:
        M = mf.populations.random_low_rank(rng, (m, n), int(rng.integers(1, min(m, n) + 1)))
    return case(
        np.where(mask, M, np.nan),
        name=f"{kind}{', blocks' if blocks else ''}",
        scale=SCALES[int(rng.integers(len(SCALES)))],
        seed=int(rng.integers(1000)),
        loss=("mean", "half")[int(rng.integers(2))],
    )


def case(values: Any, **settings: Any) -> Case:
    """Values with NaN or None where nothing is observed; numbers of six digits."""
    rows = [
        [None if v is None or np.isnan(v) else float(f"{v:.6g}") for v in row] for row in values
    ]
    return {"name": "", "scale": -100, "seed": 0, "loss": "mean", "start": "", **settings} | {
        "values": rows
    }


def hard_cases() -> list[Case]:
    """Zeros, ties, symmetries, runaways, other widths, other units."""
    q = None
    cases = [
        case([[0, q], [q, 0]], name="zeros"),
        case([[0, 0, q], [0, q, 0]], name="zeros", scale=0),
        case([[0]], name="zeros", scale=-3),
        case([[5]], name="one entry"),
        case([[q, -5]], name="one entry", scale=-1000),
        case([[q, q, q], [q, 3, q], [q, q, q]], name="one entry"),
        case([[1, 2, 3, 4, 5, 6]], name="one row"),
        case([[1], [q], [2]], name="one column", scale=-10),
        case([[0, 1], [2, q]], name="observed zero"),
        case([[0, 1], [2, q]], name="observed zero", scale=-2),
        case([[0, 1, 0], [2, q, 1], [0, 1, q]], name="observed zeros"),
        case([[1, 2], [q, 3]], name="not commuting"),
        case([[1, 0, 0], [0, 1, 0], [0, 0, 1]], name="ties"),
        case([[2, 2, q], [2, 2, q], [q, q, 4]], name="ties"),
        case([[1, q, q], [q, 1, q], [q, q, 1]], name="ties"),
        case([[1, 1], [1, q]], name="ties", scale=-1000),
        case([[3, 3, 3], [3, q, 3], [3, 3, q]], name="ties"),
        case([[1, 2, q], [3, q, q], [q, q, 5]], name="M1"),
        case([[1, 2, q], [3, 4, q], [q, q, 5]], name="M2"),
        case([[1, 2, q], [3, 4, q], [6, q, 5]], name="M3"),
        case([[4, 0.6, 1.8, 0.8], [6, 0.9, 2.7, q], [8, 2.2, 2.6, 1.6], [8, 2.7, 5.1, 3.6]]),
        case([[1, 2, q, q], [q, q, q, q], [3, q, q, 1]], name="a row without data"),
        case([[1, 2, q, q], [q, q, q, q], [3, q, q, 1]], name="a row without data", scale=0),
        case([[q, 2, q], [q, q, q], [q, 3, 1]], name="a row without data", scale=-1),
    ]
    for scale in (0, -1, -3, -10, -100, -1000):
        cases.append(case([[1, 2], [3, q]], name="M4", scale=scale))
        cases.append(case([[1, 2], [20, q]], name="M5", scale=scale))
        cases.append(case([[1, q, 3], [q, 5, q], [3, q, 9]], name="disconnected", scale=scale))
    for scale in (-2, -30, -100, -1000):
        cases.append(case([[2, 1, 1], [-1, -1, -1], [2, -3, q]], name="runaway", scale=scale))
    for corner in (-20, 0, 0.5, 1.5, 100):
        cases.append(case([[1, 2], [corner, q]], name="corner"))
    for R in (2, 100):
        for scale in (-1, -100):
            row = [[q, q, 1, R], [q, q, R, q], [1, R, q, q], [R, q, q, q]]
            cases.append(case(row, name="nuclear", scale=scale, loss="half"))
    symmetric = [
        [[2, 1, q], [1, q, 3], [q, 3, 1]],
        [[1, 2, 3], [2, q, 4], [3, 4, q]],
        [[4, -1], [-1, q]],
        [[-1, 2, q], [2, -3, 1], [q, 1, 0]],
        [[1, q, q, 2], [q, 2, 1, q], [q, 1, 2, q], [2, q, q, 5]],
        [[0, 1, q], [1, 0, 1], [q, 1, 0]],
    ]
    for rows in symmetric:
        for start in ("", "transposed", "negated"):
            for scale in (-1, -100):
                cases.append(case(rows, name="symmetric", start=start, scale=scale))
    for start in ("width 1", "width 2", "width 9", "dependent"):
        for seed in (1, 2):
            rows = [[1, 2, q], [3, 4, -1], [6, q, 5]]
            cases.append(case(rows, name="width", start=start, seed=seed, scale=-20))
    for unit in (1e-9, 1e9):
        rows = [[1 * unit, 2 * unit, q], [3 * unit, q, unit], [q, q, 5 * unit]]
        cases.append(case(rows, name="units", scale=-50))
        cases.append(case(rows, name="units", scale=-3))
    return cases


def cases() -> list[Case]:
    return [*map(random_case, range(COUNT)), *hard_cases()]


def start_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The factors of a case's `start`, made from its seed."""
    shape = len(case["values"]), len(case["values"][0])
    kind = case["start"]
    if kind.startswith("width"):
        A, B = mf.small_init(shape, width=int(kind.split()[1]), rng=case["seed"])
        return A, B
    A, B = mf.small_init(shape, rng=case["seed"])
    if kind == "transposed":
        return A, A.T
    if kind == "negated":
        return A, -A.T
    if kind == "dependent":
        return np.concatenate([A, A], axis=1), np.concatenate([B, -B])
    return A, B


def problem_of(case: Case) -> mf.MatrixCompletion:
    return mf.MatrixCompletion.from_array(case["values"], loss=case["loss"])


def answer(case: Case) -> dict[str, Any]:
    """Where the Python engine says that the flow ends, in eight digits."""
    run = mf.gradient_flow(
        problem_of(case),
        start_of(case),
        log10_scale=case["scale"],
        rtol=RTOL,
        loss_tol=LOSS_TOL,
        max_steps=MAX_STEPS,
    )
    W = [[float(f"{w:.8g}") for w in row] for row in run.W]
    ranks = [phase.rank for phase in run.phases]
    return {"converged": bool(run.converged), "reason": run.reason, "W": W, "ranks": ranks}


def main() -> None:
    origin = provenance(
        "python -m studies.live_engine",
        seed=SEED,
        count=COUNT,
        rtol=RTOL,
        loss_tol=LOSS_TOL,
        max_steps=MAX_STEPS,
    )
    rows = ",\n".join(
        json.dumps(one | answer(one), ensure_ascii=False, separators=(",", ":")) for one in cases()
    )
    STORE.write_text(f'{{"provenance": {json.dumps(origin)},\n"rows": [\n{rows}\n]}}\n', "utf-8")


if __name__ == "__main__":
    main()
