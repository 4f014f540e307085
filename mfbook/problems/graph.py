"""Who is linked: the graph of the observed entries, and its connectivity.

Rows and columns of the matrix are the vertices, observed entries the edges. An observed zero is
an edge like any other: its residual enters the gradient as soon as its row and column grow.
(Bai et al. 2024 assume observed values to be nonzero, where the two readings agree.)

A symmetric problem has a graph H of its own, on d vertices: an observed pair is an edge, an
observed diagonal entry a loop. The graph of rows and columns is its bipartite double cover, so a
connected H has a connected cover unless it is bipartite; then the cover falls in two, and H is the
graph of rows and columns of a problem in two factors. A mask alone always means rows and columns.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mfbook.problems.checks import observed_mask, whole_number
from mfbook.problems.protocols import EntryProblem, is_symmetric

LARGEST_CATALOGUE = 5


def observation_graph(mask: ArrayLike | EntryProblem) -> nx.Graph[Any]:
    """The graph of the observed entries, without isolated vertices.

    Of a mask, or of a problem in two factors, it is the bipartite graph G_M: vertices are
    ("row", i) and ("col", j), and {("row", i), ("col", j)} is an edge where mask[i, j] is True (Bai
    et al. 2024, Definition 1 / A.1). Of a symmetric problem it is H: vertices are 0, …, d − 1, and
    {i, j} is an edge where M_ij is observed, a loop where i = j.

    Parameters
    ----------
    mask
        (m, n) boolean array, True where an entry is observed; or a completion problem.

    Raises
    ------
    TypeError
        a mask that is not boolean, a problem of measurements, which may link anything.
    ValueError
        a mask of other than two dimensions.

    Examples
    --------
    >>> graph = observation_graph(np.array([[True, True], [False, False]]))
    >>> sorted(graph)
    [('col', 0), ('col', 1), ('row', 0)]
    >>> from mfbook.problems import SymmetricCompletion
    >>> sorted(observation_graph(SymmetricCompletion.from_text("1 2 ?; 2 ? ?; ? ? ?")).edges)
    [(0, 0), (0, 1)]
    """
    mask, symmetric = _read(mask)
    graph: nx.Graph[Any] = nx.Graph()
    entries = ((int(i), int(j)) for i, j in np.argwhere(mask))
    graph.add_edges_from(entries if symmetric else ((("row", i), ("col", j)) for i, j in entries))
    return graph


def _read(mask: Any) -> tuple[np.ndarray, bool]:
    """The mask, and whether it is that of a symmetric problem."""
    if hasattr(mask, "observes_entries"):
        if not mask.observes_entries:
            raise TypeError(
                f"a graph of observed entries belongs to a mask or a completion problem, but this "
                f"is a {type(mask).__name__}: measurements may link anything"
            )
        return mask.mask, is_symmetric(mask)
    return observed_mask(mask), False


def entry_graph(mask: ArrayLike | EntryProblem) -> nx.Graph[tuple[int, int]]:
    """The graph whose vertices are the observed entries, adjacent within a row or a column.

    (Bai et al. 2024, Definition A.4.) Vertices are pairs (i, j). For a mask, or a problem in two
    factors, it is the line graph of `observation_graph(mask)`, but is built here from its own
    definition, so that the two can be compared. Takes and raises what `observation_graph` does.

    >>> graph = entry_graph(np.array([[True, True], [False, True]]))
    >>> sorted(graph.edges)
    [((0, 0), (0, 1)), ((0, 1), (1, 1))]
    """
    entries = [(int(i), int(j)) for i, j in np.argwhere(_read(mask)[0])]
    graph: nx.Graph[tuple[int, int]] = nx.Graph()
    graph.add_nodes_from(entries)
    graph.add_edges_from(
        (a, b)
        for k, a in enumerate(entries)
        for b in entries[k + 1 :]
        if a[0] == b[0] or a[1] == b[1]
    )
    return graph


def components(mask: ArrayLike | EntryProblem) -> list[tuple[np.ndarray, np.ndarray]]:
    """The connected components, as pairs (rows, cols) of sorted index arrays.

    Ordered by their smallest row. Rows and columns without an observed entry are in none.
    (Bai et al. 2024, Definition 2 / A.2.) Those of a symmetric problem are those of its graph H,
    and rows and cols are both the vertices of the component. Takes and raises what
    `observation_graph` does; a mask that observes nothing has no component.

    >>> M1 = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]]) == 1
    >>> [(rows.tolist(), cols.tolist()) for rows, cols in components(M1)]
    [([0, 1], [0, 1]), ([2], [2])]
    """
    mask, symmetric = _read(mask)
    if symmetric:
        return symmetric_parts(mask)
    # SciPy's search takes some five times as long for small masks, nearly all of it to build the
    # sparse matrix, and chapters ask for the components of very many.
    parts, left = [], mask.any(axis=1)
    while left.any():
        rows, cols = np.zeros(len(mask), dtype=bool), np.zeros(mask.shape[1], dtype=bool)
        new = np.arange(len(mask)) == left.argmax()
        while new.any():
            rows |= new
            met = mask[new].any(axis=0) & ~cols
            cols |= met
            new = mask[:, met].any(axis=1) & ~rows
        left &= ~rows
        parts.append((np.flatnonzero(rows), np.flatnonzero(cols)))
    return parts


def symmetric_parts(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The components of the graph of a symmetric mask on d vertices, as `components` has them."""
    _, label = connected_components(coo_array(mask), directed=False)
    vertices = (np.flatnonzero(label == k) for k in dict.fromkeys(label[mask.any(axis=1)]))
    return [(part, part) for part in vertices]


def connectivity(mask: ArrayLike | EntryProblem) -> str:
    """Say whether a mask is "connected", "disconnected" or "complete-bipartite".

    The last means disconnected with every component complete: all entries where its rows and
    columns meet are observed. (Bai et al. 2024, Definitions 2 and 3.)

    For a symmetric problem "connected" and "disconnected" speak of its graph H, and the last means
    that H is disconnected and every component of rows and columns is complete: in H, a complete
    graph with all loops, or a complete bipartite one without any.

    Takes and raises what `observation_graph` does, and ValueError for an empty mask, whose graph
    has no vertex.

    >>> connectivity(np.array([[True, True], [True, False]]))
    'connected'
    >>> connectivity(np.eye(2, dtype=bool))
    'complete-bipartite'
    """
    parts = components(mask)
    if not parts:
        raise ValueError("mask selects no entry: its observation graph is empty; observe one")
    if len(parts) == 1:
        return "connected"
    mask, _ = _read(mask)
    complete = all(mask[np.ix_(rows, cols)].all() for rows, cols in components(mask))
    return "complete-bipartite" if complete else "disconnected"


def sampling_patterns(n: int, size: int | None = None) -> list[np.ndarray]:
    """One mask for each class of n×n patterns up to row and column permutation and transpose.

    Ordered by the number of observed entries (`size` keeps only one number); the empty pattern
    is left out. Each class is shown by its largest member, read row by row as a binary number.
    (Bai et al. 2024, Section B.3, lists 23 of the 25 classes of n = 3.)

    The classes of size s + 1 are found by adding an entry to those of size s in all ways.
    Supported for n ≤ 5 (n = 6 has more than 100,000 classes). Raises ValueError for another n, or
    a size that no pattern has, and TypeError for what is no integer.

    >>> [len(sampling_patterns(3, size)) for size in range(1, 10)]
    [1, 2, 4, 5, 5, 4, 2, 1, 1]
    """
    n = whole_number("n", n, least=1)
    if n > LARGEST_CATALOGUE:
        raise ValueError(
            f"n must be between 1 and {LARGEST_CATALOGUE}, but is {n}: larger catalogues do not "
            "fit in memory; draw random masks instead"
        )
    if size is not None:
        size = whole_number("size", size, least=1, most=n * n, because=f"n = {n}")
    found: list[np.ndarray] = []
    level = np.zeros((1, n, n), dtype=bool)
    for entries in range(1, (n * n if size is None else size) + 1):
        grown = level[:, None] | np.eye(n * n, dtype=bool).reshape(1, n * n, n, n)
        grown = grown.reshape(-1, n, n)
        grown = grown[grown.sum(axis=(1, 2)) == entries]
        codes = np.unique(_canonical_codes(grown))[::-1]
        level = (codes[:, None] >> np.arange(n * n)[::-1] & 1).astype(bool).reshape(-1, n, n)
        if size is None or size == entries:
            found.extend(level)
    return found


def _canonical_codes(masks: np.ndarray) -> np.ndarray:
    """The largest code, read row by row, that a mask takes under the symmetries.

    For a fixed order of the rows the best order of the columns is found by sorting them, so n!
    orders of the rows are tried instead of (n!)² of both.
    """
    n = masks.shape[-1]
    place = 1 << np.arange(n)[::-1]
    best = np.zeros(len(masks), dtype=np.int64)
    for oriented in (masks, masks.transpose(0, 2, 1)):
        for order in permutations(range(n)):
            columns = place @ oriented[:, list(order)].astype(np.int64)
            columns = -np.sort(-columns, axis=1)
            bits = columns[:, None, :] >> np.arange(n)[::-1, None] & 1
            best = np.maximum(best, bits.reshape(len(masks), -1) @ (1 << np.arange(n * n)[::-1]))
    return best
