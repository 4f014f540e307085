"""Data at the boundary of the cone: found where a matrix fits, and none excluded without proof."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mfbook as mf
from mfbook.rivals.nuclear import face
from mfbook.rivals.nuclear.certificate import excludes
from mfbook.rivals.nuclear.data import affine_set
from studies.rivals import middle_problem

SEEDS = st.integers(0, 10**9)
UNITS = [1e-100, 1.0, 1e100]


def check(problem, found):
    """That W fits, is semidefinite, and lies above the bound; the truth does, too."""
    W = found.W
    assert np.array_equal(W[problem.mask], problem.values[problem.mask])
    assert np.array_equal(W, W.T)
    assert np.linalg.eigvalsh(W)[0] >= -1e-13 * found.value
    assert found.value == pytest.approx(np.trace(W))
    assert found.lower_bound == min(mf.dual_bound(problem, found.dual), found.value)
    assert found.gap == found.value - found.lower_bound >= 0
    assert found.converged == (found.gap <= 1e-6 * found.value)
    assert found.lower_bound <= np.trace(problem.truth) * (1 + 1e-12)


def low_rank(rng, d, rank, share):
    """A problem that a matrix of low rank fits, so that its complete blocks are singular."""
    U = rng.standard_normal((d, rank))
    upper = np.triu(rng.random((d, d)) < share)
    upper[0, 0] = True
    return U @ U.T, upper | upper.T


def symmetric(truth, mask, unit=1.0):
    truth = unit * (truth + truth.T) / 2
    return mf.SymmetricCompletion(truth, mask, truth=truth)


def cycle(angles):
    """Ones on the diagonal and the cosines of the angles around a cycle: fits iff, below 2π in sum,
    no angle is larger than the others together (Barrett, Johnson & Tarazaga 1993)."""
    n = len(angles)
    M, mask = np.eye(n), np.eye(n, dtype=bool)
    for i, angle in enumerate(angles):
        j = (i + 1) % n
        M[i, j] = M[j, i] = np.cos(angle)
        mask[i, j] = mask[j, i] = True
    return M, mask


@pytest.mark.slow
@pytest.mark.parametrize(("share", "number", "gap"), [(0.35, 8, 0.02), (0.4, 9, 1e-5)])
@pytest.mark.parametrize("unit", UNITS)
def test_a_truth_of_rank_three_is_not_missed(share, number, gap, unit):
    """The kernels of a block of four, and of ten rows without one, hold all that fits in a face."""
    problem = middle_problem(share, number)
    problem = symmetric(problem.truth, problem.mask, unit)
    found = mf.min_nuclear_norm(problem)
    check(problem, found)
    assert found.gap <= gap * found.value
    assert found.value < np.trace(problem.truth)


@pytest.mark.parametrize(("share", "number"), [(0.35, 8), (0.4, 9)])
def test_a_rough_answer_in_the_face_is_moved_onto_the_data_there(share, number):
    problem = middle_problem(share, number)
    found = mf.min_nuclear_norm(problem, tol=1e-3)
    assert np.array_equal(found.W[problem.mask], problem.values[problem.mask])
    assert np.linalg.eigvalsh(found.W)[0] >= -1e-13 * found.value
    assert found.gap <= 0.02 * found.value


@given(seed=SEEDS, unit=st.sampled_from(UNITS))
@settings(max_examples=30, deadline=None)
def test_what_a_low_rank_fits_is_found(seed, unit):
    rng = np.random.default_rng(seed)
    problem = symmetric(
        *low_rank(rng, rng.integers(4, 15), rng.integers(1, 5), rng.uniform(0.15, 0.9)), unit
    )
    check(problem, mf.min_nuclear_norm(problem))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.45, 0.6, 0.9])
@pytest.mark.parametrize("d", [20, 34, 50])
def test_what_a_low_rank_fits_is_found_where_it_is_large(d, share):
    rng = np.random.default_rng(d)
    problem = symmetric(*low_rank(rng, d, 3, share))
    check(problem, mf.min_nuclear_norm(problem))


@pytest.mark.parametrize("n", [4, 5, 8])
@pytest.mark.parametrize("unit", UNITS)
def test_a_cycle_fits_up_to_the_angle_that_theory_says(n, unit):
    rest = np.linspace(0.2, 0.5, n - 1)
    for excess in (-1e-2, -1e-5, 0.0):
        M, mask = cycle([rest.sum() + excess, *rest])
        problem = mf.SymmetricCompletion(unit * M, mask, truth=unit * np.eye(n))
        found = mf.min_nuclear_norm(problem)
        check(problem, found)
        assert found.value == pytest.approx(n * unit, rel=1e-12)
    # On the boundary the matrix is unique: the points lie on a circle.
    at = np.cumsum([0, *rest[::-1]])[::-1]
    at = np.concatenate([[0.0], at[:-1]])
    assert found.W == pytest.approx(unit * np.cos(at[:, None] - at), abs=1e-6 * unit)
    for excess in (1e-5, 1e-2):
        M, mask = cycle([rest.sum() + excess, *rest])
        with pytest.raises(ValueError, match=r"^infeasible: no positive semidefinite"):
            mf.min_nuclear_norm(mf.SymmetricCompletion(unit * M, mask))


@pytest.mark.slow
@given(seed=SEEDS, unit=st.sampled_from(UNITS))
@settings(max_examples=20, deadline=None)
def test_a_negative_eigenvalue_in_a_block_is_proved_to_exclude(seed, unit):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 12))
    M, mask = low_rank(rng, d, 3, rng.uniform(0.1, 0.9))
    k = int(rng.integers(2, d + 1))
    mask[:k, :k] = True
    v = np.linalg.eigh(M[:k, :k])[1][:, 0]
    M[:k, :k] -= 10 ** rng.uniform(-5, 0) * np.outer(v, v)
    smallest = np.linalg.eigvalsh(M[:k, :k])[0]
    problem = symmetric(M, mask, unit)
    if smallest > 0:
        return
    with pytest.raises(ValueError, match=r"^infeasible"):
        mf.min_nuclear_norm(problem)


def test_a_proof_has_to_be_one():
    indefinite, singular = (
        affine_set(mf.SymmetricCompletion.from_text(text), True)
        for text in ("1 2; 2 1", "1 1; 1 1")
    )
    Z = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert excludes(Z, indefinite)
    assert not excludes(-Z, indefinite)  # not semidefinite
    assert not excludes(np.eye(2), indefinite)  # pairs positively
    assert not excludes(Z, singular)  # pairs to zero
    above = np.nextafter(1.0, 2.0)
    rounded = mf.SymmetricCompletion([[1.0, above], [above, 1.0]], np.ones((2, 2), dtype=bool))
    assert not excludes(Z, affine_set(rounded, True))  # by rounding only
    assert mf.min_nuclear_norm(rounded).value == 2.0
    assert not excludes(np.full((2, 2), np.nan), indefinite)
    # What is negative on (1, 1) by 5e-11 pairs negatively with ones, which fit themselves.
    assert not excludes(np.array([[1.0, -1.0], [-1.0, 1.0 - 1e-10]]), singular)


@pytest.mark.parametrize(("last_digits", "proved"), [(40, False), (1000, True)])
def test_what_rounding_explains_is_no_proof(last_digits, proved):
    """⟨Z, M⟩ is −80 EPS: 64 go to the rounding of Z's eigenvalues, the rest to that of M."""
    off = 1.0 + last_digits * np.finfo(float).eps
    problem = mf.SymmetricCompletion([[1.0, off], [off, 1.0]], np.ones((2, 2), dtype=bool))
    assert excludes(np.array([[1.0, -1.0], [-1.0, 1.0]]), affine_set(problem, True)) == proved


def test_measurements_exclude_as_entries_do():
    X = [np.eye(3), np.diag([1.0, -1.0, 0.0]), [[0, 1, 0], [1, 0, 0], [0, 0, 0]]]
    with pytest.raises(ValueError, match=r"^infeasible: no positive semidefinite"):
        mf.min_nuclear_norm(mf.MatrixSensing(X, [1.0, 0.0, 4.0]), psd=True)
    found = mf.min_nuclear_norm(mf.MatrixSensing(X, [1.0, 0.0, 1.0]), psd=True)
    assert found.value == pytest.approx(1.0)


def test_what_fits_only_at_infinity_is_not_called_infeasible():
    """Rows 1 and 2 are equal in the cone, and their third entries are not: but nearly, far out."""
    try:
        found = mf.min_nuclear_norm(mf.SymmetricCompletion.from_text("1 1 1; 1 1 2; 1 2 ?"))
    except ValueError as error:
        assert str(error).startswith("undecided")
    else:
        assert found.value > 1e6 and not found.converged


@pytest.mark.slow
@pytest.mark.parametrize(("share", "number"), [(0.35, 8), (0.4, 9)])
def test_without_the_face_it_is_undecided_in_words(share, number, monkeypatch):
    monkeypatch.setattr(face, "POSITIVE", -1.0)
    problem = middle_problem(share, number)
    with pytest.raises(ValueError, match=r"^undecided: .* nor a proof"):
        mf.min_nuclear_norm(problem)


def test_the_face_is_that_of_the_kernel():
    truth = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 10.0]])
    mask = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    data = affine_set(symmetric(truth, mask), True)
    found, Z = face.exposed(data)
    kernel = np.array([2.0, -1.0, 0.0]) / np.sqrt(5)
    assert found.V.shape == (3, 2)
    assert np.abs(kernel @ found.V).max() < 1e-14
    assert Z / np.trace(Z) == pytest.approx(np.outer(kernel, kernel), abs=1e-12)
    definite = affine_set(symmetric(truth + np.eye(3), mask), True)
    assert face.exposed(definite)[0] is None


def test_where_no_diagonal_is_observed_nothing_is_excluded():
    """A large diagonal fits; the data leave no face, over however many magnitudes."""
    problem = mf.SymmetricCompletion.from_text(
        "? 100 -3e-5 -0.3 0; 100 ? -0.001 -20 1e-8; -3e-5 -0.001 ? 4e-6 1e-15;"
        "-0.3 -20 4e-6 ? -1e-11; 0 1e-8 1e-15 -1e-11 ?"
    )
    data = affine_set(problem, True)
    assert face.exposed(data)[0] is None
    rng = np.random.default_rng(0)
    assert not any(excludes(Z + Z.T, data) for Z in rng.standard_normal((9, 5, 5)))
    found = mf.min_nuclear_norm(problem)
    assert np.array_equal(found.W[problem.mask], problem.values[problem.mask])
    assert np.linalg.eigvalsh(found.W)[0] >= -1e-13 * found.value
    # What the entries 100 and -20 of row 1 ask for by themselves.
    assert found.value >= 2 * np.hypot(100, 20) and found.lower_bound <= found.value


@pytest.mark.parametrize("failed", ["nothing", "zero", "no kernel"])
def test_what_a_solver_makes_of_nothing_is_no_face(monkeypatch, failed):
    data = affine_set(mf.SymmetricCompletion.from_text("1 1; 1 1"), True)
    assert face.exposed(data)[0] is not None
    made = {
        "nothing": (np.full((2, 2), np.nan), np.eye(2)),
        "zero": (np.eye(2) / 2, np.zeros((2, 2))),
        "no kernel": (np.zeros((2, 2)), np.eye(2)),
    }
    Z, P = made[failed]
    monkeypatch.setattr(face, "least_pairing", lambda block: (Z, P, 0.0))
    found, least = face.exposed(data)
    assert found is None
    assert np.array_equal(least, np.nan_to_num(Z))
