"""The data as layers see them that feel some blocks of rows and columns only."""

from __future__ import annotations

import numpy as np

from mfbook.flow.deep.kernel import Terms


class Part:
    """The data of some of the blocks: terms in their own rows and columns, and the others'."""

    def __init__(self, whole: Terms, blocks: list[tuple[np.ndarray, np.ndarray]]) -> None:
        empty = np.zeros(0, dtype=int)
        self.rows = np.sort(np.concatenate([empty, *(rows for rows, _ in blocks)]))
        self.cols = np.sort(np.concatenate([empty, *(cols for _, cols in blocks)]))
        kept = np.isin(whole.i, self.rows) & np.isin(whole.j, self.cols)
        numbers, of = np.unique(whole.of[kept], return_inverse=True)
        self.terms = Terms(
            of=of.astype(np.int64),
            i=np.searchsorted(self.rows, whole.i[kept]).astype(np.int64),
            j=np.searchsorted(self.cols, whole.j[kept]).astype(np.int64),
            c=np.ascontiguousarray(whole.c[kept]),
            values=np.ascontiguousarray(whole.values[numbers]),
            weight=whole.weight,
        )
        others = np.delete(whole.values, numbers)
        self.loss_of_others = whole.weight * float(np.sum(others**2))
