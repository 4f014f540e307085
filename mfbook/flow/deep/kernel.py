"""The arithmetic of a step of N layers, compiled.

The layers lie one after the other in one vector z, layer j of shape (dims[j−1], dims[j]) from
offsets[j−1] on. Measurement l is the sum of c · W_ij over its terms (`Terms`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfbook.flow.shallow.compiled import compiled
from mfbook.flow.shallow.eigenpairs import eigenpairs
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.shallow.kernel import GAUSS, LARGEST_GROWTH
from mfbook.flow.shallow.phi import phis
from mfbook.flow.shallow.rosenbrock import C2, C3, difference, inside, second_stage, third_stage

# A hidden column of less than this share of the largest beside it is rounding.
DUST = 1e-13

# What is conserved is mended down to this, relative to the columns; each sweep over the interfaces
# takes the error down by cos²(π/N), which is 1/4 for three layers.
UNBALANCED, MOST_SWEEPS = 4e-16, 60


class Terms(NamedTuple):
    """Terms (of, i, j, c): measurement `of` has c · W_ij; its target, and the weight of squares."""

    of: np.ndarray
    i: np.ndarray
    j: np.ndarray
    c: np.ndarray
    values: np.ndarray
    weight: float


@compiled
def layer(z: np.ndarray, dims: np.ndarray, offsets: np.ndarray, k: int) -> np.ndarray:
    """Layer k, from 0."""
    return z[offsets[k] : offsets[k + 1]].reshape(dims[k], dims[k + 1])


@compiled
def residual_of(terms: Terms, W: np.ndarray) -> np.ndarray:
    r = -terms.values
    for term in range(len(terms.of)):
        r[terms.of[term]] += terms.c[term] * W[terms.i[term], terms.j[term]]
    return r


@compiled
def adjoint_of(terms: Terms, r: np.ndarray, m: int, n: int) -> np.ndarray:
    """G, the gradient of f with respect to W, at a residual."""
    G = np.zeros((m, n))
    for term in range(len(terms.of)):
        factor = 2 * terms.weight * terms.c[term]
        G[terms.i[term], terms.j[term]] += factor * r[terms.of[term]]
    return G


@compiled
def product_of(z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    W = layer(z, dims, offsets, 0).copy()
    for k in range(1, len(dims) - 1):
        W = W @ layer(z, dims, offsets, k)
    return W


@compiled
def slope_along(G: np.ndarray, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """−(W_1 ⋯ W_{j−1})ᵀ G (W_{j+1} ⋯ W_N)ᵀ for every layer, in one vector."""
    depth = len(dims) - 1
    out = np.empty_like(z)
    lefts = [G.T.copy()]
    for k in range(depth - 1):
        lefts.append(lefts[k] @ layer(z, dims, offsets, k))
    right = np.eye(dims[depth])
    for k in range(depth - 1, -1, -1):
        # lefts[k] is Gᵀ W_1 ⋯ W_k, of shape (n, d_k).
        block = -(right @ lefts[k]).T
        out[offsets[k] : offsets[k + 1]] = block.copy().ravel()
        if k:
            right = layer(z, dims, offsets, k) @ right
    return out


@compiled
def slope(
    terms: Terms, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """The slope of the layers, the loss, and G."""
    W = product_of(z, dims, offsets)
    r = residual_of(terms, W)
    G = adjoint_of(terms, r, dims[0], dims[-1])
    return slope_along(G, z, dims, offsets), terms.weight * np.sum(r * r), G


@compiled
def column_sizes(z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """|[W_j; W_{j+1}ᵀ]| for every hidden column, interface after interface."""
    count = 0
    for k in range(1, len(dims) - 1):
        count += dims[k]
    out = np.zeros(count)
    at = 0
    for k in range(1, len(dims) - 1):
        before, after = layer(z, dims, offsets, k - 1), layer(z, dims, offsets, k)
        for h in range(dims[k]):
            square = 0.0
            for a in range(before.shape[0]):
                square += before[a, h] ** 2
            for b in range(after.shape[1]):
                square += after[h, b] ** 2
            out[at] = np.sqrt(square)
            at += 1
    return out


@compiled
def floors_of(sizes: np.ndarray, dims: np.ndarray) -> np.ndarray:
    """For every hidden column the size below which it is rounding of those beside it."""
    out = np.empty_like(sizes)
    at = 0
    for k in range(1, len(dims) - 1):
        largest = 0.0
        for h in range(dims[k]):
            largest = max(largest, sizes[at + h])
        out[at : at + dims[k]] = DUST * largest
        at += dims[k]
    return out


@compiled
def rebalanced(
    z: np.ndarray, dims: np.ndarray, offsets: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """The layers near z that have W_jᵀW_j − W_{j+1}W_{j+1}ᵀ as they were at the start.

    The corrections W_j Λ and −Λ W_{j+1} with C Λ + Λ C = −(what is wrong), C the Gram matrix of the
    columns, mend one interface after the other. In turned bases C is nearly diagonal, and an error
    of it is one of the correction, relative to that.
    """
    start, first_worst = z, 0.0
    z = z.copy()
    widest = 0
    for k in range(1, len(dims) - 1):
        widest = max(widest, dims[k])
    gap, size = np.empty((widest, widest)), np.empty(widest)
    turn, row = np.empty((widest, widest)), np.empty(widest)
    for sweep in range(MOST_SWEEPS):
        worst = 0.0
        at = 0
        for k in range(1, len(dims) - 1):
            width = dims[k]
            before, after = layer(z, dims, offsets, k - 1), layer(z, dims, offsets, k)
            # Small matrices: written out, a sweep costs a tenth of what it does by products.
            for a in range(width):
                for b in range(a, width):
                    one, other = 0.0, 0.0
                    for i in range(before.shape[0]):
                        one += before[i, a] * before[i, b]
                    for i in range(after.shape[1]):
                        other += after[a, i] * after[b, i]
                    gap[a, b] = gap[b, a] = one - other
                    if a == b:
                        size[a] = one + other
            for a in range(width):
                for b in range(width):
                    wrong = gap[a, b] - targets[at + a * width + b]
                    scale = size[a] + size[b]
                    turn[a, b] = -wrong / scale if scale > 0.0 else 0.0
                    if size[a] > 0.0 and size[b] > 0.0:
                        worst = max(worst, abs(wrong) / np.sqrt(size[a] * size[b]))
            for i in range(before.shape[0]):
                for b in range(width):
                    row[b] = 0.0
                    for a in range(width):
                        row[b] += before[i, a] * turn[a, b]
                for b in range(width):
                    before[i, b] += row[b]
            for i in range(after.shape[1]):
                for a in range(width):
                    row[a] = 0.0
                    for b in range(width):
                        row[a] += turn[a, b] * after[b, i]
                for a in range(width):
                    after[a, i] -= row[a]
            at += width * width
        if sweep == 0:
            first_worst = worst
        if not worst <= 2 * first_worst:
            return start
        if worst < UNBALANCED:
            break
    return z


@compiled
def noise_of(
    terms: Terms, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray, curvature: float
) -> float:
    """One rounding of the terms that the slope of a column of size one is the sum of."""
    W = product_of(z, dims, offsets)
    G = np.sqrt(np.sum(adjoint_of(terms, residual_of(terms, W), dims[0], dims[-1]) ** 2))
    size = G + curvature * np.sqrt(np.sum(W * W))
    # The product of all layers but two; layers of a balanced start are of one size.
    sizes = np.empty(len(dims) - 1)
    for k in range(len(sizes)):
        sizes[k] = np.sqrt(np.sum(layer(z, dims, offsets, k) ** 2))
    sizes = np.sort(sizes)[::-1]
    others = 1.0
    for k in range(len(sizes) - 2):
        others *= sizes[k]
    return EPS * np.sqrt(len(z)) * size * others


@compiled
def jacobian(
    terms: Terms, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray, G: np.ndarray
) -> np.ndarray:
    """The Jacobian of the slope, symmetric as that of any gradient flow."""
    depth = len(dims) - 1
    lefts = [np.eye(dims[0])]
    for k in range(depth):
        lefts.append(lefts[k] @ layer(z, dims, offsets, k))
    rights = [np.eye(dims[depth])]
    for k in range(depth - 1, -1, -1):
        rights.append(layer(z, dims, offsets, k) @ rights[-1])
    # rights[depth − k] is W_{k+1} ⋯ W_N, of shape (d_k, n).
    K = np.zeros((len(terms.values), len(z)))
    for term in range(len(terms.of)):
        row = K[terms.of[term]]
        for k in range(depth):
            left, right = lefts[k], rights[depth - k - 1]
            at = offsets[k]
            for a in range(dims[k]):
                factor = terms.c[term] * left[terms.i[term], a]
                for b in range(dims[k + 1]):
                    row[at] += factor * right[b, terms.j[term]]
                    at += 1
    J = -2 * terms.weight * (np.ascontiguousarray(K.T) @ K)
    for i in range(depth - 1):
        between = np.eye(dims[i + 1])
        for j in range(i + 1, depth):
            if j > i + 1:
                between = between @ layer(z, dims, offsets, j - 1)
            # H[a, d] = (W_1 ⋯ W_i)ᵀ G (W_{j+2} ⋯ W_N)ᵀ, counting layers from 0.
            H = lefts[i].T.copy() @ (G @ rights[depth - j - 1].T.copy())
            for a in range(dims[i]):
                for b in range(dims[i + 1]):
                    row = offsets[i] + a * dims[i + 1] + b
                    for c in range(dims[j]):
                        for d in range(dims[j + 1]):
                            col = offsets[j] + c * dims[j + 1] + d
                            value = H[a, d] * between[b, c]
                            J[row, col] -= value
                            J[col, row] -= value
    return J


@compiled
def linearised(
    terms: Terms,
    z: np.ndarray,
    dims: np.ndarray,
    offsets: np.ndarray,
    G: np.ndarray,
    allowed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Jacobian and its eigenpairs, where entries move only if `allowed` is not 0.

    Entries between sectors may grow fast, if there are any. Those that rounding would leave in
    eigenvectors would do so.
    """
    J = jacobian(terms, z, dims, offsets, G)
    moving = np.flatnonzero(allowed)
    if len(moving) == len(z):
        values, basis = eigenpairs(J)
        return J, values, basis
    inner = np.empty((len(moving), len(moving)))
    for a in range(len(moving)):
        for b in range(len(moving)):
            inner[a, b] = J[moving[a], moving[b]]
    rates, vectors = eigenpairs(inner)
    J, values, basis = np.zeros_like(J), np.zeros(len(z)), np.eye(len(z))
    for a in range(len(moving)):
        values[moving[a]] = rates[a]
        for b in range(len(moving)):
            J[moving[a], moving[b]] = inner[a, b]
            basis[moving[a], moving[b]] = vectors[a, b]
    return J, values, basis


@compiled
def _nonlinear(
    terms: Terms,
    z: np.ndarray,
    dims: np.ndarray,
    offsets: np.ndarray,
    F: np.ndarray,
    J: np.ndarray,
    shift: np.ndarray,
) -> np.ndarray:
    """F(z + shift) − F(z) − J shift."""
    return slope(terms, z + shift, dims, offsets)[0] - F - J @ shift


@compiled
def _stages(
    terms: Terms,
    z: np.ndarray,
    dims: np.ndarray,
    offsets: np.ndarray,
    F: np.ndarray,
    J: np.ndarray,
    rates: np.ndarray,
    Q: np.ndarray,
    h: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F and the two nonlinear parts of a step, in coordinates of the eigenvectors."""
    x = h * rates
    Qt = np.ascontiguousarray(Q.T)
    early, late = phis(x, C2), phis(x, C3)
    f = Qt @ F
    shift = Q @ (second_stage(h, early) * f)
    D2 = Qt @ _nonlinear(terms, z, dims, offsets, F, J, shift)
    first, second = third_stage(h, early, late)
    shift = Q @ (first * f + second * D2)
    D3 = Qt @ _nonlinear(terms, z, dims, offsets, F, J, shift)
    return f, D2, D3


@compiled
def active_step(
    terms: Terms,
    z: np.ndarray,
    dims: np.ndarray,
    offsets: np.ndarray,
    F: np.ndarray,
    J: np.ndarray,
    rates: np.ndarray,
    Q: np.ndarray,
    h: float,
    weights: np.ndarray,
) -> tuple[np.ndarray, float]:
    """z(θh) at θ = 1 and at Gauss' two nodes, and the error of the first relative to its columns.

    The relative error of a hidden column counts `weights` times. It is inf where a number is not
    finite or a hidden column has grown too much.
    """
    x = h * rates
    f, D2, D3 = _stages(terms, z, dims, offsets, F, J, rates, Q, h)
    end = phis(x, 1.0)
    on_D2, on_D3 = difference(h, end)
    gap = Q @ (on_D2 * D2 + on_D3 * D3)
    path = np.empty((3, len(z)))
    for node in range(3):
        theta = 1.0 if node == 0 else GAUSS[node - 1]
        on_F, on_D2, on_D3 = inside(h, theta, end if node == 0 else phis(x, theta))
        path[node] = z + Q @ (on_F * f + on_D2 * D2 + on_D3 * D3)
    if not np.all(np.isfinite(path)):
        return path, np.inf
    before, after = column_sizes(z, dims, offsets), column_sizes(path[0], dims, offsets)
    missed = column_sizes(gap, dims, offsets)
    floors = np.maximum(floors_of(before, dims), floors_of(after, dims))
    error = 0.0
    for k in range(len(before)):
        larger = max(before[k], after[k])
        if np.isfinite(larger) and larger <= floors[k]:
            continue
        if not after[k] <= LARGEST_GROWTH * before[k]:
            return path, np.inf
        error = max(error, weights[k] * missed[k] / larger)
    return path, error if np.isfinite(error) else np.inf


@compiled
def taylor(
    G: np.ndarray, z: np.ndarray, dims: np.ndarray, offsets: np.ndarray, order: int
) -> np.ndarray:
    """Coefficients of the layers' Taylor series where G is constant; (order + 1, len(z))."""
    depth = len(dims) - 1
    series = np.zeros((order + 1, len(z)))
    series[0] = z
    # lefts[k] is the series of Gᵀ W_1 ⋯ W_k, of shape (n, d_k); rights[k] that of W_{k+1} ⋯ W_N.
    lefts = [np.zeros((order + 1, dims[-1], dims[k])) for k in range(depth)]
    rights = [np.zeros((order + 1, dims[k], dims[-1])) for k in range(depth + 1)]
    lefts[0][0] = G.T
    rights[depth][0] = np.eye(dims[-1])
    for n in range(order):
        for k in range(depth - 1):
            for i in range(n + 1):
                if k == 0 and i > 0:
                    break
                lefts[k + 1][n] += lefts[k][i] @ layer(series[n - i], dims, offsets, k)
        for k in range(depth - 1, 0, -1):
            for i in range(n + 1):
                if k == depth - 1 and i > 0:
                    break
                rights[k][n] += layer(series[n - i], dims, offsets, k) @ rights[k + 1][i]
        for k in range(depth):
            block = np.zeros((dims[k + 1], dims[k]))
            for i in range(n + 1):
                block += rights[k + 1][n - i] @ lefts[k][i]
            flat = block.T.copy().ravel() / (n + 1)
            series[n + 1, offsets[k] : offsets[k + 1]] = -flat
    return series


@compiled
def taylor_length(
    series: np.ndarray, dims: np.ndarray, offsets: np.ndarray, tolerance: float
) -> float:
    """How long a step keeps the last two terms below `tolerance` of every hidden column.

    Where a gradient is so small that they underflow, two of those before them.
    """
    h, found = np.inf, 0
    sizes = column_sizes(series[0], dims, offsets)
    for k in range(len(series) - 1, 0, -1):
        last = column_sizes(series[k], dims, offsets)
        for c in range(len(sizes)):
            if last[c] > 0.0 and sizes[c] > 0.0:
                h = min(h, (tolerance * sizes[c] / last[c]) ** (1.0 / k))
        found += last.max() > 0.0
        if found == 2:
            break
    return h


@compiled
def taylor_sum(series: np.ndarray, h: float) -> np.ndarray:
    value = series[-1].copy()
    for k in range(len(series) - 2, -1, -1):
        value = value * h + series[k]
    return value
