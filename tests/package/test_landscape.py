"""The landscape: the Hessian against automatic differentiation, and every kind of critical point.

Critical points are made to order: choose the factors, then residuals with G Bᵀ = 0 and Aᵀ G = 0.
"""

import re
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mfbook import (
    critical_point_kind,
    escape_direction,
    examples,
    gradient_flow,
    hessian,
    relative_gradient,
    small_init,
)
from mfbook.problems import MatrixCompletion, MatrixSensing
from mfbook.rivals.glrl import glrl
from mfbook.theory import landscape
from mfbook.theory.landscape import fits
from tests.package.own import Own

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))


def random_problem(rng, shape, *, sensing=False, loss="half"):
    if sensing:
        k = int(rng.integers(1, 8))
        return MatrixSensing(rng.normal(size=(k, *shape)), rng.normal(size=k), loss=loss)
    mask = rng.random(shape) < 0.6
    mask.flat[rng.integers(mask.size)] = True
    return MatrixCompletion(rng.normal(size=shape), mask, loss=loss)


def of_rank(rng, shape, rank):
    return rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))


def made_critical(rng, shape, h, ranks, *, sensing=False):
    """A problem for which random factors of these ranks are critical, and ‖G‖."""
    m, n = shape
    A, B = of_rank(rng, (m, h), ranks[0]), of_rank(rng, (h, n), ranks[1])
    if sensing:
        X = rng.normal(size=(m * n + 1, m, n))
    else:
        mask = rng.random(shape) < 0.8
        mask.flat[rng.integers(mask.size)] = True
        X = np.eye(m * n).reshape(-1, m, n)[mask.ravel()]
    conditions = [(X @ B.T).reshape(len(X), -1), (A.T @ X).reshape(len(X), -1)]
    u, s, _ = np.linalg.svd(np.concatenate(conditions, axis=1))
    kernel = u[:, np.count_nonzero(s > 1e-10 * max(s.max(), 1)) :]
    r = kernel @ rng.normal(size=kernel.shape[1])
    G = np.einsum("k,kij->ij", r, X)
    if sensing:
        return MatrixSensing(X, np.einsum("kij,ij->k", X, A @ B) - r), (A, B), np.linalg.norm(G)
    return MatrixCompletion(A @ B - G, mask, loss="half"), (A, B), np.linalg.norm(G)


def by_autodiff(problem, factors):
    A, B = factors
    completion = isinstance(problem, MatrixCompletion)
    y = torch.tensor(np.nan_to_num(problem.values) if completion else problem.targets)
    X = torch.tensor(problem.mask if completion else problem.measurements)

    def loss(theta):
        W = theta[: A.size].reshape(A.shape) @ theta[A.size :].reshape(B.shape)
        r = (W - y) * X if completion else torch.einsum("kij,ij->k", X, W) - y
        return (r**2).sum() * (0.5 if problem.loss == "half" else 1 / problem.n_observed)

    theta = torch.tensor(np.concatenate([A.ravel(), B.ravel()]))
    return torch.autograd.functional.hessian(loss, theta).numpy()


def far(H, exact):
    return np.abs(H - exact).max() / np.abs(exact).max()


@pytest.mark.parametrize("sensing", [False, True])
@pytest.mark.parametrize("loss", ["mean", "half"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 2), (3, 3)])
def test_hessian_is_that_of_automatic_differentiation(shape, loss, sensing):
    rng = np.random.default_rng(7)
    for h in (1, 2, 5):
        problem = random_problem(rng, shape, sensing=sensing, loss=loss)
        factors = small_init(shape, width=h, rng=rng)
        assert far(hessian(problem, factors, tol=np.inf), by_autodiff(problem, factors)) < 1e-13


@pytest.mark.parametrize("sensing", [False, True])
def test_hessian_at_critical_points(sensing):
    rng = np.random.default_rng(8)
    for ranks in ((0, 0), (1, 0), (0, 2), (1, 1), (2, 1), (2, 3)):
        problem, factors, _ = made_critical(rng, (3, 4), 3, ranks, sensing=sensing)
        H, exact = hessian(problem, factors), by_autodiff(problem, factors)
        assert np.abs(H - exact).max() <= 1e-13 * max(np.abs(exact).max(), 1e-3)


def test_a_wrong_hessian_is_seen():
    """What the comparison above would make of the usual slips."""
    rng = np.random.default_rng(9)
    problem = random_problem(rng, (3, 4))
    A, B = factors = small_init((3, 4), width=2, rng=rng)
    exact = by_autodiff(problem, factors)
    H = hessian(problem, factors, tol=np.inf)
    second = np.zeros_like(H)
    G = problem.gradient(A @ B)
    second[: A.size, A.size :] = np.einsum("ij,lk->ilkj", G, np.eye(2)).reshape(A.size, -1)
    second += second.T
    order = np.concatenate([np.arange(A.size).reshape(A.shape).T.ravel(), A.size + np.arange(8)])
    assert far(H, exact) < 1e-13
    for wrong in (H - 2 * second, H - second, 2 * H, H[np.ix_(order, order)]):
        assert far(wrong, exact) > 0.01


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(seeds, shapes, st.integers(0, 2), st.booleans(), st.data())
def test_wide_factors_have_saddles_and_global_minima_only(seed, shape, extra, sensing, data):
    h = min(shape) + extra
    ranks = [data.draw(st.integers(0, min(side, h))) for side in shape]
    problem, factors, G = made_critical(
        np.random.default_rng(seed), shape, h, ranks, sensing=sensing
    )
    # A regular but ill-conditioned factor leaves a gradient of 1e-12: neither none, nor one to see.
    assume(not 1e-14 < G <= 1e-6)
    assert relative_gradient(problem, factors) < 1e-9
    kind = critical_point_kind(problem, factors)
    assert kind == ("strict saddle" if G > 1e-6 else "global minimum")
    # A regular factor on the shorter side leaves no gradient.
    if ranks[0] == shape[0] or ranks[1] == shape[1]:
        assert kind == "global minimum"


@settings(max_examples=60, deadline=None)
@given(seeds, shapes, st.integers(1, 3), st.booleans())
def test_slope_lies_between_the_bounds(seed, shape, h, sensing):
    """−σ₁ ≤ λ_min ≤ −2σ₁²/(q + √(q² + 4σ₁²)) if A v = 0, at any width."""
    rng = np.random.default_rng(seed)
    ranks = min(h - 1, shape[0]), int(rng.integers(0, min(h, shape[1]) + 1))
    problem, (A, B), G = made_critical(rng, shape, h, ranks, sensing=sensing)
    if G < 1e-6:
        return
    left, s, _ = np.linalg.svd(problem.gradient(A @ B))
    X = np.outer(left[:, 0], np.linalg.svd(A)[2][-1] @ B)
    q = np.vdot(problem.gradient(X) - problem.gradient(0 * X), X)
    lowest = np.linalg.eigvalsh(hessian(problem, (A, B)))[0]
    scale = s[0] + q
    assert -s[0] - 1e-9 * scale <= lowest
    assert lowest <= -2 * s[0] ** 2 / (q + np.hypot(q, 2 * s[0])) + 1e-9 * scale
    assert critical_point_kind(problem, (A, B)) == "strict saddle"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_flows_rest_at_the_steepest_saddles(seed):
    rng = np.random.default_rng(seed)
    shape = ((3, 3), (2, 4), (4, 3))[seed % 3]
    problem = random_problem(rng, shape, sensing=seed == 5, loss="mean")
    run = gradient_flow(problem, small_init(shape, rng=rng), log10_scale=-1000, loss_tol=1e-12)
    *saddles, end = run.phases
    assert saddles[0].rank == 0 and critical_point_kind(problem, end.factors) == "global minimum"
    for phase in saddles:
        assert critical_point_kind(problem, phase.factors) == "strict saddle"
        sigma = np.linalg.norm(problem.gradient(phase.W), 2)
        lowest = np.linalg.eigvalsh(hessian(problem, phase.factors))[0]
        # Where the flow passes at a distance, what it has not reached tilts the slope.
        assert abs(lowest / sigma + 1) < 1e-3
        assert escape_direction(problem, phase.factors).rate == pytest.approx(sigma)


@pytest.mark.parametrize("phi", [0.0, 1.0, 3.0, 5.0])
def test_unbalanced_factors_flatten_a_saddle_as_the_closed_form_says(phi):
    problem = MatrixCompletion(np.diag([3.0, 2, 1]), np.ones((3, 3), bool), loss="half")
    A = np.zeros((3, 2))
    A[0] = np.sqrt(3) * np.array([np.cosh(phi), np.sinh(phi)])
    lowest = np.linalg.eigvalsh(hessian(problem, (A, (A * [1, -1]).T)))[0]
    C = np.cosh(2 * phi)
    expected = -20 / (3 * C + np.sqrt(9 * C**2 + 40))
    # Rounding of entries of size C.
    assert lowest == pytest.approx(expected, abs=1e-14 * C)


PIT = MatrixCompletion.from_text("? 1 3; 6 ? -2; 2 2 ?", loss="half")
IN_PIT = np.array([[0.0], [3], [1]]), np.array([[2, 2, -2 / 3]])


def test_narrow_factors_have_a_pit_and_one_more_direction_opens_it():
    assert critical_point_kind(PIT, IN_PIT) == "second-order critical"
    assert PIT.loss_value(IN_PIT[0] @ IN_PIT[1]) == pytest.approx(5)
    other = np.array([[1], [-2 / 3], [-2 / 9]]) @ [[-9, 1, 3]]
    assert PIT.loss_value(other) == pytest.approx(200 / 81)
    wider = np.pad(IN_PIT[0], ((0, 0), (0, 1))), np.pad(IN_PIT[1], ((0, 1), (0, 0)))
    assert critical_point_kind(PIT, wider) == "strict saddle"
    assert np.linalg.eigvalsh(hessian(PIT, wider))[0] == pytest.approx(-np.sqrt(10))


def test_the_pit_in_fifty_digits():
    """One eigenvalue is zero, the change of scale; the others are clearly positive."""
    with mpmath.workdps(50):
        a, b = [mpmath.mpf(0), 3, 1], [2, 2, -mpmath.mpf(2) / 3]
        H = mpmath.zeros(6)
        for i, j in np.argwhere(PIT.mask):
            r = a[i] * b[j] - int(PIT.values[i, j])
            H[i, i] += b[j] ** 2
            H[3 + j, 3 + j] += a[i] ** 2
            H[i, 3 + j] = H[3 + j, i] = a[i] * b[j] + r
        exact = sorted(mpmath.eigsy(H, eigvals_only=True))
        assert abs(exact[0]) < mpmath.mpf(10) ** -45 and exact[1] > 0.2
        found = np.linalg.eigvalsh(hessian(PIT, IN_PIT))
        assert np.abs(found - np.array(exact, dtype=float)).max() < 1e-13


def test_a_gradient_that_is_left_does_not_turn_a_pit_into_a_saddle():
    rng = np.random.default_rng(0)
    for _ in range(20):
        A, B = (factor + 1e-6 * rng.normal(size=factor.shape) for factor in IN_PIT)
        assert critical_point_kind(PIT, (A, B)) == "second-order critical"


def test_nor_does_it_hide_a_saddle_of_narrow_factors():
    rng = np.random.default_rng(0)
    problem = MatrixCompletion(np.diag([3.0, 2, 1]), np.ones((3, 3), bool))
    second = np.array([[0.0], [np.sqrt(2)], [0]])
    for _ in range(20):
        A = second + 1e-6 * rng.normal(size=(3, 1))
        assert critical_point_kind(problem, (A, A.T)) == "strict saddle"


def test_kinds_by_hand():
    zero = np.zeros((2, 2)), np.zeros((2, 2))
    assert critical_point_kind(examples.M4, zero) == "strict saddle"
    assert critical_point_kind(examples.M4, ([[1, 0], [3, 0]], [[1, 2], [0, 0]])) == (
        "global minimum"
    )
    assert critical_point_kind(examples.M4, (np.eye(2), np.eye(2))) == "not critical"
    # A = 0, B in the kernel of the residual.
    row = MatrixCompletion.from_text("1 0", loss="half")
    for tau in (0, 1, 10):
        point = [[0]], [[0, tau]]
        assert critical_point_kind(row, point) == "strict saddle"
        expected = -2 / (tau**2 + np.sqrt(tau**4 + 4))
        assert np.linalg.eigvalsh(hessian(row, point))[0] == pytest.approx(expected, rel=1e-10)


def test_contradictory_measurements_have_a_global_minimum_of_positive_loss():
    X = np.array([np.eye(2), np.eye(2)])
    problem = MatrixSensing(X, [1.0, 3.0])
    point = np.diag([1.0, 0]), np.diag([2.0, 0])
    assert problem.loss_value(point[0] @ point[1]) == 1
    assert critical_point_kind(problem, point) == "global minimum"
    # Here ∇f vanishes at W = 0 itself, and is no unit to measure by.
    balanced = MatrixSensing(X, [1.0, -1.0])
    assert fits(balanced, np.zeros((2, 2)))
    assert critical_point_kind(balanced, (np.eye(2), np.zeros((2, 2)))) == "global minimum"
    X = np.random.default_rng(0).normal(size=(5, 2, 2))
    r = np.linalg.svd(X.reshape(5, -1).T)[2][-1]
    rounded = MatrixSensing(X, r)
    point = np.ones((2, 2)), np.zeros((2, 2))
    assert relative_gradient(rounded, point) < 1e-9
    assert critical_point_kind(rounded, point) == "global minimum"


@settings(max_examples=30, deadline=None)
@given(seeds, shapes, st.floats(-6, 6))
def test_relative_gradient_has_no_unit(seed, shape, exponent):
    """Data times c and factors times √c leave it as it is."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, shape)
    A, B = small_init(shape, rng=rng)
    c = 10.0**exponent
    scaled = MatrixCompletion(c * problem.values, problem.mask, loss="half")
    found = relative_gradient(scaled, (np.sqrt(c) * A, np.sqrt(c) * B))
    assert found == pytest.approx(relative_gradient(problem, (A, B)), rel=1e-9)


def test_what_is_not_critical_is_refused_with_the_amount():
    factors = np.eye(2), np.eye(2)
    amount = relative_gradient(examples.M4, factors)
    for function in (hessian, escape_direction):
        with pytest.raises(ValueError, match="not critical") as error:
            function(examples.M4, factors)
        assert re.search(re.escape(f"{amount:.2g}"), str(error.value))
    assert hessian(examples.M4, factors, tol=np.inf).shape == (8, 8)
    assert hessian(examples.M4, factors, tol=2 * amount).shape == (8, 8)


def test_a_global_minimum_has_no_way_out():
    with pytest.raises(ValueError, match="global minimum"):
        escape_direction(examples.M4, ([[1, 0], [3, 0]], [[1, 2], [0, 0]]))


@pytest.mark.parametrize(
    ("factors", "kind", "message"),
    [
        (np.eye(2), TypeError, "tuple in product order"),
        ((np.eye(2), np.eye(3)), ValueError, "problem's shape"),
        ((np.ones((3, 2)), np.eye(2)), ValueError, "problem's shape"),
        ((np.ones((2, 0)), np.ones((0, 2))), ValueError, "at least 1"),
        ((np.ones((4, 2, 2)), np.eye(2)), ValueError, "two factors|one run"),
        ((1j * np.eye(2), np.eye(2)), TypeError, "complex"),
        ((np.nan * np.eye(2), np.eye(2)), ValueError, "finite"),
        ((np.ones(2), np.ones(2)), ValueError, "must be matrices"),
    ],
)
@pytest.mark.parametrize(
    "function", [hessian, escape_direction, critical_point_kind, relative_gradient]
)
def test_bad_factors_are_refused(function, factors, kind, message):
    with pytest.raises(kind, match=message):
        function(examples.M4, factors)


@pytest.mark.parametrize("depth", [1, 3])
def test_an_escape_at_a_rate_takes_two_factors(depth):
    with pytest.raises(ValueError, match="at a rate is that of two factors"):
        escape_direction(examples.M4, (np.eye(2),) * depth)


@given(seed=seeds, depth=st.integers(1, 4), sensing=st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_hessian_of_any_number_of_factors_is_that_of_automatic_differentiation(
    seed, depth, sensing
):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, size=depth + 1)
    problem = random_problem(rng, (int(sizes[0]), int(sizes[-1])), sensing=sensing)
    factors = [rng.normal(size=shape) for shape in pairwise(sizes)]
    X = torch.tensor(np.eye(sizes[0] * sizes[-1]).reshape(-1, sizes[0], sizes[-1]))
    seen = torch.tensor(problem.measure(X.numpy()))
    cuts = np.cumsum([factor.size for factor in factors])[:-1]

    def loss(theta):
        W = torch.eye(int(sizes[0]), dtype=torch.float64)
        for part, factor in zip(torch.tensor_split(theta, cuts.tolist()), factors, strict=True):
            W = W @ part.reshape(factor.shape)
        return 0.5 * ((W.ravel() @ seen - torch.tensor(problem.targets)) ** 2).sum()

    theta = torch.tensor(np.concatenate([factor.ravel() for factor in factors]))
    expected = torch.autograd.functional.hessian(loss, theta).numpy()
    found = hessian(problem, factors, tol=np.inf)
    assert np.abs(found - expected).max() <= 1e-10 * max(np.abs(expected).max(), 1.0)


def test_three_factors_have_saddles_that_are_not_strict():
    """Zero is one. The best fit of rank one is a saddle too, and its way down is not seen by ∇²ℓ:

    with hidden columns that are zero in all layers it is of third order.
    """
    problem = MatrixCompletion(np.diag([2.0, 1.0]), np.ones((2, 2), bool), loss="half")
    zero = np.zeros((2, 2))
    assert critical_point_kind(problem, (zero,) * 3) == "second-order critical"
    root = np.diag([2 ** (1 / 3), 0])
    assert critical_point_kind(problem, (root,) * 3) == "second-order critical"
    half = np.diag([2**0.5, 0])
    assert critical_point_kind(problem, (half, half)) == "strict saddle"
    one = np.diag([1.0, 0.0])
    # A layer of full rank between two that are not makes the way down one of second order.
    assert critical_point_kind(problem, (half, np.eye(2), half)) == "strict saddle"
    assert critical_point_kind(problem, (one, one, one)) == "not critical"
    fitted = np.diag([2 ** (1 / 3), 1.0])
    assert critical_point_kind(problem, (fitted,) * 3) == "global minimum"
    beside = tuple(fitted + 1e-5 * k for k in range(3))
    assert critical_point_kind(problem, beside) == "global minimum"


def test_what_is_left_of_a_gradient_never_hides_a_saddle_of_wide_factors():
    """There the theorem leaves no pit to mistake it for."""
    problem = MatrixCompletion(np.diag([1.0, 1e-4]), np.ones((2, 2), bool), loss="half")
    point = np.diag([1 + 3e-4, 0]), np.diag([1.0, 0])
    assert 1e-4 < relative_gradient(problem, point) < 1e-3
    assert critical_point_kind(problem, point) == "strict saddle"


def test_a_problem_of_ones_own_is_judged_and_learned_as_any_other():
    rng = np.random.default_rng(0)
    inner = MatrixSensing(rng.standard_normal((4, 3, 3)), rng.standard_normal(4))
    own, zero = Own(inner), (np.zeros((3, 1)), np.zeros((1, 3)))
    assert critical_point_kind(own, zero) == "strict saddle"
    assert escape_direction(own, zero).rate == pytest.approx(escape_direction(inner, zero).rate)
    one, two = glrl(own), glrl(inner)
    assert one.ranks == two.ranks
    assert np.abs(one.W - two.W).max() < 1e-6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "A, B",
    [
        ([[1e160], [1]], [[1e160, 1]]),
        ([[1e150], [1]], [[1e150, 1]]),
        ([[1e200], [0]], [[0, 1e-200]]),
    ],
)
def test_factors_whose_squares_are_no_numbers_are_refused_in_words(A, B):
    problem = MatrixCompletion.from_text("1 2; 3 ?")
    for ask in (relative_gradient, critical_point_kind, escape_direction):
        with pytest.raises(ValueError, match="double precision"):
            ask(problem, (A, B))
    with pytest.raises(ValueError, match="double precision"):
        hessian(problem, (A, B), tol=np.inf)


@pytest.mark.filterwarnings("error")
def test_large_factors_have_a_kind_as_long_as_their_squares_are_numbers():
    problem = MatrixCompletion.from_text("1 2; 3 ?")
    assert critical_point_kind(problem, ([[1e70], [1]], [[1e70, 1]])) == "not critical"
    # The product fits, however unlike the factors are.
    fit = [[1e60], [3e60]], [[1e-60, 2e-60]]
    assert critical_point_kind(problem, fit) == "global minimum"


def test_a_fit_counts_as_beside_within_the_reach_and_no_further(monkeypatch):
    """Two entries of A are off; the steps to a fit are both that share of the reach."""
    fit, W = np.diag([3.0, 2.0]), np.diag([9.0, 4.0])
    problem = MatrixCompletion(W, np.ones((2, 2), dtype=bool))
    tol, reach = 1e-4, 1e-4 * np.sqrt(landscape._size(problem, W))
    for share, beside in ((0.6, True), (0.9, False), (1.1, False)):
        off = share * reach * np.sqrt(2)  # half of the step is B's
        arrays = (fit + off * np.eye(2), fit)
        assert landscape._fits_beside(problem, arrays, tol) == beside
    monkeypatch.setattr(landscape, "STEPS", 1)
    arrays = (fit + 0.1 * reach * np.eye(2), fit)
    assert not landscape._fits_beside(problem, arrays, tol)  # it looks before each step alone
