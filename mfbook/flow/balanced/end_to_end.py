"""The end-to-end flow: what the caller asks for, checked and followed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow.balanced.forms import EPS, Form, Plain, decomposed
from mfbook.flow.balanced.path import follow, trajectory_of
from mfbook.flow.balanced.units import units_at
from mfbook.flow.options import SMALLEST_RTOL_END_TO_END, Limits, limits_of
from mfbook.flow.run import SMALLEST_LOG10_SCALE
from mfbook.flow.trajectory import Trajectory
from mfbook.models import require_layers
from mfbook.problems.checks import real_array, real_number
from mfbook.problems.fit import LOSS_TOL, require_size
from mfbook.problems.protocols import Problem


def end_to_end_flow(
    problem: Problem,
    W0: ArrayLike,
    *,
    depth: float,
    log10_scale: float = 0.0,
    loss_tol: float = LOSS_TOL,
    rtol: float = 1e-6,
    t_max: float = np.inf,
    max_steps: int = 10_000,
) -> Trajectory:
    r"""Follow W = W_1 ⋯ W_N under gradient flow of balanced layers, without the layers.

    Where W_jᵀ W_j = W_{j+1} W_{j+1}ᵀ for all j, which the flow keeps, W moves by itself:

        dW/dt = −Σ_{j=1}^{N} (W Wᵀ)^{(N−j)/N} ∇f(W) (Wᵀ W)^{(j−1)/N}.

    With W = Σ σ_i u_i v_iᵀ the right side is −Σ K_ij (u_iᵀ ∇f v_j) u_i v_jᵀ, where

        K_ij = (σ_i² − σ_j²)/(σ_i^{2/N} − σ_j^{2/N}),    K_ii = N σ_i^{2−2/N},

    and so it makes sense at every real depth N ≥ 1, as the equation of W alone. N = 1 is gradient
    flow of f. As N → ∞ with N t kept, K/N tends to

        K_ij = (σ_i² − σ_j²)/(ln σ_i² − ln σ_j²),    K_ii = σ_i²:

    at `depth=inf` the clock is N t. A singular value obeys dσ_i/dt = −N σ_i^{2−2/N} u_iᵀ ∇f v_i. If
    it is 0 it stays so at every N > 1: the rank of W(0) is the rank for ever. A symmetric positive
    semidefinite W(0) on symmetric data stays so, and then W^{2/N} is the M of Li et al., Lemma 6.1.

    Parameters
    ----------
    problem
        a `MatrixCompletion` or `MatrixSensing` of shape (m, n).
    W0
        (m, n), not zero.
    depth
        N, a real number ≥ 1, or infinity.
    log10_scale
        W(0) = 10^log10_scale · W0, the product, not a layer.
    loss_tol
        stop where f − min f is this share of f(0) − min f, as `gradient_flow` does.
    rtol
        the error of a step in ln σ_i and in the singular vectors. Measured at 1e-6: W within 1e-6
        of layers followed in many digits, at equal times, for data of size 3.
    t_max, max_steps
        further limits.

    Returns
    -------
    Trajectory
        Singular values are right one by one, however small. `factors` are balanced layers of width
        r, the rank of W(0), at integer depth from 2 on, and () otherwise. `gradient_norm` is
        √(−df/dt), which is that of all layers. Times on a long plateau are so large that the
        change after it may fall between two of them: they are then equal, and `W_at` passes it in
        a jump that `singular_values` and `loss` show step by step.

    Raises
    ------
    TypeError
        no problem, what is no array of numbers, options that are no numbers.
    ValueError
        W0 of another shape or zero, a depth below 1, a start so small that its plateau leaves
        double precision (times near α^{−(1−2/N)} for ‖W(0)‖ = α) or, below depth 2, that its
        vectors turn too fast; one that is 10^50 times as large as the data, an exponent of
        the scale below -1e9, and data whose squares leave double precision.

    Notes
    -----
    The units of data and time do not matter: data c M from c W(0) give c W, at times divided by
    c^(2−2/N).

    Between depth 1 and 2 a singular value may reach 0 in finite time, where the equation does not
    say how to go on; the run then ends with "step size below rounding". At depth 1 W passes
    such points; the state is W itself.

    Steps are those of the Radau IIA method of order 5 (`scipy.integrate.Radau`), whose clock is set
    to 0 again and again, so that a unit of time is resolved after a plateau of 10^100 of them. Its
    Jacobian is found by differences, r (r + 1)/2 + (m + n) r numbers at a time, so that matrices
    beyond 20×20 take minutes. Rounding in it limits steps on a *later* plateau, beside parts that
    rest, to about 10^7: one of length 10^9 costs some hundred steps, one of 10^12 is out of reach.
    At depth 2 all plateaus are short, whatever the scale.

    Examples
    --------
    >>> from mfbook.problems import MatrixCompletion
    >>> problem = MatrixCompletion.from_text("2 ?; ? 1", loss="half")
    >>> W0 = np.array([[1.0, 0.5], [0.25, 1.0]])
    >>> for depth in (2, 2.1, 3, np.inf):
    ...     run = end_to_end_flow(problem, W0, depth=depth, log10_scale=-4)
    ...     print(depth, run.converged, run.singular_values[-1].round(1).tolist())
    2 True [2.2, 0.8]
    2.1 True [2.6, 0.4]
    3 True [3.0, 0.0]
    inf True [3.0, 0.0]

    References
    ----------
    Arora, Cohen & Hazan 2018, Theorem 1; Arora et al. 2019, Lemma 3 and Theorem 3; Li, Luo & Lyu
    2021, Eq. 11, Theorem D.1 (its K_ij at equal σ is the limit) and Corollary D.2.
    """
    require_layers(problem, "end_to_end_flow is that of layers, W = W_1 W_2 ⋯,")
    start = real_array("W0", W0, ndim=2, finite=True)
    if start.shape != problem.shape:
        raise ValueError(f"W0 must have the problem's shape {problem.shape}, but has {start.shape}")
    if not start.any():
        raise ValueError(
            "W0 is zero, and zero is a critical point at every depth above 1: the flow stays there "
            "for ever; give a direction, for example a product of small_init"
        )
    depth = real_number("depth", depth, least=1, infinite=True)
    log10_scale = real_number("log10_scale", log10_scale, least=SMALLEST_LOG10_SCALE)
    smallest = SMALLEST_RTOL_END_TO_END
    options = limits_of(loss_tol, rtol, max_steps, t_max=t_max, smallest_rtol=smallest)
    require_size(problem)
    largest = float(np.abs(start).max())
    U, sizes, Vt = np.linalg.svd(start / largest, full_matrices=False)
    kept = sizes > max(start.shape) * EPS * sizes[0]
    log_sizes = np.log(sizes[kept]) + np.log(largest) + np.log(10.0) * log10_scale
    units = units_at(problem, depth, log_sizes, "log10_scale")
    if depth == 1:
        y = np.exp(np.log(largest) + np.log(10.0) * log10_scale - units.log_W) * start / largest
        form: Form = Plain(units.of(problem))
        return trajectory_of(follow(form, units, y.ravel(), options))
    form, y = decomposed(units.of(problem), depth, U[:, kept], log_sizes - units.log_W, Vt[kept].T)
    return trajectory_of(follow(form, units, y, options))


def flow_of_rank(
    problem: Problem,
    depth: float,
    U: np.ndarray,
    log_sizes: np.ndarray,
    V: np.ndarray,
    options: Limits,
) -> tuple[Trajectory, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The flow from Σ e^{ℓ_i} u_i v_iᵀ, and U, the ℓ_i and V where it ends."""
    units = units_at(problem, depth, log_sizes, "eps")
    form, y = decomposed(units.of(problem), depth, U, log_sizes - units.log_W, V)
    path = follow(form, units, y, options)
    U, log_sizes, V = form.triple(path.states[-1])
    return trajectory_of(path), (U, log_sizes + units.log_W, V)
