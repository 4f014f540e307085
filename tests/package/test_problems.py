"""Problems: what they compute, and what they refuse."""

import io

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mfbook as mf
from mfbook.models import factors_of
from mfbook.problems.fit import size_of_data
from mfbook.problems.text import printable
from tests.package.own import Frame, NAType

entries = st.floats(-100, 100, allow_nan=False)


@pytest.mark.slow
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


NAN = np.nan


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # every sign and word, in one row
        ("1 ? * ★ ⋆ ☆ _ . - − – —", [[1, *[NAN] * 11]]),
        ("1 nan NaN NA na N/A <NA> None NONE null", [[1, *[NAN] * 9]]),
        # minus signs of typeset text, and numbers of every form
        (
            "−1 –2.5 -3 +4 5. .5 -.5 −.5 1e3 −2E-1",
            [[-1, -2.5, -3, 4, 5, 0.5, -0.5, -0.5, 1e3, -0.2]],
        ),
        ("\ufeff1 2\n3 ?\n", [[1, 2], [3, NAN]]),
        ("1 2\r\n3 ?\r\n\r\n", [[1, 2], [3, NAN]]),
        ("1\u00a02; 3\u2003?", [[1, 2], [3, NAN]]),
        # cells that hold nothing, first, inside, last, and a whole row of them
        ("1,,3\n,5,\n,,\n", [[1, NAN, 3], [NAN, 5, NAN], [NAN] * 3]),
        ("1,2,\n3,4,\n", [[1, 2, NAN], [3, 4, NAN]]),
        (",1\n,2\n", [[NAN, 1], [NAN, 2]]),
        ("1, , 3; , 5 , ", [[1, NAN, 3], [NAN, 5, NAN]]),
        ("1\t\t3\n\t5\t\n\t\t\n", [[1, NAN, 3], [NAN, 5, NAN], [NAN] * 3]),
        ("1\t\n\t2\n", [[1, NAN], [NAN, 2]]),
        ("\t1 2\n\t3 ?\n", [[1, 2], [3, NAN]]),  # an indentation
        ("   1 2\n   3 ?\n  ", [[1, 2], [3, NAN]]),
        ("1,\t2\n3,\t?", [[1, 2], [3, NAN]]),
        ("1 2;\n3 ?;\n", [[1, 2], [3, NAN]]),
        ("1 2; 3 ?\n5 6; 7 8", [[1, 2], [3, NAN], [5, 6], [7, 8]]),
        ("1; ?; 3", [[1], [NAN], [3]]),
        ("1\n?\n3\n", [[1], [NAN], [3]]),
        # as Python, NumPy and Matlab print
        ("[[1, 2], [3, None]]", [[1, 2], [3, NAN]]),
        ("[[ 1.  2.]\n [ 3. nan]]\n", [[1, 2], [3, NAN]]),
        ("[1 2; 3 NaN]", [[1, 2], [3, NAN]]),
    ],
)
def test_from_text_reads_what_people_paste(text, rows):
    problem = mf.MatrixCompletion.from_text(text)
    assert np.array_equal(problem.values, rows, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1;2;3\n4;5;6\n", "semicolons stand between single entries of several lines"),
        ("\t1\t2\n\t3\t4\n", "begins with a tab"),
        ("1\n\n3\n", "empty line stands inside a single column"),
        ("1;;3", "empty line stands inside a single column"),
        ("1_0 2", "'1_0' is neither a number"),
        ("1 2 # 3", "'#' is neither"),
        ("a,b\n1,2", "row 0, column 0: 'a'"),
        ("1,2\n3", r"\[2, 1\]"),
        ("1,5 2,5\n3,5 4,5", "decimal commas"),
        ("1,5\t2,5\n?\t4", "decimal commas"),
        ("1,5 2; 3 4", "decimal commas"),
        ("9" * 60 + "x" * 5000, "9x?…' is neither"),
        ("1 inf", "finite"),
        ("1 1e999", "finite"),
        ("", "no row"),
    ],
)
def test_text_that_can_be_misread_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        mf.MatrixCompletion.from_text(text)


@pytest.mark.parametrize("text", [None, b"1 2; 3 ?", [[1, 2]], 3])
def test_text_is_text(text):
    with pytest.raises(TypeError, match="text must be a string"):
        mf.MatrixCompletion.from_text(text)


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, NAN]],
        [[1, 2], [3, None]],
        np.ma.array([[1, 2], [3, 9]], mask=[[0, 0], [0, 1]]),
        np.ma.array([[1, 2], [3, NAN]]),
        [np.ma.array([1, 2]), np.ma.array([3, 9], mask=[0, 1])],
        Frame([[1, 2.0], [3, NAType()]]),
        torch.tensor([[1.0, 2.0], [3.0, NAN]]),
    ],
)
def test_from_array_finds_what_is_known(values):
    problem = mf.MatrixCompletion.from_array(values, loss="half", name="mine")
    assert np.array_equal(problem.values, [[1, 2], [3, NAN]], equal_nan=True)
    assert (problem.loss, problem.name) == ("half", "mine")


def test_from_array_takes_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 3], "b": [2, None]})
    for table in (frame, frame.astype("Int64"), frame.convert_dtypes()):
        problem = mf.MatrixCompletion.from_array(table)
        assert np.array_equal(problem.values, [[1, 2], [3, NAN]], equal_nan=True)
    assert mf.nuclear_norm(frame.fillna(0)) > 0
    with pytest.raises(TypeError, match="NAType"):
        mf.nuclear_norm(frame.astype("Int64"))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mf.MatrixCompletion.from_array([[np.inf, 1]]), ValueError, "finite"),
        (lambda: mf.MatrixCompletion.from_array([[NAN]]), ValueError, "selects no entry"),
        (lambda: mf.MatrixCompletion.from_array([1, 2]), ValueError, "2 dimensions"),
        (lambda: mf.MatrixCompletion.from_array(None), TypeError, "None"),
        (lambda: mf.MatrixCompletion.from_array([["1", "?"]]), TypeError, "from_text"),
        (
            lambda: mf.MatrixCompletion.from_array(scipy.sparse.csr_array(np.eye(2))),
            TypeError,
            "from_triplets",
        ),
        (
            lambda: mf.MatrixCompletion.from_array([[1]], mask=[[True]]),
            TypeError,
            r"MatrixCompletion\(values, mask\)",
        ),
    ],
)
def test_from_array_refuses_the_rest(make, error, message):
    with pytest.raises(error, match=message):
        make()


triplets = mf.MatrixCompletion.from_triplets


def test_from_triplets_puts_entries_in_their_places():
    problem = triplets([1, 0, 1], (2, 0, 0), np.array([5, 3, 4]), shape=(3, 4), name="mine")
    expected = np.full((3, 4), NAN)
    expected[0, 0], expected[1, 0], expected[1, 2] = 3, 4, 5
    assert np.array_equal(problem.values, expected, equal_nan=True) and problem.name == "mine"
    coo = scipy.sparse.coo_array([[0, 2.0], [3, 0]])
    assert triplets(*coo.coords, coo.data).words() == [["★", "2"], ["3", "★"]]


def test_equal_duplicates_are_one_entry():
    problem = triplets([0, 0, 1], [1, 1, 0], [2, 2, 3])
    assert problem.n_observed == 2 and problem.loss_value(np.zeros((2, 2))) == (4 + 9) / 2


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (([0, 0], [1, 1], [2, 3]), ValueError, r"\(0, 1\) is 2 in triplet 0 and 3 in triplet 1"),
        (([0], [1, 1], [2]), ValueError, "one length, but have 1, 2 and 1"),
        (([], [], []), ValueError, "hold no entry"),
        (([0, -1], [0, 0], [1, 2]), ValueError, "rows must hold integers from 0 on, .* is -1"),
        (([0.5], [0], [1]), ValueError, "rows must hold integers from 0 on, .* is 0.5"),
        (([True], [0], [1]), TypeError, "booleans"),
        (([0], [0], [NAN]), ValueError, "finite"),
        (([[0]], [0], [1]), ValueError, "1 dimensions"),
        ((["a"], [0], [1]), TypeError, "text"),
        (([10**6], [10**6], [1]), ValueError, "return_inverse"),
    ],
)
def test_from_triplets_refuses_the_rest(words, error, message):
    with pytest.raises(error, match=message):
        triplets(*words)
    with pytest.raises(ValueError, match=r"shape \(1, 2\).* 1 and 1; they count from 0"):
        triplets([1], [1], [1], shape=(1, 2))


def test_a_mask_inside_the_values_is_not_lost():
    hidden = np.ma.array([[1.0, 2.0], [3.0, -999.0]], mask=[[0, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"\(1, 1\) is masked.*from_array"):
        mf.MatrixCompletion(hidden, np.ones((2, 2), dtype=bool))


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


def test_matrices_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"truth must have the problem's shape \(2, 2\)"):
        mf.MatrixSensing(np.ones((1, 2, 2)), [1.0], truth=np.ones((3, 3)))
    problem = mf.MatrixSensing(np.ones((1, 2, 2)), [1.0])
    with pytest.raises(ValueError, match=r"W must end in the problem's shape \(2, 2\)"):
        problem.loss_value(np.ones((2, 3)))


def test_a_large_problem_is_named_by_its_size():
    wide = mf.MatrixCompletion(np.ones((2, 9)), np.eye(2, 9, dtype=bool))
    assert repr(wide) == "MatrixCompletion(<2 entries of (2, 9)>)"
    assert wide._repr_latex_() is None
    narrow = mf.MatrixCompletion(np.ones((2, 8)), np.eye(2, 8, dtype=bool))
    assert repr(narrow).count("★") == 14 and narrow._repr_latex_().count("★") == 0


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "1 ? - 2"), ("latin-1", "1 ? - 2"), ("utf-8", "1 ★ − 2")]
)
def test_signs_that_the_output_lacks_are_replaced(monkeypatch, encoding, shown):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert printable("1 ★ − 2") == shown


def test_measurements_of_nothing_have_no_size():
    assert size_of_data(mf.MatrixSensing(np.zeros((2, 2, 3)), [1.0, 2.0])) == 0.0
    assert size_of_data(mf.MatrixSensing(np.eye(2)[None], [3.0])) == pytest.approx(1.5)
