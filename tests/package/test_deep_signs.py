"""What three layers and more learn between complete components, from any scale.

The signs of the k-th pairs are decided on the k-th plateau. `gradient_flow` and `deep_limit` carry
them as logarithms through all phases; `disconnected_limit` integrates plateaus in plain numbers,
one after the other, and knows of nothing else. Gradient descent knows of neither.
"""

import numpy as np
import pytest

import mfbook as mf
from mfbook.flow import trajectory
from mfbook.flow.deep import data as deep_data
from mfbook.flow.deep.bases import given
from mfbook.flow.deep.passengers import Pairs, Passenger
from mfbook.problems.populations import random_block_problem


def case(seed, blocks=None, ranks=None):
    """A random problem of complete components, and a start of three or four layers."""
    rng = np.random.default_rng([8, seed])
    problem = random_block_problem(rng, blocks, ranks)
    return problem, mf.small_init(problem.shape, depth=3 + seed % 2, rng=rng)


def gap(one, other):
    return np.abs(one - other).max() / np.abs(other).max()


@pytest.mark.parametrize("seed", range(12))
def test_the_limit_is_that_of_the_plateaus(seed):
    """End points are as near as the loss at which they end, and no sign is another."""
    problem, start = case(seed)
    expected = mf.disconnected_limit(problem, start)
    limit = mf.deep_limit(problem, start)
    assert limit.converged and gap(limit.W, expected) < 1e-6


@pytest.mark.parametrize(
    ("seed", "blocks", "ranks"),
    [
        (20, [(2, 2), (2, 2)], [2, 2]),
        (21, [(2, 2), (2, 2)], [2, 2]),
        pytest.param(22, [(4, 3), (3, 4)], [3, 3], marks=pytest.mark.slow),
        pytest.param(23, [(3, 3), (3, 2)], [3, 2], marks=pytest.mark.slow),
        (24, [(3, 3), (3, 4), (2, 2)], [3, 3, 2]),
    ],
)
def test_signs_do_not_depend_on_a_scale_that_is_small(seed, blocks, ranks):
    problem, start = case(seed, blocks, ranks)
    expected = mf.disconnected_limit(problem, start)
    for log10_scale in (-10, -30, -1000, -10000):
        run = mf.gradient_flow(problem, start, log10_scale=log10_scale, loss_tol=1e-14)
        assert run.converged and gap(run.W, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_more_seeds(seed):
    problem, start = case(seed)
    expected = mf.disconnected_limit(problem, start)
    run = mf.gradient_flow(problem, start, log10_scale=-30, loss_tol=1e-14)
    assert run.converged and gap(run.W, expected) < 1e-5


def two_blocks(seed):
    """Singular values 3, 1.5 and 2.4, 1, so that 10^-2 is small already."""
    rng = np.random.default_rng(seed)
    U, V, X, Y = (np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(4))
    M = np.full((4, 4), np.nan)
    M[:2, :2], M[2:, 2:] = (U * [3.0, 1.5]) @ V.T, (X * [2.4, 1.0]) @ Y.T
    return mf.MatrixCompletion.from_array(M), mf.small_init((4, 4), depth=3, rng=seed)


@pytest.mark.parametrize("seed", range(4))
def test_gradient_descent_has_the_same_signs(seed):
    problem, start = two_blocks(seed)
    layers = [1e-2 * layer for layer in start]
    descent = mf.gradient_descent(problem, layers, lr=0.1, max_iters=100_000, loss_tol=1e-9)
    assert descent.converged
    assert gap(descent.W, mf.disconnected_limit(problem, start)) < 0.1


def test_what_is_not_kept_apart_is_doubted(monkeypatch):
    """In plain rows and columns the second pairs drown in what the first ones have."""
    problem, start = two_blocks(0)
    monkeypatch.setattr(
        deep_data, "singular_bases", lambda values, mask, parts: whole(values, parts)
    )
    run = mf.gradient_flow(problem, start, log10_scale=-1000)
    assert not run.converged and run.reason == trajectory.LOST_PART
    assert trajectory.ADVICE[run.reason]
    limit = mf.deep_limit(problem, start)
    assert limit.reason == trajectory.LOST_PART and limit.advice


def whole(values, parts):
    bases = given(np.eye(len(values)), np.eye(values.shape[1]), parts)
    bases.values[:] = values
    return bases


def test_equal_singular_values_stay_together():
    """The start chooses their singular vectors; a flow that can't tell them apart says so."""
    tied = mf.MatrixCompletion.from_text("2 0 ? ?; 0 2 ? ?; ? ? 3 1; ? ? 1 2")
    start = mf.small_init((4, 4), depth=3, rng=1)
    right = mf.gradient_flow(tied, start, log10_scale=-8, loss_tol=1e-14)
    for log10_scale in (-30, -1000):
        run = mf.gradient_flow(tied, start, log10_scale=log10_scale, loss_tol=1e-14)
        assert gap(run.W, right.W) < 1e-3 or run.reason == trajectory.LOST_PART
    with pytest.raises(ValueError, match=r"must differ by more than.*deep_limit"):
        mf.disconnected_limit(tied, start)


def test_a_passenger_is_what_its_pairs_are():
    """X = Σ u xᵀ and Y = Σ y vᵀ, for a block that is no multiple of an orthogonal matrix."""
    u, s, v = np.linalg.svd(np.array([[1.0, 2.0, 0.5], [3.0, -1.0, 2.0]]), full_matrices=False)
    pairs = Pairs(0, np.arange(2), np.arange(3), s, u, v)
    rng = np.random.default_rng(0)
    x, y, logs = rng.standard_normal((2, 2)), rng.standard_normal((2, 2)), np.array([-1.0, -9.0])
    X, Y = Passenger(pairs, np.concatenate([x, y], axis=1), logs).blocks()
    assert np.allclose(X, (u * np.exp(logs)) @ x)
    assert np.allclose(Y, (y.T * np.exp(logs)) @ v)


@pytest.mark.parametrize("seed", range(4))
def test_parts_that_measurements_do_not_link_are_doubted(seed):
    """Diagonal measurements grow one column, and what it has of the other entries is rounding's."""
    rng = np.random.default_rng(seed)
    d = rng.standard_normal((2, 4))
    problem = mf.MatrixSensing([np.diag(row) for row in d], d @ rng.standard_normal(4) ** 2)
    start = mf.small_init((4, 4), depth=3, rng=seed)
    assert mf.gradient_flow(problem, start, log10_scale=-4).converged
    run = mf.gradient_flow(problem, start, log10_scale=-1000)
    assert not run.converged and run.reason == trajectory.LOST_PART
    # What the start has nothing of is not lost.
    alone = [0 * layer for layer in start]
    for layer, one in zip(alone, start, strict=True):
        layer[0, 0] = abs(one[0, 0])
    problem = mf.MatrixSensing([np.diag([1.0, 2.0, 0.0, 1.0])], [1.0])
    assert mf.gradient_flow(problem, alone, log10_scale=-1000).converged
