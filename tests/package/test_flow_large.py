"""The method for large problems against the exact one, and against what it must cost."""

import numpy as np
import pytest

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.shallow import drive, field
from mfbook.flow.shallow import large as large_steps
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing
from tests.package.given import full

RTOL = 1e-4


def problem_of(seed, n=8, rank=2, share=0.7):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))
    mask = rng.random((n, n)) < share
    return MatrixCompletion(truth, mask, loss="half"), small_init((n, n), rng=rng, width=n)


def in_large_mode(monkeypatch):
    monkeypatch.setattr(drive, "DENSE_P", 0)


def assert_one_path(problem, exact, large):
    """Within 10 rtol of the data at equal times: the promise of the large method."""
    assert large.converged
    size = np.nanmax(np.abs(problem.values))
    times = np.linspace(0, min(exact.t[-1], large.t[-1]), 60)
    error = max(np.abs(exact.W_at(t) - large.W_at(t)).max() for t in times)
    assert error < 10 * RTOL * size


@pytest.mark.slow
@pytest.mark.parametrize("log10_scale", [-1, -3, -60])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_methods_follow_one_path(monkeypatch, seed, log10_scale):
    """The exact method runs at rtol 1e-7."""
    problem, factors = problem_of(seed)
    options = {"log10_scale": log10_scale, "loss_tol": 1e-6}
    exact = gradient_flow(problem, factors, rtol=1e-7, **options)
    in_large_mode(monkeypatch)
    large = gradient_flow(problem, factors, rtol=RTOL, **options)
    assert_one_path(problem, exact, large)


def test_sparse_and_dense_products_are_the_same(monkeypatch):
    problem, factors = problem_of(2)
    in_large_mode(monkeypatch)
    options = {"log10_scale": -4, "rtol": RTOL, "loss_tol": 1e-6}
    dense = gradient_flow(problem, factors, **options)
    monkeypatch.setattr(field, "DENSE_ENTRIES", 0)
    sparse = gradient_flow(problem, factors, **options)
    assert sparse.n_steps == dense.n_steps
    assert np.abs(sparse.W - dense.W).max() < 1e-9


def test_large_sensing(monkeypatch):
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((12, 4, 3)), np.outer([1.0, 2, 3, 4], [1.0, -1, 2])
    problem = MatrixSensing(X, np.einsum("lij,ij->l", X, W))
    in_large_mode(monkeypatch)
    run = gradient_flow(problem, small_init((4, 3), rng=1), log10_scale=-30, rtol=RTOL)
    assert run.converged
    assert np.abs(run.W - W).max() < 1e-3


@pytest.mark.slow
def test_a_hundred_by_hundred_is_learned_with_few_gradients():
    """Rank 5, 5,000 entries, from 10^-100: gradient descent from 1e-3 takes over 30,000."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((100, 5)) @ rng.standard_normal((5, 100)) / np.sqrt(5)
    mask = rng.random((100, 100)) < 0.5
    problem = MatrixCompletion(truth, mask, loss="half")
    run = gradient_flow(
        problem, small_init((100, 100), rng=0), log10_scale=-100, rtol=RTOL, loss_tol=1e-10
    )
    assert run.converged
    assert run.n_gradients < 5000
    assert np.linalg.norm(run.W - truth) < 1e-3 * np.linalg.norm(truth)


def hundred(count, log10_scale=None):
    """100×100 of rank 5 and width 100; without a scale ‖W(0)‖_F = 1e-3."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((100, 5)) @ rng.standard_normal((5, 100))
    truth /= np.sqrt(np.mean(truth**2))
    mask = np.zeros(10_000, dtype=bool)
    mask[rng.choice(10_000, count, replace=False)] = True
    problem = MatrixCompletion(truth, mask.reshape(100, 100), loss="half")
    A, B = small_init((100, 100), rng=rng)
    if log10_scale is None:
        log10_scale = 0.5 * np.log10(1e-3 / np.linalg.norm(A @ B))
    return gradient_flow(problem, (A, B), log10_scale=log10_scale, rtol=RTOL, loss_tol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "log10_scale", "steps", "gradients"),
    [(2000, None, 130, 1300), (2000, -100, 200, 2600), (5000, None, 130, 3000)],
)
def test_a_hundred_by_hundred_costs_so_much(count, log10_scale, steps, gradients):
    """Descent at its largest stable step takes 1,341 gradients with 2,000 entries from 1e-3."""
    run = hundred(count, log10_scale)
    assert run.converged
    assert run.n_steps <= steps
    assert run.n_gradients <= gradients


@pytest.mark.slow
@pytest.mark.parametrize("log10_scale", [-2, -30])
def test_forty_by_forty_in_both_ways(monkeypatch, log10_scale):
    problem, factors = problem_of(5, n=40, share=0.5)
    factors = factors[0][:, :4], factors[1][:4]
    options = {"log10_scale": log10_scale, "loss_tol": 1e-4}
    exact = gradient_flow(problem, factors, rtol=1e-6, **options)
    in_large_mode(monkeypatch)
    large = gradient_flow(problem, factors, rtol=RTOL, **options)
    assert_one_path(problem, exact, large)


@pytest.mark.slow
def test_plateaus_without_a_singular_value_decomposition(monkeypatch):
    """The very large method: at rest the passive columns go by power series."""
    problem, factors = problem_of(3)
    options = {"log10_scale": -60, "loss_tol": 1e-6}
    exact = gradient_flow(problem, factors, rtol=1e-7, **options)
    in_large_mode(monkeypatch)
    monkeypatch.setattr(large_steps, "LARGEST_SVD", 0)
    large = gradient_flow(problem, factors, rtol=RTOL, **options)
    assert_one_path(problem, exact, large)


@pytest.mark.slow
def test_dense_output_agrees_with_the_steps():
    """W_at on both sides of a step's end: a step is repeated by the method that took it."""
    run = hundred(2000, -100)
    for t in run.t[1:-1:9]:
        W = run.W_at(t)
        before = run.W_at(t * (1 - 1e-9))
        assert np.linalg.norm(W - before) <= 1e-5 * np.linalg.norm(W) + 1e-12


def part_of(n, text):
    """A problem of n rows and columns that observes what the text does, and nothing else."""
    values = np.full((n, n), np.nan)
    corner = MatrixCompletion.from_text(text).values
    values[: len(corner), : corner.shape[1]] = corner
    return MatrixCompletion.from_array(values)


def rank_one(n):
    rng = np.random.default_rng(0)
    return full(np.outer(rng.standard_normal(n), rng.standard_normal(n)))


@pytest.mark.parametrize(
    ("problem", "width", "log10_scale"),
    [
        (
            rank_one(80),
            80,
            -10,
        ),  # at first more columns than half of the rows
        (rank_one(80), 3, -10),
        (part_of(80, "1 2; 3 ?"), 1, 0),  # most of W is what nobody observes
        (part_of(80, "1 2; 3 ?"), 80, -1),
        (part_of(101, "1 ?; ? 2"), 2, -1),  # two parts
    ],
)
def test_the_singular_values_of_a_large_matrix_are_those_of_w(problem, width, log10_scale):
    start = small_init(problem.shape, width=width, rng=1)
    run = gradient_flow(problem, start, log10_scale=log10_scale, rtol=RTOL, loss_tol=1e-4)
    assert run.converged
    for t, values in zip(run.t, run.singular_values, strict=True):
        expected = np.linalg.svd(run.W_at(t), compute_uv=False)
        assert np.abs(values - expected).max() <= 1e-14 * expected[0]


def test_singular_values_in_a_subspace_of_a_small_part_of_a_large_matrix():
    """(A, Aᵀ) keeps W positive semidefinite, and this part in coordinates of its own."""
    A, _ = small_init((80, 80), rng=0)
    run = gradient_flow(part_of(80, "1 2; 2 -1"), (A, A.T), log10_scale=-10)
    assert run.reason == trajectory.STUCK
    # The positive eigenvalue of [[1, 2], [2, -1]] is √5.
    assert run.singular_values[-1, :2] == pytest.approx([np.sqrt(5), 0.0], abs=1e-6)
    assert [phase.rank for phase in run.phases] == [0, 1]
