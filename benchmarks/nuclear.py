"""Minimum nuclear norm beside CVXPY's solvers: seconds, violation of the data, and gap."""

import cvxpy as cp
import numpy as np

from benchmarks.table import Table, timed
from mfbook.problems import MatrixCompletion
from mfbook.problems.populations import random_low_rank, random_mask
from mfbook.rivals.nuclear import min_nuclear_norm
from mfbook.theory.measures import nuclear_norm

# Beyond it an interior-point method needs more memory than 16 GB, or minutes.
LARGEST_INTERIOR_POINT = 30
# n, rank of the truth, observed entries
SIZES = ((4, 1, 10), (10, 2, 50), (20, 2, 200), (30, 3, 450), (50, 3, 1250), (100, 5, 5000))


def problem_of(n, rank, count):
    rng = np.random.default_rng(n)
    truth = random_low_rank(rng, (n, n), rank) / np.sqrt(n)
    return MatrixCompletion(truth, random_mask(rng, (n, n), count))


def modelled(problem, solver):
    """The problem written in CVXPY, solved with the solver's own settings."""
    W = cp.Variable(problem.shape)
    seen = problem.mask.astype(float)
    fits = cp.multiply(seen, W) == np.where(problem.mask, problem.values, 0.0)
    cp.Problem(cp.Minimize(cp.normNuc(W)), [fits]).solve(solver=solver)
    return W.value


def nuclear():
    """Ours (the first line of a size) against Clarabel and SCS through CVXPY."""
    table = Table(
        "nuclear",
        "Minimum nuclear norm (violation: largest residual over the largest entry; excess: value "
        "over our certified lower bound, relative; ratio: seconds over ours).",
        keys=("problem", "solver"),
        counted=(),
        measured=("ratio", "violation", "excess", "seconds"),
    )
    for n, rank, count in SIZES:
        problem = problem_of(n, rank, count)
        min_nuclear_norm(problem)  # the first call imports the solver
        best, seconds = timed(lambda p=problem: min_nuclear_norm(p))
        largest = np.nanmax(np.abs(problem.values))

        def report(name, W, took, best=best, seconds=seconds, n=n, p=problem, top=largest):
            violation = np.abs(p.residual(W)).max() / top
            excess = nuclear_norm(W) / best.lower_bound - 1
            ratio = f"{took / seconds:.1f}"
            table.row(f"{n}×{n}", name, ratio, f"{violation:.0e}", f"{excess:.0e}", f"{took:.3f}")

        report(best.solver.split(" (")[0], best.W, seconds)
        solvers = [cp.SCS] if n > LARGEST_INTERIOR_POINT else [cp.CLARABEL, cp.SCS]
        for solver in solvers:
            W, took = timed(lambda p=problem, s=solver: modelled(p, s))
            report(f"CVXPY {solver}", W, took)
    return table
