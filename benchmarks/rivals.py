"""The flow beside its rivals on the same data: what each costs, and how near the truth it ends."""

import numpy as np

from benchmarks.table import Table, timed
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion
from mfbook.problems.populations import random_low_rank, random_mask
from mfbook.rivals.alternating import alternating_least_squares
from mfbook.rivals.glrl import glrl
from mfbook.rivals.nuclear import min_nuclear_norm
from mfbook.rivals.pursuit import geco, rank_one_matrix_pursuit
from mfbook.theory.measures import numerical_rank, reconstruction_error

# n, rank of the truth, observed entries
SIZES = ((4, 1, 10), (20, 3, 240), (50, 3, 1250), (100, 5, 5000))
RTOL = 1e-4


def problem_of(n, rank, count):
    rng = np.random.default_rng(n)
    truth = random_low_rank(rng, (n, n), rank) / np.sqrt(rank)
    return MatrixCompletion(truth, random_mask(rng, (n, n), count), loss="half", truth=truth)


def methods(problem, rank):
    """What is run, each with what its iterations are."""
    start = small_init(problem.shape, width=rank + 2, rng=0)

    def flow(exponent):
        return gradient_flow(problem, start, log10_scale=-exponent, rtol=RTOL)

    def gradients(run):
        return f"{run.n_gradients} gradients"

    def atoms(path):
        return f"{len(path.iterations)} atoms"

    many = 5 * rank
    return {
        "flow from 1e-2": (lambda: flow(2), gradients),
        "flow from 1e-100": (lambda: flow(100), gradients),
        "GLRL": (
            lambda: glrl(problem, rtol=RTOL),
            lambda path: f"{sum(path.iterations)} gradients",
        ),
        "ALS": (
            lambda: alternating_least_squares(problem),
            lambda path: f"{sum(path.iterations)} sweeps",
        ),
        "R1MP": (lambda: rank_one_matrix_pursuit(problem, rank), atoms),
        "R1MP, five times": (lambda: rank_one_matrix_pursuit(problem, many), atoms),
        "economic, five times": (
            lambda: rank_one_matrix_pursuit(problem, many, economic=True),
            atoms,
        ),
        "GECO": (lambda: geco(problem, rank), atoms),
        "nuclear norm": (
            lambda: min_nuclear_norm(problem),
            lambda best: best.solver.split(" (")[0],
        ),
    }


def rivals():
    """Exactly low-rank data, well determined: half of the entries or more."""
    table = Table(
        "rivals",
        "Rivals on n×n data of low rank (train and test: relative squared error on the observed "
        "entries and on all; five times: as many atoms as five times the rank; flows of width "
        "rank + 2, rtol 1e-4).",
        keys=("problem", "method"),
        counted=("iterations", "rank"),
        measured=("train", "test", "seconds"),
    )
    for solve, _ in methods(problem_of(*SIZES[0]), SIZES[0][1]).values():
        solve()  # the first calls load the engine and the solvers
    for n, rank, count in SIZES:
        problem = problem_of(n, rank, count)
        at_zero = problem.loss_value(np.zeros(problem.shape))
        for name, (solve, effort) in methods(problem, rank).items():
            answer, seconds = timed(solve)
            W = answer.W
            table.row(
                f"{n}×{n}, rank {rank}", name, effort(answer), numerical_rank(W, rtol=1e-4),
                f"{problem.loss_value(W) / at_zero:.0e}",
                f"{reconstruction_error(W, problem.truth):.0e}", f"{seconds:.3f}",
            )  # fmt: skip
    return table
