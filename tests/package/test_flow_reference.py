"""The flow against a many-digit integration that knows nothing of gauges and scales.

rtol promises W(t) within 10 rtol of the data's scale at every time, and the end point within 1e-6
at the default rtol = 1e-6. Both bounds are the promise itself; measured errors are 3 to 60 times
smaller (mostly 1e-7 along the run).
"""

import numpy as np
import pytest

from mfbook.flow import gradient_flow
from mfbook.flow.taylor import taylor_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion


def reference_error(problem, factors, log10_scale, run, times):
    """Largest entry of W_engine − W_reference over the largest value, at each time."""
    references = taylor_flow(problem, factors, log10_scale=log10_scale, times=times)
    scale = np.nanmax(np.abs(problem.values))
    return [np.abs(run.W_at(t) - W).max() / scale for t, W in zip(times, references, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "log10_scale"),
    [
        ("1 2; 3 ?", 0),
        ("1 2; 3 ?", -60),
        ("1 2; 20 ?", -3),
        ("0 1; 2 ?", -8),
        ("1 0; ? 5", -20),
        ("1 2 ?; 3 ? -1; ? 2 5", -3),
        ("1 2 ?; 3 ? -1; ? 2 5", -20),
        ("1 ? 3; ? 5 ?; 3 ? 9", 0),
        ("1 ? 3; ? 5 ?; 3 ? 9", -60),
        ("1 2 ?; ? ? 4", -10),
    ],
)
def test_the_trajectory_is_that_of_many_digits(text, log10_scale):
    problem = MatrixCompletion.from_text(text)
    factors = small_init(problem.shape, rng=3)
    run = gradient_flow(problem, factors, log10_scale=log10_scale)
    assert run.converged
    # 12 even times and, where the loss falls fastest, the middles of four steps.
    steep = np.argsort(np.diff(run.loss))[:4]
    middles = (run.t[steep] + run.t[steep + 1]) / 2
    times = np.sort(np.concatenate([np.linspace(0, run.t[-1], 13)[1:], middles]))
    errors = reference_error(problem, factors, log10_scale, run, times)
    assert max(errors) < 10 * 1e-6
    assert errors[-1] < 1e-6


@pytest.mark.slow
def test_accuracy_follows_rtol():
    problem = MatrixCompletion.from_text("1 2; 3 ?")
    factors = small_init((2, 2), rng=0)
    for rtol in (1e-3, 1e-5, 1e-8):
        run = gradient_flow(problem, factors, log10_scale=-4, rtol=rtol)
        times = np.linspace(0, run.t[-1], 9)[1:]
        assert max(reference_error(problem, factors, -4, run, times)) < 10 * rtol


def test_the_comparison_would_notice():
    """A run from a scale three tenths of a percent off is told apart."""
    problem = MatrixCompletion.from_text("1 2; 3 ?")
    A, B = small_init((2, 2), rng=0)
    run = gradient_flow(problem, (1.003 * A, 1.003 * B), log10_scale=-4)
    times = np.linspace(0, run.t[-1], 9)[1:]
    assert max(reference_error(problem, (A, B), -4, run, times)) > 1e-4
