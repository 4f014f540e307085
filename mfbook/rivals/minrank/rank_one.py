"""Rank one, exactly: potentials along a spanning forest, and the cycle that contradicts them."""

from __future__ import annotations

from fractions import Fraction

import networkx as nx
import numpy as np

from mfbook.problems.graph import observation_graph
from mfbook.rivals.minrank.component import NOISE, Component, Factors, too_far_apart

# A product that is smaller, or larger than its inverse, is not written out.
SMALLEST = Fraction(1, 10**300)


def rank_one(part: Component) -> tuple[Factors | None, str]:
    """Factors of width 1 and no reason, or no factors and the reason why none fit."""
    nonzero = part.values != 0
    clash = np.argwhere(part.mask & ~nonzero)
    if len(clash):
        return None, (
            f"the observed zero at {part.name(clash[:1])} meets a nonzero entry of its row and "
            "one of its column, which excludes rank 1"
        )
    u, v, forest = _potentials(part)
    rows, cols = np.nonzero(nonzero)
    with np.errstate(over="ignore"):
        off = np.abs(u[rows] * v[cols] / part.values[rows, cols] - 1)
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
        product *= Fraction(float(part.values[entry])) ** (1 if k % 2 == 0 else -1)
    return None, f"the alternating product around the cycle {part.name(cycle)} {_not_one(product)}"


def _not_one(product: Fraction) -> str:
    if abs(product - 1) < 1e-3:
        return f"differs from 1 by {float(product - 1):.3g}"
    if not SMALLEST < abs(product) < 1 / SMALLEST:  # a float may not hold it
        side = "below 10^-300" if abs(product) < 1 else "beyond 10^300"
        return f"is of a size {side}, not 1"
    return f"is {float(product):.6g}, not 1"


def _potentials(part: Component) -> tuple[np.ndarray, np.ndarray, nx.Graph[tuple[str, int]]]:
    """u, v with u_i v_j = M_ij on the edges of a spanning tree, and the tree."""
    u, v = np.zeros(len(part.values)), np.zeros(part.values.shape[1])
    graph = observation_graph(part.values != 0)
    tree: nx.Graph[tuple[str, int]] = nx.Graph()
    root = min(graph)
    (u if root[0] == "row" else v)[root[1]] = 1.0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for near, far in nx.bfs_edges(graph, root, sort_neighbors=sorted):
            tree.add_edge(near, far)
            if near[0] == "row":
                v[far[1]] = part.values[near[1], far[1]] / u[near[1]]
            else:
                u[far[1]] = part.values[far[1], near[1]] / v[near[1]]
    if not (np.isfinite(u).all() and np.isfinite(v).all() and u.all() and v.all()):
        raise too_far_apart(part.values)
    return u, v, tree
