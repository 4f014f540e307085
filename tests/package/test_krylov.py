"""Krylov spaces of a symmetric Jacobian, and what they know."""

import numpy as np
import pytest

from mfbook.flow.deep.large.orbit import Space
from mfbook.flow.shallow.krylov import EVERY, Krylov
from mfbook.flow.shallow.phi import phi_functions

EIGENVALUES = -np.geomspace(1e-2, 1e4, 60)
START = np.ones(60) / np.sqrt(60)


def of_two_factors(most):
    space = Krylov(lambda v: EIGENVALUES[:, None] * v, START[:, None], np.ones(1), most)
    return space, space.reach


def of_many_factors(most):
    space = Space(lambda v: EIGENVALUES * v, START, lambda v: float(np.linalg.norm(v)), most)
    return space, space.knows


@pytest.mark.parametrize("made", [of_two_factors, of_many_factors])
@pytest.mark.parametrize("most", [8 * EVERY + k for k in range(EVERY)])
def test_a_full_space_still_knows_shorter_steps(made, most):
    """A step that was too long is tried again with half of its length, in the same space."""
    space, knows = made(most)
    tol, h = 1e-6, 1.0
    assert not knows(h, tol)
    while not knows(h, tol):
        h /= 2
        assert h > 1e-3
    exact = h * phi_functions(h * EIGENVALUES)[0] * START
    found = space.apply(lambda x: h * phi_functions(h * x)[0]).ravel()
    assert np.linalg.norm(found - exact) <= 10 * tol
    assert len(space.diagonal) == most


def test_the_space_of_a_zero_is_complete_and_all_its_images_are_zero():
    space = Krylov(lambda v: EIGENVALUES[:, None] * v, np.zeros((60, 1)), np.ones(1), 5)
    assert space.reach(1.0, 1e-12) and not space.products
    assert not space.apply(np.exp).any() and space.apply(np.exp).shape == (60, 1)
    assert space.apply(phi_functions).shape == (*phi_functions(np.zeros(1)).shape[:-1], 60, 1)


def test_a_space_has_no_more_vectors_than_there_are():
    """What is left of the last one is the rounding of the largest eigenvalue, and no direction."""
    rng = np.random.default_rng(0)
    u, S = rng.standard_normal((6, 1)), rng.standard_normal((6, 6))
    u /= np.linalg.norm(u)
    b = u + 1e-10 * rng.standard_normal((6, 1))
    space = Krylov(lambda v: -1e20 * (u.T @ v) * u - S @ (S.T @ v), b, np.ones(1), 100)
    while not space.complete and len(space.diagonal) < 100:
        space.extend()
    assert space.complete and len(space.diagonal) <= 6
    assert np.isfinite(space.apply(lambda x: phi_functions(x)[0])).all()
