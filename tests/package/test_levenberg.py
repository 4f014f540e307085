"""Levenberg–Marquardt on factors: its derivatives, its step, and factors that run away."""

from itertools import islice

import numpy as np
import pytest

from mfbook.rivals import levenberg
from mfbook.rivals.levenberg import EntryFit, at, descent


def problem(seed, shape=(4, 3), width=2, starts=5, seen=0.7):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < seen
    mask[0, 0] = True
    fit = EntryFit(mask, rng.standard_normal(shape), width)
    A = rng.standard_normal((starts, shape[0], width))
    return fit, A, rng.standard_normal((starts, width, shape[1]))


def test_the_jacobian_is_the_derivative_of_the_residual():
    fit, A, B = problem(0)
    J, h = fit.jacobian(A, B), 1e-6
    for k in range(J.shape[2]):
        step = np.zeros((len(A), J.shape[2]))
        step[:, k] = h
        # Bilinear in A and B, so that central differences are exact up to rounding.
        ahead, behind = (fit.residual(*fit.moved(A, B, sign * step)) for sign in (-1, 1))
        assert (ahead - behind) / (2 * h) == pytest.approx(J[:, :, k], abs=1e-8)


@pytest.mark.parametrize("seen", [0.3, 1.1], ids=["fewer entries", "more entries"])
def test_a_step_solves_the_damped_equations(seen):
    fit, A, B = problem(1, seen=seen, width=1)
    J = fit.jacobian(A, B)
    assert (J.shape[1] > J.shape[2]) == (seen > 1)
    batch = at(fit, A, B, damping=0.3)
    after = next(descent(fit, batch))
    for start in range(len(A)):
        weight = 0.3 + levenberg.FLOOR * np.square(J[start]).sum()
        normal = J[start].T @ J[start] + weight * np.eye(J.shape[2])
        step = np.linalg.solve(normal, J[start].T @ batch.residual[start])
        there = fit.residual(*fit.moved(A[start : start + 1], B[start : start + 1], step[None]))
        assert after.tried[start] == pytest.approx(np.square(there).sum(), rel=1e-10)


def test_no_loss_grows_and_exact_data_are_fitted():
    fit, A, B = problem(2, seen=1.1)
    fit.target = (A[0] @ B[0])[fit.rows, fit.cols]
    batch = at(fit, A[1:], B[1:], damping=1.0)
    for after in islice(descent(fit, batch), 60):
        assert (after.loss <= batch.loss).all()
        batch = after
    assert batch.loss.min() < 1e-25


@pytest.mark.parametrize("size", [4, 8], ids=["as many entries", "more entries"])
def test_large_factors_of_deficient_rank_leave_no_singular_system(size):
    """Beside squares of 10^10 a damping of 10^-12 is lost, and JᵀJ alone has no inverse."""
    fit, *_ = problem(3, shape=(size, size), seen=1.1)
    A = np.full((1, size, 2), 2.0**30)
    batch = at(fit, A, A.transpose(0, 2, 1), damping=levenberg.LEAST)
    for after in islice(descent(fit, batch), 5):
        assert np.isfinite(after.loss).all() and (after.loss <= batch.loss).all()


def test_chosen_starts_go_on_as_among_the_others():
    fit, A, B = problem(4)
    batch = next(descent(fit, at(fit, A, B, damping=0.3)))
    keep = np.array([3, 0])
    some, whole = (list(islice(descent(fit, one), 5))[-1] for one in (batch.chosen(keep), batch))
    for name in ("A", "B", "residual", "loss", "damping", "tried"):
        assert getattr(some, name) == pytest.approx(getattr(whole, name)[keep], rel=1e-9)
