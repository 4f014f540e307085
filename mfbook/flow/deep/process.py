"""How the process of an infinitesimal start is followed, and read off."""

from __future__ import annotations

import numpy as np

from mfbook.flow import greedy_path, trajectory
from mfbook.flow.deep.exact_path import ExactPath
from mfbook.flow.deep.exact_run import ExactRun
from mfbook.flow.determinants import sign_has_changed
from mfbook.flow.greedy_path import DeepLimit
from mfbook.flow.options import Limits
from mfbook.problems.protocols import Problem

# log₁₀ of the scale that stands for an infinitesimal one. Sizes are powers of it, kept as
# logarithms; of a size α^e with e ≤ 1 the logarithm is then right to 3e-10, and what is smaller
# than another by a factor α^δ is gone for δ > 1e-4.
INFINITESIMAL = -1e6
# The top singular value is simple where the second one is smaller by this share.
SIMPLE = 1e-4
# Singular values of W below this share of the first are none.
RANK = 1e-7


def process(problem: Problem, arrays: tuple[np.ndarray, ...], options: Limits) -> DeepLimit:
    """The process of one start; the options are those of `deep_limit`."""
    run = ExactRun(
        problem,
        arrays,
        {"log10_scale": INFINITESIMAL, **options},
    )
    path = run.path
    broken = ""
    while not path.reason and not broken:
        left = options["max_steps"] - path.n_steps
        path.advance(max(left, 0))
        if left <= 0:
            path.reason = path.reason or trajectory.STEP_LIMIT
        broken = _broken(path)
    reason = broken or _left(run) or _named(path)
    points = [run.moments[rest.moment].state for rest in path.rests]
    if path.moments and (not path.rests or path.rests[-1].moment != len(path.moments) - 1):
        points.append(path.moments[-1].state)
    Ws = tuple(run.W(state) for state in points)
    unit = run.units.factor ** (len(arrays) - 2) / run.units.rate
    done = path.rests if run.moments[-1].clock.orbit else []
    ended = [rest for rest in done if rest.rate > 0]
    return DeepLimit(
        critical_points=Ws,
        W=Ws[-1],
        ranks=tuple(_rank(W) for W in Ws),
        trajectories=(),
        waiting_times=tuple(unit * rest.waited for rest in ended),
        converged=reason == trajectory.LOSS_REACHED,
        reason=reason,
    )


def _broken(path: ExactPath) -> str:
    """The hypothesis of the last plateau that does not hold."""
    if not path.rests:
        return ""
    rest = path.rests[-1]
    if rest.second >= (1 - SIMPLE) * rest.top:
        return greedy_path.NOT_SIMPLE
    if rest.rate and rest.rate < (1 - SIMPLE) * rest.top:
        return greedy_path.NOT_EXCITED
    return ""


def _left(run: ExactRun) -> str:
    """How the end has left a set that the exact flow keeps, as rounding may lead out of it."""
    path = run.path
    if path.reason != trajectory.LOSS_REACHED:
        return ""
    if run.has_left([*(rest.moment for rest in path.rests), len(path.moments) - 1]):
        return trajectory.ROUNDING
    if sign_has_changed(run.arrays, run.factors(path.moments[-1].state)):
        return trajectory.CROSSED
    return ""


def _named(path: ExactPath) -> str:
    """The reason of a run, in the words of the process."""
    if path.reason == trajectory.STUCK:
        levels = path.moments[-1].state.levels
        in_use = not levels or 0 in levels[0].widths
        return greedy_path.NO_WIDTH if in_use else greedy_path.NO_BLOW_UP
    return path.end


def _rank(W: np.ndarray) -> int:
    values = np.linalg.svd(W, compute_uv=False)
    return int((values > RANK * values[0]).sum()) if values[0] > 0 else 0
