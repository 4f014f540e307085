"""Measures of a matrix, against their definitions and against other routes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfbook as mf


def with_spectrum(spectrum, m=5, n=4, seed=0):
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((m, m)))[0]
    V = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return U[:, : len(spectrum)] * np.array(spectrum) @ V[: len(spectrum)]


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=4), st.integers(0, 99))
def test_measures_of_a_known_spectrum(spectrum, seed):
    W = with_spectrum(spectrum, seed=seed)
    s = np.sort(spectrum)[::-1]
    rounding = 1e-13 * s[0]
    assert abs(mf.nuclear_norm(W) - s.sum()) < 4 * rounding
    assert mf.numerical_rank(W) == 4
    for r in range(5):
        assert abs(mf.low_rankness(W, r) - np.linalg.norm(s[r:])) < 4 * rounding
    p = s / s.sum()
    assert mf.effective_rank(W) == pytest.approx(np.prod(p**-p), rel=1e-9)


def test_effective_rank_counts_equal_singular_values():
    for k in (1, 2, 3):
        assert mf.effective_rank(with_spectrum([7.0] * k)) == pytest.approx(k, rel=1e-9)


def test_numerical_rank_of_products_and_of_zero():
    rng = np.random.default_rng(1)
    for r in range(1, 5):
        W = rng.standard_normal((6, r)) @ rng.standard_normal((r, 4))
        assert mf.numerical_rank(W) == r
    assert mf.numerical_rank(np.zeros((3, 3))) == 0


def test_stacks_give_arrays():
    W = np.stack([with_spectrum([3, 2], seed=k) for k in range(6)]).reshape(2, 3, 5, 4)
    assert mf.nuclear_norm(W).shape == (2, 3)
    assert np.array_equal(mf.numerical_rank(W), np.full((2, 3), 2))
    assert np.allclose(mf.reconstruction_error(2 * W, W), 1.0)


def test_undefined_measures_are_refused():
    with pytest.raises(ValueError, match="zero"):
        mf.effective_rank(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="zero"):
        mf.reconstruction_error(np.ones((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one shape"):
        mf.reconstruction_error(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="between 0 and 2"):
        mf.low_rankness(np.ones((2, 2)), 3)
    with pytest.raises(ValueError, match="matrix"):
        mf.nuclear_norm(np.ones(3))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e308, 1e-308, 1e-322])
def test_matrices_at_the_ends_of_the_floats(size):
    W = np.diag([size, size, 0.0])
    assert mf.numerical_rank(W) == 2
    assert mf.effective_rank(W) == pytest.approx(2.0)
    assert mf.reconstruction_error(-W, W) == pytest.approx(4.0)
    assert mf.low_rankness(W, 1) == pytest.approx(size, rel=1e-9)
    assert mf.nuclear_norm(W / 2) == pytest.approx(size, rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_what_no_float_can_hold_is_refused():
    W = np.full((2, 2), 1.5e308)
    for measure in (mf.nuclear_norm, lambda W: mf.low_rankness(W, 0)):
        with pytest.raises(ValueError, match="beyond 10"):
            measure(np.diag([1.7e308, 1.7e308]))
    assert mf.reconstruction_error(W, np.full((2, 2), 1e-300)) == np.inf
