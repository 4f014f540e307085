"""The limit of an infinitesimal start at depth three and more, against the flow that it is of."""

from itertools import pairwise

import numpy as np
import pytest

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow import greedy_path as ends
from mfbook.flow.deep import exact_path, process
from mfbook.flow.greedy_path import GreedyPath
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
    assert isinstance(limit, GreedyPath)
    assert limit.converged and limit.reason == trajectory.LOSS_REACHED
    assert len(limit.waiting_times) == len(limit.critical_points) - 1
    for log10_scale in (-100, -1000):
        run = gradient_flow(problem, factors, log10_scale=log10_scale, loss_tol=1e-16)
        assert np.abs(run.W - limit.W).max() < 1e-8 * np.abs(limit.W).max()
        arrivals = [phase.log10_arrival for phase in run.phases[1:]]
        times = sorted({round(10 ** (a + (depth - 2) * log10_scale), 7) for a in arrivals})
        # Steps inside a set of rank r come in no time at all on this clock.
        assert np.allclose(times, np.cumsum(limit.waiting_times), rtol=1e-7, atol=2e-7)


def close_pairs(depth, holes=()):
    """Data with σ_2/σ_1 = 0.95 (N = 3) or 0.9, without the entries of `holes`, and a start."""
    rng = np.random.default_rng(5)
    U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    mask = np.ones((3, 3), dtype=bool)
    for hole in holes:
        mask[hole] = False
    values = (U * ([3, 2.85, 1.5] if depth == 3 else [3, 2.7, 2.5])) @ V.T
    problem = MatrixCompletion(values, mask, loss="half")
    return problem, small_init((3, 3), depth=depth, rng=rng)


def arrivals(problem, factors, log10_scale, rtol):
    """log₁₀ of α^(N−2) T for all escapes."""
    run = gradient_flow(problem, factors, log10_scale=log10_scale, rtol=rtol)
    shift = (len(factors) - 2) * log10_scale
    return np.array([phase.log10_arrival + shift for phase in run.phases[1:]])


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "near", "nearer"), [(3, -6, -7), (4, -5, -6)])
def test_a_column_that_leaves_alone_carries_the_others_along(depth, near, nearer):
    """Where singular values are close it turns over any number of decades, and they with it.

    At the larger scales all columns are felt together before one is alone. Times are right to
    α, of which the first power is extrapolated away, and to ten times rtol.
    """
    problem, factors = close_pairs(depth)
    before, after = (arrivals(problem, factors, scale, 1e-8) for scale in (near, nearer))
    expected = after + (after - before) / 9
    far = arrivals(problem, factors, -100, 1e-8)
    limit = np.log10(np.cumsum(deep_limit(problem, factors, rtol=1e-8).waiting_times))
    assert len(expected) == 3
    assert np.abs(far - expected).max() < 1e-7 and np.abs(limit - expected).max() < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("holes", [(), [(2, 2)]])
@pytest.mark.parametrize("depth", [3, 4])
def test_a_column_leaves_alone_as_it_leaves_with_the_others(monkeypatch, depth, holes):
    """From 1e-16 all columns still fit into one Taylor series, over all the decades.

    The orbit between two plateaus, by its rtol, moves the time of the second by 0.43 rtol in log₁₀.
    """
    problem, factors = close_pairs(depth, holes)
    alone = arrivals(problem, factors, -16, 1e-8)
    monkeypatch.setattr(exact_path, "is_alone", lambda layers: False)
    together = arrivals(problem, factors, -16, 1e-8)
    assert len(alone) >= 2 and np.abs(alone - together).max() < 4.3e-9


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
    assert deep_limit(tie, generic).reason == ends.NOT_SIMPLE
    diagonal = MatrixCompletion.from_text("2 0; 0 1")
    lower = (np.diag([0.0, 1.0]),) * 3
    assert deep_limit(diagonal, lower).reason == ends.NOT_EXCITED
    assert deep_limit(MatrixCompletion.from_text("-1"), ([[1.0]],) * 3).reason == ends.NO_BLOW_UP
    for widths in ((1, 1), (1, 2), (2, 1)):
        rng, sizes = np.random.default_rng(0), [2, *widths, 2]
        narrow = [rng.standard_normal(pair) for pair in pairwise(sizes)]
        assert deep_limit(diagonal, narrow).reason == ends.NO_WIDTH
    for reason in (ends.NOT_SIMPLE, ends.NOT_EXCITED, ends.NO_BLOW_UP, ends.NO_WIDTH):
        assert ends.DeepLimit.ADVICE[reason]


def test_a_sign_that_has_changed_is_said(monkeypatch):
    monkeypatch.setattr(process, "sign_has_changed", lambda start, end: True)
    limit = deep_limit(examples.M4, small_init((2, 2), depth=3, rng=0))
    assert limit.reason == trajectory.CROSSED and not limit.converged
    assert limit.advice == limit.ADVICE[trajectory.CROSSED]


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
