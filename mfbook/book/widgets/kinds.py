"""The explorers, one function each: what it asks, what it begins with, what it shows when still."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer, State
from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion
from mfbook.problems.checks import real_number, whole_number
from mfbook.rivals.minrank import min_rank
from mfbook.rivals.nuclear import min_nuclear_norm
from mfbook.theory.measures import nuclear_norm, numerical_rank

Given = MatrixCompletion | str | ArrayLike
#: the most rows and columns that a page computes with
LARGEST = 8
LARGEST_SEED = 999_999
TINY = -100


def matrix(
    problem: Given = "2 2 4; 3 ? ?; 4 ? ?", *, seed: int = 0, log10_scale: float = TINY
) -> Explorer:
    """Type, paste or draw a matrix, and compare five ways of finishing it.

    Parameters
    ----------
    problem
        what it begins with: a `MatrixCompletion`, text as `MatrixCompletion.from_text` reads it,
        or an array as `MatrixCompletion.from_array` reads it; up to 8×8.
    seed, log10_scale
        the start of the flow that it begins with: `small_init(problem.shape, rng=seed)` at the
        scale 10^log10_scale, from -10000 to 0.

    Raises
    ------
    TypeError, ValueError
        what is no such problem, a problem that is too large, a seed or a scale out of range.

    Examples
    --------
    >>> matrix("1 2; 3 ?")
    widgets.matrix('1 2; 3 ★', seed=0, log10_scale=-100)
    """
    given = as_problem(problem)
    state = begins(given, seed, log10_scale)
    start = small_init(given.shape, rng=seed)
    large, tiny, chosen = (
        gradient_flow(given, start, log10_scale=scale) for scale in (0, TINY, log10_scale)
    )
    answers = {
        "unfactored, from zero": np.where(given.mask, given.values, 0.0),
        "factored, large start": large.W,
        "factored, tiny start": tiny.W,
        "smallest nuclear norm": min_nuclear_norm(given).W,
        "smallest rank": min_rank(given).W,
    }
    shown = [
        static.card(name, static.matrix(W, given, name), summary(W)) for name, W in answers.items()
    ]
    figure = static.frame(
        "Your own matrix",
        "Which of all the matrices that fit does each way of completing choose?",
        static.cards(static.card("the problem", static.given(given, "the problem")), *shown),
        static.staircase(chosen),
        static.said(f"The flow from 10^{log10_scale:g}: ranks on the way {static.ranks(chosen)}."),
    )
    return Explorer("matrix", state, figure)


def summary(W: np.ndarray) -> str:
    rank = numerical_rank(W, rtol=1e-3)
    return f"rank {rank}, nuclear norm {static.digits(nuclear_norm(W))}"


def as_problem(given: Given) -> MatrixCompletion:
    """The problem that is given in one of three ways, of a size that a page can compute with."""
    if isinstance(given, MatrixCompletion):
        problem = given
    elif isinstance(given, str):
        problem = MatrixCompletion.from_text(given)
    else:
        problem = MatrixCompletion.from_array(given)
    if max(problem.shape) > LARGEST:
        raise ValueError(
            f"problem must have at most {LARGEST} rows and {LARGEST} columns, which a page "
            f"computes with, but has the shape {problem.shape}; use gradient_flow for larger ones"
        )
    return problem


def begins(problem: MatrixCompletion, seed: int, log10_scale: float) -> State:
    """The state that an explorer begins with, checked."""
    return {
        "cells": [
            [float(f"{v:.12g}") if seen else None for v, seen in zip(row, mask, strict=True)]
            for row, mask in zip(problem.values, problem.mask, strict=True)
        ],
        "seed": whole_number("seed", seed, least=0, most=LARGEST_SEED),
        "scale": plain(real_number("log10_scale", log10_scale, least=-10000, most=0)),
    }


def plain(x: float) -> float | int:
    """A whole number without its point, as a page writes it."""
    return int(x) if x == int(x) else x
