"""The flow of W alone against the layers it stands for, and at depths that no layers have.

rtol is the error of a step in ln σ and in unit vectors; steps are some fifty to a few hundred, and
their errors contract. At the default 1e-6 we ask for 1e-5 of the data's size at equal times.
"""

import pickle
from itertools import pairwise

import numpy as np
import pytest

import mfbook as mf
from mfbook.flow.balanced import path as balanced_path
from mfbook.flow.balanced.forms import Decomposed, Plain, decomposed
from mfbook.flow.balanced.path import Path, follow
from mfbook.flow.balanced.units import Units
from mfbook.flow.options import limits_of
from mfbook.flow.trajectory import TIME_LIMIT

P = mf.MatrixCompletion.from_text("1 2; 3 ?", loss="half")
DIAGONAL = mf.MatrixCompletion.from_text("2 ?; ? 1", loss="half")
START = np.random.default_rng(1).standard_normal((2, 2))


def balanced_layers(W, depth):
    U, sizes, Vt = np.linalg.svd(W, full_matrices=False)
    root = sizes ** (1 / depth)
    return (U * root, *[np.diag(root)] * (depth - 2), root[:, None] * Vt)


def kernel(sizes, depth):
    """K of Theorem D.1, by its sum at integer depth."""
    i, j = sizes[:, None], sizes[None, :]
    powers = [i ** (2 * k / depth) * j ** (2 * (depth - 1 - k) / depth) for k in range(depth)]
    return sum(powers)


def velocity_of(problem, W, depth):
    """dW/dt as the engine has it, in the plain coordinates of W."""
    U, sizes, Vt = np.linalg.svd(W)
    r = len(sizes)
    form, y = decomposed(problem, depth, U[:, :r], np.log(sizes), Vt[:r].T)
    h = 1e-6
    ahead, back = (form.W(y + s * h * form.velocity(0.0, y)) for s in (1, -1))
    return (ahead - back) / (2 * h)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_it_is_the_flow_of_balanced_layers(depth):
    run = mf.end_to_end_flow(P, START, depth=depth, log10_scale=-1)
    assert run.converged
    times = np.linspace(0, run.t[-1], 5)[1:]
    layers = balanced_layers(0.1 * START, depth)
    exact = mf.taylor_flow(P, layers, log10_scale=0, times=times, digits=12)
    for t, W in zip(times, exact, strict=True):
        assert np.abs(run.W_at(t) - W).max() < 1e-5 * 3


def test_its_error_follows_rtol():
    layers = balanced_layers(0.1 * START, 3)
    [W] = mf.taylor_flow(P, layers, log10_scale=0, times=[1.5], digits=12)
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8):
        run = mf.end_to_end_flow(P, START, depth=3, log10_scale=-1, rtol=rtol)
        errors.append(np.abs(run.W_at(1.5) - W).max())
    assert all(error < 30 * rtol for error, rtol in zip(errors, (1e-4, 1e-6, 1e-8), strict=True))


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 3), (3, 3)])
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_velocity_is_that_of_the_papers(shape, depth):
    """By central differences of order h², h = 1e-6: 1e-8 is what rounding leaves of them."""
    rng = np.random.default_rng(depth)
    problem = mf.MatrixSensing(rng.standard_normal((4, *shape)), rng.standard_normal(4))
    W = rng.standard_normal(shape)
    G = problem.gradient(W)
    U, sizes, Vt = np.linalg.svd(W)
    left, right = (np.concatenate([sizes, np.zeros(k - len(sizes))]) for k in (shape[0], shape[1]))
    expected = np.zeros(shape)
    for j in range(1, depth + 1):
        first = U * left ** (2 * (depth - j) / depth) @ U.T
        last = Vt.T * right ** (2 * (j - 1) / depth) @ Vt
        expected -= first @ G @ last
    assert np.abs(velocity_of(problem, W, depth) - expected).max() < 1e-7 * np.abs(expected).max()


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, np.inf])
def test_states_move_in_a_stack_as_they_do_one_by_one(rank, depth):
    """The Jacobian takes all its differences at once; of rank 3 the bases are square."""
    rng = np.random.default_rng(rank)
    problem = mf.MatrixSensing(rng.standard_normal((4, 3, 3)), rng.standard_normal(4))
    form, y = (Plain(problem), np.zeros(9))
    if depth > 1:
        U, V = (np.linalg.qr(rng.standard_normal((3, rank)))[0] for _ in range(2))
        form, y = decomposed(problem, depth, U, rng.standard_normal(rank), V)
    states = y + 0.1 * rng.standard_normal((2, 5, len(y)))
    together = form.velocity(0.0, states)
    assert together.shape == states.shape
    for place in np.ndindex(2, 5):
        alone = form.velocity(0.0, states[place])
        assert np.abs(together[place] - alone).max() < 1e-12 * np.abs(alone).max()


def test_the_kernel_at_large_depth():
    """|K/N − K*| falls as 1/N, from the sum of the papers to its limit."""
    form = Decomposed(P, np.inf, 3)
    ell = np.log([0.5, 1.0, 2.0])
    limit = form._kernel(ell)
    x = np.exp(ell)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        by_hand = (x[i] ** 2 - x[j] ** 2) / (2 * np.log(x[i] / x[j]))
        assert abs(limit[i, j] - by_hand) < 1e-14
    assert np.abs(np.diag(limit) - x**2).max() < 1e-14
    errors = []
    for depth in (3, 64, 4096):
        finite = Decomposed(P, depth, 3)._kernel(ell)
        assert np.allclose(finite, kernel(x, depth), rtol=1e-12)
        errors.append(np.abs(finite / depth - limit).max())
    assert errors[1:] == pytest.approx([0.0857, 0.00135], rel=0.01)


def test_tied_singular_values_are_a_limit():
    """K at a gap of 1e-9 is K at none: nothing is divided by nothing."""
    for depth in (1.5, 2, 2.1, 7, np.inf):
        form = Decomposed(P, depth, 2)
        near, tied = (form._kernel(np.array([0.3, 0.3 + gap])) for gap in (1e-9, 0.0))
        assert np.isfinite(tied).all() and np.abs(near - tied).max() < 1e-8 * tied.max()


def test_one_singular_value_has_the_papers_speed():
    """Theorem 3 of Arora et al.: dσ/dt = −N σ^(2−2/N) uᵀ ∇f v, here at N = 3 and 2.5."""
    for depth in (2.5, 3):
        W = np.array([[1.0, 0.2], [-0.3, 0.4]])
        U, sizes, Vt = np.linalg.svd(W)
        form, y = decomposed(P, depth, U, np.log(sizes), Vt.T)
        dy = form.velocity(0.0, y)
        after, before = (form.singular_values(y + s * 1e-6 * dy) for s in (1, -1))
        speed = -depth * sizes ** (2 - 2 / depth) * np.diag(U.T @ P.gradient(W) @ Vt.T)
        assert np.abs((after - before) / 2e-6 - speed).max() < 1e-7


def test_depth_one_is_the_flow_of_f():
    run = mf.end_to_end_flow(P, START, depth=1)
    t = 0.7
    decayed = np.where(P.mask, P.values + (START - np.nan_to_num(P.values)) * np.exp(-t), START)
    assert np.abs(run.W_at(t) - decayed).max() < 1e-5
    assert run.converged and run.factors == ()


@pytest.mark.slow
def test_depth_one_passes_a_singular_matrix_and_depth_three_halves_does_not():
    problem = mf.MatrixCompletion.from_text("-1", loss="half")
    run = mf.end_to_end_flow(problem, [[1.0]], depth=1)
    assert run.converged and abs(run.W[0, 0] + 1) < 1e-4
    half = mf.end_to_end_flow(problem, [[1.0]], depth=1.5)
    assert not half.converged and half.reason == "step size below rounding"


@pytest.mark.slow
def test_between_two_and_three_components_begin_to_join():
    """√2 is where the entry between "2" and "1" ends if they share a hidden unit.

    At depth 2 the start decides, at every scale; at 2.1 the smaller start comes nearer; at 3 it is
    there. W(0) has det > 0: with det < 0 depth 2 joins as well.
    """
    W0 = np.array([[1.0, 0.5], [0.25, 1.0]])
    share = {}
    for depth, log10_scale in [(2, -2), (2, -6), (2.1, -2), (2.1, -6), (2.1, -10), (3, -4)]:
        run = mf.end_to_end_flow(DIAGONAL, W0, depth=depth, log10_scale=log10_scale)
        assert run.converged
        share[depth, log10_scale] = run.W[0, 1] / np.sqrt(2)
    assert abs(share[2, -2] - share[2, -6]) < 0.03
    assert share[2.1, -2] < share[2.1, -6] < share[2.1, -10]
    assert share[2.1, -10] > 0.97 and share[3, -4] > 0.97 and share[2, -6] < 0.6


def test_a_semidefinite_start_stays_so_and_moves_as_lemma_6_1():
    """M = W^(2/N) obeys dM/dt = −∇f W − W ∇f at symmetric data, whatever N, odd or even or none."""
    problem = mf.MatrixCompletion.from_text("1 2 ?; 2 1 0; ? 0 2", loss="half")
    root = np.random.default_rng(4).standard_normal((3, 3))
    W0 = root @ root.T
    for depth in (3, 4, 2.5):
        values, Q = np.linalg.eigh(W0)
        form, y = decomposed(problem, depth, Q, np.log(values), Q)
        dy = form.velocity(0.0, y)

        def M(y, form=form, depth=depth):
            W = form.W(y)
            assert np.abs(W - W.T).max() < 1e-9
            w, Q = np.linalg.eigh((W + W.T) / 2)
            return Q * w ** (2 / depth) @ Q.T

        found = (M(y + 1e-6 * dy) - M(y - 1e-6 * dy)) / 2e-6
        G = problem.gradient(W0)
        assert np.abs(found + G @ W0 + W0 @ G).max() < 1e-6 * np.abs(found).max()
    run = mf.end_to_end_flow(problem, W0, depth=3, t_max=5.0)
    assert np.abs(run.W - run.W.T).max() < 1e-6 and np.linalg.eigvalsh(run.W).min() > -1e-6


def test_an_identity_start_has_tied_singular_values():
    """Full data: each moves by itself, and they begin as one."""
    M = np.diag([3.0, 2.0, 1.0])
    problem = mf.MatrixCompletion(M, np.ones((3, 3), dtype=bool), loss="half")
    run = mf.end_to_end_flow(problem, np.eye(3), depth=3, log10_scale=-3)
    assert run.converged and np.abs(run.W - M).max() < 1e-4
    assert run.phases[0].rank == 0


@pytest.mark.parametrize("depth", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_from_ten_to_the_minus_100(depth):
    """z = σ^(−(N−2)/N) is linear in t on the plateau of one entry, log σ at depth 2."""
    problem = mf.MatrixCompletion.from_text("2", loss="half")
    run = mf.end_to_end_flow(problem, [[1.0]], depth=depth, log10_scale=-100)
    assert run.converged
    power = 1 - 2 / depth
    scale = np.log(10) * 100
    expected = scale / 4 if depth == 2 else np.exp(scale * power) / (2 * depth * power)
    # The end is reached O(1) later at depth 2, nothing against 10^33 otherwise.
    assert abs(run.t[-1] - expected) < (10 if depth == 2 else 1e-4 * expected)
    assert run.singular_values[0, 0] == pytest.approx(1e-100, rel=1e-12)
    assert (np.diff(run.t) >= 0).all()


def test_small_singular_values_keep_their_digits():
    """Full data again: σ_2 of 10^-60 beside σ_1 of 1 grows as its own law says."""
    M = np.diag([1.0, 2.0])
    problem = mf.MatrixCompletion(M, np.ones((2, 2), dtype=bool), loss="half")
    form, y = decomposed(problem, 2, np.eye(2), np.log([1.0, 1e-60]), np.eye(2))
    path = follow(form, Units(1.0, 1.0, 2), y, limits_of(1e-10, 1e-8, 10_000, t_max=10.0))
    last = form.singular_values(path.states[-1])
    assert path.times[-1] == pytest.approx(10.0)
    assert last[1] / (1e-60 * np.exp(40.0)) == pytest.approx(1, rel=1e-6)


def test_a_run_may_end_with_the_step_after_which_its_clock_is_set_to_0(monkeypatch):
    """There is no time left for another step; one was asked for, and the run raised."""
    monkeypatch.setattr(balanced_path, "MANY", 1)
    run = mf.end_to_end_flow(P, START, depth=3, log10_scale=-2, t_max=1.0)
    assert run.reason == TIME_LIMIT and run.t[-1] == 1.0


def test_the_rank_of_the_start_is_the_rank():
    W0 = np.outer([1.0, 2.0, 0.5], [1.0, -1.0])
    problem = mf.MatrixCompletion.from_text("1 2; ? 1; 3 ?", loss="half")
    run = mf.end_to_end_flow(problem, W0, depth=3)
    assert (run.singular_values[:, 1] == 0).all()
    assert [layer.shape for layer in run.factors] == [(3, 1), (1, 1), (1, 2)]


def test_a_best_fit_of_too_small_a_rank_is_a_rest():
    problem = mf.MatrixCompletion(np.diag([2.0, 1.0]), np.ones((2, 2), dtype=bool), loss="half")
    run = mf.end_to_end_flow(problem, [[1.0, 0.5], [1.0, 0.5]], depth=3)
    assert run.reason.startswith("stopped at a critical point") and not run.converged
    assert np.abs(run.W - np.diag([2.0, 0.0])).max() < 1e-6


def test_the_layers_are_balanced_and_multiply_to_W():
    run = mf.end_to_end_flow(P, START, depth=4, log10_scale=-1)
    layers = run.factors_at(run.t[-1] / 2)
    for one, other in pairwise(layers):
        assert np.abs(one.T @ one - other @ other.T).max() < 1e-6
    W = np.linalg.multi_dot(layers)
    assert np.abs(W - run.W_at(run.t[-1] / 2)).max() < 1e-12
    norms = mf.models.factor_gradients(run.factors, P.gradient(run.W))
    total = np.sqrt(sum(np.sum(g**2) for g in norms))
    assert run.gradient_norm[-1] == pytest.approx(total, rel=1e-6)


def test_the_loss_falls_and_limits_are_kept():
    run = mf.end_to_end_flow(P, START, depth=3, log10_scale=-2)
    assert (np.diff(run.loss) <= 0).all()
    cut = mf.end_to_end_flow(P, START, depth=3, log10_scale=-2, t_max=1.0)
    assert cut.reason == "time limit" and cut.t[-1] == 1.0
    short = mf.end_to_end_flow(P, START, depth=3, log10_scale=-2, max_steps=7)
    assert short.reason == "step limit" and short.n_steps == 7
    assert run[()] is run and run.log10_columns is None
    again = pickle.loads(pickle.dumps(run))
    assert (again.W_at(run.t[-1] / 3) == run.W_at(run.t[-1] / 3)).all()


def test_running_away_is_growth_beyond_the_data_without_end():
    """1e4 times y_max²/y_min = 9 is far; the entry that is not observed is the one that grows."""
    form = Plain(P)

    def path(*corners):
        found = Path(form, Units(1.0, 1.0, 1), np.array([1.5, 2.0, 3.0, corners[0]]), np.inf)
        for t, corner in zip((1.0, 10.0, 100.0), corners[1:], strict=True):
            found.times.append(t)
            found.states.append(np.array([1.5, 2.0, 3.0, corner]))
        return found

    assert path(1.0, 1e3, 3e4, 9e4).runs_away()
    assert not path(1.0, 1e3, 9e4, 9e4).runs_away(), "it has come to rest"
    assert not path(1.0, 1e2, 3e2, 9e2).runs_away(), "the data may be met there"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"depth": 0.5}, ValueError, "depth must be at least 1, but is 0.5"),
        ({"depth": np.nan}, ValueError, "depth must"),
        ({"depth": "3"}, TypeError, "depth must be a real number"),
        ({"W0": np.zeros((2, 2))}, ValueError, "W0 is zero, and zero is a critical point"),
        ({"W0": np.ones((2, 3))}, ValueError, "W0 must have the problem's shape"),
        ({"W0": [[1.0, np.inf], [1.0, 1.0]]}, ValueError, "W0 must be finite"),
        ({"depth": 3, "log10_scale": -1000}, ValueError, "plateau of this start lasts about"),
        ({"depth": 1.5, "log10_scale": -500}, ValueError, "vectors of this start turn 10\\^1"),
        ({"rtol": 0.5}, ValueError, "rtol must be at most"),
        ({"t_max": -1}, ValueError, "t_max must not be negative"),
    ],
)
def test_bad_input_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        mf.end_to_end_flow(P, **{"W0": START, "depth": 3, **options})
