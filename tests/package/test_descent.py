"""Gradient descent: the iteration itself, its batches, and where it stops."""

import numpy as np
import pytest
import torch

import mfbook as mf
from mfbook.flow.descent import loop
from mfbook.flow.descent.stacked_loss import StackedLoss
from mfbook.flow.trajectory import (
    DIVERGED,
    LEAST_REACHED,
    LOSS_REACHED,
    STEP_LIMIT,
    resting_times,
)

M3 = mf.examples.M3


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_path_is_that_of_torch_sgd(depth):
    factors = mf.small_init((3, 3), depth=depth, rng=5)
    run = mf.gradient_descent(M3, factors, lr=0.01, max_iters=40)
    tensors = [torch.tensor(f, requires_grad=True) for f in factors]
    optimizer = torch.optim.SGD(tensors, lr=0.01)
    mask, values = torch.tensor(M3.mask), torch.tensor(M3.values[M3.mask])
    for _ in range(40):
        optimizer.zero_grad()
        W = torch.linalg.multi_dot(tensors) if depth > 1 else tensors[0]
        torch.mean((W[mask] - values) ** 2).backward()
        optimizer.step()
    for ours, theirs in zip(run.factors, tensors, strict=True):
        assert np.abs(ours - theirs.detach().numpy()).max() < 1e-12


def test_rectangular_and_sensing_problems_descend():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((3, 1)) @ rng.standard_normal((1, 5))
    X = rng.standard_normal((30, 3, 5))
    sensing = mf.MatrixSensing(X, np.tensordot(X, truth, 2), truth=truth)
    A, B = mf.small_init((3, 5), rng=1)
    # Where the truth has a lower rank than the factors are wide, the spare columns die out like
    # 1/t only: 1e-7 of the loss at zero is reached soon, 1e-14 never.
    run = mf.gradient_descent(sensing, (1e-3 * A, 1e-3 * B), lr=3e-3, loss_tol=1e-7)
    assert run.converged
    assert mf.reconstruction_error(run.W, truth) < 1e-6


def test_the_unfactored_model_keeps_what_it_cannot_see():
    start = np.arange(9.0).reshape(3, 3)
    run = mf.gradient_descent(mf.examples.talk_3x3, (start,), lr=0.5)
    unseen = ~mf.examples.talk_3x3.mask
    assert run.converged
    assert np.array_equal(run.W[unseen], start[unseen])


@pytest.mark.slow
def test_a_batch_takes_the_same_path_as_single_runs():
    A, B = mf.small_init((3, 3), rng=2, batch=(4, 2))
    scale = np.array([1e-2, 1e-6])[:, None, None]
    batch = mf.gradient_descent(M3, (scale * A, scale * B), lr=0.05)
    for index in np.ndindex(4, 2):
        s = scale[index[1]]
        single = mf.gradient_descent(M3, (s * A[index], s * B[index]), lr=0.05)
        one = batch[index]
        assert np.array_equal(one.W, single.W)
        assert (one.n_steps, one.n_gradients) == (single.n_steps, single.n_gradients)
        assert one.n_gradients == one.n_steps + 1
        # The end of the run lies between two common records: loss and W agree there.
        assert one.loss[-1] == single.loss[-1]
        assert np.array_equal(one.W, one.factors[0] @ one.factors[1])


def test_several_problems_run_as_if_alone():
    rng = np.random.default_rng(4)
    problems = [
        mf.MatrixCompletion(rng.standard_normal((3, 3)), rng.random((3, 3)) < 0.7, loss=loss)
        for loss in ("mean", "half", "mean")
    ]
    A, B = mf.small_init((3, 3), rng=6, batch=(3, 2))
    lr = np.array([0.2, 0.02, 0.1])[:, None]
    together = mf.gradient_descent(problems, (0.1 * A, 0.1 * B), lr=lr, max_iters=500)
    for k, problem in enumerate(problems):
        alone = mf.gradient_descent(
            problem, (0.1 * A[k], 0.1 * B[k]), lr=float(lr[k, 0]), max_iters=500
        )
        # one problem sums its loss in another order than several: rounding may differ
        assert np.abs(together.W[k] - alone.W).max() < 1e-12


def both_ways(monkeypatch, *words, **options):
    """A run entry by entry, and the same one as products of matrices."""
    compiled = mf.gradient_descent(*words, **options)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_walk", lambda *_: None)
        return compiled, mf.gradient_descent(*words, **options)


def assert_same_run(one, other):
    """Two orders of summation: the sixteen digits differ by some roundings, each a factor."""
    assert np.array_equal(one.reason, other.reason)
    assert np.array_equal(one.n_steps, other.n_steps)
    assert np.array_equal(one.t, other.t)
    for name in ("W", "loss", "gradient_norm", "singular_values"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-10 * np.abs(b).max(), name
    for a, b in zip(one.factors, other.factors, strict=True):
        assert np.abs(a - b).max() <= 1e-10 * np.abs(b).max()


@pytest.mark.parametrize("max_records", [3, 40])
def test_entry_by_entry_is_the_plain_iteration(monkeypatch, max_records):
    """Rectangular problems with losses of both kinds, in a batch with runs that end each way."""
    rng = np.random.default_rng(8)
    problems = [
        mf.MatrixCompletion(rng.standard_normal((3, 5)), rng.random((3, 5)) < 0.6, loss=loss)
        for loss in ("mean", "half", "mean")
    ]
    A, B = mf.small_init((3, 5), rng=6, width=4, batch=(3, 4))
    lr = np.array([[0.2], [0.02], [0.1]]) * np.array([1.0, 0.3, 1e-4, 400.0])
    options = dict(max_iters=4000, max_records=max_records)
    start = (0.1 * A, 0.1 * B)
    one, other = both_ways(monkeypatch, problems, start, lr=lr, **options)
    assert {LOSS_REACHED, STEP_LIMIT, DIVERGED} == set(one.reason.ravel())
    for k in np.ndindex(3, 4):
        assert_same_run(one[k], other[k])


def test_entry_by_entry_is_the_plain_iteration_of_one_factor(monkeypatch):
    """Symmetric problems: one that U Uᵀ fits, and one that it cannot."""
    options = dict(lr=0.02, max_iters=20_000, max_records=3)
    for text, end in (("1 2 ?; 2 ? 1; ? 1 3", LOSS_REACHED), ("-1 ? ; ? 2", LEAST_REACHED)):
        problem = mf.SymmetricCompletion.from_text(text)
        (U,) = mf.small_init(problem, rng=1, batch=2)
        runs = both_ways(monkeypatch, problem, (0.1 * U,), **options)
        assert (runs[0].reason == end).all()
        assert_same_run(*runs)


def test_a_loss_that_hardly_moves_never_rises():
    """On the first plateau it is one number, whose last bit depends on the order of the sum."""
    rng = np.random.default_rng(0)
    M = rng.standard_normal((4, 3)) @ rng.standard_normal((3, 4))
    problems = [mf.MatrixCompletion(M, np.arange(16).reshape(4, 4) != k) for k in range(16)]
    factors = (1e-8 * np.stack([factor] * 16) for factor in mf.small_init((4, 4), rng=1))
    run = mf.gradient_descent(problems, tuple(factors), lr=0.2, max_iters=400)
    assert (np.diff(run.loss, axis=0) <= 0).all()


def test_many_entries_are_left_to_products_of_matrices():
    few, many = (
        mf.MatrixCompletion(np.ones((20, 20)), np.eye(20, k=k) + b > 0) for k, b in ((0, 0), (1, 1))
    )
    factors = [np.ones((1, 20, 20))] * 2
    for problem, entry_by_entry in ((few, True), (many, False)):
        walk = loop._walk(StackedLoss(problem), factors)
        assert (walk is not None) == entry_by_entry


def test_records_are_bounded_and_interpolate_the_path():
    A, B = mf.small_init((3, 3), rng=1)
    short = mf.gradient_descent(M3, (1e-4 * A, 1e-4 * B), lr=0.05, max_records=50)
    full = mf.gradient_descent(M3, (1e-4 * A, 1e-4 * B), lr=0.05, max_records=10**6)
    assert len(full.t) == full.n_steps + 1 and len(short.t) <= 51
    for k in range(0, len(full.t), 97):
        t = full.t[k]
        assert np.abs(full.W_at(t) @ np.eye(3) - full.dense_output(t)).max() == 0
    for t, loss in zip(short.t, short.loss, strict=True):
        assert M3.loss_value(short.W_at(t)) == pytest.approx(loss, abs=1e-12)
        assert np.abs(short.W_at(t) - full.W_at(t)).max() < 1e-12
    with pytest.raises(ValueError, match="t must lie in"):
        short.W_at(short.t[-1] + 1)


@pytest.mark.slow
def test_reasons():
    A, B = mf.small_init((3, 3), rng=1)
    assert mf.gradient_descent(M3, (A, B), lr=0.02, max_iters=3).reason == STEP_LIMIT
    diverged = mf.gradient_descent(M3, (A, B), lr=10.0)
    assert (diverged.reason, diverged.converged) == (DIVERGED, False)
    steps = np.array([10.0, 0.02, 1e-9])
    mixed = mf.gradient_descent(
        M3, (np.stack([A] * 3), np.stack([B] * 3)), lr=steps, max_iters=20_000
    )
    assert mixed.reason.tolist() == [DIVERGED, LOSS_REACHED, STEP_LIMIT]
    assert mixed.converged.tolist() == [False, True, False]


@pytest.mark.slow
def test_phases_are_the_ranks_in_order():
    A, B = mf.small_init((4, 4), rng=3)
    problem = mf.examples.connected_4x4
    run = mf.gradient_descent(problem, (1e-8 * A, 1e-8 * B), lr=0.05, max_iters=200_000)
    assert [phase.rank for phase in run.phases] == [0, 1, 2, 3]
    assert all(a.loss > b.loss for a, b in zip(run.phases, run.phases[1:], strict=False))
    assert run.phases[-1].time == run.t[-1]


def test_descent_keeps_w_alone():
    run = mf.gradient_descent(M3, mf.small_init((3, 3), rng=0), lr=0.02, max_iters=9)
    assert run.log10_columns is None
    with pytest.raises(ValueError, match="kept W along its path, but not its factors"):
        run.factors_at(0.0)
    with pytest.raises(ValueError, match="one clock for all its phases"):
        run.W_at(0.0, phase=0)


def test_resting_times_ignore_shallow_minima():
    norm = np.array([1.0, 0.5, 0.9, 0.4, 1e-3, 2e-3, 5e-4, 0.7, 1e-6])
    assert resting_times(norm) == [6, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"lr": np.nan}, "lr must be positive"),
        ({"lr": [0.1, 0.2]}, "leading axes"),
        ({"lr": 0.1, "max_iters": -1}, "must not be negative"),
        ({"lr": 0.1, "loss_tol": -1.0}, "must not be negative"),
        ({"lr": 0.1, "loss_tol": np.nan}, "must not be negative"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mf.gradient_descent(M3, (np.eye(3), np.eye(3)), **options)


def test_bad_sequences_of_problems_are_refused():
    factors = (np.ones((2, 3, 3)), np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="empty"):
        mf.gradient_descent([], factors, lr=0.1)
    with pytest.raises(ValueError, match="one shape"):
        mf.gradient_descent([M3, mf.examples.M4], factors, lr=0.1)
    with pytest.raises(ValueError, match="first axis"):
        mf.gradient_descent([M3, M3, M3], factors, lr=0.1)
    with pytest.raises(TypeError, match="completion problems"):
        mf.gradient_descent([M3, mf.MatrixSensing(np.ones((1, 3, 3)), [1])], factors, lr=0.1)
