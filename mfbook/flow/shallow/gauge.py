"""Columns that each carry their own size: the graded gauge.

The hidden space of a product A B may be rotated freely: with U = [A; Bᵀ], U and U Q give the same
W for every orthogonal Q. So we choose the Q that makes the columns of U mutually (nearly)
orthogonal, and write column j as exp(ell_j) · X_j with a unit vector X_j. Every operation below
then changes a column by an amount that is small *relative to that column*, however small it is:
no column is ever the difference of two larger ones.

`ell` holds natural logarithms, -inf for a column that is exactly zero. `V` is the accumulated
rotation: the columns in the caller's gauge are X · diag(exp(ell)) · Vᵀ.
"""

from __future__ import annotations

import numpy as np

from mfbook.flow.shallow.compiled import compiled

EPS = np.finfo(float).eps

# Above this spread of exponents (natural log) a linear flow is applied through a triangular
# form. Below it the growth separates two columns by at most e^6, which costs them three of
# their sixteen digits *against each other* and nothing in themselves.
DIRECT_SPREAD = 6.0

# Columns are made orthogonal again when two of them enclose an angle with a cosine above this.
# Orthogonality itself is not needed, only columns that are far from parallel.
LOOSE = 0.2

# Rotations leave cosines below this alone.
RIGHT_ANGLE = 1e-12
MOST_SWEEPS = 60

# From this many on the columns of a start are left as they are where they need no rotation, as
# those of a random one do not: at 2,625 rows and 943 columns orthogonalising takes a minute.
WIDE, INDEPENDENT = 200, 1e-2


@compiled
def normalised(X, ell):
    """Move the norms of the columns of X into ell."""
    p, count = X.shape
    unit, log = np.empty((p, count)), np.empty(count)
    for j in range(count):
        square = 0.0
        for i in range(p):
            square += X[i, j] * X[i, j]
        norm = np.sqrt(square)
        log[j] = ell[j] + np.log(norm) if norm > 0.0 else -np.inf
        for i in range(p):
            unit[i, j] = X[i, j] / norm if norm > 0.0 else 0.0
    return unit, log


@compiled
def largest_cosine(X):
    p, count = X.shape
    largest = 0.0
    for j in range(count):
        for k in range(j):
            cosine = 0.0
            for i in range(p):
                cosine += X[i, j] * X[i, k]
            largest = max(largest, abs(cosine))
    return largest


@compiled
def _rotated(X, ell, V, noise, noisy):
    """`orthogonalise` in place; `noise` is only looked at where `noisy`."""
    p, count = X.shape
    width = V.shape[0]
    for _ in range(MOST_SWEEPS):
        worst = 0.0
        for a in range(count - 1):
            for b in range(a + 1, count):
                i, j = (b, a) if ell[b] > ell[a] else (a, b)
                g = 0.0
                for r in range(p):
                    g += X[r, i] * X[r, j]
                if not abs(g) > RIGHT_ANGLE:
                    continue
                worst = max(worst, abs(g))
                rho = np.exp(ell[j] - ell[i])
                gap = -np.expm1(2 * (ell[j] - ell[i]))
                tau = -2 * g / (gap + np.sqrt(gap * gap + (2 * rho * g) ** 2))
                tan = rho * tau
                cos = 1 / np.sqrt(1 + tan * tan)
                norm_i, norm_j = 0.0, 0.0
                for r in range(p):
                    x, y = X[r, i], X[r, j]
                    X[r, i] = (x - rho * tan * y) * cos
                    X[r, j] = (y + tau * x) * cos
                    norm_i += X[r, i] ** 2
                    norm_j += X[r, j] ** 2
                norm_i, norm_j = np.sqrt(norm_i), np.sqrt(norm_j)
                if noisy:
                    # Roundings rotate like the columns; they are independent, so squares add.
                    c, s = 2 * np.log(cos), 2 * np.log(abs(tan) * cos)
                    n_i, n_j = 2 * noise[i], 2 * noise[j]
                    noise[i] = np.logaddexp(c + n_i, s + n_j) / 2
                    noise[j] = np.logaddexp(c + n_j, s + n_i) / 2
                    if ell[j] + np.log(norm_j) < noise[j] + np.log(8 * EPS * np.sqrt(p)):
                        norm_j = 0.0
                for r in range(p):
                    X[r, i] /= norm_i
                    X[r, j] = X[r, j] / norm_j if norm_j > 0.0 else 0.0
                ell[i] += np.log(norm_i)
                ell[j] = ell[j] + np.log(norm_j) if norm_j > 0.0 else -np.inf
                for r in range(width):
                    x, y = V[r, i], V[r, j]
                    V[r, i] = cos * (x - tan * y)
                    V[r, j] = cos * (y + tan * x)
        if worst <= np.sqrt(RIGHT_ANGLE):  # the next sweep would find cosines of the size worst²
            break
    order = np.argsort(-ell, kind="mergesort")
    return X[:, order], ell[order], V[:, order]


@compiled
def orthogonalise(X, ell, V):
    """Rotate the columns of X diag(exp(ell)) until they are mutually orthogonal.

    One-sided Jacobi rotations on unit columns and log-norms. For a pair with norms d_i ≥ d_j,
    cosine g and ρ = d_j/d_i, the rotation has tan θ = ρ τ with

        τ = −2 g / (1 − ρ² + √((1 − ρ²)² + 4 ρ² g²)),

    which stays finite as ρ → 0 (τ → −g, a Gram–Schmidt step): X_j gets X_j + τ X_i and X_i gets
    X_i − ρ² τ X_j. Both are relative changes, and columns that share no row stay apart.

    Returns X, ell, V, sorted by falling norm.
    """
    return _rotated(X.copy(), ell.copy(), V.copy(), ell, False)


def without_noise(X, ell, V, noise):
    """`orthogonalise`, where columns of which only rounding is left are set to zero.

    `noise` holds the logarithms of the sizes, in units of EPS, below which a column is rounding; it
    is inherited in the rotations. (For a start that is exactly rank-deficient.)
    """
    return _rotated(X.copy(), ell.copy(), V.copy(), noise.copy(), True)


def _nearly_orthogonal(X) -> bool:
    """Whether unit columns are independent, and at right angles as far as `LOOSE` asks."""
    gram = X.T @ X
    if np.abs(gram - np.eye(len(gram))).max() > LOOSE:
        return False
    try:
        return bool(np.diag(np.linalg.cholesky(gram)).min() > INDEPENDENT)
    except np.linalg.LinAlgError:
        return False


def graded(U: np.ndarray, log_scale: float):
    """Columns X, log-norms ell and rotation V with exp(log_scale) · U = X diag(exp(ell)) Vᵀ.

    Columns of zeros are left out, so V is (h, r) with orthonormal columns, r ≤ min(p, h).
    """
    V = np.eye(U.shape[1])
    size = np.abs(U).max(initial=0.0)
    if size == 0.0:
        return np.zeros((len(U), 0)), np.zeros(0), V[:, :0]
    U = U / size
    wide = U.shape[1] > U.shape[0]
    if wide:
        V, R = np.linalg.qr(U.T)
        U = R.T
    X, ell = normalised(np.ascontiguousarray(U), np.zeros(U.shape[1]))
    if X.shape[1] >= WIDE and _nearly_orthogonal(X):
        order = np.argsort(-ell, kind="stable")
        return X[:, order], ell[order] + log_scale + np.log(size), V[:, order]
    # The rounding of a QR decomposition is that of its largest column.
    noise = np.full_like(ell, ell.max()) if wide else ell.copy()
    X, ell, V = without_noise(X, ell, np.ascontiguousarray(V), noise)
    kept = ell > -np.inf
    return X[:, kept], ell[kept] + log_scale + np.log(size), V[:, kept]


@compiled
def _triangular(Y, ell, V):
    """Rotate columns so that Y becomes lower triangular, largest growth first.

    Y holds the columns in coordinates sorted by falling growth. Row by row, one Householder
    reflection gathers the whole row in the column that contributes most to it; the zeros it
    leaves are exact, which is what keeps a small column clean while its neighbour grows by
    10^1000.
    """
    Y, ell, V = Y.copy(), ell.copy(), V.copy()
    rows, count = Y.shape
    free = np.ones(count, dtype=np.bool_)
    left = count
    part, w = np.empty(count), np.empty(count)
    for row in range(min(rows, count)):
        if left < 2:
            break
        c = -1
        for j in range(count):
            if free[j]:
                part[j] = np.log(abs(Y[row, j])) + ell[j]
                if c < 0 or part[j] > part[c]:
                    c = j
        if part[c] == -np.inf:
            continue
        # w_j: contribution of column j to the row, relative to that of the pivot, |w| ≤ 1.
        squares = 0.0
        for j in range(count):
            w[j] = 0.0
            if free[j] and j != c and Y[row, j] != 0.0:
                w[j] = np.sign(Y[row, j]) * np.sign(Y[row, c]) * np.exp(part[j] - part[c])
                squares += w[j] * w[j]
        # The reflection I − β q qᵀ with q = (1 + r, w) takes (1, w) to (−r, 0).
        r = np.sqrt(1 + squares)
        q0, beta = 1 + r, 2 / ((1 + r) ** 2 + squares)
        pivot = Y[row, c]
        turn = False
        mix, mix_V = q0 * Y[:, c], q0 * V[:, c]
        for j in range(count):
            if free[j] and j != c and Y[row, j] != 0.0:
                turn = True
                # w scaled to unit columns, formed from logs: w itself may underflow.
                sign = np.sign(Y[row, j]) * np.sign(pivot)
                up = sign * np.exp(min(part[j] - part[c] + ell[j] - ell[c], 700.0))
                mix += Y[:, j] * up
                mix_V += V[:, j] * w[j]
        if turn:
            for j in range(count):
                if free[j] and j != c and Y[row, j] != 0.0:
                    down = Y[row, j] / pivot
                    Y[:, j] -= beta * mix * down
                    V[:, j] -= beta * mix_V * w[j]
            Y[:, c] -= beta * q0 * mix
            V[:, c] -= beta * q0 * mix_V
        for j in range(count):
            if free[j] and j != c:
                Y[row, j] = 0.0
        free[c] = False
        left -= 1
    return Y, ell, V


@compiled
def linear_flow(X, ell, V, growth, basis):
    """Apply exp(basis · diag(growth) · basisᵀ) to the columns, for growth of any size.

    `growth` is rising, as `numpy.linalg.eigh` returns it. A spread of at most DIRECT_SPREAD is
    applied directly. Beyond it the columns would all turn into the direction that grows fastest,
    and what tells them apart would drown; so the hidden space is first rotated until only one
    column has a part along that direction, only one more along the second, and so on.
    """
    if X.shape[1] == 0:
        return X.copy(), ell.copy(), V.copy()
    p, count = len(growth), X.shape[1]
    Y = np.ascontiguousarray(basis.T) @ X
    top = growth[-1]
    if top - growth[0] <= DIRECT_SPREAD:
        for i in range(p):
            Y[i] *= np.exp(growth[i] - top)
        X, ell = normalised(basis @ Y, ell + top)
        return X, ell, V.copy()
    Y, ell, V = _triangular(np.ascontiguousarray(Y[::-1]), ell, V)
    for j in range(count):
        peak = -np.inf
        for i in range(p):
            if Y[i, j] != 0.0:
                peak = max(peak, np.log(abs(Y[i, j])) + growth[p - 1 - i])
        if peak == -np.inf:
            peak = 0.0
        for i in range(p):
            if Y[i, j] != 0.0:
                log = np.log(abs(Y[i, j])) + growth[p - 1 - i]
                Y[i, j] = np.sign(Y[i, j]) * np.exp(log - peak)
        ell[j] += peak
    X, ell = normalised(np.ascontiguousarray(basis[:, ::-1]) @ Y, ell)
    return orthogonalise(X, ell, V)


@compiled
def time_to_reach(X, ell, rates, basis, target):
    """The first time at which exp(t · basis · diag(rates) · basisᵀ) takes a column to `target`.

    inf if no column ever gets there. The log-norm of a column is convex in t, and so is the
    largest of them: Newton's method started beyond the crossing comes down to it from above.
    """
    p, count = len(rates), X.shape[1]
    if count == 0 or rates[-1] <= 0:
        return np.inf
    log = np.log(np.abs(np.ascontiguousarray(basis.T) @ X))
    high = np.inf
    for i in range(p):
        visible = -np.inf
        for j in range(count):
            log[i, j] += ell[j]
            visible = max(visible, log[i, j])
        if rates[i] > 0 and visible > -np.inf:
            high = min(high, (target - visible) / rates[i])
    if not np.isfinite(high):
        return np.inf
    t = max(high, 0.0)
    for _ in range(50):
        largest, slope = -np.inf, 0.0
        for j in range(count):
            peak = -np.inf
            for i in range(p):
                peak = max(peak, log[i, j] + rates[i] * t)
            if peak == -np.inf:
                continue
            total, rate = 0.0, 0.0
            for i in range(p):
                share = np.exp(2 * (log[i, j] + rates[i] * t - peak))
                total += share
                rate += share * rates[i]
            size = peak + 0.5 * np.log(total)
            if size > largest:
                largest, slope = size, rate / total
        excess = largest - target
        if excess <= 1e-9 or slope <= 0:
            break
        t -= excess / slope
    return t
