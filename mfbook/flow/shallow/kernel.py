"""The arithmetic of a dense step, compiled.

A field comes as plain arrays (`FieldArrays`): measurement l is the sum of c · W_ij over its terms,
one for an entry, all for a full X_l; W_ij is the product of the rows `left` and `right` of the
stack. Columns Z live in coordinates of an orthonormal basis E where
there is one. `label` numbers the sector of a coordinate, from 0; there is one where they are all 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfbook.flow.shallow.compiled import compiled
from mfbook.flow.shallow.eigenpairs import eigenpairs
from mfbook.flow.shallow.gauge import DIRECT_SPREAD, EPS, linear_flow, orthogonalise
from mfbook.flow.shallow.phi import phis
from mfbook.flow.shallow.rosenbrock import C2, C3, difference, inside, second_stage, third_stage

ROOT = np.sqrt(3.0)
GAUSS = (0.5 - ROOT / 6, 0.5 + ROOT / 6)
EARLY, LATE = (3 + 2 * ROOT) / 12, (3 - 2 * ROOT) / 12
# Nodes of the two halves of a step; the whole step takes its moments of S from the same four.
NODES = (GAUSS[0] / 2, GAUSS[1] / 2, 0.5 + GAUSS[0] / 2, 0.5 + GAUSS[1] / 2)

# An active column may grow by at most this factor in a step. Its neighbours grow along with it, and
# what tells them apart loses as much of their sixteen digits; and in a long exponential step the
# stages see too little of the nonlinearity at its end. Measured on the 1×1 problem with M = 10, α =
# 10^-60, rtol = 1e-6, worst error over the run and steps: factor 3000: 2.3e-6, 49; 100: 1.5e-7, 50;
# 30: 6e-8, 54; 10: 7e-8, 54.
LARGEST_GROWTH = 30.0


# The active columns rest where |F| is below this many roundings of the terms it is the sum of.
REST = 16.0


class FieldArrays(NamedTuple):
    """Terms (of, left, right, c) of measurements, targets, weight of the loss, and coordinates.

    `rate` is that of the flow, S = −rate Σ r_l (X_l + X_lᵀ).
    """

    of: np.ndarray
    left: np.ndarray
    right: np.ndarray
    c: np.ndarray
    values: np.ndarray
    weight: float
    rate: float
    p: int
    E: np.ndarray
    label: np.ndarray


@compiled
def residual_of(field: FieldArrays, Z: np.ndarray) -> np.ndarray:
    U = field.E @ Z if field.E.size else Z
    r = -field.values
    for term in range(len(field.of)):
        a, b = field.left[term], field.right[term]
        product = 0.0
        for k in range(U.shape[1]):
            product += U[a, k] * U[b, k]
        r[field.of[term]] += field.c[term] * product
    return r


@compiled
def S_of(field: FieldArrays, r: np.ndarray) -> np.ndarray:
    """The symmetric matrix of the flow at a residual."""
    S = np.zeros((field.p, field.p))
    for term in range(len(field.of)):
        a, b = field.left[term], field.right[term]
        g = field.rate * field.c[term] * r[field.of[term]]
        S[a, b] -= g
        S[b, a] -= g
    if field.E.size:
        return np.ascontiguousarray(field.E.T) @ (S @ field.E)
    return S


@compiled
def noise_of(unit: float, S: np.ndarray, Z: np.ndarray, curvature: float) -> float:
    """What S, and growth rates, have of columns whose entries are off by that share of them."""
    size = np.sqrt(np.sum(S * S)) + curvature * np.sum(Z * Z)
    return REST * unit * np.sqrt(len(Z)) * size


@compiled
def rests_within(
    unit: float, S: np.ndarray, F: np.ndarray, Z: np.ndarray, curvature: float
) -> bool:
    """Whether every column is as slow as one at rest whose entries are off by that share of them.

    At a rest S Z = 0; there δF = S δZ + δS Z with |δZ| ≤ unit |Z| and |δS| ≤ 2 curvature |Z| |δZ|.
    """
    noise = noise_of(unit, S, Z, curvature)
    rests = True
    for col in range(Z.shape[1]):
        speed, size = 0.0, 0.0
        for row in range(len(Z)):
            speed += F[row, col] ** 2
            size += Z[row, col] ** 2
        rests = rests and np.sqrt(speed) <= noise * np.sqrt(size)
    return rests


@compiled
def state_of(
    field: FieldArrays, Z: np.ndarray, X: np.ndarray, ell: np.ndarray, curvature: float
) -> tuple[np.ndarray, np.ndarray, float, float, bool]:
    """S, the slope F = S Z, the loss, the gradient's norm |S U|, and whether Z rests."""
    d, count = X.shape
    r = residual_of(field, Z)
    S = S_of(field, r)
    F = S @ Z
    square = 0.0
    SX = S @ X
    for col in range(count):
        part = 0.0
        for row in range(d):
            part += SX[row, col] ** 2
        square += np.exp(2 * ell[col]) * part
    rests = rests_within(EPS, S, F, Z, curvature)
    return S, F, field.weight * np.sum(r * r), np.sqrt(square), rests


@compiled
def pure(X: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Columns without the rounding that steps leave in sectors that are not theirs, in place."""
    count = label.max() + 1 if label.size else 1
    if count == 1:
        return X
    weights = np.empty(count)
    for col in range(X.shape[1]):
        weights[:] = 0.0
        for row in range(len(label)):
            weights[label[row]] += X[row, col] ** 2
        owner = np.argmax(weights)
        for row in range(len(label)):
            if label[row] != owner:
                X[row, col] = 0.0
    return X


@compiled
def eigh(S: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, rising, and eigenvectors, each in one sector."""
    count = label.max() + 1 if label.size else 1
    if count == 1:
        return eigenpairs(S)
    d = len(label)
    values, basis = np.zeros(d), np.zeros((d, d))
    for k in range(count):
        here = np.flatnonzero(label == k)
        part = np.empty((len(here), len(here)))
        for a in range(len(here)):
            for b in range(len(here)):
                part[a, b] = S[here[a], here[b]]
        part_values, part_basis = eigenpairs(part)
        for a in range(len(here)):
            values[here[a]] = part_values[a]
            for b in range(len(here)):
                basis[here[a], here[b]] = part_basis[a, b]
    order = np.argsort(values, kind="mergesort")
    return values[order], np.ascontiguousarray(basis[:, order])


@compiled
def jacobian(
    field: FieldArrays, Z: np.ndarray, S: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """J = S ⊗ I − rate KᵀK, the Jacobian of the active flow, with K = dr/dZ; and its eigenpairs."""
    d, k = Z.shape
    U = field.E @ Z if field.E.size else Z
    K = np.zeros((len(field.values), field.p, k))
    for term in range(len(field.of)):
        n, a, b = field.of[term], field.left[term], field.right[term]
        for col in range(k):
            K[n, a, col] += field.c[term] * U[b, col]
            K[n, b, col] += field.c[term] * U[a, col]
    if field.E.size:
        reduced = np.empty((len(K), d, k))
        Et = np.ascontiguousarray(field.E.T)
        for n in range(len(K)):
            reduced[n] = Et @ K[n]
        K = reduced
    flat = K.reshape(len(K), d * k)
    J = -field.rate * (np.ascontiguousarray(flat.T) @ flat)
    for a in range(d):
        for b in range(d):
            for col in range(k):
                J[a * k + col, b * k + col] += S[a, b]
    values, basis = eigenpairs(J)
    return J, values, basis


@compiled
def _nonlinear(
    field: FieldArrays, Z: np.ndarray, F: np.ndarray, J: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """F(Z + shift) − F(Z) − J shift."""
    new = Z + shift
    curved = S_of(field, residual_of(field, new)) @ new - F
    return curved.ravel() - J @ shift.ravel()


@compiled
def active_step(
    field: FieldArrays,
    Z: np.ndarray,
    F: np.ndarray,
    J: np.ndarray,
    rates: np.ndarray,
    Q: np.ndarray,
    h: float,
) -> tuple[np.ndarray, float]:
    """Z(θh) at θ = 1 and at the four nodes, and the error of the first relative to its columns.

    inf where a number is not finite or a column has grown too much.
    """
    shape = Z.shape
    x = h * rates
    Qt = np.ascontiguousarray(Q.T)
    early, late, end = phis(x, C2), phis(x, C3), phis(x, 1.0)
    f = Qt @ np.ascontiguousarray(F).ravel()
    shift = (Q @ (second_stage(h, early) * f)).reshape(shape)
    D2 = Qt @ _nonlinear(field, Z, F, J, shift)
    first, second = third_stage(h, early, late)
    shift = (Q @ (first * f + second * D2)).reshape(shape)
    D3 = Qt @ _nonlinear(field, Z, F, J, shift)
    on_D2, on_D3 = difference(h, end)
    gap = (Q @ (on_D2 * D2 + on_D3 * D3)).reshape(shape)
    path = np.empty((5, shape[0], shape[1]))
    for n in range(5):
        theta = 1.0 if n == 0 else NODES[n - 1]
        on_F, on_D2, on_D3 = inside(h, theta, end if n == 0 else phis(x, theta))
        path[n] = Z + (Q @ (on_F * f + on_D2 * D2 + on_D3 * D3)).reshape(shape)
    error = 0.0
    for col in range(shape[1]):
        before, after, missed = 0.0, 0.0, 0.0
        for row in range(shape[0]):
            before += Z[row, col] ** 2
            after += path[0, row, col] ** 2
            missed += gap[row, col] ** 2
        error = max(error, np.sqrt(missed / max(before, after)))
        if not after <= LARGEST_GROWTH**2 * before:
            return path, np.inf
    if not np.all(np.isfinite(path)) or not np.isfinite(error):
        return path, np.inf
    return path, error


@compiled
def passive_step(
    field: FieldArrays, nodes: np.ndarray, X: np.ndarray, ell: np.ndarray, V: np.ndarray, h: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The columns that W does not feel, along the active ones at the four nodes, and their error.

    Magnus' method of order four; two half steps are kept, the whole step gives the error: inf
    where a number is not finite.
    """
    d, count = X.shape
    S = np.empty((4, d, d))
    for n in range(4):
        S[n] = S_of(field, residual_of(field, nodes[n]))
    mean = (S[0] + S[1] + S[2] + S[3]) / 4
    moment = np.zeros((d, d))
    for n in range(4):
        moment += (NODES[n] - 0.5) / 4 * S[n]
    # The two exponentials of the whole step, of the first half and of the second.
    exponents = np.empty((6, d, d))
    exponents[0] = h * (mean / 2 - 2 * moment)
    exponents[1] = h * (mean / 2 + 2 * moment)
    for half in range(2):
        first, second = S[2 * half], S[2 * half + 1]
        exponents[2 + 2 * half] = h / 2 * (EARLY * first + LATE * second)
        exponents[3 + 2 * half] = h / 2 * (LATE * first + EARLY * second)
    if not np.all(np.isfinite(exponents)):
        return X, ell, V, np.inf
    Xc, lc, Vc = X, ell, V
    Xf, lf, Vf = X, ell, V
    long = False
    for n in range(6):
        growth, basis = eigh(exponents[n], field.label)
        long = long or growth[-1] - growth[0] > DIRECT_SPREAD
        if n < 2:
            Xc, lc, Vc = linear_flow(Xc, lc, Vc, growth, basis)
        else:
            Xf, lf, Vf = linear_flow(Xf, lf, Vf, growth, basis)
    if long:
        Xc, lc, Vc = orthogonalise(Xc, lc, Vc)
        Xf, lf, Vf = orthogonalise(Xf, lf, Vf)
    gap = 0.0
    start = np.sort(ell)[::-1]
    for j in range(count):
        if lf[j] == -np.inf:
            continue
        if long:
            # The gauges of the two differ; sizes and the leading direction do not.
            grown = max(1.0, abs(lf[j] - start[j]))
            gap = max(gap, abs(lc[j] - lf[j]) / grown)
        else:
            missed, scale = 0.0, np.exp(lc[j] - lf[j])
            for i in range(d):
                missed += (Xc[i, j] * scale - Xf[i, j]) ** 2
            gap = max(gap, np.sqrt(missed))
    if long and count and lf[0] > -np.inf:
        cosine, missed = 0.0, 0.0
        for i in range(d):
            cosine += Xc[i, 0] * Xf[i, 0]
        for i in range(d):
            missed += (Xc[i, 0] - cosine * Xf[i, 0]) ** 2
        gap = max(gap, np.sqrt(missed))
    return Xf, lf, Vf, gap / 15  # 2⁴ − 1, Richardson
