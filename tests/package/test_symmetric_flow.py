"""Gradient flow with W = U Uᵀ, against closed forms, two factors, and a plain integrator."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import mfbook as mf
from mfbook.flow.shallow import drive
from mfbook.flow.trajectory import LEAST_REACHED, LOSS_REACHED, STUCK, UNBOUNDED
from tests.package.given import orthogonal

SCALES = [0, -3, -100, -10_000]


def full(M, **options):
    return mf.SymmetricCompletion(M, np.ones(np.shape(M), dtype=bool), **options)


def low_rank(rng, d, rank):
    U = rng.standard_normal((d, rank))
    return U @ U.T


def symmetric_mask(rng, d, share):
    mask = np.triu(rng.random((d, d)) < share)
    mask[0, 0] = True
    return mask | mask.T


def assert_in_the_cone(W):
    """Symmetric to the last bit, and positive semidefinite to the rounding of W."""
    assert (W == W.T).all()
    assert np.linalg.eigvalsh(W)[0] >= -8 * len(W) * np.finfo(float).eps * np.abs(W).max()


# ---- what it cannot fit ---------------------------------------------------------------------


@pytest.mark.parametrize("log10_scale", SCALES)
@pytest.mark.parametrize(
    "U",
    [
        np.eye(2),
        [[1.0, 1.0], [1.0, -1.0]],
        [[1.0], [1.0]],
        [[1.0, 0.0], [2.0, 0.0]],
        [[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]],
        *(np.random.default_rng(seed).standard_normal((2, 2)) for seed in range(5)),
    ],
)
def test_the_smallest_example_ends_at_the_positive_part(U, log10_scale):
    """ "1 2; 2 1" has the eigenvalues 3 and −1; U Uᵀ can have the first only."""
    problem = mf.SymmetricCompletion.from_text("1 2; 2 1")
    run = mf.gradient_flow(problem, (U,), log10_scale=log10_scale)
    assert np.abs(run.W - 1.5).max() < 1e-9  # the end is at rest, and the rest attracts
    assert run.converged
    assert run.reason == LEAST_REACHED
    assert "MatrixCompletion" in run.advice
    assert run.loss[-1] == pytest.approx(0.5, rel=1e-12)
    for t in np.linspace(0, run.t[-1], 20):
        assert_in_the_cone(run.W_at(t))


@pytest.mark.parametrize("log10_scale", SCALES)
def test_a_negative_number_ends_at_zero(log10_scale):
    run = mf.gradient_flow(
        mf.SymmetricCompletion.from_text("-1"), ([[1.0, 2.0]],), log10_scale=log10_scale
    )
    assert run.converged
    assert run.reason == LEAST_REACHED
    assert 0 <= run.W[0, 0] < 1e-12  # columns below 1e-14 of the data are not followed further


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("log10_scale", [0, -8, -300])
def test_indefinite_data_seen_whole_end_at_their_positive_part(seed, log10_scale):
    rng = np.random.default_rng(seed)
    d = 2 + seed % 4
    M = rng.standard_normal((d, d))
    M = M + M.T
    run = mf.gradient_flow(full(M), (rng.standard_normal((d, d)),), log10_scale=log10_scale)
    values, vectors = np.linalg.eigh(M)
    nearest = (vectors * np.maximum(values, 0)) @ vectors.T
    assert run.converged
    # Where the data fit, the loss is 1e-10 of ½‖M‖², and W that far from M.
    assert np.abs(run.W - nearest).max() < 1e-5 * np.linalg.norm(M)
    assert_in_the_cone(run.W)


@pytest.mark.parametrize("rtol", [1e-2, 1e-6])
@pytest.mark.parametrize("log10_scale", [-7, -300])
def test_a_late_step_of_one_per_cent_to_a_rest_is_no_creeping(log10_scale, rtol):
    """An eigenvalue of 0.08 beside 5 waits for long, and then adds 1.6 per cent to the trace of W.

    So the per cent before the last took as long as the plateau: W was said to grow on.
    """
    V = orthogonal(np.random.default_rng(0), 3)
    problem = full((V * [5.0, 0.08, -1.0]) @ V.T)
    start = mf.small_init(problem, rng=0)
    run = mf.gradient_flow(problem, start, log10_scale=log10_scale, rtol=rtol)
    assert run.reason == LEAST_REACHED
    assert np.abs(run.W - (V * [5.0, 0.08, 0.0]) @ V.T).max() < 1e-6


@pytest.mark.parametrize("log10_scale", [0, -4])
def test_what_creeps_below_rounding_is_no_rest_however_coarse_the_steps(monkeypatch, log10_scale):
    """W_22 = 1/W_11 while W_11 → 0, like a power of t; its slope drowns at 10^5 times the data."""
    monkeypatch.setattr(drive, "far_beyond", lambda targets: np.inf)
    problem = mf.MatrixCompletion.from_text("0 1; 1 ?")
    run = mf.gradient_flow(
        problem,
        mf.small_init((2, 2), width=1, rng=3),
        log10_scale=log10_scale,
        rtol=1e-2,
        loss_tol=0,
    )
    assert run.reason == UNBOUNDED
    assert abs(run.W[1, 1]) > 1e4


def test_a_component_at_its_least_lets_the_others_arrive():
    problem = mf.SymmetricCompletion.from_text("1 2 ? ?; 2 1 ? ?; ? ? 3 1; ? ? 1 ?")
    run = mf.gradient_flow(problem, mf.small_init(problem, rng=0), log10_scale=-6)
    assert run.reason == LEAST_REACHED
    assert np.abs(run.W[:2, :2] - 1.5).max() < 1e-5
    assert np.abs(run.W[2:, 2:] - [[3, 1], [1, 1 / 3]]).max() < 1e-4
    assert run.loss[-1] == pytest.approx(0.5, rel=1e-9)


def test_a_start_that_lacks_a_direction_is_stuck_and_says_so():
    """U = e_1 never sees the second diagonal entry: a critical point with λ_1(−∇f) = 2."""
    problem = mf.SymmetricCompletion.from_text("3 0; 0 2")
    run = mf.gradient_flow(problem, ([[1.0], [0.0]],), log10_scale=-3)
    assert not run.converged
    assert run.reason == STUCK
    assert run.W == pytest.approx(np.diag([3.0, 0.0]), abs=1e-6)
    assert mf.escape_direction(problem, run.factors).rate == pytest.approx(2.0, abs=1e-6)


# ---- closed forms ---------------------------------------------------------------------------


@pytest.mark.parametrize("log10_scale", [-1, -20, -300, -10_000])
@pytest.mark.parametrize("sizes", [(5.0, 2.0, 0.7), (3.0, 3.0, 1.0), (2.0, 0.0, -1.0)])
def test_full_observation_is_a_logistic_in_each_eigenvalue(log10_scale, sizes):
    """σ_i(t) = a μ_i / (a + (μ_i − a) e^{−2μ_i t}) from a I (Li et al. 2021, Section 4).

    The starts are α V Q with the eigenvectors V; the bound is the promise, 10 rtol.
    """
    rng = np.random.default_rng(0)
    V, Q = orthogonal(rng, 3), orthogonal(rng, 3)
    mu = np.array(sizes)
    # A negative eigenvalue leaves a loss: nothing is asked of the loss then.
    run = mf.gradient_flow(
        full(V @ np.diag(mu) @ V.T), (V @ Q,), log10_scale=log10_scale, loss_tol=1e-14, t_max=1e5
    )
    log_a = 2 * log10_scale * np.log(10)
    up = mu[mu > 0]
    crossing = (np.log(up) - log_a) / (2 * up)
    near = (crossing[:, None] + np.linspace(-4, 4, 9) / (2 * up[:, None])).ravel()
    times = np.concatenate([near, np.linspace(0, run.t[-1], 30)])
    for t in times[(times >= 0) & (times <= run.t[-1])]:
        expected = [logistic(m, log_a, t) for m in mu]
        assert np.abs(run.W_at(t) - V @ np.diag(expected) @ V.T).max() < 1e-5 * mu.max()


def logistic(mu, log_a, t):
    """σ(t) from σ(0) = a = exp(log_a); for μ = 0 it is 1/(1/a + 2t)."""
    if mu == 0.0:
        return 1 / (np.exp(min(-log_a, 700.0)) + 2 * t)
    excess = mu - np.exp(log_a)
    ratio = np.exp(np.clip(np.log(abs(excess)) - log_a - 2 * mu * t, -700, 700))
    return mu / (1 + np.sign(excess) * ratio)


def test_commuting_measurements_are_scalars():
    """With X_l = V diag(x_l) Vᵀ and U = α V the eigenvalues follow dσ/dt = −2 σ g(σ), exactly."""
    rng = np.random.default_rng(3)
    V, x, y = orthogonal(rng, 3), rng.standard_normal((2, 3)), np.array([1.0, 0.8])
    problem = mf.SymmetricSensing(np.einsum("ia,la,ja->lij", V, x, V), y)
    run = mf.gradient_flow(problem, (V,), log10_scale=-4, loss_tol=1e-14)

    def slope(t, log_s):
        return -2 * (x @ np.exp(log_s) - y) @ x

    end = min(run.t[-1], 60.0)
    alone = solve_ivp(
        slope,
        (0, end),
        np.full(3, -8 * np.log(10)),
        method="DOP853",
        rtol=1e-12,
        atol=1e-12,
        dense_output=True,
    )
    for t in np.linspace(0, end, 25):
        W = V @ np.diag(np.exp(alone.sol(t))) @ V.T
        assert np.abs(run.W_at(t) - W).max() < 1e-5 * max(np.abs(W).max(), 1.0)


@pytest.mark.parametrize("log10_scale", [-20, -1000, -10_000])
def test_commuting_measurements_far_below_each_other(log10_scale):
    """Sectors that no measurement couples keep their sizes where rounding would hide them."""
    rng = np.random.default_rng(5)
    P = orthogonal(rng, 3)
    x, y = np.array([[1.0, 0.4, 0.1], [0.2, -1.0, 0.5]]), np.array([2.0, -1.0])
    X = np.einsum("la,ab->lab", x, np.eye(3))
    here = mf.gradient_flow(mf.SymmetricSensing(X, y), (np.eye(3),), log10_scale=log10_scale)
    there = mf.gradient_flow(mf.SymmetricSensing(P @ X @ P.T, y), (P,), log10_scale=log10_scale)
    assert here.converged
    assert there.converged
    assert np.abs(P.T @ there.W @ P - here.W).max() < 2e-5 * np.abs(here.W).max()


@pytest.mark.parametrize("R, log10_W", [(0.5, -16), (2.0, -16), (10.0, -600)])
def test_example_5_9_flows_to_the_rank_one_completion(R, log10_W):
    """M_rank, not M_norm: (Li et al. 2021, Example 5.9). Exponents: (1 − μ_2/μ_1) log10 α."""
    M = np.array([[1, R, 1, R], [R, R**2, R, R**2], [1, R, 1, R], [R, R**2, R, R**2]])
    mask = np.zeros((4, 4), dtype=bool)
    for i, j in [(0, 2), (0, 3), (1, 2)]:
        mask[i, j] = mask[j, i] = True
    problem = mf.SymmetricCompletion(M, mask, truth=M)
    U = mf.small_init(problem, rng=0)
    run = mf.gradient_flow(problem, U, log10_scale=log10_W / 2, loss_tol=1e-16)
    assert run.converged
    assert mf.reconstruction_error(run.W, M) < 1e-3


# ---- two factors, and other symmetries --------------------------------------------------------


@pytest.mark.parametrize("log10_scale", [-1, -6, -300, -10_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_bipartite_graph_is_the_model_of_two_factors(seed, log10_scale):
    """H bipartite without loops: U = (A; Bᵀ), W = [[A Aᵀ, A B], [Bᵀ Aᵀ, Bᵀ B]], the same clock."""
    rng = np.random.default_rng(seed)
    m, n = 2, 3
    M = rng.standard_normal((m, n))
    mask = np.array([[1, 1, 1], [1, 0, 1]]) == 1
    two = mf.MatrixCompletion(M, mask, loss="half")
    zero = np.zeros
    one = mf.SymmetricCompletion(
        np.block([[zero((m, m)), M], [M.T, zero((n, n))]]),
        np.block([[zero((m, m), bool), mask], [mask.T, zero((n, n), bool)]]),
    )
    A, B = mf.small_init((m, n), width=4, rng=seed)
    options = {"log10_scale": log10_scale, "loss_tol": 1e-14}
    pair = mf.gradient_flow(two, (A, B), **options)
    square = mf.gradient_flow(one, (np.concatenate([A, B.T]),), **options)
    assert pair.converged
    assert square.converged
    for t in np.linspace(0, min(pair.t[-1], square.t[-1]), 25):
        assert np.abs(square.W_at(t)[:m, m:] - pair.W_at(t)).max() < 2e-5 * np.abs(M).max()
    assert square.W[:m, m:][mask] == pytest.approx(M[mask], rel=1e-5)
    if log10_scale < -1:
        ranks = [phase.rank for phase in pair.phases]
        assert [phase.rank for phase in square.phases] == ranks


@pytest.mark.parametrize("power", [-150, -7, 150])
def test_the_unit_of_the_data_does_not_matter(power):
    rng = np.random.default_rng(1)
    M, mask = low_rank(rng, 4, 2), symmetric_mask(rng, 4, 0.7)
    c = 4.0 ** round(power / np.log10(4))  # a square whose root does not round
    U = rng.standard_normal((4, 4))
    one = mf.gradient_flow(mf.SymmetricCompletion(M, mask), (U,), log10_scale=-3)
    two = mf.gradient_flow(
        mf.SymmetricCompletion(c * M, mask), (U,), log10_scale=-3 + np.log10(c) / 2
    )
    assert two.converged
    assert np.abs(two.W / c - one.W).max() < 1e-5 * np.abs(M).max()
    assert two.t[-1] * c == pytest.approx(one.t[-1], rel=1e-4)


@pytest.mark.parametrize("log10_scale", SCALES)
def test_the_hidden_basis_does_not_matter(log10_scale):
    rng = np.random.default_rng(2)
    M, mask = low_rank(rng, 5, 2), symmetric_mask(rng, 5, 0.6)
    problem, U = mf.SymmetricCompletion(M, mask), rng.standard_normal((5, 5))
    one = mf.gradient_flow(problem, (U,), log10_scale=log10_scale)
    two = mf.gradient_flow(problem, (U @ orthogonal(rng, 5),), log10_scale=log10_scale)
    assert np.abs(one.W - two.W).max() < 2e-5 * np.abs(M).max()
    # And the factors come back in the basis that was given.
    assert one.factors[0] @ one.factors[0].T == pytest.approx(
        one.W, abs=1e-12 * np.abs(one.W).max()
    )


def test_components_evolve_on_their_own():
    rng = np.random.default_rng(4)
    M = np.zeros((5, 5))
    mask = np.zeros((5, 5), dtype=bool)
    blocks = [np.array([0, 2]), np.array([1, 3])]
    for vertices in blocks:
        M[np.ix_(vertices, vertices)] = low_rank(rng, 2, 1)
        mask[np.ix_(vertices, vertices)] = [[True, True], [True, False]]
    problem, U = mf.SymmetricCompletion(M, mask), rng.standard_normal((5, 5))
    run = mf.gradient_flow(problem, (U,), log10_scale=-5)
    assert run.converged
    end = min(
        mf.gradient_flow(
            mf.SymmetricCompletion(M[np.ix_(v, v)], mask[np.ix_(v, v)]), (U[v],), log10_scale=-5
        ).t[-1]
        for v in blocks
    )
    for v in blocks:
        alone = mf.gradient_flow(
            mf.SymmetricCompletion(M[np.ix_(v, v)], mask[np.ix_(v, v)]), (U[v],), log10_scale=-5
        )
        for t in np.linspace(0, end, 7):
            assert np.abs(run.W_at(t)[np.ix_(v, v)] - alone.W_at(t)).max() < 1e-5
    # A vertex without an observed entry stays where it is.
    assert run.factors[0][4] == pytest.approx(1e-5 * U[4], rel=1e-15)


# ---- a plain integrator -----------------------------------------------------------------------


def plain(problem, U, times):
    """W at the times by DOP853 with tolerances far below what is compared."""
    d, h = U.shape

    def slope(t, u):
        V = u.reshape(d, h)
        return -(problem.gradient(V @ V.T) @ V).ravel()

    found = solve_ivp(
        slope, (0, times[-1]), U.ravel(), method="DOP853", rtol=1e-12, atol=1e-18, t_eval=times
    )
    for u in found.y.T:
        yield u.reshape(d, h) @ u.reshape(d, h).T


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("log10_scale", [0, -2, -4])
def test_random_completions_against_a_plain_integrator(seed, log10_scale):
    """Indefinite data too, any width: W at equal times to 10 rtol of the data."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    h = int(rng.integers(1, d + 2))
    M = rng.standard_normal((d, d)) if seed % 2 else low_rank(rng, d, 1)
    problem = mf.SymmetricCompletion(M + M.T, symmetric_mask(rng, d, 0.6))
    U = rng.standard_normal((d, h))
    run = mf.gradient_flow(problem, (U,), log10_scale=log10_scale, t_max=40.0)
    times = np.linspace(0, run.t[-1], 30)
    size = np.nanmax(np.abs(problem.values))
    W = list(plain(problem, U * 10.0**log10_scale, times))
    for t, expected in zip(times, W, strict=True):
        assert np.abs(run.W_at(t) - expected).max() < 1e-5 * max(size, np.abs(expected).max())
        assert_in_the_cone(run.W_at(t))


@pytest.mark.parametrize("seed", range(6))
def test_random_measurements_against_a_plain_integrator(seed):
    rng = np.random.default_rng(seed)
    d, k = 3, 4
    X = rng.standard_normal((k, d, d))
    X = X + X.transpose(0, 2, 1)
    problem = mf.SymmetricSensing(X, np.einsum("lij,ij->l", X, low_rank(rng, d, 1)))
    U = rng.standard_normal((d, d))
    run = mf.gradient_flow(problem, (U,), log10_scale=-2, t_max=5.0)
    times = np.linspace(0, run.t[-1], 20)
    for t, W in zip(times, plain(problem, 0.01 * U, times), strict=True):
        assert np.abs(run.W_at(t) - W).max() < 1e-5 * max(1.0, np.abs(W).max())
    assert_in_the_cone(run.W)


# ---- batches, sizes, what else a trajectory tells ---------------------------------------------


def test_leading_axes_are_runs_of_their_own():
    problem = mf.SymmetricCompletion.from_text("2 1 ?; 1 ? 1; ? 1 3")
    (U,) = mf.small_init(problem, rng=0, batch=3)
    batch = mf.gradient_flow(problem, (U,), log10_scale=np.array([-1.0, -3.0, -5.0]))
    assert batch.W.shape == (3, 3, 3)
    for k, scale in enumerate([-1.0, -3.0, -5.0]):
        alone = mf.gradient_flow(problem, (U[k],), log10_scale=scale)
        assert (batch[k].W == alone.W).all()
        assert (batch.W[k] == alone.W).all()


def test_phases_tell_how_it_escapes():
    problem = mf.SymmetricCompletion.from_text("3 1; 1 2")
    run = mf.gradient_flow(problem, mf.small_init(problem, rng=0), log10_scale=-50)
    assert [phase.rank for phase in run.phases] == [0, 1, 2]
    values, vectors = np.linalg.eigh([[3.0, 1.0], [1.0, 2.0]])
    for phase, value, vector in zip(run.phases[:2], values[::-1], vectors.T[::-1], strict=True):
        assert phase.rate == pytest.approx(value, rel=1e-6)
        u, v = phase.direction
        assert (u == v).all()
        assert abs(u @ vector) == pytest.approx(1.0, abs=1e-9)
    assert run.gradient_norm[0] == pytest.approx(
        np.linalg.norm(problem.gradient(run.W_at(0)) @ run.factors_at(0)[0]), rel=1e-12
    )


@pytest.mark.parametrize("log10_scale", [-1.5, -100])
def test_a_matrix_of_figure_one_is_followed(log10_scale):
    """Li et al. 2021, Figure 1: 20×20, rank 3, with more entries than its 57 unknowns, h = d."""
    rng = np.random.default_rng(0)
    Q = orthogonal(rng, 20)[:, :3]
    M = Q @ np.diag([17.41, 8.85, 4.31]) @ Q.T
    problem = mf.SymmetricCompletion(M, symmetric_mask(rng, 20, 0.6), truth=M)
    run = mf.gradient_flow(
        problem, mf.small_init(problem, rng=1), log10_scale=log10_scale, rtol=1e-4
    )
    assert run.converged
    assert run.n_steps < 400
    assert_in_the_cone(run.W)
    if log10_scale == -100:
        assert mf.reconstruction_error(run.W, M) < 1e-3
        assert [phase.rank for phase in run.phases] == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("log10_scale", [-2, -40])
def test_a_large_matrix_is_followed(log10_scale):
    """150×150 goes by the methods for large components; the loss and the rank are what is asked."""
    rng = np.random.default_rng(0)
    M = low_rank(rng, 150, 2) / 10
    problem = mf.SymmetricCompletion(M, symmetric_mask(rng, 150, 0.3), truth=M)
    run = mf.gradient_flow(
        problem,
        mf.small_init(problem, width=6, rng=1),
        log10_scale=log10_scale,
        rtol=1e-4,
        loss_tol=1e-8,
    )
    assert run.reason == LOSS_REACHED
    assert_in_the_cone(run.W)
    assert mf.reconstruction_error(run.W, M) < 1e-2


def test_large_and_small_methods_agree(monkeypatch):
    """The methods for large components on a small problem."""
    from mfbook.flow.shallow import drive

    rng = np.random.default_rng(7)
    M, mask = low_rank(rng, 6, 2), symmetric_mask(rng, 6, 0.7)
    problem, U = mf.SymmetricCompletion(M, mask), rng.standard_normal((6, 3))
    dense = mf.gradient_flow(problem, (U,), log10_scale=-8, rtol=1e-6)
    monkeypatch.setattr(drive, "DENSE_P", 0)
    large = mf.gradient_flow(problem, (U,), log10_scale=-8, rtol=1e-4)
    assert large.converged
    for t in np.linspace(0, min(dense.t[-1], large.t[-1]), 20):
        assert np.abs(large.W_at(t) - dense.W_at(t)).max() < 1e-3 * np.abs(M).max()


@pytest.mark.parametrize("width", [3, 8])
def test_the_large_method_ends_at_the_least_of_the_cone(monkeypatch, width):
    """What is left of the active columns' motion must not pass for growth of the passive ones."""
    from mfbook.flow.shallow import drive

    monkeypatch.setattr(drive, "DENSE_P", 0)
    rng = np.random.default_rng(0)
    V, mu = orthogonal(rng, 8), np.array([5.0, 3.0, 2.0, -1.0, -1.5, -2.0, -2.5, -3.0])
    problem = full((V * mu) @ V.T)
    U = mf.small_init(problem, width=width, rng=1)
    run = mf.gradient_flow(problem, U, log10_scale=-2, rtol=1e-4, max_steps=500)
    assert run.reason == LEAST_REACHED
    assert run.n_steps < 200
    assert np.abs(run.W - (V * np.maximum(mu, 0)) @ V.T).max() < 1e-6
