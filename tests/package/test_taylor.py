"""The oracle in many digits against closed forms, quadratures and mpmath's own integrator.

What it returns is rounded to float64, and it promises 20 digits before that: so the closed forms
are met to a few roundings, 1e-14, of what NumPy computes of them.
"""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

import mfbook as mf
from mfbook.flow import taylor
from mfbook.flow.taylor import taylor_flow

ONE = mf.MatrixCompletion.from_text("2", loss="half")
MINUS = mf.MatrixCompletion.from_text("-1", loss="half")


def time_of(depth, layer, end, target):
    """When w passes `end` on dw/dt = N w^(2−2/N) (target − w), the law of N equal layers."""
    with mpmath.workdps(50):
        # With w = e^x the integrand spans decades evenly.
        low = depth * mpmath.log(mpmath.mpf(layer.numerator) / layer.denominator)
        high = mpmath.log(end)
        pieces = mpmath.linspace(low, high, 60)

        def pace(x):
            w = mpmath.exp(x)
            return w ** (mpmath.mpf(2) / depth - 1) / (depth * (target - w))

        return Fraction(int(mpmath.quad(pace, pieces) * 10**40), 10**40)


@pytest.mark.parametrize(
    ("depth", "log10_scale"), [(1, -2), (2, 0), (2, -3), (3, -1), (4, 0), (6, 0)]
)
def test_one_entry_at_every_depth(depth, log10_scale):
    ends = [1.25, 1.5, 1.999]
    times = [time_of(depth, Fraction(10) ** log10_scale, w, 2) for w in ends]
    found = taylor_flow(ONE, [[[1.0]]] * depth, log10_scale=log10_scale, times=times)
    assert np.allclose(np.ravel(found), ends, rtol=1e-14, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "log10_scale"), [(3, -8), (4, -4)])
def test_the_end_of_a_plateau_of_ten_million(depth, log10_scale):
    """w passes from 1/8 to 15/8 within two units of time there: a test of all digits of time."""
    times = [time_of(depth, Fraction(10) ** log10_scale, w, 2) for w in (0.125, 1.0, 1.875)]
    assert float(times[-1]) > 1e6 and float(times[-1] - times[0]) < 2
    found = taylor_flow(ONE, [[[1.0]]] * depth, log10_scale=log10_scale, times=times)
    assert np.allclose(np.ravel(found), [0.125, 1.0, 1.875], rtol=1e-14, atol=0)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_full_observation_moves_every_singular_value_by_itself(depth):
    rng = np.random.default_rng(depth)
    U, V = (np.linalg.qr(rng.standard_normal((k, 2)))[0] for k in (2, 3))
    sizes = np.array([2.0, 0.75])
    problem = mf.MatrixCompletion(U * sizes @ V.T, np.ones((2, 3), dtype=bool), loss="half")
    root = np.diag([0.5, 0.25])
    inner = [np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(depth - 1)]
    left = [U, *inner]
    right = [*(Q.T for Q in inner), V.T]
    factors = [P @ root @ Q for P, Q in zip(left, right, strict=True)]
    t = time_of(depth, Fraction(1, 2), 1.5, 2)
    [W] = taylor_flow(problem, factors, log10_scale=0, times=[t])
    # U and V are orthogonal to rounding, which the flow grows by at most e^(2 N t) here.
    found = U.T @ W @ V
    assert abs(found[0, 0] - 1.5) < 1e-12
    assert np.abs(found[[0, 1], [1, 0]]).max() < 1e-12
    again = time_of(depth, Fraction(1, 4), found[1, 1], 0.75)
    assert abs(float(again) / float(t) - 1) < 1e-10


@pytest.mark.parametrize("depth", [2, 3])
def test_many_digits_agree_with_mpmath(depth):
    """Layer by layer and to 24 digits, unbalanced layers of width 1 and 2 and the mean loss."""
    problem = mf.MatrixCompletion.from_text("1 2; 3 ?")
    factors = mf.small_init((2, 2), depth=depth, rng=1)
    end = Fraction(1, 4)
    series = taylor._Series(problem, bits=110, goal=110)
    layers = [series.fixed(factor) for factor in factors]
    W = taylor._path(series, layers, [end], 1000)[end]
    with mpmath.workdps(30):

        def layers_of(y):
            return [
                mpmath.matrix([[y[4 * k], y[4 * k + 1]], [y[4 * k + 2], y[4 * k + 3]]])
                for k in range(depth)
            ]

        def product_of(layers):
            P = mpmath.eye(2)
            for layer in layers:
                P = P * layer
            return P

        def rhs(_, y):
            layers = layers_of(y)
            G = (product_of(layers) - mpmath.matrix([[1, 2], [3, 0]])) * 2 / 3
            G[1, 1] = 0
            velocity = []
            for k in range(depth):
                D = -product_of(layers[:k]).T * G * product_of(layers[k + 1 :]).T
                velocity += [D[0, 0], D[0, 1], D[1, 0], D[1, 1]]
            return velocity

        y0 = [mpmath.mpf(float(x)) for factor in factors for x in factor.ravel()]
        reference = product_of(layers_of(mpmath.odefun(rhs, 0, y0)(mpmath.mpf(1) / 4)))
        for i in range(2):
            for j in range(2):
                ours = mpmath.mpf(W[i, j].numerator) / W[i, j].denominator
                assert abs(ours - reference[i, j]) < mpmath.mpf(10) ** -24


@pytest.mark.parametrize("t", [1, 20])
def test_a_decaying_solution_keeps_its_digits(t):
    """From A = B = 1 towards −1 w = 1/(2 e^2t − 1) decays for ever; A − B would grow as e^t."""
    [W] = taylor_flow(MINUS, ([[1]], [[1]]), log10_scale=0, times=[t])
    assert abs(W[0, 0] * (2 * np.exp(2.0 * t) - 1) - 1) < 1e-13


def test_two_runs_that_end_alike_are_told_apart_on_the_way():
    """At t = 40 what 29 bits hold, and soon what 62 hold, has been at −1"""
    [W] = taylor_flow(MINUS, ([[1]], [[1]]), log10_scale=0, times=[40], digits=3)
    assert abs(W[0, 0] * (2 * np.exp(80.0) - 1) - 1) < 1e-3


def test_a_start_on_an_invariant_set_stays_there():
    """(I, I) and symmetric data: W = A Aᵀ for ever, and 1.5 is its best fit of [[1, 2], [2, 1]]."""
    problem = mf.MatrixCompletion.from_text("1 2; 2 1", loss="half")
    [W] = taylor_flow(problem, (np.eye(2), np.eye(2)), log10_scale=0, times=[20])
    assert np.abs(W - 1.5).max() < 1e-14


def test_two_layers_that_are_zero_stay_so():
    zero = np.zeros((1, 1))
    [W] = taylor_flow(ONE, (zero, zero, [[1.0]]), log10_scale=0, times=[5])
    assert W == 0.0


def test_entries_as_measurements_are_the_completion():
    problem = mf.MatrixCompletion.from_text("1 2; 3 ?", loss="half")
    rows, cols = np.nonzero(problem.mask)
    X = np.zeros((3, 2, 2))
    X[np.arange(3), rows, cols] = 1.0
    sensing = mf.MatrixSensing(X, problem.targets)
    factors = mf.small_init((2, 2), depth=3, rng=0)
    (one,), (other,) = (
        taylor_flow(p, factors, log10_scale=-1, times=[3.0]) for p in (problem, sensing)
    )
    assert (one == other).all()


def test_a_measurement_of_several_entries():
    """⟨I, W⟩ = 3 with the unfactored model: the trace goes to 3 at rate 2, the rest stays."""
    problem = mf.MatrixSensing(np.eye(2)[None], [3.0])
    [W] = taylor_flow(problem, ([[1.0, 5.0], [7.0, 0.0]],), log10_scale=0, times=[0.5])
    off = (3 - 2 * np.exp(-1)) / 2
    assert np.abs(W - [[off + 0.5, 5.0], [7.0, off - 0.5]]).max() < 1e-14


@pytest.mark.slow
def test_the_units_of_data_and_time_do_not_matter():
    """M and layers of a million and 2^-70: powers of two, so that nothing is rounded anew."""
    M = np.array([[1.0, 2.0], [3.0, 0.0]])
    mask = np.array([[True, True], [True, False]])
    factors = mf.small_init((2, 2), depth=3, rng=2)
    [W] = taylor_flow(mf.MatrixCompletion(M, mask), factors, log10_scale=0, times=[1.0])
    for k in (20, -70):
        problem = mf.MatrixCompletion(M * 2.0 ** (3 * k), mask)
        layers = [factor * 2.0**k for factor in factors]
        [V] = taylor_flow(problem, layers, log10_scale=0, times=[Fraction(2) ** (-4 * k)])
        assert np.abs(V / 2.0 ** (3 * k) - W).max() < 1e-15 * np.abs(W).max()


def test_times_of_numpy_integers_and_the_start():
    W = taylor_flow(ONE, ([[1]], [[1]]), log10_scale=0, times=np.array([0, 1, 2]))
    exact = 2 / (1 + np.exp(-4.0 * np.arange(3)))
    assert np.abs(np.ravel(W) - exact).max() < 1e-14
    assert taylor_flow(ONE, ([[1]], [[1]]), log10_scale=0, times=[]) == []


def test_too_many_steps_are_refused_in_words():
    with pytest.raises(ArithmeticError, match=r"after 5 steps t is .*, and 1e\+06 is asked for"):
        taylor_flow(ONE, ([[1]], [[1]]), log10_scale=0, times=[1e6], max_steps=5)


def test_too_many_bits_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(taylor, "MOST_BITS", 120)
    with pytest.raises(ArithmeticError, match=r"takes more than 120 bits: the solution decays"):
        taylor_flow(MINUS, ([[1]], [[1]]), log10_scale=0, times=[40])


@pytest.mark.parametrize("times", [[-1], [1, 1], [2, 1], [np.nan]])
def test_times_rise_from_zero(times):
    with pytest.raises(ValueError, match="times"):
        taylor_flow(ONE, ([[1]], [[1]]), log10_scale=0, times=times)


def test_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"one run, but the factors have the leading axes \(2,\)"):
        taylor_flow(ONE, [np.ones((2, 1, 1))] * 3, log10_scale=0, times=[1])
