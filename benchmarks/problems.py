"""The data that several tables are made with."""

import numpy as np

from mfbook.problems import MatrixCompletion


def low_rank(rng, m, n, rank, count, decay=1.0):
    """A matrix of mean square 1, whose singular values fall by a factor; `count` entries seen."""
    U, V = rng.standard_normal((m, rank)), rng.standard_normal((n, rank))
    if decay != 1.0:
        U, V = np.linalg.qr(U)[0] * decay ** np.arange(rank), np.linalg.qr(V)[0]
    truth = U @ V.T
    truth /= np.sqrt(np.mean(truth**2))
    mask = np.zeros(m * n, dtype=bool)
    mask[rng.choice(m * n, count, replace=False)] = True
    mask = mask.reshape(m, n)
    return MatrixCompletion(np.where(mask, truth, np.nan), mask, loss="half", truth=truth)
