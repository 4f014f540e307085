"""Runs that are repeated, shaken, so as to learn whether rounding decides them: where they rest."""

import numpy as np
import pytest

import mfbook as mf
from mfbook.flow.shallow import drive, engine
from mfbook.flow.shallow.dense import Columns
from mfbook.flow.shallow.field import SensingField
from mfbook.flow.shallow.stack import stack_of
from mfbook.flow.trajectory import STUCK
from tests.package.given import orthogonal


def run_and_again(problem, start, log10_scale, rtol, max_steps=4_000):
    """The run as it is, and shaken; neither stops at its limit of steps."""
    options = {
        "log10_scale": log10_scale,
        "rtol": rtol,
        "loss_tol": 1e-12,
        "t_max": np.inf,
        "max_steps": max_steps,
    }
    found = []
    for shaker in (None, np.random.default_rng(0)):
        run, limit = engine._followed(problem, start, options, False, shaker)
        assert limit == ""
        found.append(run)
    return found


def assert_as_soon(run, again):
    """Both rest at one W, the second after as many steps, but for some of a tenth."""
    for path, other in zip(run.paths, again.paths, strict=True):
        assert path.reason == other.reason == STUCK
    assert again.n_steps <= 1.1 * run.n_steps + 10
    one, other = (each.W(each.at(each.end())) for each in (run, again))
    assert np.abs(one - other).max() < 1e-9 * np.abs(one).max()


def indefinite(seed, d):
    """Random symmetric data with their diagonal, which no U Uᵀ fits, and their start."""
    rng = np.random.default_rng([seed, d])
    M = rng.standard_normal((d, d))
    mask = np.triu(rng.random((d, d)) < 0.6, 1)
    problem = mf.SymmetricCompletion(M + M.T, mask | mask.T | np.eye(d, dtype=bool))
    return problem, mf.small_init(problem, rng=seed)


def too_many(seed):
    """More random measurements of a symmetric W than it has entries."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((12, 4, 4))
    problem = mf.SymmetricSensing(X + np.swapaxes(X, 1, 2), rng.standard_normal(12))
    return problem, mf.small_init(problem, rng=seed)


def narrow(seed):
    """Data of full rank for two hidden columns."""
    rng = np.random.default_rng(seed)
    problem = mf.MatrixCompletion(rng.standard_normal((4, 5)), rng.random((4, 5)) < 0.9)
    return problem, mf.small_init((4, 5), width=2, rng=seed)


def mirrored(seed):
    """Two factors that stay each other's transpose, and indefinite data."""
    problem, _ = indefinite(seed, 4)
    A = np.random.default_rng(seed).standard_normal((4, 4))
    return mf.MatrixCompletion(problem.values, problem.mask), (A, A.T)


FAMILY = {
    "indefinite": lambda seed: indefinite(seed, 5),
    "too many": too_many,
    "narrow": narrow,
    "mirrored": mirrored,
}


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-9])
@pytest.mark.parametrize("log10_scale", [-1, -6.8, -300])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", FAMILY.values(), ids=FAMILY)
def test_a_shaken_run_comes_to_rest_as_soon_as_the_run_itself(family, seed, log10_scale, rtol):
    """The perturbation moves columns by more than rounding does: it must not pass for motion."""
    assert_as_soon(*run_and_again(*family(seed), log10_scale, rtol))


@pytest.mark.parametrize("seed", range(2))
def test_so_does_one_by_the_method_for_large_problems(seed):
    run, again = run_and_again(*indefinite(seed, 36), -2, 1e-2)
    assert run.paths[0].records[-1].method in ("explicit", "exponential")
    assert_as_soon(run, again)


def along_a_saddle(gap, method, shaker):
    """A path of one column along the second eigenvector of diag(1 + gap, 1, −½), seen whole.

    It comes to the saddle at which the column has size 1, and leaves it along the first, if at all,
    at the rate `gap`.
    """
    Q = orthogonal(np.random.default_rng(0), 3)
    M = (Q * [1 + gap, 1.0, -0.5]) @ Q.T
    X = np.array([(E + E.T) / 2 for E in np.eye(9).reshape(9, 3, 3)])
    field = SensingField(X, np.einsum("lij,ij->l", X, M), 0.5, stack_of((3, 3), True))
    column = np.ascontiguousarray(Q[:, 1:2])
    state = Columns(0.0, column, np.array([-1.0]), np.eye(1), np.array([True]))
    path = drive.Path(field, [state], [], [], [], -15.0, shaker=shaker, method=method)
    for _ in drive.follow(path, rtol=1e-4, t_max=np.inf):
        assert path.n_steps < 2_000
    return np.abs(Q.T @ path.states[-1].Z)[:, 0]


@pytest.mark.parametrize(
    ("method", "gap"),
    [("dense", 0.1), ("dense", 1e-2), ("dense", 1e-3), ("dense", 1e-4), ("large", 0.03)],
)
def test_a_shaken_run_leaves_a_saddle_however_slow_the_way_out(method, gap):
    """The slope that a perturbation makes along the way out is below the rounding of the others."""
    end = along_a_saddle(gap, method, np.random.default_rng(0))
    assert end == pytest.approx([np.sqrt(1 + gap), 0, 0], abs=1e-5)


def test_where_they_rest_active_columns_are_not_perturbed():
    active = np.array([True, False, True])
    columns = Columns(0.0, np.full((4, 3), 0.5), np.zeros(3), np.eye(3), active)
    for rests in (False, True):
        moved = drive.shaken(columns, np.random.default_rng(0), rests).X - columns.X
        by = np.abs(moved).max(axis=0) / drive.SHAKE
        assert ((0.1 < by) & (by < 10)).tolist() == (~active | (not rests)).tolist()
