"""Descent, the landscape, greedy learning and the nuclear norm for W = U Uᵀ."""

import numpy as np
import pytest

import mfbook as mf
from mfbook.flow.trajectory import LEAST_REACHED, LOSS_REACHED
from mfbook.rivals.minrank import square
from mfbook.rivals.minrank.square import square_witness
from mfbook.rivals.nuclear.data import affine_set

PATH = "? ? 1 2; ? ? 2 ?; 1 2 ? ?; 2 ? ? ?"  # Li, Luo & Lyu 2021, Example 5.9 with R = 2


def problem_of(rng, d=4, rank=2):
    U = rng.standard_normal((d, rank))
    mask = np.triu(rng.random((d, d)) < 0.7)
    mask[0, 0] = True
    return mf.SymmetricCompletion(U @ U.T, mask | mask.T)


def half_loss(problem, U):
    return problem.loss_value(U @ U.T) / 2


# ---- descent ----------------------------------------------------------------------------------


def test_descent_takes_the_papers_step():
    rng = np.random.default_rng(0)
    problem, U = problem_of(rng), rng.standard_normal((4, 3))
    run = mf.gradient_descent(problem, (U,), lr=0.01, max_iters=3)
    for _ in range(3):
        U = U - 0.01 * problem.gradient(U @ U.T) @ U
    assert run.factors[0] == pytest.approx(U, rel=1e-14)
    assert (run.W == run.W.T).all()
    assert run.gradient_norm[-1] == pytest.approx(
        np.linalg.norm(problem.gradient(U @ U.T) @ U), rel=1e-12
    )


def test_descent_approaches_the_flow():
    problem = mf.SymmetricCompletion.from_text("2 1 ?; 1 ? 1; ? 1 3")
    (U,) = mf.small_init(problem, rng=0)
    flow = mf.gradient_flow(problem, (U,), log10_scale=-2)
    descent = mf.gradient_descent(problem, (0.01 * U,), lr=1e-3, max_iters=4000)
    for t in (1.0, 2.0, 4.0):
        assert np.abs(descent.W_at(t) - flow.W_at(t)).max() < 0.02  # Euler's method, h = 1e-3


def test_descent_ends_where_no_square_fits_better():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 1")
    (U,) = mf.small_init(problem, rng=0, batch=4)
    batch = mf.gradient_descent(problem, (0.1 * U,), lr=0.05)
    assert batch.converged.all()
    assert (batch.reason == LEAST_REACHED).all()
    assert np.abs(batch.W - 1.5).max() < 1e-4
    alone = mf.gradient_descent(problem, (0.1 * U[2],), lr=0.05)
    assert alone.reason == LEAST_REACHED
    assert alone.n_steps == batch[2].n_steps
    assert (alone.W == batch[2].W).all()


def test_a_sequence_of_symmetric_problems_runs_together():
    problems = [mf.SymmetricCompletion.from_text(text) for text in ("1 2; 2 1", "1 2; 2 9")]
    (U,) = mf.small_init(problems[0], rng=0, batch=2)
    run = mf.gradient_descent(problems, (0.1 * U,), lr=0.05)
    assert run.reason.tolist() == [LEAST_REACHED, LOSS_REACHED]


# ---- the landscape ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sensing", [False, True])
def test_the_hessian_is_the_second_difference_of_half_the_loss(seed, sensing):
    rng = np.random.default_rng(seed)
    problem = problem_of(rng)
    if sensing:
        X = rng.standard_normal((3, 4, 4))
        problem = mf.SymmetricSensing(X + X.transpose(0, 2, 1), rng.standard_normal(3))
    U, E = rng.standard_normal((2, 4, 3))
    H = mf.hessian(problem, (U,), tol=np.inf)
    assert H == pytest.approx(H.T, abs=1e-12)
    # ½ f(U Uᵀ) is of degree four: a fourth-order difference is exact but for rounding, 1e-16/h².
    h = 0.1
    values = [half_loss(problem, U + k * h * E) for k in range(-2, 3)]
    difference = np.dot([-1, 16, -30, 16, -1], values) / (12 * h**2)
    assert E.ravel() @ H @ E.ravel() == pytest.approx(difference, rel=1e-9, abs=1e-9)
    slope = np.dot([1, -8, 0, 8, -1], values) / (12 * h)
    assert np.sum(E * (problem.gradient(U @ U.T) @ U)) == pytest.approx(slope, rel=1e-9, abs=1e-9)


def test_at_zero_the_rates_are_the_eigenvalues():
    problem = mf.SymmetricCompletion.from_text("3 1; 1 -2")
    zero = np.zeros((2, 2))
    expected = np.linalg.eigvalsh([[3.0, 1.0], [1.0, -2.0]])
    H = mf.hessian(problem, (zero,))
    assert np.linalg.eigvalsh(-H) == pytest.approx(np.repeat(expected, 2))
    escape = mf.escape_direction(problem, (zero,))
    assert (escape.rate, escape.second_rate) == pytest.approx((expected[1], expected[0]))
    u, v = escape.direction
    assert (u == v).all()
    assert problem.gradient(zero) @ u == pytest.approx(-expected[1] * u)


def test_the_kinds_of_points():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 1")
    kind = mf.critical_point_kind
    best = np.full((2, 1), np.sqrt(1.5))
    assert kind(problem, (np.zeros((2, 2)),)) == "strict saddle"
    assert kind(problem, (best,)) == "global minimum"
    assert kind(problem, (np.hstack([best, 0 * best]),)) == "global minimum"
    assert kind(problem, (best + np.array([[1e-4], [-1e-4]]),)) == "global minimum"
    assert kind(problem, (np.ones((2, 1)),)) == "not critical"
    with pytest.raises(ValueError, match="global minimum"):
        mf.escape_direction(problem, (best,))
    assert kind(mf.SymmetricCompletion.from_text("-1"), ([[0.0]],)) == "global minimum"
    fits = mf.SymmetricCompletion.from_text("1 2; 2 4")
    assert kind(fits, ([[1.0], [2.0]],)) == "global minimum"
    # Too narrow for the second eigenvalue: no way down in one column, but no minimum.
    narrow = mf.SymmetricCompletion.from_text("3 0; 0 1")
    assert kind(narrow, ([[np.sqrt(3)], [0.0]],)) == "second-order critical"
    assert kind(narrow, ([[np.sqrt(3), 0.0], [0.0, 0.0]],)) == "strict saddle"


@pytest.mark.parametrize("power", [-150, 150])
def test_the_kinds_do_not_depend_on_the_unit(power):
    c = 10.0**power
    problem = mf.SymmetricCompletion(
        c * np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones((2, 2), dtype=bool)
    )
    best = np.full((2, 1), np.sqrt(1.5 * c))
    assert mf.critical_point_kind(problem, (best,)) == "global minimum"
    assert mf.critical_point_kind(problem, (0 * best,)) == "strict saddle"
    assert mf.critical_point_kind(problem, (0.5 * best,)) == "not critical"


# ---- greedy learning --------------------------------------------------------------------------


def test_greedy_learning_of_example_5_9_takes_one_step():
    problem = mf.SymmetricCompletion.from_text(PATH)
    path = mf.glrl(problem)
    assert path.ranks == (0, 1)
    assert path.reason == LOSS_REACHED
    v = np.array([1.0, 2.0, 1.0, 2.0])
    assert path.W == pytest.approx(np.outer(v, v), abs=1e-3)
    assert (path.W == path.W.T).all()
    # The first column is √ε along the top eigenvector of −∇f(0), in units of the data.
    (U,) = path.trajectories[0].factors_at(0.0)
    assert U.shape == (4, 1)
    values, vectors = np.linalg.eigh(-problem.gradient(np.zeros((4, 4))))
    assert abs(U[:, 0] @ vectors[:, -1]) == pytest.approx(np.sqrt(1e-7 * values[-1]), rel=1e-9)


def test_greedy_learning_learns_eigenvalues_and_stops_at_the_cone():
    rng = np.random.default_rng(0)
    V = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    problem = mf.SymmetricCompletion(
        V @ np.diag([4.0, 2.0, -1.0, -3.0]) @ V.T, np.ones((4, 4), dtype=bool)
    )
    path = mf.glrl(problem)
    assert path.ranks == (0, 1, 2)
    assert path.converged
    assert path.reason == LEAST_REACHED
    for W, sizes in zip(path.critical_points, ([], [4.0], [4.0, 2.0]), strict=True):
        expected = (V[:, : len(sizes)] * sizes) @ V[:, : len(sizes)].T
        assert W == pytest.approx(expected, abs=1e-5)
    assert np.linalg.eigvalsh(-problem.gradient(path.W))[-1] < 1e-9


def test_greedy_learning_of_a_negative_number_stops_at_once():
    path = mf.glrl(mf.SymmetricCompletion.from_text("-1"))
    assert path.ranks == (0,)
    assert path.converged
    assert path.reason == LEAST_REACHED


def test_greedy_learning_takes_one_component_after_the_other():
    problem = mf.SymmetricCompletion.from_text("1 2 ?; 2 4 ?; ? ? 3")
    path = mf.glrl(problem)
    assert path.ranks == (0, 1, 2)
    assert path.W == pytest.approx(np.array([[1, 2, 0], [2, 4, 0], [0, 0, 3]]), abs=1e-3)


# ---- the nuclear norm -------------------------------------------------------------------------


def test_the_least_nuclear_norm_is_that_of_the_cone():
    problem = mf.SymmetricCompletion.from_text(PATH)
    best = mf.min_nuclear_norm(problem)
    assert best.value == pytest.approx(8.0, rel=1e-6)  # 4 R
    assert best.gap < 1e-6
    assert np.linalg.eigvalsh(best.W)[0] > -1e-9
    same = mf.min_nuclear_norm(mf.MatrixCompletion(problem.values, problem.mask), psd=True)
    assert best.value == pytest.approx(same.value, rel=1e-9)
    # "1 1; 1 ?" may be completed by 1 in the cone and by anything outside of it.
    anything = mf.SymmetricCompletion.from_text("0.25 1; 1 ?")
    assert mf.min_nuclear_norm(anything).value == pytest.approx(4.25, rel=1e-6)
    free = mf.min_nuclear_norm(mf.MatrixCompletion(anything.values, anything.mask))
    assert free.value < 3.0


def test_data_that_no_square_fits_are_infeasible():
    with pytest.raises(ValueError, match=r"infeasible.*take a MatrixCompletion"):
        mf.min_nuclear_norm(mf.SymmetricCompletion.from_text("-1"))
    with pytest.raises(ValueError, match="no positive semidefinite matrix was found"):
        mf.min_nuclear_norm(mf.SymmetricCompletion.from_text("1 2; 2 1"))


def test_a_dual_point_of_a_symmetric_problem_is_one_of_the_cone():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 5")
    dual = np.diag([1.0, 1.0])
    assert mf.dual_bound(problem, dual) == mf.dual_bound(problem, dual, psd=True)
    # λ_max and not the spectral norm: −5 e_1e_1ᵀ does no harm.
    assert mf.dual_bound(problem, [[-5.0, 0.0], [0.0, 1.0]]) == 0.0
    assert mf.dual_bound(problem, [[-1.0, 0.0], [0.0, 1.0]]) == pytest.approx(4.0)


# ---- the smallest rank ------------------------------------------------------------------------


def test_the_smallest_rank_of_example_5_9_is_one_and_proved():
    found = mf.min_rank(mf.SymmetricCompletion.from_text(PATH))
    assert found.rank == 1
    assert found.proven
    assert "excludes rank 0" in found.proof


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_rank_is_that_of_a_square_that_fits(seed):
    problem = problem_of(np.random.default_rng(seed), d=5)
    found = mf.min_rank(problem, starts=16)
    assert found.lower_bound <= found.rank <= 2
    assert np.linalg.eigvalsh(found.W)[0] >= -1e-12 * np.abs(found.W).max()
    size = np.abs(problem.targets).max()
    assert np.abs(problem.residual(found.W)).max() <= 1e-11 * size


def test_a_rank_that_only_the_cone_excludes_is_not_proven():
    """u_1u_2, u_1u_3 > 0 > u_2u_3 has no solution; among all matrices a negative diagonal fits."""
    found = mf.min_rank(mf.SymmetricCompletion.from_text("? 1 1; 1 ? -1; 1 -1 ?"))
    assert found.lower_bound == 1
    assert found.rank == 2
    assert not found.proven
    assert found.proof == "not proven"


def test_no_rank_where_no_square_fits():
    with pytest.raises(ValueError, match="infeasible"):
        mf.min_rank(mf.SymmetricCompletion.from_text("-1"))
    with pytest.raises(ValueError, match="no positive semidefinite matrix"):
        mf.min_rank(mf.SymmetricCompletion.from_text("1 2; 2 1"))
    zero = mf.min_rank(mf.SymmetricCompletion.from_text("0 ?; ? ?"))
    assert zero.rank == 0
    assert zero.proven


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("1 0; 0 1e-10", 2),
        ("1 ?; ? 1e-10", 1),
        ("1e10 1 ?; 1 1e-10 0; ? 0 1", 2),
        ("1 1e-5 0; 1e-5 2e-10 ?; 0 ? 1", 2),
        ("? 1 ?; 1 ? ?; ? ? ?", 1),
        ("1 -1 1 0; -1 1 ? 0; 1 ? 1 0; 0 0 0 ?", 1),
    ],
)
def test_a_small_row_is_no_less_a_row(text, rank):
    problem = mf.SymmetricCompletion.from_text(text)
    found = mf.min_rank(problem)
    assert (found.rank, found.lower_bound) == (rank, rank)
    off = np.abs(problem.residual(found.W))[problem.mask]
    assert (off <= 1e-11 * np.maximum(np.abs(problem.targets), 1e-5)).all()
    assert (off <= 1e-6 * np.abs(problem.targets) + 1e-15).all()


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 40))]
)
def test_squares_of_rows_of_many_magnitudes_meet_every_entry(seed):
    rng = np.random.default_rng([21, seed])
    d = int(rng.integers(2, 6))
    rank = int(rng.integers(1, d))
    U = rng.standard_normal((d, rank)) * 10.0 ** rng.integers(-5, 6, (d, 1))
    mask = rng.random((d, d)) < 0.6
    mask = mask | mask.T | (np.arange(d) == 0) & (np.arange(d) == 0)[:, None]
    problem = mf.SymmetricCompletion(U @ U.T, mask)
    found = mf.min_rank(problem)
    assert found.lower_bound <= rank
    assert found.rank >= found.lower_bound
    # A product of rows is known to the rounding of their lengths.
    size = np.linalg.norm(U, axis=1)
    off = np.abs(problem.residual(found.W)) / np.outer(size, size)
    assert off.max() < 1e-7


def test_a_truth_that_is_known_is_a_witness_of_its_rank():
    given = mf.SymmetricCompletion.from_text(PATH)
    u = np.array([1.0, 2, 1, 2])
    ranks = []
    for truth in (np.outer(u, u), None):
        problem = mf.SymmetricCompletion(given.values, given.mask, truth=truth)
        W, _ = square_witness(problem, 1, starts=0)
        assert np.abs((W - problem.values)[problem.mask]).max() < 1e-6
        ranks.append(mf.numerical_rank(W, rtol=1e-3))
    assert ranks == [1, 2]  # without any start what is left is the least trace


def test_a_start_that_runs_far_leaves_no_singular_system():
    """Its first row has to be 10^5 times the second: beside its square a damping is lost."""
    text = "? -0.004 0; -0.004 1.2e-9 8.67e-19; 0 8.67e-19 ?"
    problem = mf.SymmetricCompletion.from_text(text)
    found = mf.min_rank(problem, starts=1)
    assert found.lower_bound == 2 == found.rank
    assert np.linalg.eigvalsh(found.W)[0] >= -1e-12 * np.abs(found.W).max()


def test_a_square_that_is_found_proves_the_rank_for_all_matrices():
    """One start finds no two factors of rank 2; the square of rank 2 takes their place."""
    text = "3 -1 ? 1; -1 ? 0 0; ? 0 9 -2; 1 0 -2 ?"
    problem = mf.SymmetricCompletion.from_text(text)
    found = mf.min_rank(problem, starts=1)
    assert found.proven and found.rank == 2
    assert "excludes rank 1" in found.proof or "not 1" in found.proof
    assert np.linalg.eigvalsh(found.W)[0] >= -1e-12 * np.abs(found.W).max()
    assert np.abs(problem.residual(found.W)).max() < 1e-11


def test_a_start_that_takes_too_long_is_given_up(monkeypatch):
    data = affine_set(mf.SymmetricCompletion.from_text(PATH), True)
    U = np.random.default_rng(0).standard_normal((4, 1))
    fitted = square._fitted(data, U)
    assert np.abs((fitted @ fitted.T - data.particular)[data.mask]).max() < 1e-11
    monkeypatch.setattr(square, "STEPS", 3)
    assert square._fitted(data, U) is None
    assert square._fitted(data, fitted) is not None
