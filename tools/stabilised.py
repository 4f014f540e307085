"""Make the coefficients of `mfbook/flow/shallow/stabilised.py`: `python tools/stabilised.py`.

For each number s of stages the longest β is looked for (bisection; a linear program in Chebyshev
polynomials for each) at which a polynomial of degree s that agrees with exp to order four is below
0.95 on [−β, −0.3]. Of its zeros all but four are real: they are those of Euler steps. The last four
stages, which make the method one of order four, solve the order conditions of the whole method, of
some random starts those with the smallest coefficients. Last come the weights of the estimate.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import least_squares, linprog

from mfbook.flow.shallow.stabilised import order_conditions, tableau

STAGES = (6, 8, 12, 18)
ORDER, DAMPED, FROM, STARTS = 4, 0.95, 0.3, 20
# The estimate is this share of the fourth term of Taylor's series of an exponential, by weights no
# larger than LARGEST.
SHARE, LARGEST = 0.2, 1.0


def polynomial(s: int, beta: float) -> tuple[float, np.ndarray]:
    """The smallest bound on [−β, −FROM], and the polynomial, in 1 + 2z/β."""
    x = np.cos(np.linspace(0, np.pi, 30 * s))
    values = chebyshev.chebvander(x[(x - 1) * beta / 2 < -FROM], s)
    bound = -np.ones((len(values), 1))
    rows = np.array(
        [
            [*(chebyshev.chebval(1.0, chebyshev.chebder(e, r)) for e in np.eye(s + 1)), 0.0]
            for r in range(ORDER + 1)
        ]
    )
    right = (beta / 2) ** np.arange(ORDER + 1.0)
    size = np.abs(rows).max(axis=1)
    found = linprog(
        np.eye(s + 2)[-1],
        A_ub=np.block([[values, bound], [-values, bound]]),
        b_ub=np.zeros(2 * len(values)),
        A_eq=rows / size[:, None],
        b_eq=right / size,
        bounds=[(None, None)] * (s + 2),
    )
    return (np.inf, np.zeros(s + 1)) if found.status else (found.x[-1], found.x[:-1])


def longest(s: int) -> tuple[float, np.ndarray]:
    low, high = 0.2 * s**2, 0.5 * s**2
    while high > 1.001 * low:
        middle = np.sqrt(low * high)
        low, high = (middle, high) if polynomial(s, middle)[0] <= DAMPED else (low, middle)
    return low, polynomial(s, low)[1]


def in_order(tau: np.ndarray, beta: float) -> np.ndarray:
    """Euler steps in the order that keeps what they do to any mode small."""
    z, left, out = -np.linspace(0, beta, 400), list(tau), []
    product = np.ones_like(z)
    while left:
        worst = [np.abs(product * (1 + t * z)).max() for t in left]
        out.append(left.pop(int(np.argmin(worst))))
        product *= 1 + out[-1] * z
    return np.array(out)


def last_stages(tau: np.ndarray) -> np.ndarray:
    rng, found = np.random.default_rng(0), []
    for _ in range(STARTS):
        one = least_squares(
            lambda v: order_conditions(*tableau(tau, v)), rng.standard_normal(10) / 3,
            xtol=1e-15, ftol=1e-15, gtol=1e-15,
        )  # fmt: skip
        if np.abs(order_conditions(*tableau(tau, one.x))).max() < 1e-14:
            found.append(one.x)
    return min(found, key=lambda v: float(np.abs(v).max()))


def estimate(tau: np.ndarray, v: np.ndarray, beta: float) -> np.ndarray:
    """Weights of all slopes and that at the end: none of what is below order four, and bounded."""
    A, b = tableau(tau, v)
    A = np.block([[A, np.zeros((len(b), 1))], [b, 0.0]])
    c = A.sum(axis=1)
    z = -beta * (1 - np.cos(np.linspace(0, np.pi, 300))) / 2
    stages = np.ones((len(c), len(z)))
    for i in range(1, len(c)):
        stages[i] = 1 + z * (A[i, :i] @ stages[:i])
    values = (z * stages).T
    rows = np.array([np.ones_like(c), c, c**2, A @ c, A @ A @ c])
    bound = -np.ones((len(values), 1))
    found = linprog(
        np.eye(len(c) + 1)[-1],
        A_ub=np.block([[values, bound], [-values, bound]]),
        b_ub=np.zeros(2 * len(values)),
        A_eq=np.hstack([rows, np.zeros((5, 1))]),
        b_eq=[0, 0, 0, 0, SHARE / 24],
        bounds=[(-LARGEST, LARGEST)] * len(c) + [(None, None)],
    )
    print(f"    # The estimate is below {found.x[-1]:.3f}.")
    return found.x[:-1]


if __name__ == "__main__":
    for s in STAGES:
        beta, coefficients = longest(s)
        zeros = (chebyshev.chebroots(coefficients) - 1) * beta / 2
        tau = in_order(-1 / zeros[np.abs(zeros.imag) < 1e-9].real, beta)
        assert len(tau) == s - 4
        v = last_stages(tau)
        print(f"    Coefficients({0.98 * beta:.4g}, {list(map(float, tau))}, {v.tolist()},")
        print(f"        {estimate(tau, v, beta).tolist()}),", flush=True)
