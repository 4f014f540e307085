"""The other rival: the smallest rank that fits the observed entries, with a witness and a proof.

Finding the minimum rank is hard in general; for small matrices much can be said. From below come
arguments that exclude a rank for every completion at once; from above a matrix that fits. Where
they meet, the rank is proved; where they do not, the answer says "not proven".

Two roundings are built in. Entries that were computed as products carry relative errors of a few
units in the last place, so an equation between them counts as violated only when it fails by more
than `NOISE`. And a witness whose entries are 10^4 times the data is refused: it may be a step of a
sequence that fits better and better while it runs to infinity, and fits at no finite place.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import factorial

import networkx as nx
import numpy as np

from mfbook.problems import MatrixCompletion
from mfbook.problems.checks import require_problem, whole_number
from mfbook.problems.graph import observation_graph

NOISE = 64 * np.finfo(float).eps
FITS = 1e-12
BLOWN_UP = 1e4
NOT_PROVEN = "not proven"
# All subsets of the shorter side's lines are visited up to here; beyond it, random sequences.
EXHAUSTIVE = 8


@dataclass(frozen=True, eq=False)
class MinRank:
    """The smallest rank found, a matrix that has it, and why no smaller rank can fit.

    Attributes
    ----------
    rank
        the rank of W.
    W
        (m, n) a product of factors of width `rank` that agrees with the observed entries to
        1e-12 of the largest, row and column scales aside.
    proof
        a sentence that excludes every smaller rank, or "not proven".
    lower_bound
        the smallest rank that is not excluded; equal to `rank` where there is a proof.
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

    Parameters
    ----------
    problem
        a `MatrixCompletion`. The exclusions are exhaustive up to 8 rows or columns;
        beyond that fewer are tried.
    starts
        how many starts, at most, for each rank that is not excluded.

    Raises
    ------
    TypeError
        any other problem; the arguments above are about entries.
    ValueError
        `starts` below 1; data over so many magnitudes that no matrix of the smallest rank has
        entries that a float can hold.

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
    parts = []
    for rows, cols in problem.parts:
        block = np.ix_(rows, cols)
        truth = None if problem.truth is None else problem.truth[block]
        mask = problem.mask[block]
        values = np.where(mask, problem.values[block], 0.0)
        parts.append((rows, cols, _Component(values, mask, truth, rows, cols, starts).solve()))
    rank = max(part.A.shape[1] for _, _, part in parts)
    m, n = problem.shape
    A, B = np.zeros((m, rank)), np.zeros((rank, n))
    for rows, cols, part in parts:
        A[rows, : part.A.shape[1]] = part.A
        B[: part.A.shape[1], cols] = part.B
    strongest = max((part for _, _, part in parts), key=lambda part: part.lower_bound)
    proof = strongest.reason if strongest.lower_bound == rank else NOT_PROVEN
    with np.errstate(over="ignore", invalid="ignore"):
        W = A @ B
    if not np.isfinite(W).all():
        raise ValueError(
            f"rank {rank} fits, but only with entries beyond 10^308, out of observed values from "
            f"{_smallest(problem.targets):.3g} to {np.abs(problem.targets).max():.3g}; scale rows "
            "and columns so that these are closer together, which changes no rank"
        )
    return MinRank(rank, W, proof, strongest.lower_bound)


def _smallest(values: np.ndarray) -> float:
    return np.abs(values[values != 0]).min(initial=np.inf)


@dataclass(frozen=True, eq=False)
class _Answer:
    A: np.ndarray
    B: np.ndarray
    lower_bound: int
    reason: str


class _Component:
    """One connected component of the data; `rows` and `cols` are its places in the whole."""

    def __init__(self, values, mask, truth, rows, cols, starts):
        self.row_scale, self.col_scale = _balancing_scales(values)
        self.values = values * self.row_scale[:, None] * self.col_scale
        self.truth = None if truth is None else truth * self.row_scale[:, None] * self.col_scale
        self.mask, self.rows, self.cols, self.starts = mask, rows, cols, starts
        self.size = np.abs(self.values).max()

    def solve(self) -> _Answer:
        m, n = self.values.shape
        if self.size == 0:
            reason = "every observed entry is zero, and no rank is smaller"
            return _Answer(np.zeros((m, 0)), np.zeros((0, n)), 0, reason)
        factors, reason = self.rank_one()
        if factors is not None:
            return self.answer(factors, 1, "an observed entry is not zero, which excludes rank 0")
        bound = 2
        found, why = self.independent_lines(self.values, np.zeros((m, n)), self.mask)
        if found > bound:
            bound, reason = found, why
        for rank in range(bound, min(m, n)):
            known, error, seen = self.eliminate(rank)
            found, why = self.independent_lines(known, error, seen)
            if found > rank:
                bound = rank + 1
                reason = f"a completion of rank {rank} has other entries determined, and then {why}"
                continue
            factors = self.fit(rank, known if seen.all() else None)
            if factors is not None:
                return self.answer(factors, bound, reason)
            why = self.rootless_pair(rank)
            if why:
                bound, reason = rank + 1, why
        identity = (self.values, np.eye(n)) if n <= m else (np.eye(m), self.values)
        return self.answer(identity, bound, reason)

    def answer(self, factors, bound: int, reason: str) -> _Answer:
        A = factors[0] / self.row_scale[:, None]
        B = factors[1] / self.col_scale
        # Components meet in the entries A_p B_q: balanced factors keep those at the data's scale.
        balance = np.sqrt(np.abs(B).max() / np.abs(A).max())
        return _Answer(A * balance, B / balance, bound, reason)

    def name(self, entries) -> str:
        return " ".join(f"({self.rows[i]},{self.cols[j]})" for i, j in entries)

    # --- Rank one, exactly

    def rank_one(self):
        """Factors of width 1 and no reason, or no factors and the reason why none fit."""
        nonzero = self.values != 0
        row_lives, col_lives = nonzero.any(axis=1), nonzero.any(axis=0)
        clash = np.argwhere(self.mask & ~nonzero & row_lives[:, None] & col_lives)
        if len(clash):
            return None, (
                f"the observed zero at {self.name(clash[:1])} meets a nonzero entry of its row and "
                "one of its column, which excludes rank 1"
            )
        # Potentials along a spanning forest: u_i v_j = M_ij on its edges.
        u, v = np.zeros(len(nonzero)), np.zeros(nonzero.shape[1])
        graph, forest = observation_graph(nonzero), nx.Graph()
        for vertices in nx.connected_components(graph):
            root = min(vertices)
            (u if root[0] == "row" else v)[root[1]] = 1.0
            for near, far in nx.bfs_edges(graph, root, sort_neighbors=sorted):
                forest.add_edge(near, far)
                if near[0] == "row":
                    v[far[1]] = self.values[near[1], far[1]] / u[near[1]]
                else:
                    u[far[1]] = self.values[far[1], near[1]] / v[near[1]]
        rows, cols = np.nonzero(nonzero)
        off = np.abs(u[rows] * v[cols] / self.values[rows, cols] - 1)
        worst = int(off.argmax())
        edge = ("row", rows[worst]), ("col", cols[worst])
        path = nx.shortest_path(forest, *edge)
        cycle = [
            (a[1], b[1]) if a[0] == "row" else (b[1], a[1])
            for a, b in zip([edge[1], *path], path, strict=False)
        ]
        if off[worst] <= NOISE * len(cycle):
            return (u[:, None], v[None, :]), ""
        product = Fraction(1)
        for k, entry in enumerate(cycle):
            product *= Fraction(float(self.values[entry])) ** (1 if k % 2 == 0 else -1)
        if abs(product - 1) < 1e-3:
            differs = f"differs from 1 by {float(product - 1):.3g}"
        else:
            differs = f"is {float(product):.6g}, not 1"
        return None, f"the alternating product around the cycle {self.name(cycle)} {differs}"

    # --- Lower bounds

    def independent_lines(self, known, error, seen):
        """The length of the longest sequence of rows that are independent in every completion.

        A row counts if it is no combination of those before it on the columns where all of them
        are known. (Suppose the counted rows of a completion were dependent; the last one with a
        nonzero coefficient would be a combination of those before it, on those columns too.)
        The known ranks of submatrices obey a symmetric formula, so that columns would give the
        same number; the shorter side is taken.
        """
        line, names = "rows", self.rows
        if known.shape[0] > known.shape[1]:
            known, error, seen, line, names = known.T, error.T, seen.T, "columns", self.cols
        noise = NOISE * self.size
        ranks = {}

        def rank(lines, shared, surely):
            """Of the lines on the shared columns: at least (surely), or up to the data's noise."""
            if not lines:
                return 0
            key = lines, shared.tobytes(), surely
            if key not in ranks:
                block = np.ix_(sorted(lines), np.flatnonzero(shared))
                s = np.linalg.svd(known[block], compute_uv=False) if shared.any() else np.zeros(0)
                doubt = 4 * np.linalg.norm(error[block]) if surely else 0.0
                ranks[key] = int((s > noise + doubt).sum())
            return ranks[key]

        def extended(state, i):
            count, chosen, shared = state
            lines, shared = frozenset(chosen), shared & seen[i]
            if rank(lines | {i}, shared, True) > rank(lines, shared, False):
                return count + 1, (*chosen, i), shared
            return None

        m, n = known.shape
        best = (0, (), np.ones(n, dtype=bool))
        if m <= EXHAUSTIVE:
            reached = {frozenset(): best}
            while reached:
                longer = {}
                for lines, state in reached.items():
                    for i in set(range(m)) - lines:
                        if lines | {i} not in longer and (new := extended(state, i)):
                            longer[lines | {i}] = new
                reached = longer
                best = next(iter(reached.values()), best)
        else:
            rng = np.random.default_rng(0)
            for _ in range(50):
                state = (0, (), np.ones(n, dtype=bool))
                for i in rng.permutation(m):
                    state = extended(state, int(i)) or state
                best = max(best, state, key=lambda state: state[0])
        shown = ", ".join(str(names[i]) for i in best[1])
        return best[0], (
            f"each of the {line} {shown} is no combination of those before it in the places where "
            "all of them are known"
        )

    def eliminate(self, rank: int):
        """Entries that every completion of at most this rank shares: (values, error bounds, where).

        If `rank` rows S are independent on the columns K where they and row i are known, then
        row i is x·(rows S) with x determined on K, wherever the rows S are known.
        """
        known, seen = self.values.copy(), self.mask.copy()
        error = np.where(seen, NOISE * self.size, 0.0)
        m = len(known)
        if m > EXHAUSTIVE or known.shape[1] > EXHAUSTIVE:
            return known, np.zeros_like(error), seen
        changed = True
        while changed and not seen.all():
            changed = False
            for S in map(list, combinations(range(m), rank)):
                common = seen[S].all(axis=0)
                if common.sum() <= rank:
                    continue
                for i in set(range(m)) - set(S):
                    K, new = common & seen[i], common & ~seen[i]
                    if K.sum() < rank or not new.any():
                        continue
                    base = known[S][:, K]
                    s = np.linalg.svd(base, compute_uv=False)
                    if s[-1] <= 1e3 * np.linalg.norm(error[S][:, K]) + 1e-9 * s[0]:
                        continue
                    inverse = np.linalg.pinv(base)
                    x = known[i, K] @ inverse
                    doubt = (error[i, K] + np.abs(x) @ error[S][:, K]) @ np.abs(inverse)
                    others = known[S][:, new]
                    known[i, new] = x @ others
                    error[i, new] = 2 * (
                        doubt @ np.abs(others)
                        + np.abs(x) @ error[S][:, new]
                        + NOISE * np.abs(x) @ np.abs(others)
                    )
                    seen[i, new] = changed = True
        return known, error - np.where(self.mask, NOISE * self.size, 0.0), seen

    def rootless_pair(self, rank: int) -> str:
        """The reason why two unobserved entries have no real values at this rank; "" if none.

        A minor of size rank + 1 with the unobserved entries x and y vanishes: (b x + d) +
        (a x + c) y = 0. Two such equations have a common y only where their resultant, a
        quadratic in x, is zero; a negative discriminant leaves no real x.
        """
        k = rank + 1
        if max(self.mask.shape) > EXHAUSTIVE:
            return ""
        equations = {}
        for S in combinations(range(len(self.mask)), k):
            for T in combinations(range(self.mask.shape[1]), k):
                places = np.argwhere(~self.mask[np.ix_(S, T)])
                if len(places) != 2:
                    continue
                minors = np.repeat(self.values[np.ix_(S, T)][None], 4, axis=0)
                (i, j), (p, q) = places
                minors[:, i, j], minors[:, p, q] = (0, 1, 0, 1), (0, 0, 1, 1)
                d, bd, cd, abcd = np.linalg.det(minors)
                pair = (S[i], T[j]), (S[p], T[q])
                equations.setdefault(pair, []).append((abcd - bd - cd + d, bd - d, cd - d, d))
        # All terms of the discriminant have degree 4·rank in the data, so this is their rounding.
        # Of data that span hundreds of magnitudes they overflow, and then exclude nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            return self.negative_discriminant(rank, equations)

    def negative_discriminant(self, rank: int, equations: dict) -> str:
        """The reason that two equations of one pair of entries give; "" if there is none."""
        rounding = 1e-12 * factorial(rank + 1) ** 4 * self.size ** (4 * rank)
        for pair, minors in equations.items():
            for (a, b, c, d), (e, f, g, h) in combinations(minors, 2):
                linear = b * g + d * e - f * c - h * a
                if linear**2 - 4 * (b * e - f * a) * (d * g - h * c) < -rounding:
                    return (
                        f"at rank {rank} two minors make the unobserved entries {self.name(pair)} "
                        "solve a quadratic equation that has no real root"
                    )
        return ""

    # --- Witnesses

    def fit(self, rank: int, determined):
        """Factors of width `rank` that fit, or None: from what is known first, then at random."""
        for W in (determined, self.truth):
            if W is None:
                continue
            U, s, Vt = np.linalg.svd(W, full_matrices=False)
            root = np.sqrt(s[:rank])
            start = (U[:, :rank] * root)[None], (root[:, None] * Vt[:rank])[None]
            # Nothing runs away here: this matrix exists, however large it is.
            size = 2 * max(self.size, np.abs(W).max())
            factors = self.descend(*start, max_iters=20, patience=20, largest=size)
            if factors is not None:
                return factors
        m, n = self.values.shape
        unknowns, entries = (m + n) * rank, int(self.mask.sum())
        # About two seconds of linear algebra a rank, at 10^9 operations a second.
        affordable = max(2e9 / (unknowns * entries * min(unknowns, entries)), 100.0)
        rng = np.random.default_rng(rank)
        for count, max_iters in ((4, 50), (16, 150), (self.starts, 400)):
            max_iters = int(min(max_iters, affordable))
            count = int(max(1, min(count, self.starts, affordable / max_iters)))
            A, B = rng.standard_normal((count, m, rank)), rng.standard_normal((count, rank, n))
            patience = 100 if affordable > 1000 else 15
            factors = self.descend(A, B, max_iters, patience, BLOWN_UP * self.size)
            if factors is not None:
                return factors
        return None

    def descend(self, A, B, max_iters: int, patience: int, largest: float):
        """Levenberg–Marquardt on all starts at once; the first that fits, polished, or None."""
        rows, cols = np.nonzero(self.mask)
        target = self.values[rows, cols]
        count, m, rank = A.shape
        n, k = B.shape[2], len(rows)
        damping = np.full(count, 1.0)
        entry = np.arange(k)[:, None]
        a_place = rows[:, None] * rank + np.arange(rank)
        b_place = m * rank + cols[:, None] * rank + np.arange(rank)

        def residual(A, B):
            return np.einsum("ser,sre->se", A[:, rows], B[:, :, cols]) - target

        def jacobian(A, B):
            J = np.zeros((len(A), k, (m + n) * rank))
            J[:, entry, a_place] = B[:, :, cols].transpose(0, 2, 1)
            J[:, entry, b_place] = A[:, rows]
            return J

        def moved(A, B, step):
            dA = step[:, : m * rank].reshape(-1, m, rank)
            dB = step[:, m * rank :].reshape(-1, n, rank).transpose(0, 2, 1)
            return A - dA, B - dB

        r = residual(A, B)
        loss = np.square(r).sum(axis=1)
        record, since = loss.min(), 0
        for _ in range(max_iters):
            close = np.abs(r).max(axis=1) <= 1e-9 * self.size
            for start in np.flatnonzero(close):
                # Undamped steps of least norm, down to rounding.
                a, b, e = A[start : start + 1], B[start : start + 1], r[start : start + 1]
                for _ in range(4):
                    step = np.linalg.lstsq(jacobian(a, b)[0], e[0], rcond=1e-11)[0]
                    a_new, b_new = moved(a, b, step[None])
                    e_new = residual(a_new, b_new)
                    if not np.abs(e_new).max() < np.abs(e).max():
                        break
                    a, b, e = a_new, b_new, e_new
                fits = np.abs(e).max() <= FITS * self.size
                if fits and np.abs(a @ b).max() <= largest:
                    return a[0], b[0]
            if since > patience:
                break
            J = jacobian(A, B)
            if k <= J.shape[2]:
                gram = J @ J.transpose(0, 2, 1) + damping[:, None, None] * np.eye(k)
                step = (np.linalg.solve(gram, r[:, :, None]).transpose(0, 2, 1) @ J)[:, 0]
            else:
                gram = J.transpose(0, 2, 1) @ J + damping[:, None, None] * np.eye(J.shape[2])
                step = np.linalg.solve(gram, (r[:, None, :] @ J).transpose(0, 2, 1))[:, :, 0]
            A_new, B_new = moved(A, B, step)
            r_new = residual(A_new, B_new)
            loss_new = np.square(r_new).sum(axis=1)
            better = loss_new < loss
            A = np.where(better[:, None, None], A_new, A)
            B = np.where(better[:, None, None], B_new, B)
            r, loss = np.where(better[:, None], r_new, r), np.where(better, loss_new, loss)
            damping = np.clip(np.where(better, damping / 5, damping * 3), 1e-13, 1e6)
            since = 0 if loss.min() < 0.9 * record else since + 1
            record = min(record, loss.min()) if since == 0 else record
        return None


def _balancing_scales(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Powers of two for the rows and columns that bring the nonzero entries close to size one.

    Scaling rows and columns changes no rank, and powers of two change no digit; afterwards one
    tolerance serves all entries.
    """
    nonzero = values != 0
    logs = np.log2(np.abs(values), where=nonzero, out=np.zeros_like(values))
    row, col = np.zeros(len(values)), np.zeros(values.shape[1])
    for _ in range(10):
        row = -((logs + col) * nonzero).sum(axis=1) / np.maximum(nonzero.sum(axis=1), 1)
        col = -((logs + row[:, None]) * nonzero).sum(axis=0) / np.maximum(nonzero.sum(axis=0), 1)
    with np.errstate(over="ignore", under="ignore"):
        scales = np.exp2(np.round(row)), np.exp2(np.round(col))
    if not all(np.isfinite(scale).all() and scale.all() for scale in scales):
        raise ValueError(
            f"observed values from {_smallest(values):.3g} to {np.abs(values).max():.3g} reach "
            "beyond what floats can compare; scale rows and columns so that they are closer to 1, "
            "which changes no rank"
        )
    return scales
