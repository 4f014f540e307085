"""The state of N layers in hidden bases of its own: what W feels, and what it does not.

Between layers j and j+1 the hidden space may be rotated freely, (W_j Q, Qᵀ W_{j+1}). We choose Q
so that the columns of [W_j; W_{j+1}ᵀ] are orthogonal, sorted by size, and split them:

* `felt`: the layers restricted to the large columns, in plain numbers;
* `levels`: the layers restricted to the others, each level with a size exp(ell) of its own that may
  be 10^-10000, and smaller than that of the level before it by so much that it moves nothing there.

The conserved W_jᵀW_j − W_{j+1}W_{j+1}ᵀ is as small as the square of the start. So in these bases
the blocks that lead from felt columns of size a to unfelt ones of size p are of size p²/a. They are
kept where the split is mild (`into`, `out_of`), and left out where p/a is below 1e-8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mfbook.flow.deep.part import Part
from mfbook.flow.deep.passengers import Passenger
from mfbook.flow.shallow.gauge import (
    LOOSE,
    largest_cosine,
    normalised,
    orthogonalise,
    without_noise,
)
from mfbook.models import product

Layers = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Level:
    """Layers exp(ell) · V_j that W does not feel, and their blocks to and from what it does.

    `into[j]` leads from felt columns before layer j to the level's after it, `out_of[j]` from the
    level's to felt ones, both in units of exp(ell); for the first and the last layer, which begin
    and end at rows and columns of W, they have no rows or no columns.
    """

    layers: Layers
    ell: float
    into: Layers
    out_of: Layers

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(layer.shape[1] for layer in self.layers[:-1])


@dataclass(frozen=True)
class State:
    """Felt layers, levels, and the bases that lead back to the caller's hidden spaces.

    `bases[j]` has the hidden vectors behind layer j as columns, those of the felt block first, then
    those of each level. `present` are the components whose rows and columns the felt layers have;
    the parts of the others in felt columns are the `passengers`.
    """

    felt: Layers
    levels: tuple[Level, ...]
    bases: Layers
    present: tuple[int, ...]
    passengers: tuple[Passenger, ...] = ()

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(layer.shape[1] for layer in self.felt[:-1])


def flat(layers: Layers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vector of all layers, their dimensions, and where each begins."""
    dims = np.array([layers[0].shape[0], *(layer.shape[1] for layer in layers)], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(dims[:-1] * dims[1:])]).astype(np.int64)
    return np.concatenate([layer.ravel() for layer in layers]), dims, offsets


def unflat(z: np.ndarray, dims: np.ndarray, offsets: np.ndarray) -> Layers:
    return tuple(
        z[low:high].reshape(rows, cols)
        for (low, high), (rows, cols) in zip(pairwise(offsets), pairwise(dims), strict=True)
    )


def middle(layers: Layers) -> np.ndarray:
    """K = W_2 ⋯ W_{N−1}."""
    return product(layers[1:-1])


def sizes_of(layers: Layers) -> list[np.ndarray]:
    """|[W_j; W_{j+1}ᵀ]| of every hidden column, interface by interface."""
    return [
        np.sqrt(np.einsum("ij,ij->j", a, a) + np.einsum("ij,ij->i", b, b))
        for a, b in pairwise(layers)
    ]


def turned(layers: Layers, loose: float = LOOSE) -> tuple[Layers, list[np.ndarray | None]]:
    """The layers in hidden bases whose columns are orthogonal, and the rotations; None for none.

    Turning one interface leaves the lengths and angles of the columns at the others as they are.
    """
    found: list[np.ndarray | None] = []
    out = list(layers)
    for j in range(len(layers) - 1):
        stack = np.ascontiguousarray(np.concatenate([out[j], out[j + 1].T]))
        width = stack.shape[1]
        X, ell = normalised(stack, np.zeros(width))
        sorted_already = bool(np.all(ell[1:] <= ell[:-1] + np.log(2.0)))
        if width == 0 or (sorted_already and largest_cosine(X) <= loose):
            found.append(None)
            continue
        live = ell > -np.inf
        V = np.eye(width)
        turnable = tuple(np.ascontiguousarray(a) for a in (X[:, live], ell[live], V[:, live]))
        X, ell, V_live = orthogonalise(*turnable)
        new = X * np.exp(ell)
        V = np.concatenate([V_live, V[:, ~live]], axis=1)
        new = np.concatenate([new, np.zeros((len(new), int((~live).sum())))], axis=1)
        rows = out[j].shape[0]
        out[j], out[j + 1] = new[:rows], np.ascontiguousarray(new[rows:].T)
        found.append(V)
    return tuple(out), found


def without_dead(layers: Layers) -> tuple[Layers, Layers]:
    """Layers in bases with orthogonal columns, without those that are zero, and those bases.

    A hidden direction along which both neighbours are zero stays so. Where a start has one, what a
    rotation leaves there is rounding: it is told from a small column by what it is the rest of.
    """
    out, bases = list(layers), []
    for j in range(len(layers) - 1):
        stack = np.ascontiguousarray(np.concatenate([out[j], out[j + 1].T]))
        X, ell = normalised(stack, np.zeros(stack.shape[1]))
        live = ell > -np.inf
        V = np.ascontiguousarray(np.eye(stack.shape[1])[:, live])
        X, ell = np.ascontiguousarray(X[:, live]), ell[live]
        noise = np.full_like(ell, ell.max(initial=-np.inf)) if len(ell) > len(stack) else ell
        X, ell, V = without_noise(X, ell, V, noise)
        kept = ell > -np.inf
        new, rows = X[:, kept] * np.exp(ell[kept]), out[j].shape[0]
        out[j], out[j + 1] = new[:rows], np.ascontiguousarray(new[rows:].T)
        bases.append(V[:, kept])
    return tuple(map(np.ascontiguousarray, out)), tuple(bases)


def turned_felt(state: State, loose: float = LOOSE) -> State:
    """The state with its felt columns made orthogonal where they lean."""
    felt, rotations = turned(state.felt, loose)
    if all(V is None for V in rotations):
        return state
    bases = list(state.bases)
    levels = list(state.levels)
    passengers = state.passengers
    for j, V in enumerate(rotations):
        if V is None:
            continue
        r = V.shape[0]
        bases[j] = np.concatenate([bases[j][:, :r] @ V, bases[j][:, r:]], axis=1)
        for k, level in enumerate(levels):
            into, out_of = list(level.into), list(level.out_of)
            into[j + 1] = V.T @ into[j + 1]
            out_of[j] = out_of[j] @ V
            levels[k] = replace(level, into=tuple(into), out_of=tuple(out_of))
    first, last = rotations[0], rotations[-1]
    passengers = tuple(p.turned(first, last) for p in passengers)
    return replace(
        state, felt=felt, bases=tuple(bases), levels=tuple(levels), passengers=passengers
    )


def turned_level(state: State, loose: float = LOOSE) -> State:
    """The state with its first level of size one, its columns made orthogonal where they lean."""
    level = state.levels[0]
    layers, rotations = turned(level.layers, loose)
    bases = list(state.bases)
    into, out_of = list(level.into), list(level.out_of)
    for j, V in enumerate(rotations):
        if V is None:
            continue
        low = state.widths[j]
        high = low + V.shape[0]
        bases[j] = bases[j].copy()
        bases[j][:, low:high] = bases[j][:, low:high] @ V
        into[j] = into[j] @ V
        out_of[j + 1] = V.T @ out_of[j + 1]
    new = of_size_one(Level(layers, level.ell, tuple(into), tuple(out_of)))
    return replace(state, levels=(new, *state.levels[1:]), bases=tuple(bases))


def of_size_one(level: Level) -> Level:
    """The level with its size in `ell`."""
    size = max(float(s.max(initial=0.0)) for s in sizes_of(level.layers))
    kinds = (level.layers, level.into, level.out_of)
    layers, into, out_of = (tuple(array / size for array in kind) for kind in kinds)
    return Level(layers, level.ell + float(np.log(size)), into, out_of)


def merged(state: State, rows: np.ndarray, cols: np.ndarray) -> State:
    """The first level joins the felt layers; `rows`, `cols` are what the felt layers have of W."""
    level = state.levels[0]
    scale = np.exp(level.ell)
    last = len(state.felt) - 1
    felt = []
    for j, (F, P) in enumerate(zip(state.felt, level.layers, strict=True)):
        if j == 0:
            felt.append(np.concatenate([F, scale * P[rows]], axis=1))
        elif j == last:
            felt.append(np.concatenate([F, scale * P[:, cols]], axis=0))
        else:
            top = np.concatenate([F, scale * level.into[j]], axis=1)
            felt.append(
                np.concatenate([top, np.concatenate([level.out_of[j], P], axis=1) * scale], axis=0)
            )
    widths = tuple(layer.shape[1] for layer in felt[:-1])
    others = tuple(_without_blocks(other, widths) for other in state.levels[1:])
    return replace(state, felt=tuple(map(np.ascontiguousarray, felt)), levels=others)


def _without_blocks(level: Level, widths: tuple[int, ...]) -> Level:
    """The level beside a felt block of those widths, with no blocks that link the two."""
    before, after = (0, *widths), (*widths, 0)
    into = tuple(np.zeros((w, V.shape[1])) for w, V in zip(before, level.layers, strict=True))
    out_of = tuple(np.zeros((V.shape[0], w)) for w, V in zip(after, level.layers, strict=True))
    # The first and the last layer have no such blocks.
    into = (*into[:-1], into[-1][:, :0])
    out_of = (out_of[0][:0], *out_of[1:])
    return Level(level.layers, level.ell, into, out_of)


def split(state: State, r: int, part: Part, shape: tuple[int, int]) -> State:
    """All felt columns but the r largest of every interface become a level, with its blocks.

    The felt layers have the rows and columns of `part`; a level has all of W's, whose `shape` is.
    """
    felt, layers, into, out_of = [], [], [], []
    last = len(state.felt) - 1
    for j, W in enumerate(state.felt):
        # The first layer has all rows of W on both sides, the last one all columns.
        row, col = (0 if j == 0 else r), (0 if j == last else r)
        felt.append(np.ascontiguousarray(W[: None if j == 0 else r, : None if j == last else r]))
        V = W[row:, col:]
        if j == 0:
            V = np.zeros((shape[0], V.shape[1]))
            V[part.rows] = W[:, col:]
        if j == last:
            V = np.zeros((V.shape[0], shape[1]))
            V[:, part.cols] = W[row:]
        layers.append(V)
        into.append(W[:row, col:] if j < last else W[:row, :0])
        out_of.append(W[row:, :col] if j else W[:0, :col])
    size = max(float(s.max(initial=0.0)) for s in sizes_of(tuple(layers)))
    if size == 0.0:
        return replace(state, felt=tuple(felt))
    ell = float(np.log(size))
    scaled = [tuple(array * np.exp(-ell) for array in kind) for kind in (layers, into, out_of)]
    level = Level(scaled[0], ell, scaled[1], scaled[2])
    return replace(state, felt=tuple(felt), levels=(level, *state.levels))


def divided(state: State) -> State:
    """The first level falls apart into its largest column at every interface, and the others."""
    level = state.levels[0]
    last = len(level.layers) - 1
    top, rest = [], []
    for j, V in enumerate(level.layers):
        rows, cols = slice(0, None if j == 0 else 1), slice(0, None if j == last else 1)
        top.append(V[rows, cols])
        rest.append(V[0 if j == 0 else 1 :, 0 if j == last else 1 :])
    first = Level(
        tuple(top),
        level.ell,
        tuple(B[:, : 1 if j < last else None] for j, B in enumerate(level.into)),
        tuple(D[: 1 if j else None] for j, D in enumerate(level.out_of)),
    )
    size = max((float(s.max(initial=0.0)) for s in sizes_of(tuple(rest))), default=0.0)
    if size == 0.0:
        return replace(state, levels=(first, *state.levels[1:]))
    second = Level(
        tuple(V / size for V in rest),
        level.ell + float(np.log(size)),
        tuple(B[:, 1 if j < last else 0 :] / size for j, B in enumerate(level.into)),
        tuple(D[1 if j else 0 :] / size for j, D in enumerate(level.out_of)),
    )
    return replace(state, levels=(first, second, *state.levels[1:]))
