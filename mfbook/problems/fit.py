"""When a matrix fits: one rule for the flow, for descent, for greedy learning and the landscape.

The least loss min f is 0 where the measurements do not contradict each other. Its excess
f(W) − min f is computed as what is left of residuals to the *attainable* targets, those that some
matrix meets exactly: subtracting two losses would lose it in their rounding. The excess is judged
against f(0) − min f, what there is to learn, so that it does not matter in which unit the data are
given.

A product U Uᵀ may be unable to fit: then a matrix counts as a minimum where no positive
semidefinite one has a loss that is lower by more than the same threshold, which the gradient
certifies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfbook.problems.protocols import Problem, is_symmetric, reads_entries

EPS = np.finfo(float).eps

#: W fits where the excess is at most this share of f(0) − min f: where the flows stop by default.
LOSS_TOL = 1e-10

# Squares of the data are summed, and double precision ends at 1e308.
LARGEST, LARGEST_MEASUREMENT = 1e152, 1e50

# How far the certificate of a least loss over the cone looks, in sizes of the data.
CONE_REACH = 10.0

# Residuals of four roundings of the targets are as small as any computed product has them.
ROUNDING = (4 * EPS) ** 2


@dataclass(frozen=True)
class Fit:
    """The rule for one problem: `least` is min f, `learnable` f(0) − min f."""

    least: float
    learnable: float
    rounding: float

    def threshold(self, loss_tol: float) -> float:
        """The excess at or below which a matrix fits."""
        return max(loss_tol * self.learnable, self.rounding)


def require_size(problem: Problem) -> None:
    """Refuse data so large or small that their squares leave double precision."""
    for name, array, most in (
        ("the data", problem.targets, LARGEST),
        ("the measurements", problem.sizes, LARGEST_MEASUREMENT),
    ):
        size = float(np.abs(array).max())
        if size > 0 and not 1 / most <= size <= most:
            raise ValueError(
                f"{name} must be of a size between {1 / most:g} and {most:g}, whose squares are "
                f"numbers in double precision, but the largest is {size!r}; choose another unit"
            )


def fit_of(problem: Problem) -> Fit:
    """What `problem` leaves to learn."""
    require_size(problem)
    weight = problem.weight
    total = weight * float(np.sum(problem.targets**2))
    attainable = problem.attainable
    learnable = weight * float(np.sum(attainable**2))
    least = weight * float(np.sum((problem.targets - attainable) ** 2))
    rounding = ROUNDING * total
    # What is left of targets that no matrix can meet at all is rounding, and nothing to learn.
    return Fit(least, learnable if learnable > len(attainable) * rounding else 0.0, rounding)


def gradient(problem: Problem, W: ArrayLike) -> np.ndarray:
    """∇f(W), of what any problem has."""
    return 2 * problem.weight * problem.adjoint(problem.measure(W) - problem.targets)


def excess(problem: Problem, W: ArrayLike) -> float:
    """f(W) − min f."""
    return problem.weight * float(np.sum((problem.measure(W) - problem.attainable) ** 2))


def fits(problem: Problem, W: ArrayLike, loss_tol: float = LOSS_TOL) -> bool:
    """Whether W is a global minimum of f, to within loss_tol of what there is to learn.

    For a symmetric problem that is a minimum over the cone of positive semidefinite matrices.

    >>> from mfbook.problems import MatrixSensing
    >>> twice = MatrixSensing([[[1.0]], [[1.0]]], [1.0, 3.0])  # one entry with two values
    >>> fits(twice, [[2.0]]), fits(twice, [[1.0]])
    (True, False)
    """
    threshold = fit_of(problem).threshold(loss_tol)
    return excess(problem, W) <= threshold or is_least_over_cone(problem, W, loss_tol)


def is_least_over_cone(problem: Problem, W: ArrayLike, loss_tol: float = LOSS_TOL) -> bool:
    """Whether W ⪰ 0 has the least loss of all U Uᵀ, to within loss_tol of what there is to learn.

    False for a problem that is not symmetric. As f is convex, every V ⪰ 0 has

        f(W) − f(V) ≤ ⟨G, W⟩ − ⟨G, V⟩ ≤ ⟨G, W⟩ + max(λ_1(−G), 0) tr V,    G = ∇f(W),

    which is 0 for all V exactly where W is a minimum (Li, Luo & Lyu 2021, Lemma A.2). It is asked
    for tr V up to that of W, and `CONE_REACH` times the size of the data in every row; components
    of the observed entries are judged one by one, each by this or by its own loss.

    >>> from mfbook.problems import SymmetricCompletion
    >>> problem = SymmetricCompletion.from_text("1 2; 2 1")
    >>> is_least_over_cone(problem, [[1.5, 1.5], [1.5, 1.5]])
    True
    >>> is_least_over_cone(problem, [[1, 1], [1, 1]])
    False
    """
    if not is_symmetric(problem):
        return False
    W = np.asarray(W, dtype=float)
    r = problem.measure(W) - problem.attainable
    G = 2 * problem.weight * problem.adjoint(r)
    size, curvature = size_of_data(problem), 2 * problem.weight * float(problem.sizes.max()) ** 2
    total = 0.0
    for vertices, _ in problem.parts:
        block = np.ix_(vertices, vertices)
        trace = float(np.trace(W[block]))
        # What is rounding in G, and in what it is the sum of.
        noise = 16 * EPS * curvature * len(vertices) * (size + trace)
        rate = max(float(np.linalg.eigvalsh(-G[block])[-1]) - noise, 0.0)
        slack = max(float(np.sum(G[block] * W[block])) - noise * trace, 0.0)
        gap = slack + rate * max(trace, CONE_REACH * len(vertices) * size)
        if reads_entries(problem):
            # The loss of a component is what its part of the gradient squares to.
            gap = min(gap, float(np.sum(G[block] ** 2)) / (4 * problem.weight))
        total += gap
    return total <= fit_of(problem).threshold(loss_tol)


def size_of_data(problem: Problem) -> float:
    """‖∇f(0)‖₂/(2c max ‖X_l‖_F²), the size of a step from 0 towards the data; 0 if there is none.

    >>> from mfbook.problems import MatrixCompletion
    >>> round(size_of_data(MatrixCompletion.from_text("3 ?; ? -5")), 12)
    5.0
    """
    at_zero = gradient(problem, np.zeros(problem.shape))
    largest = float(problem.sizes.max())
    if largest == 0.0:
        return 0.0
    return float(np.linalg.norm(at_zero / largest, 2)) / (2 * problem.weight * largest)
