"""Symmetric problems: what they are, what they refuse, and the graph on d vertices."""

import networkx as nx
import numpy as np
import pytest

import mfbook as mf
from mfbook.problems.fit import fits, is_least_over_cone

EXAMPLE_59 = "? ? 1 2; ? ? 2 ?; 1 2 ? ?; 2 ? ? ?"  # Li, Luo & Lyu 2021, Example 5.9 with R = 2


def random_symmetric(rng, d, share=0.6):
    M = rng.standard_normal((d, d))
    mask = rng.random((d, d)) < share
    mask = mask | mask.T
    mask[0, 0] = True
    return M + M.T, mask


@pytest.mark.parametrize("loss", ["half", "mean"])
@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_over_ordered_pairs(seed, loss):
    rng = np.random.default_rng(seed)
    M, mask = random_symmetric(rng, 4)
    W = rng.standard_normal((4, 4))
    W = W + W.T
    problem = mf.SymmetricCompletion(M, mask, loss=loss)
    pairs = [(W[i, j] - M[i, j]) ** 2 for i in range(4) for j in range(4) if mask[i, j]]
    weight = 0.5 if loss == "half" else 1 / len(pairs)
    assert problem.loss_value(W) == pytest.approx(weight * sum(pairs), rel=1e-14)
    G = problem.gradient(W)
    assert (G == G.T).all()
    step = rng.standard_normal((4, 4))
    step = step + step.T
    slope = (problem.loss_value(W + 1e-6 * step) - problem.loss_value(W - 1e-6 * step)) / 2e-6
    assert slope == pytest.approx(np.sum(G * step), rel=1e-6)


def test_entries_and_measurements_are_the_same_problem():
    rng = np.random.default_rng(0)
    M, mask = random_symmetric(rng, 4)
    entries = mf.SymmetricCompletion(M, mask)
    # A pair counts twice: √2 times the mean of the two entries.
    pairs = [(i, j) for i, j in np.argwhere(mask) if i <= j]
    X = np.zeros((len(pairs), 4, 4))
    for x, (i, j) in zip(X, pairs, strict=True):
        x[i, j] = x[j, i] = 1.0 if i == j else np.sqrt(0.5)
    y = np.einsum("lij,ij->l", X, M)
    sensing = mf.SymmetricSensing(X, y)
    W = M @ M.T
    assert sensing.loss_value(W) == pytest.approx(entries.loss_value(W), rel=1e-13)
    assert sensing.gradient(W) == pytest.approx(entries.gradient(W), rel=1e-12)


def test_the_four_ways_in_agree():
    M = np.array([[1.0, 2.0, np.nan], [2.0, np.nan, 3.0], [np.nan, 3.0, 4.0]])
    text = mf.SymmetricCompletion.from_text("1 2 ?; 2 ? 3; ? 3 4")
    array = mf.SymmetricCompletion.from_array(M)
    once = mf.SymmetricCompletion.from_triplets([0, 0, 2, 2], [0, 1, 1, 2], [1, 2, 3, 4])
    both = mf.SymmetricCompletion.from_triplets(
        [0, 0, 1, 2, 2, 1], [0, 1, 0, 1, 2, 2], [1, 2, 2, 3, 4, 3]
    )
    for problem in (text, array, once, both):
        assert isinstance(problem, mf.SymmetricCompletion)
        assert (problem.mask == ~np.isnan(M)).all()
        assert (problem.values[problem.mask] == M[problem.mask]).all()
        assert problem.loss == "half"
    assert repr(text) == "SymmetricCompletion('1 2 ★; 2 ★ 3; ★ 3 4')"
    assert repr(mf.SymmetricSensing(np.eye(2)[None], [1.0])).startswith("SymmetricSensing(")


def test_data_of_single_precision_need_a_tolerance():
    rng = np.random.default_rng(0)
    U = rng.standard_normal((5, 2))
    exact = U @ U.T
    single = (exact + 1e-7 * rng.standard_normal((5, 5))).astype(np.float32)
    mask = np.ones((5, 5), dtype=bool)
    with pytest.raises(
        ValueError, match=r"must be symmetric, but is .* at \(0, 1\) and .* tol=1e-0"
    ):
        mf.SymmetricCompletion(single, mask)
    problem = mf.SymmetricCompletion(single, mask, tol=1e-6)
    assert (problem.values == problem.values.T).all()
    assert np.abs(problem.values - exact).max() < 1e-6 * np.abs(exact).max()
    with pytest.raises(ValueError, match="must be symmetric"):
        mf.SymmetricSensing(single[None], [1.0])
    assert mf.SymmetricSensing(single[None], [1.0], tol=1e-6).n_observed == 1


def test_the_tolerance_that_is_named_is_enough():
    M = np.array([[1.0, 2.0], [2.0 + 3e-7, 4.0]])
    mask = np.ones((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="tol=1e-07") as told:
        mf.SymmetricCompletion(M, mask)
    assert "(0, 1)" in str(told.value)
    mf.SymmetricCompletion(M, mask, tol=1e-7)


def test_rounding_of_a_product_is_no_asymmetry():
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    M = Q @ np.diag(np.arange(30.0)) @ Q.T
    assert (M != M.T).any()  # else this tests nothing
    problem = mf.SymmetricCompletion(M, np.ones((30, 30), dtype=bool), truth=M)
    assert (problem.values == problem.values.T).all()
    assert (problem.truth == problem.truth.T).all()


@pytest.mark.parametrize("power", [-150, 150])
def test_symmetric_data_keep_their_bits(power):
    M = np.array([[1.0, np.pi], [np.pi, 3.0]]) * 10.0**power
    problem = mf.SymmetricCompletion(M, np.ones((2, 2), dtype=bool))
    assert (problem.values == M).all()


MASK = np.ones((2, 2), dtype=bool)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mf.SymmetricCompletion.from_text("1 2 3; 2 4 5"), r"square.*\(2, 3\)"),
        (lambda: mf.SymmetricCompletion.from_text("1 2; 3 4"), r"2 at \(0, 1\) and 3 at \(1, 0\)"),
        (
            lambda: mf.SymmetricCompletion.from_text("1 ? 2; ? 1 ?; 2 4 1"),
            r"mask must be symmetric, but \(2, 1\) is observed and \(1, 2\) is not",
        ),
        (lambda: mf.SymmetricCompletion(np.eye(2), MASK, truth=[[1, 2], [3, 4]]), "truth must be"),
        (lambda: mf.SymmetricCompletion(np.eye(2), MASK, tol=-1), "tol must not be negative"),
        (lambda: mf.SymmetricCompletion(np.eye(2), MASK, tol=np.nan), "tol must"),
        (lambda: mf.SymmetricCompletion.from_triplets([0], [1], [1.0], shape=(2, 3)), "square"),
        (
            lambda: mf.SymmetricCompletion.from_triplets([0, 1], [1, 0], [1.0, 2.0]),
            "must be symmetric",
        ),
        (lambda: mf.SymmetricSensing(np.ones((1, 2, 3)), [1.0]), "square"),
        (
            lambda: mf.SymmetricSensing([np.eye(2), [[0, 1], [2, 0]]], [1.0, 1.0]),
            r"measurement 1 must be symmetric, but is 1 at \(0, 1\) and 2 at \(1, 0\)",
        ),
        (lambda: mf.SymmetricSensing([np.eye(2)], [1.0, 2.0]), "one target a measurement"),
    ],
)
def test_bad_data(make, words):
    with pytest.raises(ValueError, match=words):
        make()


U2 = np.eye(2)


@pytest.mark.parametrize(
    "factors, words",
    [
        ((U2, U2), r"one factor, \(U,\) with W = U Uᵀ, but got 2"),
        ((np.ones((3, 2)),), "U must have 2 rows"),
        ((np.ones((1, 2)),), r"write \(U.T,\)"),
        ((np.ones((2, 0)),), "hidden width must be at least 1"),
        ((np.ones(2),), "U must have 2 rows"),
        ((np.full((2, 2), np.nan),), "finite"),
        ((np.zeros((0, 2, 2)),), "at least one run"),
        ((), "one factor"),
    ],
)
def test_bad_factors(factors, words):
    problem = mf.SymmetricCompletion.from_text("1 2; 2 5")
    for call in (
        lambda: mf.gradient_flow(problem, factors),
        lambda: mf.gradient_descent(problem, factors, lr=0.1),
        lambda: mf.relative_gradient(problem, factors),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_landscape_is_that_of_one_run():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 5")
    for call in (mf.hessian, mf.critical_point_kind, mf.escape_direction):
        with pytest.raises(ValueError, match=r"one run, but U has the leading axes \(3,\)"):
            call(problem, (np.ones((3, 2, 1)),))


def test_a_start_of_zeros_is_refused():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 5")
    with pytest.raises(ValueError, match=r"zero is a critical point.*small_init\(problem, rng=0\)"):
        mf.gradient_flow(problem, (np.zeros((2, 2)),))


def test_one_factor_for_a_problem_in_two_is_told_what_to_do():
    problem = mf.MatrixCompletion.from_text("1 2; 2 5")
    with pytest.raises(ValueError, match=r"two factors.*but got 1.*SymmetricCompletion"):
        mf.gradient_flow(problem, (U2,))


def test_what_is_about_two_factors_says_so():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 5")
    with pytest.raises(ValueError, match="model is W = U Uᵀ"):
        mf.disconnected_limit(problem, (U2,))
    with pytest.raises(ValueError, match="model is W = U Uᵀ"):
        mf.taylor_flow(problem, (U2,), log10_scale=0, times=[1])
    with pytest.raises(ValueError, match="model is W = U Uᵀ"):
        mf.end_to_end_flow(problem, U2, depth=3)
    with pytest.raises(ValueError, match="model is W = U Uᵀ"):
        mf.deep_glrl(problem, 3)
    with pytest.raises(ValueError, match="model is W = U Uᵀ"):
        mf.deep_limit(problem, (U2, U2, U2))
    both = [problem, mf.MatrixCompletion(problem.values, problem.mask)]
    with pytest.raises(ValueError, match="one model"):
        mf.gradient_descent(both, (np.ones((2, 2, 2)),), lr=0.1)


def test_starts_for_a_problem():
    problem = mf.SymmetricCompletion.from_text(EXAMPLE_59)
    (U,) = mf.small_init(problem, rng=0)
    assert U.shape == (4, 4)
    assert (U == np.random.default_rng(0).standard_normal((4, 4))).all()
    (batch,) = mf.small_init(problem, width=2, rng=0, batch=(3, 5))
    assert batch.shape == (3, 5, 4, 2)
    two = mf.MatrixCompletion.from_text("1 2 3; 4 5 ?")
    assert [f.shape for f in mf.small_init(two, depth=3, rng=0)] == [(2, 2), (2, 2), (2, 3)]
    with pytest.raises(ValueError, match="leave depth out"):
        mf.small_init(problem, depth=3, rng=0)


# ---- the graph ------------------------------------------------------------------------------


def test_the_graph_has_d_vertices_and_loops():
    problem = mf.SymmetricCompletion.from_text("1 2 ? ?; 2 ? ? ?; ? ? ? ?; ? ? ? 3")
    graph = mf.observation_graph(problem)
    assert sorted(graph) == [0, 1, 3]  # 2 is isolated, and left out
    assert {frozenset(edge) for edge in graph.edges} == {
        frozenset({0}),
        frozenset({0, 1}),
        frozenset({3}),
    }
    parts = mf.components(problem)
    assert [(rows.tolist(), cols.tolist()) for rows, cols in parts] == [
        ([0, 1], [0, 1]),
        ([3], [3]),
    ]
    assert mf.connectivity(problem) == "disconnected"
    # The mask alone is about rows and columns.
    assert len(mf.observation_graph(problem.mask)) == 6


def test_a_problem_in_two_factors_is_as_good_as_its_mask():
    problem = mf.examples.M1
    assert mf.connectivity(problem) == mf.connectivity(problem.mask) == "disconnected"
    assert nx.utils.graphs_equal(mf.observation_graph(problem), mf.observation_graph(problem.mask))
    with pytest.raises(TypeError, match="measurements may link anything"):
        mf.components(mf.SymmetricSensing([np.eye(2)], [1.0]))


@pytest.mark.parametrize("seed", range(30))
def test_rows_and_columns_are_the_double_cover(seed):
    """H connected and not bipartite ⇔ one component of the cover; bipartite ⇒ two."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 8))
    mask = rng.random((d, d)) < rng.uniform(0.05, 0.6)
    mask = mask | mask.T
    mask[0, -1] = mask[-1, 0] = True
    problem = mf.SymmetricCompletion(np.ones((d, d)), mask)
    graph = mf.observation_graph(problem)
    pieces = [sorted(piece) for piece in nx.connected_components(graph)]
    assert sorted(pieces) == sorted(rows.tolist() for rows, _ in mf.components(problem))
    cover = sum(1 + nx.is_bipartite(graph.subgraph(piece)) for piece in pieces)
    assert len(mf.components(mask)) == cover
    assert (mf.connectivity(problem) == "connected") == (len(pieces) == 1)


def test_example_5_9_is_a_path():
    problem = mf.SymmetricCompletion.from_text(EXAMPLE_59)
    assert mf.connectivity(problem) == "connected"
    assert mf.connectivity(problem.mask) == "disconnected"
    assert sorted(mf.observation_graph(problem).edges) == [(0, 2), (0, 3), (2, 1)]


@pytest.mark.parametrize(
    "text, kind",
    [
        ("1 2 ?; 2 3 ?; ? ? 1", "complete-bipartite"),  # complete graphs with all loops
        ("? 2 ? ?; 2 ? ? ?; ? ? ? 1; ? ? 1 ?", "complete-bipartite"),  # two edges
        ("1 2 ?; 2 ? ?; ? ? 1", "disconnected"),
        ("? 2; 2 ?", "connected"),
    ],
)
def test_complete_components(text, kind):
    assert mf.connectivity(mf.SymmetricCompletion.from_text(text)) == kind


# ---- when a matrix is a minimum over the cone -------------------------------------------------


def test_the_certificate_knows_the_least_of_the_cone():
    problem = mf.SymmetricCompletion.from_text("1 2; 2 1")
    best = np.full((2, 2), 1.5)
    assert is_least_over_cone(problem, best)
    assert fits(problem, best)
    for W in ([[1, 1], [1, 1]], [[2, 1], [1, 1]], np.zeros((2, 2)), 1.001 * best, [[1, 2], [2, 4]]):
        assert not is_least_over_cone(problem, W)
    assert is_least_over_cone(mf.SymmetricCompletion.from_text("-1"), [[0.0]])
    # In two factors the same W is a saddle.
    assert not fits(mf.MatrixCompletion.from_text("1 2; 2 1"), best)


@pytest.mark.parametrize("power", [-150, -6, 0, 150])
@pytest.mark.parametrize("seed", range(5))
def test_full_observation_is_least_at_the_positive_part(seed, power):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((5, 5))
    M = (M + M.T) * 10.0**power
    problem = mf.SymmetricCompletion(M, np.ones((5, 5), dtype=bool))
    values, vectors = np.linalg.eigh(M)
    best = (vectors * np.maximum(values, 0)) @ vectors.T
    assert is_least_over_cone(problem, best)
    # Breaking it: without its largest direction, and a thousandth too large.
    less = (vectors[:, :-1] * np.maximum(values[:-1], 0)) @ vectors[:, :-1].T
    assert not is_least_over_cone(problem, less)
    assert not is_least_over_cone(problem, 1.001 * best)
