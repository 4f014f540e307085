"""Alternating least squares with a growing rank: beside greedy learning, and where phases end."""

import numpy as np
import pytest

from mfbook.flow.greedy_path import RANK_LIMIT
from mfbook.problems import MatrixCompletion, SymmetricCompletion, examples, populations
from mfbook.problems.graph import connectivity
from mfbook.rivals.alternating import alternating_least_squares
from mfbook.rivals.glrl import glrl


@pytest.mark.parametrize("seed", range(12))
def test_components_that_are_to_come_are_not_filled_with_rounding(seed):
    """Blocks from 1×1 on: the rows of a later one see nothing but rounding in the first columns."""
    problem = populations.random_block_problem(np.random.default_rng([94, seed]))
    path = alternating_least_squares(problem)
    filled = np.where(problem.mask, problem.values, 0.0)
    assert path.converged and np.abs(path.W - filled).max() < 1e-4 * np.abs(filled).max()
    left, sizes, right = np.linalg.svd(filled, full_matrices=False)
    for r, W in enumerate(path.critical_points[:-1]):
        assert np.abs(W[~problem.mask]).max() < 1e-12 * sizes[0]
        assert np.abs(W - left[:, :r] * sizes[:r] @ right[:r]).max() < 1e-3 * sizes[0]


def test_alternating_says_that_it_stopped_before():
    path = alternating_least_squares(examples.connected_4x4, 2)
    assert not path.converged and path.reason == RANK_LIMIT and path.ranks == (0, 1, 2)


@pytest.mark.parametrize("rank", [0, 4])
def test_alternating_needs_a_rank_that_there_is(rank):
    with pytest.raises(ValueError, match="rank must be between 1 and 3"):
        alternating_least_squares(examples.M3, rank)


def test_alternating_wants_two_factors():
    with pytest.raises(ValueError, match="whose model is W = U Uᵀ"):
        alternating_least_squares(SymmetricCompletion.from_text("1 2; 2 ?"))


@pytest.mark.parametrize("option", ["rest_tol", "max_sweeps"])
def test_options_of_alternating_least_squares(option):
    with pytest.raises(ValueError, match=option):
        alternating_least_squares(examples.M3, **{option: -1})


@pytest.mark.parametrize("seed", range(6))
def test_alternating_passes_the_critical_points_of_greedy_learning(seed):
    """Another way into the same minima of each rank, where both come to rest.

    A loss that is at rest to 1e-9 of it leaves W open to some 1e-4; the last point is where each
    reaches 1e-10 of the loss at zero.
    """
    rng = np.random.default_rng([96, seed])
    truth = populations.random_low_rank(rng, (4, 4), 2)
    while True:
        mask = populations.random_mask(rng, (4, 4), 13)
        if connectivity(mask) == "connected":
            break
    problem = MatrixCompletion(truth, mask)
    greedy, other = glrl(problem), alternating_least_squares(problem)
    assert greedy.converged and other.converged and greedy.ranks == other.ranks
    size = np.nanmax(np.abs(problem.values))
    for W, V in zip(greedy.critical_points, other.critical_points, strict=True):
        assert np.abs(W - V).max() < 5e-3 * size


@pytest.mark.parametrize("seed", range(4))
def test_an_alternating_sweep_is_least_for_each_factor(seed):
    """At the end of a phase neither factor can be improved: ∇f Bᵀ = 0, and Aᵀ ∇f = 0 nearly."""
    rng = np.random.default_rng([95, seed])
    truth = populations.random_low_rank(rng, (4, 5), 3)
    problem = MatrixCompletion(truth, populations.random_mask(rng, (4, 5), 17))
    path = alternating_least_squares(problem, 2)
    W = path.critical_points[2]
    left, _, right = np.linalg.svd(W)
    G, size = problem.gradient(W), np.linalg.norm(problem.gradient(0 * W))
    assert np.abs(left[:, :2].T @ G).max() < 1e-9 * size
    assert np.abs(G @ right[:2].T).max() < 1e-4 * size


def test_alternating_goes_on_from_a_phase_without_a_minimum():
    """In rank 2 the infimum is not attained; max_sweeps ends the phase, and rank 3 fits."""
    path = alternating_least_squares(examples.runaway_3x3, max_sweeps=300)
    assert path.converged and path.iterations[1] == 300


def test_alternating_does_not_call_the_first_slow_sweep_a_rest():
    """The first sweep of a phase falls by far more than the hundreds after it."""
    problem = MatrixCompletion(*slow())
    path = alternating_least_squares(problem)
    assert path.converged and path.ranks[-1] == 1


def slow():
    """Rank one from a cycle of entries, whose sweeps shrink the error by a few percent each."""
    a, b = np.array([1.0, 1.0, 1.0, 0.05]), np.array([1.0, 1.0, 0.05, 1.0])
    mask = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)
    return np.outer(a, b), mask
