"""`gradient_flow`: what the caller asks for, checked, followed run by run, and returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow.options import Limits, limits_of
from mfbook.flow.trajectory import CROSSED, Trajectory, batch_of
from mfbook.models import model_of
from mfbook.problems.checks import flag, real_array, real_number
from mfbook.problems.fit import LOSS_TOL, require_size
from mfbook.problems.protocols import Problem, is_symmetric

MAX_STEPS = 50_000

# log₁₀ of the largest force on the factors, of size W^(2−1/N) in units of the data, and of the
# largest measurement of W: both are squared, and summed.
LARGEST_LOG10_FORCE, LARGEST_LOG10_W = 150.0, 153.0
# A logarithm of the scale beyond this is rounded by so much that factors would be wrong by 1e-6.
SMALLEST_LOG10_SCALE = -1e9
# Where the product of directions would be larger than this, or smaller than its inverse, an engine
# is given them in a unit of their own; and layers are no further apart.
LARGEST_LOG10_PRODUCT, FURTHEST_APART = 100.0, 1e100


def gradient_flow(
    problem: Problem,
    factors: Sequence[ArrayLike],
    *,
    log10_scale: float | ArrayLike = 0.0,
    loss_tol: float = LOSS_TOL,
    rtol: float = 1e-6,
    t_max: float = np.inf,
    max_steps: int = MAX_STEPS,
    progress: bool | None = None,
) -> Trajectory:
    r"""Follow gradient flow on f(W_1 ⋯ W_N), or on f(U Uᵀ), from 10^log10_scale · factors.

    With G = ∇f(W) at W = W_1 W_2 ⋯ W_N the flow is

        dW_j/dt = −(W_1 ⋯ W_{j−1})ᵀ G (W_{j+1} ⋯ W_N)ᵀ,   W_j(0) = α V_j,   α = 10^log10_scale,

    dA/dt = −G Bᵀ, dB/dt = −Aᵀ G for two factors, until f(W) − min f ≤ loss_tol · (f(0) − min f),
    where min f = 0 unless measurements contradict each other. For a symmetric problem W = U Uᵀ, the
    flow is that of Li, Luo & Lyu (2021, Eq. 1),

        dU/dt = −∇f(U Uᵀ) U,    U(0) = α U_0,

    and W(t) is symmetric and positive semidefinite to its own rounding.

    The scale α may be as small as 10^-10000: it is kept as a logarithm, and every hidden direction
    carries its own size, in hidden bases that are chosen so. The answer does not depend on the
    hidden bases of the factors, and a plateau costs a few steps however long it lasts. For two
    factors, and U, the connected components of the observed entries evolve without knowing of each
    other and are integrated so. The run ends at the time at which the loss crosses its tolerance,
    wherever the steps end. The units of data and time do not matter: data c M from factors
    c^(1/N) W_j give c W, at times divided by c^(2−2/N).

    Parameters
    ----------
    problem
        a completion or sensing problem with matrices of shape (m, n), its largest entry or target
        between 1e-152 and 1e152.
    factors
        (A_0, B_0) of shapes (m, h), (h, n) for any width h ≥ 1, or N of them in product order with
        any inner widths, or (U_0,) of shape (d, h) for a symmetric problem; leading axes are
        separate runs.
    log10_scale
        log₁₀ α, from -1e9 on; an array over the leading axes gives each run its own.
    loss_tol
        stop where the loss above its least is this share of f(0) − min f (or the rounding of the
        data, if larger); of the loss at the start, where zero fits the data.
    rtol
        accuracy of W(t) relative to the data, from 1e-9 to 1e-2; the error stays below
        10 rtol along the run. Where an escape is steep, that is its error at equal times. Parts
        that are learned first are followed as long as the others. Of an entry that runs away,
        far beyond the data, the error is to be compared with the entry.
    t_max, max_steps
        further limits.
    progress
        True shows a line on standard error after three seconds, False never; None
        shows it where standard error is a terminal.

    Returns
    -------
    Trajectory
        A batch where there are leading axes: `trajectory[k]` is one run of it, as if it had run
        alone. Times, losses, singular values at every step; `W_at(t)` and `factors_at(t)` in
        between; `phases`, for two factors and U each with the rate at which the escaping column of
        the factors grows (W grows at twice that) and its direction. With three factors or more
        times grow like α^−(N−2), and phases have clocks of their own: `log10_time` and
        `W_at(t, phase=k)`. The factors are in the caller's hidden bases; a part of them below
        1e-308 is returned as 0. A run that Ctrl-C interrupts returns what there is. Singular values
        and phases are computed when they are asked for.

        U Uᵀ may be unable to fit. A run that ends where no positive semidefinite matrix (with a
        trace of up to ten times the data's) has a loss that is lower by loss_tol · (f(0) − min f)
        has `converged=True` all the same, and its `reason` says so; λ_1(−∇f(W)) ≤ 0 certifies it
        (Li, Luo & Lyu 2021, Lemma A.2).

    Raises
    ------
    TypeError
        factors that are not a tuple, complex numbers, a problem of another kind, options that are
        no numbers.
    ValueError
        one factor, unless the problem is symmetric; shapes that do not fit, entries that are not
        finite, factors that are all zero, or two zero ones of three or more (a saddle: the flow
        stays there), layers of sizes more than 1e100 apart, a scale out of range, an rtol out of
        range, limits that are negative, data or a start whose squares leave double precision.

    Notes
    -----
    With U = [A; Bᵀ] the flow of two factors is dU/dt = S U, S = [[0, −G], [−Gᵀ, 0]], linear in U
    but for the dependence of S on W; for a symmetric problem S = −G. Columns that W feels are
    advanced by an exponential Rosenbrock method of order five with the exact Jacobian (Luan &
    Ostermann 2014), the others by a Magnus method of order four along them. Components with more
    than 80 rows and columns, or with many active columns, take explicit, stabilized (Sommeijer,
    Shampine & Verwer 1998) and Krylov exponential steps instead, meant for rtol near 1e-4; rates
    and directions of escape are then left out above 600 rows and columns. The invariance of the
    flow's rank (Bai, Zhao & Zhang 2024, Proposition 1) is the statement that a column that is zero
    stays so.

    With three factors or more components share their hidden columns. Layers that W feels are
    advanced together by the same method of order five, with W_jᵀW_j − W_{j+1}W_{j+1}ᵀ, which the
    flow conserves, restored after every step. Where they rest, what is smaller follows a flow
    without a scale by Taylor series, and one hidden column, once it has outgrown the others, its
    exact linear flow, in which it turns and carries the others along. Entries that no path of
    entries links to others (of the layers, and of ∇f) form sectors, which are kept, in bases of
    rows, columns and hidden spaces in which there are most of them: so layers stay diagonal in a
    common eigenbasis of commuting measurements. A start whose part that would have to grow only
    fades is said to be stuck. Where sectors are copies of each other, or W_j the transpose of
    W_{N+1−j} in some bases, the exact flow keeps it so; a run that has not, at one of its rests,
    returns with `converged=False` and says so. What a hidden column has of the singular pairs of a
    complete component is kept as a logarithm for each, so signs between such components do not
    depend on the scale. What it has of a component that is not complete, or of pairs with equal
    singular values, may drown in what it has of others, where both have columns already: then the
    observed entries are fitted, but signs between components are those of rounding, and the run
    returns with `converged=False` and says so. No line of progress is shown.

    Layers with more than 1,000 entries in all are followed by products of layers alone, explicitly
    and in Krylov spaces, meant for rtol near 1e-4. Where plateaus last longer than some thousand
    times as long as an escape, rtol is then that of every phase by its own clock, and of the
    lengths of plateaus. Any width is allowed: a step of the layers that W does not feel yet, or of
    all of them at scales near that of the data, costs some h² (m + n) operations for width h, that
    of felt columns does not depend on h. Singular values of what is not felt are returned as 0
    once something is. Starts whose layers fall into sectors are not kept there, but a run that
    has left them says so, up to 600 rows and columns; and a hidden column that would have less than
    1e-12 of some component of the data ends the run, with a reason that says so.

    Balanced layers keep the signs of the determinants of square layers, and of W if it is square. A
    run at whose end such a sign has changed has left the exact flow, and returns with
    `converged=False` and that reason.

    A start in a subspace that the flow cannot leave, as (A, Aᵀ) is for symmetric data in two
    factors, is followed inside it, where rounding cannot lead out. Where data have a symmetry that
    a generic start has not, or measurements commute, directions that no observation couples may
    fall below each other's rounding. Such data are noticed for two factors in components of up to
    80 rows and columns; the run is then repeated with every entry of the columns perturbed by 1e-13
    of it after every step on its way. If the two ends differ by more than 20 rtol, or the sizes of
    the columns when they are first felt by more than a tenth in their logarithms, the run returns
    with `converged=False` and says so.

    See also `disconnected_limit`, the limit α → 0 in closed form where all components are complete;
    `deep_limit`, that of three factors and more as a process without α; `taylor_flow`, slow and in
    many digits; `gradient_descent`, the papers' literal procedure.

    Examples
    --------
    >>> from mfbook import MatrixCompletion, small_init
    >>> problem = MatrixCompletion.from_text("1 2; 100 ?")
    >>> factors = small_init((2, 2), rng=0)
    >>> run = gradient_flow(problem, factors, log10_scale=-100, loss_tol=1e-14)
    >>> run.converged, round(float(run.W[1, 1]), 1), [phase.rank for phase in run.phases]
    (True, 200.0, [0, 1])

    >>> deep = gradient_flow(problem, small_init((2, 2), depth=3, rng=0), log10_scale=-1000)
    >>> float(deep.t[-1]), round(deep.phases[1].log10_arrival)  # the plateau lasts 10^998
    (inf, 998)
    >>> bool(abs(deep.W_at(0.0, phase=1)).max() < 50 < abs(deep.W_at(1.0, phase=1)).max())
    True

    References
    ----------
    The flow: Bai, Zhao & Zhang 2024, Eq. 3; Arora et al. 2019; Li, Luo & Lyu 2021, Eq. 1. The
    steps: Luan & Ostermann 2014; Sommeijer, Shampine & Verwer 1998.
    """
    arrays = _starts(problem, factors)
    scales = _scales(log10_scale)
    axes = _axes(arrays[0], scales)
    _require_scale(problem, arrays, scales)
    options = limits_of(loss_tol, rtol, max_steps, t_max=t_max)
    progress = None if progress is None else flag("progress", progress)
    if not axes:
        return _run(problem, arrays, float(scales), progress, options)
    arrays = tuple(np.broadcast_to(factor, axes + factor.shape[-2:]) for factor in arrays)
    scales = np.broadcast_to(scales, axes)
    runs = np.empty(axes, dtype=object)
    for k in np.ndindex(axes):
        start = tuple(factor[k] for factor in arrays)
        runs[k] = _run(problem, start, float(scales[k]), progress, options)
    return batch_of(runs)


def _run(
    problem: Problem,
    arrays: tuple[np.ndarray, ...],
    log10_scale: float,
    progress: bool | None,
    options: Limits,
) -> Trajectory:
    """One run by the engine of its depth."""
    # The engines are compiled code, and Numba takes half a second to import.
    from mfbook.flow.determinants import sign_has_changed

    if len(arrays) <= 2:
        from mfbook.flow.shallow.engine import flow
    else:
        from mfbook.flow.deep.flow import flow
    arrays, power = in_own_unit(arrays)
    log10_scale += power * float(np.log10(2.0))
    run = flow(problem, arrays, log10_scale=log10_scale, progress=progress, **options)
    if sign_has_changed(arrays, run.factors):
        return replace(run, converged=False, reason=CROSSED)
    return run


def _starts(problem: Problem, factors: Sequence[ArrayLike]) -> tuple[np.ndarray, ...]:
    arrays = model_of(problem).factors_of(problem, factors)
    if len(arrays) < 2 and not is_symmetric(problem):
        raise ValueError(
            f"gradient_flow follows two factors or more, W = W_1 W_2 ⋯, but got {len(arrays)}; "
            "with one factor the flow is linear: use gradient_descent, or a SymmetricCompletion "
            "for W = U Uᵀ"
        )
    require_moving(arrays)
    return arrays


def require_moving(arrays: Sequence[np.ndarray]) -> None:
    """Raise at zero: a rest of U Uᵀ, of two factors that are zero, of more if two of them are.

    Or where layers are so far apart in size that some would count as zero beside others.
    """
    zero = np.sum([~array.any(axis=(-2, -1)) for array in arrays], axis=0)
    if (zero >= min(len(arrays), 2)).any():
        those = f"{zero.max()} factors are zero" if len(arrays) > 2 else "the factors are zero"
        raise ValueError(
            f"{those}, and zero is a critical point: the flow stays there for ever; "
            "give directions, for example small_init(problem, rng=0)"
        )
    sizes = np.array([np.abs(array).max(axis=(-2, -1)) for array in arrays])
    least = np.where(sizes > 0, sizes, np.inf).min(axis=0)
    if len(arrays) > 2 and (least < sizes.max(axis=0) / FURTHEST_APART).any():
        raise ValueError(
            f"layers must be of sizes at most {FURTHEST_APART:g} apart, so that their squares "
            f"are numbers in double precision beside each other, but their largest entries are "
            f"{', '.join(f'{size:.2g}' for size in sizes.reshape(len(arrays), -1).max(axis=1))}; "
            "take a larger one where it is tiny, or exact zeros"
        )


def _scales(log10_scale: float | ArrayLike) -> np.ndarray:
    """log₁₀ α, one number or one a run."""
    because = (
        "a scale of 0 is no start, zero is a saddle that the flow never leaves; any number from "
        "-1e9 on will do, -10000 too"
    )
    if np.ndim(log10_scale) == 0:
        scale = real_number("log10_scale", log10_scale, least=SMALLEST_LOG10_SCALE, because=because)
        return np.array(scale)
    scales = real_array("log10_scale", log10_scale, finite=True)
    if not scales.size:
        raise ValueError(
            f"log10_scale must hold at least one run, but has shape {scales.shape}; give a number, "
            "or one a run"
        )
    real_number("log10_scale", scales.min(), least=SMALLEST_LOG10_SCALE, because=because)
    return scales


def in_own_unit(arrays: tuple[np.ndarray, ...]) -> tuple[tuple[np.ndarray, ...], int]:
    """Directions whose product is a number in double precision, and k, where 2^k is their unit.

    >>> (direction,), power = in_own_unit((np.array([[3e200]]),))
    >>> power, float(direction[0, 0] * 2.0**power)
    (666, 3e+200)
    """
    largest = max(float(np.abs(array).max()) for array in arrays)
    if len(arrays) * abs(np.log10(largest)) <= LARGEST_LOG10_PRODUCT:
        return arrays, 0
    power = int(np.frexp(largest)[1])
    return tuple(np.ldexp(array, -power) for array in arrays), power


def _axes(A: np.ndarray, scales: np.ndarray) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(A.shape[:-2], scales.shape)
    except ValueError:
        raise ValueError(
            f"log10_scale must be a number or match the leading axes {A.shape[:-2]} of the "
            f"factors, but has shape {scales.shape}; give one a run"
        ) from None


def _require_scale(problem: Problem, arrays: tuple[np.ndarray, ...], scales: np.ndarray) -> None:
    require_size(problem)
    largest = scales.max() + np.log10(max(np.abs(array).max() for array in arrays))
    measurement = float(problem.sizes.max()) or 1.0
    size = (float(np.abs(problem.targets).max()) or 1.0) / measurement
    depth = max(len(arrays), 2)  # W = U Uᵀ is of degree 2 as well
    most = min(
        LARGEST_LOG10_FORCE / (2 * depth - 1) + np.log10(size) / depth,
        (LARGEST_LOG10_W - np.log10(measurement)) / depth,
    )
    if largest > most:
        raise ValueError(
            f"the start has entries near 10^{largest:.0f}, whose products leave double precision; "
            f"keep log10_scale + log10(largest entry) below {most:g}, or choose another unit"
        )
