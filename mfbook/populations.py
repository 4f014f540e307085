"""Random problems that several experiments draw from."""

from __future__ import annotations

import numpy as np

from mfbook.graph import connectivity
from mfbook.problems import MatrixCompletion


def random_mask(rng: np.random.Generator, shape: tuple[int, int], size: int) -> np.ndarray:
    """A mask with `size` observed entries, all sets of that size equally likely.

    >>> int(random_mask(np.random.default_rng(0), (4, 4), 7).sum())
    7
    """
    if not 1 <= size <= shape[0] * shape[1]:
        raise ValueError(f"size must be between 1 and {shape[0] * shape[1]}, but is {size}")
    mask = np.zeros(shape[0] * shape[1], dtype=bool)
    mask[rng.permutation(mask.size)[:size]] = True
    return mask.reshape(shape)


def random_block_mask(rng: np.random.Generator, d: int) -> np.ndarray:
    """A d×d mask that is disconnected with complete bipartite components.

    Rows and columns draw one of two or three groups, and an entry is observed where they agree.

    >>> connectivity(random_block_mask(np.random.default_rng(0), 4))
    'complete-bipartite'
    """
    if d < 2:
        raise ValueError(f"d must be at least 2 for two components, but is {d}")
    while True:
        groups = rng.integers(2, 4)
        mask = rng.integers(0, groups, d)[:, None] == rng.integers(0, groups, d)
        if mask.any() and connectivity(mask) == "complete-bipartite":
            return mask


def random_low_rank(rng: np.random.Generator, shape: tuple[int, int], rank: int) -> np.ndarray:
    """A product of Gaussian factors of inner dimension `rank`."""
    return rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))


def figure_1_population(
    count: int, rng: np.random.Generator
) -> tuple[list[MatrixCompletion], list[tuple[int, int]]]:
    """The problems of Bai et al. 2024, Figure 1: 4×4, ranks 1 to 3, three sample sizes each.

    The sizes are 2rd − r² − 1, 2rd − r² and 2rd − r² + 1 with d = 4, `count` problems each, every
    one with its own truth and its own entries. Returns the problems and their pairs (rank, size).

    >>> problems, sizes = figure_1_population(2, np.random.default_rng(0))
    >>> len(problems), sizes[0], sizes[-1], problems[-1].n_observed
    (18, (1, 6), (3, 16), 16)
    """
    problems, sizes = [], []
    for rank in (1, 2, 3):
        for size in 8 * rank - rank**2 + np.array([-1, 0, 1]):
            for _ in range(count):
                truth = random_low_rank(rng, (4, 4), rank)
                mask = random_mask(rng, (4, 4), size)
                problems.append(MatrixCompletion(truth, mask, truth=truth))
                sizes.append((rank, int(size)))
    return problems, sizes
