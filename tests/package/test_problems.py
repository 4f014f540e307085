"""Problems: what they compute, and what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mfbook as mf
from mfbook.models import factors_of

entries = st.floats(-100, 100, allow_nan=False)


@given(
    arrays(float, (3, 4), elements=entries),
    arrays(float, (3, 4), elements=entries),
    arrays(bool, (3, 4)).filter(np.any),
    st.sampled_from(["mean", "half"]),
)
def test_completion_gradient_is_autograds(values, W, mask, loss):
    problem = mf.MatrixCompletion(values, mask, loss=loss)
    tensor = torch.tensor(W, requires_grad=True)
    squares = (tensor[torch.tensor(mask)] - torch.tensor(values[mask])) ** 2
    value = squares.mean() if loss == "mean" else squares.sum() / 2
    value.backward()
    size = np.abs(W).max() + np.abs(values).max() + 1
    # A handful of rounded operations each: the bound is a few units in the last place.
    assert abs(problem.loss_value(W) - value.item()) <= 1e-14 * size**2
    assert np.abs(problem.gradient(W) - tensor.grad.numpy()).max() <= 1e-14 * size


@pytest.mark.parametrize("loss", ["mean", "half"])
def test_completion_is_sensing_with_unit_matrices(loss):
    rng = np.random.default_rng(3)
    values, mask = rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.5
    completion = mf.MatrixCompletion(values, mask, loss=loss)
    places = np.argwhere(mask)
    units = np.zeros((len(places), 3, 4))
    units[np.arange(len(places)), places[:, 0], places[:, 1]] = 1
    sensing = mf.MatrixSensing(units, values[mask], loss=loss)
    W = rng.standard_normal((5, 2, 3, 4))
    assert np.allclose(completion.loss_value(W), sensing.loss_value(W), rtol=1e-14)
    assert np.allclose(completion.gradient(W), sensing.gradient(W), rtol=1e-14)
    value, gradient = sensing.value_and_gradient(W)
    assert np.array_equal(value, sensing.loss_value(W))
    assert np.array_equal(gradient, sensing.gradient(W))


def test_from_text_reads_every_word_for_unobserved():
    problem = mf.MatrixCompletion.from_text("1, ? *\n★ nan -2e1;\n")
    assert problem.mask.tolist() == [[True, False, False], [False, False, True]]
    assert problem.values[1, 2] == -20.0
    again = mf.MatrixCompletion.from_text("; ".join(" ".join(row) for row in problem.words()))
    assert np.array_equal(again.mask, problem.mask)


def test_unobserved_values_cannot_be_seen():
    problem = mf.MatrixCompletion(np.ones((2, 2)), np.eye(2, dtype=bool))
    assert np.isnan(problem.values[~problem.mask]).all()
    hidden = mf.MatrixCompletion([[1, np.inf], [np.nan, 1]], np.eye(2, dtype=bool))
    assert np.array_equal(hidden.values, problem.values, equal_nan=True)


def test_a_problem_cannot_be_changed():
    mask = np.eye(2, dtype=bool)
    problem = mf.MatrixCompletion(np.ones((2, 2)), mask)
    mask[:] = False
    assert problem.n_observed == 2
    with pytest.raises(ValueError, match="read-only"):
        problem.values[0, 0] = 3
    with pytest.raises(AttributeError):
        problem.loss = "half"


EYE = np.eye(2, dtype=bool)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mf.MatrixCompletion(np.ones((2, 3)), EYE), ValueError, "same shape"),
        (lambda: mf.MatrixCompletion(np.ones(4), EYE), ValueError, "2 dimensions"),
        (lambda: mf.MatrixCompletion([[np.nan, 1], [1, 1]], EYE), ValueError, r"\(0, 0\) is nan"),
        (lambda: mf.MatrixCompletion([[np.inf, 1], [1, 1]], EYE), ValueError, "finite"),
        (lambda: mf.MatrixCompletion(1j * np.ones((2, 2)), EYE), TypeError, "complex"),
        (lambda: mf.MatrixCompletion([["a", 1], [1, 1]], EYE), TypeError, "real numbers"),
        (lambda: mf.MatrixCompletion(np.ones((2, 2)), ~EYE & EYE), ValueError, "selects no entry"),
        (lambda: mf.MatrixCompletion(np.ones((2, 2)), np.eye(2)), TypeError, "boolean"),
        (lambda: mf.MatrixCompletion(np.ones((2, 2)), EYE, loss="sum"), ValueError, "'mean'"),
        (lambda: mf.MatrixCompletion(np.ones((2, 2)), EYE, truth=np.ones(3)), ValueError, "truth"),
        (lambda: mf.MatrixCompletion.from_text("1 2; 3"), ValueError, r"\[2, 1\]"),
        (lambda: mf.MatrixCompletion.from_text("1 2; 3 x"), ValueError, "row 1, column 1: 'x'"),
        (lambda: mf.MatrixCompletion.from_text(" ; \n"), ValueError, "no row"),
        (lambda: mf.MatrixCompletion.from_text("? ?"), ValueError, "selects no entry"),
        (lambda: mf.MatrixSensing(np.ones((2, 2)), [1]), ValueError, "3 dimensions"),
        (lambda: mf.MatrixSensing(np.ones((2, 2, 2)), [1]), ValueError, "one target"),
        (lambda: mf.MatrixSensing(np.ones((0, 2, 2)), []), ValueError, "nothing to fit"),
        (lambda: mf.MatrixSensing(np.ones((1, 2, 2)), [np.nan]), ValueError, "finite"),
        (lambda: mf.small_init((2, 2), rng=None), TypeError, "rng"),
        (lambda: mf.small_init((2, 2), width=0, rng=0), ValueError, "at least 1"),
        (lambda: mf.small_init((2, 2), depth=0, rng=0), ValueError, "at least 1"),
        (lambda: mf.examples.nuclear_norm_counterexample(1), ValueError, "exceed 1"),
    ],
)
def test_bad_problems_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ((np.ones((2, 2)), np.ones((3, 2))), ValueError, "multiply to the problem's shape"),
        ((np.ones((2, 2)), np.ones((2, 3))), ValueError, "multiply to the problem's shape"),
        ((np.ones((2, 0)), np.ones((0, 2))), ValueError, "hidden width"),
        ((np.ones((2, 2)), np.full((2, 2), np.nan)), ValueError, "factor 1 must be finite"),
        ((np.ones((2, 2)), 1j * np.ones((2, 2))), TypeError, "complex"),
        ((np.ones(2), np.ones(2)), ValueError, "must be matrices"),
        ((), ValueError, "must be matrices"),
        (np.ones((2, 2, 2)), TypeError, "tuple"),
        ((np.ones((3, 2, 2)), np.ones((4, 2, 2))), ValueError, "leading axes"),
    ],
)
def test_bad_factors_are_refused(factors, error, message):
    with pytest.raises(error, match=message):
        factors_of(mf.MatrixCompletion(np.ones((2, 2)), EYE), factors)


def test_small_init_draws_each_entry_from_a_standard_normal():
    A, B = mf.small_init((4, 5), rng=0, batch=4000)
    assert (A.shape, B.shape) == ((4000, 4, 4), (4000, 4, 5))
    for factor in (A, B):
        # five standard errors of the mean and of the variance of N(0, 1)
        assert abs(factor.mean()) < 5 / np.sqrt(factor.size)
        assert abs(factor.var() - 1) < 5 * np.sqrt(2 / factor.size)
