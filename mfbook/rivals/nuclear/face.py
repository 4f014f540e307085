"""The face of the cone in which every matrix that fits lies, where that is not the whole cone.

Let Z = Σ z_l X_l ⪰ 0 be a combination of the measurements. All W that fit have the same ⟨Z, W⟩.
If it is negative, no positive semidefinite W fits. If it is zero, each of them has Z W = 0: it
lies in a face, W = V R Vᵀ with V a basis of the kernel of Z. Then no W that fits is definite, the
dual optimum need not be attained, a solver stops short, and Gauss–Newton steps meet a Jacobian
that loses rank. In the face, with R for W, all is well again (Borwein & Wolkowicz 1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mfbook.rivals.nuclear.data import EPS, Entries, Span
from mfbook.rivals.nuclear.interior_point import least_pairing

# A pairing above this, of Z with unit trace and data in units of their rows, shows that a definite
# W fits; the interior point knows it to about 1e-11.
POSITIVE = 1e-8
# Newton's method doubles the digits in each step.
STEPS = 12
# Singular values below are zero, up to what is lost in V and in the measurements in the face.
RANK = 1e-10
# Z is far larger than S where the dual optimum is not attained; the rounding of both decides how.
MULTIPLES = 10.0 ** np.arange(-2.0, 12.0, 0.5)


@dataclass(frozen=True, eq=False)
class Face:
    """W = V R Vᵀ, and the combination Z of the measurements that shows it."""

    V: np.ndarray  # (n, p), orthonormal columns
    Z: np.ndarray  # (n, n)

    def reduced(self, data: Entries | Span) -> Span:
        """The data as measurements of R."""
        n, p = self.V.shape
        Q = np.asarray(data.normal_basis(psd=True).T.todense())
        targets = Q @ data.particular.ravel()
        X = self.V.T @ Q.reshape(-1, n, n) @ self.V
        left, s, right = np.linalg.svd(X.reshape(len(X), -1), full_matrices=False)
        keep = s > RANK * s[0]
        left, s, right = left[:, keep], s[keep], right[keep]
        basis = right.reshape(-1, p, p)
        return Span(basis, np.tensordot(left.T @ targets / s, basis, axes=1), left / s, data.unit)

    def lift(self, S: np.ndarray, data: Entries | Span, reduced: Span) -> np.ndarray:
        """A dual point of the data from one of the face: S − t Z, with the best bound among t."""
        Q = np.asarray(data.normal_basis(psd=True).T.todense())
        lifted = (reduced.multipliers(S) @ Q).reshape(data.particular.shape)
        best, most = lifted, -math.inf
        for t in MULTIPLES * np.abs(lifted).max() / np.abs(self.Z).max():
            candidate = lifted - t * self.Z
            eigenvalues = np.linalg.eigvalsh(candidate)
            allowance = 8 * len(candidate) * EPS * np.abs(eigenvalues).max()
            bound = (candidate * data.particular).sum() / (eigenvalues[-1] + allowance)
            if eigenvalues[-1] > 0 and bound > most:
                best, most = candidate, bound
        return best


def exposed(data: Entries | Span) -> tuple[Face | None, np.ndarray]:
    """The face, None where it is the whole cone or not found, and Z of the least ⟨Z, M⟩."""
    n = len(data.particular)
    where, rows, block = data.definite_block()
    if not len(where):
        return None, np.zeros((n, n))
    Z, P, pairing = least_pairing(block)
    if not (np.isfinite(Z).all() and np.isfinite(P).all()):
        return None, np.zeros((n, n))
    to_whole = np.ix_(where, where)
    whole = np.zeros((n, n))
    whole[to_whole] = Z / rows[:, None] / rows
    if abs(pairing) > POSITIVE:
        return None, whole
    found = _newton(Z, P, block)
    if found is None:
        return None, whole
    U, Z = found
    V = np.zeros((n, n - len(where) + U.shape[1]))
    V[where, : U.shape[1]] = np.linalg.qr(rows[:, None] * U)[0]
    others = np.setdiff1d(np.arange(n), where)
    V[others, U.shape[1] + np.arange(len(others))] = 1.0
    whole[to_whole] = Z / rows[:, None] / rows
    return Face(V, whole), whole


def _newton(
    Z: np.ndarray, P: np.ndarray, data: Entries | Span
) -> tuple[np.ndarray, np.ndarray] | None:
    """U and Z to all digits, by Newton's method for U Uᵀ on the data together with Z U = 0.

    On the data alone it would go astray, for its Jacobian loses rank at the solution. The second
    equation gives the rank back (deflation, Leykin, Verschelde & Zhao 2006).
    """
    of_P, V = np.linalg.eigh(P)
    # Of a strictly complementary pair one eigenvalue is zero, up to the solver's gap.
    rank = int((of_P > np.linalg.eigvalsh(Z)[::-1]).sum())
    n = len(P)
    if not 0 < rank < n:
        return None
    U = V[:, -rank:] * np.sqrt(of_P[-rank:])
    Q = np.asarray(data.normal_basis(psd=True).T.todense()).reshape(-1, n, n)
    z = np.linalg.lstsq(Q.reshape(len(Q), -1).T, Z.ravel(), rcond=None)[0]
    best, least = (U, Z), math.inf
    for _ in range(STEPS):
        Z = np.tensordot(z, Q, axes=1)
        residual, jacobian = data.residual_and_jacobian(U)
        rhs = np.concatenate([residual, (Z @ U).ravel()])
        if np.abs(rhs).max() < least:
            best, least = (U, Z), np.abs(rhs).max()
        if least <= 4 * EPS or not np.isfinite(rhs).all():
            break
        J = np.zeros((len(rhs), U.size + len(z)))
        J[: len(residual), : U.size] = jacobian
        J[len(residual) :, : U.size] = np.kron(Z, np.eye(rank))
        J[len(residual) :, U.size :] = (Q @ U).reshape(len(z), -1).T
        step = np.linalg.lstsq(J, rhs, rcond=RANK)[0]
        U, z = U - step[: U.size].reshape(U.shape), z - step[U.size :]
    return best
