"""What is proved about an answer, by linear algebra that trusts no solver.

A matrix that fits bounds the least nuclear norm from above, any dual point from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.checks import flag, real_array, require_problem
from mfbook.problems.in_units import power_of_two
from mfbook.problems.protocols import Problem, is_symmetric, measurements_of, reads_entries
from mfbook.problems.text import Printable
from mfbook.rivals.nuclear.data import EPS, Entries, Span

LARGEST = float(np.finfo(float).max)
# The identity's part in the measurements is called definite from this eigenvalue on.
DEFINITE = 1e-3


@dataclass(frozen=True, eq=False)
class Certified(Printable):
    """A matrix that fits the data, and a proof of how close to the minimum it is.

    Attributes
    ----------
    W
        (m, n) a matrix that fits: the observed entries to the last bit, measurements to rounding.
    value
        its nuclear norm (its trace, where it had to be positive semidefinite).
    lower_bound
        no matrix that fits has a smaller value: `dual_bound(problem, dual)`, or the value itself
        where that is less, as it may be by rounding where W fits to rounding only.
    gap
        value − lower_bound ≥ 0. The minimum lies between the two.
    solver
        what found W and the dual point.
    dual
        the dual point: (m, n), zero off the observed entries, or (k,), one weight a measurement.
    converged
        whether the gap is at most `tol` of the value, or 1e-6 of it where no tol was asked for.

    Examples
    --------
    The bound is that of the dual point, which anybody may check.

    >>> import mfbook as mf
    >>> problem = mf.MatrixCompletion.from_text("3 ?; ? -4")
    >>> best = mf.min_nuclear_norm(problem)
    >>> round(best.value, 6), best.dual.round(3).tolist(), best.converged
    (7.0, [[1.0, 0.0], [0.0, -1.0]], True)
    >>> best.lower_bound == min(mf.dual_bound(problem, best.dual), best.value)
    True
    """

    W: np.ndarray
    value: float
    lower_bound: float
    gap: float
    solver: str
    dual: np.ndarray
    converged: bool = True


def dual_bound(problem: Problem, dual: ArrayLike, *, psd: bool = False) -> float:
    r"""A lower bound of the nuclear norm of every matrix that fits, from any dual point.

    For every W that fits the data, and S = Y (completion) or S = Σ_l ν_l X_l (sensing),

        ⟨S, W⟩ = ⟨Y, M⟩ or yᵀν,   and   ⟨S, W⟩ ≤ ‖S‖₂ ‖W‖_*,

    so ‖W‖_* ≥ ⟨S, W⟩ / ‖S‖₂. For W positive semidefinite λ_max of the symmetric part of S stands
    in place of ‖S‖₂. The quotient is lowered by an allowance for the rounding of the sum and of
    the singular value decomposition.

    Parameters
    ----------
    problem
        the data.
    dual
        (m, n), zero off the observed entries, for completion; (k,) for sensing.
    psd
        whether only positive semidefinite W are meant; the problem must be square. A symmetric
        problem always means these.

    Raises
    ------
    TypeError
        not a problem, a dual that is no array of real numbers, a psd that is not True or False.
    ValueError
        the wrong shape, numbers that are not finite, or a completion's dual that is not zero off
        Ω (such a point proves nothing); `psd=True` and the problem is not square.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("3 ?; ? -4")
    >>> best, worse = [[1, 0], [0, -1]], [[10, 0], [0, 0]]
    >>> round(dual_bound(problem, best), 9), round(dual_bound(problem, worse), 9)
    (7.0, 3.0)

    References
    ----------
    Recht, Fazel & Parrilo 2010, Section 2: the nuclear norm is the dual of the spectral norm.
    """
    psd = require_setting(problem, psd)
    weights = _weights(problem, dual)
    # Pairing and sum, each with an exponent of its own, stay in range for data of any size.
    pairing, of_pairing = _pairing(weights, problem.targets)
    if pairing <= 0:
        return 0.0
    S, doubt, of_sum = _sum(problem, weights)
    size = np.linalg.norm(S, 2)
    largest = np.linalg.eigvalsh((S + S.T) / 2)[-1] if psd else size
    # For the rounding of the singular value decomposition, and that of the sum.
    allowance = 8 * max(S.shape) * EPS * size + doubt
    with np.errstate(over="ignore", divide="ignore"):
        bound = np.ldexp(pairing / (max(largest, 0.0) + allowance), of_pairing - of_sum)
    return min(float(bound), LARGEST)


def excludes(Z: np.ndarray, data: Entries | Span) -> bool:
    r"""Whether Z = Σ z_l X_l proves that no positive semidefinite matrix fits.

    It does if Z ⪰ 0 and ⟨Z, M⟩ < 0, for ⟨Z, W⟩ ≥ 0 for all W ⪰ 0, and ⟨Z, W⟩ = ⟨Z, M⟩ for those
    that fit. Both have to hold beyond rounding: the measurements have a positive definite
    combination D, and enough of it is added to Z; and what targets computed from a W ⪰ 0 may lack
    by rounding must not explain the sign.
    """
    where, rows, block = data.definite_block()
    if not len(where):
        return False
    Z = block.normal(Z[np.ix_(where, where)] * rows[:, None] * rows)
    Z = (Z + Z.T) / 2
    D = block.normal(np.eye(len(where)))
    definite, eigenvalues = np.linalg.eigvalsh(D)[0], np.linalg.eigvalsh(Z)
    if not (np.isfinite(eigenvalues).all() and definite > DEFINITE):
        return False
    doubt = 8 * len(Z) * EPS * np.abs(eigenvalues).max()
    Z = Z + (max(-eigenvalues[0], 0.0) + doubt) / definite * D
    return math.fsum((Z * block.particular).ravel()) < -block.doubt_of_pairing(Z)


def _weights(problem: Problem, dual: ArrayLike) -> np.ndarray:
    """The dual point as one number a measurement."""
    if not reads_entries(problem):
        weights = real_array("dual", dual, ndim=1, finite=True)
        if weights.shape != problem.targets.shape:
            raise ValueError(
                f"a dual point holds one weight a measurement, {len(problem.targets)}, but has "
                f"{len(weights)}"
            )
        return weights
    S = real_array("dual", dual, ndim=2, finite=True)
    if S.shape != problem.shape or S[~problem.mask].any():
        raise ValueError(
            f"a dual point must have the problem's shape {problem.shape} and be zero where "
            f"nothing is observed, but has shape {S.shape}"
            + ("" if S.shape != problem.shape else " and is not; set those entries to zero")
        )
    return problem.measure(S)


def _pairing(weights: np.ndarray, targets: np.ndarray) -> tuple[float, int]:
    """p and e such that Σ w_l y_l ≥ p 2^e, with an allowance for the rounding of the products."""
    (w, of_w), (y, of_y) = np.frexp(weights), np.frexp(targets)
    products, exponents = w * y, of_w + of_y
    if not products.any():
        return 0.0, 0
    top = int(exponents[products != 0].max())
    products = np.ldexp(products, exponents - top)
    return math.fsum(products) - EPS * math.fsum(np.abs(products)), top


def _sum(problem: Problem, weights: np.ndarray) -> tuple[np.ndarray, float, int]:
    """S, a bound of its error in the Frobenius norm, and e: Σ w_l X_l = 2^e S up to that."""
    of_weights = _exponent(weights)
    weights = np.ldexp(weights, -of_weights)
    if problem.observes_entries:
        return problem.adjoint(weights), 0.0, of_weights
    X = measurements_of(problem)
    S = np.tensordot(weights, X, axes=1)
    of_sum = _exponent(S)
    terms = np.ldexp(np.abs(X).max(axis=(1, 2)), -of_sum) * np.abs(weights)
    doubt = len(X) * EPS * math.sqrt(S.size) * terms.sum()
    return np.ldexp(S, -of_sum), doubt, of_weights + of_sum


def _exponent(array: np.ndarray) -> int:
    """e such that the largest entry is below 2^e and at least half of that."""
    return int(np.frexp(np.abs(array).max())[1])


def value_of(W: np.ndarray, psd: bool) -> float:
    """‖W‖_*, or tr W where W is positive semidefinite."""
    value = math.inf
    if np.isfinite(W).all():
        unit = power_of_two(np.abs(W).max())
        sizes = np.diag(W / unit) if psd else np.linalg.svd(W / unit, compute_uv=False)
        with np.errstate(over="ignore"):
            value = float(unit * math.fsum(sizes))
    if not math.isfinite(value):
        raise ValueError(
            "the nuclear norm is beyond 10^308, which no float can hold; divide the data by one "
            "large number, which divides the answer by it"
        )
    return value


def require_setting(problem: Problem, psd: bool) -> bool:
    """`psd` as a bool, for a problem that allows it; a symmetric one means it."""
    require_problem(problem)
    psd = flag("psd", psd) or is_symmetric(problem)
    if psd and problem.shape[0] != problem.shape[1]:
        raise ValueError(
            f"a positive semidefinite matrix is square, but the problem has shape {problem.shape}; "
            "leave psd=False"
        )
    return psd
