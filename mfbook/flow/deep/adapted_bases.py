"""Bases of rows, hidden spaces and columns in which layers and data fall apart, and the flow there.

In bases that respect the parts what would link them is zero, and zeros stay (`sectors`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mfbook.flow.deep.kernel import Terms
from mfbook.flow.deep.layers import Layers

# An entry that is smaller than this share of the numbers that it is the sum of is rounding.
ROUNDING = 5e-13

Bases = list[np.ndarray]


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
