"""The figures that stand in a page before its script runs, and on paper: SVG and small tables.

Every number is rounded, so that two machines write the same characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from mfbook.flow.trajectory import Trajectory
from mfbook.problems import MatrixCompletion

# The colours of the book's figures, in their order.
HUES = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#666666", "#8A6D00")
WIDTH, HEIGHT = 640, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34


def digits(x: float, count: int = 4) -> str:
    """A number to so many digits, without a minus zero.

    >>> digits(2.0), digits(-1e-9), digits(1234.56)
    ('2', '0', '1235')
    """
    text = f"{x:.{count}g}" if abs(x) >= 5e-4 else "0"
    return text.replace("-", "−")


def words(text: str) -> str:
    """Words as HTML, with powers raised.

    >>> words("from 10^-100")
    'from 10<sup>−100</sup>'
    """
    return re.sub(r"\^(-?\d+)", lambda x: f"<sup>{x[1].replace('-', '−')}</sup>", escape(text))


def matrix(W: np.ndarray, problem: MatrixCompletion, name: str) -> str:
    """The entries of W as a table, those that are observed shaded."""

    def cell(i: int, j: int) -> str:
        kind = "seen" if problem.mask[i, j] else "free"
        return f'<td class="mfx-{kind}">{digits(W[i, j], 3)}</td>'

    rows = ("".join(cell(i, j) for j in range(W.shape[1])) for i in range(len(W)))
    return _table(rows, name)


def given(problem: MatrixCompletion, name: str) -> str:
    """The problem itself as a table, a star where nothing is observed."""

    def cell(word: str) -> str:
        return f'<td class="mfx-{"free" if word == "★" else "seen"}">{word}</td>'

    return _table(("".join(map(cell, row)) for row in problem.words()), name)


def _table(rows: Iterable[str], name: str) -> str:
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="mfx-matrix" aria-label="{escape(name)}"><tbody>{body}</tbody></table>'


def card(name: str, table: str, note: str = "") -> str:
    below = f'<p class="mfx-note">{words(note)}</p>' if note else ""
    return f'<figure class="mfx-card"><figcaption>{words(name)}</figcaption>{table}{below}</figure>'


def cards(*each: str) -> str:
    return f'<div class="mfx-cards">{"".join(each)}</div>'


def frame(title: str, question: str, *parts: str) -> str:
    return (
        f'<section class="mfx" aria-label="{escape(title)}">'
        f'<p class="mfx-title">{escape(title)}</p>'
        f'<p class="mfx-question">{escape(question)}</p>{"".join(parts)}</section>'
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows that begin with their name."""
    top = "".join(f'<th scope="col">{words(word)}</th>' for word in head)
    body = "".join(
        f'<tr><th scope="row">{words(row[0])}</th>'
        + "".join(f"<td>{words(word)}</td>" for word in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="mfx-table"><caption>{words(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def said(text: str) -> str:
    return f'<p class="mfx-said">{words(text)}</p>'


def chart(
    name: str,
    xlabel: str,
    ylabel: str,
    x: tuple[float, float],
    y: tuple[float, float],
    lines: Sequence[Sequence[tuple[float, float]]],
    dots: Iterable[tuple[float, float]] = (),
) -> str:
    """Lines over two axes that name their ends, and dots."""

    def at(a: float, b: float) -> tuple[int, int]:
        b = min(max(b, y[0]), y[1])
        across = LEFT + (WIDTH - LEFT - RIGHT) * (a - x[0]) / ((x[1] - x[0]) or 1)
        up = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (b - y[0]) / ((y[1] - y[0]) or 1)
        return round(across), round(up)

    floor = HEIGHT - BOTTOM
    drawn = [
        f'<path fill="none" stroke="currentColor" d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}"/>',
        *(
            _text(at(value, 0)[0], floor + 15, digits(value, 3), anchor)
            for value, anchor in zip(x, ("start", "end"), strict=True)
        ),
        *(_text(LEFT - 6, at(0, value)[1] + 4, digits(value, 3), "end") for value in y),
        _text((LEFT + WIDTH - RIGHT) // 2, HEIGHT - 5, xlabel, "middle"),
        f'<text text-anchor="middle" transform="translate(11 {(TOP + floor) // 2}) rotate(-90)">'
        f"{escape(ylabel)}</text>",
    ]
    for k, points in enumerate(lines):
        places = dict.fromkeys(at(a, b) for a, b in points)
        text = " ".join(f"{a},{b}" for a, b in places)
        hue = HUES[k % len(HUES)]
        drawn.append(f'<polyline class="mfx-line" fill="none" stroke="{hue}" points="{text}"/>')
    for a, b in dots:
        across, up = at(a, b)
        drawn.append(f'<circle cx="{across}" cy="{up}" r="4" fill="{HUES[0]}"/>')
    return (
        f'<svg class="mfx-chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'font-size="12" fill="currentColor" aria-label="{escape(name)}">{"".join(drawn)}</svg>'
    )


def _text(x: int, y: int, words: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def ranks(run: Trajectory) -> str:
    """The ranks at which a run rests; of a rank that comes more than once, what its points are."""
    way = [phase.rank for phase in run.phases]
    twice = []
    for rank in dict.fromkeys(way):
        losses = [digits(p.loss, 3) for p in run.phases[:-1] if p.rank == rank]
        ends = way[-1] == rank
        if len(losses) + ends > 1:
            saddles = f"{'saddles' if len(losses) > 1 else 'a saddle'} of loss {listed(losses)}"
            twice.append(f"rank {rank}: {saddles}{', then the end' if ends else ''}")
    shown = " → ".join(map(str, way))
    return f"{shown} ({'; '.join(twice)})" if twice else shown


def listed(each: Sequence[str]) -> str:
    """One or more words in a row.

    >>> listed(["1"]), listed(["1", "2", "3"])
    ('1', '1, 2 and 3')
    """
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)


def staircase(run: Trajectory) -> str:
    """The singular values of W over time."""
    end, top = float(run.t[-1]), float(run.singular_values.max()) * 1.08
    return chart(
        f"Singular values over time. Ranks on the way: {ranks(run)}.",
        "time",
        "singular values of W",
        (0.0, end),
        (0.0, top),
        [list(zip(run.t, column, strict=True)) for column in run.singular_values.T],
    )
