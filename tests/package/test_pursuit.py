"""Pursuit and GECO, and what alternating least squares shares with them.

Closed forms, optimality, what does not matter, degenerate data, and plain NumPy as a reference.
"""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import orth

from mfbook.flow import gradient_flow
from mfbook.flow.greedy_path import ATOM_LIMIT
from mfbook.models import small_init
from mfbook.problems import (
    MatrixCompletion,
    MatrixSensing,
    SymmetricCompletion,
    SymmetricSensing,
    examples,
    populations,
)
from mfbook.problems.graph import connectivity
from mfbook.rivals.alternating import alternating_least_squares
from mfbook.rivals.pursuit import geco, rank_one_matrix_pursuit
from tests.package.own import Own

economic = partial(rank_one_matrix_pursuit, economic=True)
PURSUITS = {"r1mp": rank_one_matrix_pursuit, "economic": economic, "geco": geco}
# A phase that runs away is not waited for.
ALL = PURSUITS | {"als": partial(alternating_least_squares, max_sweeps=300)}

every_pursuit = pytest.mark.parametrize("method", PURSUITS.values(), ids=PURSUITS)
every_method = pytest.mark.parametrize("method", ALL.values(), ids=ALL)


def drawn(seed, shape=(4, 5), rank=2, size=13, **options):
    """A random problem, not necessarily connected."""
    rng = np.random.default_rng([99, seed])
    truth = populations.random_low_rank(rng, shape, rank)
    return MatrixCompletion(truth, populations.random_mask(rng, shape, size), **options)


def drawn_symmetric(seed, d=5):
    rng = np.random.default_rng([98, seed])
    U = rng.standard_normal((d, 2))
    upper = np.triu(rng.random((d, d)) < 0.7)
    upper[0, 1] = True
    return SymmetricCompletion(U @ U.T, upper | upper.T)


def drawn_sensing(seed, kind=MatrixSensing):
    rng = np.random.default_rng([97, seed])
    shape = (3, 3) if kind is SymmetricSensing else (3, 4)
    X = rng.standard_normal((7, *shape))
    if kind is SymmetricSensing:
        X = X + X.transpose(0, 2, 1)
        U = rng.standard_normal((3, 2))
        W = U @ U.T
    else:
        W = populations.random_low_rank(rng, shape, 2)
    return kind(X, np.einsum("kij,ij->k", X, W))


def losses(problem, path):
    return np.array([problem.loss_value(W) for W in path.critical_points])


def measured(problem, atoms):
    return np.array([problem.measure(atom) for atom in atoms])


def reference(problem, rank, method):
    """W_0, W_1, … by plain NumPy, for completion: vectors of all entries, and no shared code."""
    mask = problem.mask
    M = np.where(mask, problem.values, 0.0)
    W, points, left, right = 0 * M, [0 * M], [], []
    for _ in range(rank):
        U, _, Vt = np.linalg.svd(M - mask * W)
        left.append(U[:, 0])
        right.append(Vt[0])
        if method == "geco":
            # Of all solutions the one of least norm: the bases must be orthonormal.
            P, Q = (orth(np.array(side).T, rcond=1e-8) for side in (left, right))
            atoms = [np.outer(u, v) for u in P.T for v in Q.T]
        elif method == "economic":
            atoms = [W, np.outer(left[-1], right[-1])]
        else:
            atoms = [np.outer(u, v) for u, v in zip(left, right, strict=True)]
        design = np.array([atom[mask] for atom in atoms]).T
        theta = np.linalg.pinv(design, rcond=1e-10) @ problem.values[mask]
        W = sum(t * atom for t, atom in zip(theta, atoms, strict=True))
        points.append(W)
    return points


@every_method
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_full_data_give_the_truncated_singular_value_decomposition(method, shape):
    """Eckart and Young, step by step, in any shape."""
    M = np.random.default_rng(3).standard_normal(shape)
    path = method(MatrixCompletion(M, np.ones(shape, dtype=bool)), min(shape))
    left, sizes, right = np.linalg.svd(M, full_matrices=False)
    assert path.ranks == tuple(range(min(shape) + 1))
    assert path.converged and path.reason == "loss reached"
    for r, W in enumerate(path.critical_points):
        assert np.abs(W - left[:, :r] * sizes[:r] @ right[:r]).max() < 1e-12


@every_pursuit
def test_full_symmetric_data_give_the_positive_part(method):
    """The top eigenvectors, as long as their eigenvalues are positive."""
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    eigenvalues = np.array([3.0, 2.0, 0.5, -1.0])
    problem = SymmetricCompletion((Q * eigenvalues) @ Q.T, np.ones((4, 4), dtype=bool))
    path = method(problem, 4)
    assert path.ranks == (0, 1, 2, 3) and path.converged
    assert path.reason.startswith("least loss over the cone")
    for r, W in enumerate(path.critical_points):
        assert np.abs(W - (Q[:, :r] * eigenvalues[:r]) @ Q[:, :r].T).max() < 1e-12
        assert (W == W.T).all()


@every_pursuit
def test_two_by_two_by_hand(method):
    """[1 2; 2 ?]: the zero-filled matrix has the eigenvalues (1 ± √17)/2, its vectors the atoms."""
    path = method(MatrixCompletion.from_text("1 2; 2 ?"), 2)
    top = (1 + np.sqrt(17)) / 2
    x, y = np.array([top, 2.0]) / np.hypot(top, 2.0)
    theta = (x**2 + 4 * x * y) / (x**4 + 2 * x**2 * y**2)
    first = theta * np.array([[x * x, x * y], [x * y, y * y]])
    assert np.abs(path.critical_points[1] - first).max() < 1e-14
    assert path.ranks == (0, 1, 2) and path.converged
    if method is geco:
        # The spans are everything, and the least norm is that of zeros.
        assert abs(path.W[1, 1]) < 1e-14
    else:
        assert abs(path.W[1, 1] - 0.967) < 1e-3


@pytest.mark.parametrize("name", PURSUITS)
@pytest.mark.parametrize("seed", range(6))
def test_against_plain_numpy(name, seed):
    """Six steps; where W already fits the path ends, and the reference has nothing to add."""
    problem = drawn(seed)
    path = PURSUITS[name](problem, 6)
    points = reference(problem, len(path.critical_points) - 1, name)
    size = np.nanmax(np.abs(problem.values))
    for W, V in zip(path.critical_points, points, strict=True):
        assert np.abs(W - V).max() < 1e-8 * max(size, np.abs(V).max())


@every_pursuit
@pytest.mark.parametrize(
    "problem",
    [
        drawn(0),
        drawn(1, loss="half"),
        drawn_symmetric(0),
        drawn_symmetric(1),
        drawn_sensing(0),
        drawn_sensing(1, SymmetricSensing),
    ],
)
def test_the_loss_falls_in_every_step(method, problem):
    loss = losses(problem, method(problem, 12))
    assert len(loss) > 2
    assert (np.diff(loss) < 0).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("method", [rank_one_matrix_pursuit, economic])
def test_each_step_takes_the_share_that_is_promised(method, seed):
    """‖R_k‖² ≤ ‖R_{k−1}‖² − σ_1(R_{k−1})², so at most 1 − 1/min(m, n) of it is left."""
    problem = drawn(seed)
    path = method(problem, 30)
    residuals = [problem.residual(W) for W in path.critical_points]
    for before, after in pairwise(residuals):
        top, total = np.linalg.norm(before, 2) ** 2, np.linalg.norm(before) ** 2
        assert np.linalg.norm(after) ** 2 <= total - top + 1e-13 * total
        assert np.linalg.norm(after) ** 2 <= (1 - 1 / 4) * total


@pytest.mark.parametrize("seed", range(6))
def test_the_residual_is_orthogonal_to_all_atoms(seed):
    """⟨R_k, u_i v_iᵀ⟩ = 0 for all i ≤ k, where the atoms come from the residuals before."""
    problem = drawn(seed)
    path = rank_one_matrix_pursuit(problem, 8)
    residuals = [problem.residual(W) for W in path.critical_points]
    for k, R in enumerate(residuals):
        for earlier in residuals[:k]:
            U, _, Vt = np.linalg.svd(earlier)
            assert abs(U[:, 0] @ R @ Vt[0]) < 1e-12 * np.linalg.norm(residuals[0])


@pytest.mark.parametrize(
    "problem", [drawn(2), drawn(3, shape=(6, 4), size=15), drawn_sensing(2), drawn_symmetric(2)]
)
def test_geco_is_least_over_the_span(problem):
    """Uᵀ ∇f(W) V = 0, and the span holds all singular pairs that were met."""
    path = geco(problem, 5)
    model_top = []
    for W, following in pairwise(path.critical_points):
        G = -problem.gradient(W)
        if isinstance(problem, SymmetricCompletion):
            vector = np.linalg.eigh(G)[1][:, -1]
            model_top.append((vector, vector))
        else:
            U, _, Vt = np.linalg.svd(G)
            model_top.append((U[:, 0], Vt[0]))
        G = problem.gradient(following)
        size = np.linalg.norm(problem.gradient(path.critical_points[0]))
        for u, _ in model_top:
            for _, v in model_top:
                assert abs(u @ G @ v) < 1e-10 * size
        # No step inside the span lowers the loss, however it is taken.
        rng = np.random.default_rng(0)
        left = np.array([u for u, _ in model_top]).T
        right = np.array([v for _, v in model_top]).T
        least = problem.loss_value(following)
        for _ in range(5):
            Z = rng.standard_normal((left.shape[1], right.shape[1]))
            assert problem.loss_value(following + 1e-3 * left @ Z @ right.T) >= least


@pytest.mark.parametrize("seed", range(12))
def test_more_freedom_fits_no_worse_at_first(seed):
    """The first step is the same; in the second a larger span has a smaller loss."""
    problem = drawn(seed)
    all_weights, two, block = (losses(problem, f(problem, 2)) for f in PURSUITS.values())
    assert np.allclose(all_weights[1], two[1], rtol=1e-12)
    assert np.allclose(all_weights[1], block[1], rtol=1e-12)
    # With two atoms, two weights are all weights.
    assert np.allclose(all_weights[2], two[2], rtol=1e-9)
    assert block[2] <= all_weights[2] * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_all_weights_are_better_than_two_for_the_same_atoms(seed):
    """From the atoms of the economic form, least squares for all weights fits at least as well."""
    problem = drawn(seed)
    path = economic(problem, 6)
    atoms = []
    for W, following in pairwise(path.critical_points):
        U, _, Vt = np.linalg.svd(problem.residual(W))
        atoms.append(np.outer(U[:, 0], Vt[0]))
        x = measured(problem, atoms)
        rest = problem.targets - x.T @ np.linalg.lstsq(x.T, problem.targets, rcond=None)[0]
        assert rest @ rest <= np.sum(problem.residual(following) ** 2) * (1 + 1e-10) + 1e-20


@pytest.mark.parametrize("seed", range(8))
def test_pursuit_and_geco_end(seed):
    """At most as many atoms as observed entries; at most m + n − 1."""
    problem = drawn(seed, rank=4)
    path = rank_one_matrix_pursuit(problem, problem.n_observed)
    assert path.converged
    block = geco(problem, 4 + 5 - 1)
    assert block.converged
    assert path.iterations == (1,) * (len(path.critical_points) - 1)


@every_method
def test_zero_data_are_fitted_at_once(method):
    path = method(MatrixCompletion(np.zeros((2, 3)), np.ones((2, 3), dtype=bool)), 2)
    assert path.converged and path.ranks == (0,) and not path.W.any()
    assert path.trajectories == () and path.iterations == ()


@every_method
def test_unobserved_rows_and_columns_stay_zero(method):
    path = method(MatrixCompletion.from_text("1 2 ?; ? ? ?; 3 5 ?"), 3)
    assert path.converged and path.ranks == (0, 1, 2)
    assert np.abs(path.W[1]).max() < 1e-14 and np.abs(path.W[:, 2]).max() < 1e-14


@every_method
def test_one_entry(method):
    path = method(MatrixCompletion.from_text("? -3; ? ?"), 1)
    assert path.converged and path.ranks == (0, 1)
    assert np.abs(path.W - [[0, -3], [0, 0]]).max() < 1e-15


@every_method
def test_ties_fit_nevertheless(method):
    """The identity has no top singular pair; whichever is taken, W stays a projection."""
    path = method(MatrixCompletion(np.eye(3), np.ones((3, 3), dtype=bool)), 3)
    assert path.converged and path.ranks == (0, 1, 2, 3)
    for r, W in enumerate(path.critical_points):
        assert np.abs(W @ W - W).max() < 1e-14 and abs(np.trace(W) - r) < 1e-14


@every_method
def test_between_complete_blocks_there_are_zeros(method):
    """One singular value a step, the largest of all blocks first, and exact zeros in between."""
    rng = np.random.default_rng(4)
    rows, cols = rng.permutation(6), rng.permutation(6)
    values, mask = np.zeros((6, 6)), np.zeros((6, 6), dtype=bool)
    for part in (slice(0, 3), slice(3, 6)):
        block = np.ix_(rows[part], cols[part])
        values[block], mask[block] = rng.standard_normal((3, 3)), True
    path = method(MatrixCompletion(values, mask), 6)
    assert path.ranks == tuple(range(7)) and path.converged
    left, sizes, right = np.linalg.svd(values)
    for r, W in enumerate(path.critical_points):
        assert np.abs(W - left[:, :r] * sizes[:r] @ right[:r]).max() < 1e-10
        assert np.abs(W[~mask]).max() < 1e-12


@every_method
def test_blocks_that_are_tied_are_taken_one_after_the_other(method):
    path = method(MatrixCompletion.from_text("2 ?; ? 2"), 2)
    assert path.ranks == (0, 1, 2)
    assert np.allclose(np.abs(path.critical_points[1]).max(), 2) and np.allclose(
        path.W, 2 * np.eye(2)
    )


@every_method
@pytest.mark.parametrize("seed", range(4))
def test_permuted_rows_and_columns(method, seed):
    rng = np.random.default_rng(seed)
    problem = drawn(seed)
    rows, cols = rng.permutation(4), rng.permutation(5)
    moved = MatrixCompletion(problem.values[rows][:, cols], problem.mask[rows][:, cols])
    path, other = method(problem, 3), method(moved, 3)
    for W, V in zip(path.critical_points, other.critical_points, strict=True):
        assert np.abs(W[rows][:, cols] - V).max() < 1e-6 * np.abs(W).max() + 1e-12


@every_pursuit
@pytest.mark.parametrize("seed", range(4))
def test_transposed(method, seed):
    problem = drawn(seed)
    path, other = (
        method(p, 4) for p in (problem, MatrixCompletion(problem.values.T, problem.mask.T))
    )
    for W, V in zip(path.critical_points, other.critical_points, strict=True):
        assert np.abs(W.T - V).max() < 1e-8 * max(np.abs(W).max(), 1)


@every_method
@pytest.mark.parametrize("unit", [1e-100, -1e100, 1e-7])
def test_units_do_not_matter(method, unit):
    problem = drawn(5)
    path = method(problem, 3)
    other = method(
        MatrixCompletion(unit * np.where(problem.mask, problem.values, 0), problem.mask), 3
    )
    assert path.ranks == other.ranks
    for W, V in zip(path.critical_points, other.critical_points, strict=True):
        assert np.abs(W - V / unit).max() < 1e-6 * np.abs(W).max() + 1e-12


@every_method
@pytest.mark.parametrize("unit", [1e-40, 1e40])
def test_units_of_measurements_do_not_matter(method, unit):
    """X_l and y_l in another unit are the same equations."""
    problem = drawn_sensing(4)
    path = method(problem, 3)
    other = method(MatrixSensing(unit * problem.measurements, unit * problem.targets), 3)
    for W, V in zip(path.critical_points, other.critical_points, strict=True):
        assert np.abs(W - V).max() < 1e-6 * np.abs(W).max() + 1e-12


@every_method
def test_both_losses_have_the_same_path(method):
    paths = [method(drawn(6, loss=loss), 3) for loss in ("mean", "half")]
    for W, V in zip(*(path.critical_points for path in paths), strict=True):
        assert np.abs(W - V).max() < 1e-9


@every_method
def test_entries_as_measurements(method):
    """A sensing problem that reads entries is the completion problem."""
    problem = examples.M3
    rows, cols = np.nonzero(problem.mask)
    X = np.zeros((len(rows), 3, 3))
    X[np.arange(len(rows)), rows, cols] = 1.0
    path, other = method(problem, 3), method(MatrixSensing(X, problem.values[rows, cols]), 3)
    assert path.ranks == other.ranks
    for W, V in zip(path.critical_points, other.critical_points, strict=True):
        assert np.abs(W - V).max() < 1e-5


@every_method
def test_a_problem_of_ones_own(method):
    inner = drawn_sensing(5)
    path, other = method(inner, 3), method(Own(inner), 3)
    assert all(
        (W == V).all() for W, V in zip(path.critical_points, other.critical_points, strict=True)
    )


@every_method
def test_measurements_that_contradict_each_other(method):
    """One entry with two values: the mean is the best."""
    path = method(MatrixSensing([[[1.0, 0]], [[1.0, 0]]], [1.0, 3.0]), 1)
    assert path.converged and np.abs(path.W - [[2.0, 0.0]]).max() < 1e-14


@every_pursuit
@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one(method, rank):
    with pytest.raises(ValueError, match="rank must be at least 1"):
        method(examples.M3, rank)


@every_pursuit
def test_a_rank_that_is_larger_than_needed_is_no_limit(method):
    path = method(examples.M3, 1000)
    assert path.converged and max(path.ranks) <= 3


@every_pursuit
def test_the_limit_says_what_to_do(method):
    path = method(examples.connected_4x4, 2)
    assert not path.converged and path.reason == ATOM_LIMIT and "raise rank" in path.advice
    assert len(path.critical_points) == 3


@every_method
@pytest.mark.parametrize("problem", [None, np.eye(2), "1 2; 3 ?", MatrixCompletion])
def test_what_is_no_problem(method, problem):
    with pytest.raises(TypeError, match="problem must be"):
        method(problem, 1)


@every_method
@pytest.mark.parametrize("rank", [1.5, "2", True, np.nan])
def test_what_is_no_rank(method, rank):
    with pytest.raises(TypeError, match="rank must be an integer"):
        method(examples.M3, rank)


@every_method
def test_a_negative_tolerance(method):
    with pytest.raises(ValueError, match="loss_tol must not be negative"):
        method(examples.M3, 1, loss_tol=-1.0)


def test_economic_is_true_or_false():
    with pytest.raises(TypeError, match="economic must be True or False"):
        rank_one_matrix_pursuit(examples.M3, 1, economic=1)


def test_the_flow_finds_the_rank_that_no_pursuit_finds():
    """Rank one, generic: the first atom is not the answer, for its vectors are not the data's."""
    for seed in range(5):
        problem = drawn(seed, shape=(4, 4), rank=1, size=12)
        if connectivity(problem.mask) != "connected" or problem.mask.all(axis=1).all():
            continue
        run = gradient_flow(problem, small_init((4, 4), rng=0), log10_scale=-300)
        assert run.phases[-1].rank == 1
        assert alternating_least_squares(problem).ranks == (0, 1)
        for method in PURSUITS.values():
            assert method(problem, 16).ranks[:3] == (0, 1, 2)
