"""Steps of felt layers, one after the other in compiled code, until more must be decided.

A step of a 3×3 problem takes a third of a millisecond, and as many microseconds as that are lost to
every call of Python. So the whole march from one decision to the next is one call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfbook.flow.deep.kernel import (
    Terms,
    active_step,
    column_sizes,
    floors_of,
    layer,
    linearised,
    noise_of,
    product_of,
    rebalanced,
    slope,
)
from mfbook.flow.shallow.compiled import compiled
from mfbook.flow.shallow.gauge import EPS, LOOSE, largest_cosine, normalised, orthogonalise
from mfbook.flow.shallow.kernel import REST

# Columns smaller than the felt ones by this are split off while those still move.
APART = 1e-8
# The blocks that link columns may be dropped below this share of the smaller ones.
LINKED = 1e-6

# The step control compares with an embedded method of order three, which overestimates the error.
LOCAL, ORDER_OF_ERROR, GROW = 5.0, 4, 8.0
SHRINK, SAFETY = 0.1, 0.9

# A column of size a that is wrong by a share δ escapes at a time that is wrong by δ/a^(N−2), when W
# changes at a rate of order one. So while it is small its error counts more, by a power of a^(N−2):
# as the estimate is of order three and the error of order five, not the first. Worst error of W at
# equal times over the data at rtol = 1e-6, and steps, on M3 (N = 3) from 1e-2 and 1e-4, and (N = 4)
# from 1e-2: power 0: 1e-5, 1e-3, 7e-4 (189, 315, 246); 0.4: 1.5e-6, 1.6e-5, 9e-6 (254, 596, 511);
# 0.8: 1.4e-7, 1.8e-7, 8e-8 (405, 1523, 1553).
EARLY, MOST_EXACT = 0.6, 1e-6
# While larger columns move, smaller ones need not count much more than they.
OTHERS, MOVING = 3.0, 1e-3
# A column space has the singular values above this share of the first.
FULL = 1e-12


class Felt(NamedTuple):
    """What does not change while felt layers move.

    `conserved` is W_jᵀW_j − W_{j+1}W_{j+1}ᵀ, interface after interface; `allowed` is 1 for entries
    that may move and 0 for others, `reference` the size of a column where the data are fitted,
    `others` the loss of what the layers have nothing of.
    """

    terms: Terms
    dims: np.ndarray
    offsets: np.ndarray
    conserved: np.ndarray
    allowed: np.ndarray
    reference: float
    curvature: float
    others: float


class Measured(NamedTuple):
    """Slope, loss and ∇f; hidden columns: sizes, which rest, weights of errors, fastest rate."""

    F: np.ndarray
    loss: float
    G: np.ndarray
    sizes: np.ndarray
    resting: np.ndarray
    weights: np.ndarray
    fastest: float


class Limits(NamedTuple):
    """`rtol`, and where a march ends: a loss, a size that W feels, one that is far beyond data."""

    rtol: float
    threshold: float
    least: float
    far: float


class March(NamedTuple):
    """Steps: z at the end and at Gauss' nodes, lengths; loss and norm of the slope at the start.

    `h` is the length to try next, `tries` how often one was tried, `failed` that none was short
    enough.
    """

    steps: int
    paths: np.ndarray
    lengths: np.ndarray
    losses: np.ndarray
    norms: np.ndarray
    h: float
    tries: int
    failed: bool


@compiled
def measured(felt: Felt, z: np.ndarray) -> Measured:
    """What a step needs to know of felt layers before it is taken."""
    dims, offsets = felt.dims, felt.offsets
    F, loss, G = slope(felt.terms, z, dims, offsets)
    sizes, speeds = column_sizes(z, dims, offsets), column_sizes(F, dims, offsets)
    floors = floors_of(sizes, dims)
    power = EARLY * (len(dims) - 3)
    weights, relative = np.empty_like(sizes), np.empty_like(sizes)
    fastest = -1.0
    for c in range(len(sizes)):
        size = sizes[c] / np.sqrt(2.0)
        share = min(1.0, size / felt.reference) if felt.reference > 0.0 else 1.0
        weights[c] = 1 / max(share**power, MOST_EXACT)
        relative[c] = speeds[c] / size if sizes[c] > floors[c] else -1.0
        fastest = max(fastest, relative[c])
    least = np.inf
    for c in range(len(sizes)):
        if relative[c] >= MOVING * fastest:
            least = min(least, weights[c])
    weights = np.minimum(weights, OTHERS * least)
    noise = noise_of(felt.terms, z, dims, offsets, felt.curvature)
    return Measured(
        F, loss + felt.others, G, sizes, speeds <= REST * noise * sizes, weights, fastest
    )


@compiled
def mended(felt: Felt, path: np.ndarray) -> np.ndarray:
    """A step inside its sectors, with what is conserved as it was at the start at its end."""
    path = path * felt.allowed
    path[0] = rebalanced(path[0], felt.dims, felt.offsets, felt.conserved)
    return path


@compiled
def wants_attention(felt: Felt, z: np.ndarray) -> bool:
    """Whether hidden columns lean or stand in the wrong order, or small ones may be split off."""
    apart = True
    for k in range(1, len(felt.dims) - 1):
        X, ell = stacked(z, felt.dims, felt.offsets, k)
        for c in range(len(ell) - 1):
            if not ell[c + 1] - ell[c] <= np.log(2.0):
                return True
        if largest_cosine(X) > LOOSE:
            return True
        apart = apart and np.min(ell) <= np.log(APART) + np.max(ell)
    return apart and may_be_split(z, felt.dims, felt.offsets)


@compiled
def stacked(
    z: np.ndarray, dims: np.ndarray, offsets: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The hidden columns of interface k, [W_k; W_{k+1}ᵀ], as unit vectors and logarithms."""
    before, after = layer(z, dims, offsets, k - 1), layer(z, dims, offsets, k)
    stack = np.empty((before.shape[0] + after.shape[1], dims[k]))
    stack[: before.shape[0]], stack[before.shape[0] :] = before, after.T
    return normalised(stack, np.zeros(dims[k]))


@compiled
def may_be_split(z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether columns are far below the others, in turned bases, and hardly linked to them."""
    z = z.copy()
    for k in range(1, len(dims) - 1):
        X, ell = stacked(z, dims, offsets, k)
        X, ell, _ = orthogonalise(X, ell, np.eye(dims[k]))
        new = X * np.exp(ell)
        before, after = layer(z, dims, offsets, k - 1), layer(z, dims, offsets, k)
        before[:], after[:] = new[: dims[k - 1]], new[dims[k - 1] :].T
    sizes = column_sizes(z, dims, offsets)
    for r in range(1, np.min(dims[1:-1]) + 1):
        gap, more, at = True, False, 0
        for k in range(1, len(dims) - 1):
            if dims[k] > r:
                more = True
                gap = gap and sizes[at + r] <= APART * sizes[at + r - 1]
            at += dims[k]
        if not gap:
            continue
        if not more:
            return False
        linked = 0.0
        for k in range(1, len(dims) - 2):
            W = layer(z, dims, offsets, k)
            for a in range(dims[k]):
                for b in range(dims[k + 1]):
                    if (a < r) != (b < r):
                        linked = max(linked, abs(W[a, b]))
        least, at = np.inf, 0
        for k in range(1, len(dims) - 1):
            least = min(least, sizes[at + r] if dims[k] > r else 0.0)
            at += dims[k]
        # `split_while_moving` decides, by sizes that differ from these by what is linked.
        return linked <= 2 * LINKED * least
    return False


@compiled
def march(
    felt: Felt,
    z: np.ndarray,
    now: Measured,
    h: float,
    local: float,
    left: float,
    limits: Limits,
    most: int,
) -> March:
    """Steps of the felt layers, up to `most`, until one of them ends where more must be decided.

    h is the length to try first, or 0 for none, `local` the time in the orbit, `left` that to
    t_max. Each step is tried shorter and shorter until its error is small.
    """
    tol = LOCAL * limits.rtol
    paths = np.empty((most, 3, len(z)))
    lengths, losses, norms = np.empty(most), np.empty(most), np.empty(most)
    if h == 0.0:
        h = tol ** (1 / ORDER_OF_ERROR) / max(now.fastest, 1e-300)
    tries = count = 0
    while count < most:
        losses[count], norms[count] = now.loss, np.sqrt(np.sum(now.F * now.F))
        if count > 0 and (left <= 4 * EPS * local or _decides(felt, z, now, limits)):
            break
        J, rates, Q = linearised(felt.terms, z, felt.dims, felt.offsets, now.G, felt.allowed)
        h = min(h, left)
        taken, error = False, 0.0
        path = np.empty((3, len(z)))
        while h > 4 * EPS * local and h > 0.0:
            path, error = active_step(
                felt.terms, z, felt.dims, felt.offsets, now.F, J, rates, Q, h, now.weights
            )
            tries += 1
            if error <= tol:
                taken = True
                break
            factor = SAFETY * (tol / error) ** (1 / ORDER_OF_ERROR) if np.isfinite(error) else 0.25
            h *= max(SHRINK, factor)
        if not taken:
            return March(count, paths, lengths, losses, norms, h, tries, True)
        paths[count], lengths[count] = mended(felt, path), h
        z = paths[count, 0].copy()
        local, left = local + h, left - h
        h *= min(GROW, SAFETY * (tol / max(error, 1e-300)) ** (1 / ORDER_OF_ERROR))
        count += 1
        if count < most:
            now = measured(felt, z)
    return March(count, paths, lengths, losses, norms, h, tries, False)


@compiled
def _decides(felt: Felt, z: np.ndarray, now: Measured, limits: Limits) -> bool:
    """Whether a run may end here, or the felt columns rest or have to be looked at."""
    if now.loss <= limits.threshold or wants_attention(felt, z):
        return True
    resting = True
    for c in range(len(now.sizes)):
        if now.sizes[c] > limits.least and not now.resting[c]:
            resting = False
    if resting:
        return True
    W = product_of(z, felt.dims, felt.offsets)
    return bool(np.sqrt(np.sum(W * W)) > limits.far)


@compiled
def carried(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The rotation that carries vectors in parallel from one column space to another.

    It turns principal vectors into each other, and nothing else.
    """
    total = np.eye(len(before))
    u, s, _ = np.linalg.svd(before, full_matrices=False)
    v, t, _ = np.linalg.svd(after, full_matrices=False)
    rank = 0
    while rank < len(s) and s[rank] > FULL * s[0]:
        rank += 1
    if rank == 0 or np.sum(t > FULL * t[0]) != rank:
        return total
    u, v = np.ascontiguousarray(u[:, :rank]), np.ascontiguousarray(v[:, :rank])
    x, cosines, yt = np.linalg.svd(np.ascontiguousarray(u.T) @ v)
    u, v = u @ x, v @ np.ascontiguousarray(yt.T)
    for k in range(rank):
        w = v[:, k] - u[:, k] * cosines[k]
        sine = np.sqrt(np.sum(w * w))
        if sine > 1e-15:
            w /= sine
            one, other = u[:, k] * (cosines[k] - 1), w * (cosines[k] - 1)
            total += np.outer(one, u[:, k]) + np.outer(other, w)
            total += sine * (np.outer(w, u[:, k]) - np.outer(u[:, k], w))
    return total


@compiled
def carried_along(first: np.ndarray, rows: np.ndarray, route: np.ndarray) -> np.ndarray:
    """Columns `first` of a level, carried along the column spaces of matrices with those rows."""
    total = np.eye(len(rows))
    for k in range(len(route) - 1):
        total = carried(route[k], route[k + 1]) @ total
    out = first.copy()
    out[rows] = total @ np.ascontiguousarray(first[rows])
    return out
