"""Answers of exercises that a computer can count, against what the chapters say."""

from itertools import product

import networkx as nx
import numpy as np

import mfbook as mf
from tools.chapters import chapters


def solution(chapter: str, label: str) -> str:
    """The text of the solution of an exercise."""
    [found] = [c for c in chapters() if c.name == chapter]
    return found.source.read_text("utf-8").split(f":::{{solution}} {label}\n")[1].split("\n:::")[0]


def test_patterns_whose_entry_graph_is_one_cycle():
    lengths = []
    for code in range(1, 512):
        graph = mf.entry_graph((code >> np.arange(9) & 1).astype(bool).reshape(3, 3))
        if nx.is_connected(graph) and all(degree == 2 for _, degree in graph.degree):
            lengths.append(len(graph))
    assert {k: lengths.count(k) for k in set(lengths)} == {3: 6, 4: 9, 6: 6}
    said = "9 give a cycle of four, 6 a cycle of six"
    assert said in solution("data/graph", "ex-line-graph-cycle")
    assert "6 a triangle" in solution("data/graph", "ex-line-graph-cycle")


def test_sizes_of_disconnected_4_by_4_with_complete_components():
    sizes = set()
    for parts in range(2, 5):
        cuts = [c for c in product(range(1, 5), repeat=parts) if sum(c) == 4]
        sizes |= {sum(np.multiply(rows, cols)) for rows in cuts for cols in cuts}
    assert sorted(sizes) == [4, 5, 6, 8, 10]
    assert "the sizes are 4, 5, 6, 8 and 10" in solution("data/connectivity", "ex-fewest")


def test_the_answer_of_ex_max_sum_is_learned_at_the_smallest_rank():
    assert "1&\\unknown\\\\\\unknown&0" in solution("data/connectivity", "ex-max-sum")
    problem = mf.MatrixCompletion.from_text("1 ?; ? 0")
    W = mf.gradient_flow(problem, mf.small_init((2, 2), rng=0), log10_scale=-100).W
    assert mf.numerical_rank(W, rtol=1e-6) == mf.min_rank(problem).rank == 1
