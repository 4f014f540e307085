"""What is read off a state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mfbook.flow.deep import kernel
from mfbook.flow.deep.data import Data
from mfbook.flow.deep.layers import State, flat, middle


def W_of(data: Data, state: State) -> np.ndarray:
    """W on the measured rows and columns."""
    W = np.zeros(data.shape)
    part = data.part(state.present)
    z, dims, offsets = flat(state.felt)
    if 0 not in dims:
        W[np.ix_(part.rows, part.cols)] = kernel.product_of(z, dims, offsets)
    for level in state.levels:
        z, dims, offsets = flat(level.layers)
        log = len(state.felt) * level.ell
        if log > -745.0 and 0 not in dims:
            W += np.exp(log) * kernel.product_of(z, dims, offsets)
    if state.passengers:
        K = middle(state.felt)
        for passenger in state.passengers:
            X, Y = passenger.blocks()
            pairs = passenger.pairs
            W[np.ix_(pairs.rows, part.cols)] += X @ K @ state.felt[-1]
            W[np.ix_(part.rows, pairs.cols)] += state.felt[0] @ K @ Y
            W[np.ix_(pairs.rows, pairs.cols)] += X @ K @ Y
    return W


def W_felt(data: Data, state: State) -> np.ndarray:
    """What felt columns alone make of W."""
    return W_of(data, replace(state, levels=(), passengers=()))


def layers_of(data: Data, state: State) -> list[np.ndarray]:
    """The layers in the caller's hidden bases, in the engine's units."""
    part = data.part(state.present)
    m, n = data.shape
    widths = [basis.shape[1] for basis in state.bases]
    shapes = list(zip([m, *widths], [*widths, n], strict=True))
    out = [np.zeros(shape) for shape in shapes]
    felt, last = state.felt, len(state.felt) - 1
    for j, F in enumerate(felt):
        rows = part.rows if j == 0 else np.arange(F.shape[0])
        cols = part.cols if j == last else np.arange(F.shape[1])
        out[j][np.ix_(rows, cols)] = F
    for passenger in state.passengers:
        X, Y = passenger.blocks()
        out[0][passenger.pairs.rows, : X.shape[1]] = X
        out[-1][: Y.shape[0], passenger.pairs.cols] = Y
    at = list(state.widths)
    for k, level in enumerate(state.levels):
        size = np.exp(level.ell)
        for j, V in enumerate(level.layers):
            row = 0 if j == 0 else at[j - 1]
            col = 0 if j == last else at[j]
            out[j][row : row + V.shape[0], col : col + V.shape[1]] += size * V
            if k == 0 and 0 < j < last:
                B, D = level.into[j], level.out_of[j]
                out[j][: B.shape[0], col : col + B.shape[1]] += size * B
                out[j][row : row + D.shape[0], : D.shape[1]] += size * D
        at = [a + w for a, w in zip(at, level.widths, strict=True)]
    for j in range(len(state.felt)):
        left = state.bases[j - 1] if j else np.eye(m)
        right = state.bases[j] if j < last else np.eye(n)
        out[j] = left @ out[j] @ right.T
    return out


def loss_of(data: Data, state: State) -> float:
    return data.loss(W_of(data, state))
