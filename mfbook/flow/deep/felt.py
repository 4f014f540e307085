"""What of the layers is felt: how that begins, grows and shrinks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from mfbook.flow.deep.data import Data
from mfbook.flow.deep.layers import (
    Layers,
    Level,
    State,
    sizes_of,
    split,
    turned_felt,
    without_dead,
)
from mfbook.flow.deep.march import APART, LINKED
from mfbook.flow.deep.passengers import Passenger

# A block that felt columns have below this share of their size goes by itself, linearly.
TRACE = 1e-7

# A block has something left to learn where its gradient is above this share of that at zero.
LEFT = 1e-9


def started(data: Data, layers: Layers, log_start: float, log_felt: float) -> State:
    """All layers felt, or all of them one level, without columns that are zero."""
    layers, bases = without_dead(layers)
    depth = len(layers)
    everything = tuple(range(len(data.blocks)))
    m, n = data.shape
    log_size = float(
        depth * log_start
        + sum(np.log(np.linalg.norm(layer)) if layer.any() else -np.inf for layer in layers)
    )
    if log_size >= log_felt or data.scale == 0.0:
        felt = tuple(np.exp(log_start) * layer for layer in layers)
        return State(felt, (), bases, everything)
    ends = [m, *[0] * (depth - 1), n]
    felt = tuple(np.zeros(shape) for shape in pairwise(ends))
    # Of two layers that are zero on what is measured nothing is left between them.
    size = max(float(s.max(initial=0.0)) for s in sizes_of(layers))
    scaled = tuple(layer / size for layer in layers)
    rows, cols = [0, *ends[1:-1]], [*ends[1:-1], 0]
    into = tuple(
        np.zeros((r, V.shape[1] if k < depth - 1 else 0))
        for k, (r, V) in enumerate(zip(rows, scaled, strict=True))
    )
    out_of = tuple(
        np.zeros((V.shape[0] if k else 0, c))
        for k, (c, V) in enumerate(zip(cols, scaled, strict=True))
    )
    level = Level(scaled, log_start + float(np.log(size)), into, out_of)
    return State(felt, (level,), bases, everything)


def log_trace(state: State) -> float:
    """The logarithm of the size at which a passenger is felt."""
    largest = max(float(s.max()) for s in sizes_of(state.felt))
    return float(np.log(TRACE * largest))


def taken_in(data: Data, state: State, grown: list[Passenger]) -> State:
    """The state with the blocks of passengers that have grown among those it has."""
    old = data.part(state.present)
    present = tuple(sorted({*state.present, *(p.pairs.block for p in grown)}))
    new = data.part(present)
    first = np.zeros((len(new.rows), state.felt[0].shape[1]))
    last = np.zeros((state.felt[-1].shape[0], len(new.cols)))
    first[np.searchsorted(new.rows, old.rows)] = state.felt[0]
    last[:, np.searchsorted(new.cols, old.cols)] = state.felt[-1]
    for passenger in grown:
        X, Y = passenger.blocks()
        first[np.searchsorted(new.rows, passenger.pairs.rows)] = X
        last[:, np.searchsorted(new.cols, passenger.pairs.cols)] = Y
    left = tuple(p for p in state.passengers if p not in grown)
    felt = (first, *state.felt[1:-1], last)
    return replace(state, felt=felt, present=present, passengers=left)


def split_while_moving(data: Data, state: State) -> State:
    """The state without columns that are far below the others and hardly linked to them."""
    sizes = [np.sort(s)[::-1] for s in sizes_of(state.felt)]
    if any(s[-1] > APART * s[0] for s in sizes):
        return state
    for r in range(1, min(state.widths) + 1):
        if not all(r == len(s) or s[r] <= APART * s[r - 1] for s in sizes):
            continue
        if all(r == len(s) for s in sizes):
            return state
        turned = turned_felt(state, 0.0)
        parted = split(turned, r, data.part(state.present), data.shape)
        if len(parted.levels) == len(state.levels):
            return parted
        level = parted.levels[0]
        least = min(float(s.max(initial=0.0)) for s in sizes_of(level.layers))
        blocks = [*level.into, *level.out_of]
        if max(float(np.abs(b).max(initial=0.0)) for b in blocks) > LINKED * least:
            return state
        clear = replace(
            level,
            into=tuple(0 * b for b in level.into),
            out_of=tuple(0 * b for b in level.out_of),
        )
        return replace(parted, levels=(clear, *parted.levels[1:]))
    return state


def has_more(data: Data, G: np.ndarray, block: tuple[np.ndarray, ...]) -> bool:
    """Whether these rows and columns are not fitted where the gradient is G."""
    return bool(np.linalg.norm(G[np.ix_(*block)]) > LEFT * np.linalg.norm(data.at_zero))


def no_felt(data: Data, present: tuple[int, ...], depth: int) -> Layers:
    """Layers without hidden columns."""
    part = data.part(present)
    ends = [len(part.rows), *[0] * (depth - 1), len(part.cols)]
    return tuple(np.zeros(shape) for shape in pairwise(ends))


def no_trace(data: Data, k: int, width: int) -> Passenger:
    """A passenger that felt columns have nothing of."""
    pairs = data.pairs[k]
    count = len(pairs.s)
    return Passenger(pairs, np.zeros((count, 2 * width)), np.full(count, -np.inf))
