"""Starts on sets that the exact flow keeps in bases that no zeros show, at every depth.

Measurements with common eigenvectors, from layers that have them too: all stays diagonal, and the
eigenvalues obey an equation of their own, which has a closed form.
"""

import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import linprog

from mfbook.flow import gradient_flow
from mfbook.flow.deep.invariant_parts import falls_apart
from mfbook.flow.deep.symmetry import Kept
from mfbook.flow.determinants import sign_has_changed
from mfbook.flow.greedy_path import NOT_SIMPLE
from mfbook.flow.limit import deep_limit
from mfbook.flow.trajectory import ADVICE, CROSSED, LOSS_REACHED, ROUNDING
from mfbook.models import product, small_init
from mfbook.models.product import factor_gradients
from mfbook.problems import MatrixCompletion, MatrixSensing, SymmetricSensing
from tests.package.given import full, orthogonal


def with_eigenvalues(Q, w):
    return (Q * w) @ Q.T


def commuting(seed, n, k, kind=MatrixSensing):
    """k measurements with random common eigenvectors Q, that some W ⪰ 0 fits; d, y, Q."""
    rng = np.random.default_rng([5, seed])
    Q, d = orthogonal(rng, n), rng.standard_normal((k, n))
    y = d @ np.square(rng.standard_normal(n))
    return kind(np.array([with_eigenvalues(Q, row) for row in d]), y), d, y, Q


def eigenvalues_at_the_end(d, y, start, depth):
    """Those for one measurement Σ d_i w_i = y from layers with the eigenvalues `start`.

    a_i^−(N−2) falls at the rate (N−2) d_i · (what the residual adds up to); for N = 2 it is ln a_i.
    """
    with mp.workdps(900):
        d, y = [mp.mpf(x) for x in d], mp.mpf(y)
        power = depth - 2

        def w(s):
            if power == 0:
                return [a**2 * mp.exp(x * s) for a, x in zip(start, d, strict=True)]
            slack = [a**-power - x * s for a, x in zip(start, d, strict=True)]
            return [mp.inf if z <= 0 else z ** (-mp.mpf(depth) / power) for z in slack]

        def excess(s):
            found = w(s)
            if any(x == mp.inf for x in found):
                (blown,) = {mp.sign(x) for x, v in zip(d, found, strict=True) if v == mp.inf}
                return blown * mp.inf
            return sum(x * v for x, v in zip(d, found, strict=True)) - y

        low, high = mp.mpf(-1), mp.mpf(1)
        while excess(high) < 0:
            high *= 2
        while excess(low) > 0:
            low *= 2
        for _ in range(2600):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
        return np.array([float(x) for x in w((low + high) / 2)])


def least_trace(d, y):
    """The limit: for generic d the only w ≥ 0 of smallest sum."""
    return linprog(np.ones(d.shape[1]), A_eq=d, b_eq=y).x


@pytest.mark.parametrize("log10_scale", [-2, -8, -30, -100])
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("seed", range(2))
def test_one_measurement_ends_where_its_eigenvalues_do(seed, depth, log10_scale):
    problem, d, y, Q = commuting(seed, 3, 1)
    run = gradient_flow(problem, (np.eye(3),) * depth, log10_scale=log10_scale, loss_tol=1e-16)
    w = eigenvalues_at_the_end(d[0], y[0], [mp.mpf(10) ** log10_scale] * 3, depth)
    assert run.converged
    assert np.abs(run.W - with_eigenvalues(Q, w)).max() < 2e-5 * w.max()


@pytest.mark.parametrize("log10_scale", [-8, -30, -100])
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize(("n", "k"), [(4, 2), (5, 2), (5, 3)])
def test_more_measurements_end_at_the_least_trace(n, k, depth, log10_scale):
    problem, d, y, Q = commuting(10 * n + k, n, k)
    run = gradient_flow(problem, (np.eye(n),) * depth, log10_scale=log10_scale, loss_tol=1e-14)
    w = least_trace(d, y)
    off = np.abs(run.W - with_eigenvalues(Q, w)).max() / w.max()
    # For two factors the limit is reached as a power of the scale only.
    assert run.converged and (off < 2e-5 or (depth == 2 and log10_scale == -8 and off < 0.1))


@pytest.mark.parametrize("depth", [3, 4])
def test_layers_with_other_eigenvalues_in_turned_hidden_bases(depth):
    """W_j = H_{j−1} K H_jᵀ with K ≻ 0 in the eigenbasis: the same W as from K, at all times."""
    rng = np.random.default_rng(depth)
    problem, d, y, Q = commuting(depth, 3, 1)
    start = [mp.mpf(x) for x in rng.uniform(0.5, 1, 3)]
    K = with_eigenvalues(Q, np.array(start, dtype=float))
    H = [np.eye(3), *(orthogonal(rng, 3) for _ in range(depth - 1)), np.eye(3)]
    layers = tuple(H[j] @ K @ H[j + 1].T for j in range(depth))
    for log10_scale in (-2, -50):
        run = gradient_flow(problem, layers, log10_scale=log10_scale, loss_tol=1e-16)
        scaled = [mp.mpf(10) ** log10_scale * x for x in start]
        w = eigenvalues_at_the_end(d[0], y[0], scaled, depth)
        assert run.converged
        assert np.abs(run.W - with_eigenvalues(Q, w)).max() < 2e-5 * w.max()
        assert np.abs(product(run.factors) - run.W).max() < 1e-12 * w.max()


@pytest.mark.parametrize("log10_scale", [-2, -30, -100])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_symmetric_data_end_at_their_semidefinite_part(depth, log10_scale):
    """Layers α I of positive eigenvalues cannot learn negative ones; equal ones stay equal."""
    rng = np.random.default_rng(depth)
    Q = orthogonal(rng, 4)
    positive, tied, indefinite = [3.0, 2, 1, 0.5], [2.0, 2, 1, 1], [3.0, 1, -1, -2]
    for values in (positive, tied, indefinite):
        w = np.array(values)
        run = gradient_flow(
            full(with_eigenvalues(Q, w)), (np.eye(4),) * depth, log10_scale=log10_scale
        )
        assert run.converged == (w.min() > 0) or (values == tied and run.reason == ROUNDING)
        assert np.abs(run.W - with_eigenvalues(Q, np.maximum(w, 0))).max() < 2e-3


@pytest.mark.parametrize("log10_scale", [-2, -30, -100])
def test_direct_sums_and_swaps(log10_scale):
    """Blocks stay apart, each in its eigenbasis; a swap of rows and columns is kept."""
    eye = (np.eye(4),) * 3
    blocks = MatrixCompletion.from_text("2 1 ? ?; 1 2 ? ?; ? ? 5 1; ? ? 1 5")
    run = gradient_flow(blocks, eye, log10_scale=log10_scale)
    assert run.converged and np.abs(run.W[:2, 2:]).max() == 0.0
    swapped = MatrixCompletion.from_text("4 ? 3 ?; ? 4 ? 3; 3 ? ? 3; ? 3 3 ?")
    run = gradient_flow(swapped, eye, log10_scale=log10_scale)
    order = [1, 0, 3, 2]
    assert not run.converged or np.abs(run.W[np.ix_(order, order)] - run.W).max() < 1e-5


@pytest.mark.parametrize("log10_scale", [-2, -30, -100])
def test_one_factor(log10_scale):
    problem, d, y, Q = commuting(3, 4, 1, SymmetricSensing)
    run = gradient_flow(problem, (np.eye(4),), log10_scale=log10_scale, loss_tol=1e-16)
    w = eigenvalues_at_the_end(d[0], y[0], [mp.mpf(10) ** log10_scale] * 4, 2)
    assert run.converged
    assert np.abs(run.W - with_eigenvalues(Q, w)).max() < 2e-5 * w.max()


def test_the_process_of_an_infinitesimal_start_is_kept_too():
    problem, d, y, Q = commuting(1, 3, 1)
    limit = deep_limit(problem, (np.eye(3),) * 3)
    assert limit.converged
    assert np.abs(limit.W - with_eigenvalues(Q, least_trace(d, y))).max() < 1e-4


@pytest.mark.parametrize("log10_scale", [-8, -30, -100])
def test_copies_stay_equal_or_are_doubted(log10_scale):
    """w_1 + w_2 + w_3 = 1 from α I: all equal for ever. Rounding lets one of them win."""
    rng = np.random.default_rng(0)
    for Q in (np.eye(3), orthogonal(rng, 3)):
        problem = MatrixSensing(with_eigenvalues(Q, np.ones(3))[None], [1.0])
        run = gradient_flow(problem, (np.eye(3),) * 3, log10_scale=log10_scale)
        assert run.reason == ROUNDING or np.abs(run.W - np.eye(3) / 3).max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("log10_scale", [-2, -8, -30])
def test_layers_that_are_a_mirror_stay_so_or_are_doubted(seed, log10_scale):
    """(A, S, Aᵀ) on symmetric data keeps W symmetric."""
    rng = np.random.default_rng(seed)
    A, S, M = rng.standard_normal((3, 4, 4))
    mask = rng.random((4, 4)) < 0.6
    problem = MatrixCompletion(M + M.T, mask | mask.T | np.eye(4, dtype=bool))
    run = gradient_flow(problem, (A, S + S.T, A.T), log10_scale=log10_scale)
    assert not run.converged or np.abs(run.W - run.W.T).max() < 1e-4 * np.abs(run.W).max()


def odd_mirrors(seed):
    """Layers W_j that are W_{N+1−j}ᵀ up to a factor, which is no symmetry; of 1×1 all are."""
    rng = np.random.default_rng([21, seed])
    A, B, M = rng.standard_normal((3, 2, 2))
    a, b, c, d = rng.standard_normal((4, 1, 1))
    yield full(M + M.T), (A, B + B.T, 2 * A.T)
    yield full(M + M.T), (A, B, 3 * B.T, A.T)
    yield full(-np.sign(a * b * c * d)), (a, b, c, d)


@pytest.mark.parametrize("seed", range(8))
def test_layers_that_are_a_mirror_up_to_a_factor_are_no_mirror(seed):
    for problem, layers in odd_mirrors(seed):
        assert not Kept(layers, *about(problem)).mirrored
        run = gradient_flow(problem, layers, log10_scale=-2)
        assert run.reason == LOSS_REACHED
        begun = gradient_flow(problem, layers, log10_scale=-0.5, t_max=2.0, loss_tol=0.0)
        exact = solve_ivp(
            lambda t, y, problem=problem, layers=layers: -pulled_back(problem, layers, y),
            (0.0, 2.0),
            10**-0.5 * np.concatenate([layer.ravel() for layer in layers]),
            method="DOP853",
            rtol=1e-11,
            atol=1e-13,
        )
        ends = product(layers_of(layers, exact.y[:, -1]))
        assert np.abs(begun.W - ends).max() < 1e-5 * np.abs(problem.values).max()


def layers_of(layers, flat):
    ends = np.cumsum([layer.size for layer in layers])[:-1]
    parts = np.split(flat, ends)
    return [part.reshape(layer.shape) for part, layer in zip(parts, layers, strict=True)]


def pulled_back(problem, layers, flat):
    now = layers_of(layers, flat)
    slopes = factor_gradients(now, problem.gradient(product(now)))
    return np.concatenate([slope.ravel() for slope in slopes])


def test_large_layers_are_kept_or_doubted():
    rng = np.random.default_rng(0)
    w = np.concatenate([[3.0, 2, -1], np.zeros(17)])
    run = gradient_flow(
        full(with_eigenvalues(orthogonal(rng, 20), w)), (np.eye(20),) * 3, log10_scale=-8, rtol=1e-4
    )
    assert not run.converged


def about(problem):
    at_zero = problem.gradient(np.zeros(problem.shape))
    return at_zero, lambda W: problem.gradient(W) - at_zero


@pytest.mark.parametrize("seed", range(30))
def test_parts_are_found_in_any_bases(seed):
    rng = np.random.default_rng(seed)
    n, k, depth = int(rng.integers(2, 7)), int(rng.integers(1, 4)), int(rng.integers(3, 6))
    problem, _, _, Q = commuting(seed, n, k)
    H = [Q, *(orthogonal(rng, n) for _ in range(depth - 1)), Q]
    layers = tuple(H[j] * rng.uniform(0.3, 1, n) @ H[j + 1].T for j in range(depth))
    apart = falls_apart(layers, *about(problem))
    assert apart is not None and [len(set(labels)) for labels in apart.labels] == [n] * (depth + 1)
    for before, after in zip(layers, apart.layers(layers), strict=True):
        assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=1e-12)
    W = product(layers)
    P, R = apart.ends
    assert np.abs(P @ product(apart.layers(layers)) @ R.T - W).max() < 1e-12


def test_blocks_of_two_are_no_smaller():
    """A direct sum of two generic problems of shape 2×2, rotated out of sight."""
    rng = np.random.default_rng(3)
    M, V = np.zeros((4, 4)), np.zeros((3, 4, 4))
    for at in (slice(0, 2), slice(2, 4)):
        M[at, at], V[:, at, at] = rng.standard_normal((2, 2)), rng.standard_normal((3, 2, 2))
    P, R = orthogonal(rng, 4), orthogonal(rng, 4)
    layers = (P @ V[0], V[1], V[2] @ R.T)
    apart = falls_apart(layers, *about(full(P @ M @ R.T)))
    assert [sorted(np.bincount(labels)) for labels in apart.labels] == [[2, 2]] * 4


@pytest.mark.parametrize("seed", range(20))
def test_a_generic_start_has_no_symmetry(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 6, 2))
    mask = rng.random(shape) < 0.7
    mask[0] = mask[:, 0] = True
    problem = MatrixCompletion(rng.standard_normal(shape), mask)
    layers = small_init(shape, depth=3, rng=rng)
    assert falls_apart(layers, *about(problem)) is None
    assert not Kept(layers, *about(problem), with_parts=True).anything


def test_what_is_tiny_and_no_rounding_is_not_dropped():
    """A link of 1e-20 between two diagonal parts is a number of the caller's."""
    problem = MatrixSensing(np.array([np.diag([1.0, 2.0])]), [1.0])
    linked = np.array([[1.0, 1e-20], [1e-20, 1.0]])
    assert falls_apart((linked, np.eye(2), np.eye(2)), *about(problem)) is None


def test_a_mirror_and_copies_are_noticed():
    rng = np.random.default_rng(1)
    A, S, T, M = rng.standard_normal((4, 4, 4))
    P, R = orthogonal(rng, 4), orthogonal(rng, 4)
    turned = full(P @ (M + M.T) @ R.T)
    mirror = Kept((P @ A, S + S.T, A.T @ R.T), *about(turned))
    assert mirror.mirrored and not mirror.copies
    assert mirror.holds((P @ T, M + M.T, T.T @ R.T))
    assert not mirror.holds((P @ T, M, T.T @ R.T))
    assert not Kept((P @ A, S + S.T, T @ R.T), *about(turned)).anything
    assert not Kept((P @ A, S, A.T @ R.T), *about(turned)).anything
    tied = Kept((np.eye(4),) * 3, *about(full(with_eigenvalues(P, np.array([2.0, 2, 1, 3])))))
    assert tied.copies == 1 and tied.mirrored
    assert not tied.holds((with_eigenvalues(P, np.array([2.0, 0, 1, 3])),) * 3)


def balanced(rng, n, depth, sign):
    """Balanced layers whose product has a determinant of that sign."""
    s = rng.uniform(0.5, 1, n)
    H = [orthogonal(rng, n) for _ in range(depth + 1)]
    layers = [H[j] * s @ H[j + 1].T for j in range(depth)]
    if np.sign(np.linalg.det(product(layers))) != sign:
        layers[0] = layers[0] - 2 * np.outer(H[0][:, 0], H[0][:, 0]) @ layers[0]
    return tuple(layers)


CORNER = MatrixCompletion.from_text("? 1; 1 0", loss="half")


@pytest.mark.parametrize("log10_scale", [0, -1, -3])
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_sign_of_a_determinant_is_kept_or_the_run_says_so(seed, depth, log10_scale):
    """det W = −1 for all fits; from det W > 0 the exact flow has none to end at."""
    rng = np.random.default_rng(seed)
    run = gradient_flow(CORNER, balanced(rng, 2, depth, 1.0), log10_scale=log10_scale)
    assert not run.converged and ADVICE[run.reason]
    assert depth > 2 or run.reason == CROSSED
    run = gradient_flow(CORNER, balanced(rng, 2, depth, -1.0), log10_scale=log10_scale)
    # From tiny scales four factors may run away along [[x, 1], [1, −1/x]], where det W < 0 too.
    assert np.linalg.det(run.W) < 0 and (run.converged or (depth == 4 and log10_scale == -3))


def test_the_sign_of_three_rows():
    """The same corner beside a number that is learned: square layers of three rows."""
    problem = MatrixCompletion.from_text("? 1 0; 1 0 0; 0 0 2", loss="half")
    rng = np.random.default_rng(0)
    run = gradient_flow(problem, balanced(rng, 3, 2, 1.0), log10_scale=-1)
    assert not run.converged
    assert gradient_flow(problem, balanced(rng, 3, 2, -1.0), log10_scale=-1).converged


def test_which_signs_are_kept():
    rng = np.random.default_rng(0)
    A, B = balanced(rng, 3, 2, 1.0)
    reflected = np.diag([1.0, 1, -1])
    assert sign_has_changed((A, B), (A @ reflected, B))
    assert not sign_has_changed((A, B), (A @ reflected @ reflected, B))
    # Of unbalanced layers the larger one is kept, the smaller one may cross zero.
    assert sign_has_changed((2 * A, B), (2 * A @ reflected, B))
    assert not sign_has_changed((2 * A, B), (2 * A, reflected @ B))
    # What is as small as its rounding has no sign.
    tiny = np.diag([1.0, 1, 1e-13])
    assert not sign_has_changed((A, B), (A @ reflected @ tiny, B))
    # One factor, and wide ones that are balanced.
    assert sign_has_changed((A,), (A @ reflected,))
    wide = np.concatenate([A, np.zeros((3, 2))], axis=1), np.concatenate([B, np.zeros((2, 3))])
    assert sign_has_changed(wide, (wide[0], wide[1] @ reflected))
    assert not sign_has_changed(wide, wide)


def mirrored_halves(seed):
    """(A, B, Bᵀ, Aᵀ) on symmetric data that are not positive semidefinite: the flow keeps W ⪰ 0."""
    rng = np.random.default_rng(seed)
    A, B, M = rng.standard_normal((3, 4, 4))
    mask = rng.random((4, 4)) < 0.6
    problem = MatrixCompletion(M + M.T, mask | mask.T | np.eye(4, dtype=bool))
    return problem, (A, B, B.T, A.T)


def is_semidefinite(W):
    size = np.abs(W).max()
    return (
        np.abs(W - W.T).max() < 1e-4 * size and np.linalg.eigvalsh((W + W.T) / 2)[0] > -1e-4 * size
    )


@pytest.mark.parametrize("log10_scale", [-2, -8, -30])
@pytest.mark.parametrize("seed", range(3))
def test_a_product_and_its_transpose_stay_semidefinite_or_are_doubted(seed, log10_scale):
    """A reflection between the halves changes the signs of W, and no eigenvalue of a word."""
    problem, layers = mirrored_halves(seed)
    run = gradient_flow(problem, layers, log10_scale=log10_scale)
    assert not run.converged or is_semidefinite(run.W)


@pytest.mark.parametrize("turn", [np.eye(4), orthogonal(np.random.default_rng(7), 4)])
def test_halves_that_are_a_mirror_are_noticed_in_turned_bases(turn):
    rng = np.random.default_rng(2)
    A, B, C, M = rng.standard_normal((4, 4, 4))
    H = orthogonal(rng, 4)
    kept = Kept((A, B @ H, H.T @ B.T, A.T @ turn), *about(full((M + M.T) @ turn)))
    assert kept.mirrored and np.allclose(kept.turn, turn, atol=1e-9)
    assert kept.holds((C, B, B.T, C.T @ turn))
    for signs in ([1, 1, 1, -1], [-1, -1, -1, -1]):
        assert not kept.holds((C, B, np.array(signs)[:, None] * B.T, C.T @ turn))
    indefinite = (A, B, np.array([1, 1, 1, -1])[:, None] * B.T, A.T @ turn)
    assert Kept(indefinite, *about(full((M + M.T) @ turn))).turn is None


@pytest.mark.parametrize("seed", range(4))
def test_the_process_stays_on_the_set_of_its_start_or_says_so(seed):
    """Mirrors of three and four layers, for which rounding decides the first plateaus."""
    problem, layers = mirrored_halves(seed)
    limit = deep_limit(problem, layers)
    assert not limit.converged or is_semidefinite(limit.W)
    A, B = layers[0], layers[1]
    limit = deep_limit(problem, (A, B + B.T, A.T))
    assert not limit.converged or np.abs(limit.W - limit.W.T).max() < 1e-4 * np.abs(limit.W).max()
    if limit.reason in (ROUNDING, CROSSED):
        assert limit.advice == limit.ADVICE[limit.reason]


def test_the_process_of_copies_and_signs_says_that_it_cannot_tell():
    equal = MatrixSensing(np.eye(3)[None], [1.0])
    assert deep_limit(equal, (np.eye(3),) * 3).reason == NOT_SIMPLE
    problem = MatrixCompletion.from_text("? 1 0; 1 0 0; 0 0 2", loss="half")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for sign in (1.0, -1.0):
            limit = deep_limit(problem, balanced(rng, 3, 3, sign))
            assert not limit.converged or np.sign(np.linalg.det(limit.W)) in (sign, 0.0)
