"""`gradient_flow`: what the caller asks for, checked, followed to its end, and returned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow import trajectory
from mfbook.flow.progress import Progress
from mfbook.flow.shallow.composite import Composite
from mfbook.flow.shallow.drive import DENSE_P, follow
from mfbook.flow.shallow.phases import phases_of
from mfbook.flow.shallow.sectors import falls_apart
from mfbook.flow.trajectory import Trajectory, resting_times
from mfbook.models import two_factors
from mfbook.problems.checks import flag, real_number, whole_number
from mfbook.problems.fit import LOSS_TOL, require_size
from mfbook.problems.protocols import Problem

MAX_STEPS = 50_000
SMALLEST_RTOL, LARGEST_RTOL = 1e-9, 1e-2

# The flow cubes the factors, in units of the data, and squares of residuals are summed: log₁₀ of a
# start's largest entry may exceed that of the data's root by the first, and the second.
LARGEST_LOG10_FACTOR, LARGEST_LOG10_ENTRY = 50.0, 76.5

# Between two rests of a run so many S(W) tell whether they share an invariant subspace; those near
# the end say little, for S is the difference of W and the data, and drowns in rounding there.
WITNESSES, NEAR_THE_END = 6, 1e-8
# Two runs of the same start may each be off by the promise of 10 rtol.
APART = 20.0
# The logarithm of a column's size, when it is first felt, may differ by this. A lost direction that
# the perturbation takes the place of shifts it by log(1e-13/1e-16) = 7 and more.
SHIFTED = 0.1


def gradient_flow(
    problem: Problem,
    factors: Sequence[ArrayLike],
    *,
    log10_scale: float = 0.0,
    loss_tol: float = LOSS_TOL,
    rtol: float = 1e-6,
    t_max: float = np.inf,
    max_steps: int = MAX_STEPS,
    progress: bool | None = None,
) -> Trajectory:
    r"""Follow gradient flow on f(A B) from 10^log10_scale · (A, B), right at any scale.

    With G = ∇f(A B) the flow is

        dA/dt = −G Bᵀ,    dB/dt = −Aᵀ G,    A(0) = α A_0,  B(0) = α B_0,  α = 10^log10_scale,

    until f(A B) − min f ≤ loss_tol · (f(0) − min f), where min f = 0 unless measurements contradict
    each other. The scale α may be as small as 10^-10000: it is kept as a logarithm,
    and every hidden column, in a rotated hidden space where they are orthogonal, carries its own
    size. So the answer does not depend on the hidden basis of the factors, and a plateau costs a
    few steps however long it lasts. Connected components of the observed entries evolve without
    knowing of each other and are integrated so. The run ends at the time at which the loss crosses
    its tolerance, wherever the steps end. The units of data and time do not matter: data c M from
    factors √c (A, B) give c W, at times divided by c.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` with matrices of shape (m, n), its largest entry or
        target between 1e-152 and 1e152.
    factors
        (A_0, B_0) of shapes (m, h), (h, n) for any width h ≥ 1.
    log10_scale
        log₁₀ α, any finite number.
    loss_tol
        stop where the loss above its least is this share of f(0) − min f (or the rounding of the
        data, if larger); of the loss at the start, where zero fits the data.
    rtol
        accuracy of W(t) relative to the data, from 1e-9 to 1e-2; the error stays below
        10 rtol along the run. Where an escape is steep, that is its error at equal times. Parts
        that are learned first are followed as long as the others.
    t_max, max_steps
        further limits.
    progress
        True shows a line on standard error after three seconds, False never; None
        shows it where standard error is a terminal.

    Returns
    -------
    Trajectory
        Times, losses, singular values at every step; `W_at(t)` and `factors_at(t)` in between;
        `phases`, each with the rate at which the escaping column of the factors grows (W grows
        at twice that) and its direction. The factors are in the caller's hidden basis; a part of
        them below 1e-308 is returned as 0. A run that Ctrl-C interrupts returns what there is.

    Raises
    ------
    TypeError
        factors that are not a tuple, complex numbers, a problem of another kind, options that are
        no numbers.
    ValueError
        a number of factors other than two, shapes that do not fit, entries that are not
        finite, factors that are all zero (zero is a saddle: the flow stays there), a scale that
        is not finite, an rtol out of range, limits that are negative, data whose squares leave
        double precision.

    Notes
    -----
    With U = [A; Bᵀ] the flow is dU/dt = S U, S = [[0, −G], [−Gᵀ, 0]], linear in U but for the
    dependence of S on W. Columns that W feels are advanced by an exponential Rosenbrock method
    of order five with the exact Jacobian (Luan & Ostermann 2014), the others by a Magnus method
    of order four along them. Components with more than 80 rows and columns, or with many active
    columns, take explicit, stabilized (Sommeijer, Shampine & Verwer 1998) and Krylov exponential
    steps instead, meant for rtol near 1e-4; rates and directions of escape are then left out above
    600 rows and columns. The invariance of the flow's rank (Bai, Zhao & Zhang 2024,
    Proposition 1) is the statement that a column that is zero stays so.

    A start in a subspace that the flow cannot leave, as (A, Aᵀ) is for symmetric data, is followed
    inside it, where rounding cannot lead out. Where data have a symmetry that a generic start has
    not, or measurements commute, directions that no observation couples may fall below each
    other's rounding. Such data are noticed in components of up to 80 rows and columns; the run is
    then repeated with every column perturbed by 1e-13 of its size after every step, and if the two
    ends differ by more than 20 rtol, the run returns with `converged=False` and says so.

    See also `disconnected_limit`, the limit α → 0 in closed form where it is known; `taylor_flow`,
    slow and in many digits; `gradient_descent`, the papers' literal procedure at any depth.

    Examples
    --------
    >>> from mfbook import MatrixCompletion, small_init
    >>> problem = MatrixCompletion.from_text("1 2; 100 ?")
    >>> factors = small_init((2, 2), rng=0)
    >>> run = gradient_flow(problem, factors, log10_scale=-100, loss_tol=1e-14)
    >>> run.converged, round(float(run.W[1, 1]), 1), [phase.rank for phase in run.phases]
    (True, 200.0, [0, 1])
    """
    arrays = _start(problem, factors)
    options = _options(problem, arrays, log10_scale, loss_tol, rtol, t_max, max_steps)
    progress = None if progress is None else flag("progress", progress)
    run, limit = _followed(problem, arrays, options, progress)
    if run.crossing is not None:
        reason = trajectory.LOSS_REACHED
    else:
        reasons = [path.reason for path in run.paths]
        reason = limit or next(reason for reason in _BY_WEIGHT if reason in reasons)
    if reason in (trajectory.LOSS_REACHED, trajectory.STUCK) and _may_lose_sectors(run):
        again, _ = _followed(problem, arrays, options, progress, np.random.default_rng(0))
        if not _same_run(run, again, options["rtol"]):
            reason = trajectory.ROUNDING
    return _trajectory(run, reason)


def _followed(
    problem: Problem,
    arrays: tuple[np.ndarray, np.ndarray],
    options: _Options,
    progress: bool | None,
    shaker: np.random.Generator | None = None,
) -> tuple[Composite, str]:
    """All parts to the end of the run, and the limit that ended it before, if one did."""
    run = Composite(
        problem, arrays, options["log10_scale"], options["rtol"], options["loss_tol"], shaker
    )
    notice = Progress(progress)
    t_max = options["t_max"] * run.units.rate
    steppers = [follow(path, rtol=options["rtol"], t_max=t_max) for path in run.paths]
    try:
        for stepper in steppers:
            next(stepper)
        while not run.has_arrived():
            running = [k for k, path in enumerate(run.paths) if not path.reason]
            if not running:
                break
            if run.n_steps >= options["max_steps"]:
                return run, trajectory.STEP_LIMIT
            # The part that is furthest behind goes next, so that all end near one time.
            next(steppers[min(running, key=lambda k: run.paths[k].t)], None)
            notice.update(run)
    except KeyboardInterrupt:
        return run, trajectory.INTERRUPTED
    finally:
        notice.close()
    return run, ""


def _may_lose_sectors(run: Composite) -> bool:
    """Whether S(W) falls apart along the run of a part, so that rounding may decide where it ends.

    A complete part does so at its singular vectors, but the columns come apart with them, and the
    closed form of its limit is met from 10^-10000.
    """
    for part, path in zip(run.parts, run.paths, strict=True):
        field = path.field
        complete = run.problem.observes_entries and len(field.values) == part.field.m * part.field.n
        if field.p > DENSE_P or complete:
            continue
        blocks = [np.arange(field.p)] if field.blocks is None else field.blocks
        blocks = [block for block in blocks if len(block) > 1]
        far = np.flatnonzero(np.array(path.losses) > NEAR_THE_END * path.losses[0])
        if not len(far):  # fitted from the start, as zeros are by what underflows
            continue
        rests = [k for k in resting_times(np.array(path.norms)) if k in far]
        # What is lost is lost on the way from one rest to the next.
        for low, high in pairwise(sorted({0, *rests, far[-1]})):
            chosen = np.unique(np.linspace(low, high, WITNESSES).astype(int))
            states = [path.states[k] for k in chosen]
            S = np.array([field.S(field.residual(state.Z)) for state in states])
            if any(falls_apart(S[np.ix_(np.arange(len(S)), b, b)]) for b in blocks):
                return True
    return False


def _same_run(one: Composite, other: Composite, rtol: float) -> bool:
    """Whether two runs end at one W, and their columns were felt one after the other at one time.

    Rounding that takes the place of a lost direction may always lead to one end; but then it is
    the size of the rounding that decides when.
    """
    for a, b in zip(one.paths, other.paths, strict=True):
        felt = 0
        for state in a.states:
            if (count := int(state.active.sum())) > felt:
                felt = count
                sizes = [np.sort(s.ell)[-count] for s in (state, b.columns_at(state.t))]
                if not abs(sizes[0] - sizes[1]) <= max(SHIFTED, APART * rtol):
                    return False
    ends = [run.W(run.at(run.end())) for run in (one, other)]
    size = max(np.abs(ends[0]).max(), one.units.W)
    return bool(np.abs(ends[0] - ends[1]).max() <= APART * rtol * size)


def _start(problem: Problem, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    arrays = two_factors(problem, factors, "gradient_flow follows")
    if not any(array.any() for array in arrays):
        raise ValueError(
            "the factors are zero, and zero is a critical point: the flow stays there for ever; "
            "give directions, for example small_init(problem.shape, rng=0)"
        )
    return arrays


class _Options(TypedDict):
    log10_scale: float
    loss_tol: float
    rtol: float
    t_max: float
    max_steps: int


def _options(
    problem: Problem,
    arrays: tuple[np.ndarray, np.ndarray],
    log10_scale: float,
    loss_tol: float,
    rtol: float,
    t_max: float,
    max_steps: int,
) -> _Options:
    """The numbers that steer a run, checked."""
    require_size(problem)
    log10_scale = real_number(
        "log10_scale",
        log10_scale,
        because="a scale of 0 is no start, zero is a saddle that the flow never leaves; any "
        "finite number will do, -10000 too",
    )
    largest = log10_scale + np.log10(max(np.abs(array).max() for array in arrays))
    size = float(np.abs(problem.targets).max()) or 1.0
    most = min(LARGEST_LOG10_FACTOR + 0.5 * np.log10(size), LARGEST_LOG10_ENTRY)
    if largest > most:
        raise ValueError(
            f"the start has entries near 10^{largest:.0f}, whose products leave double precision; "
            f"keep log10_scale + log10(largest entry) below {most:g}"
        )
    because = "double precision holds no more through an escape, and less is no trajectory"
    return {
        "log10_scale": log10_scale,
        "loss_tol": real_number("loss_tol", loss_tol, least=0),
        "rtol": real_number("rtol", rtol, least=SMALLEST_RTOL, most=LARGEST_RTOL, because=because),
        "t_max": real_number("t_max", t_max, least=0, infinite=True),
        "max_steps": whole_number("max_steps", max_steps, least=0),
    }


def _trajectory(run: Composite, reason: str) -> Trajectory:
    times = run.times()
    samples = [run.at(t) for t in times]
    loss, norm = run.losses_and_norms(samples)
    values = np.array([run.singular_values(columns) for columns in samples])
    return Trajectory(
        t=run.time(times),
        loss=loss,
        gradient_norm=norm,
        singular_values=values,
        W=run.W(samples[-1]),
        factors=run.factors(samples[-1]),
        phases=phases_of(run, times, norm, values),
        converged=reason == trajectory.LOSS_REACHED,
        reason=reason,
        n_steps=run.n_steps,
        n_gradients=run.n_gradients,
        dense_output=run.W_at,
        dense_factors=run.factors_at,
        log10_columns=np.array([run.log10_columns(columns) for columns in samples]),
    )


_BY_WEIGHT = (
    trajectory.STEP_TOO_SMALL,
    trajectory.UNBOUNDED,
    trajectory.TIME_LIMIT,
    trajectory.DROWNED,
    trajectory.STUCK,
)
