"""What explorers begin with, checked: a problem that a page can compute with, a seed, a scale."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import State
from mfbook.flow import gradient_flow
from mfbook.flow.trajectory import Trajectory
from mfbook.models import require_layers, small_init
from mfbook.problems import MatrixCompletion, MatrixSensing
from mfbook.problems.checks import real_number, require_problem, whole_number
from mfbook.theory.measures import nuclear_norm, numerical_rank

Given = MatrixCompletion | str | ArrayLike
#: the most rows and columns that a page computes with
LARGEST = 8
LARGEST_SEED = 999_999
TINY = -100
#: the stops of the sliders
SCALES = (0, -1, -2, -3, -4, -6, -8, -10, -15, -20, -30, -50, -100, -200, -300, -500, -1000)


def as_problem(given: Given, largest: int = LARGEST) -> MatrixCompletion:
    """The problem that is given in one of three ways, of a size that a page can compute with."""
    if isinstance(given, MatrixCompletion | MatrixSensing):
        require_problem(given, entries="an explorer shows observed entries")
        require_layers(given, "an explorer follows two factors and more, W = W_1 W_2 ⋯,")
    if isinstance(given, MatrixCompletion):
        problem = given
    elif isinstance(given, str):
        problem = MatrixCompletion.from_text(given)
    else:
        problem = MatrixCompletion.from_array(given)
    if max(problem.shape) > largest:
        raise ValueError(
            f"problem must have at most {largest} rows and {largest} columns, which a page "
            f"computes with, but has the shape {problem.shape}; use gradient_flow for larger ones"
        )
    return problem


def begins(problem: MatrixCompletion, seed: int, log10_scale: float) -> State:
    """The state that an explorer begins with, checked."""
    return {
        "cells": [
            [float(v) if seen else None for v, seen in zip(row, mask, strict=True)]
            for row, mask in zip(problem.values, problem.mask, strict=True)
        ],
        "seed": whole_number("seed", seed, least=0, most=LARGEST_SEED),
        "scale": plain(real_number("log10_scale", log10_scale, least=-10000, most=0)),
    }


def plain(x: float) -> float | int:
    """A whole number without its point, as a page writes it."""
    return int(x) if x == int(x) else x


def require_one_of(name: str, value: object, stops: Iterable[object]) -> None:
    known = list(stops)
    if value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(str(stop) for stop in known)}, but is {value!r}"
        )


def followed(problem: MatrixCompletion, seed: int, log10_scale: float) -> Trajectory:
    return gradient_flow(problem, small_init(problem.shape, rng=seed), log10_scale=log10_scale)


def summary(W: np.ndarray) -> str:
    rank = numerical_rank(W, rtol=1e-3)
    return f"rank {rank}, nuclear norm {static.digits(float(nuclear_norm(W)))}"
