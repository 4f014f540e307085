"""The signs between complete components at depth three and more, plateau after plateau.

In the singular bases of the blocks only the singular values s_i of all pairs i are left, and on a
plateau the layers follow, in a time without a scale,

    V' = ∇Φ(V),   Φ(V) = Σ_i s_i x_iᵀ V_2 ⋯ V_{N−1} y_i,

x_i the rows of V_1 and y_i the columns of V_N. Φ blows up along one hidden column (x, c, …, c, y),
where x_i' = c^(N−2) s_i y_i and y_i' = c^(N−2) s_i x_i. So the sign of x_i + y_i does not change
any more, and it is what the pair i enters the column with. On the k-th plateau that decides the
k-th pair of every component. Then these pairs have been learned and the hidden column has been
used; what is left of the layers goes on to the next plateau.
"""

from __future__ import annotations

import numpy as np

from mfbook.models.product import factor_gradients

Layers = list[np.ndarray]

# A hidden column goes by itself where it is larger than the others by this factor: what they do to
# each other from then on is the square of its inverse.
ALONE = 1e6
# The steps keep to this share of the layers as they begin; a column of 10^6 is right to 10^-10.
PRECISE = 1e-12
# Below this share of the largest a part of the column is the error of the steps.
NOTHING = 1e-9
# A start that shrinks to this share of itself, or that takes so many steps, leads to a saddle.
FADED, MOST_STEPS = 1e-6, 20_000


class Unmoved(Exception):
    """A plateau does not end, or a pair has no part in the column that ends it."""


def signs_of(sizes: list[np.ndarray], layers: Layers) -> list[np.ndarray]:
    """For every component the signs of its pairs.

    `sizes` are the singular values of the components, falling; the first layer has one row a pair,
    the last one column a pair, component after component.
    """
    s = np.concatenate(sizes)
    order = np.concatenate([np.arange(len(part)) for part in sizes])
    signs = np.zeros(len(s))
    for k in range(order.max(initial=-1) + 1):
        left = order >= k
        x, y, rest = plateau(s[left], layers)
        part = x + y
        here = order[left] == k
        if np.abs(part[here]).min() <= NOTHING * np.abs(part).max():
            raise Unmoved
        signs[order == k] = np.sign(part[here])
        later = ~here
        layers = [rest[0][later], *rest[1:-1], rest[-1][:, later]]
    return np.split(signs, np.cumsum([len(part) for part in sizes])[:-1])


def plateau(s: np.ndarray, layers: Layers) -> tuple[np.ndarray, np.ndarray, Layers]:
    """x and y of the column that outgrows the others, and the layers without it."""
    # SciPy's integrators take a third of a second to import.
    from scipy.integrate import DOP853

    shapes = [layer.shape for layer in layers]
    ends = np.cumsum([0, *(layer.size for layer in layers)])

    def unpacked(v: np.ndarray) -> Layers:
        return [v[a:b].reshape(c) for a, b, c in zip(ends, ends[1:], shapes, strict=False)]

    def slope(_: float, v: np.ndarray) -> np.ndarray:
        # In the clock dτ = |V|^(N−2) ds the layers grow exponentially and never blow up.
        parts = factor_gradients(unpacked(v), -np.diag(s))
        flat = np.concatenate([part.ravel() for part in parts])
        return -flat / (s.max() * np.linalg.norm(v) ** (len(layers) - 2))

    v = np.concatenate([layer.ravel() for layer in layers])
    size = np.linalg.norm(v)
    if size == 0:
        raise Unmoved
    v = v / size
    if not slope(0.0, v).any():
        raise Unmoved
    solver = DOP853(slope, 0.0, v, np.inf, rtol=PRECISE, atol=PRECISE)
    for _ in range(MOST_STEPS):
        solver.step()
        if solver.status != "running" or np.linalg.norm(solver.y) < FADED:
            break
        found = unpacked(solver.y)
        if all(_alone(layer) for layer in found):
            return _without_first(found)
    raise Unmoved


def _alone(layer: np.ndarray) -> bool:
    values = np.linalg.svd(layer, compute_uv=False)
    return bool(values[0] > 1 and (len(values) == 1 or values[1] * ALONE <= values[0]))


def _without_first(layers: Layers) -> tuple[np.ndarray, np.ndarray, Layers]:
    """(x, y) of the largest hidden column, its middle layers being positive, and the others."""
    turns = []
    q = np.linalg.svd(layers[0])[2][0]
    x = layers[0] @ q
    for layer in layers[1:]:
        turns.append(np.linalg.svd(q[:, None])[0][:, 1:])
        last, q = q, layer.T @ q
        q = q / np.linalg.norm(q)
    y = layers[-1].T @ last
    rest = []
    for j, layer in enumerate(layers):
        out = layer if j == 0 else turns[j - 1].T @ layer
        rest.append(out if j == len(layers) - 1 else out @ turns[j])
    return x, y, rest
