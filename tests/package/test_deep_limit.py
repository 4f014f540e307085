"""The limit of an infinitesimal start at depth three and more, against the flow that it is of."""

from itertools import pairwise

import numpy as np
import pytest

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow import limit as limits
from mfbook.flow.limit import deep_limit
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, examples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth"),
    [("M3", 3), ("M3", 4), ("connected_4x4", 3), ("disconnected_3x3", 3), ("disconnected_3x3", 4)],
)
def test_the_flow_from_tiny_starts_follows_it(name, depth):
    """End points within 1e-8; waiting times within 1e-8, the precision of a later plateau's."""
    problem = getattr(examples, name)
    factors = small_init(problem.shape, depth=depth, rng=0)
    limit = deep_limit(problem, factors)
    assert limit.converged and limit.reason == trajectory.LOSS_REACHED
    assert len(limit.waiting_times) == len(limit.critical_points) - 1
    for log10_scale in (-100, -1000):
        run = gradient_flow(problem, factors, log10_scale=log10_scale, loss_tol=1e-16)
        assert np.abs(run.W - limit.W).max() < 1e-8 * np.abs(limit.W).max()
        arrivals = [phase.log10_arrival for phase in run.phases[1:]]
        times = sorted({round(10 ** (a + (depth - 2) * log10_scale), 7) for a in arrivals})
        # Steps inside a set of rank r come in no time at all on this clock.
        assert np.allclose(times, np.cumsum(limit.waiting_times), rtol=1e-7, atol=2e-7)


def test_waiting_times_are_those_of_a_closed_form():
    """Of one entry m from equal layers v: s* = ∫ da/(m a^(N−1)) from v on = v^−(N−2)/((N−2) m)."""
    for depth, v, m in ((3, 0.7, 2.0), (4, 1.3, 5.0), (6, 0.5, 0.1)):
        problem = MatrixCompletion([[m]], [[True]], loss="half")
        limit = deep_limit(problem, ([[v]],) * depth)
        assert limit.waiting_times[0] == pytest.approx(v ** (2 - depth) / ((depth - 2) * m), 1e-9)
        assert limit.W[0, 0] == pytest.approx(m, rel=1e-7)


def test_disconnected_data_end_at_rank_one():
    limit = deep_limit(examples.disconnected_3x3, small_init((3, 3), depth=3, rng=0))
    assert limit.ranks == (0, 1)
    values = np.linalg.svd(limit.W, compute_uv=False)
    assert values[0] == pytest.approx(15.0, rel=1e-7) and values[1] < 1e-7
    assert np.allclose(np.abs(limit.W[1, [0, 2]]), [np.sqrt(5), 3 * np.sqrt(5)], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_complete_components_share_their_hidden_columns(seed):
    """The k-th pairs of both components share the k-th column: √(s_k t_k) off the diagonal."""
    rng = np.random.default_rng(seed)
    U, X = (np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(2))
    V, Y = (np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(2))
    s, t = np.array([3.0, 1.5]), np.array([2.4, 1.0])
    values, mask = np.full((4, 4), np.nan), np.zeros((4, 4), dtype=bool)
    values[:2, :2], values[2:, 2:] = (U * s) @ V.T, (X * t) @ Y.T
    mask[:2, :2] = mask[2:, 2:] = True
    limit = deep_limit(MatrixCompletion(values, mask), small_init((4, 4), depth=3, rng=seed))
    assert limit.converged and limit.ranks[-1] == 2
    found = np.abs(U.T @ limit.W[:2, 2:] @ Y)
    assert np.allclose(found, np.diag(np.sqrt(s * t)), atol=1e-5)


def test_failed_hypotheses_are_named():
    generic = small_init((2, 2), depth=3, rng=0)
    tie = MatrixCompletion.from_text("1 0; 0 1")
    assert deep_limit(tie, generic).reason == limits.NOT_SIMPLE
    diagonal = MatrixCompletion.from_text("2 0; 0 1")
    lower = (np.diag([0.0, 1.0]),) * 3
    assert deep_limit(diagonal, lower).reason == limits.NOT_EXCITED
    assert deep_limit(MatrixCompletion.from_text("-1"), ([[1.0]],) * 3).reason == limits.NO_BLOW_UP
    for widths in ((1, 1), (1, 2), (2, 1)):
        rng, sizes = np.random.default_rng(0), [2, *widths, 2]
        narrow = [rng.standard_normal(pair) for pair in pairwise(sizes)]
        assert deep_limit(diagonal, narrow).reason == limits.NO_WIDTH
    for reason in (limits.NOT_SIMPLE, limits.NOT_EXCITED, limits.NO_BLOW_UP, limits.NO_WIDTH):
        assert limits.ADVICE[reason]


@pytest.mark.parametrize(
    ("factors", "match"),
    [
        (small_init((2, 2), rng=0), "three factors or more"),
        (small_init((2, 2), depth=3, rng=0, batch=2), "one start"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.eye(2)), "2 factors are zero"),
        ((np.ones((2, 3)),) * 3, "must multiply"),
    ],
)
def test_bad_starts_are_refused(factors, match):
    with pytest.raises(ValueError, match=match):
        deep_limit(examples.M4, factors)
