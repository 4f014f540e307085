"""The loss of many runs at once, of one problem or of one problem a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mfbook.problems.checks import require_problem
from mfbook.problems.fit import fit_of, is_least_over_cone
from mfbook.problems.protocols import Problem, is_symmetric, reads_entries


class StackedLoss:
    """Loss and gradient of run k at W[k], for one problem or one problem a run."""

    def __init__(self, problem: Any) -> None:
        self.problems: list[Problem] = (
            list(problem)
            if isinstance(problem, Sequence) and not isinstance(problem, (str, bytes))
            else [problem]
        )
        if not self.problems:
            raise ValueError("the sequence of problems is empty; give at least one")
        entries = (
            "only completion problems can be run as a sequence" if len(self.problems) > 1 else ""
        )
        for one in self.problems:
            require_problem(one, entries=entries)
        self.example = self.problems[0]
        self.fits = [fit_of(one) for one in self.problems]
        self.owner: np.ndarray | None = None
        if len(self.problems) == 1:
            return
        if len({is_symmetric(p) for p in self.problems}) > 1:
            raise ValueError(
                "problems run together must mean one model, but some are symmetric, W = U Uᵀ, and "
                "some are not; run the two kinds apart"
            )
        shapes = {p.shape for p in self.problems}
        if len(shapes) > 1:
            raise ValueError(f"problems run together must have one shape, but have {shapes}")
        completions = [p for p in self.problems if reads_entries(p)]  # all of them
        self.mask = np.stack([p.mask for p in completions])
        self.values = np.stack([np.where(p.mask, p.values, 0.0) for p in completions])
        self.weight = np.array([p.weight for p in completions])

    def require_batch(self, batch: tuple[int, ...]) -> None:
        if len(self.problems) == 1:
            return
        if not batch or batch[0] != len(self.problems):
            raise ValueError(
                f"the first axis of the factors must run over the {len(self.problems)} problems, "
                f"but the leading axes are {batch}"
            )
        self.owner = np.repeat(np.arange(batch[0]), int(np.prod(batch[1:], dtype=int)))

    def _of_one(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f − min f and ∇f, from residuals to the attainable targets (see `problems.fit`)."""
        one = self.example
        if reads_entries(one):
            residual = np.where(one.mask, W - one.values, 0.0)
            gradient = 2.0 * one.weight * residual
            residual = residual.reshape(*residual.shape[:-2], -1)
        else:
            residual = one.measure(W) - one.attainable
            gradient = 2.0 * one.weight * one.adjoint(residual)
        return one.weight * np.square(residual).sum(axis=-1), gradient

    def goals(self, loss_tol: float, start: np.ndarray) -> np.ndarray:
        """The excess at or below which each run has arrived, given that of its start."""
        goals = np.array([fit.threshold(loss_tol) for fit in self.fits])[self.of_run(len(start))]
        # Where zero fits the data, only the start has a size that a tolerance may refer to.
        nothing = np.array([fit.learnable == 0.0 for fit in self.fits])[self.of_run(len(start))]
        return np.where(nothing, np.maximum(goals, loss_tol * start), goals)

    def least(self, runs: int) -> np.ndarray:
        """min f of each run's problem."""
        return np.array([fit.least for fit in self.fits])[self.of_run(runs)]

    def of_run(self, runs: int) -> np.ndarray:
        """The number of each run's problem."""
        return np.zeros(runs, dtype=int) if self.owner is None else self.owner

    def is_least(
        self, W: np.ndarray, G: np.ndarray, runs: np.ndarray, goal: np.ndarray, loss_tol: float
    ) -> np.ndarray:
        """Whether W has the least loss of all U Uᵀ, where the problems are symmetric."""
        found = np.zeros(len(runs), dtype=bool)
        if not is_symmetric(self.example):
            return found
        owner = self.of_run(int(runs.max()) + 1)[runs]
        # Where ⟨G, W⟩ is not small the factors still move.
        for k in np.flatnonzero(np.abs(np.sum(G * W, axis=(-2, -1))) <= goal):
            found[k] = is_least_over_cone(self.problems[owner[k]], W[k], loss_tol)
        return found

    def excess_and_gradient(self, W: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.owner is None:
            return self._of_one(W)
        owner = self.owner[runs]
        weight = self.weight[owner, None, None]
        residual = self.mask[owner] * (W - self.values[owner])
        weighted = weight * residual
        return (weighted * residual).sum(axis=(-2, -1)), 2.0 * weighted
