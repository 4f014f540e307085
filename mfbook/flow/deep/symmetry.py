"""Symmetries that a flow keeps of its start, and whether layers have them still.

Besides the parts of `invariant_parts`, symmetries make parts copies of each other, or layers each
other's transpose. No zeros keep these, but `Kept` tells whether the layers that a run has led to
have them still.
"""

from __future__ import annotations

import numpy as np

from mfbook.flow.deep.invariant_parts import INSIDE, all_parts
from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.words import Linear, Point, reachable, word
from mfbook.models import product

# Layers have left a symmetry if eigenvalues that were equal differ by this share, or if so much of
# them lies between parts: some ten times as much as the error of a run at its largest rtol but one.
LEFT = 1e-4
# Eigenvalues of a word, which is of size one, below this are rounding.
NOTHING = 1e-14


class Kept:
    """What a flow keeps of its start, besides parts that are shown by zeros.

    `copies` counts pairs of parts that are copies of each other, so that the flow keeps them equal;
    `mirrored` tells whether W_j is the transpose of W_{N+1−j} in some bases, and `apart` are parts,
    where those are asked for. Copies give words the same eigenvalues, and so does the mirror.

    An even number of layers may be the mirror of each other in the caller's own middle basis: then
    W_{N/2+1} ⋯ W_N = (W_1 ⋯ W_{N/2})ᵀ Q for an orthogonal Q that the flow does not change, and
    W Qᵀ ⪰ 0 for ever. A reflection in the middle would give words the same eigenvalues, so this
    `turn` Q is looked at by itself.
    """

    def __init__(
        self, layers: Layers, at_zero: np.ndarray, linear: Linear, *, with_parts: bool = False
    ) -> None:
        self.at_zero, self.linear = at_zero, linear
        points = reachable(layers, at_zero, linear)
        self.copies, mirrored = _seen(points, INSIDE)
        # The points are of size one; (A, B, 2 Bᵀ, Aᵀ) is no mirror, and does not stay as it is.
        sizes = [float(np.linalg.norm(V)) for V in layers]
        self.mirrored = mirrored and np.allclose(sizes, sizes[::-1], rtol=INSIDE, atol=0.0)
        self.turn = _turn(points) if self.mirrored else None
        self.apart = all_parts(layers, at_zero, linear) if with_parts else None

    @property
    def anything(self) -> bool:
        return self.copies > 0 or self.mirrored or self.apart is not None

    def holds(self, layers: Layers) -> bool:
        """Whether layers that the flow has led to have all this still, up to what errors are."""
        points = reachable(layers, self.at_zero, self.linear)
        copies, mirrored = _seen(points, LEFT)
        if copies < self.copies or (self.mirrored and not mirrored):
            return False
        if self.turn is not None and not _are_turned(points, self.turn, LEFT):
            return False
        if self.apart is None:
            return True
        return all(
            float(np.linalg.norm(between)) <= LEFT * float(np.linalg.norm(V))
            for V, between in zip(layers, self.apart.between(layers), strict=True)
        )


def _seen(points: list[Point], share: float) -> tuple[int, bool]:
    """Pairs of eigenvalues of a word that are equal, and whether the mirror has all of them."""
    values = np.linalg.eigvalsh(word(points, 0, np.random.default_rng(1)))
    rows, cols = np.triu_indices(len(values), 1)
    copies = int(np.sum(_equal(values[rows], values[cols], share)))
    mirrored = [(tuple(V.T for V in z[::-1]), G.T) for z, G in points]
    if [V.shape for V in mirrored[0][0]] != [V.shape for V in points[0][0]]:
        return copies, False
    others = np.linalg.eigvalsh(word(mirrored, 0, np.random.default_rng(1)))
    return copies, bool(np.all(_equal(values, others, share)))


def _turn(points: list[Point]) -> np.ndarray | None:
    """Q with Y = Xᵀ Q for the halves X = W_1 ⋯ W_{N/2} and Y of all points; None for none."""
    if len(points[0][0]) % 2:
        return None
    # X Y = X Xᵀ Q, and the first factor is positive semidefinite. Where it is singular the points
    # leave Q open, and only the simplest one is tried.
    left, sizes, right = np.linalg.svd(sum(X @ Y for X, Y in map(_halves, points)))
    Q = left @ right if sizes[-1] > INSIDE * sizes[0] else np.eye(len(left))
    return Q if _are_turned(points, Q, INSIDE) else None


def _are_turned(points: list[Point], Q: np.ndarray, share: float) -> bool:
    return all(
        np.linalg.norm(Y - X.T @ Q) <= share * np.linalg.norm(Y) for X, Y in map(_halves, points)
    )


def _halves(point: Point) -> tuple[np.ndarray, np.ndarray]:
    layers, half = point[0], len(point[0]) // 2
    return product(layers[:half]), product(layers[half:])


def _equal(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return np.abs(a - b) <= share * np.maximum(np.abs(a), np.abs(b)) + NOTHING
