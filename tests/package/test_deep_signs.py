"""What three layers and more learn between complete components, from any scale.

The signs of the k-th pairs are decided on the k-th plateau. `gradient_flow` and `deep_limit` carry
them as logarithms through all phases; `disconnected_limit` integrates plateaus in plain numbers,
one after the other, and knows of nothing else. Gradient descent knows of neither.
"""

from itertools import pairwise

import numpy as np
import pytest

import mfbook as mf
from mfbook.flow import trajectory
from mfbook.flow.deep import data as deep_data
from mfbook.flow.deep.bases import given
from mfbook.flow.deep.exact_run import ExactRun
from mfbook.flow.deep.layers import State, turned_felt
from mfbook.flow.deep.passengers import Pairs, Passenger
from mfbook.flow.deep.pieces import Wait
from mfbook.flow.deep.reading import W_of, layers_of
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


def test_a_passenger_arrives_when_its_first_pair_does():
    """x' = s K y, y' = s K x: along (1, 1) at the rate s K; a pair that is not there never does."""
    pairs = Pairs(0, np.arange(2), np.arange(2), np.array([3.0, 2.0]), np.eye(2), np.eye(2))
    along = np.full((2, 2), np.sqrt(0.5))
    K, flow = 0.7, (np.array([[0.0, 0.7], [0.7, 0.0]]), np.zeros((2, 2)))
    for logs, time in (
        ([-40.0, -30.0], 20 / (2 * K)),
        ([-np.inf, -30.0], 20 / (2 * K)),
        ([-30.0, -np.inf], 20 / (3 * K)),
        ([-np.inf, -np.inf], np.inf),
    ):
        passenger = Passenger(pairs, along, np.array(logs))
        assert passenger.time_to(flow, -10.0) == pytest.approx(time)


def test_turned_columns_take_passengers_along():
    """Felt columns that lean are turned, and W and the caller's layers are as they were."""
    problem = mf.MatrixCompletion.from_text("3 1 ? ?; 0 2 ? ?; ? ? 2 1; ? ? 1 2")
    start = mf.small_init((4, 4), depth=3, rng=0)
    options = {"loss_tol": 1e-10, "rtol": 1e-6, "t_max": np.inf, "max_steps": 1}
    data = ExactRun(problem, start, {"log10_scale": 0.0, **options}).data
    rng = np.random.default_rng(1)
    present = tuple(k for k, block in enumerate(data.bases.blocks) if block.component == 0)
    rest = [k for k in range(len(data.blocks)) if k not in present]
    passengers = tuple(
        Passenger(data.pairs[k], rng.standard_normal((1, 6)), np.array([-5.0])) for k in rest
    )
    felt = tuple(rng.standard_normal(shape) for shape in ((2, 3), (3, 3), (3, 2)))
    bases = tuple(np.linalg.qr(rng.standard_normal((4, 4)))[0][:, :3] for _ in range(2))
    leaning = State(felt, (), bases, present, passengers)
    turned = turned_felt(leaning, 0.0)
    for a, b in pairwise(turned.felt):
        gram = a.T @ a + b @ b.T
        assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-10 * gram[0, 0]
    assert np.abs(W_of(data, turned) - W_of(data, leaning)).max() < 1e-12
    assert np.abs(W_of(data, leaning)[2:, :2]).max() > 1e-3
    for one, other in zip(layers_of(data, turned), layers_of(data, leaning), strict=True):
        assert np.abs(one - other).max() < 1e-12


def test_what_a_column_has_of_a_component_grows_while_it_rests():
    """After "9" is learned, with a = 9^(1/3), the row of "1" grows at the rate a."""
    problem = mf.MatrixCompletion.from_text("1 ?; ? 9", loss="half")
    run = mf.gradient_flow(problem, mf.small_init((2, 2), depth=3, rng=0), log10_scale=-20)
    moments = run.readings.run.moments
    k = next(k for k, moment in enumerate(moments) if isinstance(moment.piece, Wait))
    length, clock = moments[k].piece.length, moments[k].clock
    # In units where the data are of size one; a double would lose the time after a plateau.
    early, late = (run.readings.run._inside(k, share * length) for share in (0.6, 0.8))
    sizes = [abs(run.readings.run.W(state)[0, 1]) for state in (early, late)]
    rate = np.log(sizes[1] / sizes[0]) / (0.2 * length) * run.readings.run.units.rate
    assert run.converged and clock.orbit == 1
    assert rate == pytest.approx(9 ** (1 / 3), rel=1e-6)


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
