"""`escape_direction` on problems that nobody wrote down: predicted at a saddle, compared with
the flow after it has left. The problems come from a fixed generator."""

import numpy as np
import pytest
from scipy.optimize import brentq

from mfbook import escape_direction, examples, hessian
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing
from mfbook.problems.graph import connectivity
from mfbook.problems.populations import random_low_rank, random_mask

# The promise, for a saddle at which the flow comes to rest.
ESCAPE = 1e-4
REST = 1e-6
EPS = np.finfo(float).eps


def stacked(factors):
    A, B = factors
    return np.concatenate([A, B.T])


def angle(x, y):
    return 2 * np.arcsin(min(np.linalg.norm(x - y), np.linalg.norm(x + y)) / 2)


def unrest(problem, phase):
    """|S U| / (|S| |U|): 0 at rest."""
    A, B = phase.factors
    G = problem.gradient(phase.W)
    push = np.hypot(np.linalg.norm(G @ B.T), np.linalg.norm(A.T @ G))
    return push / max(np.linalg.norm(G, 2) * np.linalg.norm(stacked((A, B))), 1e-300)


def escaping(run, t, k):
    """Size and direction of the (k + 1)-th column of U(t)."""
    left, size, _ = np.linalg.svd(stacked(run.factors_at(t)), full_matrices=False)
    return size[k], left[:, k]


def observed_escape(problem, run, number):
    """Direction of the column that leaves, and its rate over a decade, from the flow alone.

    It is measured at the size s where s² changes G by 1e-8 of the gap (c the weight of a squared
    residual: 2c s²/2 = 1e-8 gap), so that neither rounding nor the nonlinear terms matter.
    """
    phase, after = run.phases[number : number + 2]
    k = phase.rank
    rates = np.linalg.svd(problem.gradient(phase.W), compute_uv=False)
    c = 0.5 if problem.loss == "half" else 1 / problem.n_observed
    size = 1e-4 * np.sqrt((rates[0] - rates[1]) / (2 * c))

    def over(t, size):
        return np.log(max(escaping(run, t, k)[0], 1e-300) / size)

    late = brentq(over, phase.time, after.time, args=(size,))
    early = brentq(over, phase.time, late, args=(size / 10,))
    (large, direction), (small, _) = escaping(run, late, k), escaping(run, early, k)
    return direction, np.log(large / small) / (late - early)


def random_problem(rng, loss):
    """A connected problem of random shape, rank and mask, of which something stays unseen."""
    while True:
        shape = tuple(int(x) for x in rng.integers(2, 6, 2))
        rank = int(rng.integers(1, min(shape) + 1))
        mask = random_mask(rng, shape, int(rng.integers(sum(shape) - 1, shape[0] * shape[1] + 1)))
        if connectivity(mask) == "connected":
            truth = random_low_rank(rng, shape, rank)
            return MatrixCompletion(truth, mask, loss=loss)


def saddles(problem, seed):
    """The saddles of a flow from 10^-1000 at which it comes to rest: predicted, observed."""
    run = gradient_flow(problem, small_init(problem.shape, rng=seed), log10_scale=-1000)
    for number, phase in enumerate(run.phases[:-1]):
        if unrest(problem, phase) < REST:
            predicted = escape_direction(problem, phase.factors)
            yield phase, predicted, *observed_escape(problem, run, number)


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(90210)
    rows = []
    for seed in range(24):
        problem = random_problem(rng, ("mean", "half")[seed % 2])
        rows += [(problem, *row) for row in saddles(problem, seed)]
    return rows


@pytest.mark.slow
def test_the_population_has_later_saddles(population):
    """At zero alone the prediction would be the singular vectors of the data."""
    ranks = [phase.rank for _, phase, *_ in population]
    assert len(ranks) >= 30
    assert sum(rank >= 1 for rank in ranks) >= 10
    assert sum(rank >= 2 for rank in ranks) >= 3


def test_direction_and_rate_are_those_of_the_flow(population):
    for _, _, predicted, direction, rate in population:
        aim = np.concatenate(predicted.direction) / np.sqrt(2)
        assert angle(direction, aim) < ESCAPE
        assert rate == pytest.approx(predicted.rate, rel=ESCAPE)
        assert predicted.second_rate < predicted.rate


def test_the_flow_reports_the_same_escape(population):
    """`Phase.direction` and `Phase.rate` are the engine's own; in one component they agree."""
    for _, phase, predicted, *_ in population:
        assert phase.rate == pytest.approx(predicted.rate, rel=1e-6)
        assert angle(np.concatenate(phase.direction), np.concatenate(predicted.direction)) < 1e-6


@pytest.mark.parametrize("broken", ["second pair", "sign", "gradient at zero"])
def test_a_wrong_prediction_is_noticed(population, broken):
    """Each would-be prediction misses somewhere; the first two miss everywhere."""
    misses = []
    for problem, phase, _, direction, _ in population:
        G = problem.gradient(np.zeros(problem.shape) if broken == "gradient at zero" else phase.W)
        left, _, right = np.linalg.svd(-G)
        k = 1 if broken == "second pair" else 0
        sign = -1 if broken == "sign" else 1
        aim = np.concatenate([left[:, k], sign * right[k]]) / np.sqrt(2)
        misses.append(angle(direction, aim) > 100 * ESCAPE)
    later = np.array([phase.rank >= 1 for _, phase, *_ in population])
    if broken == "gradient at zero":
        assert np.array(misses)[later].all() and not np.array(misses)[~later].any()
    else:
        assert all(misses)


def test_the_hidden_basis_does_not_matter(population):
    """(A Q, Qᵀ B) is the same point of the landscape, for every orthogonal Q."""
    rng = np.random.default_rng(7)
    for problem, phase, predicted, *_ in population:
        A, B = phase.factors
        Q = np.linalg.qr(rng.standard_normal((A.shape[1], A.shape[1])))[0]
        turned = escape_direction(problem, (A @ Q, Q.T @ B))
        # W is rounded to a few eps of its size, G to that of its size at zero; its singular
        # vectors turn by that over the gap.
        noise = 100 * EPS * np.linalg.norm(problem.gradient(np.zeros(problem.shape)))
        assert abs(turned.rate - predicted.rate) < noise
        gap = predicted.rate - predicted.second_rate
        for x, y in zip(turned.direction, predicted.direction, strict=True):
            assert np.abs(x - y).max() < noise / gap


def test_the_rate_is_the_top_eigenvalue_of_the_negative_hessian(population):
    """It comes h − k times: the hidden directions in use are not free (Lemma A.3)."""
    for problem, phase, predicted, *_ in population:
        h = phase.factors[0].shape[1]
        values = np.linalg.eigvalsh(-hessian(problem, phase.factors))[::-1]
        near = np.abs(values - predicted.rate) < 1e-6 * predicted.rate
        assert near[0] and near.sum() == h - phase.rank


def test_the_largest_entry_of_u_is_positive(population):
    for _, _, predicted, *_ in population:
        u, v = predicted.direction
        assert u[np.argmax(np.abs(u))] > 0
        assert np.linalg.norm(u) == pytest.approx(1) and np.linalg.norm(v) == pytest.approx(1)


def test_a_sensing_problem_leaves_zero_along_its_weighted_measurements():
    """At zero −G = Σ y_l X_l, for the half loss."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((6, 3, 4)), rng.standard_normal(6)
    problem = MatrixSensing(X, y)
    left, s, right = np.linalg.svd(np.einsum("l,lij->ij", y, X))
    escape = escape_direction(problem, (np.zeros((3, 3)), np.zeros((3, 4))))
    assert escape.rate == pytest.approx(s[0]) and escape.second_rate == pytest.approx(s[1])
    aim = np.concatenate([left[:, 0], right[0]])
    assert angle(np.concatenate(escape.direction) / np.sqrt(2), aim / np.sqrt(2)) < 1e-12


@pytest.mark.parametrize(("entry", "first"), [(0.2, "M3"), (0.6, "M3"), (0.8, "entry")])
def test_a_head_start_decides_between_components(entry, first):
    """With 1/q < 1/σ_1 + (1 − σ_2/σ_1)/μ the lone entry q goes before the rest of M3.

    For q = 0.6 it has the larger rate at the saddle, and does not go first. The flow's own
    phases know it, `escape_direction` cannot.
    """
    rows = "1 2 ? ?; 3 4 ? ?; 6 ? 5 ?; ? ? ? " + str(entry)
    problem = MatrixCompletion.from_text(rows)
    run = gradient_flow(problem, small_init((4, 4), rng=0), log10_scale=-1000)
    phase, after = run.phases[1:3]
    s = np.linalg.svd(examples.M3.gradient(np.zeros((3, 3))), compute_uv=False) * 3
    mu = np.linalg.svd(7 / 2 * problem.gradient(phase.W)[:3, :3], compute_uv=False)[0]
    by_formula = "entry" if 1 / entry < 1 / s[0] + (1 - s[1] / s[0]) / mu else "M3"
    real = "entry" if after.W[3, 3] > entry / 2 else "M3"
    reported = "entry" if abs(phase.direction[0][3]) > 0.5 else "M3"
    by_rate = escape_direction(problem, phase.factors).direction[0]
    assert real == reported == by_formula == first
    assert (abs(by_rate[3]) > 0.5) == (entry > mu)
