"""Bases in which start and data fall apart, though no zero shows it, and sets that a flow keeps.

From α I, for measurements that commute, all layers and ∇f stay diagonal in the common eigenbasis.
In general, let V_0, …, V_N be the spaces that the layers W_j: V_j → V_{j−1} link, G: V_N → V_0 the
gradient. If each is an orthogonal sum of parts such that all W_j and G map the k-th part to the
k-th part then the flow keeps it so: it is the set of starts that reflections of the parts leave as
they are. Rounding does not keep it. In bases that respect the parts what would link them is zero,
and zeros stay (`sectors`).

The parts are found from random layers that the flow could reach: every eigenvector of a random
symmetric word in these and ∇f lies in a part, and what all of them make of it is one.

Other symmetries make parts copies of each other, or layers each other's transpose. No zeros keep
these, but `Kept` tells whether the layers that a run has led to have them still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, lsqr

from mfbook.flow.deep.field import slopes_along
from mfbook.flow.deep.kernel import Terms
from mfbook.flow.deep.layers import Layers
from mfbook.models import product

# So many random layers stand for all.
DRAWS = 4
# A direction that sticks out of a subspace by less than this lies in it: parts are looked for
# loosely, and what is dropped for them must be rounding.
INSIDE = 1e-9
# An entry that is smaller than this share of the numbers that it is the sum of is rounding.
ROUNDING = 5e-13

# Layers have left a symmetry if eigenvalues that were equal differ by this share, or if so much of
# them lies between parts: some ten times as much as the error of a run at its largest rtol but one.
LEFT = 1e-4
# Eigenvalues of a word, which is of size one, below this are rounding.
NOTHING = 1e-14
# Least squares that take the error out of bases stop here, or after so many products.
POLISH, POLISHES = 1e-12, 1000
# Entries of orthonormal vectors below this are rounding of zero.
CLEAN = 4e-15

Bases = list[np.ndarray]
Linear = Callable[[np.ndarray], np.ndarray]
# Layers and ∇f.
Point = tuple[Layers, np.ndarray]


class Apart(NamedTuple):
    """Orthonormal bases of V_0, …, V_N, and the part that each vector of them belongs to."""

    bases: Bases
    labels: list[np.ndarray]

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of rows and columns."""
        return self.bases[0], self.bases[-1]

    @property
    def hidden(self) -> Layers:
        return tuple(self.bases[1:-1])

    def mixed(
        self, components: list[tuple[np.ndarray, np.ndarray]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Components of rows and columns, as numbers of vectors; those that vectors mix are one."""
        P, Q = self.ends
        links = np.array(
            [np.concatenate([P[r].any(axis=0), Q[c].any(axis=0)]) for r, c in components]
        ).reshape(len(components), -1)
        _, of = connected_components(csr_array(links.astype(int) @ links.T.astype(int)))
        new = [links[of == k].any(axis=0) for k in range(of.max(initial=-1) + 1)]
        return [(np.flatnonzero(row[: len(P)]), np.flatnonzero(row[len(P) :])) for row in new]

    def layers(self, layers: Layers) -> Layers:
        """The layers in the bases, with zeros between parts."""
        return tuple(
            np.where(a[:, None] == b, P.T @ W @ Q, 0.0)
            for W, (P, Q), (a, b) in zip(
                layers, pairwise(self.bases), pairwise(self.labels), strict=True
            )
        )

    def between(self, layers: Layers) -> Layers:
        """What layers have between parts."""
        return tuple(
            np.where(a[:, None] == b, 0.0, P.T @ W @ Q)
            for W, (P, Q), (a, b) in zip(
                layers, pairwise(self.bases), pairwise(self.labels), strict=True
            )
        )

    def terms(self, terms: Terms) -> Terms:
        """The measurements in the bases, without what they see between parts, where W is zero."""
        P, Q = self.bases[0], self.bases[-1]
        same = self.labels[0][:, None] == self.labels[-1]
        X = np.zeros((len(terms.values), len(P), len(Q)))
        np.add.at(X, (terms.of, terms.i, terms.j), terms.c)
        size = np.linalg.norm(X, axis=(1, 2), keepdims=True)
        X = np.where(same, P.T @ X @ Q, 0.0)
        of, i, j = np.nonzero(np.abs(X) > ROUNDING * size)
        return terms._replace(
            of=of.astype(np.int64), i=i.astype(np.int64), j=j.astype(np.int64), c=X[of, i, j]
        )


def falls_apart(layers: Layers, at_zero: np.ndarray, linear: Linear) -> Apart | None:
    """Parts that the flow keeps and that no zeros of the layers and ∇f show; None for none.

    ∇f(W) = at_zero + linear(W).
    """
    points = _reachable(layers, at_zero, linear)
    zeros = linked([layers, *(z for z, _ in points)], [at_zero, *(G for _, G in points)])
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


class Kept:
    """What a flow keeps of its start, besides parts that are shown by zeros.

    `copies` counts pairs of parts that are copies of each other, so that the flow keeps them equal;
    `mirrored` tells whether W_j is the transpose of W_{N+1−j} in some bases, and `apart` are parts,
    where those are asked for. Copies give words the same eigenvalues, and so does the mirror.
    """

    def __init__(
        self, layers: Layers, at_zero: np.ndarray, linear: Linear, *, with_parts: bool = False
    ) -> None:
        self.at_zero, self.linear = at_zero, linear
        self.copies, self.mirrored = self._seen(layers, INSIDE)
        self.apart = _all_parts(layers, at_zero, linear) if with_parts else None

    @property
    def anything(self) -> bool:
        return self.copies > 0 or self.mirrored or self.apart is not None

    def holds(self, layers: Layers) -> bool:
        """Whether layers that the flow has led to have all this still, up to what errors are."""
        copies, mirrored = self._seen(layers, LEFT)
        if copies < self.copies or (self.mirrored and not mirrored):
            return False
        if self.apart is None:
            return True
        return all(
            float(np.linalg.norm(between)) <= LEFT * float(np.linalg.norm(V))
            for V, between in zip(layers, self.apart.between(layers), strict=True)
        )

    def _seen(self, layers: Layers, share: float) -> tuple[int, bool]:
        """Pairs of eigenvalues of a word that are equal, and whether the mirror has all of them."""
        points = _reachable(layers, self.at_zero, self.linear)
        values = np.linalg.eigvalsh(_word(points, 0, np.random.default_rng(1)))
        rows, cols = np.triu_indices(len(values), 1)
        copies = int(np.sum(_equal(values[rows], values[cols], share)))
        mirrored = [(tuple(V.T for V in z[::-1]), G.T) for z, G in points]
        if [V.shape for V in mirrored[0][0]] != [V.shape for V in layers]:
            return copies, False
        others = np.linalg.eigvalsh(_word(mirrored, 0, np.random.default_rng(1)))
        return copies, bool(np.all(_equal(values, others, share)))


def _equal(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return np.abs(a - b) <= share * np.maximum(np.abs(a), np.abs(b)) + NOTHING


def _all_parts(layers: Layers, at_zero: np.ndarray, linear: Linear) -> Apart | None:
    """Parts that start and data fall into, shown by zeros or not; None where there is one."""
    apart = falls_apart(layers, at_zero, linear)
    if apart is None:
        points = _reachable(layers, at_zero, linear)
        labels = linked([layers, *(z for z, _ in points)], [at_zero, *(G for _, G in points)])
        apart = Apart([np.eye(len(label)) for label in labels], labels)
    return apart if np.any(apart.labels[0] != apart.labels[0][0]) else None


def linked(layers: Sequence[Layers], gradients: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Numbers of the components of rows, hidden columns and columns that entries link."""
    sizes = [layers[0][0].shape[0], *(layer.shape[1] for layer in layers[0])]
    begins = np.concatenate([[0], np.cumsum(sizes)])
    links = np.zeros((begins[-1], begins[-1]), dtype=bool)
    for some in layers:
        for j, layer in enumerate(some):
            links[begins[j] : begins[j + 1], begins[j + 1] : begins[j + 2]] |= layer != 0.0
    for G in gradients:
        links[: begins[1], begins[-2] :] |= G != 0.0
    _, labels = connected_components(csr_array(links), directed=False)
    return [labels[low:high] for low, high in pairwise(begins)]


def _unit(matrix: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(matrix)
    return matrix / size if size > 0 else matrix


def _reachable(layers: Layers, at_zero: np.ndarray, linear: Linear) -> list[Point]:
    """Layers, each of size one, that the flow could lead to with other steps and data; and ∇f."""
    rng = np.random.default_rng(0)
    layers = tuple(map(_unit, layers))
    at_zero = _unit(at_zero)
    found = [(layers, at_zero)]
    for _ in range(DRAWS):
        W = _unit(product(layers))
        change = linear(W) if W.any() else np.zeros_like(at_zero)
        G = _unit(rng.uniform(0.5, 1.5) * at_zero + rng.choice([-1, 1]) * _unit(change))
        # The j-th layer and the last but j are treated alike, for they may be each other's mirror.
        share = rng.uniform(0.5, 1.5, (3, len(layers)))
        share = share + share[:, ::-1]
        layers = tuple(
            _unit(a * V + b * _unit(S) - 0.3 * c * _unit(V @ V.T @ V))
            for V, S, a, b, c in zip(layers, slopes_along(G, layers), *share, strict=True)
        )
        found.append((layers, G))
    return found


def _restricted(layers: Layers, G: np.ndarray, places: list[np.ndarray]) -> Point:
    inner = tuple(
        _unit(V[np.ix_(a, b)]) for V, (a, b) in zip(layers, pairwise(places), strict=True)
    )
    return inner, _unit(G[np.ix_(places[0], places[-1])])


def _parts(points: list[Point], sizes: list[int]) -> list[Bases]:
    """Orthonormal bases of the smallest parts of V_0, …, V_N, each a list of one for every space.

    Hidden directions that nothing links to rows or columns are the last one.
    """
    rng = np.random.default_rng(1)
    left = [np.eye(size) for size in sizes]
    found: list[Bases] = []
    for space in (0, len(sizes) - 1):
        word = _word(points, space, rng)
        while left[space].shape[1]:
            inner = left[space].T @ word @ left[space]
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


def _word(points: list[Point], space: int, rng: np.random.Generator) -> np.ndarray:
    """A random symmetric word in the layers and gradients, as a matrix of one space."""
    sizes = [points[0][0][0].shape[0], *(V.shape[1] for V in points[0][0])]
    blocks: Bases = [np.eye(size) for size in sizes]
    # Twice around: every space has seen all arrows.
    for _ in range(2 * len(sizes)):
        layers, G = points[rng.integers(len(points))]
        new = [rng.uniform(0.5, 1.5) * block for block in blocks]
        arrows = [(j, j + 1, V) for j, V in enumerate(layers)] + [(0, len(sizes) - 1, G)]
        for a, b, V in arrows:
            new[a] = new[a] + rng.uniform(0.5, 1.5) * (V @ blocks[b] @ V.T)
            new[b] = new[b] + rng.uniform(0.5, 1.5) * (V.T @ blocks[a] @ V)
        W, share = _unit(product(layers)), rng.uniform(-1, 1)
        for end, round_trip in ((0, W @ G.T), (-1, W.T @ G)):
            new[end] = new[end] + share * (round_trip + round_trip.T)
        size = np.sqrt(sum(np.sum(block**2) for block in new))
        blocks = [block / size for block in new]
    return blocks[space]


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
