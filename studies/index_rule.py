"""Where flows of three and four factors on complete components end, once, and store it.

    python -m studies.index_rule

Half a minute. Eight random problems of two and three complete components, three and four
factors, one start each, from five scales: 80 ends. `book/depth/index_rule.json` holds them with
their provenance; the chapter that reads it compares them with its rule, and runs a part again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import mfbook as mf
from studies.provenance import provenance

RESULT = Path(__file__).resolve().parents[1] / "book" / "depth" / "index_rule.json"
# The shapes of the components, in turn. The first draws of the seed are the chapter's figure.
SHAPES = (((2, 2), (2, 2)), ((2, 3), (1, 2)), ((2, 2), (1, 1), (2, 1)), ((3, 3), (2, 2)))
COUNT, SEED, DRAWN_BEFORE = 8, 6, 20
DEPTHS, EXPONENTS = (3, 4), (2, 3, 4, 6, 30)
# The end hangs on what every step conserves and on the loss, not on rtol.
LOSS_TOL, RTOL = 1e-18, 1e-3


def problems() -> list[mf.MatrixCompletion]:
    """Gaussian blocks on the diagonal, nothing else observed."""
    rng = np.random.default_rng(SEED)
    rng.standard_normal(DRAWN_BEFORE)
    found = []
    for k in range(COUNT):
        shapes = SHAPES[k % len(SHAPES)]
        values = np.full(np.sum(shapes, axis=0), np.nan)
        i = j = 0
        for m, n in shapes:
            values[i : i + m, j : j + n] = rng.standard_normal((m, n))
            i, j = i + m, j + n
        found.append(mf.MatrixCompletion.from_array(values, loss="half"))
    return found


def end(problem: mf.MatrixCompletion, index: int, depth: int, exponent: int) -> dict[str, Any]:
    """W where one run ends, with all digits, and whether it fits."""
    start = mf.small_init(problem.shape, depth=depth, rng=[index, depth])
    run = mf.gradient_flow(
        problem, start, log10_scale=-exponent, loss_tol=LOSS_TOL, rtol=RTOL, progress=False
    )
    return {"exponent": exponent, "converged": run.converged, "W": run.W.tolist()}


def main() -> None:
    found = {
        f"{depth}/{index}": [end(problem, index, depth, e) for e in EXPONENTS]
        for index, problem in enumerate(problems())
        for depth in DEPTHS
    }
    origin = provenance(
        "python -m studies.index_rule",
        seed=SEED,
        loss_tol=LOSS_TOL,
        rtol=RTOL,
    )
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(runs)}" for key, runs in found.items())
    RESULT.write_text(f'{{"provenance": {json.dumps(origin)},\n"found": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
