"""The engine beside descent and SciPy's integrators, on small problems."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.table import Table, timed
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import examples

# Of descent at small steps: longer runs are reported as not reached.
MOST_ITERATIONS = 300_000


def descend(problem, factors, alpha, lr, loss_tol, most):
    """Plain gradient descent; iterations, W, whether loss_tol of the loss at zero was reached."""
    # A bare loop and not mf.gradient_descent, which keeps records: descent is timed at its best.
    A, B = (alpha * factor for factor in factors)
    mask, M = problem.mask.astype(float), np.where(problem.mask, problem.values, 0.0)
    weight = problem.weight
    goal = loss_tol * weight * np.vdot(M, M)
    for k in range(most):
        R = mask * (A @ B - M)
        loss = weight * np.vdot(R, R)
        if loss <= goal:
            return k, A @ B, "reached"
        if not loss < 1e12:
            return k, A @ B, "diverged"
        G = 2 * weight * R
        A, B = A - lr * (G @ B.T), B - lr * (A.T @ G)
    return most, A @ B, "not reached"


def largest_step(problem, factors, alpha, loss_tol, most):
    """The fastest run of descent whose step stays below 2 / (curvature at the end of the flow)."""
    end = gradient_flow(problem, factors, log10_scale=np.log10(alpha), rtol=1e-4, loss_tol=loss_tol)
    A, B = end.factors
    weight = problem.weight
    rng = np.random.default_rng(0)
    DA, DB = rng.standard_normal(A.shape), rng.standard_normal(B.shape)
    for _ in range(200):
        norm = np.sqrt(np.sum(DA**2) + np.sum(DB**2))
        DA, DB = DA / norm, DB / norm
        H = 2 * weight * problem.mask * (DA @ B + A @ DB)
        DA, DB = H @ B.T, A.T @ H
    lr = 1.9 / np.sqrt(np.sum(DA**2) + np.sum(DB**2))
    return lr, descend(problem, factors, alpha, lr, loss_tol, most)


class Solved(NamedTuple):
    """What a method took, W at the end, how it ended, and the seconds."""

    gradients: int
    W: np.ndarray
    ended: str
    seconds: float


class Case:
    """A problem at one scale, by several methods."""

    def __init__(self, problem, exponent):
        self.problem, self.alpha = problem, 10.0**exponent
        self.factors = small_init(problem.shape, rng=0)
        self.options = {"log10_scale": exponent, "loss_tol": 1e-10}
        self.best = gradient_flow(problem, self.factors, rtol=1e-9, **self.options)

    @cached_property
    def engine(self):
        run, seconds = timed(lambda: gradient_flow(self.problem, self.factors, **self.options))
        return Solved(run.n_gradients, run.W, run.reason, seconds)

    def by_largest_step(self):
        (_, (count, W, ended)), seconds = timed(
            lambda: largest_step(self.problem, self.factors, self.alpha, 1e-10, 200_000)
        )
        return Solved(count, W, ended, seconds)

    def by_descent(self, lr):
        (count, W, ended), seconds = timed(
            lambda: descend(self.problem, self.factors, self.alpha, lr, 1e-10, MOST_ITERATIONS)
        )
        return Solved(count, W, ended, seconds)

    def W_of(self, y):
        m, n = self.problem.shape
        return y[: m * m].reshape(m, m) @ y[m * m :].reshape(m, n)

    def by_scipy(self, method):
        m, n = self.problem.shape

        def rhs(_, y):
            A, B = y[: m * m].reshape(m, m), y[m * m :].reshape(m, n)
            G = self.problem.gradient(A @ B)
            return -np.concatenate([(G @ B.T).ravel(), (A.T @ G).ravel()])

        def reached(_, y):
            return self.problem.loss_value(self.W_of(y)) - 1e-10

        reached.terminal = True
        start = self.alpha * np.concatenate([factor.ravel() for factor in self.factors])
        result, seconds = timed(
            lambda: solve_ivp(
                rhs, (0, 3 * self.best.t[-1]), start, method=method, rtol=1e-6,
                atol=1e-8 * self.alpha, events=reached,
            )
        )  # fmt: skip
        ended = "reached" if result.status == 1 else "time"
        return Solved(result.nfev, self.W_of(result.y[:, -1]), ended, seconds)

    def by_all(self):
        """Each method, and what it took."""
        yield "engine", self.engine
        yield "largest step", self.by_largest_step()
        observed = np.where(self.problem.mask, self.problem.values, 0.0)
        lr = self.problem.n_observed / (8 * np.linalg.norm(observed, 2))
        yield "N/(8 sigma_1)", self.by_descent(lr)
        yield "step 1e-3", self.by_descent(1e-3)
        for method in ("DOP853", "LSODA", "BDF", "Radau"):
            yield method, self.by_scipy(method)


def solvers():
    """The engine, descent and SciPy's integrators at the same loss; error against rtol 1e-9."""
    table = Table(
        "solvers",
        "Other methods (1e-10 of the loss at zero; error of W at the end over its largest; ratio: "
        "the engine's gradients over the method's; small step: 1e-3 and N / (8 sigma_1)).",
        keys=("problem", "log10 scale", "method"),
        counted=("gradients", "ratio", "ended"),
        measured=("error", "seconds"),
    )
    for problem in (examples.M3, examples.disconnected_3x3, examples.connected_4x4):
        top = np.nanmax(np.abs(problem.values))
        for exponent in (-3, -8, -14):
            case = Case(problem, exponent)
            for method, found in case.by_all():
                ratio = f"{case.engine.gradients / max(found.gradients, 1):.4f}"
                error = f"{np.abs(found.W - case.best.W).max() / top:.1e}"
                table.row(problem.name, exponent, method, found.gradients, ratio, found.ended,
                          error, f"{found.seconds:.2f}")  # fmt: skip
    return table
