"""What gradient flow conserves, and what must not matter to it, on random problems."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing

RTOL = 1e-6
# The promise on W, relative to the data; two runs may differ by it in opposite directions.
WITHIN = 20 * RTOL

seeds = st.integers(0, 10**6)
# From large to small; 10^-200 makes the flow pass several saddles.
scales = st.sampled_from([0, -2, -7, -30, -200])


def random_problem(rng):
    m, n = rng.integers(1, 5, size=2)
    mask = rng.random((m, n)) < 0.7
    mask[rng.integers(m), rng.integers(n)] = True
    return MatrixCompletion(rng.standard_normal((m, n)), mask)


def random_orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def check(function):
    return settings(max_examples=12, deadline=None, derandomize=True)(
        given(seed=seeds, log10_scale=scales)(function)
    )


def stopped_early(problem, factors, log10_scale):
    """A run that is long enough to pass saddles and short enough to be compared everywhere."""
    return gradient_flow(problem, factors, log10_scale=log10_scale, loss_tol=1e-8, max_steps=400)


def largest(problem, *runs):
    values = np.nanmax(np.abs(getattr(problem, "values", problem)))
    return max(values, *(run.singular_values.max() for run in runs))


@pytest.mark.slow
@check
def test_loss_falls_and_balance_is_kept(seed, log10_scale):
    """f never increases; AᵀA − BBᵀ keeps its value, entry (i, j) relative to |U_i||U_j|.

    In a hidden basis in which the start is rotated, U_i holds every column, so the bound is
    relative to the largest; the columns in their own basis are checked below. The drift of a
    conserved quantity is an error of U, so it is bounded by the promise on W.
    """
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    A, B = small_init(problem.shape, rng=rng)
    run = stopped_early(problem, (A, B), log10_scale)
    noise = 1e-13 * (run.loss[0] + 1e-30)
    assert np.all(np.diff(run.loss) <= noise)
    alpha2 = 10.0 ** (2 * log10_scale)
    for t in run.t[:: max(1, len(run.t) // 10)]:
        At, Bt = run.factors_at(t)
        size = np.sum(At**2) + np.sum(Bt**2)
        drift = At.T @ At - Bt @ Bt.T - alpha2 * (A.T @ A - B @ B.T)
        assert np.abs(drift).max() <= WITHIN * size + 1e-300


@pytest.mark.slow
@check
def test_the_hidden_basis_does_not_matter(seed, log10_scale):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    A, B = small_init(problem.shape, rng=rng, width=3)
    Q = random_orthogonal(rng, 3)
    one = stopped_early(problem, (A, B), log10_scale)
    two = stopped_early(problem, (A @ Q, Q.T @ B), log10_scale)
    size = largest(problem, one, two)
    end = min(one.t[-1], two.t[-1])
    for t in np.linspace(0, end, 12):
        assert np.abs(one.W_at(t) - two.W_at(t)).max() <= WITHIN * size
    # And the factors come back in the basis of the caller.
    (A1, B1), (A2, B2) = one.factors_at(end / 2), two.factors_at(end / 2)
    root = np.sqrt(size)
    assert np.abs(A1 - A2 @ Q.T).max() <= WITHIN * root
    assert np.abs(B1 - Q @ B2).max() <= WITHIN * root


@pytest.mark.slow
@check
def test_rotating_the_data_rotates_the_flow(seed, log10_scale):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((5, 3, 2)), rng.standard_normal(5)
    P, R = random_orthogonal(rng, 3), random_orthogonal(rng, 2)
    A, B = small_init((3, 2), rng=rng)
    one = stopped_early(MatrixSensing(X, y), (A, B), log10_scale)
    two = stopped_early(MatrixSensing(P @ X @ R, y), (P @ A, B @ R), log10_scale)
    size = largest(y, one, two)
    for t in np.linspace(0, min(one.t[-1], two.t[-1]), 12):
        assert np.abs(P @ one.W_at(t) @ R - two.W_at(t)).max() <= WITHIN * size


@check
def test_symmetric_problems_stay_symmetric(seed, log10_scale):
    """Positive semidefinite data seen whole, A_0 = B_0ᵀ: W stays symmetric.

    Only there: with a negative eigenvalue of −G the symmetric starts are unstable, W = A Aᵀ in
    exact arithmetic, and rounding alone decides when a computed flow leaves them.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3, 2))
    A, _ = small_init((3, 3), rng=rng)
    run = stopped_early(
        MatrixCompletion(X @ X.T, np.ones((3, 3), dtype=bool)), (A, A.T), log10_scale
    )
    for t in np.linspace(0, run.t[-1], 8):
        W = run.W_at(t)
        assert np.abs(W - W.T).max() <= WITHIN * max(np.abs(W).max(), 1e-300)


@check
def test_the_row_space_of_the_start_is_kept(seed, log10_scale):
    """Ω_k: hidden vectors orthogonal to all of A_0's rows and B_0's columns stay so, exactly."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    A, B = small_init(problem.shape, rng=rng, width=2)
    T = rng.standard_normal((2, 4))
    run = stopped_early(problem, (A @ T, np.linalg.pinv(T) @ B), log10_scale)
    # [A; Bᵀ] spans what T's rows span: pinv(T)ᵀ has the same row space.
    outside = np.eye(4) - np.linalg.pinv(T) @ T
    At, Bt = run.factors
    size = max(np.abs(At).max(), np.abs(Bt).max(), 1e-300)
    assert np.abs(At @ outside).max() <= 1e-12 * size
    assert np.abs(outside @ Bt).max() <= 1e-12 * size


@check
def test_each_column_keeps_its_own_balance(seed, log10_scale):
    """|A e_j|² − |B e_j|² relative to the size of column j, in the basis of the start's SVD.

    For one component with a start of orthogonal hidden columns of sizes 1, 1e-3 and 1e-6, the
    conserved matrix is known in that basis; its part that belongs to the large columns must not
    drown what belongs to the small ones while they are small: checked on the linear stage.
    """
    rng = np.random.default_rng(seed)
    problem = MatrixCompletion(rng.standard_normal((3, 3)), np.ones((3, 3), dtype=bool))
    U = np.linalg.qr(rng.standard_normal((6, 3)))[0] * [1, 1e-3, 1e-6]
    A, B = U[:3], U[3:].T
    run = gradient_flow(problem, (A, B), log10_scale=min(log10_scale, -7), t_max=0.5)
    alpha = 10.0 ** min(log10_scale, -7)
    At, Bt = (factor / alpha for factor in run.factors)
    drift = (At.T @ At - Bt @ Bt.T) - (A.T @ A - B @ B.T)
    scale = np.sqrt(np.sum(At**2, axis=0) + np.sum(Bt**2, axis=1))
    assert np.abs(drift / np.outer(scale, scale)).max() < 1e-9


def test_disjoint_components_do_not_feel_each_other():
    """The diagonal blocks are those of the components run alone, from the same start."""
    rng = np.random.default_rng(5)
    values, mask = np.zeros((4, 5)), np.zeros((4, 5), dtype=bool)
    values[:2, :3], values[2:, 3:] = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    mask[:2, :3] = mask[2:, 3:] = True
    A, B = small_init((4, 5), rng=rng)
    both = gradient_flow(
        MatrixCompletion(values, mask, loss="half"), (A, B), log10_scale=-40, loss_tol=1e-14
    )
    for rows, cols in ((slice(0, 2), slice(0, 3)), (slice(2, 4), slice(3, 5))):
        alone = gradient_flow(
            MatrixCompletion(values[rows, cols], mask[rows, cols], loss="half"),
            (A[rows], B[:, cols]),
            log10_scale=-40,
            loss_tol=1e-14,
        )
        for t in np.linspace(0, min(alone.t[-1], both.t[-1]), 10):
            assert np.abs(both.W_at(t)[rows, cols] - alone.W_at(t)).max() < WITHIN * 3
