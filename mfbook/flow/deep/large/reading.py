"""What is read off a state of large layers, in the engine's units."""

from __future__ import annotations

import numpy as np

from mfbook.flow.deep.large.field import Data
from mfbook.flow.deep.large.state import State, all_felt, carried
from mfbook.flow.deep.slopes import partial_products


def ends_of(data: Data, state: State) -> tuple[np.ndarray, np.ndarray]:
    """L and R with W = L R of what is felt, and of the rest where a double holds it."""
    if 0 not in state.widths:
        return partial_products(state.felt)[-1], state.felt[-1]
    log = len(state.felt) * state.ell
    if not state.waits or log < -745.0:
        m, n = data.shape
        return np.zeros((m, 1)), np.zeros((1, n))
    return np.exp(log) * partial_products(state.quiet)[-1], state.quiet[-1]


def W_of(data: Data, state: State) -> np.ndarray:
    """W on the measured rows and columns."""
    L, R = ends_of(data, state)
    return L @ R


def size_of(data: Data, state: State) -> float:
    """‖W‖_F, without forming W."""
    L, R = ends_of(data, state)
    return float(np.sqrt(max(np.sum((L.T @ L) * (R @ R.T)), 0.0)))


def singular_values_of(data: Data, state: State) -> np.ndarray:
    """Those of W on the measured rows and columns."""
    L, R = ends_of(data, state)
    count = min(data.shape)
    if L.shape[1] >= count:
        return np.linalg.svd(L @ R, compute_uv=False)
    inner = np.linalg.qr(L)[1] @ np.linalg.qr(R.T)[1].T
    values = np.linalg.svd(inner, compute_uv=False)
    return np.concatenate([values, np.zeros(max(count - len(values), 0))])[:count]


def loss_of(data: Data, state: State) -> float:
    return data.observed.gradient(*ends_of(data, state))[1]


def layers_of(state: State) -> list[np.ndarray]:
    """The layers in the caller's hidden bases."""
    state = carried(state)
    whole = all_felt(state).felt
    last = len(whole) - 1
    out = []
    for j, layer in enumerate(whole):
        left = layer if j == 0 else state.bases[j - 1] @ layer
        out.append(left if j == last else left @ state.bases[j].T)
    return out
