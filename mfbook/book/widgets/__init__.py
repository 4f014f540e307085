"""What a reader touches: explorers, alive in a page without a kernel and in a notebook with one.

Each function here, as the last expression of a cell, shows one explorer. In the built page it is
computed by the page itself; in a running notebook by the Python engine, and what the reader did
comes back: `explorer.problem`, `explorer.seed`, `explorer.log10_scale`, `explorer.run`.
"""

from mfbook.book.widgets.explorer import Explorer
from mfbook.book.widgets.kinds.depth import depth
from mfbook.book.widgets.kinds.greedy import greedy
from mfbook.book.widgets.kinds.map import map
from mfbook.book.widgets.kinds.mask import mask
from mfbook.book.widgets.kinds.matrix import matrix
from mfbook.book.widgets.kinds.predict import predict
from mfbook.book.widgets.kinds.scale import scale
from mfbook.book.widgets.kinds.seed import seed
from mfbook.book.widgets.kinds.time import time

__all__ = [
    "Explorer",
    "depth",
    "greedy",
    "map",
    "mask",
    "matrix",
    "predict",
    "scale",
    "seed",
    "time",
]
