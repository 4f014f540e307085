"""Layers that a flow could reach, and random symmetric words in these and ∇f.

What every word keeps, or shows twice, the flow keeps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfbook.flow.deep.layers import Layers
from mfbook.flow.deep.slopes import slopes_along
from mfbook.models import product

# So many random layers stand for all.
DRAWS = 4

Linear = Callable[[np.ndarray], np.ndarray]
# Layers and ∇f.
Point = tuple[Layers, np.ndarray]


def unit(matrix: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(matrix)
    return matrix / size if size > 0 else matrix


def reachable(layers: Layers, at_zero: np.ndarray, linear: Linear) -> list[Point]:
    """Layers, each of size one, that the flow could lead to with other steps and data; and ∇f."""
    rng = np.random.default_rng(0)
    layers = tuple(map(unit, layers))
    at_zero = unit(at_zero)
    found = [(layers, at_zero)]
    for _ in range(DRAWS):
        W = unit(product(layers))
        change = linear(W) if W.any() else np.zeros_like(at_zero)
        G = unit(rng.uniform(0.5, 1.5) * at_zero + rng.choice([-1, 1]) * unit(change))
        # The j-th layer and the last but j are treated alike, for they may be each other's mirror.
        share = rng.uniform(0.5, 1.5, (3, len(layers)))
        share = share + share[:, ::-1]
        layers = tuple(
            unit(a * V + b * unit(S) - 0.3 * c * unit(V @ V.T @ V))
            for V, S, a, b, c in zip(layers, slopes_along(G, layers), *share, strict=True)
        )
        found.append((layers, G))
    return found


def word(points: list[Point], space: int, rng: np.random.Generator) -> np.ndarray:
    """A random symmetric word in the layers and gradients, as a matrix of one space."""
    sizes = [points[0][0][0].shape[0], *(V.shape[1] for V in points[0][0])]
    blocks = [np.eye(size) for size in sizes]
    # Twice around: every space has seen all arrows.
    for _ in range(2 * len(sizes)):
        layers, G = points[rng.integers(len(points))]
        new = [rng.uniform(0.5, 1.5) * block for block in blocks]
        arrows = [(j, j + 1, V) for j, V in enumerate(layers)] + [(0, len(sizes) - 1, G)]
        for a, b, V in arrows:
            new[a] = new[a] + rng.uniform(0.5, 1.5) * (V @ blocks[b] @ V.T)
            new[b] = new[b] + rng.uniform(0.5, 1.5) * (V.T @ blocks[a] @ V)
        W, share = unit(product(layers)), rng.uniform(-1, 1)
        for end, round_trip in ((0, W @ G.T), (-1, W.T @ G)):
            new[end] = new[end] + share * (round_trip + round_trip.T)
        size = np.sqrt(sum(np.sum(block**2) for block in new))
        blocks = [block / size for block in new]
    return blocks[space]
