"""Slopes of N layers along a gradient, by products of layers alone.

With L_k = W_1 ⋯ W_k and X_k = −G (W_{k+1} ⋯ W_N)ᵀ, the slope of layer k is L_{k−1}ᵀ X_k, and
X_{k−1} is X_k W_kᵀ: one sweep forward, G at what is observed, one sweep back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfbook.flow.deep.layers import Layers


def slopes_along(G: Any, layers: Layers, lefts: list[np.ndarray] | None = None) -> Layers:
    """−(W_1 ⋯ W_{k−1})ᵀ G (W_{k+1} ⋯ W_N)ᵀ for every layer; G is anything that multiplies."""
    lefts = partial_products(layers) if lefts is None else lefts
    return swept_back(lefts, pulled(G, layers[-1]), layers, G)[0]


def partial_products(layers: Layers) -> list[np.ndarray]:
    """L_1, …, L_{N−1}."""
    lefts = [layers[0]]
    for layer in layers[1:-1]:
        lefts.append(lefts[-1] @ layer)
    return lefts


def pulled(G: Any, last: np.ndarray) -> np.ndarray:
    """−G W_Nᵀ."""
    return -(G @ np.ascontiguousarray(last.T))


def swept_back(
    lefts: list[np.ndarray], X: np.ndarray, layers: Layers, G: Any
) -> tuple[Layers, list[np.ndarray]]:
    """The slopes, and X_1, …, X_{N−1}."""
    slopes: list[np.ndarray] = [-(G.T @ lefts[-1]).T]
    Xs = [X]
    for k in range(len(layers) - 2, 0, -1):
        slopes.append(lefts[k - 1].T @ X)
        X = X @ layers[k].T
        Xs.append(X)
    return (X, *slopes[::-1]), Xs[::-1]
