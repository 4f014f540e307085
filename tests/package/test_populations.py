"""The random problems that experiments draw from."""

from collections import Counter

import networkx as nx
import numpy as np
import pytest

import mfbook as mf

connected_population = mf.populations.connected_population


@pytest.fixture(scope="module")
def population():
    return connected_population(4, seed=1)


def test_every_triple_is_there_as_often_as_asked(population):
    _, triples = population
    assert set(Counter(triples).values()) == {4}
    assert {(n, rank) for n, rank, _ in triples} == {
        (n, rank) for n in range(2, 7) for rank in (1, 2, 3) if rank < n
    }
    for n, rank, size in set(triples):
        assert 1 <= size < n * n and abs(size - (2 * rank * n - rank**2)) <= 2
    assert len(set(triples)) == 54


def test_problems_are_what_their_triples_say(population):
    for problem, (n, rank, size) in zip(*population, strict=True):
        assert problem.shape == (n, n) and problem.n_observed == size
        assert np.linalg.matrix_rank(problem.truth) == rank
        assert problem.loss_value(problem.truth) == 0
        assert nx.is_connected(mf.entry_graph(problem.mask))


def test_a_smaller_population_begins_a_larger_one(population):
    problems, triples = connected_population(2, seed=1)
    assert triples == population[1][: len(triples)]
    for one, other in zip(problems, population[0], strict=False):
        assert np.array_equal(one.truth, other.truth) and np.array_equal(one.mask, other.mask)


def test_problems_differ_and_so_do_seeds(population):
    truths = {problem.truth.tobytes() for problem in population[0]}
    assert len(truths) == len(population[0])
    others, _ = connected_population(1, seed=2)
    assert truths.isdisjoint(problem.truth.tobytes() for problem in others)


@pytest.mark.slow
def test_connected_sets_of_entries_are_equally_likely():
    # Three entries of a 3×3 matrix whose graph is connected: 36 paths and 6 stars.
    count, sets = 200, 42
    problems, triples = connected_population(count, seed=3)
    pairs = zip(problems, triples, strict=True)
    drawn = Counter(p.mask.tobytes() for p, triple in pairs if triple == (3, 1, 3))
    chi_square = sum((n - count / sets) ** 2 / (count / sets) for n in drawn.values())
    chi_square += (sets - len(drawn)) * count / sets
    # Mean sets − 1 and variance 2 (sets − 1): five standard deviations.
    assert chi_square < sets - 1 + 5 * np.sqrt(2 * (sets - 1))


@pytest.mark.parametrize("kind", mf.populations.CLASSES)
def test_problems_of_a_class(kind):
    rank, size, connected = mf.populations.CLASSES[kind]
    rng = np.random.default_rng(5)
    for _ in range(20):
        problem = mf.populations.problem_of_class(rng, kind, loss="half")
        assert mf.numerical_rank(problem.truth) == rank
        assert mf.connectivity(problem.mask) == connected
        assert problem.mask.any(axis=0).all() and problem.mask.any(axis=1).all()
        assert problem.loss == "half" and size in (None, problem.n_observed)


def test_the_classes_are_named():
    with pytest.raises(ValueError, match="tree, rank 1"):
        mf.populations.problem_of_class(0, "tree")
