"""Invariant manifolds: that the flow keeps to them, and that projection and distance are right."""

from itertools import pairwise

import numpy as np
import pytest

from mfbook.flow import gradient_flow
from mfbook.flow.descent import gradient_descent
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, examples
from mfbook.problems.graph import components
from mfbook.theory.manifold import InvariantManifold

TWO_PARTS = examples.disconnected_3x3.mask


def random_data(seed, m=4, n=5):
    rng = np.random.default_rng(seed)
    return MatrixCompletion(rng.standard_normal((m, n)), rng.random((m, n)) < 0.6)


def velocity(problem, factors):
    A, B = factors
    G = problem.gradient(A @ B)
    return -G @ B.T, -A.T @ G


@pytest.mark.parametrize("k", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_velocity_of_every_flow_is_tangent(seed, k):
    """For linear spaces this is invariance. The bound is rounding, relative to the velocity."""
    problem, rng = random_data(seed), np.random.default_rng(100 + seed)
    manifold = InvariantManifold(rng.standard_normal((k, 3)))
    inside = manifold.project(small_init((4, 5), width=3, rng=rng))
    moved = velocity(problem, inside)
    assert manifold.distance(moved) < 1e-13 * (1 + np.linalg.norm(moved[0]))


@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_the_velocity_is_tangent_to_a_sub_manifold(seed, component):
    rng = np.random.default_rng(seed)
    problem = MatrixCompletion(rng.standard_normal((3, 3)), TWO_PARTS)
    manifold = InvariantManifold(rng.standard_normal((2, 3)), mask=TWO_PARTS, component=component)
    inside = manifold.project(small_init((3, 3), rng=rng))
    moved = velocity(problem, inside)
    assert np.linalg.norm(np.vstack([moved[0], moved[1].T])) > 1e-3
    assert manifold.distance(moved) < 1e-13


def test_a_linking_entry_breaks_the_sub_manifold_and_not_the_whole():
    rng = np.random.default_rng(0)
    mask = TWO_PARTS.copy()
    mask[0, 1] = True
    problem = MatrixCompletion(rng.standard_normal((3, 3)), mask)
    basis = rng.standard_normal((2, 3))
    sub = InvariantManifold(basis, mask=TWO_PARTS, component=0)
    inside = sub.project(small_init((3, 3), rng=rng))
    moved = velocity(problem, inside)
    assert sub.distance(moved) > 1e-2
    assert InvariantManifold(basis).distance(moved) < 1e-13


def test_a_gradient_with_a_broken_span_is_seen():
    """The check of invariance fails where one row of A leaves the span."""
    rng = np.random.default_rng(1)
    problem = random_data(1)
    manifold = InvariantManifold(rng.standard_normal((2, 3)))
    A, B = manifold.project(small_init((4, 5), width=3, rng=rng))
    A[2] += 1e-3 * rng.standard_normal(3)
    assert manifold.distance((A, B)) > 1e-4
    assert manifold.distance(velocity(problem, (A, B))) > 1e-5


def test_the_flow_from_inside_stays_inside_and_from_outside_does_not_enter():
    rng = np.random.default_rng(2)
    manifold = InvariantManifold(rng.standard_normal((1, 3)))
    start = small_init((3, 3), rng=rng)
    inside = manifold.project(start)
    run = gradient_flow(examples.disconnected_3x3, inside, log10_scale=-6)
    assert run.converged
    for t in np.linspace(0, run.t[-1], 20):
        A, B = run.factors_at(t)
        assert manifold.distance((A, B)) < 1e-12 * (1 + np.linalg.norm(A))
    assert np.linalg.svd(run.W, compute_uv=False)[1] < 1e-10
    free = gradient_flow(examples.disconnected_3x3, start, log10_scale=-6)
    assert manifold.distance(free.factors) > 0.1


def test_descent_from_a_sub_manifold_learns_its_component_alone():
    """Bitwise: zeros are never touched, and an axis of the hidden space is exact."""
    manifold = InvariantManifold([[1.0, 0.0, 0.0]], mask=TWO_PARTS, component=0)
    start = manifold.project(small_init((3, 3), rng=0))
    run = gradient_descent(examples.disconnected_3x3, start, lr=0.05, max_iters=2000)
    assert manifold.distance(run.factors) == 0.0
    expected = np.array([[1.0, 0, 3], [0, 0, 0], [3, 0, 9]])
    assert np.abs(run.W - expected).max() < 1e-6
    assert abs(run.loss[-1] - 5) < 1e-9


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_distance_is_the_norm_of_what_a_qr_basis_does_not_hold(seed, k):
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((k, 4))
    A, B = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    Q = np.linalg.qr(basis.T)[0]
    expected = np.sqrt(np.linalg.norm(A - A @ Q @ Q.T) ** 2 + np.linalg.norm(B - Q @ Q.T @ B) ** 2)
    assert InvariantManifold(basis).distance((A, B)) == pytest.approx(expected, rel=1e-12)


def test_distance_from_a_sub_manifold_adds_the_rows_outside():
    """Pythagoras: outside of the component everything counts, inside what is off the span."""
    rng = np.random.default_rng(5)
    basis = rng.standard_normal((1, 3))
    A, B = rng.standard_normal((3, 3)), rng.standard_normal((3, 3))
    rows, cols = components(TWO_PARTS)[0]
    whole = InvariantManifold(basis).distance((A[rows], B[:, cols]))
    rest = np.linalg.norm(np.delete(A, rows, axis=0)), np.linalg.norm(np.delete(B, cols, axis=1))
    expected = np.sqrt(whole**2 + rest[0] ** 2 + rest[1] ** 2)
    sub = InvariantManifold(basis, mask=TWO_PARTS, component=0)
    assert sub.distance((A, B)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_distance_scales_with_the_point(scale):
    manifold = InvariantManifold([[1.0, 1.0]])
    A, B = scale * np.array([[1.0, -1.0]]), np.zeros((2, 1))
    assert manifold.distance((A, B)) == pytest.approx(np.sqrt(2) * scale, rel=1e-12)


def test_distance_takes_lists():
    assert InvariantManifold([[0, 1]]).distance(([[3, 0]], [[4], [0]])) == 5.0


@pytest.mark.parametrize("options", [{}, {"mask": TWO_PARTS, "component": 1}])
def test_projection_is_idempotent_and_orthogonal(options):
    rng = np.random.default_rng(7)
    manifold = InvariantManifold(rng.standard_normal((2, 3)), **options)
    point, other = small_init((3, 3), rng=rng), small_init((3, 3), rng=rng)
    near, inside = manifold.project(point), manifold.project(other)
    for once, twice in zip(near, manifold.project(near), strict=True):
        assert np.abs(once - twice).max() < 1e-14
    product = sum(np.vdot(p - q, r) for p, q, r in zip(point, near, inside, strict=True))
    assert abs(product) < 1e-13
    farther = [q + 0.1 * r for q, r in zip(near, inside, strict=True)]
    beyond = np.hypot(*(np.linalg.norm(p - q) for p, q in zip(point, farther, strict=True)))
    assert beyond > manifold.distance(point)


def test_projection_leaves_its_argument_alone():
    point = small_init((3, 3), rng=0)
    copies = [f.copy() for f in point]
    InvariantManifold([[1.0, 2.0, 3.0]], mask=TWO_PARTS, component=0).project(point)
    assert all((f == c).all() for f, c in zip(point, copies, strict=True))


def test_the_basis_does_not_matter_only_its_span():
    rng = np.random.default_rng(8)
    basis = rng.standard_normal((2, 4))
    point = small_init((3, 3), width=4, rng=rng)
    mixed = InvariantManifold(np.array([[2.0, 1.0], [5.0, 3.0]]) @ basis).project(point)
    for p, q in zip(InvariantManifold(basis).project(point), mixed, strict=True):
        assert np.abs(p - q).max() < 1e-12


def test_the_manifolds_are_nested():
    rng = np.random.default_rng(9)
    basis = rng.standard_normal((3, 4))
    point = small_init((3, 3), width=4, rng=rng)
    distances = [InvariantManifold(basis[:k]).distance(point) for k in range(4)]
    assert all(b < a for a, b in pairwise(distances))
    assert InvariantManifold(basis[:0]).distance(point) == pytest.approx(
        np.hypot(*(np.linalg.norm(f) for f in point)), rel=1e-14
    )
    inside = InvariantManifold(basis[:1]).project(point)
    assert InvariantManifold(basis).distance(inside) < 1e-13


def test_the_whole_space_is_a_manifold():
    point = small_init((3, 3), rng=0)
    assert InvariantManifold(np.eye(3)).distance(point) == 0.0


@pytest.mark.parametrize(
    "basis",
    [
        [[1.0, 2.0], [2.0, 4.0]],
        [[0.0, 0.0]],
        np.random.default_rng(0).standard_normal((3, 2)),
        [[1.0, 0.0, 0.0], [1.0, 1e-13, 0.0]],
    ],
)
def test_a_dependent_basis_is_refused(basis):
    with pytest.raises(ValueError, match="linearly independent, but they span"):
        InvariantManifold(basis)


def test_a_basis_of_very_different_lengths_is_a_basis():
    """Independence is a matter of directions; lengths are units."""
    tiny = InvariantManifold([[1e200, 0.0, 0.0], [0.0, 1e-200, 0.0]])
    assert tiny.distance((np.ones((1, 3)), np.zeros((3, 1)))) == pytest.approx(1.0)


@pytest.mark.parametrize("component", [-1, 2, 17])
def test_a_component_out_of_range_is_refused(component):
    with pytest.raises(ValueError, match="component must be between 0 and 1"):
        InvariantManifold([[1.0, 0.0, 0.0]], mask=TWO_PARTS, component=component)


def test_mask_and_component_come_together():
    for options in ({"mask": TWO_PARTS}, {"component": 0}):
        with pytest.raises(TypeError, match="needs both a mask and the index"):
            InvariantManifold([[1.0, 0.0, 0.0]], **options)


def test_a_component_must_be_an_index():
    for component in (0.5, "0", True):
        with pytest.raises(TypeError, match="component must be an integer"):
            InvariantManifold([[1.0, 0.0, 0.0]], mask=TWO_PARTS, component=component)


def test_factors_of_the_wrong_width_are_refused():
    manifold = InvariantManifold([[1.0, 0.0]])
    with pytest.raises(ValueError, match="hidden width 2"):
        manifold.project((np.ones((3, 3)), np.ones((3, 3))))


def test_factors_of_the_wrong_size_are_refused():
    manifold = InvariantManifold([[1.0, 0.0, 0.0]], mask=TWO_PARTS, component=0)
    with pytest.raises(ValueError, match=r"mask of shape \(3, 3\)"):
        manifold.project((np.ones((4, 3)), np.ones((3, 3))))


def test_two_factors_are_needed():
    with pytest.raises(ValueError, match="two factors"):
        InvariantManifold([[1.0, 0.0]]).project((np.ones((3, 2)),))
    with pytest.raises(ValueError, match="two factors"):
        InvariantManifold([[1.0, 0.0]]).distance((np.ones((3, 2)),) * 3)


def test_it_says_what_it_is():
    assert repr(InvariantManifold([[1.0, 0.0]])) == "InvariantManifold(k = 1)"
    part = InvariantManifold([[1.0, 0.0, 0.0]], mask=TWO_PARTS, component=0)
    assert part.k == 1
    assert repr(part) == f"InvariantManifold(k = 1, rows {part.rows}, columns {part.cols})"
