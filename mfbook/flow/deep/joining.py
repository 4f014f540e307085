"""A level, or one hidden column of it, becomes felt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mfbook.flow.deep.data import Data
from mfbook.flow.deep.felt import TRACE, has_more, no_felt, no_trace, taken_in
from mfbook.flow.deep.layers import State, merged
from mfbook.flow.deep.passengers import Passenger
from mfbook.flow.deep.plateau import Growth

# What a new column has of a block that felt columns have already moves in the same plain numbers as
# the rest of it. Below this share, some thousand roundings, its sign is rounding's.
LOST = 1e-12


def with_level(data: Data, state: State) -> State:
    """The state whose first level is felt, in all blocks."""
    return _with_blocks(data, state, tuple(range(len(data.blocks))))


def with_column(data: Data, state: State, growth: Growth, tau: float) -> tuple[State, bool]:
    """The state whose first level, one column that has grown, is felt; whether a part is lost.

    What it has of a block that felt columns have nothing of is a passenger where it is small.
    """
    log_a = growth.log_size(tau)
    sizes = [log for _, log in growth.parts(tau)]
    shown = {k for k, log in enumerate(sizes) if log >= log_a + np.log(TRACE)}
    empty = 0 in state.widths
    kept = set() if empty else set(state.present)
    lost = any(
        -np.inf < sizes[k] < log_a + np.log(LOST) and has_more(data, growth.G, data.blocks[k])
        for k in kept
    )
    lost |= any(_is_lost(data, growth, tau, support) for support in data.supports)
    present = tuple(sorted(kept | shown))
    width, known = 0 if empty else state.widths[0], _known(state)
    old = [
        known.get(k, no_trace(data, k, width)) for k in range(len(data.blocks)) if k not in present
    ]
    new = [p.joined_by(*growth.traces(p.pairs, tau)) for p in old]
    joined = _with_blocks(data, state, present)
    return replace(joined, passengers=tuple(p for p in new if p.size > -np.inf)), lost


def _is_lost(data: Data, growth: Growth, tau: float, support: tuple[np.ndarray, ...]) -> bool:
    """Whether next to nothing is left of what the column began with in these rows and columns."""
    rows, cols = support
    begins = [growth.level.layers[0][rows, 0], growth.level.layers[-1][0, cols]]
    if not has_more(data, growth.G, support) or not np.concatenate(begins).any():
        return False
    x, y = growth.directions(np.array([tau]))
    return bool(np.hypot(np.linalg.norm(x[0, rows]), np.linalg.norm(y[0, cols])) < LOST)


def _known(state: State) -> dict[int, Passenger]:
    return {p.pairs.block: p for p in state.passengers}


def _with_blocks(data: Data, state: State, present: tuple[int, ...]) -> State:
    """The first level merged; what passengers had of a block that is felt comes in with them."""
    if 0 in state.widths:
        felt = no_felt(data, present, len(state.felt))
        state = replace(state, present=present, felt=felt)
    else:
        known, width = _known(state), state.widths[0]
        arriving = [k for k in present if k not in state.present]
        state = taken_in(data, state, [known.get(k, no_trace(data, k, width)) for k in arriving])
    part = data.part(present)
    return replace(merged(state, part.rows, part.cols), passengers=())
