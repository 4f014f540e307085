"""Deep greedy learning against `glrl`, against the algorithm as it is printed, and on full data."""

import numpy as np
import pytest

import mfbook as mf


def as_printed(problem, depth, eps, lr, iterations, phases):
    """Algorithm 2 with its layers, by gradient descent: the critical points."""
    m, n = problem.shape
    layers = [np.zeros((m, 0)), *[np.zeros((0, 0))] * (depth - 2), np.zeros((0, n))]
    points = []
    W = np.zeros((m, n))
    for _ in range(phases):
        left, _, right = np.linalg.svd(-problem.gradient(W))
        r, size = layers[0].shape[1], eps ** (1 / depth)
        inner = [np.pad(layer, ((0, 1), (0, 1))) for layer in layers[1:-1]]
        for layer in inner:
            layer[r, r] = size
        layers = [
            np.column_stack([layers[0], size * left[:, 0]]),
            *inner,
            np.vstack([layers[-1], size * right[0]]),
        ]
        run = mf.gradient_descent(problem, layers, lr=lr, max_iters=iterations)
        layers, W = list(run.factors), run.W
        points.append(W)
    return points


def test_depth_two_is_glrl():
    """Whose ε is twice this one. Critical points are met to 1e-6, as a rest is told at 1e-8."""
    problem = mf.examples.connected_4x4
    deep, shallow = mf.deep_glrl(problem, 2), mf.glrl(problem, eps=2e-7)
    assert deep.ranks == shallow.ranks == (0, 1, 2, 3)
    for W, V in zip(deep.critical_points, shallow.critical_points, strict=True):
        assert np.abs(W - V).max() < 1e-4
    assert deep.converged and deep.reason == shallow.reason


def test_it_is_the_algorithm_as_printed():
    """Descent of the layers in 20,000 steps, which brings the first saddle to 1e-6."""
    problem = mf.MatrixCompletion.from_text("1 2 ?; 3 ? 1; ? 2 2", loss="half")
    [W, _] = as_printed(problem, 3, 1e-3, 0.02, 20_000, phases=2)
    path = mf.deep_glrl(problem, 3, eps=1e-3, max_rank=1)
    assert np.abs(path.W - W).max() < 1e-5
    assert path.reason == "rank limit" and "raise max_rank" in path.advice


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2.5, 3, 4])
def test_full_data_give_the_truncated_singular_value_decomposition(depth):
    M = np.random.default_rng(3).standard_normal((3, 4))
    path = mf.deep_glrl(mf.MatrixCompletion(M, np.ones((3, 4), dtype=bool)), depth)
    left, sizes, right = np.linalg.svd(M, full_matrices=False)
    assert path.ranks == (0, 1, 2, 3) and path.converged
    for r, W in enumerate(path.critical_points):
        assert np.abs(W - left[:, :r] * sizes[:r] @ right[:r]).max() < 1e-4


def test_sensing():
    rng = np.random.default_rng(0)
    truth = np.outer(rng.standard_normal(3), rng.standard_normal(3))
    X = rng.standard_normal((8, 3, 3))
    problem = mf.MatrixSensing(X, np.tensordot(X, truth, 2))
    path = mf.deep_glrl(problem, 3)
    assert path.converged and path.ranks == (0, 1)
    assert np.abs(path.W - truth).max() < 1e-3


def test_components_do_not_share_by_definition():
    """Zeros between them at every depth, where the flow from a random start has none at depth 3."""
    problem = mf.examples.disconnected_3x3
    path = mf.deep_glrl(problem, 3)
    assert path.ranks == (0, 1, 2)
    assert np.abs(path.W[~problem.mask]).max() < 1e-12
    W0 = np.linalg.multi_dot(mf.small_init((3, 3), depth=3, rng=0))
    flow = mf.end_to_end_flow(problem, W0, depth=3, log10_scale=-6)
    assert np.abs(flow.W[~problem.mask]).min() > 1


@pytest.mark.slow
def test_the_units_of_the_data_do_not_matter():
    problem = mf.examples.M3
    usual = mf.deep_glrl(problem, 3)
    scaled = mf.MatrixCompletion(np.nan_to_num(problem.values) * 1e-6, problem.mask)
    path = mf.deep_glrl(scaled, 3)
    assert path.ranks == usual.ranks
    for W, V in zip(path.critical_points, usual.critical_points, strict=True):
        assert np.abs(W / 1e-6 - V).max() < 1e-3


@pytest.mark.slow
def test_a_creep_to_infinity_is_no_rest():
    """The entry that is not observed grows as t^(3/5), slower and slower: 750 after 600 steps."""
    problem = mf.MatrixCompletion.from_text("2 1 1; -1 -1 -1; 2 -3 ?", loss="half")
    path = mf.deep_glrl(problem, 3, max_rank=1, max_steps=650)
    assert not path.converged and path.reason == "step limit"
    run = path.trajectories[0]
    slope = np.log(run.W[2, 2] / run.W_at(run.t[-1] / 10)[2, 2]) / np.log(10)
    assert 0.3 < slope < 0.7


def test_data_that_are_zero_are_fitted_at_once():
    path = mf.deep_glrl(mf.MatrixCompletion(np.zeros((2, 2)), np.eye(2, dtype=bool)), 3)
    assert path.converged and path.ranks == (0,) and path.trajectories == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth must be at least 2"),
        ({"depth": np.inf}, "depth must be finite, but is inf: infinite depth never turns"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"max_rank": 4}, "max_rank must be between 1 and 3"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mf.deep_glrl(mf.examples.M3, **{"depth": 3, **options})
