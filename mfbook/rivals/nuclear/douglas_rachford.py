"""Douglas–Rachford splitting: shrink the spectrum, go to the data, and so on."""

from __future__ import annotations

import math

import numpy as np

from mfbook.rivals.nuclear.data import EPS, Entries, Span

# Steps over the size of the data. The first is the fastest for most data. Few observed entries
# want a longer step, a spectrum over many magnitudes a shorter one: where the first left a gap of
# 1e-4 or 3e-5 (22×22 with 48 entries; 30×30, singular values 10^-k) these leave 1e-7 and 1e-6.
STEPS = (0.2, 1.0, 0.02)


def douglas_rachford(
    data: Entries | Span, psd: bool, tol: float, max_iters: int, steps: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """W, on the data or near, and S, a combination of the measurements, up to a relative gap.

        X = shrink(Z),   Z ← Z + project(2X − Z) − X

    At the fixed point X is a minimizer and (Z − X)/γ a dual solution: a subgradient of ‖·‖_* at
    X that is orthogonal to the affine set (Lions & Mercier 1979). The best W and the best S of
    all iterations and step sizes are kept.
    """
    scale = np.linalg.norm(data.particular, 2)
    Z = data.particular
    best_value, best_bound, best_W, best_S = math.inf, -math.inf, Z, Z
    for factor in steps:
        step, Z = factor * scale, data.particular
        for iteration in range(1, max_iters + 1):
            if psd:
                eigenvalues, V = np.linalg.eigh(Z)
                keep = eigenvalues > step
                X = (V[:, keep] * (eigenvalues[keep] - step)) @ V[:, keep].T
            else:
                U, s, Vt = np.linalg.svd(Z, full_matrices=False)
                keep = s > step
                X = (U[:, keep] * (s[keep] - step)) @ Vt[keep]
            if iteration % 10 == 0 or iteration == max_iters:
                W, S = data.project(X), data.normal(Z - X) / step
                # A projected X is a little indefinite: its nuclear norm, not its trace, is an
                # upper bound that cannot fall below the minimum by being infeasible.
                value = math.fsum(np.linalg.svd(W, compute_uv=False))
                size = np.linalg.eigvalsh(S)[-1] if psd else np.linalg.norm(S, 2)
                bound = (S * data.particular).sum() / max(size, EPS)
                if value < best_value:
                    best_value, best_W = value, X if psd else W
                if bound > best_bound:
                    best_bound, best_S = bound, S
                if best_value - best_bound <= tol * best_value:
                    return best_W, best_S
            Z = Z + data.project(2 * X - Z) - X
    return best_W, best_S
