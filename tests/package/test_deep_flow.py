"""Gradient flow with three factors or more: against closed forms, many digits, and itself.

rtol promises W(t) within 10 rtol of the data's scale, and the end point within 1e-6 at rtol = 1e-6;
both bounds below are that promise. Measured errors are 3 to 100 times smaller.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import ortho_group

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.deep import kernel
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
