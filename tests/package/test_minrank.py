"""Minimum rank: witnesses that fit, proofs that hold, and proofs that a changed entry removes."""

from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbook.problems import MatrixCompletion, MatrixSensing, examples
from mfbook.problems.graph import observation_graph, sampling_patterns
from mfbook.rivals.minrank import NOT_PROVEN, min_rank
from mfbook.rivals.minrank.component import EXHAUSTIVE, Component, components_of
from mfbook.rivals.minrank.minors import rootless_pair
from mfbook.rivals.minrank.witness import BLOWN_UP, agrees, search, witness
from tests.package.given import full


def unscaled(values, mask):
    """A component as it is given."""
    m, n = np.shape(mask)
    powers = np.zeros(m, dtype=int), np.zeros(n, dtype=int)
    return Component(np.array(values), np.array(mask), None, np.arange(m), np.arange(n), *powers)


def check(problem, found):
    """The witness fits and has its rank; a proof is there exactly if the bounds meet."""
    size = np.nanmax(np.abs(problem.values))
    assert np.abs(problem.residual(found.W)).max() <= 1e-11 * size
    s = np.linalg.svd(found.W, compute_uv=False)
    assert not (s[found.rank :] > 1e-13 * s[0]).any()
    assert found.lower_bound <= found.rank <= min(problem.shape)
    assert (found.proof == NOT_PROVEN) == (found.lower_bound < found.rank)
    assert (found.rank == 0) == (size == 0)


def solve(text):
    problem = MatrixCompletion.from_text(text)
    found = min_rank(problem)
    check(problem, found)
    return found


def random_mask(rng, shape):
    mask = rng.random(shape) < rng.uniform(0.2, 1)
    mask.flat[rng.integers(mask.size)] = True
    return mask


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("0 0; ? 0", 0),
        ("1 2; 3 ?", 1),
        ("0 1; 2 ?", 2),
        ("0 1; ? 2", 1),
        ("0 ?; ? 3", 1),
        ("1e-20 1; 2 ?", 1),
        ("1 1; 1e-20 2e-20", 2),
        ("1 1; 1 1.0000001", 2),
        ("1 1 1; 1 2 3; 1e-20 4e-20 9e-20", 3),
        ("0.1 0.3; 0.7 2.1", 1),
        # Bai et al. 2024, the matrices M1, M2, M3.
        ("1 2 ?; 3 ? ?; ? ? 5", 1),
        ("1 2 ?; 3 4 ?; ? ? 5", 2),
        ("1 2 ?; 3 4 ?; 6 ? 5", 2),
        ("1 ? 3; ? 5 ?; 3 ? 9", 1),
        # A staircase of zeros, and the same up to elementary operations on the observed rows.
        ("1 0 0; 0 0 1; 0 1 ?", 3),
        ("1 1 1; 1 1 2; 1 2 ?", 3),
        ("1 ? ? ?; 0 1 ? ?; 0 0 1 ?; 0 0 0 1", 4),
        ("? 1 1; 1 ? 1; 1 1 ?", 1),
        ("0 1 1; 1 0 1; 1 1 0", 3),
    ],
)
def test_by_hand(text, rank):
    found = solve(text)
    assert (found.rank, found.lower_bound) == (rank, rank)


def test_connected_instances_where_gradient_flow_ends_at_rank_three():
    assert (
        solve(
            "-0.77332568 -0.15567548 0.88379571 -0.64873607; -1.54627396 -0.82797044 ? -1.16291341;"
            "-1.98476209 ? ? -1.28724766; 2.16570731 0.24208864 ? ?"
        ).rank
        == 2
    )
    assert (
        solve(
            "-2.23537224 3.98355333 -2.67234429 -1.78154658; -2.77744663 4.28775394 -3.05569906 ?;"
            "? 2.60509094 -1.25708561 0.43680449; ? ? ? -1.33159795"
        ).rank
        == 2
    )


@pytest.mark.parametrize("mask", sampling_patterns(3), ids=lambda mask: str(mask.astype(int)))
def test_all_patterns_with_generic_values(mask):
    """A forest fits rank 1; eight entries leave a determinant linear in the ninth; nine fix it."""
    values = np.random.default_rng(int(mask.sum())).standard_normal((3, 3))
    problem = MatrixCompletion(values, mask)
    found = min_rank(problem)
    check(problem, found)
    expected = 3 if mask.all() else 1 if nx.is_forest(observation_graph(mask)) else 2
    assert (found.rank, found.lower_bound) == (expected, expected)


@given(st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_products_of_vectors_have_rank_one(seed):
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 8, 2)
    u, v = rng.standard_normal(m), rng.standard_normal(n) * 10.0 ** rng.uniform(-9, 9, n)
    u[rng.random(m) < 0.2] = 0
    problem = MatrixCompletion(np.outer(u, v), random_mask(rng, (m, n)))
    found = min_rank(problem)
    check(problem, found)
    nonzero = problem.values[problem.mask].any()
    assert found.rank == found.lower_bound == int(nonzero)
    observed = problem.values[problem.mask]
    np.testing.assert_allclose(found.W[problem.mask], observed, rtol=1e-13, atol=0)


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_transposing_permuting_and_scaling_change_nothing(seed):
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 6, 2)
    values, mask = rng.integers(-2, 3, (m, n)) * 1.0, random_mask(rng, (m, n))
    p, q = rng.permutation(m), rng.permutation(n)
    scaled = values * 10.0 ** rng.integers(-2, 3, (m, 1))
    first = min_rank(MatrixCompletion(values, mask))
    second = min_rank(MatrixCompletion(scaled[p][:, q].T, mask[p][:, q].T))
    if NOT_PROVEN not in (first.proof, second.proof):
        assert first.rank == second.rank
    assert first.lower_bound <= second.rank
    assert second.lower_bound <= first.rank


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_an_observation_more_never_lowers_the_rank(seed):
    rng = np.random.default_rng(seed)
    m, n, r = rng.integers(1, 6, 3)
    truth = rng.standard_normal((m, r)) @ rng.standard_normal((r, n))
    fewer = random_mask(rng, (m, n))
    more = fewer.copy()
    more.flat[rng.integers(m * n)] = True
    a = min_rank(MatrixCompletion(truth, fewer))
    b = min_rank(MatrixCompletion(truth, more))
    check(MatrixCompletion(truth, more), b)
    assert a.lower_bound <= b.rank <= min(m, n, r)


@given(st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_components_count_by_their_maximum(seed):
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal(rng.integers(1, 4, 2)) for _ in range(2)]
    (m, n), (k, h) = blocks[0].shape, blocks[1].shape
    values, mask = np.zeros((m + k, n + h)), np.zeros((m + k, n + h), bool)
    values[:m, :n], values[m:, n:] = blocks
    mask[:m, :n] = mask[m:, n:] = True
    problem = MatrixCompletion(values, mask)
    found = min_rank(problem)
    check(problem, found)
    assert found.rank == max(min(m, n), min(k, h)) == found.lower_bound


def test_the_truth_is_used():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 40))
    problem = MatrixCompletion(truth, rng.random((40, 40)) < 0.5, truth=truth)
    found = min_rank(problem, starts=1)
    check(problem, found)
    assert found.rank == 3


# Entries of a product over magnitudes, from which steps leave the range of the numbers.
FAR = "6e23 4e143 2e-150; ? ? ?; 4e-119 3e-135 ?; ? 4e114 1e79"


# --- Breaking things: each proof names an entry that carries it


def test_a_changed_entry_removes_the_proof():
    excluded = solve("1 2 ?; 3 4 ?; ? ? 5")
    assert excluded.proof == (
        "the alternating product around the cycle (1,1) (1,0) (0,0) (0,1) is 0.666667, not 1"
    )
    assert solve("1 2 ?; 3 6 ?; ? ? 5").rank == 1
    assert solve("1 2 ?; 3 ? ?; ? ? 5").rank == 1
    assert "zero at (0,0)" in solve("0 1; 2 ?").proof
    assert solve("? 1; 2 ?").rank == 1
    assert "rows 0, 1, 2" in solve("1 1 1; 1 1 2; 1 2 ?").proof
    assert solve("1 1 1; 1 2 2; 1 2 ?").rank == 2


def test_a_small_violation_is_seen_and_rounding_is_not():
    rng = np.random.default_rng(0)
    M = np.outer(rng.standard_normal(4), rng.standard_normal(4))
    everything = np.ones((4, 4), bool)
    assert min_rank(MatrixCompletion(M, everything)).rank == 1
    M[2, 2] *= 1 + 1e-10
    found = min_rank(MatrixCompletion(M, everything))
    assert found.rank == 2
    assert "differs from 1 by" in found.proof


def test_elimination_excludes_what_no_submatrix_shows():
    """A 4×4 matrix of rank 2 whose last observed entry is changed: two fill-ins reveal it."""
    truth = np.array([[1.0, 0, 1, 2], [0, 1, 1, 3], [1, 1, 2, 5], [2, -1, 1, 1]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]]) == 1
    assert np.linalg.matrix_rank(truth) == 2
    assert min_rank(MatrixCompletion(truth, mask)).rank == 2
    truth[3, 3] += 0.5
    found = min_rank(MatrixCompletion(truth, mask))
    assert (found.rank, found.lower_bound) == (3, 3)
    assert "determined" in found.proof


@pytest.mark.slow
def test_a_quadratic_without_a_real_root():
    """Unobserved diagonals: sixteen minus four entries leave rank 2 finitely many completions."""
    mask = ~np.eye(4, dtype=bool)
    rng = np.random.default_rng(0)
    found = [min_rank(MatrixCompletion(rng.standard_normal((4, 4)), mask)) for _ in range(40)]
    real = [answer for answer in found if "no real root" in answer.proof]
    assert {answer.rank for answer in found} == {2, 3}
    assert all(answer.proof != NOT_PROVEN for answer in found)
    assert len(real) == sum(answer.rank == 3 for answer in found)


@pytest.mark.slow
def test_a_real_root_is_not_excluded():
    """Entries of a real matrix of rank 2 always leave a common real zero."""
    rng = np.random.default_rng(1)
    mask = ~np.eye(4, dtype=bool)
    for _ in range(40):
        truth = rng.standard_normal((4, 2)) @ rng.standard_normal((2, 4))
        problem = MatrixCompletion(truth, mask)
        assert min_rank(problem).lower_bound == 2
        (part,) = components_of(problem)
        assert rootless_pair(part, 2) == ""


def test_a_sequence_without_a_limit_is_no_witness():
    # Rank 1 fits [[ε, 1], [2, 2/ε]] to any accuracy, and never exactly.
    found = solve("0 1; 2 ?")
    assert found.rank == 2
    assert np.abs(found.W).max() < 100
    (part,) = components_of(MatrixCompletion.from_text("0 1; 2 ?"))
    assert witness(part, 1, None, starts=64) is None
    # Started where the residual is 1e-13 and the entry out of sight 1e13, it is refused as well.
    far = np.array([[[1e-13], [part.values[1, 0]]]]), np.array([[[1.0, 1e13 * part.values[0, 1]]]])
    assert not agrees(part, far[0][0], far[1][0])
    assert search(part, *far, 5, 5, np.inf) is None
    # What fits with an entry that is far larger than the data is refused for that.
    part = unscaled([[1e-6, 1.0], [1.0, 0.0]], [[True, True], [True, False]])
    exact = np.array([[[1.0], [1e6]]]), np.array([[[1e-6, 1.0]]])
    assert search(part, *exact, 5, 5, np.inf) is not None
    assert search(part, *exact, 5, 5, BLOWN_UP * part.size) is None


def test_a_residual_above_rounding_is_no_witness():
    values = np.outer([1.0, 2, 3], [1.0, 1, 2])
    values[2, 2] += 1e-10
    (part,) = components_of(MatrixCompletion(values, np.ones((3, 3), bool)))
    assert witness(part, 1, None, starts=8) is None


def products_over_magnitudes(rng):
    """A product of factors with entries from 1e-8 to 1e8, rounded once, and its rank at most."""
    m, n = rng.integers(2, 6, 2)
    rank = int(rng.integers(1, min(m, n) + 1))
    A = rng.choice([0, 0, 1, -1, 1e-8], (m, rank)).tolist()
    B = rng.choice([0, 1, -1, 1e8], (rank, n)).T.tolist()
    M = [
        [float(sum(Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True))) for b in B]
        for a in A
    ]
    mask = rng.random((m, n)) < rng.choice([0.5, 0.7, 0.9, 1.0])
    mask[0, 0] = True
    return MatrixCompletion(M, mask), rank


@pytest.mark.parametrize(
    "seed", [*range(15), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(15, 60))]
)
def test_among_entries_of_many_magnitudes_nothing_false_is_proved_and_the_witness_fits(seed):
    problem, rank = products_over_magnitudes(np.random.default_rng([7, seed]))
    found = min_rank(problem)
    assert found.lower_bound <= rank
    assert np.abs(problem.residual(found.W)).max() <= 4e-12 * np.abs(problem.targets).max()


def test_a_rank_is_not_taken_for_less_beside_a_far_larger_entry():
    # Without its third row, of which the first entry is not observed, this has rank 2: columns 1
    # and 2 differ in their rows 0 and 3, though by little of the entry that is largest there.
    problem = MatrixCompletion.from_text(
        "99999999 -99999999 -100000001; -1e8 ? ?; ? -1 1; 2e-17 -99999999.99999999 -1e8"
    )
    assert min_rank(problem).lower_bound == 2


def test_a_small_entry_has_to_fit_beside_a_large_one():
    # What is missing of the last entry is 3e-15 of the largest, and all of itself.
    part = unscaled([[1e15, 1.0], [1.0, 3.0]], np.ones((2, 2), dtype=bool))
    assert not agrees(part, np.array([[1e15], [1.0]]), np.array([[1.0, 1e-15]]))


def test_larger_than_the_exhaustive_search():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((12, 3)) @ rng.standard_normal((3, 10))
    problem = MatrixCompletion(truth, rng.random((12, 10)) < 0.7)
    found = min_rank(problem)
    check(problem, found)
    assert (found.rank, found.lower_bound) == (3, 3)


def test_bad_input():
    with pytest.raises(TypeError, match="measurements are not supported"):
        min_rank(MatrixSensing([np.eye(2)], [1.0]))
    with pytest.raises(TypeError, match="MatrixCompletion"):
        min_rank(np.eye(2))
    with pytest.raises(ValueError, match="starts must be at least 1"):
        min_rank(MatrixCompletion.from_text("1 ?"), starts=0)


def test_whether_it_is_proven():
    assert min_rank(examples.M1).proven is True
    found = min_rank(MatrixCompletion.from_text("1 2 ?; 3 ? 4; ? 5 6"))
    assert found.proven == (found.proof != "not proven")


@pytest.mark.parametrize(
    "text", ["5e-324 1; 1 ?", "1e-320 1 ?; 1 ? 1; ? 1 1e-320", "1e300 1e-300; 1e-300 ?"]
)
def test_a_witness_that_no_float_can_hold_is_said_to_be_one(text):
    with pytest.raises(ValueError, match="scale rows and columns"):
        min_rank(MatrixCompletion.from_text(text))


@pytest.mark.parametrize(
    "text", ["1e-200 1; 1 ?", "1e308 1e308; -1e308 1e308", "1e-300 ?; ? 1e300"]
)
def test_data_over_hundreds_of_magnitudes(text):
    problem = MatrixCompletion.from_text(text)
    found = min_rank(problem)
    assert found.proven and np.isfinite(found.W).all()
    assert np.allclose(problem.measure(found.W), problem.targets, rtol=1e-12, atol=0)


@pytest.mark.slow
@given(st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_the_unit_of_the_data_changes_no_rank(seed):
    """From 10^-150 to 10^150, lines of zeros included; W fits in the unit of the data."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 6, 2)
    values, mask = rng.integers(-2, 3, (m, n)) * 1.0, random_mask(rng, (m, n))
    values[rng.random(m) < 0.2] = 0
    one = min_rank(MatrixCompletion(values, mask))
    for c in (2.0 ** rng.integers(-498, 499), 10.0 ** rng.uniform(-150, 150)):
        problem = MatrixCompletion(c * values, mask)
        found = min_rank(problem)
        check(problem, found)
        assert (found.rank, found.lower_bound) == (one.rank, one.lower_bound)


def test_a_row_of_observed_zeros_stays_zero():
    """It has no unit of its own: the noise of its factors was as large as the data were small."""
    problem = MatrixCompletion.from_text("-1e-40 1e-40 1e-40; 1e-40 0 1e-40; 0 ? 0")
    found = min_rank(problem)
    assert found.proven and found.rank == 2 and not found.W[2].any()
    check(problem, found)


@pytest.mark.parametrize("step", [1e30, 1e-30])
def test_a_chain_that_grows_out_of_range_is_refused_in_words(step):
    level, below = np.eye(14, dtype=bool), np.eye(14, k=-1, dtype=bool)
    values, mask = step * level + below / step, level | below
    with pytest.raises(ValueError, match="scale rows and columns"):
        min_rank(MatrixCompletion(values, mask))


def test_a_truth_out_of_range_is_left_aside():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((4, 2)) @ rng.standard_normal((2, 4))
    mask = np.triu(np.ones((4, 4), dtype=bool), -1)
    truth[3, 0] = 1e300
    problem = MatrixCompletion(truth, mask, truth=truth)
    found = min_rank(problem)
    check(problem, found)
    assert found.rank == 2


@pytest.mark.parametrize(
    "text", ["1e100 1 2; 1 1e100 1; 2 1 ?", "1e60 1 2 ?; 1 1e60 1 3; 3 1 ? 1e60; 1 ? 1 2", FAR]
)
def test_minors_beyond_all_numbers_exclude_nothing(text):
    """Their discriminants have degree 4 rank in the data, and overflow."""
    problem = MatrixCompletion.from_text(text)
    found = min_rank(problem, starts=2)
    check(problem, found)
    assert found.lower_bound == 2 and not found.proven


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1e100 1e-100; 1e-100 1e100", "beyond 10^300"),
        ("1e-100 1e100; 1e100 1e-100", "below 10^-300"),
    ],
)
def test_a_product_that_no_float_holds_is_named_by_its_size(text, says):
    found = solve(text)
    assert found.rank == 2 and found.proven
    assert f"(0,0) (0,1) is of a size {says}, not 1" in found.proof


def test_a_discriminant_that_overflows_proves_nothing():
    """Of a matrix of rank 2 whose unobserved entries are on the diagonal."""
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((4, 2)) @ rng.standard_normal((2, 4))
    for power in range(100, 141):
        part = unscaled(truth * 2.0**power, ~np.eye(4, dtype=bool))
        assert rootless_pair(part, 2) == ""


@pytest.mark.parametrize("unit", [1.0, 1e-200])
@pytest.mark.parametrize("hidden", [1e150, -1e90])
def test_a_truth_is_left_aside_where_it_is_of_no_use(unit, hidden):
    """Scaled as the data are, it is too large to compute with, or no number at all."""
    given = MatrixCompletion.from_text("-8 -1 1; 6 ? ?; -4 ? 4")
    truth = np.where(given.mask, unit * given.values, hidden)
    problem = MatrixCompletion(truth, given.mask, truth=truth)
    found = min_rank(problem, starts=4)
    check(problem, found)
    assert (found.rank, found.lower_bound) == (2, 2)
    assert np.abs(found.W).max() < 1e5 * unit


def test_minors_are_looked_at_up_to_so_many_rows():
    rng = np.random.default_rng(0)
    mask = ~np.eye(4, dtype=bool)
    values = rng.standard_normal((4, 4))
    while not rootless_pair(unscaled(values * mask, mask), 2):
        values = rng.standard_normal((4, 4))
    for rows, excluded in ((EXHAUSTIVE, True), (EXHAUSTIVE + 1, False)):
        more = np.zeros((rows - 4, 4))
        taller = unscaled(np.vstack([values * mask, more]), np.vstack([mask, more > 0]))
        assert ("no real root" in rootless_pair(taller, 2)) == excluded


@pytest.mark.parametrize("sign", [1, -1])
def test_a_scaled_entry_beyond_all_numbers_is_refused_in_words(sign):
    """Rows and columns have powers of two that are numbers, and one entry has none in their units.

    It is not taken for an observed zero where it is too small.
    """
    values = np.full((10, 10), 10.0 ** (-200 * sign))
    values[0, 0] = 10.0 ** (200 * sign)
    with pytest.raises(ValueError, match="scale rows and columns"):
        min_rank(full(values))


def test_entries_too_far_apart_to_compare_are_refused_in_words():
    text = "0 3e-08 ? 0; 1e+300 0 1e-300 ?; 3e-08 1 -1 ?"
    with pytest.raises(ValueError, match="scale rows and columns"):
        min_rank(MatrixCompletion.from_text(text))
