"""The data as all layers see them: measured rows and columns, in blocks that start apart."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from mfbook.flow.deep.bases import given, singular_bases
from mfbook.flow.deep.invariant_parts import falls_apart
from mfbook.flow.deep.kernel import Terms, adjoint_of, residual_of
from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.part import Part
from mfbook.flow.deep.passengers import Pairs
from mfbook.flow.shallow.units import Units
from mfbook.problems.protocols import Problem, measurements_of, reads_entries


class Data:
    """All measured rows and columns, numbered from 0, in bases with blocks that start apart.

    `hidden` are the bases of hidden spaces in which `layers`, those of the start, fall apart as the
    data do; None where the caller's will do.
    """

    def __init__(self, problem: Problem, units: Units, arrays: Layers) -> None:
        targets = self.targets = problem.attainable / units.target
        self.rows = np.sort(np.concatenate([np.zeros(0, int), *(r for r, _ in problem.parts)]))
        self.cols = np.sort(np.concatenate([np.zeros(0, int), *(c for _, c in problem.parts)]))
        components = [
            (np.searchsorted(self.rows, rows), np.searchsorted(self.cols, cols))
            for rows, cols in problem.parts
        ]
        mask = None
        if reads_entries(problem):
            mask = problem.mask[np.ix_(self.rows, self.cols)]
            i, j = np.nonzero(problem.mask)
            of, c = np.arange(len(i)), np.ones(len(i))
            self.curvature = 2 * problem.weight
        else:
            X = measurements_of(problem) / units.measurement
            of, i, j = np.nonzero(X)
            c = X[of, i, j]
            flat = X.reshape(len(targets), -1)
            self.curvature = float(2 * problem.weight * np.linalg.norm(flat, 2) ** 2)
        self.whole = Terms(
            of=of.astype(np.int64),
            i=np.searchsorted(self.rows, i).astype(np.int64),
            j=np.searchsorted(self.cols, j).astype(np.int64),
            c=np.ascontiguousarray(c, dtype=float),
            values=np.ascontiguousarray(targets, dtype=float),
            weight=float(problem.weight),
        )
        self.layers: Layers = (arrays[0][self.rows], *arrays[1:-1], arrays[-1][:, self.cols])
        self.hidden: Layers | None = None
        apart = falls_apart(self.layers, self.gradient(np.zeros(self.shape)), self._linear)
        if apart is not None:
            self.bases = given(*apart.ends, apart.mixed(components))
            self.whole, self.layers = apart.terms(self.whole), apart.layers(self.layers)
            self.hidden = apart.hidden
        elif mask is not None:
            values = np.zeros(self.shape)
            values[mask] = targets
            self.bases = singular_bases(values, mask, components)
            self.whole = self.whole._replace(values=self.bases.values[mask])
            first, last = self.bases.left.T @ self.layers[0], self.layers[-1] @ self.bases.right
            self.layers = (first, *self.layers[1:-1], last)
        else:
            self.bases = given(np.eye(self.shape[0]), np.eye(self.shape[1]), components)
        self.blocks = [(block.rows, block.cols) for block in self.bases.blocks]
        self.supports = self._supports() if self.hidden or mask is None else []
        self._parts: dict[tuple[int, ...], Part] = {}

    def _supports(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows and columns that measurements link by an entry, where they fall into several groups.

        Diagonal measurements link every row with one column, though each sees all of them.
        """
        m, n = self.shape
        links = csr_matrix(
            (np.ones(len(self.whole.i)), (self.whole.i, m + self.whole.j)), (m + n,) * 2
        )
        count, of = connected_components(links, directed=False)
        if count < 2:
            return []
        return [(np.flatnonzero(of[:m] == k), np.flatnonzero(of[m:] == k)) for k in range(count)]

    def in_callers_spaces(self, layers: list[np.ndarray]) -> list[np.ndarray]:
        """Layers in the hidden bases that the caller's are in."""
        if self.hidden is None:
            return layers
        bases = [np.eye(self.shape[0]), *self.hidden, np.eye(self.shape[1])]
        return [H @ V @ K.T for V, (H, K) in zip(layers, pairwise(bases), strict=True)]

    def kin(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the component that block k is of."""
        of = self.bases.blocks[k].component
        kin = [block for block in self.bases.blocks if block.component == of]
        return np.concatenate([b.rows for b in kin]), np.concatenate([b.cols for b in kin])

    def part(self, present: tuple[int, ...]) -> Part:
        if present not in self._parts:
            self._parts[present] = Part(self.whole, [self.blocks[k] for k in present])
        return self._parts[present]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)

    def gradient(self, W: np.ndarray) -> np.ndarray:
        W = np.ascontiguousarray(W)
        return adjoint_of(self.whole, residual_of(self.whole, W), *self.shape)

    def loss(self, W: np.ndarray) -> float:
        r = residual_of(self.whole, np.ascontiguousarray(W))
        return self.whole.weight * float(r @ r)

    def _linear(self, W: np.ndarray) -> np.ndarray:
        """∇f(W) − ∇f(0)."""
        r = residual_of(self.whole, np.ascontiguousarray(W)) + self.whole.values
        return adjoint_of(self.whole, r, *self.shape)

    @cached_property
    def at_zero(self) -> np.ndarray:
        return self.gradient(np.zeros(self.shape))

    @cached_property
    def scale(self) -> float:
        """The size of W at which the data are fitted; 0 where zero fits them."""
        if self.curvature == 0.0 or not self.at_zero.size:
            return 0.0
        return float(np.linalg.norm(self.at_zero, 2)) / self.curvature

    @cached_property
    def pairs(self) -> list[Pairs]:
        """The singular pairs of −∇f(0), by blocks."""
        found = []
        for k, (rows, cols) in enumerate(self.blocks):
            u, s, vt = np.linalg.svd(-self.at_zero[np.ix_(rows, cols)], full_matrices=False)
            found.append(Pairs(k, rows, cols, s, u, vt))
        return found
