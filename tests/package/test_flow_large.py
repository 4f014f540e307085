"""The method for large problems against the exact one, and against what it must cost."""

import numpy as np
import pytest

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.shallow import drive, exponential, field
from mfbook.flow.shallow import large as large_steps
from mfbook.flow.shallow.dense import Columns
from mfbook.flow.shallow.field import CompletionField
from mfbook.flow.shallow.stack import stack_of
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


@pytest.mark.parametrize("log10_scale", [-60, -300])
def test_long_plateaus_are_passed_in_pieces(monkeypatch, log10_scale):
    """A series carries the passive columns a few units of growth at a time; the others rest on."""
    problem, start = full(np.diag([2.0, 1.0, 0.5]), loss="half"), small_init((3, 3), rng=0)
    exact = gradient_flow(problem, start, log10_scale=log10_scale, rtol=1e-7)
    in_large_mode(monkeypatch)
    monkeypatch.setattr(large_steps, "LARGEST_SVD", 0)
    large = gradient_flow(problem, start, log10_scale=log10_scale, rtol=RTOL)
    assert_one_path(problem, exact, large)
    assert large.n_steps < 150 + 1.2 * abs(log10_scale)
    for phase, expected in zip(large.phases, exact.phases, strict=True):
        assert np.abs(phase.W - expected.W).max() < 10 * RTOL


def test_a_series_knows_no_time_to_wait_for_where_no_column_waits(monkeypatch):
    in_large_mode(monkeypatch)
    monkeypatch.setattr(large_steps, "LARGEST_SVD", 0)
    problem = full(np.diag([2.0, 1.0, 0.5]))
    run = gradient_flow(problem, small_init((3, 3), width=1, rng=0), log10_scale=-10, rtol=RTOL)
    assert run.reason == trajectory.STUCK
    assert np.abs(run.W - np.diag([2.0, 0, 0])).max() < 1e-6


@pytest.mark.parametrize("large", [False, True])
def test_a_run_that_begins_at_a_saddle_rests_at_once(monkeypatch, large):
    """The second column has log(10^40)/2 to wait; by then W has half of what it is to learn."""
    if large:
        in_large_mode(monkeypatch)
    factors = (np.diag([2.0, 1e-20]),) * 2
    run = gradient_flow(full(np.diag([4.0, 1.0]), loss="half"), factors, rtol=RTOL)
    assert run.converged
    assert run.t[1] > 30
    assert run.W_at(np.log(1e40) / 2) == pytest.approx(np.diag([4.0, 0.5]), abs=1e-4)


def test_a_large_start_that_moves_slowly_is_not_called_stuck():
    """The factors are far from balance: one of them feels the gradient, which is no rounding."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((41, 2)) @ rng.standard_normal((2, 41))
    problem = MatrixCompletion(truth, rng.random((41, 41)) < 0.6, loss="half")
    start = small_init((41, 41), width=1, rng=1)
    run = gradient_flow(problem, start, log10_scale=5, rtol=RTOL, max_steps=60)
    assert run.reason == trajectory.STEP_LIMIT
    assert run.gradient_norm[-1] < 0.5 * run.gradient_norm[20]
    # With three columns what is left of the speed drowns in the rounding of what it is the sum of.
    start = small_init((41, 41), width=3, rng=1)
    run = gradient_flow(problem, start, log10_scale=5, rtol=RTOL, max_steps=60)
    assert run.reason == trajectory.DROWNED


@pytest.mark.parametrize("log10_scale", [4, 6, 10])
def test_a_large_start_that_drowns_does_not_call_it_a_critical_point(monkeypatch, log10_scale):
    """One hidden column is out of sight; the two others fit, or rounding keeps them from it."""
    in_large_mode(monkeypatch)
    problem = MatrixCompletion.from_text("1; 2")
    start = np.array([[2, 1, 1e-30], [1, -1, 2e-30]]), np.array([[-2], [1], [1e-30]])
    run = gradient_flow(problem, start, log10_scale=log10_scale, rtol=RTOL, max_steps=200)
    assert run.reason in (trajectory.LOSS_REACHED, trajectory.DROWNED)
    # What W is the sum of was 10^(2 log10_scale) at first, and known to its rounding.
    assert problem.loss_value(run.W) < (1e-11 * 10.0 ** (2 * log10_scale)) ** 2


def test_what_no_step_can_follow_ends_in_words():
    """An observed zero, factors up to 10^20 and far from balance."""
    factors = np.array([[-1e-20, 0.0]]), np.array([[2e-20], [-1e-5]])
    run = gradient_flow(MatrixCompletion.from_text("0"), factors, log10_scale=25)
    assert run.reason == trajectory.STEP_TOO_SMALL and not run.converged
    assert "nearer in size" in run.advice


def test_small_krylov_spaces_make_shorter_steps_on_the_same_path(monkeypatch):
    problem, start = problem_of(0)
    options = {"log10_scale": -1, "loss_tol": 1e-6}
    exact = gradient_flow(problem, start, rtol=1e-7, **options)
    in_large_mode(monkeypatch)
    whole = gradient_flow(problem, start, rtol=RTOL, **options)
    monkeypatch.setattr(exponential, "MOST", 3)
    small = gradient_flow(problem, start, rtol=RTOL, **options)
    assert_one_path(problem, exact, small)
    assert small.n_steps > 2 * whole.n_steps


def test_rates_of_escape_are_left_out_where_they_are_dear():
    problem = full(np.outer(np.linspace(1, 2, 599), [1.0, 3.0]))
    start = small_init(problem.shape, width=1, rng=0)
    run = gradient_flow(problem, start, log10_scale=-5, rtol=RTOL, loss_tol=1e-6)
    assert [phase.rank for phase in run.phases] == [0, 1]
    assert run.phases[0].rate is None and run.phases[0].direction is None


def stepper_of(values, X, active, **memory):
    """The large method at these unit columns, for a field that observes every entry."""
    m, n = values.shape
    i, j = np.divmod(np.arange(m * n), n)
    whole = CompletionField(i, j, values.ravel(), values.shape, 0.5, stack_of((m, n), False))
    count = X.shape[1]
    state = Columns(0.0, X, np.zeros(count), np.eye(count), np.array(active))
    return large_steps.LargeStepper(whole, state, large_steps.Memory(**memory))


def test_where_the_gradient_is_zero_nothing_grows():
    X = np.array([[0.6, 0.0], [0.0, 1.0], [0.8, 0.0]])
    stepper = stepper_of(X[:2, :1] @ X[2:, :1].T, X, [True, False])
    assert stepper.loss == 0 and stepper.sigma == 0 and stepper.at_rest
    assert stepper.time_to_reach(10.0) == np.inf
    after, error = stepper.step(1e6)
    assert error == 0 and np.abs(after.Z - stepper.Z).max() < 1e-15 and after.ell[1] == 0
    # The vector from which the next state's growth is found is none that has vanished.
    assert np.linalg.norm(stepper.memory.linear) == pytest.approx(1.0)


@pytest.mark.parametrize(("speed_before", "rests"), [(1.0, True), (0.995, True), (0.9, False)])
def test_a_rest_lasts_until_the_active_columns_are_faster_again(speed_before, rests):
    X = np.array([[0.6, 0.0], [0.0, 1.0], [0.8, 0.0]])
    values = X[:2, :1] @ X[2:, :1].T + [[1e-7], [0.0]]
    speed = float(np.linalg.norm(stepper_of(values, X, [True, False]).F))
    last = 0.0, speed_before * speed, 1
    stepper = stepper_of(values, X, [True, False], last=last, rested=1)
    assert not stepper.still
    assert (stepper.at_rest, stepper.memory.rested) == (rests, 1 if rests else -1)
    # Nobody rests who has not come to rest before.
    assert not stepper_of(values, X, [True, False], last=last).at_rest


def test_a_step_that_overflows_is_none():
    X = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 2)))[0]
    stepper = stepper_of(np.ones((3, 2)), X, [True, True])
    new, error = stepper.step(0.1 / stepper.rho, RTOL)
    assert new is not None and error <= RTOL
    stepper.rho = 0.0  # as if nothing were stiff
    assert stepper.step(1e200, RTOL) == (None, np.inf)


@pytest.mark.parametrize("count", [3, 12])
def test_sparse_products_of_few_and_many_columns(monkeypatch, count):
    """With many columns the whole product is formed, with few its observed entries alone."""
    rng = np.random.default_rng(0)
    i, j = np.nonzero(rng.random((7, 9)) < 0.5)
    values, Z, D = rng.standard_normal(len(i)), *rng.standard_normal((2, 16, count))
    made = []
    for entries in (field.DENSE_ENTRIES, 0):
        monkeypatch.setattr(field, "DENSE_ENTRIES", entries)
        one = CompletionField(i, j, values, (7, 9), 0.5, stack_of((7, 9), False))
        loss, G = one.gradient(Z)
        change = one.change(Z, D)
        dense = entries > 0
        made.append((loss, *(g if dense else g.toarray() for g in (G, change))))
    for dense, sparse in zip(*made, strict=True):
        assert np.abs(dense - sparse).max() < 1e-12


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
