"""The explorers, one function each: what it asks, what it begins with, what it shows when still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfbook.book.widgets import static
from mfbook.book.widgets.explorer import Explorer, State
from mfbook.flow import gradient_flow
from mfbook.flow.trajectory import Trajectory
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, examples, populations
from mfbook.problems.checks import real_array, real_number, whole_number
from mfbook.problems.graph import connectivity
from mfbook.rivals.minrank import min_rank
from mfbook.rivals.nuclear import min_nuclear_norm
from mfbook.theory.measures import nuclear_norm, numerical_rank

Given = MatrixCompletion | str | ArrayLike
#: the most rows and columns that a page computes with
LARGEST = 8
LARGEST_SEED = 999_999
TINY = -100
FAR = -300
#: the stops of the sliders
SCALES = (0, -1, -2, -3, -4, -6, -8, -10, -15, -20, -30, -50, -100, -200, -300, -500, -1000)
STOPS_OF_C = (1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100)
TABLE = np.outer(range(1, 5), range(1, 5))
TWO_BLOCKS = np.kron(np.eye(2), np.ones((2, 2))) == 1
ONE_UNKNOWN = {"M4": examples.M4, "M5": examples.M5, "runaway": examples.runaway_3x3}
TRAVERSED = {
    "paper": examples.connected_4x4,
    "diagonal": MatrixCompletion.from_text("2 0; 0 1"),
    "parts": examples.disconnected_3x3,
    "symmetry": MatrixCompletion.from_text("1 3 -1 ?; 3 1 ? -1; -3 -1 ? 9; -1 -3 9 ?"),
}
#: how far from the smallest rank a run ended: a letter for each fifth of a decade from 10^-10
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
LOWEST, STEP, SETTLED = -10, 0.2, 1e-3
LANES = ("trees", "one cycle, rank 1", "more cycles, rank 1", "rank 2", "rank 3")


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


def mask(truth: ArrayLike = TABLE, observed: ArrayLike = TWO_BLOCKS, *, seed: int = 0) -> Explorer:
    """Click entries on and off, and see what the class of the graph changes.

    Parameters
    ----------
    truth
        (m, n) the entries that may be observed, up to 8×8.
    observed
        (m, n) boolean: those that are, to begin with.
    seed
        of the start, at the scale 10^-100.

    Raises
    ------
    TypeError, ValueError
        a truth that is no real matrix or too large, a mask that does not fit it or is empty.

    Examples
    --------
    >>> mask([[1, 2], [2, 4]], [[True, False], [False, True]])
    widgets.mask('1 ★; ★ 4', seed=0, log10_scale=-100)
    """
    whole = real_array("truth", truth, ndim=2, finite=True)
    given = as_problem(MatrixCompletion(whole, np.asarray(observed)))
    state = begins(given, seed, TINY)
    run = gradient_flow(given, small_init(given.shape, rng=seed), log10_scale=TINY)
    least, lowest = min_nuclear_norm(given), min_rank(given)
    answers = {
        "learned, from 10^-100": run.W,
        "smallest rank": lowest.W,
        "smallest nuclear norm": least.W,
    }
    figure = static.frame(
        "The mask",
        "What does one entry more, or one entry less, change?",
        static.cards(
            static.card("the problem", static.given(given, "the problem")),
            *(
                static.card(name, static.matrix(W, given, name), summary(W))
                for name, W in answers.items()
            ),
        ),
        static.said(f"{connectivity(given.mask)}: ranks on the way {static.ranks(run)}."),
    )
    return Explorer("mask", state, figure, more={"truth": whole.tolist()})


def scale(example: str = "M5", *, c: int = 20, seed: int = 0, log10_scale: int = -4) -> Explorer:
    """Make the start smaller, from 1 to 10^-1000, and watch the one unknown entry.

    Parameters
    ----------
    example
        "M4", "M5", "c" (rows 1 2 and c ★) or "runaway", to begin with.
    c
        for "c", one of the stops of its slider.
    seed, log10_scale
        of the start; the scale is one of the stops of its slider.

    Raises
    ------
    ValueError
        an example, a c or a scale that is none of those.

    Examples
    --------
    >>> scale("M4", log10_scale=-100)
    widgets.scale('1 2; 3 ★', seed=0, log10_scale=-100)
    """
    require_one_of("example", example, (*ONE_UNKNOWN, "c"))
    require_one_of("c", c, STOPS_OF_C)
    require_one_of("log10_scale", log10_scale, SCALES)
    two = MatrixCompletion.from_text(f"1 2; {c} ?")
    given = ONE_UNKNOWN.get(example, two)
    state = begins(given, seed, log10_scale) | {"example": example, "c": c}
    shown = (0, -2, -4, -10, -50, -100, -1000)
    rows = [
        (
            f"10^{exponent}",
            *(
                static.digits(float(_flow(problem, seed, exponent).W[-1, -1]), 3)
                for problem in ONE_UNKNOWN.values()
            ),
        )
        for exponent in shown
    ]
    figure = static.frame(
        "The scale",
        "How small must the start be, and is smaller always better?",
        static.table(
            "The unknown entry that is learned. The smallest rank needs 6, 40 and −3.",
            ("size of the start", "M₄", "M₅", "the one that runs away"),
            rows,
        ),
    )
    return Explorer("scale", state, figure)


def time(
    problem: Given = "1 2 ?; 3 4 ?; 6 ? 5", *, seed: int = 0, log10_scale: int = -20
) -> Explorer:
    """Scrub through one run: the loss, the singular values, W, and the factors as arrows.

    Parameters
    ----------
    problem
        as for `matrix`.
    seed, log10_scale
        of the start; the scale is one of the stops of the slider, down to -300.

    Raises
    ------
    TypeError, ValueError
        what is no such problem, a problem that is too large, a seed or a scale out of range.

    Examples
    --------
    >>> time("1 2; 3 ?")
    widgets.time('1 2; 3 ★', seed=0, log10_scale=-20)
    """
    given = as_problem(problem)
    require_one_of("log10_scale", log10_scale, [e for e in SCALES if e >= -300])
    state = begins(given, seed, log10_scale) | {"at": 80}
    run = _flow(given, seed, log10_scale)
    rests = [
        static.card(
            f"rest at rank {phase.rank}" if k < len(run.phases) - 1 else "the end",
            static.matrix(phase.W, given, "W"),
            f"time {static.digits(phase.time, 3)}, loss {static.digits(phase.loss, 2)}",
        )
        for k, phase in enumerate(run.phases)
    ]
    figure = static.frame(
        "Time",
        "What happens between the start and the answer?",
        static.cards(*rests),
        static.staircase(run),
    )
    return Explorer("time", state, figure)


def seed(angle: int = 60, *, seed: int = 0, log10_scale: int = -8) -> Explorer:
    """Turn the hidden directions of two parts against each other, on the 3×3 of Bai et al.

    Parameters
    ----------
    angle
        between c_1 and c_2, in degrees, a multiple of 5 from 0 to 180.
    seed, log10_scale
        the start whose c_2 is turned, and its scale, a stop of its slider down to -20.

    Raises
    ------
    ValueError
        an angle or a scale that is none of those.

    Examples
    --------
    >>> explorer = seed(90)
    >>> round(abs(float(explorer.run.W[0, 1])), 6)
    0.0
    """
    given = examples.disconnected_3x3
    require_one_of("angle", angle, range(0, 181, 5))
    require_one_of("log10_scale", log10_scale, [e for e in SCALES if e >= -20])
    state = begins(given, seed, log10_scale) | {"angle": angle}
    runs = {
        degrees: gradient_flow(
            given, turned(given, state | {"angle": degrees}), log10_scale=log10_scale
        ).W
        for degrees in (0, 45, 90, 135, 180)
    }
    x = np.linspace(-4, 4, 33)
    valley = [(a, nuclear_norm([[1, a, 3], [a, 5, 3 * a], [3, 3 * a, 9]])) for a in x]
    figure = static.frame(
        "The seed",
        "What does the seed decide where the data fall into two parts?",
        static.chart(
            "The nuclear norm is level between −√5 and √5; five runs lie on it.",
            "entry in row 1, column 2",
            "nuclear norm",
            (-4.0, 4.0),
            (12.0, 24.0),
            [valley],
            dots=[(W[0, 1], nuclear_norm(W)) for W in runs.values()],
        ),
        static.table(
            "Two parts, the angle between their hidden directions, and what is learned",
            ("angle", "√5 cos(angle)", "entry learned", "nuclear norm"),
            [
                (
                    f"{degrees}°",
                    static.digits(np.sqrt(5) * np.cos(np.radians(degrees)), 3),
                    static.digits(W[0, 1], 3),
                    static.digits(nuclear_norm(W), 3),
                )
                for degrees, W in runs.items()
            ],
        ),
    )
    return Explorer("seed", state, figure, start=turned)


def turned(problem: MatrixCompletion, state: State) -> tuple[np.ndarray, np.ndarray]:
    """The start of the seed, with c_2 turned in the plane of c_1 and c_2 to the angle of the state.

    c_1 = A_0ᵀ u + B_0 u of the outer part, with u = (1, 0, 3)/√10, and c_2 = a_2 + b_2.
    """
    A, B = small_init(problem.shape, rng=int(state["seed"]))
    u = np.array([1, 0, 3]) / np.sqrt(10)
    first = A.T @ u + B @ u
    first = first / np.linalg.norm(first)
    c_2 = A[1] + B[:, 1]
    second = c_2 - (c_2 @ first) * first
    second = second / np.linalg.norm(second)
    angle = np.radians(state["angle"])
    aim = np.linalg.norm(c_2) * (np.cos(angle) * first + np.sin(angle) * second)
    A[1] += (aim - c_2) / 2
    B[:, 1] += (aim - c_2) / 2
    return A, B


def predict(example: str = "paper", *, seed: int = 0) -> Explorer:
    """Say when the flow leaves the saddle at which it rests, then let it run.

    Parameters
    ----------
    example
        "paper" (the 4×4 of Bai et al., Figure 3), "diagonal", "parts" or "symmetry".
    seed
        of the start, at the scale 10^-300.

    Raises
    ------
    ValueError
        an example that is none of those.

    Examples
    --------
    >>> predict("diagonal").problem
    MatrixCompletion('2 0; 0 1')
    """
    require_one_of("example", example, TRAVERSED)
    given = TRAVERSED[example]
    state = begins(given, seed, FAR) | {"example": example}
    run = _flow(given, seed, FAR)
    unit = -FAR * np.log(10)
    told = timetable([np.linalg.svd(given.gradient(p.W))[1] for p in run.phases[:-1]])
    rows = [
        (str(k + 1), static.digits(at, 3), static.digits(leaves(run, k) / unit, 3))
        for k, at in enumerate(told)
    ]
    figure = static.frame(
        "Predict before you look",
        "When does the flow leave the saddle at which it rests?",
        static.cards(static.card("the data", static.given(given, "the data"))),
        static.table(
            "The steps of a run from 10^-300, in units of ln 1/α",
            ("step", "by the timetable", "in the run"),
            rows,
        ),
    )
    return Explorer("predict", state, figure)


def timetable(rates: list[np.ndarray]) -> list[float]:
    """When the flow leaves each saddle, in units of ln 1/α, from the singular values of the
    gradient there: the column that is ahead grows at the first rate, the next at the second."""
    now, size = 0.0, np.ones(len(rates[0]))
    times = []
    for k, rate in enumerate(rates):
        wait = float(size[k] / rate[0])
        size[k:] -= wait * rate[: len(size) - k]
        now += wait
        times.append(now)
    return times


def leaves(run: Trajectory, k: int) -> float:
    """When a run has half of its way in the loss behind it, from its k-th rest to the next."""
    here, there = run.phases[k : k + 2]
    gone = (run.t >= here.time) & (run.loss <= (here.loss + there.loss) / 2)
    return float(run.t[np.argmax(gone)])


def map(stored: Mapping[str, Any], *, index: int = 0, seed: int = 0) -> Explorer:
    """Look at any problem of the large population of connected data.

    Parameters
    ----------
    stored
        what `python -m studies.connected_map` has written: its rows and their provenance.
    index, seed
        the problem to begin with, and the start of its run from 10^-1000.

    Raises
    ------
    ValueError
        an index that no problem has.
    """
    rows, origin = stored["rows"], stored["provenance"]
    problems, triples = populations.connected_population(origin["count"], origin["population_seed"])
    index = whole_number("index", index, least=0, most=len(rows) - 1)
    lanes = [lane_of(row) for row in rows]
    left = np.array(
        [
            [
                np.linalg.norm(sigma[row["min_rank"][0] :])
                / np.nanmax(np.abs(problems[row["index"]].values))
                for sigma in row["sigma"]
            ]
            for row in rows
        ]
    )
    letters = np.log10(np.maximum(left, 10.0**LOWEST))
    letters = np.clip(np.round((letters - LOWEST) / STEP), 0, len(LETTERS) - 1).astype(int)
    exponents = [-e for e in origin["exponents"]]
    state = begins(problems[index], seed, -1000) | {"index": index, "seen": exponents[-1]}
    at_rank = left <= SETTLED
    figure = static.frame(
        "The map",
        "Which connected problems end at the smallest rank, and what do the others look like?",
        static.table(
            f"Of {len(rows)} connected problems, those at the smallest rank, up to a thousandth",
            ("", *(f"from 10^{e}" for e in exponents)),
            [
                (
                    name,
                    *(
                        f"{int(column.sum())} of {len(column)}"
                        for column in at_rank[np.array(lanes) == lane].T
                    ),
                )
                for lane, name in enumerate(LANES)
            ],
        ),
    )
    more = {
        "lanes": "".join(str(lane) for lane in lanes),
        "far": ["".join(LETTERS[k] for k in column) for column in letters.T],
        "exponents": exponents,
        "triples": triples[: len(triples) // origin["count"]],
    }
    more["seed"] = origin["population_seed"]
    return Explorer("map", state, figure, more=more)


def lane_of(row: Mapping[str, Any]) -> int:
    """Trees, one cycle and more cycles of rank 1, rank 2, rank 3."""
    rank = row["triple"][1]
    return min(row["cycles"], 2) if rank == 1 else rank + 1


def _flow(problem: MatrixCompletion, seed: int, log10_scale: float) -> Trajectory:
    return gradient_flow(problem, small_init(problem.shape, rng=seed), log10_scale=log10_scale)


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


def require_one_of(name: str, value: object, stops: Iterable[object]) -> None:
    known = list(stops)
    if value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(str(stop) for stop in known)}, but is {value!r}"
        )


def plain(x: float) -> float | int:
    """A whole number without its point, as a page writes it."""
    return int(x) if x == int(x) else x
