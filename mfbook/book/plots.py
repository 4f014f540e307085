"""The house style of the figures, and the drawings that several chapters share.

A plot never computes: it is handed what it shows. A chapter begins its first figure with
`mf.plots.use_house_style()`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from mfbook.problems.checks import real_array, require_problem
from mfbook.problems.graph import components, observation_graph
from mfbook.problems.protocols import EntryProblem

# Okabe & Ito's palette: distinct for all common kinds of colour vision.
BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#666666",
)
#: one colour a kind of connectivity, the same in every chapter
CONNECTIVITY = {"connected": RED, "complete-bipartite": GREEN, "disconnected": BLUE}
MARKERS = {"connected": "o", "complete-bipartite": "s", "disconnected": "^"}

#: what Matplotlib is told by `use_house_style`
HOUSE = {
    "figure.dpi": 140,
    "figure.figsize": (7.0, 3.2),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # The names inside a drawing would be random.
    "svg.hashsalt": "mfbook",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.prop_cycle": cycler(color=[BLUE, RED, GREEN, ORANGE, PINK, SKY, GREY]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def use_house_style() -> None:
    """Draw all figures that follow in the style of the book.

    A notebook then shows and stores them as curves (SVG), sharp at any size and on paper; what has
    thousands of marks asks for `rasterized=True`. Who chose another format keeps it.

    >>> import matplotlib
    >>> use_house_style()
    >>> matplotlib.rcParams["axes.spines.top"]
    False
    """
    style.use(HOUSE)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    # A notebook has both of these; the package needs neither.
    inline = import_module("matplotlib_inline.config").InlineBackend.instance(parent=shell)
    if inline.figure_formats == {"png"}:
        # What a drawing says of its making differs each time, and with each Matplotlib.
        silent = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        inline.print_figure_kwargs = {**inline.print_figure_kwargs, "metadata": silent}
        inline.figure_formats = {"svg"}


def matrix(ax: Axes, W: Any, *, problem: EntryProblem | None = None, title: str = "") -> None:
    """Write the entries of W into cells; entries that `problem` observes are shaded.

    W may be a problem: then its unobserved entries are stars. Raises TypeError or ValueError where
    W is no real matrix, has no entry, or is not of the problem's shape.
    """
    if hasattr(W, "words"):
        problem, words = W, W.words()
    else:
        W = real_array("W", W, ndim=2)
        if not W.size:
            raise ValueError(f"W must have an entry to write, but has the shape {W.shape}")
        words = [[_short(value) for value in row] for row in W]
    m, n = len(words), len(words[0])
    if problem is not None:
        require_problem(problem, entries="its observed entries are what is shaded")
        if problem.shape != (m, n):
            raise ValueError(f"W must have the problem's shape {problem.shape}, but has {(m, n)}")
    ax.set(xlim=(0, n), ylim=(m, 0), aspect="equal", xticks=[], yticks=[], title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for i in range(m):
        for j in range(n):
            seen = problem is not None and problem.mask[i, j]
            ax.add_patch(
                Rectangle((j, i), 1, 1, facecolor="#d9e8f2" if seen else "white", edgecolor=GREY)
            )
            ax.text(
                j + 0.5,
                i + 0.5,
                words[i][j],
                ha="center",
                va="center",
                color="black" if seen else RED,
                fontsize=10,
            )


def observation_graph_of(ax: Axes, mask: ArrayLike, *, title: str = "") -> None:
    """Draw the observation graph: rows on the left, columns on the right, a colour a component."""
    palette = [BLUE, RED, GREEN, ORANGE, PINK]
    last = max(np.shape(mask)) - 1
    ax.set(title=title, xticks=[], yticks=[], xlim=(-0.35, 1.35), ylim=(last + 0.45, -0.45))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    graph = observation_graph(mask)
    for k, (rows, cols) in enumerate(components(mask)):
        colour = palette[k % len(palette)]
        inside = [("row", int(i)) for i in rows] + [("col", int(j)) for j in cols]
        for (_, i), (_, j) in (sorted(edge, reverse=True) for edge in graph.subgraph(inside).edges):
            ax.plot([0, 1], [i, j], color=colour, zorder=1)
        for side, index in inside:
            x = 0 if side == "row" else 1
            ax.scatter(x, index, s=330, color="white", edgecolor=colour, linewidth=1.6, zorder=2)
            letter = "r" if side == "row" else "c"
            ax.text(x, index, f"${letter}_{{{index + 1}}}$", ha="center", va="center", zorder=3)


def _short(value: float) -> str:
    """A number in at most five characters, without a trailing zero or a minus zero."""
    text = f"{value:.2f}" if abs(value) < 99.995 else f"{value:.0f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
