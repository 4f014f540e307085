"""Large layers at depth three and more: against the exact method, what is conserved, and its cost.

rtol promises W(t) within 10 rtol of the data's scale; where plateaus last so long that a double
does not tell times apart, on the clock of every phase.
"""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from mfbook.flow import gradient_flow, trajectory
from mfbook.flow.deep.large import field, orbit
from mfbook.flow.deep.large import run as large_run
from mfbook.flow.deep.large import state as large_state
from mfbook.flow.deep.large.quiet import Lone, Still, standing_out
from mfbook.flow.deep.large.reading import W_of, size_of
from mfbook.flow.deep.layers import flat, unflat
from mfbook.flow.shallow import stabilised
from mfbook.flow.shallow.phi import phi_functions
from mfbook.models import product, small_init
from mfbook.problems import MatrixCompletion, MatrixSensing, examples

MEDIUM = 1e-4


def problem_of(seed, n=6, rank=2, share=0.7):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))
    mask = rng.random((n, n)) < share
    mask[:, 0] = mask[0] = True  # connected
    return MatrixCompletion(truth, mask, loss="half"), rng


def in_large_mode(monkeypatch):
    monkeypatch.setattr(large_run, "LARGE", 0)


def in_exact_mode(monkeypatch):
    monkeypatch.setattr(large_run, "LARGE", 10**9)


@cache
def exact_run(seed, depth, log10_scale):
    """The exact method's run, at an rtol that suits every test of the other one; and its task."""
    problem, rng = problem_of(seed)
    factors = small_init((6, 6), depth=depth, rng=rng)
    options = {"log10_scale": log10_scale, "loss_tol": 1e-8}
    return exactly(problem, factors, **options), problem, factors, options


def exactly(problem, factors, **options):
    with pytest.MonkeyPatch.context() as patch:
        in_exact_mode(patch)
        return gradient_flow(problem, factors, rtol=1e-7, **options)


def both_of_case(monkeypatch, rtol, *case):
    """The exact run of a case, the other method's, and the largest of the data."""
    exact, problem, factors, options = exact_run(*case)
    in_large_mode(monkeypatch)
    run = gradient_flow(problem, factors, rtol=rtol, **options)
    return exact, run, np.nanmax(np.abs(problem.values))


def both(monkeypatch, problem, factors, rtol, **options):
    exact = exactly(problem, factors, **options)
    in_large_mode(monkeypatch)
    return exact, gradient_flow(problem, factors, rtol=rtol, **options)


@pytest.mark.slow
@pytest.mark.parametrize("rtol", [1e-4, 1e-6])
@pytest.mark.parametrize(("depth", "log10_scale"), [(3, 0), (3, -2), (4, -1)])
def test_both_methods_follow_one_path(monkeypatch, depth, log10_scale, rtol):
    exact, run, size = both_of_case(monkeypatch, rtol, 0, depth, log10_scale)
    assert exact.converged and run.converged
    times = np.linspace(0, min(exact.t[-1], run.t[-1]), 60)
    assert max(np.abs(exact.W_at(t) - run.W_at(t)).max() for t in times) < 10 * rtol * size


@pytest.mark.slow
@pytest.mark.parametrize("rtol", [1e-4, 1e-6])
@pytest.mark.parametrize(
    ("depth", "log10_scale"), [(3, -4), (3, -12), (3, -1000), (4, -3), (4, -100)]
)
def test_every_phase_is_right_on_its_own_clock(monkeypatch, depth, log10_scale, rtol):
    exact, run, size = both_of_case(monkeypatch, rtol, 1, depth, log10_scale)
    assert exact.converged and run.converged
    assert [phase.rank for phase in exact.phases] == [phase.rank for phase in run.phases]
    for k in range(1, len(run.phases)):
        for t in (-2.0, -0.3, 0.0, 0.3, 2.0):
            gap = np.abs(exact.W_at(t, phase=k) - run.W_at(t, phase=k)).max()
            assert gap < 10 * rtol * size
    assert np.abs(exact.W - run.W).max() < rtol * size


def test_a_lone_column_carries_the_others_along(monkeypatch):
    """The second plateau lasts as long, times α, from any small scale.

    Where singular values are close, a column turns on its way up over any number of decades; the
    others would be left with a part of what it has taken, and escape at another time.
    """
    rng = np.random.default_rng(5)
    U, V = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    mask = rng.random((5, 5)) < 0.85
    problem = MatrixCompletion((U * [3, 2.85, 1.5, 0, 0]) @ V.T, mask, loss="half")
    factors = small_init((5, 5), depth=3, rng=rng)
    in_exact_mode(monkeypatch)
    near = gradient_flow(problem, factors, log10_scale=-7, loss_tol=1e-8)
    in_large_mode(monkeypatch)
    far = gradient_flow(problem, factors, log10_scale=-100, loss_tol=1e-8)
    gaps = [
        (b.log10_arrival - 100) - (a.log10_arrival - 7)
        for a, b in zip(near.phases[1:3], far.phases[1:3], strict=True)
    ]
    assert abs(gaps[0]) < 1e-6 and abs(gaps[1]) < 3e-4


@pytest.mark.parametrize("log10_scale", [0, -2, -9, -200])
@pytest.mark.parametrize("widths", [(2, 5), (3, 3), (6, 2), (30, 25)])
def test_what_is_conserved_is_conserved(monkeypatch, log10_scale, widths):
    in_large_mode(monkeypatch)
    rng = np.random.default_rng(5)
    factors = [rng.standard_normal(s) for s in pairwise([3, *widths, 3])]
    run = gradient_flow(examples.M3, factors, log10_scale=log10_scale, rtol=MEDIUM)
    for k in range(2):
        now = run.factors[k].T @ run.factors[k] - run.factors[k + 1] @ run.factors[k + 1].T
        before = factors[k].T @ factors[k] - factors[k + 1] @ factors[k + 1].T
        size = np.sum(run.factors[k] ** 2) + np.sum(run.factors[k + 1] ** 2)
        # To the sweeps of `rebalanced`.
        assert np.abs(now - 10.0 ** (2 * log10_scale) * before).max() < 1e-6 * size
    assert np.allclose(product(run.factors), run.W, rtol=0, atol=1e-9 * np.abs(run.W).max())


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    m=st.integers(1, 7),
    n=st.integers(1, 7),
    widths=st.lists(st.integers(1, 8), min_size=2, max_size=4),
    log10_scale=st.sampled_from([-1, -3, -7, -50]),
    seed=st.integers(0, 10**6),
)
def test_any_shape_ends_in_words(m, n, widths, log10_scale, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((m, n)) < 0.6
    mask[rng.integers(m), rng.integers(n)] = True
    problem = MatrixCompletion(rng.standard_normal((m, n)), mask)
    factors = [rng.standard_normal(s) for s in pairwise([m, *widths, n])]
    with pytest.MonkeyPatch.context() as patch:
        in_large_mode(patch)
        run = gradient_flow(
            problem, factors, log10_scale=log10_scale, rtol=1e-3, loss_tol=1e-4, max_steps=100
        )
    assert run.converged == (run.reason == trajectory.LOSS_REACHED)
    assert run.converged or run.advice
    assert np.all(np.diff(run.loss) <= 1e-9 * run.loss[0])
    assert problem.loss_value(run.W) == pytest.approx(run.loss[-1], rel=1e-6, abs=1e-12)
    assert run.n_steps <= 101  # at its limit a run still ends the step that it is in


@pytest.mark.parametrize("widths", [(3, 4, 2), (9, 10, 9)])
def test_products_with_the_jacobian_are_those_of_differences(widths):
    """Of more than eight columns `SparseEntries` takes what is observed of the whole product."""
    rng = np.random.default_rng(0)
    layers = tuple(rng.standard_normal(s) / 2 for s in pairwise([5, *widths, 6]))
    z, dims, offsets = flat(layers)
    X = rng.standard_normal((9, 30))
    i, j = np.nonzero(rng.random((5, 6)) < 0.7)
    targets = rng.standard_normal(len(i))
    kinds = [
        field.Measured(X, rng.standard_normal(9), 0.5, (5, 6)),
        field.MaskedEntries(i, j, targets, 0.7, (5, 6)),
        field.SparseEntries(i, j, targets, 0.7, (5, 6)),
    ]
    direction = rng.standard_normal(len(z))
    for data in kinds:
        point = field.Point(data, z, dims, offsets)
        step = 1e-5 * direction
        ahead = field.slope_of(data, z + step, dims, offsets)
        behind = field.slope_of(data, z - step, dims, offsets)
        assert np.allclose(point.product(direction), (ahead - behind) / 2e-5, atol=1e-5)
        # The slope is minus the derivative of the loss.
        losses = [field.Point(data, z + s * step, dims, offsets).loss for s in (1, -1)]
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(-point.F @ direction, rel=1e-6)
    one, two = (field.Point(data, z, dims, offsets) for data in kinds[1:])
    assert np.allclose(one.F, two.F) and one.loss == pytest.approx(two.loss)


@pytest.mark.parametrize("method", stabilised.METHODS)
def test_methods_for_long_steps_are_of_order_four_and_stable(method):
    A, b = stabilised.tableau(np.array(method.euler), np.array(method.last))
    assert np.abs(stabilised.order_conditions(A, b)).max() < 1e-12

    def after(F, y, h):
        return stabilised.stabilised(F, y, F(y), h, method)

    # The modes of a linear flow: none grows at any reach, and all but the slowest decay.
    rates = -np.linspace(0, method.reach, 2001)
    new, gap = after(lambda y: rates * y, np.ones(2001), 1.0)
    assert np.abs(new).max() <= 1 + 1e-12
    assert np.abs(new[rates < -0.3]).max() < 0.96
    slow = rates > -0.3
    assert np.abs(new - np.exp(rates))[slow].max() < np.abs(gap)[slow].max() < 1e-3
    # One that bends: y' = y², from 1 to 1/(1 − h).
    errors = [abs(after(lambda y: y**2, np.ones(1), h)[0][0] - 1 / (1 - h)) for h in (0.1, 0.05)]
    assert 2**4.5 < errors[0] / errors[1] < 2**5.7


def test_a_lone_column_grows_as_its_linear_flow_does():
    rng = np.random.default_rng(1)
    G = rng.standard_normal((4, 3))
    x, y = rng.standard_normal(4), rng.standard_normal(3)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    lone = Lone(G, (x[:, None], np.array([[-1.0]]), y[None]), -3.0)
    S = np.block([[np.zeros((4, 4)), G], [G.T, np.zeros((3, 3))]])  # the sign of c is −1
    values, basis = np.linalg.eigh(S)
    start = np.exp(-3.0) * np.concatenate([x, y])
    for tau in (0.0, 0.5, 2.0):
        exact = basis @ (np.exp(tau * values) * (basis.T @ start))
        (first, _, last), log_a = lone.at(tau)
        found = np.exp(log_a) * np.concatenate([first[:, 0], last[0]])
        assert np.allclose(found, exact, atol=1e-12)
    assert lone.tau_of_size(float(lone.log_size(1.5))) == pytest.approx(1.5)
    assert lone.tau_of_time(lone.log_time(1.2), 3.0) == pytest.approx(1.2)
    assert lone.log_time(0.0) == -np.inf


def test_a_lone_column_may_begin_with_a_trace_of_what_it_grows_along():
    """10^-12 of it along the top pair, and the rest along one that grows a tenth as fast."""
    x = np.array([1e-12, 1.0])[:, None]
    lone = Lone(-np.diag([1.0, 0.1]), (x, np.eye(1), x.T), 0.0)
    for tau in (5.0, 40.0):
        log_a = 0.5 * np.log(np.sum((x[:, 0] * np.exp(tau * np.array([1.0, 0.1]))) ** 2))
        assert float(lone.log_size(tau)) == pytest.approx(log_a)
        assert lone.tau_of_size(log_a) == pytest.approx(tau)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("log10_scale", [-7, -50])
def test_a_lone_column_that_is_not_balanced_grows_in_its_own_time(monkeypatch, log10_scale, large):
    """On the plateau of one entry m: da/dt = m b c, with a² − b² and a² − c² conserved."""
    (in_large_mode if large else in_exact_mode)(monkeypatch)
    a, b, c, m = 1.5, 1.0, 0.7, 2.0
    problem = MatrixCompletion([[m]], [[True]], loss="half")
    run = gradient_flow(problem, ([[a]], [[b]], [[c]]), log10_scale=log10_scale, rtol=MEDIUM)

    def slowness(z):
        return 1 / (m * np.sqrt(z**2 - a**2 + b**2) * np.sqrt(z**2 - a**2 + c**2))

    T = quad(slowness, a, np.inf)[0]
    assert run.converged
    # The middle of the step comes some ten units of time later.
    assert run.phases[1].log10_arrival + log10_scale == pytest.approx(np.log10(T), abs=1e-5)


def test_a_column_that_shrinks_at_first_escapes_when_it_should(monkeypatch):
    """It is balanced, and most of it lies along what decays."""
    problem = MatrixCompletion(np.diag([2.0, 1.0]), np.ones((2, 2), dtype=bool), loss="half")
    x, y = np.array([[-1.0], [0.3]]), np.array([[1.0, 0.2]])
    size = np.linalg.norm(x)
    start = (x, np.array([[size]]), y * size / np.linalg.norm(y))
    options = {"log10_scale": -9, "loss_tol": 0.3}  # what a column can't learn is a fifth
    exact, run = both(monkeypatch, problem, start, MEDIUM, **options)
    assert exact.converged and run.converged
    assert run.phases[1].log10_arrival == pytest.approx(exact.phases[1].log10_arrival, abs=1e-4)


def test_layers_that_are_too_narrow_come_to_rest(monkeypatch):
    in_large_mode(monkeypatch)
    problem = MatrixCompletion(np.diag([2.0, 1.0]), np.ones((2, 2), dtype=bool), loss="half")
    narrow = small_init((2, 2), depth=3, width=1, rng=0)
    run = gradient_flow(problem, narrow, log10_scale=-3, rtol=MEDIUM)
    assert run.reason == trajectory.STUCK and run.loss[-1] == pytest.approx(0.5)
    assert np.abs(run.W - np.diag([2.0, 0.0])).max() < 1e-6
    path = run.readings.run.path
    for moment in path.moments:
        norm = np.linalg.norm(W_of(path.data, moment.state))
        assert size_of(path.data, moment.state) == pytest.approx(norm, rel=1e-12)


def test_layers_that_are_zero_where_data_are_stay(monkeypatch):
    """Felt and quiet columns alike: the flow has nothing to multiply."""
    in_large_mode(monkeypatch)
    problem = MatrixCompletion.from_text("1 ?; ? ?")
    first = np.array([[0.0, 0.0], [1.0, 2.0]])
    start = (first, np.diag([1.0, 1e-6]), first.T)
    run = gradient_flow(problem, start, rtol=MEDIUM)
    assert run.reason == trajectory.STUCK and run.loss.tolist() == [1.0]
    for factor, before in zip(run.factors, start, strict=True):
        assert np.allclose(factor, before, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("text", "log10_scale"), [("4 ?; ? 1", -5), ("4 ?; ? 3", -30)])
def test_components_that_are_not_lost_are_joined_as_by_the_exact_method(
    monkeypatch, text, log10_scale
):
    """√(s t) between "s" and "t" where they share a hidden column, with the sign of the start."""
    problem = MatrixCompletion.from_text(text, loss="half")
    for seed in range(2):
        start = small_init((2, 2), depth=3, rng=seed)
        options = {"log10_scale": log10_scale, "loss_tol": 1e-8}
        exact, run = both(monkeypatch, problem, start, MEDIUM, **options)
        assert exact.converged and run.converged
        assert np.abs(run.W - exact.W).max() < 10 * MEDIUM
        assert run.W[0, 1] ** 2 == pytest.approx(run.W[0, 0] * run.W[1, 1], rel=0.05)


def test_a_loss_that_a_moment_has_is_met_there(monkeypatch):
    in_large_mode(monkeypatch)
    problem, rng = problem_of(3)
    run = gradient_flow(
        problem, small_init((6, 6), depth=3, rng=rng), log10_scale=-1, rtol=MEDIUM, loss_tol=1e-4
    )
    path = run.readings.run.path
    for k, (before, after) in enumerate(pairwise(path.moments[:-1])):
        length = before.piece.length
        assert path.crossing(k, before.loss) <= 1e-9 * length
        assert path.crossing(k, after.loss) >= (1 - 1e-9) * length
        inside = path.crossing(k, (before.loss + after.loss) / 2)
        loss = path.loss(before.piece.at(inside))
        assert loss == pytest.approx((before.loss + after.loss) / 2, rel=1e-9)


def test_a_plateau_s_time_is_the_inverse_of_its_clock(monkeypatch):
    in_large_mode(monkeypatch)
    problem, rng = problem_of(3)
    run = gradient_flow(
        problem, small_init((6, 6), depth=3, rng=rng), log10_scale=-30, rtol=MEDIUM, max_steps=3
    )
    piece = run.readings.run.moments[0].piece
    for share in (0.2, 0.7):
        local = share * piece.length
        assert piece.local_of(np.exp(piece.log_dt(local))) == pytest.approx(local, rel=1e-9)
    assert piece.local_of(2 * np.exp(piece.log_dt(piece.length))) == piece.length


def test_a_space_is_no_larger_than_the_vectors_in_it():
    """The rounding of a rate of 10^20 never looks like nothing left, beside others of one."""
    rng = np.random.default_rng(0)
    u, S = rng.standard_normal(6), rng.standard_normal((6, 6))
    u /= np.linalg.norm(u)
    b, h = u + 1e-10 * rng.standard_normal(6), 0.7
    space = orbit.Space(lambda v: -1e20 * (u @ v) * u - S @ (S.T @ v), b, lambda v: 1.0, 100)
    assert space.knows(h, 0.0) and space.complete and len(space.diagonal) <= 6
    # ∫ e^(sA) b ds to h: the fast part is gone at once, the others are small at the start.
    found = space.apply(lambda x: h * phi_functions(h * x)[0])
    assert np.linalg.norm(found) < 1e-9


def stiff_orbit():
    """Felt columns of 164 numbers, where some entries are observed, beside the data."""
    rng = np.random.default_rng(2)
    layers = tuple(rng.standard_normal(shape) for shape in ((40, 2), (2, 2), (2, 40)))
    z, dims, offsets = flat(layers)
    i, j = np.nonzero(rng.random((40, 40)) < 0.5)
    data = field.MaskedEntries(i, j, rng.standard_normal(len(i)), 0.5, (40, 40))
    frame = orbit.Frame(dims, offsets, ((np.arange(40), np.arange(40)),), 1.0)
    return orbit.Orbit(data, z, frame, orbit.Memory())


def test_a_step_whose_space_is_too_small_is_not_taken():
    """100 products are not enough for long steps; of short ones the end is what it should be."""
    here, tol = stiff_orbit(), 1e-4
    rho = here.radius()
    taken = orbit.Taken("exponential", 0.0, tol)
    nodes, error = here.step(1e9 / rho, taken)
    assert nodes == [] and error > tol
    nodes, error = here.step(0.3 / rho, taken)
    dims, offsets = here.frame.dims, here.frame.offsets
    exact = solve_ivp(
        lambda _, z: field.slope_of(here.data, z, dims, offsets),
        (0.0, 0.3 / rho),
        here.z,
        rtol=1e-10,
        atol=1e-12,
    ).y[:, -1]
    assert error <= tol and np.abs(nodes[-1] - exact).max() < tol


def test_a_step_that_leaves_double_precision_is_not_taken():
    """The longer it is the sooner: in its end, in its second stage, in its first."""
    one = np.ones((1, 1))
    z, dims, offsets = flat((one, one, one))
    zero = np.zeros(1, dtype=int)
    data = field.MaskedEntries(zero, zero, np.array([100.0]), 0.5, (1, 1))
    frame = orbit.Frame(dims, offsets, ((zero, zero),), 1.0)
    taken = orbit.Taken("exponential", 0.0, 1e-4)
    for h in 10.0 ** np.arange(-1, 3, 0.1):
        nodes, error = orbit.Orbit(data, z, frame, orbit.Memory()).step(h, taken)
        assert error == np.inf and all(len(node) == 3 for node in nodes)


def test_a_run_whose_steps_all_fail_says_so(monkeypatch):
    in_large_mode(monkeypatch)
    monkeypatch.setattr(orbit.Orbit, "_error", lambda self, gap, new: np.inf)
    problem, rng = problem_of(3)
    factors = small_init((6, 6), depth=3, rng=rng)
    run = gradient_flow(problem, factors, rtol=MEDIUM)
    assert run.reason == trajectory.STEP_TOO_SMALL and not run.converged and run.advice
    assert run.n_steps == 0 and np.allclose(run.W, product(factors))


def test_no_column_stands_out_beside_one_of_zeros():
    zeros = (np.zeros((3, 1)), np.zeros((1, 2)), np.ones((2, 3)))
    assert standing_out(zeros) == np.inf
    one = (np.ones((3, 2)) * [1.0, 1e-3], np.diag([1.0, 1e-3]), np.diag([1.0, 1e-3]) @ np.eye(2, 3))
    assert standing_out(one) == pytest.approx(1e-3)


def test_a_step_of_quiet_layers_that_leaves_double_precision_is_none():
    still = Still(-np.eye(2), (np.eye(2), np.eye(2), np.eye(2)))
    with np.errstate(over="ignore", invalid="ignore"):
        assert still.step(1e200)[1] == np.inf
    # With V_j = σ 1 and G = −1: dσ/ds = σ² and dτ/ds = |V_1| = √2 σ.
    y, error = still.step(0.1)
    assert error < 1e-9 and np.allclose(still.layers(y)[1], np.exp(0.1 / np.sqrt(2)) * np.eye(2))


def test_sensing_and_sparse_entries_are_followed_as_entries_are(monkeypatch):
    in_large_mode(monkeypatch)
    problem, rng = problem_of(1)
    factors = small_init((6, 6), depth=3, rng=rng)
    i, j = np.nonzero(problem.mask)
    measurements = np.zeros((len(i), 6, 6))
    measurements[np.arange(len(i)), i, j] = 1.0
    sensing = MatrixSensing(measurements, problem.values[i, j])
    options = {"log10_scale": -30, "rtol": MEDIUM, "loss_tol": 1e-8}
    dense = gradient_flow(problem, factors, **options)
    measured = gradient_flow(sensing, factors, **options)
    monkeypatch.setattr(field, "DENSE_ENTRIES", 0)
    sparse = gradient_flow(problem, factors, **options)
    for run in (measured, sparse):
        assert run.converged and np.abs(run.W - dense.W).max() < 10 * MEDIUM


def test_time_ends_where_it_is_asked_to(monkeypatch):
    in_large_mode(monkeypatch)
    problem, rng = problem_of(3)
    factors = small_init((6, 6), depth=3, rng=rng)
    options = {"log10_scale": -7, "rtol": MEDIUM, "loss_tol": 1e-8}
    whole = gradient_flow(problem, factors, **options)
    for t_max in (1e3, 10 ** whole.phases[1].log10_arrival, 0.999 * whole.t[-1]):
        run = gradient_flow(problem, factors, t_max=t_max, **options)
        assert run.reason == trajectory.TIME_LIMIT
        assert run.t[-1] == pytest.approx(t_max, rel=1e-9)
        assert np.abs(run.W - whole.W_at(t_max)).max() < 0.01


def test_dense_output_agrees_with_the_steps(monkeypatch):
    in_large_mode(monkeypatch)
    problem, rng = problem_of(3)
    run = gradient_flow(
        problem, small_init((6, 6), depth=3, rng=rng), log10_scale=-4, rtol=MEDIUM, loss_tol=1e-8
    )
    for t in run.t[1:-1:9]:
        gap = np.linalg.norm(run.W_at(t) - run.W_at(t * (1 - 1e-12)))
        assert gap <= 1e-4 * np.linalg.norm(run.W)


def test_parts_that_would_be_rounding_are_refused_in_words(monkeypatch):
    in_large_mode(monkeypatch)
    problem = examples.disconnected_3x3
    run = gradient_flow(problem, small_init((3, 3), depth=3, rng=0), log10_scale=-100)
    assert run.converged or (run.reason == trajectory.TOO_LARGE and run.advice)
    near = gradient_flow(problem, small_init((3, 3), depth=3, rng=0), log10_scale=-2)
    in_exact_mode(monkeypatch)
    exact = gradient_flow(problem, small_init((3, 3), depth=3, rng=0), log10_scale=-2)
    assert near.converged and np.abs(near.W - exact.W).max() < 1e-4


@pytest.mark.parametrize("log10_scale", [-2, -50])
def test_rows_and_columns_that_nobody_measures_stay_products_of_factors(monkeypatch, log10_scale):
    rng = np.random.default_rng(0)
    mask = np.ones((5, 5), dtype=bool)
    mask[2] = mask[:, 4] = False
    problem = MatrixCompletion(rng.standard_normal((5, 1)) @ rng.standard_normal((1, 5)), mask)
    factors = small_init(problem, depth=3, rng=rng)
    options = {"log10_scale": log10_scale, "loss_tol": 1e-8}
    exact, run = both(monkeypatch, problem, factors, MEDIUM, **options)
    assert exact.converged and run.converged
    size = np.nanmax(np.abs(problem.values))
    assert np.abs(run.W - exact.W).max() < 10 * MEDIUM * size
    assert np.abs(run.W - product(run.factors)).max() < 1e-9 * size
    # The first factor's row and the last one's column never move.
    assert np.array_equal(run.factors[0][2], np.exp(log10_scale * np.log(10.0)) * factors[0][2])
    assert run.singular_values.shape == (len(run.t), 5)
    assert np.allclose(run.singular_values[-1], np.linalg.svd(run.W, compute_uv=False))
    if log10_scale == -2:  # what is not measured is of the size of the start, and seen in W
        assert np.abs(run.W[2]).max() > 1e-4 * size


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_one_layer_may_be_zero_at_the_start(monkeypatch, zero):
    problem, rng = problem_of(1, n=4)
    factors = [rng.standard_normal((4, 4)) for _ in range(3)]
    factors[zero][:] = 0.0
    exact, run = both(monkeypatch, problem, factors, MEDIUM, log10_scale=-6, loss_tol=1e-8)
    assert exact.converged and run.converged
    assert np.abs(exact.W - run.W).max() < MEDIUM * np.nanmax(np.abs(problem.values))
    for one, two in zip(exact.phases[1:], run.phases[1:], strict=True):
        assert one.log10_arrival == pytest.approx(two.log10_arrival, abs=1e-4)


def test_where_zero_fits_the_loss_falls_from_that_of_the_start(monkeypatch):
    problem = MatrixCompletion(np.zeros((3, 3)), np.eye(3, dtype=bool))
    factors = small_init(problem, depth=3, rng=2)
    exact, run = both(monkeypatch, problem, factors, MEDIUM, log10_scale=0, loss_tol=1e-3)
    assert exact.converged and run.converged
    assert run.loss[0] == pytest.approx(problem.loss_value(product(factors)))
    for one in (exact, run):  # no further than asked, and not before
        assert one.loss[-1] <= 1e-3 * one.loss[0] < one.loss[-2]
    assert run.t[-1] == pytest.approx(exact.t[-1], rel=1e-2)


def test_directions_of_escape_are_found_in_large_gradients_too(monkeypatch):
    in_large_mode(monkeypatch)
    problem, rng = problem_of(1)
    factors = small_init((6, 6), depth=3, rng=rng)
    run = gradient_flow(problem, factors, log10_scale=-12, rtol=MEDIUM, loss_tol=1e-8)
    dense = [phase.direction for phase in run.phases]
    monkeypatch.setattr(large_run, "DENSE_ENTRIES", 0)
    again = gradient_flow(problem, factors, log10_scale=-12, rtol=MEDIUM, loss_tol=1e-8)
    assert len(dense) > 2 and dense[-1] is None and again.phases[-1].direction is None
    for one, phase in zip(dense[:-1], again.phases[:-1], strict=True):
        for a, b in zip(one, phase.direction, strict=True):
            assert a.shape == b.shape and np.abs(a - b).max() < 1e-9
        assert max(one[0], key=abs) > 0  # the sign that both choose


def test_symmetries_are_looked_for_up_to_a_size(monkeypatch):
    in_large_mode(monkeypatch)
    looked = []

    def seen(*words, **options):
        looked.append(words)
        return kept(*words, **options)

    kept = large_run.Kept
    monkeypatch.setattr(large_run, "Kept", seen)
    problem, rng = problem_of(1)
    factors = small_init((6, 6), depth=3, width=7, rng=rng)
    for most, times in ((6, 0), (7, 1)):
        looked.clear()
        monkeypatch.setattr(large_run, "MOST_ROWS", most)
        run = gradient_flow(problem, factors, log10_scale=-4, rtol=MEDIUM, loss_tol=1e-4)
        assert run.converged and len(looked) == times


def test_a_step_whose_squares_leave_double_precision_is_none():
    """Its columns would all count as rounding beside columns of infinite size."""
    rng = np.random.default_rng(0)
    layers = tuple(rng.standard_normal(shape) for shape in ((4, 2), (2, 2), (2, 3)))
    z, dims, offsets = flat(layers)
    i, j = np.nonzero(np.ones((4, 3)))
    data = field.MaskedEntries(i, j, rng.standard_normal(12), 0.5, (4, 3))
    frame = orbit.Frame(dims, offsets, ((np.arange(4), np.arange(3)),), 1.0)
    here = orbit.Orbit(data, z, frame, orbit.Memory())
    nothing = np.zeros_like(z)
    assert here._error(nothing, z) == 0.0
    for far in (1e3 * z, 1e200 * z, np.inf * np.sign(z)):
        with np.errstate(over="ignore", invalid="ignore"):
            assert here._error(nothing, far) == np.inf


def test_quiet_layers_are_carried_in_parallel():
    """A vector along the first space comes to lie along the last one, one at right angles stays."""
    angle = 0.3
    first = np.array([[1.0], [0.0], [0.0]])
    last = np.array([[np.cos(angle)], [np.sin(angle)], [0.0]])
    layer = np.eye(3)
    large_state._turn(layer, first, last)
    assert np.allclose(layer[:, 0], last[:, 0]) and np.allclose(layer[:, 2], [0, 0, 1])
    assert np.allclose(layer @ layer.T, np.eye(3))


def hundred(depth, log10_scale=None):
    """100×100 of rank 5, 2,000 entries, and width 100; without a scale ‖W(0)‖_F = 1e-3."""
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((100, 5)), rng.standard_normal((100, 5))
    truth = U @ V.T
    truth /= np.sqrt(np.mean(truth**2))
    mask = np.zeros(10_000, dtype=bool)
    mask[rng.choice(10_000, 2000, replace=False)] = True
    problem = MatrixCompletion(truth, mask.reshape(100, 100), loss="half")
    factors = small_init((100, 100), depth=depth, rng=1)
    if log10_scale is None:
        log10_scale = np.log10(1e-3 / np.linalg.norm(product(factors))) / depth
    run = gradient_flow(problem, factors, log10_scale=log10_scale, rtol=1e-4, loss_tol=1e-8)
    return run, truth


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "log10_scale", "steps", "gradients"),
    [(3, None, 180, 2200), (4, None, 370, 4300), (3, -100, 890, 15_000), (4, -100, 890, 17_000)],
)
def test_a_hundred_by_hundred_costs_so_much(depth, log10_scale, steps, gradients):
    """Descent from 1e-3 at its largest stable step takes some 1,000 iterations, and 2,400.

    From 10^-100 most gradients are those of up to five felt columns, a fifth as dear.
    """
    run, truth = hundred(depth, log10_scale)
    assert run.converged
    assert np.linalg.norm(run.W - truth) < 1e-3 * np.linalg.norm(truth)
    assert run.n_steps <= steps
    assert run.n_gradients <= gradients
    assert unflat(*flat(run.factors))[0].shape == (100, 100)
