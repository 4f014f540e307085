"""Greedy low-rank learning against the flow that it stands for, and against block fills."""

from itertools import pairwise

import numpy as np
import pytest

from mfbook.flow import gradient_flow
from mfbook.flow.trajectory import STEP_LIMIT, UNBOUNDED
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing, SymmetricCompletion, examples
from mfbook.problems.graph import connectivity
from mfbook.problems.populations import connected_population
from mfbook.rivals.glrl import glrl
from mfbook.theory.landscape import critical_point_kind, escape_direction


def connected_problem(seed):
    """A random 4×4 matrix of rank 2 with 12 observed entries that connect everything."""
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((4, 2)) @ rng.standard_normal((2, 4))
    while True:
        mask = np.isin(np.arange(16), rng.choice(16, 12, replace=False)).reshape(4, 4)
        if connectivity(mask) == "connected":
            return MatrixCompletion(M, mask)


def two_blocks(seed):
    """Complete blocks of the singular values 4, 1.5 and 3, 1, and the same with zeros between."""
    rng = np.random.default_rng(seed)
    values, mask = np.zeros((5, 5)), np.zeros((5, 5), dtype=bool)
    for rows, cols, sizes in (
        (slice(0, 2), slice(0, 3), [4.0, 1.5]),
        (slice(2, 5), slice(3, 5), [3.0, 1.0]),
    ):
        U = np.linalg.qr(rng.standard_normal((rows.stop - rows.start, 2)))[0]
        V = np.linalg.qr(rng.standard_normal((cols.stop - cols.start, 2)))[0]
        values[rows, cols] = U @ np.diag(sizes) @ V.T
        mask[rows, cols] = True
    return MatrixCompletion(values, mask), values


@pytest.mark.parametrize("seed", range(6))
def test_the_rank_grows_by_one_a_phase(seed):
    path = glrl(connected_problem(seed))
    assert path.converged
    assert path.ranks == tuple(range(len(path.ranks)))
    assert len(path.trajectories) == len(path.critical_points) - 1
    assert (path.W == path.critical_points[-1]).all()
    assert not path.critical_points[0].any()


@pytest.mark.parametrize("seed", range(3))
def test_every_critical_point_but_the_last_is_a_strict_saddle(seed):
    problem = connected_problem(seed)
    path = glrl(problem)
    zero = np.zeros((4, 1)), np.zeros((1, 4))
    reached = [zero, *(run.factors for run in path.trajectories)]
    for (A, B), W in zip(reached, path.critical_points, strict=True):
        # the width that Theorem 1 asks for: hidden columns that are zero
        pad = 4 - A.shape[1]
        wide = np.pad(A, ((0, 0), (0, pad))), np.pad(B, ((0, pad), (0, 0)))
        last = W is path.critical_points[-1]
        expected = "global minimum" if last else "strict saddle"
        assert critical_point_kind(problem, wide) == expected


def test_the_loss_falls_within_each_phase_and_from_phase_to_phase():
    problem = examples.connected_4x4
    path = glrl(problem)
    losses = [problem.loss_value(W) for W in path.critical_points]
    assert path.ranks == (0, 1, 2, 3)
    assert all(later < 0.5 * former for former, later in pairwise(losses))
    for run in path.trajectories:
        assert (np.diff(run.loss) <= 1e-9 * run.loss[0]).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_critical_points_are_the_saddles_of_a_flow_from_10_to_the_minus_1000(seed):
    """On connected data. The saddles themselves are met to 1e-6.

    The end points agree to what a loss of 1e-10 leaves open, √(12·1e-10) ≈ 3e-5 in the observed
    entries and a multiple of it in the others. In all six the second growth rates stay below 0.75
    of the first; next to a tie the flow itself mixes two directions, at any scale one can name.
    """
    problem = connected_problem(seed)
    path = glrl(problem)
    run = gradient_flow(problem, small_init((4, 4), rng=seed), log10_scale=-1000)
    assert run.converged
    for phase in run.phases[:-1]:
        escape = escape_direction(problem, phase.factors)
        assert escape.second_rate < 0.75 * escape.rate
    assert path.ranks == tuple(phase.rank for phase in run.phases)
    size = np.nanmax(np.abs(problem.values))
    for W, phase in zip(path.critical_points[:-1], run.phases[:-1], strict=True):
        assert np.abs(W - phase.W).max() < 1e-6 * size
    assert np.abs(path.W - run.W).max() < 5e-3 * size


@pytest.mark.parametrize("seed", range(4))
def test_between_complete_blocks_it_fills_zeros(seed):
    """One singular value a phase, the largest of all blocks first; exact zeros in between."""
    problem, filled = two_blocks(seed)
    path = glrl(problem)
    assert path.ranks == (0, 1, 2, 3, 4)
    assert np.abs(path.W - filled).max() < 1e-4
    assert np.abs(path.W[~problem.mask]).max() < 1e-8
    left, sizes, right = np.linalg.svd(filled)
    for r, W in enumerate(path.critical_points):
        best = left[:, :r] * sizes[:r] @ right[:r]
        assert np.abs(W - best).max() < 1e-4


@pytest.mark.parametrize("seed", range(6))
def test_rounding_does_not_fill_what_the_definition_leaves_at_zero(seed):
    """Dense blocks in scattered places, whose computed singular vectors have rounding in them.

    At the saddles of disconnected data that rounding would grow within a phase: the columns of
    one component reach into the others, and the ranks come out too small.
    """
    rng = np.random.default_rng(seed)
    values, mask = np.zeros((6, 6)), np.zeros((6, 6), dtype=bool)
    rows, cols = rng.permutation(6), rng.permutation(6)
    for part in (slice(0, 3), slice(3, 6)):
        block = np.ix_(rows[part], cols[part])
        values[block], mask[block] = rng.standard_normal((3, 3)), True
    path = glrl(MatrixCompletion(values, mask))
    assert path.ranks == tuple(range(7))
    assert not path.W[~mask].any()
    assert np.abs(path.W - values).max() < 1e-4


def test_the_flow_from_a_random_start_does_not_fill_zeros():
    problem = examples.disconnected_3x3
    run = gradient_flow(problem, small_init((3, 3), rng=0), log10_scale=-1000)
    assert np.abs(run.W - glrl(problem).W).max() > 0.5


@pytest.mark.parametrize("eps", [1e-3, 1e-12, 1e-100, 1e-300])
@pytest.mark.parametrize("name", ["disconnected_3x3", "connected_4x4", "M3"])
def test_the_result_does_not_depend_on_eps(name, eps):
    """The limit ε → 0 is reached long before 1e-7; 1e-3 is a perturbation of √ε ≈ 0.03."""
    problem = getattr(examples, name)
    usual, other = glrl(problem), glrl(problem, eps=eps)
    assert other.ranks == usual.ranks and other.converged
    tolerance = 0.05 if eps == 1e-3 else 1e-2
    for W, V in zip(usual.critical_points, other.critical_points, strict=True):
        assert np.abs(W - V).max() < tolerance * np.nanmax(np.abs(problem.values))


def test_max_rank_stops_at_a_saddle():
    problem = examples.connected_4x4
    whole, cut = glrl(problem), glrl(problem, max_rank=2)
    assert cut.ranks == (0, 1, 2) and cut.reason == "rank limit" and not cut.converged
    assert np.abs(cut.W - whole.critical_points[2]).max() < 1e-9


def test_max_rank_that_suffices_is_no_limit():
    path = glrl(examples.disconnected_3x3, max_rank=2)
    assert path.converged and path.ranks == (0, 1, 2)


def test_full_data_give_the_truncated_singular_value_decomposition():
    """Eckart and Young, phase by phase, for a matrix that is not square."""
    M = np.random.default_rng(3).standard_normal((3, 5))
    problem = MatrixCompletion(M, np.ones((3, 5), dtype=bool))
    path = glrl(problem)
    left, sizes, right = np.linalg.svd(M, full_matrices=False)
    assert path.ranks == (0, 1, 2, 3)
    for r, W in enumerate(path.critical_points):
        assert np.abs(W - left[:, :r] * sizes[:r] @ right[:r]).max() < 1e-4


def test_sensing_problems():
    """Entries as measurements are the completion problem. (Of connected data: see the Notes.)"""
    problem = examples.M3
    rows, cols = np.nonzero(problem.mask)
    measurements = np.zeros((len(rows), 3, 3))
    measurements[np.arange(len(rows)), rows, cols] = 1.0
    sensing = MatrixSensing(measurements, problem.values[rows, cols])
    path = glrl(sensing)
    assert path.ranks == glrl(problem).ranks
    assert np.abs(path.W - glrl(problem).W).max() < 1e-3


def test_data_that_are_zero_are_fitted_at_once():
    path = glrl(MatrixCompletion(np.zeros((2, 2)), np.eye(2, dtype=bool)))
    assert path.converged and path.ranks == (0,) and path.trajectories == ()


def test_a_phase_that_does_not_finish_is_said_to():
    path = glrl(examples.connected_4x4, max_steps=3)
    assert not path.converged and path.reason == STEP_LIMIT
    assert len(path.trajectories) == 1


RUNAWAYS = {
    "frustrated triangle": SymmetricCompletion.from_text("? 2 2; 2 ? -1; 2 -1 ?"),
    "one unknown entry": MatrixCompletion.from_text("2 0 0; 1 1 -2; 1 -2 ?"),
    "like the cube root of the time": examples.runaway_3x3,
}


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_phase_that_runs_to_infinity_is_said_to(name):
    path = glrl(RUNAWAYS[name])
    assert path.reason == UNBOUNDED and not path.converged and path.ranks == (0, 1)
    sizes = path.trajectories[-1].singular_values[:, 0]
    assert (np.diff(sizes[sizes > 100]) > 0).all() and sizes[-1] > 1000


def test_a_phase_that_creeps_below_rounding_is_no_critical_point():
    """W is 20,000 times the data when its gradient drowns in the rounding of W.

    The smallest observed entry is 1/700 of the largest, so that this is not yet far beyond what
    dividing data can make.
    """
    problem = connected_population(1, 2021)[0][21]
    path = glrl(problem, loss_tol=1e-14)
    assert path.reason == UNBOUNDED and not path.converged
    assert path.ranks == (0, 1, 2)
    assert np.abs(path.W).max() > 1e4 * np.nanmax(np.abs(problem.values))


@pytest.mark.parametrize("eps", [0.0, -1e-7, np.nan])
def test_eps_must_be_positive(eps):
    with pytest.raises(ValueError, match="eps must be positive"):
        glrl(examples.M3, eps=eps)


@pytest.mark.parametrize("max_rank", [0, 4, -1])
def test_max_rank_must_be_in_range(max_rank):
    with pytest.raises(ValueError, match="max_rank must be between 1 and 3"):
        glrl(examples.M3, max_rank=max_rank)


def test_the_repr_tells_ranks_and_reason():
    assert repr(glrl(examples.disconnected_3x3)) == "GreedyPath(loss reached, ranks 0 → 1 → 2)"


@pytest.mark.parametrize("kind", [MatrixCompletion, SymmetricCompletion])
def test_data_that_are_of_a_rank_to_six_digits_only(kind):
    """Rank 1 fits them to 1e-12 of the loss at zero; whoever asks for more gets another phase."""
    text = "? 1.48911 -1.02792; 1.48911 3.17395 -2.19091; -1.02792 -2.19091 1.51234"
    problem = kind.from_text(text)
    assert glrl(problem, loss_tol=1e-10).ranks == (0, 1)
    path = glrl(problem, loss_tol=1e-15)
    assert path.ranks[:3] == (0, 1, 2)
    assert path.reason == "loss reached" or not path.converged
