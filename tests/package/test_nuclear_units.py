"""Minimum nuclear norm in any units: of the data, of a measurement, of a row; and out of range."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbook.problems import MatrixCompletion, MatrixSensing
from mfbook.rivals.nuclear import dual_bound, min_nuclear_norm

SEEDS = st.integers(0, 10**9)


def of_entries(rng):
    shape = rng.integers(1, 5, 2)
    mask = rng.random(shape) < 0.6
    mask.flat[rng.integers(mask.size)] = True
    values = rng.standard_normal(shape) * (rng.random(shape) < 0.8)
    return lambda c: MatrixCompletion(c * values, mask), False


def of_measurements(rng):
    X, W = rng.standard_normal((rng.integers(1, 6), 3, 2)), rng.standard_normal((3, 2))
    return lambda c: MatrixSensing(X, c * np.tensordot(X, W, 2)), False


def semidefinite(rng):
    n = rng.integers(1, 5)
    U = rng.standard_normal((n, rng.integers(1, n + 1)))
    mask = rng.random((n, n)) < 0.6
    mask[0, 0] = True
    return lambda c: MatrixCompletion(c * (U @ U.T), mask), True


@pytest.mark.parametrize("kind", [of_entries, of_measurements, semidefinite])
@given(seed=SEEDS)
@settings(max_examples=12, deadline=None)
def test_the_answer_to_c_times_the_data_is_c_times_the_answer(kind, seed):
    rng = np.random.default_rng(seed)
    scaled, psd = kind(rng)
    one = min_nuclear_norm(scaled(1.0), psd=psd)
    power = 2.0 ** rng.integers(-498, 499)  # 10^-150 to 10^150, and changes no digit
    found = min_nuclear_norm(scaled(power), psd=psd)
    assert np.array_equal(found.W, power * one.W)
    assert found.value == power * one.value and found.gap == power * one.gap
    c = 10.0 ** rng.uniform(-150, 150)
    found = min_nuclear_norm(scaled(c), psd=psd)
    assert found.value / c == pytest.approx(one.value, rel=1e-7)
    assert found.lower_bound / c == pytest.approx(one.lower_bound, rel=1e-7)
    assert found.converged and one.converged


@given(seed=SEEDS)
@settings(max_examples=12, deadline=None)
def test_each_measurement_may_be_in_units_of_its_own(seed):
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((4, 3, 2)), rng.standard_normal((3, 2))
    y = np.tensordot(X, W, 2)
    units = 2.0 ** rng.integers(-400, 400, 4)
    one = min_nuclear_norm(MatrixSensing(X, y))
    found = min_nuclear_norm(MatrixSensing(units[:, None, None] * X, units * y))
    assert np.array_equal(found.W, one.W) and found.gap == one.gap


def test_a_small_measurement_counts():
    X = np.array([[[1e-20, 0], [0, 0]], [[0, 0], [0, 1.0]]])
    found = min_nuclear_norm(MatrixSensing(X, [3e-20, 4.0]))
    assert found.value == pytest.approx(7) and found.W[0, 0] == pytest.approx(3)
    with pytest.raises(ValueError, match="infeasible"):
        min_nuclear_norm(MatrixSensing(np.concatenate([X, X[:1]]), [3e-20, 4.0, 5e-20]))


@pytest.mark.parametrize("psd", [False, True])
def test_measurements_that_are_zero_say_nothing(psd):
    found = min_nuclear_norm(MatrixSensing(np.zeros((2, 2, 2)), [0.0, 0.0]), psd=psd)
    assert (found.value, found.gap) == (0, 0) and not found.W.any()
    with pytest.raises(ValueError, match="infeasible"):
        min_nuclear_norm(MatrixSensing(np.zeros((2, 2, 2)), [0.0, 1.0]), psd=psd)


def test_what_no_float_can_hold_is_said_to_be_so():
    with pytest.raises(ValueError, match="beyond 10\\^308"):
        min_nuclear_norm(MatrixCompletion.from_text("1e308 -1e308; 1e308 1e308"))
    with pytest.raises(ValueError, match="beyond 10\\^308"):
        min_nuclear_norm(MatrixSensing([[[1e-300]]], [1e300]))
    tiny = min_nuclear_norm(MatrixCompletion.from_text("1e-320 ?; ? 1e-320"))
    assert tiny.value == 2e-320 and tiny.gap == 0


@given(seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_measurements_that_cancel_lift_no_bound(seed):
    """Of 1×1 matrices the bound from any dual point is a quotient of fractions."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 5))
    a, w = rng.standard_normal((2, k))
    w[-1] = -(a[:-1] @ w[:-1]) / a[-1] * (1 + 10.0 ** rng.uniform(-14, -2))
    y, a, w = (
        rng.standard_normal(k),
        a * 10.0 ** rng.uniform(-90, 90),
        w * 10.0 ** rng.uniform(-90, 90),
    )
    exact_sum, exact_pairing = (
        sum(Fraction(x) * Fraction(z) for x, z in zip(w, other, strict=True)) for other in (a, y)
    )
    bound = dual_bound(MatrixSensing(a[:, None, None], y), w)
    assert bound <= 0 or Fraction(bound) * abs(exact_sum) <= exact_pairing


# --- Positive semidefinite


def test_a_row_of_small_entries_has_to_fit_as_well():
    # W_11 W_22 ≥ W_12² makes the free entry at least 10^9; rounding of it must not excuse W_11.
    found = min_nuclear_norm(MatrixCompletion.from_text("1e-9 1; 1 ?"), psd=True)
    assert found.value == pytest.approx(1e9)
    assert found.lower_bound <= 1e9
    assert found.converged == (found.gap <= 1e-6 * found.value)


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_what_fits_is_never_called_infeasible(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    U = rng.standard_normal((n, rng.integers(1, n + 1))) * 10.0 ** rng.uniform(-4, 4, (n, 1))
    U[rng.random(n) < 0.2] = 0
    mask = rng.random((n, n)) < 0.6
    mask[0, 0] = True
    problem = MatrixCompletion(U @ U.T, mask)
    try:
        found = min_nuclear_norm(problem, psd=True)
    except ValueError as error:
        assert not str(error).startswith("infeasible")
        return
    assert np.array_equal(found.W[mask], problem.values[mask])
    # In units of its rows, where those are not zero.
    size = np.sqrt(np.diag(found.W))
    assert not found.W[size == 0].any() and not found.W[:, size == 0].any()
    units = np.where(size > 0, size, 1.0)
    assert np.linalg.eigvalsh(found.W / units / units[:, None])[0] > -1e-7
    assert found.lower_bound <= np.trace(U @ U.T) * (1 + 1e-12)


def test_a_negative_diagonal_entry_is_none_however_small():
    with pytest.raises(ValueError, match=r"infeasible.*not negative, but -1e-20"):
        min_nuclear_norm(MatrixCompletion.from_text("-1e-20 ?; ? 1"), psd=True)
