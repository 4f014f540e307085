"""Connected data and the smallest rank: what is proved, and the printed exceptions."""

import subprocess
import sys

import numpy as np
import pytest

import mfbook as mf
from mfbook.problems.populations import random_mask

# What a reader does with entries copied from the page, in a process that knows nothing else.
FRESH = """
import sys
import mfbook as mf
problem = mf.MatrixCompletion.from_text(sys.argv[1])
start = mf.small_init(problem.shape, rng=1)
for exponent in (30, 1000):
    run = mf.gradient_flow(problem, start, log10_scale=-exponent)
    print(mf.min_rank(problem).rank, run.converged, run.singular_values[-1, 2])
"""


def learned(text: str) -> list[tuple[int, bool, float]]:
    """Smallest rank, convergence and third singular value, from 1e-30 and from 10^-1000."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH, text],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return [
        (int(rank), converged == "True", float(third))
        for rank, converged, third in zip(found[::3], found[1::3], found[2::3], strict=True)
    ]


def printed(problem: mf.MatrixCompletion) -> str:
    return "; ".join(" ".join(row) for row in problem.words())


@pytest.mark.slow
def test_the_integer_example_fails_in_a_fresh_process():
    (rank, fits, third), (_, fits_far, third_far) = learned(printed(mf.examples.runaway_3x3))
    assert rank == 2 and fits and fits_far
    assert third < 1e-6, "from 1e-30 the smallest rank is learned"
    assert third_far == pytest.approx(0.394, abs=1e-3), "from 10^-1000 it is not"


@pytest.mark.slow
def test_a_smaller_integer_entry_makes_it_succeed():
    """With 3 in place of −3 nothing runs away: the test above is about this matrix."""
    assert [third < 1e-6 for *_, third in learned("2 1 1; -1 -1 -1; 2 3 ?")] == [True, True]


@pytest.mark.slow
def test_the_printed_local_minimum_fails_in_a_fresh_process():
    text = "? ? 19 162 -76; -135 -96 -3 54 -42; 95 ? 15 10 ?; 53 35 -13 ? 27; -52 -47 ? ? 23"
    (rank, _, _), (_, fits_far, third_far) = learned(text)
    assert rank == 2 and fits_far and third_far > 10


@pytest.mark.parametrize("seed", range(12))
def test_connected_data_of_rank_one_are_learned(seed):
    """The theorem on data of rank one; entries of either sign, of one size."""
    rng = np.random.default_rng([21, seed])
    m, n = rng.integers(2, 6, 2)
    a, b = (rng.choice([-1, 1], k) * rng.uniform(0.5, 2, k) for k in (m, n))
    mask = np.zeros((m, n), dtype=bool)
    while not (mask.any(0).all() and mask.any(1).all() and mf.connectivity(mask) == "connected"):
        mask = random_mask(rng, (m, n), int(rng.integers(m + n - 1, m * n + 1)))
    problem = mf.MatrixCompletion(np.outer(a, b), mask)
    run = mf.gradient_flow(
        problem, mf.small_init((m, n), rng=rng), log10_scale=-10_000, loss_tol=1e-16
    )
    assert run.W == pytest.approx(np.outer(a, b), rel=1e-5)
