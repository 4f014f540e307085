"""Parts that start and data fall into, though no zero shows it, and that a flow keeps.

From α I, for measurements that commute, all layers and ∇f stay diagonal in the common eigenbasis.
In general, let V_0, …, V_N be the spaces that the layers W_j: V_j → V_{j−1} link, G: V_N → V_0 the
gradient. If each is an orthogonal sum of parts such that all W_j and G map the k-th part to the
k-th part then the flow keeps it so: it is the set of starts that reflections of the parts leave as
they are. Rounding does not keep it, but `adapted_bases` do.

The parts are found from random layers that the flow could reach: every eigenvector of a random
symmetric word in these and ∇f lies in a part, and what all of them make of it is one.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsqr

from mfbook.flow.deep.adapted_bases import ROUNDING, Apart, Bases
from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.sectors import linked
from mfbook.flow.deep.words import Linear, Point, reachable, unit, word

# A direction that sticks out of a subspace by less than this lies in it: parts are looked for
# loosely, and what is dropped for them must be rounding.
INSIDE = 1e-9
# Least squares that take the error out of bases stop here, or after so many products.
POLISH, POLISHES = 1e-12, 1000
# Entries of orthonormal vectors below this are rounding of zero.
CLEAN = 4e-15


def falls_apart(layers: Layers, at_zero: np.ndarray, linear: Linear) -> Apart | None:
    """Parts that the flow keeps and that no zeros of the layers and ∇f show; None for none.

    ∇f(W) = at_zero + linear(W).
    """
    points = reachable(layers, at_zero, linear)
    zeros = _shown(layers, at_zero, points)
    bases = [np.eye(len(labels)) for labels in zeros]
    labels = [labels.copy() for labels in zeros]
    count = max(int(label.max(initial=0)) for label in labels) + 1
    for k in range(count):
        places = [np.flatnonzero(label == k) for label in zeros]
        if min(len(places[0]), len(places[-1])) == 0 or max(map(len, places)) == 1:
            continue
        inner = [_restricted(z, G, places) for z, G in points]
        parts = _parts(inner, [len(place) for place in places])
        if len(parts) == 1:
            continue
        for space, (place, vectors) in enumerate(zip(places, _polished(inner, parts), strict=True)):
            bases[space][np.ix_(place, place)] = vectors
            widths = [part[space].shape[1] for part in parts]
            numbers = np.array([k, *range(count, count + len(parts) - 1)])
            labels[space][place] = np.repeat(numbers, widths)
        count += len(parts) - 1
    if all(np.array_equal(a, b) for a, b in zip(labels, zeros, strict=True)):
        return None
    apart = Apart(bases, labels)
    return apart if _is_rounding(apart, layers, at_zero, points) else None


def all_parts(layers: Layers, at_zero: np.ndarray, linear: Linear) -> Apart | None:
    """Parts that start and data fall into, shown by zeros or not; None where there is one."""
    apart = falls_apart(layers, at_zero, linear)
    if apart is None:
        points = reachable(layers, at_zero, linear)
        labels = _shown(layers, at_zero, points)
        apart = Apart([np.eye(len(label)) for label in labels], labels)
    return apart if np.any(apart.labels[0] != apart.labels[0][0]) else None


def _shown(layers: Layers, at_zero: np.ndarray, points: list[Point]) -> list[np.ndarray]:
    """The part of every row, hidden column and column, of those that zeros show."""
    seen = np.any([at_zero != 0.0, *(G != 0.0 for _, G in points)], axis=0)
    return linked([layers, *(z for z, _ in points)], seen)


def _restricted(layers: Layers, G: np.ndarray, places: list[np.ndarray]) -> Point:
    inner = tuple(unit(V[np.ix_(a, b)]) for V, (a, b) in zip(layers, pairwise(places), strict=True))
    return inner, unit(G[np.ix_(places[0], places[-1])])


def _parts(points: list[Point], sizes: list[int]) -> list[Bases]:
    """Orthonormal bases of the smallest parts of V_0, …, V_N, each a list of one for every space.

    Hidden directions that nothing links to rows or columns are the last one.
    """
    rng = np.random.default_rng(1)
    left = [np.eye(size) for size in sizes]
    found: list[Bases] = []
    for space in (0, len(sizes) - 1):
        random = word(points, space, rng)
        while left[space].shape[1]:
            inner = left[space].T @ random @ left[space]
            vector = left[space] @ np.linalg.eigh(inner)[1][:, -1:]
            part = [basis[:, :0] for basis in left]
            part[space] = vector
            part = _closed(points, part, space)
            if not found and all(b.shape[1] == size for b, size in zip(part, sizes, strict=True)):
                return [part]
            found.append(part)
            left = [
                _complement(np.concatenate([p[k] for p in found], axis=1))
                for k in range(len(sizes))
            ]
    if any(basis.shape[1] for basis in left):
        found.append(left)
    return found


def _closed(points: list[Point], part: Bases, space: int) -> Bases:
    """The smallest subspaces that hold those and that all layers and gradients keep."""
    last = len(part) - 1
    arrows = [(j, j + 1, V) for layers, _ in points for j, V in enumerate(layers)]
    arrows += [(0, last, G) for _, G in points]
    fresh = {space: part[space]}
    while fresh:
        reached: dict[int, list[np.ndarray]] = {}
        for a, b, V in arrows:
            if b in fresh:
                reached.setdefault(a, []).append(V @ fresh[b])
            if a in fresh:
                reached.setdefault(b, []).append(V.T @ fresh[a])
        fresh = {}
        for k, vectors in reached.items():
            new = outside(part[k], np.concatenate(vectors, axis=1))
            if new.shape[1]:
                part[k] = np.concatenate([part[k], new], axis=1)
                fresh[k] = new
    return part


def outside(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what of the vectors lies outside of an orthonormal one."""
    for _ in range(2):
        vectors = vectors - basis @ (basis.T @ vectors)
    u, s, _ = np.linalg.svd(vectors, full_matrices=False)
    u = u[:, s > INSIDE]
    u = u - basis @ (basis.T @ u)
    return np.linalg.qr(u)[0]


def _polished(points: list[Point], parts: list[Bases]) -> Bases:
    """The bases of the parts, one beside the other, with the error of their making taken out.

    H = k on the k-th part solves V H_b = H_a V for all arrows V: V_b → V_a. What an approximate H
    leaves of that is taken away by least squares; its eigenspaces lie far apart.
    """
    sizes = [len(basis) for basis in parts[0]]
    begins = np.concatenate([[0], np.cumsum(np.square(sizes))])
    arrows = [(j, j + 1, V) for layers, _ in points for j, V in enumerate(layers)]
    arrows += [(0, len(sizes) - 1, G) for _, G in points]

    def spaces(h: np.ndarray) -> Bases:
        return [
            h[low:high].reshape(n, n)
            for (low, high), n in zip(pairwise(begins), sizes, strict=True)
        ]

    def wrong(h: np.ndarray) -> np.ndarray:
        H = spaces(h)
        return np.concatenate([(V @ H[b] - H[a] @ V).ravel() for a, b, V in arrows])

    def transposed(r: np.ndarray) -> np.ndarray:
        H, at = [np.zeros((n, n)) for n in sizes], 0
        for a, b, V in arrows:
            R = r[at : at + V.size].reshape(V.shape)
            H[b], H[a], at = H[b] + V.T @ R, H[a] - R @ V.T, at + V.size
        return np.concatenate([block.ravel() for block in H])

    numbered = [[(k, part[space]) for k, part in enumerate(parts)] for space in range(len(sizes))]
    H = [np.sum([k * basis @ basis.T for k, basis in some], axis=0) for some in numbered]
    h = np.concatenate([block.ravel() for block in H])
    operator = LinearOperator((len(wrong(h)), len(h)), matvec=wrong, rmatvec=transposed)
    for _ in range(2):
        h = h - lsqr(operator, wrong(h), atol=POLISH, btol=POLISH, iter_lim=POLISHES)[0]
    vectors = [np.linalg.eigh((block + block.T) / 2)[1] for block in spaces(h)]
    return [np.where(np.abs(v) > CLEAN, v, 0.0) for v in vectors]


def _complement(basis: np.ndarray) -> np.ndarray:
    return np.linalg.svd(basis)[0][:, basis.shape[1] :]


def _is_rounding(apart: Apart, layers: Layers, at_zero: np.ndarray, points: list[Point]) -> bool:
    """Whether all that is dropped between parts is rounding of the sums that it comes from."""
    ends = [(apart.bases[0], apart.bases[-1])], [(apart.labels[0], apart.labels[-1])]
    bases, labels = [*pairwise(apart.bases), *ends[0]], [*pairwise(apart.labels), *ends[1]]
    for number, (z, G) in enumerate([(layers, at_zero), *points]):
        for V, (P, Q), (a, b) in zip((*z, G), bases, labels, strict=True):
            between = a[:, None] != b
            found = np.abs(P.T @ V @ Q)[between]
            # What the caller gave is what a flow would feel; the others, of size one, are rounded
            # again and again.
            sums = (np.abs(P).T @ np.abs(V) @ np.abs(Q))[between]
            if np.any(found > (INSIDE if number else ROUNDING * sums)):
                return False
    return True
