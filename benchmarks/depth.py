"""Depth three and more: small problems beside SciPy's integrators, large ones beside descent.

The right-hand sides of the other methods are compiled, as ours are: their seconds are not those of
Python. Seconds are those of the processor, whatever else the machine does.
"""

import time
from fractions import Fraction
from typing import NamedTuple

import numba
import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.problems import low_rank
from benchmarks.table import Table, alone, peak
from mfbook.flow import gradient_flow
from mfbook.flow.taylor import taylor_flow
from mfbook.models import product, small_init
from mfbook.problems import examples

# Of descent: longer runs are reported as not reached. Explicit methods get as many evaluations.
MOST_ITERATIONS, MOST_EVALUATIONS = 2_000_000, 200_000
# What a method may be asked for until it is right: rtol, and atol over the scale of the start; how
# many times the engine's slopes it is given; and the error of the path that is right, ten times the
# engine's rtol.
RTOLS = tuple(10.0**-k for k in range(8, 14))
SHARES = tuple(10.0**-k for k in range(6, 17, 2))
MOST_TIMES, RIGHT = 10, 1e-5


def timed(function):
    """What a function returns, and the processor's seconds."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


@numba.njit(cache=True)
def slope(z, m, n, mask, M, weight):
    """−(∂f/∂W_1, ∂f/∂W_2, ∂f/∂W_3) of square hidden layers (m, m), (m, m), (m, n)."""
    k = m * m
    A, B, C = z[:k].reshape(m, m), z[k : 2 * k].reshape(m, m), z[2 * k :].reshape(m, n)
    AB = A @ B
    G = 2 * weight * mask * (AB @ C - M)
    X = -(G @ C.T)
    out = np.empty_like(z)
    out[:k] = (X @ B.T).copy().ravel()
    out[k : 2 * k] = (A.T @ X).copy().ravel()
    out[2 * k :] = -(AB.T @ G).copy().ravel()
    return out


@numba.njit(cache=True)
def jacobian(z, m, n, mask, M, weight):
    """That of `slope`, column by column: its derivative along every unit vector."""
    k = m * m
    A, B, C = z[:k].reshape(m, m), z[k : 2 * k].reshape(m, m), z[2 * k :].reshape(m, n)
    AB = A @ B
    G = 2 * weight * mask * (AB @ C - M)
    X = -(G @ C.T)
    J = np.empty((len(z), len(z)))
    unit = np.zeros_like(z)
    for c in range(len(z)):
        unit[c] = 1.0
        a, b = unit[:k].reshape(m, m), unit[k : 2 * k].reshape(m, m)
        d = unit[2 * k :].reshape(m, n)
        ab = a @ B + A @ b
        g = 2 * weight * mask * (ab @ C + AB @ d)
        x = -(g @ C.T + G @ d.T)
        J[:k, c] = (x @ B.T + X @ b.T).copy().ravel()
        J[k : 2 * k, c] = (a.T @ X + A.T @ x).copy().ravel()
        J[2 * k :, c] = -(ab.T @ G + AB.T @ g).copy().ravel()
        unit[c] = 0.0
    return J


@numba.njit(cache=True)
def descended(z, m, n, mask, M, weight, lr, goal, most):
    """Plain gradient descent until the loss is down to the goal: iterations and where it ends."""
    k = m * m
    for count in range(most):
        A, B, C = z[:k].reshape(m, m), z[k : 2 * k].reshape(m, m), z[2 * k :].reshape(m, n)
        R = mask * (A @ B @ C - M)
        loss = weight * np.sum(R * R)
        if not loss > goal:
            return count, z
        if not loss < 1e12:
            return count, z
        z = z + lr * slope(z, m, n, mask, M, weight)
    return most, z


class Stopped(Exception):
    """A method has taken more evaluations than it is given."""


class Small:
    """A small problem at one scale, for methods that know its right-hand side and Jacobian alone.

    `middle` is the time where the first step of the loss is half-way, and `exact` W there.
    """

    def __init__(self, problem, exponent):
        self.problem, self.alpha = problem, 10.0**exponent
        factors = small_init(problem.shape, depth=3, rng=0)
        self.m, self.n = problem.shape
        mask, M = problem.mask.astype(float), np.where(problem.mask, problem.values, 0.0)
        self.data = self.m, self.n, mask, M, float(problem.weight)
        self.goal = 1e-10 * problem.weight * float(np.sum(M**2))
        self.start = self.alpha * np.concatenate([factor.ravel() for factor in factors])
        options = {"log10_scale": exponent, "loss_tol": 1e-10}
        self.best = gradient_flow(problem, factors, rtol=1e-9, **options)
        self.run, self.seconds = timed(lambda: gradient_flow(problem, factors, **options))
        middle = Fraction(10 ** self.best.phases[1].log10_arrival)
        [self.exact] = taylor_flow(
            problem, factors, log10_scale=exponent, times=[middle], digits=12
        )
        self.middle, self.largest = float(middle), np.abs(self.best.W).max()

    def W_of(self, y):
        k = self.m * self.m
        shapes = (self.m, self.m), (self.m, self.m), (self.m, self.n)
        parts = y[:k], y[k : 2 * k], y[2 * k :]
        return product([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])

    def end_error(self, W):
        return np.abs(W - self.best.W).max() / self.largest

    def path_error(self, W):
        return np.abs(W - self.exact).max() / self.largest

    def solved(self, method, rtol, share, most=MOST_EVALUATIONS):
        """SciPy's method at this rtol, and at an atol that is this share of the scale."""
        counts = {"slopes": 0, "jacobians": 0}

        def rhs(_, y):
            counts["slopes"] += 1
            if counts["slopes"] > most:
                raise Stopped
            return slope(y, *self.data)

        def jac(_, y):
            counts["jacobians"] += 1
            return jacobian(y, *self.data)

        def reached(_, y):
            return self.problem.loss_value(self.W_of(y)) - self.goal

        reached.terminal = True
        extra = {} if method == "DOP853" else {"jac": jac}

        def run():
            try:
                return solve_ivp(rhs, (0, 3 * self.best.t[-1]), self.start, method=method,
                                 rtol=rtol, atol=share * self.alpha, events=reached,
                                 dense_output=True, **extra)  # fmt: skip
            except Stopped:
                return None

        result, seconds = timed(run)
        nothing = np.full((self.m, self.n), np.nan)
        if result is None:
            return Solved(*counts.values(), "given up", nothing, nothing, seconds)
        ended = {1: "loss reached", 0: "time"}.get(result.status, "failed")
        inside = self.W_of(result.sol(self.middle)) if result.t[-1] >= self.middle else nothing
        return Solved(*counts.values(), ended, self.W_of(result.y[:, -1]), inside, seconds)

    def cheapest_right(self, method):
        """The tolerances and the right run of the fewest slopes, or that none is right.

        Where a run takes too many, those at smaller atol would too.
        """
        nothing = np.full((self.m, self.n), np.nan)
        best = "-", Solved("-", "-", "none is right", nothing, nothing, np.nan)
        most = MOST_TIMES * self.run.n_gradients
        for rtol in RTOLS:
            for share in SHARES:
                one = self.solved(method, rtol, share, most)
                if one.ended == "given up":
                    break
                if one.ended == "loss reached" and self.path_error(one.inside) <= RIGHT:
                    most = one.slopes
                    best = f"{rtol:.0e}, {share:.0e}", one
        return best

    def by_engine(self):
        run = self.run
        inside = run.W_at(self.middle)
        return Solved(run.n_gradients, run.n_steps, run.reason, run.W, inside, self.seconds)

    def by_descent(self):
        lr = largest_step(self.problem, self.best.factors)
        (count, z), seconds = timed(
            lambda: descended(self.start, *self.data, lr, self.goal, MOST_ITERATIONS)
        )
        W = self.W_of(z)
        ended = "loss reached" if count < MOST_ITERATIONS else "given up"
        if not self.problem.loss_value(W) < 1e12:
            ended = "diverged"
        return Solved(count, 0, ended, W, np.full((self.m, self.n), np.nan), seconds)

    def by_all(self):
        """Each method, its tolerances, and what it took."""
        # What is compiled is compiled before it is timed.
        slope(self.start, *self.data)
        jacobian(self.start, *self.data)
        descended(self.start, *self.data, 1e-6, self.goal, 1)
        yield "engine", "1e-06", self.by_engine()
        for method in ("LSODA", "Radau", "DOP853"):
            yield method, "1e-08, 1e-06", self.solved(method, 1e-8, 1e-6)
            if method != "DOP853":  # never the cheapest of a stiff problem
                yield f"{method}, right", *self.cheapest_right(method)
        yield "descent", "-", self.by_descent()


class Solved(NamedTuple):
    """What a method took, how it ended, W at the end and in the middle, and the seconds."""

    slopes: int
    jacobians: int
    ended: str
    W: np.ndarray
    inside: np.ndarray
    seconds: float


def small():
    """Three layers, three small problems, three scales: evaluations, time, and error of W."""
    table = Table(
        "depth",
        "N = 3, seed 0, until 1e-10 of the loss at zero; engine at rtol 1e-6, others at rtol 1e-8, "
        "atol 1e-6 alpha, LSODA and Radau with the exact Jacobian; 'right': of all rtol from 1e-8 "
        "to 1e-13 and atol from 1e-6 to 1e-16 alpha, those of the fewest slopes whose error in "
        "'oracle' is at most ten times the engine's rtol, looked for up to ten times the engine's "
        "slopes (tolerances: rtol, and atol over alpha; "
        "end: error of W at the end over its largest, against the engine at rtol 1e-9; oracle: "
        "error where the first step of the loss is half-way, against many digits; ratio: seconds "
        "over the engine's).",
        keys=("problem", "log10 scale", "method"),
        counted=("tolerances", "slopes", "Jacobians", "ended"),
        measured=("end", "oracle", "ratio", "seconds"),
    )
    for problem in (examples.M3, examples.connected_4x4, examples.disconnected_3x3):
        for exponent in (-2, -4, -8):
            case = Small(problem, exponent)
            for method, tolerances, found in case.by_all():
                table.row(
                    problem.name, exponent, method, tolerances, found.slopes, found.jacobians,
                    found.ended, f"{case.end_error(found.W):.1e}",
                    f"{case.path_error(found.inside):.1e}", f"{found.seconds / case.seconds:.2f}",
                    f"{found.seconds:.3f}",
                )  # fmt: skip
    return table


def largest_step(problem, factors):
    """1.9 over the largest curvature of f at the end of the flow, along all factors."""
    D = [np.random.default_rng(0).standard_normal(W.shape) for W in factors]
    size = 1.0
    for _ in range(200):
        size = np.sqrt(sum(np.sum(d**2) for d in D))
        D = [d / size for d in D]
        change = sum(product((*factors[:k], d, *factors[k + 1 :])) for k, d in enumerate(D))
        G = 2 * problem.weight * problem.mask * change
        D = [_left(factors, k).T @ G @ _right(factors, k).T for k in range(len(factors))]
    return 1.9 / float(np.sqrt(sum(np.sum(d**2) for d in D)))


def _left(factors, k):
    return product(factors[:k]) if k else np.eye(factors[0].shape[0])


def _right(factors, k):
    return product(factors[k + 1 :]) if k + 1 < len(factors) else np.eye(factors[-1].shape[1])


def scales():
    """Steps against the scale of the start."""
    table = Table(
        "deepscales",
        "Depth three and four at many scales (rtol 1e-6, loss 1e-10).",
        keys=("problem", "depth", "log10 scale"),
        counted=("rank", "steps", "gradients"),
        measured=("seconds",),
    )
    for problem in (examples.M3, examples.connected_4x4):
        for depth in (3, 4):
            factors = small_init(problem.shape, depth=depth, rng=0)
            for exponent in (-2, -8, -100, -1000, -10_000):
                run, seconds = timed(
                    lambda p=problem, f=factors, e=exponent: gradient_flow(p, f, log10_scale=e)
                )
                rank = int((run.singular_values[-1] > 1e-3 * run.singular_values[-1, 0]).sum())
                table.row(problem.name, depth, exponent, rank, run.n_steps, run.n_gradients,
                          f"{seconds:.2f}")  # fmt: skip
    return table


def descend(problem, factors, lr, loss_tol, most):
    """Plain gradient descent of any depth; iterations, W, and how it ended."""
    # A bare loop and not mf.gradient_descent, which keeps records: descent is timed at its best.
    W, depth = list(factors), len(factors)
    mask, M = problem.mask.astype(float), np.where(problem.mask, problem.values, 0.0)
    goal = loss_tol * problem.weight * np.vdot(M, M)
    for count in range(most):
        L = [W[0]]
        for layer in W[1:]:
            L.append(L[-1] @ layer)
        X = mask * (L[-1] - M)
        loss = problem.weight * np.vdot(X, X)
        if loss <= goal:
            return count, L[-1], "reached"
        if not loss < 1e12:
            return count, L[-1], "diverged"
        X *= 2 * problem.weight
        new = W[:]
        for k in range(depth - 1, 0, -1):
            new[k] = W[k] - lr * (L[k - 1].T @ X)
            X = X @ W[k].T
        new[0] = W[0] - lr * X
        W = new
    return most, L[-1], "not reached"


def descend_fast(problem, factors, end, loss_tol, most):
    """Descent at the largest step that still arrives, found by halving that of the curvature."""
    lr = largest_step(problem, end)
    while True:
        found, seconds = timed(lambda lr=lr: descend(problem, factors, lr, loss_tol, most))
        if found[2] != "diverged":
            return found, seconds
        lr /= 1.5


HUNDRED_RTOL, HUNDRED_LOSS = 1e-4, 1e-8


def hundred_start(depth):
    """100×100 of rank 5, 2,000 entries, width 100, and the scale of ‖W(0)‖_F = 1e-3."""
    problem = low_rank(np.random.default_rng(0), 100, 100, 5, 2000)
    factors = small_init((100, 100), depth=depth, rng=1)
    return problem, factors, np.log10(1e-3 / np.linalg.norm(product(factors))) / depth


def deep_hundred():
    """100×100 at depths 3 and 4: the engine and descent, from 1e-3 and 10^-100."""
    table = Table(
        "deephundred",
        "100×100, rank 5, 2,000 entries, width 100, ‖W(0)‖ = 1e-3 or α = 10^-100, rtol 1e-4, loss "
        "1e-8 (ratio: the engine's seconds over those of descent at its largest step; error of W "
        "against the truth).",
        keys=("depth", "start", "method"),
        counted=("rank", "steps", "gradients", "ended"),
        measured=("ratio", "error", "seconds"),
    )
    for depth in (3, 4):
        problem, factors, exponent = hundred_start(depth)
        runs = {}
        for scale in (exponent, -100.0):
            runs[scale] = timed(
                lambda s=scale, f=factors, p=problem: gradient_flow(
                    p, f, log10_scale=s, rtol=HUNDRED_RTOL, loss_tol=HUNDRED_LOSS
                )
            )
        alpha = 10**exponent
        (count, W, ended), plain = descend_fast(
            problem, [alpha * factor for factor in factors], runs[exponent][0].factors,
            HUNDRED_LOSS, 20_000,
        )  # fmt: skip

        def error(W, truth=problem.truth):
            return f"{np.linalg.norm(W - truth) / np.linalg.norm(truth):.1e}"

        for scale, (run, seconds) in runs.items():
            rank = int((run.singular_values[-1] > 1e-3 * run.singular_values[-1, 0]).sum())
            table.row(depth, f"10^{scale:.0f}", "engine", rank, run.n_steps, run.n_gradients,
                      run.reason, f"{seconds / plain:.2f}", error(run.W),
                      f"{seconds:.2f}")  # fmt: skip
        table.row(depth, f"10^{exponent:.0f}", "descent", 5, count, count, ended, "1", error(W),
                  f"{plain:.2f}")  # fmt: skip
    return table


def deep_movielens():
    """943×1682, 100,000 entries of a rank-5 matrix, depth 3, through five phases."""
    table = Table(
        "deepmovielens",
        "MovieLens size, synthetic: 943×1682, 100,000 entries, rank 5, depth 3, α = 10^-60, rtol "
        "1e-4, loss 1e-5.",
        keys=("width",),
        counted=("rank", "steps", "gradients", "ended"),
        measured=("error", "peak MB", "seconds"),
    )
    for width in (12, 100):
        table.row(width, *alone(deep_movielens_row, width))
    return table


def deep_movielens_row(width):
    """What one run of that size gives, of layers of that width."""
    problem = low_rank(np.random.default_rng(0), 943, 1682, 5, 100_000, decay=1 / 1.5)
    factors = small_init(problem, depth=3, width=width, rng=1)
    run, seconds = timed(
        lambda: gradient_flow(
            problem, factors, log10_scale=-60, rtol=1e-4, loss_tol=1e-5, max_steps=3000
        )
    )
    rank = int((run.singular_values[-1] > 1e-3 * run.singular_values[-1, 0]).sum())
    error = np.linalg.norm(run.W - problem.truth) / np.linalg.norm(problem.truth)
    counted = rank, run.n_steps, run.n_gradients, run.reason
    return *counted, f"{error:.1e}", peak(), f"{seconds:.0f}"


TABLES = {
    "depth": small,
    "deepscales": scales,
    "deephundred": deep_hundred,
    "deepmovielens": deep_movielens,
}
