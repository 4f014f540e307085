"""Subspaces that the flow cannot leave, and that rounding would.

With U = [A; Bᵀ] the flow is dU/dt = S(W) U. If the columns of the start lie in a subspace E that
all S(W) map into itself, for the W that columns in E make, they stay there: symmetric data from
(A, Aᵀ) keep W = A Aᵀ positive semidefinite, an exactly dependent start never gains a rank. A
computed flow leaves such an E by its rounding as soon as a direction outside of it grows. So the
smallest E is found first, and the flow is integrated in coordinates of E.

A generic start lies in no such E, but S(W) may still fall apart into blocks, its sectors, at all W
that the run comes near to: where data have a symmetry, or measurements commute. Then what a column
holds of one sector may fall below the rounding of what it holds of another, which nothing else
makes up for; `falls_apart` tells where that is so, and the run is then repeated, shaken.
"""

from __future__ import annotations

import numpy as np

# A direction counts as inside a subspace, and two blocks as uncoupled, to this many roundings.
SAME = 1e-13
# A coupling between sectors below this, relative to S, is not told from none.
COUPLED = 1e-9


class Reduced:
    """A field in coordinates of an invariant subspace with the orthonormal basis E (p, d)."""

    def __init__(self, field, E):
        self.whole, self.E = field, E
        self.p = E.shape[1]
        self.weight, self.curvature, self.values = field.weight, field.curvature, field.values

    def residual(self, Y):
        return self.whole.residual(self.E @ Y)

    def S(self, residual):
        return self.E.T @ self.whole.S(residual) @ self.E

    def gradient(self, Y):
        return self.whole.gradient(self.E @ Y)

    def derivative(self, Y):
        k = Y.shape[1]
        K = self.whole.derivative(self.E @ Y).reshape(-1, self.whole.p, k)
        return np.einsum("lpk,pd->ldk", K, self.E).reshape(len(K), self.p * k)


def invariant_basis(field, X: np.ndarray) -> np.ndarray | None:
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


def _enlarged(E, vectors) -> np.ndarray:
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


def falls_apart(matrices: list[np.ndarray]) -> bool:
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
    _, basis = np.linalg.eigh(np.tensordot(rng.standard_normal(len(live)), live, axes=1))
    links = np.max([np.abs(basis.T @ S @ basis) for S in live], axis=0) > COUPLED
    reached = np.zeros(len(links), dtype=bool)
    reached[0], front = True, np.array([0])
    while front.size:
        front = np.flatnonzero(links[front].any(axis=0) & ~reached)
        reached[front] = True
    return not reached.all()
