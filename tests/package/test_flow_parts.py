"""The pieces of the flow engine, each against its definition."""

import mpmath
import numpy as np
import pytest

from mfbook.flow import trajectory
from mfbook.flow.shallow import drive, gauge, krylov
from mfbook.flow.shallow.dense import Columns, DenseStepper
from mfbook.flow.shallow.field import CompletionField, SensingField, parts_of
from mfbook.flow.shallow.gauge import graded, linear_flow, orthogonalise, time_to_reach
from mfbook.flow.shallow.phi import phi_functions
from mfbook.flow.shallow.units import units_of
from mfbook.problems import MatrixCompletion


def test_phi_functions_are_their_integrals():
    points = [-1e4, -30.0, -1.6, -1.4, -1e-3, 0.0, 1e-9, 1.4, 1.6, 20.0]
    computed = phi_functions(np.array(points))
    with mpmath.workdps(40):
        for k, values in enumerate(computed, start=1):
            for x, value in zip(points, values, strict=True):
                # φ_k(x) = 1F1(1; k + 1; x) / k!
                exact = mpmath.hyp1f1(1, k + 1, mpmath.mpf(x)) / mpmath.factorial(k)
                assert abs(value / exact - 1) < 1e-13


def test_jacobi_keeps_small_columns_to_relative_accuracy():
    """Singular values from 1 to 1e-120 of a graded matrix, against 200-digit arithmetic."""
    rng = np.random.default_rng(0)
    U = rng.standard_normal((6, 4)) * [1, 1e-40, 1e-80, 1e-120]
    X, ell, V = graded(U, 0.0)
    with mpmath.workdps(300):
        gram = mpmath.matrix(U.T.tolist()) * mpmath.matrix(U.tolist())
        exact = sorted(mpmath.sqrt(x) for x in mpmath.eigsy(gram, eigvals_only=True))[::-1]
        for log, sigma in zip(ell, exact, strict=True):
            assert abs(mpmath.exp(mpmath.mpf(log)) / sigma - 1) < 1e-12
    assert np.abs(X.T @ X - np.eye(4)).max() < 1e-12
    assert np.abs(V.T @ V - np.eye(4)).max() < 1e-14


def test_orthogonal_columns_are_the_same_matrix():
    rng = np.random.default_rng(1)
    for shape in ((5, 3), (3, 5), (4, 4)):
        U = rng.standard_normal(shape)
        X, ell, V = graded(U, 0.5)
        assert np.allclose((X * np.exp(ell)) @ V.T, np.exp(0.5) * U, atol=1e-13)


def rotated_back(X, ell, V):
    """The matrix whose columns these are, in the caller's hidden basis."""
    return (X * np.exp(ell)) @ V.T


def test_many_columns_near_right_angles_are_left_as_they_are():
    """Only their order changes: turning them takes a minute where there are a thousand."""
    U = np.random.default_rng(4).standard_normal((900, gauge.WIDE))
    X, ell, V = graded(U, 2.0)
    assert np.abs(X.T @ X - np.eye(gauge.WIDE)).max() > 0.01  # nobody has turned them
    assert np.all((V == 0) | (V == 1)) and np.all(V.sum(axis=0) == 1)
    assert np.all(np.diff(ell) <= 0)
    assert np.allclose(rotated_back(X, ell, V), np.exp(2.0) * U, rtol=1e-13, atol=0)


def test_many_columns_that_lean_are_turned():
    rng = np.random.default_rng(4)
    U = rng.standard_normal((900, gauge.WIDE))
    U[:, 1] += U[:, 0]
    X, ell, V = graded(U, 0.0)
    assert np.abs(X.T @ X - np.eye(gauge.WIDE)).max() < 1e-9
    assert np.allclose(rotated_back(X, ell, V), U, atol=1e-10)


def test_many_dependent_columns_lose_one_though_no_two_of_them_lean():
    """The last column is a sum of all others, and has next to nothing of each.

    Rounding may leave its Gram matrix with a negative eigenvalue, or with a tiny positive one.
    """
    count = gauge.WIDE
    for seed in range(12):
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.standard_normal((count + 20, count - 1)))[0]
        U = np.column_stack([basis, basis @ rng.choice([-1, 1], count - 1)])
        unit = U / np.linalg.norm(U, axis=0)
        assert np.abs(unit.T @ unit - np.eye(count)).max() < gauge.LOOSE
        assert not gauge._nearly_orthogonal(unit)
    X, ell, V = graded(U, 0.0)
    assert X.shape == (count + 20, count - 1)
    assert np.allclose(rotated_back(X, ell, V), U, atol=1e-12)


def test_a_rank_deficient_start_loses_its_zero_columns():
    rng = np.random.default_rng(2)
    for shape in ((6, 4), (3, 7)):
        U = rng.standard_normal((shape[0], 2)) @ rng.standard_normal((2, shape[1]))
        assert graded(U, 0.0)[0].shape[1] == 2


def test_a_start_of_full_rank_loses_none():
    """Many rotations must not add up to a rounding that swallows columns."""
    for shape in ((120, 60), (40, 60)):
        U = np.random.default_rng(2).standard_normal(shape)
        X, ell, V = graded(U, 0.0)
        assert X.shape[1] == min(shape)
        assert np.allclose((X * np.exp(ell)) @ V.T, U, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("length", [0.1, 3.0, 300.0])
def test_a_linear_flow_of_any_length_keeps_the_subdominant_columns(length):
    """exp(T S) U with singular values apart by up to e^600, against 600-digit arithmetic."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    rates = np.array([-1.0, 0.2, 0.5, 1.0])
    U = rng.standard_normal((4, 3)) * [1, 1e-3, 1e-3]
    X, ell, V = graded(U, 0.0)
    X, ell, V = linear_flow(X, ell, V, length * rates, basis)
    X, ell, V = orthogonalise(X, ell, V)
    with mpmath.workdps(600):
        # The orthonormal basis is one to 1e-16 only; with it, exp(T S) is defined as the product.
        Q, D = mpmath.matrix(basis.tolist()), mpmath.diag([mpmath.exp(length * r) for r in rates])
        flowed = Q * D * mpmath.inverse(Q) * mpmath.matrix(U.tolist())
        exact = sorted(mpmath.sqrt(x) for x in mpmath.eigsy(flowed.T * flowed, eigvals_only=True))
        for log, sigma in zip(ell, exact[::-1], strict=True):
            assert abs(mpmath.exp(mpmath.mpf(log)) / sigma - 1) < 1e-12


@pytest.mark.slow
def test_the_time_to_reach_is_when_it_is_reached():
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    rates = np.linspace(-1, 1, 5)
    X, ell, _ = graded(rng.standard_normal((5, 3)), -1000.0)
    t = time_to_reach(X, ell, rates, basis, -20.0)
    # Any column may be the one that reaches it first; none is above it before.
    Y = np.exp((rates - 1) * t)[:, None] * (basis.T @ X)
    reached = ell + t + np.log(np.linalg.norm(Y, axis=0))
    assert reached.max() == pytest.approx(-20.0, abs=1e-8)
    assert time_to_reach(X, ell, -np.abs(rates) - 1, basis, -20.0) == np.inf


@pytest.mark.parametrize("kind", ["completion", "sensing"])
def test_the_jacobian_is_the_derivative_of_the_field(kind):
    rng = np.random.default_rng(5)
    if kind == "completion":
        problem = MatrixCompletion.from_text("1 2 ?; 3 ? 4")
        field = parts_of(problem, units_of(problem.targets, 1.0, 0.0))[0].field
        assert isinstance(field, CompletionField)
    else:
        field = SensingField(rng.standard_normal((4, 2, 3)), rng.standard_normal(4), 0.5)
    Z = rng.standard_normal((5, 2))
    X, ell, V = graded(Z, 0.0)
    stepper = DenseStepper(field, Columns(0.0, X, ell, V, np.ones(2, dtype=bool)))
    J = stepper.eigen[0]
    assert np.allclose(J, J.T, atol=1e-13)
    D, h = rng.standard_normal(Z.shape), 1e-6

    def F(Z):
        return field.S(field.residual(Z)) @ Z

    slope = (F(stepper.Z + h * D) - F(stepper.Z - h * D)) / (2 * h)
    # Central differences: h² from the cubic, 1e-16/h from rounding.
    assert np.allclose((J @ D.ravel()).reshape(Z.shape), slope, atol=1e-8)


def test_one_step_has_order_five():
    """Halving the step divides the error by 2⁶: slope 6 ± 0.4 between h and h/2."""
    problem = MatrixCompletion.from_text("1 2; 3 ?", loss="half")
    field = parts_of(problem, units_of(problem.targets, 1.0, 0.0))[0].field
    X, ell, V = graded(np.random.default_rng(0).standard_normal((4, 2)), 0.0)
    state = Columns(0.0, X, ell, V, np.ones(2, dtype=bool))

    def advanced(h, parts):
        columns = state
        for _ in range(parts):
            columns, _ = DenseStepper(field, columns).step(h / parts)
        return columns.Z

    errors = [np.abs(advanced(h, 1) - advanced(h, 16)).max() for h in (0.08, 0.04)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(6, abs=0.4)


def test_many_columns_are_made_orthogonal():
    """16 columns of sizes from 1 to e^-200, against the singular values in many digits."""
    rng = np.random.default_rng(0)
    X = gauge.normalised(rng.standard_normal((40, 16)), np.zeros(16))[0]
    ell, V = rng.uniform(-200, 0, 16), np.eye(16)
    Y, log, Q = gauge.orthogonalise(X, ell, V)
    assert np.abs(Y.T @ Y - np.eye(16)).max() < 1e-11
    assert np.abs(Q.T @ Q - np.eye(16)).max() < 1e-13
    assert (np.diff(log) <= 0).all()
    with mpmath.workdps(250):
        U = mpmath.matrix(X.tolist()) * mpmath.diag([mpmath.exp(x) for x in ell])
        exact = sorted(mpmath.sqrt(x) for x in mpmath.eigsy(U.T * U, eigvals_only=True))[::-1]
        for found, sigma in zip(log, exact, strict=True):
            assert abs(mpmath.exp(mpmath.mpf(found)) / sigma - 1) < 1e-11


def test_a_krylov_space_knows_functions_of_its_matrix():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((30, 30))
    M = -M @ M.T
    b = rng.standard_normal((15, 2))
    space = krylov.Krylov(lambda v: (M @ v.ravel()).reshape(v.shape), b, np.ones(2), 30)
    assert space.reach(0.3, 1e-10)
    found = space.apply(lambda x: np.exp(0.3 * x))
    lam, Q = np.linalg.eigh(M)
    expected = (Q * np.exp(0.3 * lam)) @ (Q.T @ b.ravel())
    assert np.abs(found.ravel() - expected).max() < 1e-8


def test_a_path_that_is_followed_alone_ends():
    problem = MatrixCompletion.from_text("1 2; 3 ?", loss="half")
    (part,) = parts_of(problem, units_of(problem.targets, 1.0, 0.0))
    path = drive.start(part.field, np.random.default_rng(0).standard_normal((4, 2)), -3.0, 1e-6)
    for _ in drive.follow(path, rtol=1e-6, t_max=1e3):
        assert len(path.losses) == len(path.states) == path.n_steps + 1
    assert path.reason == trajectory.LOSS_REACHED
    assert path.losses[-1] < 1e-28 and (np.diff(path.losses) < 1e-28).all()


def test_a_step_whose_error_nothing_makes_small_is_given_up():
    tried = []

    class Bad:
        ORDER, n_gradients = 4, 7
        state = Columns(1.0, np.eye(2), np.zeros(2), np.eye(2), np.ones(2, dtype=bool))

        def step(self, h, tol):
            tried.append(h)
            return self.state, 1e-3

    problem = MatrixCompletion.from_text("1")
    (part,) = parts_of(problem, units_of(problem.targets, 1.0, 0.0))
    path = drive.start(part.field, np.ones((2, 1)), 0.0, 1e-6)
    new, h, error = drive._accepted(path, Bad(), 0.5, 1e-6)
    assert new is None and error == np.inf
    # As long as a step moves the time by more than its rounding, and no longer.
    eps = np.finfo(float).eps
    assert h <= 4 * eps < min(tried) and path.n_rejected == len(tried)
    assert (np.diff(tried) < 0).all()
