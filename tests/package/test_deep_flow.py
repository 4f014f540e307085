"""Gradient flow with three factors or more: against closed forms, many digits, and itself.

rtol promises W(t) within 10 rtol of the data's scale, and the end point within 1e-6 at rtol = 1e-6;
both bounds below are that promise. Measured errors are 3 to 100 times smaller.
"""

import itertools
import signal
from fractions import Fraction

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import ortho_group

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.deep import exact_path, kernel
from mfbook.flow.deep.large import run as large_run
from mfbook.flow.deep.layers import flat
from mfbook.flow.taylor import taylor_flow
from mfbook.models import small_init
from mfbook.models.product import product
from mfbook.problems import MatrixCompletion, MatrixSensing, examples

TEXTS = ("1 2; 3 ?", "1 ?; ? 2", "1 2 ?; 3 ? -1; ? 2 5")


def balanced(U, sizes, V, depth):
    """Layers of equal size along given singular vectors."""
    layer = np.diag(sizes)
    return (U @ layer, *[layer] * (depth - 2), layer @ V.T)


def time_of(a0, a1, m, depth):
    """How long da/dt = a^(N−1) (m − a^N) takes from a0 to a1."""
    return quad(
        lambda x: np.exp(x) ** (2 - depth) / (m - np.exp(x) ** depth), np.log(a0), np.log(a1)
    )[0]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4, 6])
@pytest.mark.parametrize("log10_scale", [0, -1, -3])
def test_full_observation_has_a_closed_form(depth, log10_scale):
    U, V = (ortho_group.rvs(3, random_state=k) for k in (1, 2))
    m, alpha = np.array([3.0, 2.0, 1.0]), 10.0**log10_scale
    problem = MatrixCompletion((U * m) @ V.T, np.ones((3, 3), dtype=bool), loss="half")
    run = gradient_flow(
        problem, balanced(U, np.array([0.9, 0.8, 0.7]), V, depth), log10_scale=log10_scale
    )
    assert run.converged
    for k, part in enumerate((0.9, 0.8, 0.7)):
        for share in (0.1, 0.5, 0.9):
            goal = (share * m[k]) ** (1 / depth)
            if goal <= alpha * part:
                continue
            t = time_of(alpha * part, goal, m[k], depth)
            # A later escape, after 1e12, is right to 2e-13 of its time.
            steep = m[k] ** (2 - 2 / depth) * depth * 1e-12 * t
            if t <= run.t[-1]:
                value = U[:, k] @ run.W_at(t) @ V[:, k]
                assert abs(value - share * m[k]) < 10 * 1e-6 * 3 + steep


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "depth"), [(TEXTS[0], 3), (TEXTS[0], 4), (TEXTS[1], 3), (TEXTS[1], 4), (TEXTS[2], 3)]
)
def test_the_trajectory_is_that_of_many_digits(text, depth):
    problem = MatrixCompletion.from_text(text)
    factors = small_init(problem.shape, depth=depth, rng=3)
    run = gradient_flow(problem, factors, log10_scale=-1)
    assert run.converged
    steep = np.argsort(np.diff(run.loss))[:3]
    last = min(run.t[-1], 30.0)
    times = np.append(np.linspace(0, last, 5)[1:], (run.t[steep] + run.t[steep + 1]) / 2)
    times = np.unique(times[times <= last])
    exact = taylor_flow(problem, factors, log10_scale=-1, times=times, digits=12)
    scale = np.nanmax(np.abs(problem.values))
    errors = [np.abs(run.W_at(t) - W).max() / scale for t, W in zip(times, exact, strict=True)]
    assert max(errors) < 10 * 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("log10_scale", "depth"), [(-4, 3), (-6, 3), (-2, 4)])
def test_an_escape_is_that_of_many_digits(log10_scale, depth):
    problem = MatrixCompletion.from_text("1 2; 3 ?")
    factors = small_init((2, 2), depth=depth, rng=3)
    run = gradient_flow(problem, factors, log10_scale=log10_scale)
    middle = 10 ** run.phases[1].log10_arrival
    offsets = [-1.0, -0.2, 0.0, 0.2, 1.0, 3.0]
    times = [Fraction(middle) + Fraction(x) for x in offsets]
    exact = taylor_flow(problem, factors, log10_scale=log10_scale, times=times, digits=12)
    for x, W in zip(offsets, exact, strict=True):
        assert np.abs(run.W_at(x, phase=1) - W).max() < 3 * 10 * 1e-6
        assert np.abs(run.W_at(float(middle + x)) - W).max() < 3 * 10 * 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("log10_scale", [0, -2, -9, -200])
@pytest.mark.parametrize("widths", [(1, 1), (2, 5), (3, 3), (6, 2)])
def test_what_is_conserved_is_conserved(log10_scale, widths):
    problem = examples.M3
    rng = np.random.default_rng(5)
    sizes = [3, *widths, 3]
    factors = [rng.standard_normal(s) for s in itertools.pairwise(sizes)]
    run = gradient_flow(problem, factors, log10_scale=log10_scale)
    for k in range(2):
        now = run.factors[k].T @ run.factors[k] - run.factors[k + 1] @ run.factors[k + 1].T
        before = factors[k].T @ factors[k] - factors[k + 1] @ factors[k + 1].T
        size = np.sum(run.factors[k] ** 2) + np.sum(run.factors[k + 1] ** 2)
        # Rounding of the product; below 1e-8 of the large columns the links to the small go.
        assert np.abs(now - 10.0 ** (2 * log10_scale) * before).max() < 1e-13 * size
    assert np.allclose(product(run.factors), run.W, rtol=0, atol=1e-12 * np.abs(run.W).max())


@pytest.mark.slow
@pytest.mark.parametrize("log10_scale", [0, -3, -40])
def test_the_hidden_basis_does_not_matter(log10_scale):
    problem = examples.M3
    A, B, C = small_init((3, 3), depth=3, width=4, rng=1)
    P, Q = (ortho_group.rvs(4, random_state=k) for k in (0, 1))
    run = gradient_flow(problem, (A, B, C), log10_scale=log10_scale)
    turned = gradient_flow(problem, (A @ P, P.T @ B @ Q, Q.T @ C), log10_scale=log10_scale)
    assert np.abs(run.W - turned.W).max() < 1e-6 * 6
    last = len(run.phases) - 1
    assert np.abs(run.W_at(0.0, phase=last) - turned.W_at(0.0, phase=last)).max() < 1e-5 * 6
    assert np.abs(run.factors[1] - P @ turned.factors[1] @ Q.T).max() < 1e-4


@pytest.mark.parametrize("unit", [1e-9, 7.0, 1e12])
def test_units_do_not_matter(unit):
    problem, factors = examples.M4, small_init((2, 2), depth=4, rng=2)
    scaled = MatrixCompletion(unit * problem.values, problem.mask)
    run = gradient_flow(problem, factors, log10_scale=-3)
    other = gradient_flow(scaled, factors, log10_scale=-3 + np.log10(unit) / 4)
    assert np.abs(other.W / unit - run.W).max() < 1e-6 * 3
    shift = np.log10(unit) * (2 - 2 / 4)
    assert other.phases[1].log10_arrival + shift == pytest.approx(
        run.phases[1].log10_arrival, abs=1e-8
    )


@pytest.mark.slow
def test_sensing_is_followed_as_completion_is():
    problem, factors = examples.M3, small_init((3, 3), depth=3, rng=0)
    i, j = np.nonzero(problem.mask)
    measurements = np.zeros((len(i), 3, 3))
    measurements[np.arange(len(i)), i, j] = 1.0
    sensing = MatrixSensing(measurements, problem.values[i, j])
    half = MatrixCompletion(problem.values, problem.mask, loss="half")
    for log10_scale in (-1, -50):
        one = gradient_flow(sensing, factors, log10_scale=log10_scale)
        two = gradient_flow(half, factors, log10_scale=log10_scale)
        assert one.converged and np.abs(one.W - two.W).max() < 1e-6 * 6


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_disconnected_data_end_at_rank_one(depth):
    """Components share a hidden column, and the seed decides the sign alone."""
    signs = set()
    for seed in range(3):
        factors = small_init((3, 3), depth=depth, rng=seed)
        run = gradient_flow(examples.disconnected_3x3, factors, log10_scale=-100)
        expected = np.sqrt(5.0) * np.array([1.0, 3.0])
        assert run.converged
        assert np.abs(np.abs(run.W[1, [0, 2]]) - expected).max() < 1e-4
        assert np.linalg.svd(run.W, compute_uv=False)[1] < 1e-4
        signs.add(np.sign(run.W[1, 0]))
    assert signs <= {1.0, -1.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["M3", "connected_4x4"])
def test_steps_do_not_grow_with_the_plateaus(name):
    problem = getattr(examples, name)
    factors = small_init(problem.shape, depth=3, rng=0)
    near, far, farthest = (
        gradient_flow(problem, factors, log10_scale=scale) for scale in (-8, -1000, -10000)
    )
    assert far.n_steps <= 2 * near.n_steps and farthest.n_steps <= 2 * near.n_steps
    assert far.converged and farthest.converged
    # Ends differ by the tolerance of the loss, and by O(α) for the first.
    assert np.abs(far.W - farthest.W).max() < 1e-6 * np.abs(far.W).max()


def test_a_phase_is_looked_into_by_its_own_clock():
    run = gradient_flow(examples.M3, small_init((3, 3), depth=3, rng=0), log10_scale=-1000)
    assert np.isinf(run.t[-1]) and run.t[0] == 0.0
    logs = [phase.log10_time for phase in run.phases]
    assert logs[0] == -np.inf and np.all(np.isfinite(logs[1:])) and logs[1] < logs[2]
    middle = (run.phases[1].loss + run.phases[2].loss) / 2
    assert examples.M3.loss_value(run.W_at(0.0, phase=2)) == pytest.approx(middle, rel=1e-9)
    losses = [examples.M3.loss_value(run.W_at(t, phase=2)) for t in (-1e6, -10, 0, 10, 1e6)]
    assert np.all(np.diff(losses) < 0)
    assert losses[0] == pytest.approx(run.phases[1].loss, rel=1e-6)
    for t, options, match in (
        (np.inf, {}, "phase=k"),
        (0.0, {"phase": 3}, "phase must be"),
        (np.nan, {"phase": 1}, "must be a number"),
    ):
        with pytest.raises(ValueError, match=match):
            run.W_at(t, **options)


@pytest.mark.slow
def test_a_batch_is_its_runs():
    factors = small_init((3, 3), depth=3, rng=0, batch=2)
    batch = gradient_flow(examples.M3, factors, log10_scale=[-2, -300])
    alone = gradient_flow(examples.M3, tuple(f[1] for f in factors), log10_scale=-300)
    assert batch.W.shape == (2, 3, 3) and batch.converged.all()
    assert np.array_equal(batch[1].W, alone.W)


@pytest.mark.slow
@pytest.mark.parametrize("log10_scale", [0, -2, -8, -100])
def test_starts_on_invariant_sets_stay_there(log10_scale):
    eye = (np.eye(2),) * 3
    # The layers are powers of one positive definite matrix: W cannot become indefinite.
    indefinite = MatrixCompletion.from_text("1 2; 2 1")
    run = gradient_flow(indefinite, eye, log10_scale=log10_scale)
    assert not run.converged and run.reason == trajectory.STUCK
    assert np.abs(run.W - 1.5).max() < 1e-3
    # All layers are diagonal.
    run = gradient_flow(MatrixCompletion.from_text("2 ?; ? 1"), eye, log10_scale=log10_scale)
    assert run.converged and run.W[0, 1] == run.W[1, 0] == 0.0
    # Three equal numbers have a product that is positive.
    run = gradient_flow(MatrixCompletion.from_text("-1"), ([[1.0]],) * 3, log10_scale=log10_scale)
    assert not run.converged and 0 <= run.W[0, 0] < 1e-3
    # Layers of rank one stay so.
    x = np.array([[1.0], [2.0]])
    rank_one = (
        x @ [[1.0, 0.0]],
        np.array([[0.0, 1.0], [0.0, 0.0]]),
        np.array([[0.0], [1.0]]) @ x.T,
    )
    run = gradient_flow(indefinite, rank_one, log10_scale=log10_scale)
    assert run.reason == trajectory.STUCK
    assert np.linalg.svd(run.W, compute_uv=False)[1] < 1e-12


@pytest.mark.parametrize("log10_scale", [0, -3, -60])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_layer_may_be_zero(which, log10_scale):
    factors = list(small_init((3, 3), depth=3, rng=4))
    factors[which] = np.zeros((3, 3))
    assert gradient_flow(examples.M3, factors, log10_scale=log10_scale).converged


def test_rows_without_data_stay():
    problem = MatrixCompletion.from_text("1 2 ?; 3 ? ?; ? ? ?")
    factors = small_init((3, 3), depth=3, rng=0)
    run = gradient_flow(problem, factors, log10_scale=-1)
    assert run.converged
    assert np.allclose(run.factors[0][2], 0.1 * factors[0][2], rtol=1e-14, atol=0)
    assert np.allclose(product(run.factors), run.W)


@pytest.mark.parametrize(
    ("factors", "match"),
    [
        ((np.ones((2, 2)),), "two factors or more"),
        ((np.ones((2, 2)), np.ones((3, 2)), np.ones((2, 2))), "must multiply"),
        ((np.ones((2, 0)), np.ones((0, 2)), np.ones((2, 2))), "hidden width"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.ones((2, 2))), "2 factors are zero"),
        ((1e40 * np.ones((2, 2)),) * 3, "leave double precision"),
    ],
)
def test_bad_factors_are_refused(factors, match):
    with pytest.raises(ValueError, match=match):
        gradient_flow(examples.M4, factors)


def test_time_ends_where_it_is_asked_to():
    factors = small_init((3, 3), depth=3, rng=0)
    whole = gradient_flow(examples.M3, factors, log10_scale=-6)
    for t_max in (1e3, 10 ** whole.phases[1].log10_arrival, 0.9 * whole.t[-1]):
        run = gradient_flow(examples.M3, factors, log10_scale=-6, t_max=t_max)
        assert run.reason == trajectory.TIME_LIMIT
        assert run.t[-1] == pytest.approx(t_max, rel=1e-9)
        assert np.abs(run.W - whole.W_at(t_max)).max() < 1e-5 * 6


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77, 0.9])
@pytest.mark.parametrize("log10_scale", [0, -2, -50])
def test_a_time_limit_is_met_to_the_last_digit(log10_scale, share):
    """Sums of steps miss it by their rounding, and no step is as short as that."""
    factors = small_init((2, 2), depth=3, rng=1)
    whole = gradient_flow(examples.M4, factors, log10_scale=log10_scale)
    t_max = share * float(whole.t[-1])
    run = gradient_flow(examples.M4, factors, log10_scale=log10_scale, t_max=t_max)
    assert run.reason == trajectory.TIME_LIMIT and run.t[-1] == t_max
    assert np.array_equal(run.W_at(t_max), run.W)
    assert np.abs(run.W - whole.W_at(t_max)).max() < 1e-5 * 3


@pytest.mark.parametrize("t_max", [1e-300, 1.0, 1e300])
def test_a_time_limit_may_be_nothing_beside_a_plateau(t_max):
    factors = small_init((3, 3), depth=3, rng=0)
    run = gradient_flow(examples.M3, factors, log10_scale=-1000, t_max=t_max)
    assert run.reason == trajectory.TIME_LIMIT and run.t[-1] == t_max and run.n_steps == 1


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("share", [0.25, 0.9])
@pytest.mark.parametrize(("depth", "log10_scale"), [(3, -50), (4, -30)])
def test_a_column_that_grows_alone_is_known_at_all_times(
    monkeypatch, depth, log10_scale, share, large
):
    """On the plateau of one entry m: a^−(N−2) falls at the rate (N−2) m, to 0 at time T."""
    if large:
        monkeypatch.setattr(large_run, "LARGE", 0)
    problem, m, a = MatrixCompletion([[2.0]], [[True]], loss="half"), 2.0, 0.7
    start = a * 10.0**log10_scale
    T = start ** (2 - depth) / ((depth - 2) * m)
    expected = start * (1 - share) ** (-1 / (depth - 2))
    options = {"log10_scale": log10_scale}
    whole = gradient_flow(problem, ([[a]],) * depth, **options)
    cut = gradient_flow(problem, ([[a]],) * depth, t_max=share * T, **options)
    assert cut.reason == trajectory.TIME_LIMIT and cut.t[-1] == share * T
    for factors in (whole.factors_at(share * T), cut.factors):
        assert [f[0, 0] / expected for f in factors] == pytest.approx([1.0] * depth, rel=1e-9)


@pytest.mark.parametrize("loss_tol", [1 - 1e-14, 0.5, 1e-6])
def test_a_run_ends_where_the_loss_is_down_to_what_was_asked(loss_tol):
    """W = m − √(2 loss); what is not felt yet is less than 1e-12 of it."""
    problem = MatrixCompletion([[2.0]], [[True]], loss="half")
    run = gradient_flow(problem, ([[0.7]],) * 3, log10_scale=-50, loss_tol=loss_tol)
    assert run.converged and run.loss[-1] <= loss_tol * run.loss[0]
    assert run.W[0, 0] == pytest.approx(2 - 2 * np.sqrt(loss_tol), abs=1e-12)
    assert run.t[-1] == pytest.approx(1 / (0.7e-50 * 2), rel=1e-12)


@pytest.mark.parametrize("b0", [1e-7, 1e-25])
def test_a_column_beside_one_of_two_grows_to_be_felt(b0):
    """W_2 = W_3 = diag(1, b) are felt once b is as large as 10^-4.3, the other column at once.

    db/dt = a b (1 − a b²) with a² − b² conserved, in the corner that learns 1. What is less than
    rounding beside the first column has no time that is known, but is no rest.
    """
    problem = MatrixCompletion.from_text("2 0; 0 1", loss="half")
    start = (np.eye(2), np.diag([1.0, b0]), np.diag([1.0, b0]))
    run = gradient_flow(problem, start)
    assert run.converged and np.abs(run.W - np.diag([2.0, 1.0])).max() < 1e-4
    if b0 < 1e-13:
        return

    def slowness(log_b):
        b = np.exp(log_b)
        a = np.sqrt(1 - b0**2 + b**2)
        return 1 / (a * (1 - a * b**2))

    t = quad(slowness, np.log(b0), np.log(0.5))[0]
    assert run.W_at(t)[1, 1] == pytest.approx(0.25 * np.sqrt(1.25), abs=1e-5)


def test_a_phase_s_clock_reaches_back_to_the_start():
    factors = small_init((2, 2), depth=3, rng=2)
    run = gradient_flow(examples.M4, factors, log10_scale=-2)
    assert [phase.rank for phase in run.phases] == [0, 1]
    middle = 10 ** run.phases[1].log10_arrival
    for t in (0.2, 0.9):
        before = run.W_at((t - 1) * middle, phase=1)
        assert np.abs(before - run.W_at(t * middle)).max() < 1e-12
    assert np.array_equal(run.W_at(-2 * middle, phase=1), run.W_at(0.0))


def test_a_rest_without_a_step_has_no_clock():
    """A run that is cut while its gradient grows, and its loss is as it was to all digits."""
    factors = small_init((2, 2), depth=3, rng=2)
    whole = gradient_flow(examples.M4, factors, log10_scale=-12)
    t_max = 0.95 * 10 ** whole.phases[1].log10_arrival
    run = gradient_flow(examples.M4, factors, log10_scale=-12, t_max=t_max)
    assert run.gradient_norm[-1] > 10 * run.gradient_norm[0] and run.loss[-1] == run.loss[0]
    assert len(run.phases) == 2 and run.phases[1].log10_arrival is None
    with pytest.raises(ValueError, match="phase 1 begins with no step of the loss"):
        run.W_at(0.0, phase=1)
    assert run[()] is run and run.log10_columns is None


def test_layers_that_are_zero_where_data_are_stay():
    """The flow has nothing to multiply: two of three layers are zero on the observed row."""
    problem = MatrixCompletion.from_text("1 ?; ? ?")
    start = np.array([[0.0, 0.0], [1.0, 2.0]]), np.zeros((2, 2)), np.array([[3.0, 1], [2, -1]])
    for log10_scale in (0, -5, -1000):
        run = gradient_flow(problem, start, log10_scale=log10_scale)
        assert run.reason == trajectory.STUCK and run.loss[-1] == run.loss[0] == 1.0
        for factor, first in zip(run.factors, start, strict=True):
            assert np.allclose(factor, 10.0**log10_scale * first, rtol=1e-12, atol=0)
    zero = MatrixCompletion([[0.0, np.nan], [np.nan, np.nan]], [[True, False], [False, False]])
    run = gradient_flow(zero, start)
    assert run.converged and run.n_steps == 0 and run.gradient_norm[0] == 0.0
    assert all(np.allclose(f, g, rtol=1e-12) for f, g in zip(run.factors, start, strict=True))


def test_where_nothing_is_measured_nothing_moves():
    """Of f = (0 − 1)²/2 no W makes less."""
    problem, start = MatrixSensing([np.zeros((2, 2))], [1.0]), small_init((2, 2), depth=3, rng=0)
    run = gradient_flow(problem, start)
    assert run.converged and run.loss.tolist() == [0.5] and run.n_steps == 0
    assert all(np.allclose(f, g, rtol=1e-12) for f, g in zip(run.factors, start, strict=True))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("log10_scale", "converged"), [(-102.5, True), (-95, False)])
def test_a_rest_where_zero_fits_is_no_saddle(monkeypatch, log10_scale, converged, large):
    """Slopes of so small a start underflow, and ⟨∇f(W), W⟩ = 2 f(W): all critical points fit."""
    if large:
        monkeypatch.setattr(large_run, "LARGE", 0)
    problem = MatrixCompletion(np.zeros((2, 2)), np.eye(2, dtype=bool))
    run = gradient_flow(problem, small_init((2, 2), depth=3, rng=0), log10_scale=log10_scale)
    assert run.reason == (trajectory.LOSS_REACHED if converged else trajectory.DROWNED)
    assert run.n_steps == 0 and 0 < np.abs(run.W).max() < 1e-280


def test_a_run_whose_steps_fail_says_so(monkeypatch):
    """What the steps before have led to is returned."""
    march = exact_path.march
    monkeypatch.setattr(exact_path, "march", lambda *words: march(*words)._replace(failed=True))
    run = gradient_flow(examples.M4, small_init((2, 2), depth=3, rng=2), log10_scale=-1)
    assert run.reason == trajectory.STEP_TOO_SMALL and not run.converged and run.advice
    assert run.n_steps > 1 and len(run.t) == run.n_steps + 1 and np.all(np.diff(run.t) > 0)
    assert run.loss[-1] == pytest.approx(examples.M4.loss_value(run.W), rel=1e-12)


def interrupted_after(monkeypatch, calls):
    """A run with a Ctrl-C in so many calls of what looks at a state."""
    seen, done = exact_path.ExactPath._seen, []

    def look(self):
        done.append(1)
        if len(done) > calls:
            signal.raise_signal(signal.SIGINT)
        return seen(self)

    monkeypatch.setattr(exact_path.ExactPath, "_seen", look)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return gradient_flow(examples.M4, small_init((2, 2), depth=3, rng=2), log10_scale=-3)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_returns_what_there_is(monkeypatch):
    whole = gradient_flow(examples.M4, small_init((2, 2), depth=3, rng=2), log10_scale=-3)
    run = interrupted_after(monkeypatch, 2)
    assert run.reason == trajectory.INTERRUPTED and not run.converged
    assert 2 <= len(run.t) < len(whole.t) and np.array_equal(run.t, whole.t[: len(run.t)])
    assert np.array_equal(run.W_at(run.t[-1]), run.W)


def test_an_interrupt_before_there_is_anything_is_one(monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        interrupted_after(monkeypatch, 0)


@pytest.mark.parametrize("size", [1.0, 1e-14, 1e-30, 1e-100])
def test_a_step_on_a_plateau_has_a_length_however_small_the_gradient(size):
    """The 24th coefficient of its series is of the order of the 24th power, and underflows."""
    layers = tuple(np.random.default_rng(0).standard_normal((3, 2, 2)))
    z, dims, offsets = flat(layers)
    G = np.array([[1.0, 0.5], [0.2, -0.7]])
    whole, small = (
        kernel.taylor_length(kernel.taylor(g * G, z, dims, offsets, 24), dims, offsets, 1e-17)
        for g in (1.0, size)
    )
    assert 0 < small * size <= 2 * whole


@pytest.mark.parametrize("size", [2, 40])
@pytest.mark.parametrize("most", [0, 1, 2, 7, 20])
def test_no_run_takes_more_steps_than_it_may(size, most):
    M = np.outer(np.arange(1.0, size + 1), np.ones(size)) / size
    problem = MatrixCompletion(M, np.tri(size, dtype=bool))
    run = gradient_flow(
        problem, small_init((size, size), depth=3, rng=0), log10_scale=-2, max_steps=most
    )
    assert (run.n_steps, run.reason, run.converged) == (most, trajectory.STEP_LIMIT, False)
    assert np.array_equal(run.W_at(run.t[-1]), run.W) and len(run.phases) >= 1
