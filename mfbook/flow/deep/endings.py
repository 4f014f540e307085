"""Why a run of N layers is at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from mfbook.flow import trajectory
from mfbook.flow.deep.moments import Clock
from mfbook.flow.shallow.gauge import EPS
from mfbook.flow.unbounded import grows_on


class Seen(Protocol):
    """A moment of a run, small or large."""

    clock: Clock
    state: Any
    loss: float


class Terms(Protocol):
    """The observed terms of the loss."""

    @property
    def weight(self) -> float: ...

    @property
    def values(self) -> np.ndarray: ...


class Sizes(Protocol):
    """What is known of the data's size: that of W, and the largest curvature of the loss."""

    @property
    def scale(self) -> float: ...

    curvature: float


def ending(
    moments: Sequence[Seen],
    threshold: float,
    t_max: float,
    far: float,
    size_of: Callable[[Any], float] | None,
) -> str:
    """The reason why a run ends at its last moment, or '' where it goes on.

    `size_of` tells the size of W in a state in which layers are felt; without it there are none.
    """
    now = moments[-1]
    if now.loss <= threshold:
        return trajectory.LOSS_REACHED
    if np.isfinite(t_max) and now.clock.value >= t_max:
        return trajectory.TIME_LIMIT
    if size_of is not None and _runs_away(moments, far, size_of):
        return trajectory.UNBOUNDED
    return ""


def _runs_away(moments: Sequence[Seen], far: float, size_of: Callable[[Any], float]) -> bool:
    """Whether W is far beyond the data and has grown on while its time grew tenfold."""
    now = moments[-1]
    size = size_of(now.state)
    if size <= far:
        return False
    # Every orbit begins with a moment at 0.
    before = next(m for m in reversed(moments) if m.clock.local <= now.clock.local / 10)
    return grows_on(size, now.loss, size_of(before.state), before.loss)


def stuck(loss: float, size: float, terms: Terms, data: Sizes) -> str:
    """What a rest with nothing that grows is called: a fit, a critical point, or rounding."""
    if data.scale == 0.0:
        # Zero fits, and so does every rest: ⟨∇f(W), W⟩ is twice the loss.
        below = loss < np.finfo(float).tiny
        return trajectory.LOSS_REACHED if below else trajectory.DROWNED
    largest = np.abs(terms.values).max(initial=0.0) + data.curvature * size
    noise = terms.weight * len(terms.values) * (16 * EPS * largest) ** 2
    return trajectory.DROWNED if loss <= noise else trajectory.STUCK
