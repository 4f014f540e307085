"""Minimum nuclear norm: closed forms as oracles, and a certificate that can fail."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mfbook.problems import MatrixCompletion, MatrixSensing
from mfbook.problems.populations import random_low_rank, random_mask
from mfbook.rivals.nuclear import dual_bound, min_nuclear_norm
from mfbook.rivals.nuclear.data import affine_set
from mfbook.rivals.nuclear.minimum import ENOUGH, _proposals
from tests.package.own import Own


def nuclear(W):
    return np.linalg.svd(W, compute_uv=False).sum()


def random_problem(seed, largest=5):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, largest + 1, 2)
    values = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3)
    mask = rng.random(shape) < rng.uniform(0.2, 1)
    mask.flat[rng.integers(mask.size)] = True
    return MatrixCompletion(values, mask)


def check(problem, found, tol=1e-8):
    """The certificate from the definitions alone, in other words than the package's."""
    W = found.W
    assert np.array_equal(W[problem.mask], problem.values[problem.mask])
    assert found.value == pytest.approx(nuclear(W), rel=1e-13)
    Y = found.dual
    assert not Y[~problem.mask].any()
    independent = np.nansum(Y * problem.values) / np.sqrt(np.linalg.eigvalsh(Y @ Y.T)[-1] or 1.0)
    assert found.lower_bound == pytest.approx(max(independent, 0.0), rel=1e-7, abs=1e-300)
    assert found.gap == found.value - found.lower_bound
    assert 0 <= found.gap <= tol * max(1, found.value)


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_small_problems_are_certified(seed):
    problem = random_problem(seed)
    check(problem, min_nuclear_norm(problem))


@given(st.integers(0, 10**9))
@settings(max_examples=25, deadline=None)
def test_transposing_and_permuting_changes_nothing(seed):
    problem = random_problem(seed)
    rng = np.random.default_rng(seed)
    p, q = (rng.permutation(k) for k in problem.shape)
    shuffled = MatrixCompletion(problem.values[p][:, q].T, problem.mask[p][:, q].T)
    a, b = min_nuclear_norm(problem), min_nuclear_norm(shuffled)
    assert a.value == pytest.approx(b.value, rel=2e-8)


def test_full_observation_returns_the_matrix():
    M = np.random.default_rng(0).standard_normal((4, 3))
    found = min_nuclear_norm(MatrixCompletion(M, np.ones(M.shape, bool)))
    assert np.array_equal(found.W, M)
    assert found.value == pytest.approx(nuclear(M))
    assert found.gap < 1e-9


def test_diagonal_observation_gives_the_one_norm():
    # Bai et al. 2024, Lemma A.5: the least nuclear norm is the sum of the absolute values.
    d = np.array([3.0, -4.0, 0.5, 2.0])
    found = min_nuclear_norm(MatrixCompletion(np.diag(d), np.eye(4, dtype=bool)))
    assert found.value == pytest.approx(np.abs(d).sum(), abs=1e-8)


def test_a_two_by_two_by_calculus():
    # (σ1 + σ2)² = 14 + x² + 2|x − 6| is least at x = 1, where it is 25; rank one is at x = 6.
    found = min_nuclear_norm(MatrixCompletion.from_text("1 2; 3 ?"))
    assert found.value == pytest.approx(5, abs=1e-8)
    assert found.W[1, 1] == pytest.approx(1, abs=1e-3)


def test_complete_blocks_add_up():
    rng = np.random.default_rng(1)
    A, B = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    M = np.block([[A, np.zeros((2, 2))], [np.zeros((3, 3)), B]])
    mask = np.block([[np.ones((2, 3)), np.zeros((2, 2))], [np.zeros((3, 3)), np.ones((3, 2))]]) == 1
    found = min_nuclear_norm(MatrixCompletion(M, mask))
    assert found.value == pytest.approx(nuclear(A) + nuclear(B), abs=1e-8)


@pytest.mark.slow
def test_it_agrees_with_cvxpy():
    cp = pytest.importorskip("cvxpy")
    problem = random_problem(7)
    W = cp.Variable(problem.shape)
    fits = cp.multiply(problem.mask * 1.0, W) == np.where(problem.mask, problem.values, 0)
    other = cp.Problem(cp.Minimize(cp.normNuc(W)), [fits]).solve(solver=cp.CLARABEL)
    assert min_nuclear_norm(problem).value == pytest.approx(other, rel=1e-6)


def test_sensing_the_entries_is_completion():
    completion = MatrixCompletion.from_text("1 2 ?; 3 ? -1; ? 4 2")
    places = np.argwhere(completion.mask)
    X = np.zeros((len(places), 3, 3))
    X[np.arange(len(places)), places[:, 0], places[:, 1]] = 1
    y = completion.values[completion.mask]
    # Two measurements more that say nothing new: rank-deficient, but consistent.
    X, y = np.concatenate([X, [X[0] + X[1], 2 * X[2]]]), np.append(y, [y[0] + y[1], 2 * y[2]])
    problem = MatrixSensing(X, y)
    found = min_nuclear_norm(problem)
    assert np.abs(problem.residual(found.W)).max() < 1e-13
    assert found.value == pytest.approx(min_nuclear_norm(completion).value, abs=1e-8)
    S = np.tensordot(found.dual, X, axes=1)
    assert found.lower_bound == pytest.approx(y @ found.dual / np.linalg.norm(S, 2))
    assert 0 <= found.gap < 1e-8


@pytest.mark.parametrize("psd", [False, True])
def test_random_sensing_is_certified(psd):
    rng = np.random.default_rng(3)
    for k in (1, 4, 9):
        U = rng.standard_normal((4, 2))
        X = rng.standard_normal((k, 4, 4))
        problem = MatrixSensing(X, np.tensordot(X, U @ U.T, 2))
        found = min_nuclear_norm(problem, psd=psd)
        assert np.abs(problem.residual(found.W)).max() < 1e-12
        assert 0 <= found.gap < 1e-8 * max(1, found.value)


def test_inconsistent_measurements_are_reported_with_the_residual():
    with pytest.raises(ValueError, match=r"infeasible.*residual of 0\.707"):
        min_nuclear_norm(MatrixSensing([np.eye(2), np.eye(2)], [1.0, 2.0]))


def test_nothing_but_zeros():
    found = min_nuclear_norm(MatrixCompletion.from_text("0 ?; 0 0"))
    assert (found.value, found.lower_bound, found.gap) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("entries", [2000, 5000])
def test_one_hundred_by_one_hundred(entries):
    rng = np.random.default_rng(entries)
    M = rng.standard_normal((100, 5)) @ rng.standard_normal((5, 100))
    mask = np.zeros(10000, bool)
    mask[rng.permutation(10000)[:entries]] = True
    problem = MatrixCompletion(M, mask.reshape(100, 100))
    found = min_nuclear_norm(problem)
    assert found.solver == "Douglas–Rachford"
    check(problem, found, tol=1e-6)


# --- Positive semidefinite


@pytest.mark.parametrize("R", [2.0, 10.0, 100.0])
def test_li_et_al_proposition_b2_trace(R):
    # Li, Luo & Lyu 2021, Proposition B.2: least trace 4R; the completion of rank two has 2R² + 2.
    n = np.nan
    M = np.array([[n, n, 1, R], [n, n, R, n], [1, R, n, n], [R, n, n, n]])
    found = min_nuclear_norm(MatrixCompletion(M, np.isfinite(M)), psd=True)
    assert found.value == pytest.approx(4 * R, rel=1e-8)
    assert 0 <= found.gap < 1e-8 * found.value
    assert np.linalg.eigvalsh(found.W)[0] > -1e-13 * found.value


@pytest.mark.slow
@given(st.integers(0, 10**9))
@example(seed=146654)  # a degenerate optimum: the gap stays at 2e-7 of the value
@settings(max_examples=40, deadline=None)
def test_psd_problems_are_certified(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    U = rng.standard_normal((n, int(rng.integers(1, n + 1))))
    mask = rng.random((n, n)) < rng.uniform(0.1, 1)
    mask[0, 0] = True
    problem = MatrixCompletion(U @ U.T, mask)
    found = min_nuclear_norm(problem, psd=True)
    assert np.array_equal(found.W[mask], problem.values[mask])
    assert np.abs(found.W - found.W.T).max() <= 1e-14 * found.value
    assert np.linalg.eigvalsh(found.W)[0] > -1e-13 * found.value
    assert found.value == pytest.approx(np.trace(found.W))
    assert found.converged
    assert 0 <= found.gap <= ENOUGH * found.value
    assert found.value <= np.trace(U @ U.T) * (1 + ENOUGH)
    assert found.value >= min_nuclear_norm(problem).lower_bound


def test_psd_for_a_larger_matrix():
    U = np.random.default_rng(0).standard_normal((50, 2))
    mask = np.random.default_rng(1).random((50, 50)) < 0.4
    found = min_nuclear_norm(MatrixCompletion(U @ U.T, mask), psd=True)
    assert found.solver == "Douglas–Rachford"
    assert 0 <= found.gap < 1e-6 * found.value
    assert np.linalg.eigvalsh(found.W)[0] > -1e-13 * found.value


def test_a_zero_on_the_diagonal_zeroes_its_row():
    found = min_nuclear_norm(MatrixCompletion.from_text("0 ? ?; ? 3 ?; ? 1 ?"), psd=True)
    assert found.W[0, 0] == 0
    assert np.abs(found.W[0]).max() < 1e-14
    assert found.value == pytest.approx(3 + 1 / 3)


def test_a_symmetric_pair_that_differs_by_rounding_is_kept_to_the_bit():
    below, above = np.nextafter(0.3, 0), np.nextafter(0.3, 1)
    problem = MatrixCompletion([[1.0, below], [above, np.nan]], [[True, True], [True, False]])
    found = min_nuclear_norm(problem, psd=True)
    assert (found.W[0, 1], found.W[1, 0]) == (below, above)
    assert found.value == pytest.approx(1.09)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-1 ?; ? 1", "is not negative, but -1"),
        ("1 1 1; 1 1 ?; 1 -1 1", "residual of 1,"),
        ("1 2; 2 1", "no positive semidefinite matrix"),
        ("1 2; 3 1", "residual 0.707"),
        ("0 1; ? 5", "diagonal entry"),
    ],
)
def test_psd_infeasible(text, says):
    with pytest.raises(ValueError, match=f"infeasible.*{says}"):
        min_nuclear_norm(MatrixCompletion.from_text(text), psd=True)


# --- Breaking things: the certificate must notice


def test_a_wrong_matrix_or_dual_point_opens_the_gap():
    problem = MatrixCompletion.from_text("1 2 ?; 3 ? -1; ? 4 2")
    found = min_nuclear_norm(problem)
    W = found.W.copy()
    W[1, 1] += 0.1
    assert nuclear(W) - found.lower_bound > 1e-4
    dropped = found.dual.copy()
    dropped[0, 0] = 0
    assert found.value - dual_bound(problem, dropped) > 1e-3
    assert dual_bound(problem, -found.dual) == 0
    # A solver that claims a dual point of norm 2 gains nothing: the point is rescaled.
    assert dual_bound(problem, 2 * found.dual) == pytest.approx(found.lower_bound, rel=1e-12)
    # The bound of one problem is none for another.
    assert dual_bound(MatrixCompletion.from_text("1 2 ?; 3 ? -1; ? 4 -2"), found.dual) < 9


def test_a_dual_point_off_the_observed_entries_proves_nothing():
    problem = MatrixCompletion.from_text("1 2; 3 ?")
    with pytest.raises(ValueError, match="zero where nothing is observed"):
        dual_bound(problem, np.ones((2, 2)))
    with pytest.raises(ValueError, match="one weight a measurement"):
        dual_bound(MatrixSensing([np.eye(2)], [1.0]), [1.0, 2.0])


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_no_dual_point_is_above_any_matrix_that_fits(seed):
    """Weak duality in floating point: the allowance for rounding keeps the sign."""
    rng = np.random.default_rng(seed)
    problem = random_problem(seed)
    W = np.where(problem.mask, problem.values, rng.standard_normal(problem.shape))
    assert dual_bound(problem, np.where(problem.mask, W, 0)) <= nuclear(W)
    U, _, Vt = np.linalg.svd(W, full_matrices=False)
    full = MatrixCompletion(W, np.ones(W.shape, bool))
    best = dual_bound(full, U @ Vt)
    assert best <= math.fsum(np.linalg.svd(W, compute_uv=False))
    assert best == pytest.approx(nuclear(W))


def test_bad_input():
    problem = MatrixCompletion.from_text("1 2 3; 4 5 ?")
    with pytest.raises(TypeError, match="MatrixCompletion or a MatrixSensing"):
        min_nuclear_norm(np.eye(2))
    with pytest.raises(ValueError, match=r"square.*\(2, 3\)"):
        min_nuclear_norm(problem, psd=True)
    with pytest.raises(ValueError, match="tol must be positive"):
        min_nuclear_norm(problem, tol=0)
    with pytest.raises(ValueError, match="max_iters"):
        min_nuclear_norm(problem, max_iters=0)


def hard(kind):
    """Data at which Douglas–Rachford with one step size stops above a gap of 1e-6."""
    rng = np.random.default_rng(0)
    if kind == "few entries":
        return MatrixCompletion(random_low_rank(rng, (22, 22), 1), random_mask(rng, (22, 22), 48))
    U, V = (np.linalg.qr(rng.standard_normal((30, 30)))[0] for _ in range(2))
    return MatrixCompletion(U * 10.0 ** -np.arange(30) @ V, random_mask(rng, (30, 30), 450))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["few entries", "many magnitudes"])
def test_where_douglas_rachford_stops_short_another_solver_is_asked(kind):
    found = min_nuclear_norm(hard(kind))
    assert found.converged and found.gap <= 1e-6 * found.value


@pytest.mark.slow
def test_an_answer_that_did_not_arrive_says_so():
    rng = np.random.default_rng(0)
    problem = MatrixCompletion(random_low_rank(rng, (40, 40), 3), random_mask(rng, (40, 40), 480))
    short = min_nuclear_norm(problem, max_iters=20)
    assert not short.converged and short.gap > 1e-6 * short.value
    whole = min_nuclear_norm(problem)
    assert whole.converged and whole.gap <= 1e-6 * whole.value
    assert not min_nuclear_norm(problem, tol=1e-14, max_iters=20).converged


def test_a_problem_of_ones_own_is_certified_as_any_other():
    trace = Own(MatrixSensing([np.eye(2)], [3.0]))
    assert min_nuclear_norm(trace).value == pytest.approx(3.0)
    assert dual_bound(trace, [1.0]) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="one weight a measurement, 1, but has 2"):
        dual_bound(trace, [1.0, 1.0])


@pytest.mark.parametrize("psd", [False, True])
def test_zeros_are_answered_once(psd):
    """Whoever asks on gets no second answer; the first has no gap."""
    data = affine_set(MatrixCompletion(np.zeros((2, 2)), np.eye(2, dtype=bool)), psd)
    (only,) = _proposals(data, psd, None, 10)
    W, S, solver, good = only
    assert not W.any() and not S.any() and (solver, good) == ("closed form", 0.0)
