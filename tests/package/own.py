"""What a reader may bring: a problem of a class of one's own, and what other packages have."""

import numpy as np


class Own:
    """What engines ask of the problem `inner`, and nothing else."""

    observes_entries = False

    def __init__(self, inner):
        for name in ("shape", "weight", "parts", "targets", "attainable", "sizes"):
            setattr(self, name, getattr(inner, name))
        self.measure, self.adjoint = inner.measure, inner.adjoint


class Frame:
    """What NumPy sees of a DataFrame: an array of objects."""

    def __init__(self, rows):
        self.rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype or object)


class NAType:  # the name of the type of pandas.NA
    pass
