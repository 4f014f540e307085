"""Random problems that several experiments draw from.

Where a function takes `rng`, that is a NumPy Generator, which is drawn on, or a seed (an integer or
a list of them), which gives the same answer at every call. Bad sizes raise ValueError, other kinds
of things TypeError.
"""

from __future__ import annotations

import numpy as np

from mfbook.problems import MatrixCompletion
from mfbook.problems.checks import Rng, generator, shape_of, whole_number
from mfbook.problems.graph import connectivity


def random_mask(rng: Rng, shape: tuple[int, int], size: int) -> np.ndarray:
    """A mask with `size` observed entries, all sets of that size equally likely.

    >>> int(random_mask(np.random.default_rng(0), (4, 4), 7).sum())
    7
    """
    rng, shape = generator(rng), shape_of(shape)
    size = whole_number("size", size, least=1, most=shape[0] * shape[1])
    mask = np.zeros(shape[0] * shape[1], dtype=bool)
    mask[rng.permutation(mask.size)[:size]] = True
    return mask.reshape(shape)


def random_block_mask(rng: Rng, d: int) -> np.ndarray:
    """A d×d mask that is disconnected with complete bipartite components.

    Rows and columns draw one of two or three groups, and an entry is observed where they agree.

    >>> connectivity(random_block_mask(np.random.default_rng(0), 4))
    'complete-bipartite'
    """
    rng = generator(rng)
    d = whole_number("d", d, least=2, because="there must be room for two components")
    while True:
        groups = rng.integers(2, 4)
        mask = rng.integers(0, groups, d)[:, None] == rng.integers(0, groups, d)
        if mask.any() and connectivity(mask) == "complete-bipartite":
            return mask


def random_low_rank(rng: Rng, shape: tuple[int, int], rank: int) -> np.ndarray:
    """A product of Gaussian factors of inner dimension `rank` ≥ 0.

    >>> random_low_rank(0, (4, 3), 2).shape
    (4, 3)
    """
    rng, shape = generator(rng), shape_of(shape)
    rank = whole_number("rank", rank, least=0)
    return rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))


def random_block_problem(
    rng: Rng,
    blocks: list[tuple[int, int]] | None = None,
    ranks: list[int] | None = None,
) -> MatrixCompletion:
    """A problem with complete bipartite components, rows and columns in random order.

    Every block of the given shapes is a product of Gaussian factors of its rank; two or three
    blocks of one to three rows and columns, and any rank from 1 on that fits, are drawn if not
    given. Raises ValueError for a rank that a block cannot have, or without a block.

    >>> problem = random_block_problem(np.random.default_rng(0), [(2, 2), (1, 3)], [1, 1])
    >>> problem.shape, problem.n_observed, connectivity(problem.mask)
    ((3, 5), 7, 'complete-bipartite')
    """
    rng = generator(rng)
    if blocks is None:
        blocks = [tuple(rng.integers(1, 4, 2)) for _ in range(rng.integers(2, 4))]
    if ranks is None:
        ranks = [int(rng.integers(1, min(block) + 1)) for block in blocks]
    blocks = [shape_of(block) for block in blocks]
    ranks = [whole_number("a rank", rank, least=0) for rank in ranks]
    if not blocks or len(blocks) != len(ranks):
        raise ValueError(
            "there must be at least one block, and one rank a block, but there are "
            f"{len(blocks)} blocks and {len(ranks)} ranks"
        )
    for block, rank in zip(blocks, ranks, strict=True):
        if rank > min(block):
            raise ValueError(
                f"a block of shape {block} must have rank at most {min(block)}, but {rank} is asked"
            )
    m, n = (sum(block[k] for block in blocks) for k in (0, 1))
    M, mask = np.zeros((m, n)), np.zeros((m, n), dtype=bool)
    i = j = 0
    for (a, b), rank in zip(blocks, ranks, strict=True):
        M[i : i + a, j : j + b] = random_low_rank(rng, (a, b), rank)
        mask[i : i + a, j : j + b] = True
        i, j = i + a, j + b
    rows, cols = rng.permutation(m), rng.permutation(n)
    return MatrixCompletion(M[rows][:, cols], mask[rows][:, cols])


# Five classes of 4×4 data: the rank of the truth, how many entries are observed, and how they are
# connected.
CLASSES = {
    "tree, rank 1": (1, 7, "connected"),
    "connected with cycles, rank 1": (1, 9, "connected"),
    "connected, rank 2": (2, 12, "connected"),
    "complete components, rank 2": (2, None, "complete-bipartite"),
    "incomplete components, rank 2": (2, 8, "disconnected"),
}


def problem_of_class(rng: Rng, kind: str, *, loss: str = "mean") -> MatrixCompletion:
    """A random 4×4 problem of one of the five `CLASSES`, with a datum in every row and column.

    Raises ValueError for another kind.

    >>> problem = problem_of_class(0, "complete components, rank 2")
    >>> problem.shape, connectivity(problem.mask)
    ((4, 4), 'complete-bipartite')
    """
    rng = generator(rng)
    if kind not in CLASSES:
        raise ValueError(f"kind must be one of {list(CLASSES)}, but is {kind!r}")
    rank, size, wanted = CLASSES[kind]
    truth = random_low_rank(rng, (4, 4), rank)
    while True:
        mask = random_block_mask(rng, 4) if size is None else random_mask(rng, (4, 4), size)
        everywhere = mask.any(axis=0).all() and mask.any(axis=1).all()
        if everywhere and connectivity(mask) == wanted:
            return MatrixCompletion(truth, mask, loss=loss, truth=truth)


def figure_1_population(
    count: int, rng: Rng
) -> tuple[list[MatrixCompletion], list[tuple[int, int]]]:
    """The problems of Bai et al. 2024, Figure 1: 4×4, ranks 1 to 3, three sample sizes each.

    The sizes are 2rd − r² − 1, 2rd − r² and 2rd − r² + 1 with d = 4, `count` problems each, every
    one with its own truth and its own entries. Returns the problems and their pairs (rank, size).

    >>> problems, sizes = figure_1_population(2, np.random.default_rng(0))
    >>> len(problems), sizes[0], sizes[-1], problems[-1].n_observed
    (18, (1, 6), (3, 16), 16)
    """
    rng, count = generator(rng), whole_number("count", count, least=0)
    problems, sizes = [], []
    for rank in (1, 2, 3):
        for size in 8 * rank - rank**2 + np.array([-1, 0, 1]):
            for _ in range(count):
                truth = random_low_rank(rng, (4, 4), rank)
                mask = random_mask(rng, (4, 4), size)
                problems.append(MatrixCompletion(truth, mask, truth=truth))
                sizes.append((rank, int(size)))
    return problems, sizes


def connected_population(
    count: int, seed: int
) -> tuple[list[MatrixCompletion], list[tuple[int, int, int]]]:
    """Random connected problems around the number of unknowns, 2×2 to 6×6, ranks 1 to 3.

    The truth is n×n of rank r < n, and 2rn − r² + {−2, …, 2} entries are observed, at least one
    and not all; 2rn − r² is the dimension of the set of matrices of rank r. That makes 54 triples
    (n, r, size). All sets of observed entries are equally likely whose observation graph is
    connected; rows and columns without an observed entry do not count, as in Bai et al. 2024.

    Problem k draws from `default_rng([seed, k])` and belongs to triple k mod 54, so that each can
    be made by itself and a smaller population is the beginning of a larger one. Returns `count`
    problems of every triple and their triples.

    >>> problems, triples = connected_population(1, seed=0)
    >>> len(problems), triples[0], triples[-1]
    (54, (2, 1, 1), (6, 3, 29))
    >>> {connectivity(problem.mask) for problem in problems}
    {'connected'}
    """
    count = whole_number("count", count, least=0)
    seed = whole_number("seed", seed, least=0)
    triples = [
        (n, rank, size)
        for n in range(2, 7)
        for rank in range(1, min(n, 4))
        for size in range(2 * rank * n - rank**2 - 2, 2 * rank * n - rank**2 + 3)
        if 1 <= size < n * n
    ] * count
    problems = []
    for k, (n, rank, size) in enumerate(triples):
        rng = np.random.default_rng([seed, k])
        truth = random_low_rank(rng, (n, n), rank)
        mask = random_mask(rng, (n, n), size)
        while connectivity(mask) != "connected":
            mask = random_mask(rng, (n, n), size)
        problems.append(MatrixCompletion(truth, mask, truth=truth))
    return problems, triples
