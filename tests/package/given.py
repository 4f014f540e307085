"""What many tests of the package are given."""

import numpy as np

from mfbook.problems import MatrixCompletion


def full(M, **options):
    """The problem that observes every entry of M."""
    return MatrixCompletion(M, np.ones(np.shape(M), dtype=bool), **options)


def orthogonal(rng, n):
    """A random orthogonal n×n matrix."""
    return np.linalg.qr(rng.standard_normal((n, n)))[0]
