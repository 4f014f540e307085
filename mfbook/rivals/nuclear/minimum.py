"""The convex rival: minimum nuclear norm, with a certificate that does not trust the solver.

A solver proposes a matrix W and a dual point. What is returned was then computed from the two by
plain linear algebra: W is moved onto the data, its nuclear norm is an upper bound of the minimum;
the dual point is rescaled until it is feasible, and its value is a lower bound. Their difference,
the gap, says how good the answer is, whatever the solver believed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mfbook.problems.checks import real_number, whole_number
from mfbook.problems.protocols import Problem, reads_entries
from mfbook.rivals.nuclear.certificate import (
    Certified,
    dual_bound,
    excludes,
    require_setting,
    value_of,
)
from mfbook.rivals.nuclear.cone import closest, closest_in_row_units, onto_the_cone
from mfbook.rivals.nuclear.data import ANY_MATRIX, Entries, Span, affine_set
from mfbook.rivals.nuclear.douglas_rachford import STEPS, douglas_rachford
from mfbook.rivals.nuclear.face import Face, exposed
from mfbook.rivals.nuclear.interior_point import interior_point

# The interior point takes 0.2 s at 20×20, as long as Douglas–Rachford takes for a gap a hundred
# times larger; at 30×30 it takes 1 s, and its memory grows with the fourth power of m + n.
INTERIOR_POINT_LIMIT = 40
# Where Douglas–Rachford does not arrive, that second is well spent.
LAST_RESORT_LIMIT = 60
# The relative gap that counts as reached where the caller asks for none.
ENOUGH = 1e-6
# The solver's name where it worked in the face.
IN_FACE = "Clarabel (interior point) in the face"
# Rows up to which the face is looked for: 0.2 s at 20 rows, 1 s at 30, but 20 s at 50.
FACE_LIMIT = 40


def min_nuclear_norm(
    problem: Problem,
    *,
    psd: bool = False,
    tol: float | None = None,
    max_iters: int = 5000,
) -> Certified:
    r"""Find the matrix of least nuclear norm that fits the data, and certify it.

    The problem, and the dual from which the lower bound comes, for matrix completion

        min ‖W‖_*  s.t.  W_ij = M_ij on Ω    =    max ⟨Y, M⟩  s.t.  Y = 0 off Ω,  ‖Y‖₂ ≤ 1

    and for matrix sensing

        min ‖W‖_*  s.t.  ⟨X_l, W⟩ = y_l      =    max yᵀν     s.t.  ‖Σ_l ν_l X_l‖₂ ≤ 1.

    With `psd=True` the matrix has to be symmetric and positive semidefinite; then ‖W‖_* = tr W,
    and the dual asks for λ_max of the symmetric part ≤ 1 instead of the spectral norm. The
    minimizer need not be unique; an interior-point method returns one near the middle of the
    minimizers, Douglas–Rachford some point among them.

    Up to m + n = 40 Clarabel, CVXPY's interior-point solver, is called without CVXPY in between
    (2 ms at 4×4, 15 ms at 10×10, 0.2 s at 20×20; the gap is mostly below 1e-8 of the value, and an
    entry that is not observed known to about its square root). Beyond it Douglas–Rachford splitting
    runs (1 s at 100×100; gap mostly below 1e-7 of the value). Where it stops short, with few
    entries or a spectrum over many magnitudes, Clarabel is called up to m + n = 60, and two other
    step sizes are tried beyond; a gap above 1e-6 may remain, and `converged` is False then.

    Parameters
    ----------
    problem
        a completion or sensing problem.
    psd
        ask for a symmetric positive semidefinite W; the problem must be square. A symmetric
        problem always asks for it. W is then
        U Uᵀ with U moved onto the data by Gauss–Newton steps, so that it is positive
        semidefinite up to rounding. A diagonal over many magnitudes may leave a large gap, as
        may data that no definite matrix fits: the dual optimum need not be attained then. Up to
        40 rows W is looked for in the face of the cone that such data leave.
    tol
        the relative gap to aim at, positive and finite; 1e-9 for the interior point, 1e-7 for
        Douglas–Rachford if None. What was reached is the `gap` of the result.
    max_iters
        of Douglas–Rachford, for each step size.

    Returns
    -------
    Certified
        W with its nuclear norm, and a lower bound for that of every matrix that fits.

    Raises
    ------
    TypeError
        not a problem; a psd that is not True or False, a tol or max_iters that is no number.
    ValueError
        a tol or max_iters out of range; no matrix fits the measurements (the residual of the best
        one is named); a nuclear norm beyond 10^308; `psd=True` and the problem is not square, or no
        positive semidefinite matrix was found that fits. "infeasible" says that none does, which
        is proved then by a dual point Σ ν_l X_l ⪰ 0 with yᵀν < 0; "undecided" that neither was
        found.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> best = min_nuclear_norm(MatrixCompletion.from_text("1 2; 3 ?"))
    >>> best.W.round(4).tolist()
    [[1.0, 2.0], [3.0, 1.0]]
    >>> round(best.value, 6), 0 <= best.gap < 1e-8
    (5.0, True)

    References
    ----------
    Fazel, Hindi & Boyd 2001 (the heuristic and its dual); Recht, Fazel & Parrilo 2010, Section 2.
    Bai, Zhao & Zhang 2024, Theorem 4, and Li, Luo & Lyu 2021, Proposition B.2, compare gradient
    flow with it.
    """
    psd = require_setting(problem, psd)
    if tol is not None:
        tol = real_number("tol", tol, above=0, because="the gap never closes to the last bit")
    max_iters = whole_number("max_iters", max_iters, least=1)
    data = affine_set(problem, psd)
    best = None
    for W, S, solver, good in _proposals(data, psd, tol, max_iters):
        found = _certified(problem, data, W, S, psd, solver, tol or ENOUGH)
        if found and (best is None or found.gap < best.gap):
            best = found
        if best and best.gap <= good * best.value:
            break
    if best and (best.converged or not psd):
        return best
    Z = np.zeros_like(data.particular)
    if len(Z) <= FACE_LIMIT:
        face, Z = exposed(data)
        for in_face in _proposals_in(face, data, tol) if face else ():
            found = _certified(problem, data, *in_face, psd, IN_FACE, tol or ENOUGH, face)
            if found and (best is None or found.gap < best.gap):
                best = found
    if best is None:
        W = closest_in_row_units(W, data)
        best = _certified(problem, data, W, S, psd, "least squares", tol or ENOUGH)
    if best is None:
        raise ValueError(_none_was_found(problem, data, S, Z))
    return best


def _none_was_found(problem: Problem, data: Entries | Span, S: np.ndarray, Z: np.ndarray) -> str:
    """Why no positive semidefinite matrix fits, if that is proved, or that none was found."""
    # What the nearest one lacks is a direction in which none goes on: a dual point that shows it.
    missing = data.normal(data.particular - closest(data))
    proved = excludes(-missing, data) or excludes(Z, data)
    duals = data.multipliers(S), data.multipliers(missing)
    bound = max(dual_bound(problem, dual, psd=True) for dual in duals)
    return (
        ("infeasible: " if proved else "undecided: ")
        + "no positive semidefinite matrix was found that fits the data"
        + ("" if proved else ", nor a proof that there is none")
        + f"; the nearest leaves a residual of {data.unit * np.linalg.norm(missing):.3g}, and any "
        f"that fits has a trace of at least {bound:.3g}; {ANY_MATRIX}, correct the data, or bring "
        "its diagonal closer together by scaling rows and columns alike"
    )


def _proposals_in(
    face: Face, data: Entries | Span, tol: float | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Matrices and dual points from the problem in the face."""
    reduced = face.reduced(data)
    for aim in (1e-11, 1e-9) if tol is None else (tol,):
        R, S = interior_point(reduced, True, aim)
        yield face.V @ R @ face.V.T, face.lift(S, data, reduced)


def _proposals(
    data: Entries | Span, psd: bool, tol: float | None, max_iters: int
) -> Iterator[tuple[np.ndarray, np.ndarray, str, float]]:
    """Matrices and dual points, who found them, and the relative gap that ends the search."""
    if not data.particular.any():
        zero = np.zeros(data.particular.shape)
        yield zero, zero, "closed form", 0.0
        return
    size = sum(data.particular.shape)
    if size > INTERIOR_POINT_LIMIT:
        aim = tol or 1e-7
        steps = STEPS if size > LAST_RESORT_LIMIT else STEPS[:1]
        # The certificate's allowances for rounding take some of the last percent.
        W, S = douglas_rachford(data, psd, 0.99 * aim, max_iters, steps)
        yield W, S, "Douglas–Rachford", aim
        if size > LAST_RESORT_LIMIT:
            return
    # Asked for more than it can reach, the interior point stops anywhere; asked for less, a
    # degenerate optimum is left early. The first of a few aims that gives a small gap is taken.
    aims = (1e-11, 1e-10, 1e-9) if psd else (1e-9, 1e-10, 1e-11)
    for aim in aims if tol is None else (tol,):
        yield *interior_point(data, psd, aim), "Clarabel (interior point)", 1e-9


def _certified(
    problem: Problem,
    data: Entries | Span,
    W: np.ndarray,
    S: np.ndarray,
    psd: bool,
    solver: str,
    enough: float,
    face: Face | None = None,
) -> Certified | None:
    """W moved onto the data, S made a dual point, and how far apart they are; None off the cone."""
    fitted = onto_the_cone(W, data, face.V if face else None) if psd else data.project(W)
    if fitted is None:
        return None
    with np.errstate(over="ignore"):
        W = data.unit * fitted
    if reads_entries(problem):
        W = np.where(problem.mask, problem.values, W)
    dual = data.multipliers(S)
    value = value_of(W, psd)
    # What fits to rounding only may be as much better than what fits.
    bound = min(dual_bound(problem, dual, psd=psd), value)
    return Certified(W, value, bound, value - bound, solver, dual, value - bound <= enough * value)
