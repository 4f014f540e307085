"""The unit of the data does not matter: answers to c M are c times the answers to M."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbook.flow import gradient_flow
from mfbook.flow.descent import gradient_descent
from mfbook.flow.trajectory import DROWNED, LOSS_REACHED
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing, examples
from mfbook.problems.fit import LOSS_TOL, excess, fit_of, fits
from mfbook.rivals.glrl import glrl
from mfbook.theory.landscape import critical_point_kind, escape_direction, relative_gradient
from tests.package.own import Own

UNITS = [1e-150, 1e-40, 1e-6, 1e6, 1e40, 1e150]
# Data in another unit are rounded anew, and a run may amplify that: two runs of one problem each
# keep the promise of 10 rtol.
WITHIN = 2e-5

seeds = st.integers(0, 10**6)
exponents = st.floats(-150, 150)


def in_unit(problem, c):
    if isinstance(problem, MatrixSensing):
        return MatrixSensing(problem.measurements, c * problem.targets, loss=problem.loss)
    return MatrixCompletion(c * problem.values, problem.mask, loss=problem.loss)


def scaled(factors, c):
    return tuple(np.sqrt(c) * factor for factor in factors)


def random_problem(rng, kind):
    m, n = rng.integers(1, 5, size=2)
    if kind == "sensing":
        k = int(rng.integers(1, m * n + 1))
        return MatrixSensing(rng.standard_normal((k, m, n)), rng.standard_normal(k))
    mask = rng.random((m, n)) < 0.7
    mask[rng.integers(m), rng.integers(n)] = True
    return MatrixCompletion(rng.standard_normal((m, n)), mask)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["completion", "sensing"])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=seeds, exponent=exponents, log10_scale=st.sampled_from([0, -3, -40, -1000]))
def test_the_flow_is_equivariant(kind, seed, exponent, log10_scale):
    rng = np.random.default_rng(seed)
    problem, c = random_problem(rng, kind), 10.0**exponent
    factors = small_init(problem.shape, rng=rng)
    options = {"log10_scale": log10_scale, "max_steps": 600}
    one = gradient_flow(problem, factors, **options)
    two = gradient_flow(in_unit(problem, c), scaled(factors, c), **options)
    assert one.reason == two.reason
    size = one.singular_values.max()
    assert np.abs(two.W / c - one.W).max() <= WITHIN * size
    assert two.t[-1] * c == pytest.approx(one.t[-1], rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("c", [1e-20, 1e-3, 1e3, 1e20])
def test_the_unit_of_the_measurements_does_not_matter_either(c):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5, 3, 3)), rng.standard_normal(5)
    factors = small_init((3, 3), rng=1)
    one = gradient_flow(MatrixSensing(X, y), factors, log10_scale=-5)
    two = gradient_flow(MatrixSensing(c * X, c * y), factors, log10_scale=-5)
    assert two.reason == one.reason == LOSS_REACHED
    assert np.abs(two.W - one.W).max() <= WITHIN * np.abs(one.W).max()


@pytest.mark.slow
@pytest.mark.parametrize("c", UNITS)
def test_descent_is_equivariant(c):
    problem, factors = examples.M4, scaled(small_init((2, 2), rng=0), 1e-3)
    one = gradient_descent(problem, factors, lr=1e-2)
    two = gradient_descent(in_unit(problem, c), scaled(factors, c), lr=1e-2 / c)
    assert two.converged
    assert abs(two.n_steps - one.n_steps) <= 1
    assert np.abs(two.W / c - one.W).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("c", UNITS)
@pytest.mark.parametrize("name", ["connected_4x4", "disconnected_3x3", "runaway_3x3"])
def test_greedy_learning_is_equivariant(name, c):
    problem = getattr(examples, name)
    one, two = glrl(problem), glrl(in_unit(problem, c))
    assert (two.ranks, two.reason) == (one.ranks, one.reason)
    if one.converged:
        assert np.abs(two.W / c - one.W).max() <= WITHIN * np.abs(one.W).max()


@pytest.mark.parametrize("c", UNITS)
def test_the_judges_of_a_point_are_equivariant(c):
    """At zero, at a saddle of a run, at its end and half way."""
    problem, factors = examples.connected_4x4, small_init((4, 4), rng=0)
    run = gradient_flow(problem, factors, log10_scale=-1000)
    points = [(np.zeros((4, 4)),) * 2, *(phase.factors for phase in run.phases[1:])]
    points += [run.factors_at((run.phases[0].time + run.phases[1].time) / 2 + 1.0), factors]
    other = in_unit(problem, c)
    for point in points:
        there = scaled(point, c)
        kind = critical_point_kind(problem, point)
        assert critical_point_kind(other, there) == kind
        assert relative_gradient(other, there) == pytest.approx(
            relative_gradient(problem, point), rel=1e-6, abs=1e-12
        )
        if kind == "strict saddle":
            escape = escape_direction(problem, point)
            assert escape_direction(other, there).rate == pytest.approx(c * escape.rate, rel=1e-6)


@pytest.mark.parametrize("log10_scale", [-2, -200])
def test_small_data_are_not_fitted_by_nothing(log10_scale):
    """1e-6 of the data once passed for fitted at step 0, and 1e12 of them for not fitted at all."""
    for c in (1e-6, 1e12):
        problem = in_unit(examples.M4, c)
        factors = scaled(small_init((2, 2), rng=0), c)
        run = gradient_flow(problem, factors, log10_scale=log10_scale)
        assert run.converged
        assert run.n_steps > 0
        assert problem.loss_value(run.W) <= 1.0001e-10 * problem.loss_value(np.zeros((2, 2)))


@pytest.mark.parametrize("size", [1e-160, 1e160])
def test_data_beyond_double_precision_are_refused(size):
    problem = in_unit(examples.M4, size)
    factors = small_init((2, 2), rng=0)
    for run in (gradient_flow, lambda p, _: glrl(p)):
        with pytest.raises(ValueError, match="squares are numbers in double precision"):
            run(problem, factors)
    big = MatrixSensing([[[1e60]]], [1.0])
    with pytest.raises(ValueError, match="the measurements must be of a size between"):
        gradient_flow(big, ([[1.0]], [[1.0]]))


@pytest.mark.parametrize("rtol", [1e-7, 1e-6, 9e-7, 1e-5])
@pytest.mark.parametrize("log10_scale", [-1, -30])
def test_a_run_ends_where_the_loss_crosses_its_tolerance(rtol, log10_scale):
    """And not at the end of the step in which it does, which depends on all that steers steps."""
    problem = examples.disconnected_3x3
    for one in (problem, examples.M4):
        run = gradient_flow(
            one, small_init(one.shape, rng=0), log10_scale=log10_scale, rtol=rtol, loss_tol=1e-7
        )
        target = 1e-7 * one.loss_value(np.zeros(one.shape))
        assert run.loss[-1] == pytest.approx(target, rel=1e-5)
        assert run.loss[-1] <= target
        assert one.loss_value(run.W) == pytest.approx(target, rel=1e-5)
        assert len(run.t) == len(run.loss) == len(run.singular_values)


def test_parts_run_on_until_all_are_learned():
    """ "2 ?; ? 1": the first entry is learned long before the second, and keeps converging.

    Each entry has a closed form, w = 2 / (1 + (2/w_0 − 1) exp(−4ct)) along A = Bᵀ. Once a part
    was frozen at its share of the tolerance, off by 9e-8 whatever rtol asked for.
    """
    problem = MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    root = np.array([[1.0, 0.0], [0.0, 1.0]])
    for rtol in (1e-6, 1e-8):
        run = gradient_flow(problem, (root, root), log10_scale=-4, rtol=rtol, loss_tol=1e-14)
        for t in np.linspace(0, run.t[-1], 40):
            for i, size in enumerate((2.0, 1.0)):
                w = size / (1 + (size / 1e-8 - 1) * np.exp(-2 * size * t))
                assert abs(run.W_at(t)[i, i] - w) < 10 * rtol


def test_contradictory_measurements_have_a_least_loss():
    """Two values for one entry: the flow ends at their mean, and the three judges agree."""
    e = np.array([[1.0, 0.0], [0.0, 0.0]])
    f = np.array([[0.0, 1.0], [1.0, 0.0]])
    problem = MatrixSensing([e, e, f], [1.0, 3.0, 2.0])
    run = gradient_flow(problem, small_init((2, 2), rng=0), log10_scale=-3)
    assert run.converged
    assert run.W[0, 0] == pytest.approx(2.0, abs=1e-4)
    assert run.loss[-1] == pytest.approx(1.0, abs=1e-8)  # ½(1² + 1²), with half the squares
    assert fit_of(problem).least == pytest.approx(1.0)
    assert fits(problem, run.W)
    assert critical_point_kind(problem, run.factors) == "global minimum"
    with pytest.raises(ValueError, match="global minimum"):
        escape_direction(problem, run.factors)
    assert glrl(problem).converged
    down = gradient_descent(problem, scaled(small_init((2, 2), rng=0), 1e-2), lr=0.05)
    assert down.converged
    assert excess(problem, down.W) <= 1.01 * LOSS_TOL * fit_of(problem).learnable


def test_targets_that_no_matrix_comes_near_leave_nothing_to_learn():
    problem = MatrixSensing([[[1.0]], [[1.0]]], [1.0, -1.0])
    run = gradient_flow(problem, ([[1.0]], [[1.0]]), loss_tol=1e-8)
    assert run.converged
    assert abs(run.W[0, 0]) < 2e-4


def test_a_run_that_drowns_in_rounding_does_not_call_it_a_critical_point():
    """From 10^10 the loss comes down to the rounding of W, 4e19; nothing more can be told."""
    run = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=10)
    assert run.reason == DROWNED
    assert not run.converged


def test_descent_stops_by_the_excess_where_the_least_loss_is_large():
    """Targets ±1e6 for one entry beside 1 for another: min f = 1e12, what can be learned 0.5."""
    e, f = np.zeros((2, 2)), np.zeros((2, 2))
    e[0, 0] = f[0, 1] = 1.0
    problem = MatrixSensing([e, e, f], [1e6, -1e6, 1.0])
    start = scaled(small_init((2, 2), rng=0), 1e-2)
    run = gradient_descent(problem, start, lr=0.1, max_iters=3000)
    assert run.converged
    assert run.W[0, 1] == pytest.approx(1.0, abs=1e-4)


def test_a_problem_is_what_answers():
    """A class of one's own runs wherever a problem does."""

    factors = scaled(small_init((2, 2), rng=0), 1e-2)
    known = MatrixSensing([np.eye(2)], [3.0])
    own = Own(known)
    assert gradient_flow(own, factors).W == pytest.approx(gradient_flow(known, factors).W)
    down = gradient_descent(own, factors, lr=0.05)
    assert down.W == pytest.approx(gradient_descent(known, factors, lr=0.05).W)
    assert glrl(own).converged
    with pytest.raises(TypeError, match="must be a MatrixCompletion or a MatrixSensing"):
        gradient_flow(type("Half", (), {"shape": (2, 2), "measure": None})(), factors)
