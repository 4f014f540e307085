"""Subspaces that the flow cannot leave, and that rounding would.

The flow is dU/dt = S(W) U. If the columns of the start lie in a subspace E that all S(W) map into
itself, for the W that columns in E make, they stay there: two factors (A, Aᵀ) of symmetric data
keep W = A Aᵀ positive semidefinite, an exactly dependent start never gains a rank. A
computed flow leaves such an E by its rounding as soon as a direction outside of it grows. So the
smallest E is found first, and the flow is integrated in coordinates of E.

A generic start lies in no such E, but S(W) may still fall apart into blocks, its sectors, at all W
that the run comes near to. Then what a column holds of one sector may fall below the rounding of
what it holds of another, which nothing else makes up for. Where no measurement sees a product of
two sectors (commuting ones, for instance), `in_sectors` finds them, and each keeps columns of its
own. Where one does, because data and W have a symmetry, `falls_apart` tells, and the run is then
repeated, shaken.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mfbook.flow.shallow.eigenpairs import eigenpairs
from mfbook.flow.shallow.field import Field, SensingField, label_of
from mfbook.flow.shallow.gauge import Graded, graded
from mfbook.flow.shallow.kernel import FieldArrays
from mfbook.flow.shallow.stack import Gradient

# A direction counts as inside a subspace, and two blocks as uncoupled, to this many roundings.
SAME = 1e-13
# A coupling between sectors below this, relative to S, is not told from none.
COUPLED = 1e-9


class Sensing(SensingField):
    """Measurements that see blocks of W only, in bases of rows and columns that make them so.

    With X_l = P X̃_l Qᵀ and X̃_l block-diagonal, a block of W̃ = Pᵀ W Q that no measurement sees
    does not enter, so every block, or sector, keeps hidden columns of its own, and they are
    integrated apart as connected components are; but a measurement may see several of them. In the
    symmetric model P = Q.
    """

    def __init__(
        self, field: SensingField, P: np.ndarray, Q: np.ndarray, blocks: list[np.ndarray]
    ) -> None:
        stack = field.stack
        rotated = P.T @ field.X @ Q
        seen = np.zeros((field.m, field.n), dtype=bool)
        for block in blocks:
            seen[np.ix_(*stack.sides(block))] = True
        super().__init__(np.where(seen, rotated, 0.0), field.values, field.weight, stack)
        self.blocks = blocks
        self.basis = np.zeros((self.p, self.p))
        self.basis[stack.left, stack.left], self.basis[stack.right, stack.right] = P, Q


class Reduced:
    """A field in coordinates of an invariant subspace with the orthonormal basis E (p, d)."""

    def __init__(self, field: Field, E: np.ndarray) -> None:
        self.inner, self.E = field, E
        self.p = E.shape[1]
        self.m, self.n, self.stack = field.m, field.n, field.stack
        self.weight, self.curvature, self.values = field.weight, field.curvature, field.values
        self.basis: np.ndarray | None = E if field.basis is None else field.basis @ E
        self.blocks: list[np.ndarray] | None = None
        if field.blocks is not None:
            weights = np.array([np.sum(E[block] ** 2, axis=0) for block in field.blocks])
            owner = weights.argmax(axis=0)
            self.blocks = [np.flatnonzero(owner == k) for k in range(len(field.blocks))]

    @cached_property
    def arrays(self) -> FieldArrays:
        """The field for compiled code: that of the inner one, in coordinates of E."""
        inner = self.inner.arrays
        E = inner.E @ self.E if inner.E.size else self.E
        label = label_of(self.blocks, self.p)
        return inner._replace(E=np.ascontiguousarray(E), label=label)

    def residual(self, Y: np.ndarray) -> np.ndarray:
        return self.inner.residual(self.E @ Y)

    def S(self, residual: np.ndarray) -> np.ndarray:
        return self.E.T @ self.inner.S(residual) @ self.E

    def gradient(self, Y: np.ndarray) -> tuple[float, Gradient]:
        return self.inner.gradient(self.E @ Y)


def in_sectors(field: SensingField) -> SensingField | Reduced:
    """The field in bases in which its measurements are block-diagonal, or as it is if there is one.

    Such bases are the singular vectors of a random combination of the measurements, its
    eigenvectors in the symmetric model, unless singular values or eigenvalues tie.
    """
    rng = np.random.default_rng(0)
    P, Q = field.stack.bases(np.tensordot(rng.standard_normal(len(field.X)), field.X, axes=1))
    size = np.linalg.norm(field.X)
    seen = np.max(np.abs(P.T @ field.X @ Q), axis=0) > SAME * size
    links = csr_array(field.stack.matrix(seen.astype(float)))
    count, label = connected_components(links, directed=False)
    if count == 1:
        return field
    blocks = [np.flatnonzero(label == k) for k in range(count)]
    return _with_sum_and_difference(Sensing(field, P, Q, blocks), blocks)


def _with_sum_and_difference(field: Sensing, blocks: list[np.ndarray]) -> Sensing | Reduced:
    """The field with sectors of one row a and one column b split once more, into a + b and a − b.

    S = [[0, −g], [−g, 0]] on such a sector: one of the two grows at the rate at which the other
    shrinks, and where g changes its sign along the run, the one that has drowned comes back.
    """
    pairs = [b for b in blocks if len(b) == 2 and b[0] < field.m <= b[1]]
    if not pairs:
        return field
    E = np.eye(field.p)
    for pair in pairs:
        E[np.ix_(pair, pair)] = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
    split = Reduced(field, E)
    single = np.concatenate(pairs)
    others = [b for b in blocks if not np.isin(b, single).any()]
    split.blocks = [*others, *single[:, None]]
    return split


def in_basis(E: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Eᵀ U, with zeros where that is rounding of the numbers that it is the sum of.

    A sector of which a start has nothing would grow from it.
    """
    found = E.T @ U
    return np.where(np.abs(found) > SAME * (np.abs(E).T @ np.abs(U)), found, 0.0)


def apart(U: np.ndarray, blocks: list[np.ndarray], log_scale: float) -> Graded:
    """Graded columns of every sector's rows of exp(log_scale) · U, all together."""
    found = []
    for block in blocks:
        x, ell, V = graded(U[block], log_scale)
        X = np.zeros((len(U), len(ell)))
        X[block] = x
        found.append((X, ell, V))
    X, ell, V = (np.concatenate(arrays, axis=-1) for arrays in zip(*found, strict=True))
    return X, ell, V


def invariant_basis(field: Field, X: np.ndarray) -> np.ndarray | None:
    """An orthonormal basis of the smallest invariant subspace that holds the columns of X.

    None where that is the whole space. S is affine in W and W quadratic in U, so a subspace is
    invariant if S(0) and the linear part of S at every product of its vectors keep it; random
    products stand for all.
    """
    rng = np.random.default_rng(0)
    E = _enlarged(X[:, :0], X)
    at_zero = field.S(field.residual(np.zeros((field.p, 1))))
    size = np.linalg.norm(at_zero) + field.curvature
    quiet = 0
    while E.shape[1] < field.p and quiet < 3:
        Z = E @ rng.standard_normal((E.shape[1], E.shape[1]))
        linear = field.S(field.residual(Z / np.linalg.norm(Z))) - at_zero
        grown = _enlarged(E, np.concatenate([at_zero @ E, linear @ E], axis=1) / size)
        quiet = quiet + 1 if grown.shape[1] == E.shape[1] else 0
        E = grown
    return E if E.shape[1] < field.p else None


def _enlarged(E: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """E and what of the vectors lies outside of it, by Gram and Schmidt, twice."""
    for v in vectors.T:
        rest = v
        for _ in range(2):
            rest = rest - E @ (E.T @ rest)
        norm = np.linalg.norm(rest)
        if norm > SAME:
            E = np.concatenate([E, (rest / norm)[:, None]], axis=1)
            E[:, -1] -= E[:, :-1] @ (E[:, :-1].T @ E[:, -1])
            E[:, -1] /= np.linalg.norm(E[:, -1])
            if E.shape[1] == len(E):
                break
    return E


def falls_apart(matrices: np.ndarray) -> bool:
    """Whether symmetric matrices have a common invariant subspace.

    In the eigenbasis of a random combination of them, common invariant subspaces are spanned by
    eigenvectors, unless eigenvalues tie. So there is none where all eigenvectors are linked by
    matrices with an entry between them.
    """
    rng = np.random.default_rng(0)
    sizes = [np.linalg.norm(S, 2) for S in matrices]
    live = [S / size for S, size in zip(matrices, sizes, strict=True) if size > 0]
    if not live:
        return True
    _, basis = eigenpairs(np.tensordot(rng.standard_normal(len(live)), live, axes=1))
    links = np.max([np.abs(basis.T @ S @ basis) for S in live], axis=0) > COUPLED
    return connected_components(csr_array(links), directed=False)[0] > 1
