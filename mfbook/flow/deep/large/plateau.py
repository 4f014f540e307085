"""How quiet layers go on while felt ones rest: together, or one hidden column by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mfbook.flow.deep.felt import LEFT
from mfbook.flow.deep.joining import LOST
from mfbook.flow.deep.large.field import Data, Gradient
from mfbook.flow.deep.large.pieces import Plateau
from mfbook.flow.deep.large.quiet import AtRest, Lone, Still, dense
from mfbook.flow.deep.large.state import State, stood
from mfbook.flow.deep.march import SAFETY, SHRINK

# So many steps of a plateau are kept as one, where the layers have more than so many numbers.
TOGETHER, HEAVY = 8, 1_000_000


class Walk(NamedTuple):
    """Steps of quiet layers: the piece, None where they stand still; the next step; the cost."""

    piece: Plateau | None
    after: State
    tau: float | None
    n_gradients: int


def walk(
    state: State,
    G: Gradient | AtRest,
    h: float | None,
    tol: float,
    floor: float,
    is_over: Callable[[State], bool],
) -> Walk:
    """One step from a rest, or some of them for layers of many numbers, until the plateau is over.

    The first is of a length near h, where one is known; a slope below `floor` is rounding.
    """
    power = len(state.felt) - 2
    steps: list[float] = []
    ends: list[float] = []
    heavy = sum(V.size for V in state.quiet) > HEAVY
    now, n_gradients = state, 0
    for _ in range(TOGETHER if heavy else 1):
        still = Still(G, now.quiet)
        rate = still.rate
        if rate * still.pace <= floor:
            return Walk(None, now, h, n_gradients)
        h = min(h or 0.1 / rate, 2.0 / rate)
        y, error = still.step(h)
        while not error <= tol:
            h *= max(SHRINK, SAFETY * (tol / error) ** (1 / 8)) if np.isfinite(error) else 0.25
            y, error = still.step(h)
        n_gradients += still.n_gradients
        # s runs in units of the size at the beginning of the piece.
        s = float(y[-1]) * float(np.exp(-power * (now.ell - state.ell)))
        steps.append(h)
        ends.append(s + (ends[-1] if ends else 0.0))
        h *= min(3.0, SAFETY * (tol / max(error, 1e-300)) ** (1 / 8))
        now = stood(replace(now, quiet=still.layers(y)))
        if is_over(now):
            break
    piece = Plateau(state, G, tuple(steps), tuple(ends), -power * state.ell)
    return Walk(piece, now, h, n_gradients)


def after_waiting(state: State, G: Gradient | AtRest, time: float) -> tuple[State, int]:
    """The state whose quiet layers, little changed, have gone on for a time; and the gradients."""
    power = len(state.felt) - 2
    s = time * np.exp(power * state.ell)
    if not s > 0:
        return state, 0
    still = Still(G, state.quiet)
    y, _ = still.step(s * still.pace)
    return replace(state, quiet=still.layers(y)), still.n_gradients


def loses(column: Lone, tau: float, data: Data, G: Gradient | AtRest) -> bool:
    """Whether a column has, at τ, next to nothing of a component that has more to learn.

    It would grow, and its sign be that of rounding: small layers keep such parts by themselves.
    """
    if len(data.blocks) < 2:
        return False
    (x, *_, y), _ = column.at(tau)
    slope = dense(G)
    for rows, cols in data.blocks:
        part = max(float(np.abs(x[rows]).max()), float(np.abs(y[:, cols]).max()))
        more = float(np.linalg.norm(slope[np.ix_(rows, cols)])) > LEFT * data.top
        if more and part < LOST:
            return True
    return False
