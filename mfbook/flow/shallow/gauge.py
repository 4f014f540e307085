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

from collections.abc import Iterator

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

EPS = np.finfo(float).eps

# X, ell and V.
Graded = tuple[np.ndarray, np.ndarray, np.ndarray]

# Above this spread of exponents (natural log) a linear flow is applied through a triangular
# form. Below it the growth separates two columns by at most e^6, which costs them three of
# their sixteen digits *against each other* and nothing in themselves.
DIRECT_SPREAD = 6.0

# Columns are made orthogonal again when two of them enclose an angle with a cosine above this.
# Orthogonality itself is not needed, only columns that are far from parallel.
LOOSE = 0.2

# From this many columns on LAPACK's Jacobi method makes them orthogonal. On 200 rows and 100
# columns with log-norms spread over 1, 20 and 300 it takes 11, 3 and 2 ms where the rotations
# below take 470, 380 and 280, and the log-norms agree to 2e-14, 4e-14 and 7e-13.
MANY = 12
# From this many on the columns of a start are left as they are where they need no rotation, as
# those of a random one do not: at 2,625 rows and 943 columns orthogonalising takes a minute.
WIDE, INDEPENDENT = 200, 1e-2
# LAPACK's works on the columns themselves, and e^-600 is near the end of double precision.
WIDEST = 500.0


def normalised(X: np.ndarray, ell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move the norms of the columns of X into ell."""
    norm = np.sqrt(np.einsum("ij,ij->j", X, X))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 0, X / norm, 0.0), np.where(norm > 0, ell + np.log(norm), -np.inf)


def largest_cosine(X: np.ndarray) -> float:
    gram = np.abs(X.T @ X)
    np.fill_diagonal(gram, 0.0)
    return float(gram.max(initial=0.0))


def _rounds(count: int) -> Iterator[np.ndarray]:
    """Disjoint pairs of columns, round by round, until every pair had its turn (round robin)."""
    size = count + count % 2
    order = list(range(size))
    for _ in range(size - 1):
        pairs = [(order[k], order[size - 1 - k]) for k in range(size // 2)]
        pairs = [(i, j) for i, j in pairs if i < count and j < count]
        yield np.array(pairs, dtype=int).T
        order = [order[0], order[-1], *order[1:-1]]


def _preconditioned(X: np.ndarray, ell: np.ndarray, V: np.ndarray) -> Graded | None:
    """The rotation of `orthogonalise` by LAPACK's gejsv (Drmač & Veselić 2008).

    It too works to an accuracy relative to each column. None where it fails.
    """
    top = ell.max()
    U = np.asfortranarray(X * np.exp(ell - top))
    sizes, left, right, work, _, info = lapack.dgejsv(U, joba=0, jobr=0, jobp=0, jobt=0)
    sizes = sizes * (work[0] / work[1])
    if info != 0 or not np.all(sizes > 0) or not np.all(np.isfinite(sizes)):
        return None
    return np.ascontiguousarray(left[:, : len(ell)]), top + np.log(sizes), V @ right


def _fall_apart(X: np.ndarray) -> bool:
    """Whether some columns share no row with the others, as those of sectors: rotations keep it."""
    used = csr_array(X != 0)
    return connected_components(used.T @ used, directed=False)[0] > 1


def orthogonalise(
    X: np.ndarray,
    ell: np.ndarray,
    V: np.ndarray,
    *,
    tol: float = 1e-12,
    noise: np.ndarray | None = None,
    sweeps: int = 60,
) -> Graded:
    """Rotate the columns of X diag(exp(ell)) until they are mutually orthogonal.

    One-sided Jacobi rotations on unit columns and log-norms. For a pair with norms d_i ≥ d_j,
    cosine g and ρ = d_j/d_i, the rotation has tan θ = ρ τ with

        τ = −2 g / (1 − ρ² + √((1 − ρ²)² + 4 ρ² g²)),

    which stays finite as ρ → 0 (τ → −g, a Gram–Schmidt step): X_j gets X_j + τ X_i and X_i gets
    X_i − ρ² τ X_j. Both are relative changes. `noise` holds the logarithms of the sizes, in units
    of EPS, below which a column is rounding; it is inherited in the rotations, and a column of
    which only rounding is left is set to zero (for a start that is exactly rank-deficient).

    Returns X, ell, V, sorted by falling norm.
    """
    count = len(ell)
    if count >= MANY and np.ptp(ell) <= WIDEST and not _fall_apart(X):
        found = _preconditioned(X, ell, V)
        # With noise given, only where nothing is near it.
        if found is not None and (noise is None or np.ptp(found[1]) < -0.4 * np.log(EPS)):
            return found
    X, ell, V = X.copy(), ell.copy(), V.copy()
    for _ in range(sweeps if count > 1 else 0):
        worst = 0.0
        for pairs in _rounds(count):
            if pairs.size == 0:
                continue
            i, j = pairs
            swap = ell[j] > ell[i]
            i, j = np.where(swap, j, i), np.where(swap, i, j)
            g = np.einsum("pk,pk->k", X[:, i], X[:, j])
            turn = np.abs(g) > tol
            if not turn.any():
                continue
            i, j, g = i[turn], j[turn], g[turn]
            worst = max(worst, float(np.abs(g).max()))
            rho = np.exp(ell[j] - ell[i])
            gap = -np.expm1(2 * (ell[j] - ell[i]))
            tau = -2 * g / (gap + np.sqrt(gap**2 + (2 * rho * g) ** 2))
            tan = rho * tau
            cos = 1 / np.sqrt(1 + tan**2)
            xi, xj = X[:, i], X[:, j]
            new_i, new_j = (xi - rho * tan * xj) * cos, (xj + tau * xi) * cos
            norm_i = np.sqrt(np.einsum("pk,pk->k", new_i, new_i))
            norm_j = np.sqrt(np.einsum("pk,pk->k", new_j, new_j))
            if noise is not None:
                # Roundings rotate like the columns; they are independent, so squares add.
                with np.errstate(divide="ignore"):
                    c, s = 2 * np.log(cos), 2 * np.log(np.abs(tan) * cos)
                n_i, n_j = 2 * noise[i], 2 * noise[j]
                noise[i] = np.logaddexp(c + n_i, s + n_j) / 2
                noise[j] = np.logaddexp(c + n_j, s + n_i) / 2
                with np.errstate(divide="ignore"):
                    gone = ell[j] + np.log(norm_j) < noise[j] + np.log(8 * EPS * np.sqrt(len(X)))
                norm_j = np.where(gone, 0.0, norm_j)
            with np.errstate(divide="ignore", invalid="ignore"):
                X[:, i], X[:, j] = new_i / norm_i, np.where(norm_j > 0, new_j / norm_j, 0.0)
                ell[i] += np.log(norm_i)
                ell[j] = np.where(norm_j > 0, ell[j] + np.log(norm_j), -np.inf)
            vi, vj = V[:, i], V[:, j]
            V[:, i], V[:, j] = cos * (vi - tan * vj), cos * (vj + tan * vi)
        if worst <= np.sqrt(tol):  # the next sweep would find cosines of the size worst²
            break
    order = np.argsort(-ell, kind="stable")
    return X[:, order], ell[order], V[:, order]


def _nearly_orthogonal(X: np.ndarray) -> bool:
    """Whether unit columns are independent, and at right angles as far as `LOOSE` asks."""
    gram = X.T @ X
    if np.abs(gram - np.eye(len(gram))).max() > LOOSE:
        return False
    try:
        return bool(np.diag(np.linalg.cholesky(gram)).min() > INDEPENDENT)
    except np.linalg.LinAlgError:
        return False


def graded(U: np.ndarray, log_scale: float) -> Graded:
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
    X, ell = normalised(U, np.zeros(U.shape[1]))
    if X.shape[1] >= WIDE and _nearly_orthogonal(X):
        order = np.argsort(-ell, kind="stable")
        return X[:, order], ell[order] + log_scale + np.log(size), V[:, order]
    # The rounding of a QR decomposition is that of its largest column.
    noise = np.full_like(ell, ell.max()) if wide else ell.copy()
    X, ell, V = orthogonalise(X, ell, V, noise=noise)
    kept = ell > -np.inf
    return X[:, kept], ell[kept] + log_scale + np.log(size), V[:, kept]


def _triangular(Y: np.ndarray, ell: np.ndarray, V: np.ndarray) -> Graded:
    """Rotate columns so that Y becomes lower triangular, largest growth first.

    Y holds the columns in coordinates sorted by falling growth. Row by row, one Householder
    reflection gathers the whole row in the column that contributes most to it; the zeros it
    leaves are exact, which is what keeps a small column clean while its neighbour grows by
    10^1000.
    """
    Y, ell, V = Y.copy(), ell.copy(), V.copy()
    rows, count = Y.shape
    free = np.arange(count)
    for row in range(min(rows, count)):
        if len(free) < 2:
            break
        y = Y[row, free]
        with np.errstate(divide="ignore"):
            part = np.log(np.abs(y)) + ell[free]
        top = int(np.argmax(part))
        if part[top] == -np.inf:
            continue
        c, others = free[top], np.delete(free, top)
        live = Y[row, others] != 0.0
        if live.any():
            j = others[live]
            # w_j: contribution of column j to the row, relative to that of the pivot, |w| ≤ 1.
            sign = np.sign(Y[row, j]) * np.sign(Y[row, c])
            w = sign * np.exp(np.delete(part, top)[live] - part[top])
            # The reflection I − β q qᵀ with q = (1 + r, w) takes (1, w) to (−r, 0).
            r = np.sqrt(1 + w @ w)
            q0, beta = 1 + r, 2 / ((1 + r) ** 2 + w @ w)
            # w scaled to unit columns, formed from logs: w itself may underflow.
            up = sign * np.exp(
                np.minimum(np.delete(part, top)[live] - part[top] + ell[j] - ell[c], 700.0)
            )
            down = Y[row, j] / Y[row, c]
            mix = q0 * Y[:, c] + Y[:, j] @ up
            Y[:, j] -= beta * np.outer(mix, down)
            Y[:, c] -= beta * q0 * mix
            mix_V = q0 * V[:, c] + V[:, j] @ w
            V[:, j] -= beta * np.outer(mix_V, w)
            V[:, c] -= beta * q0 * mix_V
            Y[row, j] = 0.0
        Y[row, others] = 0.0
        free = others
    return Y, ell, V


def linear_flow(
    X: np.ndarray, ell: np.ndarray, V: np.ndarray, growth: np.ndarray, basis: np.ndarray
) -> Graded:
    """Apply exp(basis · diag(growth) · basisᵀ) to the columns, for growth of any size.

    `growth` is rising, as `numpy.linalg.eigh` returns it. A spread of at most DIRECT_SPREAD is
    applied directly. Beyond it the columns would all turn into the direction that grows fastest,
    and what tells them apart would drown; so the hidden space is first rotated until only one
    column has a part along that direction, only one more along the second, and so on.
    """
    if X.shape[1] == 0:
        return X, ell, V
    Y = basis.T @ X
    top = growth[-1]
    if top - growth[0] <= DIRECT_SPREAD:
        X, ell = normalised(basis @ (np.exp(growth - top)[:, None] * Y), ell + top)
        return X, ell, V
    Y, ell, V = _triangular(Y[::-1], ell, V)
    growth, basis = growth[::-1], basis[:, ::-1]
    with np.errstate(divide="ignore"):
        log = np.log(np.abs(Y)) + growth[:, None]
    peak = log.max(axis=0)
    peak = np.where(peak > -np.inf, peak, 0.0)
    X, ell = normalised(basis @ (np.sign(Y) * np.exp(log - peak)), ell + peak)
    return orthogonalise(X, ell, V)


def time_to_reach(
    X: np.ndarray, ell: np.ndarray, rates: np.ndarray, basis: np.ndarray, target: float
) -> float:
    """The first time at which exp(t · basis · diag(rates) · basisᵀ) takes a column to `target`.

    inf if no column ever gets there. The log-norm of a column is convex in t, and so is the
    largest of them: Newton's method started beyond the crossing comes down to it from above.
    """
    if X.shape[1] == 0 or rates[-1] <= 0:
        return np.inf
    with np.errstate(divide="ignore"):
        log = np.log(np.abs(basis.T @ X)) + ell

    growing = rates > 0
    visible = log[growing].max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = (target - visible) / rates[growing]
    high = float(np.min(np.where(visible > -np.inf, bounds, np.inf)))
    if not np.isfinite(high):
        return np.inf
    t = max(high, 0.0)
    for _ in range(50):
        exponent = log + rates[:, None] * t
        peak = exponent.max(axis=0)
        peak = np.where(peak > -np.inf, peak, 0.0)
        share = np.exp(2 * (exponent - peak))
        total = share.sum(axis=0)
        with np.errstate(divide="ignore"):
            size = peak + 0.5 * np.log(total)
        c = int(np.argmax(size))
        excess, slope = size[c] - target, float(share[:, c] @ rates) / total[c]
        if excess <= 1e-9 or slope <= 0:
            break
        t -= excess / slope
    return float(t)
