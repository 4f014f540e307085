"""Subspaces that the exact flow never leaves, and directions that rounding would lose."""

import numpy as np
import pytest

from mfbook.flow import gradient_flow
from mfbook.flow.shallow.field import SensingField
from mfbook.flow.shallow.sectors import falls_apart, in_sectors, invariant_basis
from mfbook.flow.trajectory import LOSS_REACHED, ROUNDING, STUCK
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing, examples
from tests.package.given import full, orthogonal


def assert_psd(run, sign=1.0):
    W = sign * run.W
    assert np.abs(W - W.T).max() <= 1e-12 * np.abs(W).max()
    assert np.linalg.eigvalsh((W + W.T) / 2)[0] >= -1e-12 * np.abs(W).max()


@pytest.mark.parametrize("log10_scale", [0, -3, -100, -10_000])
def test_the_smallest_symmetric_example_stays_semidefinite(log10_scale):
    """ "1 2; 2 1" from (I, I): W = A Aᵀ cannot reach the eigenvalue −1 of the data."""
    problem = MatrixCompletion.from_text("1 2; 2 1")
    run = gradient_flow(problem, (np.eye(2), np.eye(2)), log10_scale=log10_scale)
    assert run.reason == STUCK
    assert np.abs(run.W - 1.5).max() < 1e-5
    assert_psd(run)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("log10_scale", [0, -8, -300])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_symmetric_data_from_a_symmetric_start(seed, log10_scale, sign):
    """(A, ±Aᵀ) keeps W = ±A Aᵀ; seen whole, the end is the semidefinite part of the data."""
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((3, 3))
    M = M + M.T
    A = rng.standard_normal((3, 3))
    run = gradient_flow(full(M), (A, sign * A.T), log10_scale=log10_scale)
    assert_psd(run, sign)
    values, vectors = np.linalg.eigh(sign * M)
    nearest = sign * (vectors * np.maximum(values, 0)) @ vectors.T
    assert np.abs(run.W - nearest).max() < 1e-4 * np.abs(M).max()


@pytest.mark.parametrize("seed", range(4))
def test_symmetric_completion_from_a_symmetric_start_in_another_hidden_basis(seed):
    """(A Q, Qᵀ Aᵀ) is the same start, and the flow the same."""
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((4, 4))
    mask = rng.random((4, 4)) < 0.7
    problem = MatrixCompletion(M + M.T, mask | mask.T | np.eye(4, dtype=bool))
    A, Q = rng.standard_normal((4, 4)), orthogonal(rng, 4)
    one = gradient_flow(problem, (A, A.T), log10_scale=-20)
    two = gradient_flow(problem, (A @ Q, Q.T @ A.T), log10_scale=-20)
    assert_psd(one)
    assert_psd(two)
    assert np.abs(one.W - two.W).max() < 2e-5 * np.abs(one.W).max()


@pytest.mark.parametrize("target", [2.0, -2.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_entry(target, sign):
    """A = ±B keeps the sign of w = A B: a target of the other sign is never reached."""
    run = gradient_flow(full([[target]]), ([[1.0]], [[sign]]), log10_scale=-3)
    if target * sign > 0:
        assert run.reason == LOSS_REACHED
        assert run.W[0, 0] == pytest.approx(target, abs=1e-4)
    else:
        assert run.reason == STUCK
        assert abs(run.W[0, 0]) < 1e-10


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_start_of_rank_one_stays_of_rank_one(width):
    rng = np.random.default_rng(width)
    row = rng.standard_normal((1, width))
    A, B = rng.standard_normal((3, 1)) @ row, row.T @ rng.standard_normal((1, 3))
    run = gradient_flow(full(np.diag([3.0, 2.0, 1.0])), (A, B), log10_scale=-300)
    assert run.reason == STUCK
    assert np.abs(run.W - np.diag([3.0, 0, 0])).max() < 1e-5


X = np.array([np.diag([1.0, 0.5, 0.2]), np.diag([0.3, 1.0, 0.7])])
Y = np.array([2.0, 1.0])


def commuting_limit(A, B):
    """Where two targets let eigenvectors 1 and 2 grow: diagonal and hidden angles in closed form.

    Every row vector c_i = A_i + B_iᵀ of the sectors only grows, so the off-diagonal entries are
    √(w_i w_j) times the cosine of its start; the two entries that are learned fit both targets.
    """
    w = np.zeros(3)
    w[:2] = np.linalg.solve(X[:, [0, 1], [0, 1]], Y)
    c = A + B.T
    c = c / np.linalg.norm(c, axis=1, keepdims=True)
    return np.sqrt(np.outer(w, w)) * (c @ c.T)


@pytest.mark.parametrize("log10_scale", [-8, -30, -300, -3000])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rotated", [False, True])
def test_commuting_measurements_have_sectors_of_their_own(seed, rotated, log10_scale):
    rng = np.random.default_rng(seed)
    A, B = small_init((3, 3), rng=rng)
    P, R = (orthogonal(rng, 3), orthogonal(rng, 3)) if rotated else (np.eye(3), np.eye(3))
    run = gradient_flow(
        MatrixSensing(P @ X @ R.T, Y), (P @ A, B @ R.T), log10_scale=log10_scale, loss_tol=1e-14
    )
    assert run.converged
    assert np.abs(P.T @ run.W @ R - commuting_limit(A, B)).max() < 1e-3


@pytest.mark.parametrize("log10_scale", [-10, -100, -1000])
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_sector_that_turns_round_remembers_its_start(rotated, width, log10_scale):
    """⟨X_1, W⟩ = w_1 + 3 w_2 = 1 is met first by w_2 > 0; then w_1 − w_2 = 4 makes w_2 negative.

    So a_2 + b_2 grows, and a_2 − b_2 drowns beside it, before it is a_2 − b_2 that is left. Each
    keeps its direction in the hidden space, so the off-diagonal entries have a closed form.
    """
    measurements = np.array([np.diag([1.0, 3.0]), 0.2 * np.diag([1.0, -1.0])])
    w = np.array([13 / 4, -3 / 4])
    rng = np.random.default_rng(width)
    A, B = rng.standard_normal((2, width)), rng.standard_normal((width, 2))
    P, R = (orthogonal(rng, 2), orthogonal(rng, 2)) if rotated else (np.eye(2), np.eye(2))
    run = gradient_flow(
        MatrixSensing(P @ measurements @ R.T, [1.0, 0.8]),
        (P @ A, B @ R.T),
        log10_scale=log10_scale,
        loss_tol=1e-14,
    )
    assert run.converged
    assert max((P.T @ phase.W @ R)[1, 1] for phase in run.phases) > 0.1
    c = A + np.sign(w)[:, None] * B.T
    c = np.sqrt(np.abs(w))[:, None] * c / np.linalg.norm(c, axis=1, keepdims=True)
    assert np.abs(P.T @ run.W @ R - c @ (c * np.sign(w)[:, None]).T).max() < 1e-4


@pytest.mark.parametrize("log10_scale", [-0.5, -2, -30, -300])
def test_commuting_measurements_from_the_identity_stay_in_their_eigenbasis(log10_scale):
    P = orthogonal(np.random.default_rng(3), 3)
    one = gradient_flow(MatrixSensing(X, Y), (np.eye(3), np.eye(3)), log10_scale=log10_scale)
    two = gradient_flow(
        MatrixSensing(P @ X @ P.T, Y), (np.eye(3), np.eye(3)), log10_scale=log10_scale
    )
    assert one.converged
    assert two.converged
    assert np.abs(one.W - np.diag(np.diag(one.W))).max() == 0.0
    assert np.abs(P.T @ two.W @ P - one.W).max() < 2e-5


def test_sectors_of_more_than_one_row():
    """Blocks of 2×2 measurements, rotated out of sight: the same flow as two problems side by side.

    Every measurement sees one block, so the blocks do not know of each other.
    """
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((2, 3, 2, 2))
    measurements = np.zeros((6, 4, 4))
    measurements[:3, :2, :2], measurements[3:, 2:, 2:] = blocks
    y = rng.standard_normal(6)
    P, R = orthogonal(rng, 4), orthogonal(rng, 4)
    A, B = small_init((4, 4), rng=rng)
    for log10_scale in (-2, -50):
        options = {"log10_scale": log10_scale, "t_max": 2.0 + 2.0 * abs(log10_scale), "loss_tol": 0}
        whole = gradient_flow(MatrixSensing(P @ measurements @ R.T, y), (P @ A, B @ R.T), **options)
        for k, at in enumerate((slice(0, 2), slice(2, 4))):
            part = gradient_flow(
                MatrixSensing(blocks[k], y[3 * k : 3 * k + 3]), (A[at], B[:, at]), **options
            )
            for t in np.linspace(0, min(whole.t[-1], part.t[-1]), 12):
                W = P.T @ whole.W_at(t) @ R
                assert np.abs(W[at, at] - part.W_at(t)).max() < 2e-5 * 3


EVEN = "4 ? 3 ?; ? 4 ? 3; 2 ? ? 3; ? 2 3 ?"


@pytest.mark.parametrize("log10_scale", [-10, -60, -200])
def test_data_with_a_symmetry_are_followed_as_far_as_rounding_allows(log10_scale):
    run = gradient_flow(
        MatrixCompletion.from_text(EVEN), small_init((4, 4), rng=0), log10_scale=log10_scale
    )
    assert run.converged
    if log10_scale < -50:
        assert run.singular_values[-1, :2] == pytest.approx([12.333, 2.370], abs=2e-3)


@pytest.mark.parametrize("log10_scale", [-300, -400, -1000, -10_000])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_rounding_decides_is_said(seed, log10_scale):
    """Swapping rows 1, 2 and 3, 4 and columns 1, 2 and 3, 4 changes nothing in the data.

    So S falls apart into an even and an odd sector. Below about 10^-250 what the columns hold of
    the odd one drowns in rounding; the end was that of the even sector, with `converged=True`.
    """
    run = gradient_flow(
        MatrixCompletion.from_text(EVEN), small_init((4, 4), rng=seed), log10_scale=log10_scale
    )
    assert not run.converged
    assert run.reason == ROUNDING


@pytest.mark.parametrize("log10_scale", [-10, -1000, -10_000])
def test_what_has_no_symmetry_is_not_suspected(log10_scale):
    for problem in (examples.M4, examples.connected_4x4, examples.talk_observed_zero):
        run = gradient_flow(problem, small_init(problem.shape, rng=0), log10_scale=log10_scale)
        assert run.converged


def test_an_invariant_subspace_is_found_and_no_other():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((3, 3))
    field = SensingField(np.eye(9).reshape(9, 3, 3), (M + M.T).ravel(), 0.5)
    A = rng.standard_normal((3, 2))
    E = invariant_basis(field, np.linalg.qr(np.concatenate([A, A]))[0])
    assert E.shape == (6, 3)
    assert np.abs(E[:3] - E[3:]).max() < 1e-14
    assert np.abs(E.T @ E - np.eye(3)).max() < 1e-14
    assert invariant_basis(field, np.linalg.qr(rng.standard_normal((6, 1)))[0]) is None


def test_bases_in_which_measurements_are_blocks():
    rng = np.random.default_rng(1)
    P, R = orthogonal(rng, 3), orthogonal(rng, 3)
    field = in_sectors(SensingField(P @ X @ R.T, Y, 0.5))
    assert sorted(map(len, field.blocks)) == [1] * 6  # sums and differences of a row and a column
    generic = SensingField(rng.standard_normal((2, 3, 3)), Y, 0.5)
    assert in_sectors(generic) is generic


def test_common_invariant_subspaces():
    rng = np.random.default_rng(2)
    Q = orthogonal(rng, 5)
    blocks = np.zeros((3, 5, 5))
    blocks[:, :2, :2], blocks[:, 2:, 2:] = (
        rng.standard_normal((3, 2, 2)),
        rng.standard_normal((3, 3, 3)),
    )
    blocks = blocks + np.swapaxes(blocks, 1, 2)
    assert falls_apart(Q @ blocks @ Q.T)
    whole = rng.standard_normal((3, 5, 5))
    assert not falls_apart(whole + np.swapaxes(whole, 1, 2))
    assert falls_apart(np.zeros((3, 5, 5)))  # what moves nothing keeps every subspace


def test_a_sector_that_has_nothing_to_learn_keeps_no_run_from_its_end():
    """From 10^-1000 its W is zero in double precision, and so is its part of S."""
    rng = np.random.default_rng(3)
    X = np.zeros((4, 4, 4))
    X[:2, :2, :2], X[2:, 2:, 2:] = rng.standard_normal((2, 2, 2, 2))
    W = np.zeros((4, 4))
    W[:2, :2] = np.outer([1.0, 2.0], [1.0, -1.0])
    problem = MatrixSensing(X, np.einsum("lij,ij->l", X, W))
    run = gradient_flow(problem, small_init((4, 4), rng=0), log10_scale=-1000)
    assert run.converged
    assert np.abs(problem.residual(run.W)).max() < 1e-4
    assert not run.W[2:].any() and not run.W[:, 2:].any()
