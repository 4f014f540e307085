"""Eigenpairs of symmetric matrices, of those too on which LAPACK's divide and conquer gives up."""

import numpy as np
import pytest

import mfbook as mf
from mfbook.flow.shallow import eigenpairs as module
from mfbook.flow.shallow import kernel
from mfbook.flow.shallow.eigenpairs import by_rotations, eigenpairs
from mfbook.flow.shallow.field import parts_of
from mfbook.flow.shallow.units import units_of

EPS = np.finfo(float).eps


def clustered(rng, n, k):
    """S ⊗ I − KᵀK with k columns from 1 to 1e-8: clusters of k that hardly part."""
    S, K = rng.standard_normal((n, n)), rng.standard_normal((n, n * k))
    K *= np.tile(np.logspace(0, -8, k), n)
    return np.kron(S + S.T, np.eye(k)) - K.T @ K


def graded(rng, n, last):
    """D M D, D from 1 to `last`: entries from the largest down to denormal numbers and zero."""
    M = rng.standard_normal((n, n))
    D = np.logspace(0, np.log10(last), n)
    return (M + M.T) * D[:, None] * D


def matrices():
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((30, 30))
    plain = plain + plain.T
    Q = np.linalg.qr(plain)[0]
    tied = (Q * np.repeat([-1.0, 0.0, 2.0], 10)) @ Q.T
    return {
        "empty": np.zeros((0, 0)),
        "number": np.array([[-3.0]]),
        "zero": np.zeros((5, 5)),
        "identity": np.eye(4),
        "plain": plain,
        "opposite": np.kron([[0.0, 1.0], [1.0, 0.0]], plain),
        "tied": (tied + tied.T) / 2,
        "rank one": np.ones((20, 20)),
        "small": plain * 1e-300,
        "denormal": np.array([[0.0, 5e-324], [5e-324, 0.0]]),
        "large": plain * 1e300,
        "graded": graded(rng, 30, 1e-20),
        "graded to denormals": graded(rng, 40, 1e-161),
        "graded backwards": graded(rng, 40, 1e-161)[::-1, ::-1],
        "clustered": clustered(rng, 6, 5),
        "clustered, larger": clustered(rng, 10, 8),
    }


def assert_eigenpairs(A, values, basis):
    n = len(A)
    assert values.shape == (n,) and basis.shape == (n, n)
    unit = np.abs(A).max(initial=0.0) or 1.0
    # Beside n roundings of the norm, of the entries of A where they are denormal.
    off = n * EPS * np.linalg.norm(A / unit, 2) if n else 0.0
    off = max(off, n * 5e-324 / unit)
    assert np.all(np.diff(values) >= 0)
    assert np.abs(basis.T @ basis - np.eye(n)).max(initial=0.0) <= max(n, 4) * EPS
    residual = (A / unit) @ basis - basis * (values / unit)
    assert np.abs(residual).max(initial=0.0) <= off
    # Without eigenvectors LAPACK does not divide and conquer.
    expected = np.linalg.eigvalsh(A / unit)
    assert np.abs(values / unit - expected).max(initial=0.0) <= off


@pytest.mark.parametrize("method", [by_rotations, eigenpairs])
@pytest.mark.parametrize("name", matrices())
def test_they_are_eigenpairs(name, method):
    A = matrices()[name]
    assert_eigenpairs(A, *method(np.ascontiguousarray(A)))


def test_where_lapack_gives_up_rotations_take_over(monkeypatch):
    """The plain Python of what is compiled, as no matrix fails with every LAPACK."""

    def gives_up(_):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    A = matrices()["clustered"]
    monkeypatch.setattr(module.np.linalg, "eigh", gives_up)
    python = getattr(eigenpairs, "py_func", eigenpairs)
    values, basis = python(A)
    monkeypatch.undo()
    assert_eigenpairs(A, values, basis)


def test_where_lapack_succeeds_its_answer_is_taken():
    A = matrices()["plain"]
    python = getattr(eigenpairs, "py_func", eigenpairs)
    for found, expected in zip(python(A), np.linalg.eigh(A), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_entries_that_are_not_finite_are_refused(entry):
    with pytest.raises(ValueError, match="not finite"):
        eigenpairs(np.array([[1.0, entry], [entry, 1.0]]))


@pytest.mark.parametrize("h", [1.7e308, np.inf])
def test_a_step_so_long_that_numbers_overflow_is_rejected(h):
    """Passive columns along an active one: nothing but the length is out of range."""
    problem = mf.MatrixCompletion.from_text("1 20; 4 ?")
    field = parts_of(problem, units_of(problem.targets, 1.0, 0.0))[0].field
    columns = np.eye(4)[:, :2].copy(), np.full(2, -50.0), np.eye(2)
    nodes = np.full((4, 4, 1), 10.0)
    with np.errstate(over="ignore", invalid="ignore"):  # as plain Python it warns
        assert kernel.passive_step(field.arrays, nodes, *columns, h)[-1] == np.inf
    *found, error = kernel.passive_step(field.arrays, nodes, *columns, 1e-3)
    assert error < 1e-6 and all(np.all(np.isfinite(array)) for array in found)


def test_a_flow_through_a_matrix_on_which_lapack_gives_up():
    """20×20 of rank 3 from 10^-5, 15 columns of 20 active: a Jacobian of 300 rows, near t = 3.3.

    With OpenBLAS 0.3 its divide and conquer raised "failed to converge" here.
    """
    rng = np.random.default_rng([1, 2150])
    Q, _ = np.linalg.qr(rng.standard_normal((20, 3)))
    truth = (Q * np.array([17.41, 8.85, 4.31])) @ Q.T
    mask = np.triu(rng.random((20, 20)) < 0.3)
    problem = mf.SymmetricCompletion((truth + truth.T) / 2, mask | mask.T)
    rng = np.random.default_rng([2, 6])
    V, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    sizes = np.abs(rng.standard_normal(20))
    start = (V * np.sqrt(sizes / np.linalg.norm(sizes)),)
    options = {"log10_scale": -5, "loss_tol": 1e-10, "t_max": 4.0}
    run = mf.gradient_flow(problem, start, rtol=1e-6, **options)
    finer = mf.gradient_flow(problem, start, rtol=1e-7, **options)
    assert run.t[-1] == finer.t[-1] == 4.0
    assert np.abs(run.W - finer.W).max() < 10 * 1e-6 * np.abs(truth).max()
