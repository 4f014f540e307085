"""The flow against formulas, at scales that no literal integration could start from."""

import numpy as np
import pytest

from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing, examples
from tests.package.given import full

NAN = np.nan


@pytest.mark.parametrize("log10_scale", [-1, -20, -300, -10_000])
@pytest.mark.parametrize("sizes", [(5.0, 2.0, 0.7), (3.0, 3.0, 1.0)])
def test_full_observation_is_a_logistic_in_each_singular_value(log10_scale, sizes):
    """σ_i(t) = σ_i / (1 + (σ_i/α² − 1) e^{−2σ_i t}) from A = αUQ, B = αQᵀVᵀ. (Li et al. 2021, §4.)

    Equal singular values are among the cases. The bound is the promise, 10 rtol.
    """
    rng = np.random.default_rng(0)
    U, V, Q = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(3))
    sizes = np.array(sizes)
    run = gradient_flow(
        full(U @ np.diag(sizes) @ V.T, loss="half"),
        (U @ Q, Q.T @ V.T),
        log10_scale=log10_scale,
        loss_tol=1e-14,
    )
    log_a2 = 2 * log10_scale * np.log(10)
    crossing = (np.log(sizes) - log_a2) / (2 * sizes)
    near = (crossing[:, None] + np.linspace(-4, 4, 9) / (2 * sizes[:, None])).ravel()
    times = np.concatenate([near, np.linspace(0, run.t[-1], 30)])
    for t in times[(times >= 0) & (times <= run.t[-1])]:
        with np.errstate(over="ignore"):
            odds = np.exp(log_a2 - np.log(sizes) + 2 * sizes * t)  # s(t)/(σ − s(t)), nearly
            start = 1 - np.exp(log_a2 - np.log(sizes))
            expected = sizes / (1 + start / np.maximum(odds, 1e-300))
        W = U @ np.diag(expected) @ V.T
        assert np.abs(run.W_at(t) - W).max() < 1e-5 * sizes[0]
    assert run.converged


def gram_schmidt_of_start(U, V, A, B):
    """Rows: U_pᵀA_p + V_pᵀB_pᵀ, orthonormalized from the largest singular value down."""
    C = U.T @ A + V.T @ B.T
    Q, R = np.linalg.qr(C.T)
    return (Q * np.sign(np.diag(R))).T


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("log10_scale", [-12, -100, -10_000])
def test_complete_bipartite_components_have_the_closed_form(seed, log10_scale):
    """W_pq = U_p Σ_p^½ C_p C_qᵀ Σ_q^½ V_qᵀ as α → 0, for two blocks of rank 2."""
    rng = np.random.default_rng(seed)
    values, mask = np.zeros((5, 5)), np.zeros((5, 5), dtype=bool)
    blocks = [(slice(0, 2), slice(0, 3)), (slice(2, 5), slice(3, 5))]
    roots = []
    A, B = small_init((5, 5), rng=rng)
    for (rows, cols), sizes in zip(blocks, ([4.0, 1.5], [3.0, 1.0]), strict=True):
        m, n = rows.stop - rows.start, cols.stop - cols.start
        U = np.linalg.qr(rng.standard_normal((m, m)))[0][:, :2]
        V = np.linalg.qr(rng.standard_normal((n, n)))[0][:, :2]
        values[rows, cols], mask[rows, cols] = U @ np.diag(sizes) @ V.T, True
        C = gram_schmidt_of_start(U, V, A[rows], B[:, cols])
        roots.append((U @ np.diag(np.sqrt(sizes)) @ C, C.T @ np.diag(np.sqrt(sizes)) @ V.T))
    limit = np.concatenate([root[0] for root in roots]) @ np.concatenate(
        [root[1] for root in roots], axis=1
    )
    run = gradient_flow(
        MatrixCompletion(values, mask), (A, B), log10_scale=log10_scale, loss_tol=1e-16
    )
    # α^(1 − σ_2/σ_1) ≤ 1e-7 separates the modes; then rtol rules.
    assert np.abs(run.W - limit).max() < 1e-5
    assert np.linalg.norm(run.W, "nuc") == pytest.approx(9.5, abs=1e-6)


def test_the_angle_decides_the_disconnected_entry():
    problem = examples.disconnected_3x3
    for seed in range(4):
        A, B = small_init((3, 3), rng=seed)
        c1 = np.array([1, 0, 3]) / np.sqrt(10) @ (A + B.T)
        c2 = A[1] + B[:, 1]
        cosine = c1 @ c2 / np.linalg.norm(c1) / np.linalg.norm(c2)
        run = gradient_flow(problem, (A, B), log10_scale=-9, loss_tol=1e-17)
        assert run.W[0, 1] == pytest.approx(np.sqrt(50) * cosine / np.sqrt(10), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "log10_scale", "learned", "steps"),
    [
        ("1 2; 20 ?", -20, 40.0, 500),
        ("1 2; 100 ?", -100, 200.0, 1500),
        ("1 2; 100 ?", -10_000, 200.0, 1500),
    ],
)
def test_the_rank_one_completion_is_learned_from_small_enough(text, log10_scale, learned, steps):
    problem = MatrixCompletion.from_text(text)
    run = gradient_flow(problem, small_init((2, 2), rng=0), log10_scale=log10_scale, loss_tol=1e-16)
    assert run.W[1, 1] == pytest.approx(learned, abs=1e-3)
    assert run.n_steps <= steps


def test_not_small_enough_learns_less():
    run = gradient_flow(
        MatrixCompletion.from_text("1 2; 100 ?"), small_init((2, 2), rng=0), log10_scale=-41
    )
    assert 155 < run.W[1, 1] < 165


def test_steps_do_not_depend_on_the_scale():
    problem = examples.connected_4x4
    factors = small_init((4, 4), rng=0)
    near, far = (gradient_flow(problem, factors, log10_scale=s).n_steps for s in (-10, -10_000))
    assert far <= 2 * near


CREEPING = [
    [-0.77332568, -0.15567548, 0.88379571, -0.64873607],
    [-1.54627396, -0.82797044, NAN, -1.16291341],
    [-1.98476209, NAN, NAN, -1.28724766],
    [2.16570731, 0.24208864, NAN, NAN],
]


def test_a_connected_problem_that_stays_at_rank_three():
    """The loss creeps inside Ω_2 while W grows, so that σ_3 shrinks only logarithmically in α.

    The time at which a column leaves Ω_2 was checked with SciPy's Radau on the rank-2 equations
    and a normalized third column (rtol 1e-8): its log-norm agrees to 2e-6 of 1,151 at 10^-1000.
    """
    M = np.array(CREEPING)
    problem = MatrixCompletion(M, np.isfinite(M))
    factors = small_init((4, 4), rng=0)
    third = [
        gradient_flow(problem, factors, log10_scale=s).singular_values[-1, 2] for s in (-10, -100)
    ]
    assert third == pytest.approx([0.08912, 0.05823], abs=2e-4)


def test_sensing_with_unit_matrices_is_completion():
    problem = MatrixCompletion.from_text("1 2 ?; 3 ? 4", loss="half")
    i, j = np.nonzero(problem.mask)
    X = np.zeros((len(i), 2, 3))
    X[np.arange(len(i)), i, j] = 1
    factors = small_init((2, 3), rng=0)
    a = gradient_flow(problem, factors, log10_scale=-30)
    b = gradient_flow(MatrixSensing(X, problem.values[i, j]), factors, log10_scale=-30)
    assert np.allclose(a.W, b.W, rtol=0, atol=1e-7)
    assert np.allclose(a.t[-1], b.t[-1], rtol=1e-3)
