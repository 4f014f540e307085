"""One connected problem as the flow sees it: residuals, the matrix S, and its change.

The flow is dU/dt = S(W) U, and the field's `stack` says how W is read off U and S off G = ∇f(W).
Residuals are affine in W, so everything follows from the linear maps W ↦ r and r ↦ G. Z below is a
stack of columns of shape (..., p, k).
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from mfbook.flow.shallow.kernel import FieldArrays
from mfbook.flow.shallow.stack import Gradient, Pair, Stack, stack_of
from mfbook.flow.shallow.units import Units
from mfbook.problems.protocols import Problem, is_symmetric, measurements_of, reads_entries

# Up to this many entries of W a masked dense matrix is faster than gathering the observed ones:
# at 100×100 with 5,000 observed and 100 columns, 0.2 ms against 4 ms.
DENSE_ENTRIES = 250_000
# Beyond, the whole product is formed for more columns than this if at least every SPARSE-th entry
# is observed: at 943×1682 with 100,000 entries gathering takes 0.02 s for 4 columns, 0.4 for 16 and
# 11 for 943, the product 0.05 for 16 and 0.24 for 943.
FEW_COLUMNS, SPARSE = 8, 50


class Field(Protocol):
    """What a step asks of a part. Where there is a `basis`, all is in its coordinates."""

    m: int
    n: int
    p: int
    stack: Stack
    values: np.ndarray
    weight: float
    curvature: float  # the largest eigenvalue of ∇²f
    basis: np.ndarray | None
    blocks: list[np.ndarray] | None  # coordinates that S(W) does not couple (`sectors`)

    @property
    def arrays(self) -> FieldArrays: ...

    def residual(self, Z: np.ndarray, /) -> np.ndarray: ...

    def S(self, residual: np.ndarray, /) -> np.ndarray: ...

    def gradient(self, Z: np.ndarray, /) -> tuple[float, Gradient]: ...


class LargeField(Field, Protocol):
    """What the steps of a large problem ask besides, in rows and columns of W."""

    def change(self, Z: np.ndarray, D: np.ndarray, /) -> Gradient: ...


class CompletionField:
    """The observed entries of one component: rows i, columns j (0-based inside it), values."""

    # What a field in other coordinates has (`sectors`): their basis, and blocks of them that S(W)
    # does not couple.
    basis: np.ndarray | None = None
    blocks: list[np.ndarray] | None = None

    def __init__(
        self,
        i: np.ndarray,
        j: np.ndarray,
        values: np.ndarray,
        shape: tuple[int, int],
        weight: float,
        stack: Stack,
    ) -> None:
        self.i, self.j, self.values, self.weight = i, j, values, weight
        self.m, self.n = shape
        self.stack, self.p = stack, stack.p
        self.curvature = 2 * weight  # the largest eigenvalue of ∇²f
        self._dense = self.m * self.n <= DENSE_ENTRIES
        if self._dense:
            self._mask = np.zeros(shape)
            self._mask[i, j] = 1.0
            self._scaled_mask = 2 * weight * self._mask
            self._M = np.zeros(shape)
            self._M[i, j] = values
        else:
            order = np.lexsort((j, i))
            self.i, self.j, self.values = i[order], j[order], values[order]
            self._low = self.j + stack.right.start
            rows = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=self.m))])
            self._rows = rows.astype(np.int32)
            self._cols = self.j.astype(np.int32)

    def gradient(self, Z: np.ndarray) -> tuple[float, Gradient]:
        """Loss and G = ∇f(W), as a matrix that multiplies: dense, or sparse when large."""
        if self._dense:
            R = Z[self.stack.left] @ Z[self.stack.right].T
            R -= self._M
            R *= self._mask
            loss = self.weight * float(np.vdot(R, R))
            R *= 2 * self.weight
            return loss, R
        Z = np.ascontiguousarray(Z)
        r = self._products(Z, Z)
        r -= self.values
        return self.weight * float(r @ r), self._sparse(2 * self.weight * r)

    def _products(self, Y: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Y_left Z_rightᵀ at the observed entries, for arrays in C order.

        `take` on them is ten times faster than an index into a slice: 2 ms against 20 at 943×1682
        with 100,000 entries and nine columns. With more columns the whole product is faster still.
        """
        if Y.shape[1] > FEW_COLUMNS and self.m * self.n <= SPARSE * len(self.i):
            return (Y[self.stack.left] @ Z[self.stack.right].T)[self.i, self.j]
        return np.einsum("lk,lk->l", Y.take(self.i, axis=0), Z.take(self._low, axis=0))

    def _sparse(self, data: np.ndarray) -> csr_array:
        return csr_array((data, self._cols, self._rows), shape=(self.m, self.n))

    def change(self, Z: np.ndarray, D: np.ndarray) -> Gradient:
        """The derivative of G along D."""
        if self._dense:
            R = D[self.stack.left] @ Z[self.stack.right].T
            R += Z[self.stack.left] @ D[self.stack.right].T
            R *= self._scaled_mask
            return R
        D, Z = np.ascontiguousarray(D), np.ascontiguousarray(Z)
        r = self._products(D, Z)
        r += self._products(Z, D)
        return self._sparse(2 * self.weight * r)

    def residual(self, Z: np.ndarray) -> np.ndarray:
        low = self.stack.right.start + self.j
        return np.einsum("...lk,...lk->...l", Z[..., self.i, :], Z[..., low, :]) - self.values

    def S(self, residual: np.ndarray) -> np.ndarray:
        """The symmetric matrix of the flow at a residual; (..., p, p)."""
        G = np.zeros((*residual.shape[:-1], self.m, self.n))
        G[..., self.i, self.j] = 2 * self.weight * residual
        return self.stack.matrix(G)

    @cached_property
    def arrays(self) -> FieldArrays:
        """The field for compiled code: measurement l is entry (i, j)."""
        count = len(self.i)
        return FieldArrays(
            of=np.arange(count),
            left=np.asarray(self.i, dtype=np.int64),
            right=np.asarray(self.stack.right.start + self.j, dtype=np.int64),
            c=np.ones(count),
            values=np.array(self.values),
            weight=float(self.weight),
            rate=float(self.stack.pull * self.weight),
            p=self.p,
            E=np.zeros((0, 0)),
            label=np.zeros(self.p, dtype=np.int64),
        )


class SensingField:
    """All measurements of a sensing problem: one component."""

    basis: np.ndarray | None = None
    blocks: list[np.ndarray] | None = None

    def __init__(
        self,
        measurements: np.ndarray,
        targets: np.ndarray,
        weight: float,
        stack: Stack | None = None,
    ) -> None:
        self.X, self.values, self.weight = measurements, targets, weight
        self.m, self.n = measurements.shape[1:]
        self.stack: Stack = Pair(self.m, self.n) if stack is None else stack
        self.p = self.stack.p
        flat = measurements.reshape(len(targets), -1)
        self.curvature = float(2 * weight * np.linalg.norm(flat, 2) ** 2)

    def residual(self, Z: np.ndarray) -> np.ndarray:
        W = Z[..., self.stack.left, :] @ np.swapaxes(Z[..., self.stack.right, :], -1, -2)
        return np.einsum("lij,...ij->...l", self.X, W) - self.values

    def S(self, residual: np.ndarray) -> np.ndarray:
        return self.stack.matrix(2 * self.weight * np.einsum("...l,lij->...ij", residual, self.X))

    def gradient(self, Z: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and G = ∇f(W)."""
        r = self.residual(Z)
        return self.weight * float(r @ r), 2 * self.weight * np.einsum("l,lij->ij", r, self.X)

    def change(self, Z: np.ndarray, D: np.ndarray) -> np.ndarray:
        """The derivative of G along D."""
        left, right = self.stack.left, self.stack.right
        W = D[left] @ Z[right].T + Z[left] @ D[right].T
        return 2 * self.weight * np.einsum("lij,l->ij", self.X, np.einsum("lij,ij->l", self.X, W))

    @cached_property
    def arrays(self) -> FieldArrays:
        """The field for compiled code: measurement l is the sum over its terms."""
        of, i, j = (np.ascontiguousarray(index) for index in np.nonzero(self.X))
        return FieldArrays(
            of=of,
            left=i,
            right=self.stack.right.start + j,
            c=self.X[of, i, j],
            values=np.array(self.values),
            weight=float(self.weight),
            rate=float(self.stack.pull * self.weight),
            p=self.p,
            E=np.zeros((0, 0)),
            label=label_of(self.blocks, self.p),
        )


def label_of(blocks: list[np.ndarray] | None, count: int) -> np.ndarray:
    """The number of each coordinate's block; 0 where there are none."""
    label = np.zeros(count, dtype=np.int64)
    for k, block in enumerate(blocks or []):
        label[block] = k
    return label


class Part:
    """A field and where its rows and columns stand in the whole matrix."""

    def __init__(
        self, field: CompletionField | SensingField, rows: np.ndarray, cols: np.ndarray
    ) -> None:
        self.field, self.rows, self.cols = field, rows, cols


def parts_of(problem: Problem, units: Units) -> list[Part]:
    """The parts of the problem that do not know of each other, in those units.

    Unobserved rows and columns belong to none. Targets are the attainable ones, so that the loss
    of the fields is its excess over the least.
    """
    targets = problem.attainable / units.target
    symmetric = is_symmetric(problem)
    if not reads_entries(problem):
        measurements = measurements_of(problem) / units.measurement
        stack = stack_of(problem.shape, symmetric)
        whole = SensingField(measurements, targets, problem.weight, stack)
        return [Part(whole, rows, cols) for rows, cols in problem.parts]
    i, j = np.nonzero(problem.mask)
    place = np.zeros(problem.shape[0], dtype=int), np.zeros(problem.shape[1], dtype=int)
    label = np.zeros(problem.shape[0], dtype=int)
    for k, (rows, cols) in enumerate(problem.parts):
        place[0][rows], place[1][cols] = np.arange(len(rows)), np.arange(len(cols))
        label[rows] = k
    found = []
    for k, (rows, cols) in enumerate(problem.parts):
        here = label[i] == k
        row, col, shape = place[0][i[here]], place[1][j[here]], (len(rows), len(cols))
        stack = stack_of(shape, symmetric)
        field = CompletionField(row, col, targets[here], shape, problem.weight, stack)
        found.append(Part(field, rows, cols))
    return found
