"""Two factors: the engine beside descent, and what it costs against scale, size and phases."""

import numpy as np

from benchmarks.problems import low_rank
from benchmarks.solvers import descend, largest_step
from benchmarks.table import Table, alone, peak, timed
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, examples


def scales():
    """Steps and seconds against the scale of the start."""
    table = Table(
        "scales",
        "One problem at many scales (rtol 1e-6, loss 1e-12).",
        keys=("problem", "log10 scale"),
        counted=("★ or σ3", "steps", "gradients"),
        measured=("seconds",),
    )
    cases = [
        ("[1 2; 20 ★]", MatrixCompletion.from_text("1 2; 20 ?"), (-20, -100)),
        ("[1 2; 100 ★]", MatrixCompletion.from_text("1 2; 100 ?"), (-41, -100, -10_000)),
        ("connected 4×4", examples.connected_4x4, (-10, -100, -1000, -10_000)),
    ]
    for name, problem, exponents in cases:
        factors = small_init(problem.shape, rng=0)
        for exponent in exponents:
            run, seconds = timed(
                lambda p=problem, f=factors, e=exponent: gradient_flow(
                    p, f, log10_scale=e, loss_tol=1e-12
                )
            )
            value = run.W[1, 1] if problem.shape == (2, 2) else run.singular_values[-1, 2]
            table.row(
                name, exponent, f"{value:.4f}", run.n_steps, run.n_gradients, f"{seconds:.2f}"
            )
    return table


def synthetic(m, n, rank, count, width, decay=1.0):
    """A rank-`rank` matrix of mean square 1, `count` entries observed, and a Gaussian start."""
    rng = np.random.default_rng(0)
    problem = low_rank(rng, m, n, rank, count, decay)
    return problem, small_init((m, n), width=width, rng=rng)


def hundred():
    """100×100 of rank 5, width 100, rtol 1e-4: the engine and descent, from 1e-3 and 10^-100."""
    table = Table(
        "hundred",
        "100×100, rank 5, width 100, ‖W(0)‖ = 1e-3 or α = 10^-100, rtol 1e-4, loss 1e-9 (ratio: "
        "the engine's seconds over those of descent, the faster of two runs of each).",
        keys=("entries", "start", "method"),
        counted=("gradients", "ended"),
        measured=("ratio", "error", "seconds"),
    )
    for count in (2000, 5000):
        problem, (A, B) = synthetic(100, 100, 5, count, 100)
        alpha = np.sqrt(1e-3 / np.linalg.norm(A @ B))
        lr, _ = largest_step(problem, (A, B), alpha, 1e-9, 1)

        def error(W, p=problem):
            return f"{np.linalg.norm(W - p.truth) / np.linalg.norm(p.truth):.1e}"

        starts = np.log10(alpha), -100.0
        runs = {}
        for _ in range(2):  # in turns, so that what else the machine does falls on all of them
            for start in starts:
                runs.setdefault(start, []).append(
                    timed(
                        lambda p=problem, f=(A, B), s=start: gradient_flow(
                            p, f, log10_scale=s, rtol=1e-4, loss_tol=1e-9
                        )
                    )
                )
            runs.setdefault("descent", []).append(
                timed(lambda p=problem, f=(A, B), a=alpha, s=lr: descend(p, f, a, s, 1e-9, 30_000))
            )
        best = {name: min(found, key=lambda pair: pair[1]) for name, found in runs.items()}
        (k, W, ended), plain = best["descent"]
        for start in starts:
            run, seconds = best[start]
            table.row(count, f"10^{start:.0f}", "engine", run.n_gradients, run.reason,
                      f"{seconds / plain:.2f}", error(run.W), f"{seconds:.2f}")  # fmt: skip
        start = f"10^{starts[0]:.0f}"
        table.row(count, start, "descent", k, ended, "1", error(W), f"{plain:.2f}")
    return table


def growth():
    """How the cost grows with the size."""
    table = Table(
        "growth",
        "Cost against size: n×n, rank 3, 40 % observed, width 5, α = 10^-20, rtol 1e-4.",
        keys=("n",),
        counted=("steps", "gradients", "rests"),
        measured=("ms a gradient", "seconds"),
    )
    for n in (10, 20, 40, 80, 160, 320):
        problem, factors = synthetic(n, n, 3, int(0.4 * n * n), 5, decay=0.6)
        run, seconds = timed(
            lambda p=problem, f=factors: gradient_flow(
                p, f, log10_scale=-20, rtol=1e-4, loss_tol=1e-9, max_steps=3000
            )
        )
        table.row(n, run.n_steps, run.n_gradients, len(run.phases) - 1,
                  f"{1e3 * seconds / run.n_gradients:.2f}", f"{seconds:.2f}")  # fmt: skip
    return table


def phases():
    """How the cost grows with the number of phases."""
    table = Table(
        "phases",
        "Cost against the number of phases: 100×100, half observed, α = 10^-30, rtol 1e-4.",
        keys=("rank",),
        counted=("steps", "gradients", "rests"),
        measured=("seconds",),
    )
    for rank in (1, 2, 4, 8):
        problem, factors = synthetic(100, 100, rank, 5000, rank + 2, decay=0.6)
        run, seconds = timed(
            lambda p=problem, f=factors: gradient_flow(
                p, f, log10_scale=-30, rtol=1e-4, loss_tol=1e-8, max_steps=3000
            )
        )
        table.row(rank, run.n_steps, run.n_gradients, len(run.phases) - 1, f"{seconds:.2f}")
    return table


def movielens():
    """943×1682, 100,000 entries of a rank-10 matrix, width 12, through ten phases."""
    table = Table(
        "movielens",
        "MovieLens size, synthetic: 943×1682, 100,000 entries, rank 10, width 12, rtol 1e-4.",
        keys=("log10 scale",),
        counted=("rank", "steps", "gradients", "ended"),
        measured=("peak MB", "seconds"),
    )
    for exponent in (-6, -60):
        table.row(exponent, *alone(movielens_row, exponent))
    return table


def movielens_row(exponent):
    """What one run of that size gives, from 10^exponent."""
    problem, factors = synthetic(943, 1682, 10, 100_000, 12, decay=1 / 1.5)
    run, seconds = timed(
        lambda: gradient_flow(
            problem, factors, log10_scale=exponent, rtol=1e-4, loss_tol=1e-5, max_steps=3000
        )
    )
    rank = int((run.singular_values[-1] > 1e-3 * run.singular_values[-1, 0]).sum())
    return rank, run.n_steps, run.n_gradients, run.reason, peak(), f"{seconds:.0f}"
