"""The phases of a run of three factors or more, and what else a trajectory reads off it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from mfbook.flow.deep.run import Run, Start
from mfbook.flow.trajectory import Phase, Trajectory, resting_times
from mfbook.problems.fit import gradient

# Rests are told apart down to this share of the gradient at zero; below it is rounding.
QUIET = 1e-12


class Readings:
    """What a trajectory tells of its run when it is asked."""

    def __init__(self, run: Run[Any, Any]) -> None:
        self.run = run

    @cached_property
    def Ws(self) -> list[np.ndarray]:
        return [self.run.W(moment.state) for moment in self.run.moments]

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        return np.array([np.linalg.svd(W, compute_uv=False) for W in self.Ws])

    def log10_columns(self, trajectory: Trajectory) -> None:
        return None

    @cached_property
    def rests(self) -> list[int]:
        norm = np.array([moment.norm for moment in self.run.moments])
        return resting_times(np.maximum(norm, QUIET * norm.max()))

    @cached_property
    def starts(self) -> list[Start | None]:
        """The middles of the steps from each rest to the next."""
        return self.run.starts([self.run.moments[k].loss for k in self.rests])

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        values = trajectory.singular_values
        known = 1e-3 * values.max()
        log_rate = float(np.log10(self.run.units.rate))
        found = []
        for place, k in enumerate(self.rests):
            moment = self.run.moments[k]
            start = self.starts[place - 1] if place else None
            last = place == len(self.rests) - 1
            found.append(
                Phase(
                    time=float(trajectory.t[k]),
                    rank=int((values[k] > known).sum()),
                    W=self.Ws[k],
                    loss=float(trajectory.loss[k]),
                    direction=None if last else self._direction(self.Ws[k]),
                    factors=self.run.factors(moment.state),
                    log10_time=moment.clock.log / float(np.log(10.0)) - log_rate,
                    log10_arrival=None
                    if start is None
                    else start.log / float(np.log(10.0)) - log_rate,
                )
            )
        return tuple(found)

    def _direction(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The top singular pair of −∇f, along which W leaves a plateau."""
        u, _, vt = np.linalg.svd(-gradient(self.run.problem, W))
        sign = float(np.sign(u[np.argmax(np.abs(u[:, 0])), 0]))
        return sign * u[:, 0], sign * vt[0]

    def W_in(self, phase: int, t: float) -> np.ndarray:
        """W at t by the clock of a phase."""
        start = Start(0, 0.0, -np.inf) if phase == 0 else self.starts[phase - 1]
        if start is None:
            raise ValueError(f"phase {phase} begins with no step of the loss: it has no clock")
        return self.run.W_in(start, t)

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return trajectory
