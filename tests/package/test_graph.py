"""The observation graph and its connectivity."""

from itertools import permutations
from math import factorial

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import mfbook as mf

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6)).filter(np.any)


@given(masks)
def test_the_two_definitions_of_connectivity_agree(mask):
    by_vertices = mf.connectivity(mask) == "connected"
    assert by_vertices == nx.is_connected(mf.entry_graph(mask))


@given(masks)
def test_the_entry_graph_is_the_line_graph(mask):
    lines = nx.line_graph(mf.observation_graph(mask))
    as_entries = nx.relabel_nodes(
        lines, {edge: tuple(i for _, i in sorted(edge, reverse=True)) for edge in lines}
    )
    entry = mf.entry_graph(mask)
    assert set(as_entries) == set(entry)
    assert {frozenset(e) for e in as_entries.edges} == {frozenset(e) for e in entry.edges}
    problem = mf.MatrixCompletion(np.ones(mask.shape), mask)
    assert set(mf.entry_graph(problem).edges) == set(entry.edges)


@given(masks, st.randoms(use_true_random=False))
def test_permuting_and_transposing_changes_nothing(mask, random):
    rows, cols = list(range(mask.shape[0])), list(range(mask.shape[1]))
    random.shuffle(rows)
    random.shuffle(cols)
    kind = mf.connectivity(mask)
    assert mf.connectivity(mask[np.ix_(rows, cols)]) == kind
    assert mf.connectivity(mask.T) == kind


@given(masks)
def test_components_partition_the_observed_entries(mask):
    count = np.zeros(mask.shape, dtype=int)
    for rows, cols in mf.components(mask):
        block = mask[np.ix_(rows, cols)]
        assert block.any(axis=1).all() and block.any(axis=0).all()
        count[np.ix_(rows, cols)] += block
    assert np.array_equal(count, mask.astype(int))


@given(masks)
def test_complete_bipartite_means_that_the_blocks_are_all_observed(mask):
    parts = mf.components(mask)
    filled = np.zeros_like(mask)
    for rows, cols in parts:
        filled[np.ix_(rows, cols)] = True
    expected = len(parts) > 1 and np.array_equal(filled, mask)
    assert (mf.connectivity(mask) == "complete-bipartite") == expected


def test_the_papers_examples():
    kinds = {name: mf.connectivity(getattr(mf.examples, name).mask) for name in ("M1", "M2", "M3")}
    assert kinds == {"M1": "disconnected", "M2": "complete-bipartite", "M3": "connected"}


def by_burnside(n: int) -> int:
    """Classes of nonempty n×n patterns, by counting fixed patterns of every symmetry."""
    places = [(i, j) for i in range(n) for j in range(n)]
    fixed = 0
    for rows in permutations(range(n)):
        for cols in permutations(range(n)):
            for flip in (False, True):
                image = {
                    (i, j): (rows[j], cols[i]) if flip else (rows[i], cols[j]) for i, j in places
                }
                cycles, seen = 0, set()
                for place in places:
                    cycles += place not in seen
                    while place not in seen:
                        seen.add(place)
                        place = image[place]
                fixed += 2**cycles
    return fixed // (2 * factorial(n) ** 2) - 1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_catalogue_has_as_many_classes_as_burnsides_lemma_counts(n):
    assert len(mf.sampling_patterns(n)) == by_burnside(n)


def test_the_catalogue_of_3x3_patterns_reaches_all_511_and_no_class_twice():
    seen: dict[bytes, int] = {}
    for k, pattern in enumerate(mf.sampling_patterns(3)):
        for image in (pattern, pattern.T):
            for rows in permutations(range(3)):
                for cols in permutations(range(3)):
                    code = image[np.ix_(rows, cols)].tobytes()
                    assert seen.setdefault(code, k) == k
    assert len(seen) == 511


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mf.connectivity(np.zeros((2, 2), dtype=bool)), ValueError, "selects no entry"),
        (lambda: mf.observation_graph(np.ones((2, 2))), TypeError, "boolean"),
        (lambda: mf.components(np.ones(3, dtype=bool)), ValueError, "2 dimensions"),
        (lambda: mf.sampling_patterns(6), ValueError, "between 1 and 5"),
        (lambda: mf.sampling_patterns(3, 10), ValueError, "between 1 and 9"),
        (lambda: mf.sampling_patterns(3, 0), ValueError, "between 1 and 9"),
    ],
)
def test_bad_masks_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
