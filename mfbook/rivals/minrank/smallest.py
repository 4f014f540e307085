"""The smallest rank that fits the observed entries, with a witness and a proof.

Finding the minimum rank is hard in general; for small matrices much can be said. From below come
arguments that exclude a rank for every completion at once; from above a matrix that fits. Where
they meet, the rank is proved; where they do not, the answer says "not proven".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfbook.problems import MatrixCompletion
from mfbook.problems.checks import require_problem, whole_number
from mfbook.problems.protocols import is_symmetric
from mfbook.problems.text import Printable
from mfbook.rivals.minrank.component import (
    LARGEST,
    Component,
    components_of,
    smallest_nonzero,
    too_far_apart,
)
from mfbook.rivals.minrank.elimination import eliminate
from mfbook.rivals.minrank.independence import independent_lines
from mfbook.rivals.minrank.minors import rootless_pair
from mfbook.rivals.minrank.rank_one import rank_one
from mfbook.rivals.minrank.square import square_witness
from mfbook.rivals.minrank.witness import witness

NOT_PROVEN = "not proven"


@dataclass(frozen=True, eq=False)
class MinRank(Printable):
    """The smallest rank found, a matrix that has it, and why no smaller rank can fit.

    Attributes
    ----------
    rank
        the rank of W.
    W
        (m, n) a product of factors of width `rank` that agrees with every observed entry to 1e-12
        of it, or to the rounding of the sum that makes it; to 1e-12 of the largest in any case.
    proof
        a sentence that excludes every smaller rank, or "not proven".
    lower_bound
        the smallest rank that is not excluded; equal to `rank` where there is a proof.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> found = min_rank(MatrixCompletion.from_text("1 2; 2 ?"))
    >>> found.rank, found.lower_bound, found.proof
    (1, 1, 'an observed entry is not zero, which excludes rank 0')
    """

    rank: int
    W: np.ndarray
    proof: str
    lower_bound: int

    @property
    def proven(self) -> bool:
        """Whether every smaller rank is excluded, so that `rank` is the smallest."""
        return self.lower_bound == self.rank


def min_rank(problem: MatrixCompletion, *, starts: int = 64) -> MinRank:
    r"""Find the smallest rank among the matrices that agree with the observed entries.

        min rank W   subject to   W_ij = M_ij for (i, j) ∈ Ω

    Each connected component of the observation graph is settled by itself: the minimum rank is
    the largest among the components. (Factors A_p B_p of width r for every component, padded by
    zeros and stacked, give one product of width r that fits all; and no completion has a smaller
    rank than its submatrices.)

    A rank is excluded

    * rank 0, by an observed entry that is not zero;
    * rank 1, exactly: rows and columns that hold a nonzero observed entry cannot be zero, so an
      observed zero where two such meet excludes it, and so does a cycle of nonzero entries whose
      alternating product is not 1; nothing else does;
    * rank r, by a sequence of r + 1 rows of which each is no combination of those before it on
      the columns where all of them are observed (then they are independent in every completion);
    * rank r, by elimination: r independent rows determine entries of every completion of rank r,
      and the observed entries together with the determined ones exclude rank r as above;
    * rank r, by two minors of size r + 1 that share two unobserved entries and have no common
      real zero.

    A rank is reached by the potentials of a spanning forest (rank 1), by elimination, by
    `problem.truth` if that fits, or by Levenberg–Marquardt steps on factors from many starts.

    For a symmetric problem the rank is that of a positive semidefinite W. What excludes a rank
    excludes it for all matrices, so it may leave a gap that is the cone's: "not proven".

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `SymmetricCompletion`. The exclusions are exhaustive up to 8 rows or
        columns; beyond that fewer are tried.
    starts
        how many starts, at most, for each rank that is not excluded.

    Returns
    -------
    MinRank
        The rank, a matrix that has it, and the proof that none is smaller, or "not proven".

    Raises
    ------
    TypeError
        any other problem; the arguments above are about entries.
    ValueError
        `starts` below 1; a symmetric problem that no positive semidefinite matrix fits; data over
        so many magnitudes that no matrix of the smallest rank has entries that a float can hold.

    Examples
    --------
    >>> found = min_rank(MatrixCompletion.from_text("1 2 ?; 3 4 ?; ? ? 5"))
    >>> found.rank
    2
    >>> found.proven
    True
    >>> found.proof
    'the alternating product around the cycle (1,1) (1,0) (0,0) (0,1) is 0.666667, not 1'
    >>> min_rank(MatrixCompletion.from_text("0 1; 2 ?")).rank
    2
    >>> from mfbook.problems import SymmetricCompletion
    >>> min_rank(SymmetricCompletion.from_text("? 1; 1 ?")).W.shape
    (2, 2)

    References
    ----------
    Bai, Zhao & Zhang 2024, Theorem 3, on when gradient flow finds it. Woerdeman 1989 gives the
    minimum rank of staircase patterns, where the sequences of rows are sharp.
    """
    require_problem(
        problem,
        entries="the proofs of min_rank are about observed entries; measurements are not supported",
    )
    starts = whole_number("starts", starts, least=1)
    if is_symmetric(problem):
        return _of_squares(problem, starts)
    if not problem.targets.any():
        reason = "every observed entry is zero, and no rank is smaller"
        return MinRank(0, np.zeros(problem.shape), reason, 0)
    components = components_of(problem)
    answers = [_settled(component, starts) for component in components]
    rank = max(answer.rank for answer in answers)
    m, n = problem.shape
    A, B = np.zeros((m, rank)), np.zeros((rank, n))
    for component, answer in zip(components, answers, strict=True):
        A[component.rows, : answer.rank], B[: answer.rank, component.cols] = answer.factors
    strongest = max(answers, key=lambda answer: answer.lower_bound)
    proof = strongest.reason if strongest.lower_bound == rank else NOT_PROVEN
    with np.errstate(over="ignore", invalid="ignore"):
        W = A @ B
    if not np.isfinite(W).all():
        raise ValueError(
            f"rank {rank} fits, but only with entries beyond 10^308, out of observed values from "
            f"{smallest_nonzero(problem.targets):.3g} to {np.abs(problem.targets).max():.3g}; "
            "scale rows and columns so that these are closer together, which changes no rank"
        )
    return MinRank(rank, W, proof, strongest.lower_bound)


def _of_squares(problem: MatrixCompletion, starts: int) -> MinRank:
    """The smallest rank found among U Uᵀ, and what excludes smaller ones for all matrices."""
    whole = min_rank(MatrixCompletion(problem.values, problem.mask), starts=starts)
    W, rank = square_witness(problem, whole.lower_bound, starts)
    if rank == whole.lower_bound and not whole.proven:
        whole = min_rank(MatrixCompletion(problem.values, problem.mask, truth=W), starts=starts)
    proof = whole.proof if rank == whole.lower_bound else NOT_PROVEN
    return MinRank(rank, W, proof, whole.lower_bound)


@dataclass(frozen=True, eq=False)
class _Answer:
    """For one component: factors that fit its data, and why no width below the bound does."""

    factors: tuple[np.ndarray, np.ndarray]
    lower_bound: int
    reason: str

    @property
    def rank(self) -> int:
        return self.factors[0].shape[1]


def _settled(part: Component, starts: int) -> _Answer:
    """From rank 1 up: each rank is excluded, or reached, or neither and left behind."""
    m, n = part.values.shape
    factors, reason = rank_one(part)
    if factors is not None:
        reason = "an observed entry is not zero, which excludes rank 0"
        return _Answer(part.unscaled(*factors), 1, reason)
    if part.size > LARGEST and min(m, n) > 2:
        raise too_far_apart(part.values)
    bound = 2
    found, why = independent_lines(part, part.values, np.zeros((m, n)), part.mask)
    if found > bound:
        bound, reason = found, why
    for rank in range(bound, min(m, n)):
        known, error, seen = eliminate(part, rank)
        found, why = independent_lines(part, known, error, seen)
        if found > rank:
            bound = rank + 1
            reason = f"a completion of rank {rank} has other entries determined, and then {why}"
            continue
        factors = witness(part, rank, known if seen.all() else None, starts)
        if factors is not None:
            return _Answer(part.unscaled(*factors), bound, reason)
        why = rootless_pair(part, rank)
        if why:
            bound, reason = rank + 1, why
    identity = (part.values, np.eye(n)) if n <= m else (np.eye(m), part.values)
    return _Answer(part.unscaled(*identity), bound, reason)
