"""Two explicit methods for a large problem, each a function of the field alone.

The Runge–Kutta–Chebyshev method of order two (Sommeijer, Shampine & Verwer, J. Comput. Appl.
Math. 88, 1998) takes s stages and is stable for h ρ ≤ 0.65 s², ρ the spectral radius of the
Jacobian: the stiff directions that an explicit Euler step (gradient descent) pays for linearly cost
a square root. The pair of order five of Dormand & Prince (1980), as SciPy's RK45 has it, is stable
for h ρ ≤ 3.3.

Each takes F, the vector Y, F(Y) and h, and returns Y after time h and an estimate of its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.linalg.blas import daxpy

VectorField = Callable[[np.ndarray], np.ndarray]

EXPLICIT = 3.0  # the stability interval of the Dormand–Prince pair, with a margin
DAMPING = 2 / 13
MOST_STAGES = 150


def longest_chebyshev(rho: float) -> float:
    return 0.65 * (MOST_STAGES**2 - 1) / rho


def chebyshev(
    F: VectorField, Y: np.ndarray, F_at_Y: np.ndarray, h: float, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    s = max(2, int(np.ceil(np.sqrt(1 + h * rho / 0.65))))
    w0 = 1 + DAMPING / s**2
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, s + 1):
        T.append(2 * w0 * T[-1] - T[-2])
        dT.append(2 * w0 * dT[-1] - dT[-2] + 2 * T[-2])
        ddT.append(2 * w0 * ddT[-1] - ddT[-2] + 4 * dT[-2])
    w1 = dT[s] / ddT[s]
    b = [0.0, 0.0] + [ddT[j] / dT[j] ** 2 for j in range(2, s + 1)]
    b[0] = b[1] = b[2]
    a = [1 - b[j] * T[j] for j in range(s + 1)]
    F0 = h * F_at_Y
    previous, stage = Y, Y + b[1] * w1 * F0
    for j in range(2, s + 1):
        mu, nu = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2]
        step = 2 * b[j] * w1 / b[j - 1]
        slope = F(stage)
        # In place, in the array of the stage before the last: no temporary arrays.
        new = Y.copy() if j == 2 else previous
        new *= nu
        for factor, array in (
            (1 - mu - nu, Y),
            (-a[j - 1] * step, F0),
            (mu, stage),
            (step * h, slope),
        ):
            daxpy(array.ravel(), new.ravel(), a=factor)
        previous, stage = stage, new
    return stage, 0.8 * (Y - stage) + 0.4 * (F0 + h * F(stage))


def dormand_prince(
    F: VectorField, Y: np.ndarray, F_at_Y: np.ndarray, h: float
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.integrate import RK45  # takes longer to import than all the rest

    slopes = [F_at_Y]
    for row in RK45.A[1:, :5]:
        slopes.append(F(_combined(Y, h * row, slopes)))
    new = _combined(Y, h * RK45.B, slopes)
    slopes.append(F(new))
    return new, _combined(np.zeros_like(new), h * RK45.E, slopes)


def _combined(start: np.ndarray, factors: np.ndarray, arrays: Iterable[np.ndarray]) -> np.ndarray:
    """start + Σ factor · array, summed in place."""
    total = start.copy()
    for factor, array in zip(factors, arrays, strict=False):
        if factor:
            daxpy(array.ravel(), total.ravel(), a=factor)
    return total
