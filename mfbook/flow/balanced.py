r"""W itself, where the layers are balanced: the end-to-end flow at any real depth.

The state is a singular value decomposition that does not mind ties: W = U exp(Λ) Vᵀ with
orthonormal columns U (m, r), V (n, r), r the rank of the start, and a symmetric Λ (r, r), whose
eigenvalues are the logarithms ℓ_i = ln σ_i. So singular values that lie far apart keep all their
digits, as separate numbers, and equal ones are nothing special. In the eigenbasis of Λ, with
g = Uᵀ ∇f V and a_i = σ_i^{2/N},

    Λ'_ij = −(ℓ_i − ℓ_j)/(a_i − a_j) · (g_ij σ_j + g_ji σ_i),
    (Vᵀ V')_ij = (σ_i − σ_j)/(a_i − a_j) · (g_ij − g_ji),      Uᵀ U' = 0,

the columns of U leave their space by −(I − U Uᵀ) ∇f V σ^{1−2/N}, those of V likewise, and the
quotients are derivatives where a_i = a_j. They follow from d(W Wᵀ)^{1/N}/dt = −∇f Wᵀ − W ∇fᵀ
(the first layer's W_1 W_1ᵀ) and the formula of Daleckii and Krein.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mfbook.flow.run import SMALLEST_LOG10_SCALE
from mfbook.flow.shallow.units import units_of
from mfbook.flow.trajectory import (
    LOSS_REACHED,
    STEP_LIMIT,
    STEP_TOO_SMALL,
    STUCK,
    TIME_LIMIT,
    UNBOUNDED,
    Phase,
    Trajectory,
    resting_times,
)
from mfbook.flow.unbounded import far_beyond, grows_on
from mfbook.models import require_layers
from mfbook.problems.checks import real_array, real_number, whole_number
from mfbook.problems.fit import (
    LARGEST,
    LOSS_TOL,
    excess,
    fit_of,
    gradient,
    require_size,
    size_of_data,
)
from mfbook.problems.in_units import InUnits
from mfbook.problems.protocols import Problem

if TYPE_CHECKING:
    from scipy.integrate import Radau

EPS = np.finfo(float).eps
# A step shorter than this share of the time since the clock was last set to 0 sets it again, and so
# do that many steps.
SHORT, MANY = 1e-6, 25
# What the loss sees: singular values above this share of the data's size and W's.
FELT = 1e-8
# A gradient below this share of ∇f, in all directions that are felt, is none.
AT_REST = 1e-8
# And what moves on by less than this share of itself in a time as long as the run.
CREEPING = 1e-3
# For central differences of velocities. The slow ones, 10^-10 of the fast ones and less, need their
# derivatives as well: what they feel of the fast ones then is of the third order.
DIFFERENCE = 1e-7
LARGEST_LOG10_TIME = 290.0
# And below depth 2, where small singular values have fast vectors.
LARGEST_LOG10_PACE = 150.0
# A start may be so many times as large as the data: fourth powers of W are summed.
LARGEST_START = 1e50


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
    loss_tol = real_number("loss_tol", loss_tol, least=0)
    rtol = real_number("rtol", rtol, least=1e-12, most=1e-2)
    t_max = real_number("t_max", t_max, least=0, infinite=True)
    max_steps = whole_number("max_steps", max_steps, least=0)
    require_size(problem)
    largest = float(np.abs(start).max())
    U, sizes, Vt = np.linalg.svd(start / largest, full_matrices=False)
    kept = sizes > max(start.shape) * EPS * sizes[0]
    log_sizes = np.log(sizes[kept]) + np.log(largest) + np.log(10.0) * log10_scale
    units = _units(problem, depth, log_sizes, "log10_scale")
    if depth == 1:
        y = np.exp(np.log(largest) + np.log(10.0) * log10_scale - units.log_W) * start / largest
        form: _Form = _Plain(units.of(problem))
        return _trajectory(_follow(form, units, y.ravel(), loss_tol, rtol, t_max, max_steps))
    form, y = _decomposed(units.of(problem), depth, U[:, kept], log_sizes - units.log_W, Vt[kept].T)
    return _trajectory(_follow(form, units, y, loss_tol, rtol, t_max, max_steps))


def flow_of_rank(
    problem: Problem,
    depth: float,
    U: np.ndarray,
    log_sizes: np.ndarray,
    V: np.ndarray,
    *,
    loss_tol: float,
    rtol: float,
    max_steps: int,
) -> tuple[Trajectory, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The flow from Σ e^{ℓ_i} u_i v_iᵀ, and U, the ℓ_i and V where it ends."""
    units = _units(problem, depth, log_sizes, "eps")
    form, y = _decomposed(units.of(problem), depth, U, log_sizes - units.log_W, V)
    path = _follow(form, units, y, loss_tol, rtol, np.inf, max_steps)
    U, log_sizes, V = form.triple(path.states[-1])
    return _trajectory(path), (U, log_sizes + units.log_W, V)


@dataclass(frozen=True)
class _Units:
    """Those of W and the measurements, and what follows from them at a depth."""

    W: float
    measurement: float
    depth: float

    def of(self, problem: Problem) -> InUnits:
        return InUnits(problem, self.W, self.measurement)

    @property
    def log_W(self) -> float:
        return float(np.log(self.W))

    @property
    def target(self) -> float:
        return self.W * self.measurement

    @property
    def rate(self) -> float:
        """One over the unit of time, u^(2−2/N) s²."""
        return self.W ** (1 - 2 / self.depth) * self.measurement * self.target


def _units(problem: Problem, depth: float, log_sizes: np.ndarray, name: str) -> _Units:
    """Units for a start with those logarithms of singular values; or the start is refused.

    `name` is that of the number which the caller may change.
    """
    log_start = float(log_sizes.max())
    measurement = float(problem.sizes.max()) or 1.0
    found = units_of(problem.targets, measurement, log_start, depth=1)
    units = _Units(found.W, found.measurement, depth)
    ten = float(np.log(10.0))
    size = units.log_W if problem.targets.any() else np.inf
    most = min(size + np.log(LARGEST_START), np.log(LARGEST / units.measurement))
    if log_start > most:
        raise ValueError(
            f"the start is of size 10^{log_start / ten:.0f}, and numbers of the flow would leave "
            f"double precision; take a smaller {name}, for a start below 10^{most / ten:.0f}"
        )
    longest = -(1 - 2 / depth) * float(log_sizes.min() - units.log_W) / ten
    if longest < -LARGEST_LOG10_PACE:
        raise ValueError(
            f"the smallest singular vectors of this start turn 10^{-longest:.0f} times as fast as "
            f"others; take a larger {name}, or depth 2, where all turn alike"
        )
    if max(longest, longest - np.log10(units.rate)) > LARGEST_LOG10_TIME:
        raise ValueError(
            f"the plateau of this start lasts about 10^{longest - np.log10(units.rate):.0f}, and "
            f"double precision ends at 10^308; take a larger {name}"
        )
    return units


@dataclass(frozen=True, eq=False)
class _Plain:
    """Depth 1: W is the state."""

    problem: Problem
    depth: float = 1.0

    def W(self, y: np.ndarray) -> np.ndarray:
        return y.reshape(self.problem.shape)

    def velocity(self, _: float, y: np.ndarray) -> np.ndarray:
        return -gradient(self.problem, self.W(y)).ravel()

    def gradient_norm(self, y: np.ndarray) -> float:
        return float(np.linalg.norm(self.velocity(0.0, y)))

    def singular_values(self, y: np.ndarray) -> np.ndarray:
        return np.linalg.svd(self.W(y), compute_uv=False)

    def layers(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return ()

    def normalised(self, y: np.ndarray) -> np.ndarray:
        return y

    def rests(self, y: np.ndarray, t: float) -> bool:
        """Never but at a minimum, which the loss tells: f is convex."""
        return False


@dataclass(frozen=True, eq=False)
class _Decomposed:
    """Depth above 1: Λ, U and V, and what the equations say of them."""

    problem: Problem
    depth: float
    rank: int

    def parts(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (m, n), r = self.problem.shape, self.rank
        half = np.zeros((r, r))
        half[np.tril_indices(r)] = y[: r * (r + 1) // 2]
        U, V = np.split(y[r * (r + 1) // 2 :], [m * r])
        return half + np.tril(half, -1).T, U.reshape(m, r), V.reshape(n, r)

    def joined(self, L: np.ndarray, U: np.ndarray, V: np.ndarray) -> np.ndarray:
        return np.concatenate([L[np.tril_indices(self.rank)], U.ravel(), V.ravel()])

    def triple(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(u_i), ln σ_i, rising, and (v_i)."""
        L, U, V = self.parts(y)
        ell, R = np.linalg.eigh(L)
        return U @ R, ell, V @ R

    def W(self, y: np.ndarray) -> np.ndarray:
        U, ell, V = self.triple(y)
        return (U * np.exp(ell)) @ V.T

    def velocity(self, _: float, y: np.ndarray) -> np.ndarray:
        L, U, V = self.parts(y)
        ell, R = np.linalg.eigh(L)
        U, V = U @ R, V @ R
        G = gradient(self.problem, (U * np.exp(ell)) @ V.T)
        GV, GtU = G @ V, G.T @ U
        g = U.T @ GV
        low, high = np.minimum.outer(ell, ell), np.maximum.outer(ell, ell)
        gap = high - low
        if np.isinf(self.depth):
            # N (a_i − a_j) tends to 2 (ℓ_i − ℓ_j); the spaces of U and V do not turn.
            L = -0.5 * (g * np.exp(ell) + (g * np.exp(ell)).T)
            turn = 0.5 * np.exp(high) * _ratio(gap, 1.0) * (g - g.T)
            outward = np.zeros_like(ell)
        else:
            N = self.depth
            # (ℓ_i − ℓ_j)/(a_i − a_j) σ_j, in logarithms: σ_j may be 10^-100 of σ_i.
            first = g * np.exp(ell[None, :] - 2 / N * high)
            L = -(first + first.T) / _ratio(gap, 2 / N)
            turn = np.exp((1 - 2 / N) * high) * _ratio(gap, 1.0) / _ratio(gap, 2 / N) * (g - g.T)
            outward = np.exp((1 - 2 / N) * ell)
        # Errors in UᵀU = I do not grow, but they would not fall either, and long steps need that.
        pull = 0.5 * np.abs(g).max() * np.exp(ell[-1] * max(1 - 2 / self.depth, 0.0))
        dU = -(GV - _onto(U, GV)) * outward + pull * U @ _defect(U)
        dV = V @ turn - (GtU - _onto(V, GtU)) * outward + pull * V @ _defect(V)
        return self.joined(R @ L @ R.T, dU @ R.T, dV @ R.T)

    def _kernel(self, ell: np.ndarray) -> np.ndarray:
        """K_ij, at infinite depth divided by it."""
        low, high = np.minimum.outer(ell, ell), np.maximum.outer(ell, ell)
        if np.isinf(self.depth):
            return np.exp(2 * high) * _ratio(high - low, 2.0) / 2
        share = _ratio(high - low, 2.0) / _ratio(high - low, 2 / self.depth)
        return np.exp((2 - 2 / self.depth) * high) * share

    def gradient_norm(self, y: np.ndarray) -> float:
        """√(−df/dt), f's decrease summed over all pairs of singular vectors."""
        U, ell, V = self.triple(y)
        G = gradient(self.problem, (U * np.exp(ell)) @ V.T)
        GV, GtU = G @ V, G.T @ U
        decrease = np.sum(self._kernel(ell) * (U.T @ GV) ** 2)
        if np.isfinite(self.depth):
            outward = np.exp((2 - 2 / self.depth) * ell)
            for turned, base in ((GV, U), (GtU, V)):
                decrease += np.sum((turned - _onto(base, turned)) ** 2 * outward)
        return float(np.sqrt(decrease))

    def singular_values(self, y: np.ndarray) -> np.ndarray:
        values = np.exp(self.triple(y)[1])[::-1]
        return np.pad(values, (0, min(self.problem.shape) - self.rank))

    def layers(self, y: np.ndarray) -> tuple[np.ndarray, ...]:
        """(U σ^{1/N}, σ^{1/N}, …, σ^{1/N} Vᵀ) in the hidden basis of singular vectors."""
        if np.isinf(self.depth) or self.depth != int(self.depth):
            return ()
        U, ell, V = self.triple(y)
        root = np.exp(ell / self.depth)
        return (U * root, *[np.diag(root)] * (int(self.depth) - 2), (V * root).T)

    def normalised(self, y: np.ndarray) -> np.ndarray:
        """The state with orthonormal U and V and a diagonal Λ: what is slow has its own numbers."""
        U, ell, V = self.triple(y)
        return self.joined(np.diag(ell), _polar(U), _polar(V))

    def rests(self, y: np.ndarray, t: float) -> bool:
        """Whether all that W feels is at rest, and what is smaller does not grow.

        What creeps on to infinity is slow as well, but changes by its own size while t doubles.
        """
        U, ell, V = self.triple(y)
        W = (U * np.exp(ell)) @ V.T
        G = gradient(self.problem, W)
        size = float(np.linalg.norm(G, 2))
        felt = np.exp(ell) > FELT * max(size_of_data(self.problem), float(np.exp(ell[-1])))
        if size == 0.0 or not felt.any():
            return False
        moving = max(np.abs(G @ V[:, felt]).max(), np.abs(G.T @ U[:, felt]).max())
        pace = np.exp(ell[-1] * max(1 - 2 / self.depth, 0.0))
        small = -U[:, ~felt].T @ G @ V[:, ~felt]
        growing = np.linalg.eigvalsh(small + small.T).max(initial=-np.inf)
        still = moving <= AT_REST * size and moving * pace * t <= CREEPING
        return bool(still and growing <= AT_REST * size)


_Form = _Plain | _Decomposed


def _trajectory(path: _Path) -> Trajectory:
    """What is returned, in the caller's units."""
    form, units, states = path.form, path.units, path.states
    layers = path.layers_of(states[-1])
    losses = np.array([excess(form.problem, form.W(y)) for y in states])
    norms = np.array([form.gradient_norm(y) for y in states])
    return Trajectory(
        t=path.t,
        loss=units.target**2 * (losses + fit_of(form.problem).least),
        gradient_norm=units.target * units.rate**0.5 * norms,
        W=path.W_of(states[-1]),
        factors=layers,
        converged=path.reason == LOSS_REACHED,
        reason=path.reason,
        n_steps=len(states) - 1,
        n_gradients=path.n_gradients,
        dense_output=path.W_at,
        dense_factors=path.layers_at if layers else None,
        readings=_Readings(path),
    )


def _decomposed(
    problem: Problem, depth: float, U: np.ndarray, log_sizes: np.ndarray, V: np.ndarray
) -> tuple[_Decomposed, np.ndarray]:
    form = _Decomposed(problem, depth, len(log_sizes))
    return form, form.joined(np.diag(log_sizes), U, V)


def _ratio(gap: np.ndarray, p: float) -> np.ndarray:
    """(1 − e^{−p x})/x for x ≥ 0, which is p at 0."""
    x = np.where(gap > 0, gap, 1.0)
    return np.where(gap > 0, -np.expm1(-p * x) / x, p)


def _onto(base: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The part of X in the columns' space of `base`, nearly orthonormal ones."""
    return base @ np.linalg.solve(base.T @ base, base.T @ X)


def _defect(X: np.ndarray) -> np.ndarray:
    """I − XᵀX, exactly symmetric, so that its rounding turns nothing."""
    return np.eye(X.shape[1]) - X.T @ X


def _polar(X: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(X, full_matrices=False)
    return left @ right


class _Path:
    """The states after every step, and the polynomials between them, each with its own clock."""

    def __init__(self, form: _Form, units: _Units, y: np.ndarray) -> None:
        self.form, self.units = form, units
        self.times, self.states = [0.0], [y]
        self.pieces: list[tuple[float, object]] = []
        self.reason, self.n_gradients = "", 0
        self.t_max = np.inf

    def runs_away(self) -> bool:
        problem, size = self.form.problem, float(self.form.singular_values(self.states[-1])[0])
        if size <= far_beyond(problem.targets):
            return False
        before = self.states[int(np.searchsorted(self.times, self.times[-1] / 10))]
        earlier = float(self.form.singular_values(before)[0])
        now, then = (excess(problem, self.form.W(y)) for y in (self.states[-1], before))
        return grows_on(size, now, earlier, then)

    @property
    def t(self) -> np.ndarray:
        """The times in the caller's unit."""
        times = np.array(self.times) / self.units.rate
        if self.reason == TIME_LIMIT:
            times[-1] = self.t_max
        return times

    def state_at(self, t: float) -> np.ndarray:
        """The state at a time in the caller's unit."""
        times = self.t
        k = int(np.searchsorted(times, t, side="right")) - 1
        if k >= len(self.pieces) or times[k] == t:
            return self.states[min(k, len(self.states) - 1)]
        begun, piece = self.pieces[k]
        local = t * self.units.rate - begun
        return piece(np.clip(local, piece.t_min, piece.t_max))  # type: ignore[attr-defined, operator]

    def W_of(self, state: np.ndarray) -> np.ndarray:
        return self.units.W * self.form.W(state)

    def layers_of(self, state: np.ndarray) -> tuple[np.ndarray, ...]:
        root = self.units.W ** (1 / self.units.depth)
        return tuple(root * layer for layer in self.form.layers(state))

    def W_at(self, t: float) -> np.ndarray:
        return self.W_of(self.state_at(t))

    def layers_at(self, t: float) -> tuple[np.ndarray, ...]:
        return self.layers_of(self.state_at(t))


def _follow(
    form: _Form,
    units: _Units,
    y: np.ndarray,
    loss_tol: float,
    rtol: float,
    t_max: float,
    max_steps: int,
) -> _Path:
    """Step until the loss is down, W rests, or a limit is reached."""
    path = _Path(form, units, y)
    path.t_max, t_max = t_max, t_max * units.rate
    fit = fit_of(form.problem)
    goal = fit.threshold(loss_tol)
    if fit.learnable == 0.0:  # only the start has a size then
        goal = max(goal, loss_tol * excess(form.problem, form.W(y)))

    def above(state: np.ndarray) -> float:
        return excess(form.problem, form.W(state)) - goal

    begun, taken = 0.0, 0
    solver = _solver(form, y, t_max, rtol, None)
    if above(y) <= 0:
        path.reason = LOSS_REACHED
    while not path.reason:
        if begun + solver.t >= t_max:
            path.reason = TIME_LIMIT
        elif len(path.states) > max_steps:
            path.reason = STEP_LIMIT
        elif form.rests(path.states[-1], path.times[-1]):
            path.reason = STUCK
        elif path.runs_away():
            path.reason = UNBOUNDED
        else:
            with warnings.catch_warnings():
                # A trial state far off may overflow; the step is then cut.
                warnings.simplefilter("ignore", RuntimeWarning)
                solver.step()
            if solver.status == "failed":
                path.reason = STEP_TOO_SMALL
                break
            piece, end, state = solver.dense_output(), solver.t, solver.y
            if above(state) <= 0:
                end = _crossing(lambda t, piece=piece: above(piece(t)), solver.t_old, end)
                state, path.reason = piece(end), LOSS_REACHED
            path.pieces.append((begun, piece))
            path.times.append(begun + end)
            path.states.append(state)
            taken += 1
            assert solver.step_size is not None  # a step was taken
            if form.depth < 2 and solver.step_size < EPS * path.times[-1]:
                # A singular value goes to 0 there, and the clock that is set to 0 would follow it.
                path.reason = path.reason or STEP_TOO_SMALL
            if not path.reason and (solver.step_size < SHORT * solver.t or taken == MANY):
                path.n_gradients += solver.nfev
                begun, taken = begun + solver.t, 0
                solver = _solver(
                    form, form.normalised(state), t_max - begun, rtol, solver.step_size
                )
    path.n_gradients += solver.nfev
    return path


def _solver(form: _Form, y: np.ndarray, longest: float, rtol: float, h: float | None) -> Radau:
    """Logarithms and unit vectors have no size that an error would be relative to."""
    size = 1.0 if isinstance(form, _Decomposed) else max(float(np.abs(y).max()), 1.0)
    first = None if h is None else min(h, longest)

    def jacobian(t: float, at: np.ndarray) -> np.ndarray:
        moves = DIFFERENCE * size * np.eye(len(at))
        ahead, back = (
            np.array([form.velocity(t, at + sign * move) for move in moves]) for sign in (1, -1)
        )
        return (ahead - back).T / (2 * DIFFERENCE * size)

    from scipy.integrate import Radau

    return Radau(
        form.velocity,
        0.0,
        y,
        longest,
        rtol=100 * EPS,
        atol=rtol * size,
        jac=jacobian,
        first_step=first,
    )


def _crossing(height: object, low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(height, low, high, xtol=1e-300, rtol=4 * EPS))  # type: ignore[call-overload]


@dataclass(frozen=True, eq=False)
class _Readings:
    """What is read off the states."""

    path: _Path

    def singular_values(self, trajectory: Trajectory) -> np.ndarray:
        path = self.path
        return path.units.W * np.array([path.form.singular_values(y) for y in path.states])

    def phases(self, trajectory: Trajectory) -> tuple[Phase, ...]:
        values, states = trajectory.singular_values, self.path.states
        ranks = (values > 1e-3 * values.max()).sum(axis=-1)
        return tuple(
            Phase(
                float(trajectory.t[k]),
                int(ranks[k]),
                self.path.W_of(states[k]),
                float(trajectory.loss[k]),
                factors=self.path.layers_of(states[k]) or None,
            )
            for k in resting_times(trajectory.gradient_norm)
        )

    def log10_columns(self, trajectory: Trajectory) -> None:
        return None

    def one_of(self, trajectory: Trajectory, run: tuple[int, ...]) -> Trajectory:
        return trajectory
