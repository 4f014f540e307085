"""The closed form of the limit from nothing, for disconnected data with complete components.

Three factors and more are compared with the flow and the process in test_deep_signs.py.
"""

import numpy as np
import pytest

import mfbook as mf
from mfbook.problems.populations import random_block_problem


def flow_limit(problem, factors, **options):
    run = mf.gradient_flow(problem, factors, log10_scale=-10000, loss_tol=1e-22, **options)
    assert run.converged
    return run.W


@pytest.mark.parametrize("seed", range(30))
def test_the_flow_from_almost_nothing_ends_there(seed):
    rng = np.random.default_rng([11, seed])
    problem = random_block_problem(rng)
    factors = mf.small_init(problem.shape, rng=rng, width=max(problem.shape))
    predicted = mf.disconnected_limit(problem, factors)
    largest = np.abs(predicted).max()
    assert np.abs(flow_limit(problem, factors) - predicted).max() < 1e-8 * largest


def by_qr(problem, factors, order):
    """The formula again, with NumPy's QR for Gram–Schmidt, in a given order of the rows."""
    A0, B0 = factors
    A, B = np.zeros_like(A0), np.zeros_like(B0)
    for rows, cols in mf.components(problem.mask):
        U, s, Vt = np.linalg.svd(problem.values[np.ix_(rows, cols)], full_matrices=False)
        U, s, Vt = U[:, :2], s[:2], Vt[:2]
        K = U.T @ A0[rows] + Vt @ B0[:, cols].T
        q, r = np.linalg.qr(K[order].T)
        C = (q * np.sign(np.diag(r))).T[order]
        A[rows], B[:, cols] = (U * np.sqrt(s)) @ C, C.T @ (np.sqrt(s)[:, None] * Vt)
    return A @ B


def test_the_order_of_the_singular_values_and_both_factors_matter():
    rng = np.random.default_rng(3)
    problem = random_block_problem(rng, [(3, 3), (2, 2)], [2, 2])
    A, B = mf.small_init(problem.shape, rng=rng)
    W = mf.disconnected_limit(problem, (A, B))
    assert by_qr(problem, (A, B), [0, 1]) == pytest.approx(W, abs=1e-12)
    assert np.abs(by_qr(problem, (A, B), [1, 0]) - W).max() > 1e-2
    assert np.abs(by_qr(problem, (A, -B), [0, 1]) - W).max() > 1e-2


def test_two_by_two_by_hand():
    """[[1, ?, 3], [?, 5, ?], [3, ?, 9]]: W_01 = √(10·5) cos∠(c1, c2) u_0 with u = (1, 0, 3)/√10."""
    problem = mf.examples.disconnected_3x3
    A, B = mf.small_init((3, 3), rng=8)
    u = np.array([1, 0, 3]) / np.sqrt(10)
    c1, c2 = u @ A + B @ u, A[1] + B[:, 1]
    cosine = c1 @ c2 / np.linalg.norm(c1) / np.linalg.norm(c2)
    W = mf.disconnected_limit(problem, (A, B))
    assert W[0, 1] == pytest.approx(np.sqrt(50) * cosine * u[0], rel=1e-12)
    assert W[1, 0] == pytest.approx(W[0, 1], rel=1e-12)


@pytest.mark.slow
def test_blocks_are_fitted_and_nuclear_norms_add():
    """Theorem 4 of Bai et al.: the trace of the polar factor is the sum of the blocks' norms."""
    rng = np.random.default_rng(5)
    for _ in range(100):
        problem = random_block_problem(rng)
        factors = mf.small_init(problem.shape, rng=rng, width=max(problem.shape))
        W = mf.disconnected_limit(problem, factors)
        assert np.abs(problem.residual(W)).max() < 1e-12 * np.abs(W).max()
        blocks = [problem.values[np.ix_(r, c)] for r, c in mf.components(problem.mask)]
        total = sum(mf.nuclear_norm(block) for block in blocks)
        assert mf.nuclear_norm(W) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "2 0 ?; 0 2 ?; ? ? 1",
        "2 1 ? ?; -1 2 ? ?; ? ? 1 3; ? ? 3 -1",
        "3 0 0 ?; 0 3 0 ?; 0 0 1 ?; ? ? ? 2",
    ],
)
def test_equal_singular_values_take_the_polar_factor(text):
    problem = mf.MatrixCompletion.from_text(text)
    factors = mf.small_init(problem.shape, rng=4)
    predicted = mf.disconnected_limit(problem, factors)
    assert np.abs(flow_limit(problem, factors) - predicted).max() < 1e-8


def test_rotating_the_hidden_space_changes_nothing():
    rng = np.random.default_rng(6)
    problem = random_block_problem(rng)
    A, B = mf.small_init(problem.shape, rng=rng, width=6)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    turned = mf.disconnected_limit(problem, (A @ Q, Q.T @ B))
    assert turned == pytest.approx(mf.disconnected_limit(problem, (A, B)), abs=1e-12)


def test_unobserved_rows_and_zero_blocks_stay_zero():
    problem = mf.MatrixCompletion.from_text("1 2 ? ?; ? ? ? ?; ? ? 0 ?")
    W = mf.disconnected_limit(problem, mf.small_init((3, 4), rng=1))
    expected = np.zeros((3, 4))
    expected[0, :2] = 1, 2
    assert np.abs(W - expected).max() < 1e-14


def test_an_incomplete_component_is_refused():
    problem = mf.examples.M1
    with pytest.raises(ValueError, match=r"not complete.*gradient_flow"):
        mf.disconnected_limit(problem, mf.small_init((3, 3), rng=0))


def test_a_narrow_width_is_refused():
    problem = mf.examples.M2
    with pytest.raises(ValueError, match="rank 2, but the hidden width is 1"):
        mf.disconnected_limit(problem, mf.small_init((3, 3), width=1, rng=0))


def test_a_degenerate_start_is_refused():
    problem = mf.examples.M2
    A, B = np.ones((3, 3)), np.ones((3, 3))
    with pytest.raises(ValueError, match="degenerate"):
        mf.disconnected_limit(problem, (A, B))


def test_sensing_is_refused():
    sensing = mf.MatrixSensing(np.ones((1, 2, 2)), [1.0])
    with pytest.raises(TypeError, match="MatrixCompletion"):
        mf.disconnected_limit(sensing, mf.small_init((2, 2), rng=0))


TWO_BY_TWO = mf.MatrixCompletion.from_text("2 ?; ? 1")


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_deep_blocks_are_fitted_by_the_smallest_rank_and_nuclear_norm(seed, depth):
    rng = np.random.default_rng([5, seed])
    problem = random_block_problem(rng)
    W = mf.disconnected_limit(problem, mf.small_init(problem.shape, depth=depth, rng=rng))
    assert np.abs(problem.residual(W)).max() < 1e-12 * np.abs(W).max()
    blocks = [problem.values[np.ix_(r, c)] for r, c in mf.components(problem.mask)]
    assert mf.nuclear_norm(W) == pytest.approx(sum(map(mf.nuclear_norm, blocks)), rel=1e-12)
    assert mf.numerical_rank(W) == max(map(mf.numerical_rank, blocks))


@pytest.mark.parametrize("depth", [3, 4])
def test_a_reflected_start_has_reflected_signs(depth):
    """The layers with row and column of one component turned around are another such start."""
    layers = mf.small_init((2, 2), depth=depth, rng=0)
    turn = np.diag([1.0, -1.0])
    W = mf.disconnected_limit(TWO_BY_TWO, layers)
    other = mf.disconnected_limit(TWO_BY_TWO, (turn @ layers[0], *layers[1:-1], layers[-1] @ turn))
    assert abs(W[0, 1]) == pytest.approx(np.sqrt(2), rel=1e-12)
    assert other == pytest.approx(turn @ W @ turn, abs=1e-12)


def test_deep_signs_are_those_of_one_number_where_it_can_be_said():
    """Of width one x_p + y_p grows by itself: its sign, with that of the number between, stays."""
    for seed in range(8):
        x, y = np.random.default_rng(seed).standard_normal((2, 2))
        y = np.abs(y) * np.sign(x)
        W = mf.disconnected_limit(TWO_BY_TWO, (x[:, None], [[0.7]], y[None]))
        assert np.sign(W[0, 1]) == np.sign(x[0] * x[1])


@pytest.mark.parametrize(
    ("problem", "layers", "match"),
    [
        (TWO_BY_TWO, (np.eye(2),) * 3, "degenerate.*perturb"),
        (mf.MatrixCompletion.from_text("-1"), (np.ones((1, 1)),) * 3, "degenerate.*perturb"),
        (mf.MatrixCompletion.from_text("1 0; 0 1"), (np.eye(2),) * 3, "must differ.*deep_limit"),
        (
            mf.MatrixCompletion.from_text("1 0; 0 2"),
            (np.ones((2, 1)), np.ones((1, 2)), np.ones((2, 2))),
            "rank 2, but the hidden width is 1",
        ),
        (mf.examples.M1, (np.eye(3),) * 3, "not complete.*gradient_flow"),
        (TWO_BY_TWO, (np.eye(2),), "two factors and more"),
        (TWO_BY_TWO, (np.ones((4, 2, 2)),) * 3, "leading axes"),
    ],
)
def test_what_is_no_case_of_it_is_refused(problem, layers, match):
    with pytest.raises(ValueError, match=match):
        mf.disconnected_limit(problem, layers)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("zero", [(0, 1, 2), (0, 2), (0, 1), (1, 2)])
def test_a_start_at_rest_has_no_limit_at_depth_three(zero):
    layers = [np.zeros((3, 3)) if k in zero else np.eye(3) + 0.1 for k in range(3)]
    with pytest.raises(ValueError, match=r"the start is degenerate: .*; perturb"):
        mf.disconnected_limit(mf.examples.disconnected_3x3, layers)
