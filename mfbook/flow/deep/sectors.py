"""Sectors: what no path of entries of the layers and of ∇f links, and what stays zero between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mfbook.flow.deep.kernel import Terms
from mfbook.flow.deep.layers import Layers, State
from mfbook.flow.deep.part import Part


def linked(layers: Sequence[Layers], seen: np.ndarray) -> list[np.ndarray]:
    """Numbers of the components of rows, hidden columns and columns.

    What an entry of some of the layers links, and rows and columns where `seen`, (m, n), is true.
    """
    sizes = [layers[0][0].shape[0], *(layer.shape[1] for layer in layers[0])]
    begins = np.concatenate([[0], np.cumsum(sizes)])
    links = np.zeros((begins[-1], begins[-1]), dtype=bool)
    for some in layers:
        for j, layer in enumerate(some):
            links[begins[j] : begins[j + 1], begins[j + 1] : begins[j + 2]] |= layer != 0.0
    links[: begins[1], begins[-2] :] |= seen
    _, labels = connected_components(csr_array(links), directed=False)
    return [labels[low:high] for low, high in pairwise(begins)]


def sectors_of(terms: Terms, layers: Layers) -> list[np.ndarray] | None:
    """Numbers of the sectors of rows, hidden columns and columns of W; None where there is one.

    Link what an entry of a layer links, and rows and columns that ∇f links. An entry between two
    of the components that is zero at the start stays so, and rounding must not lead out of there.
    """
    seen = np.zeros((len(layers[0]), layers[-1].shape[1]), dtype=bool)
    seen[terms.i, terms.j] = True
    labels = linked([layers], seen)
    return labels if any(label.any() for label in labels) else None


def allowed_entries(part: Part, sectors: list[np.ndarray], state: State) -> np.ndarray:
    """1 for the entries of the felt layers inside sectors, 0 for those between.

    Columns of different sectors share no row, so the bases never mix them.
    """
    rows, *hidden, cols = sectors
    of_columns = [
        labels[np.argmax(np.abs(basis[:, :width]), axis=0)]
        for labels, basis, width in zip(hidden, state.bases, state.widths, strict=True)
    ]
    ends = [rows[part.rows], *of_columns, cols[part.cols]]
    blocks = [a[:, None] == b[None, :] for a, b in pairwise(ends)]
    return np.concatenate([block.ravel() for block in blocks]).astype(float)
