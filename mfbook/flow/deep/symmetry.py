"""Symmetries that a flow keeps of its start, and whether layers have them still.

Besides the parts of `invariant_parts`, symmetries make parts copies of each other, or layers each
other's transpose. No zeros keep these, but `Kept` tells whether the layers that a run has led to
have them still.
"""

from __future__ import annotations

import numpy as np

from mfbook.flow.deep.invariant_parts import INSIDE, all_parts
from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.words import Linear, reachable, word

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
    """

    def __init__(
        self, layers: Layers, at_zero: np.ndarray, linear: Linear, *, with_parts: bool = False
    ) -> None:
        self.at_zero, self.linear = at_zero, linear
        self.copies, self.mirrored = self._seen(layers, INSIDE)
        self.apart = all_parts(layers, at_zero, linear) if with_parts else None

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
        points = reachable(layers, self.at_zero, self.linear)
        values = np.linalg.eigvalsh(word(points, 0, np.random.default_rng(1)))
        rows, cols = np.triu_indices(len(values), 1)
        copies = int(np.sum(_equal(values[rows], values[cols], share)))
        mirrored = [(tuple(V.T for V in z[::-1]), G.T) for z, G in points]
        if [V.shape for V in mirrored[0][0]] != [V.shape for V in layers]:
            return copies, False
        others = np.linalg.eigvalsh(word(mirrored, 0, np.random.default_rng(1)))
        return copies, bool(np.all(_equal(values, others, share)))


def _equal(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return np.abs(a - b) <= share * np.maximum(np.abs(a), np.abs(b)) + NOTHING
