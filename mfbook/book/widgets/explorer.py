"""One explorer: what it shows where nothing runs, and its state where something does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mfbook.flow import gradient_flow
from mfbook.flow.trajectory import Trajectory
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion
from mfbook.problems.text import Printable

if TYPE_CHECKING:
    from mfbook.book.widgets.live import Live

State = dict[str, Any]
Start = Callable[[MatrixCompletion, State], tuple[Any, ...]]
VIEW = "application/vnd.jupyter.widget-view+json"


def start_of_seed(problem: MatrixCompletion, state: State) -> tuple[Any, ...]:
    return small_init(problem.shape, rng=int(state["seed"]))


def rounded(cells: list[list[float | None]]) -> list[list[float | None]]:
    """Numbers in twelve digits, for a stored page must not depend on the machine."""
    return [[None if x is None else float(f"{x:.12g}") for x in row] for row in cells]


class Explorer(Printable):
    """A figure that a reader can push; made by the functions of `mf.widgets`.

    Shown as the last expression of a cell. In a running notebook what the reader chose is read
    back from the attributes, in any later cell. An explorer stands for its widget, an ipywidgets
    `DOMWidget` that is made when it is first asked for: what is not below is an attribute of that
    one, and `ipywidgets.VBox([one, another])` shows two.

    Attributes
    ----------
    problem
        the `MatrixCompletion` as the reader left it.
    seed, log10_scale
        the start as the reader left it: `small_init(problem.shape, rng=seed)` at this scale.
    factors
        that start before it is scaled.
    run
        the `Trajectory` of the flow from there, computed when it is asked for.

    Examples
    --------
    >>> import mfbook as mf
    >>> explorer = mf.widgets.matrix("1 2; 3 ?", seed=3)
    >>> explorer.problem, explorer.seed
    (MatrixCompletion('1 2; 3 ★'), 3)
    >>> round(float(explorer.run.W[1, 1]), 3)
    6.0
    """

    def __init__(
        self,
        kind: str,
        state: State,
        static: str,
        *,
        more: dict[str, Any] | None = None,
        start: Start = start_of_seed,
    ) -> None:
        self.kind = kind
        self._begins = state
        self._static = static
        self._more = more or {}
        self._start = start
        self._live: Live | None = None
        self._ran: tuple[State, Trajectory] | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # isinstance asks for this; who asks for a widget has loaded ipywidgets.
        if "ipywidgets" not in sys.modules or find_spec("anywidget") is None:
            return Explorer
        from mfbook.book.widgets.live import Live

        return Live

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"an explorer has no attribute {name!r}")
        return getattr(self.live, name)

    @property
    def live(self) -> Live:
        """The widget."""
        # Only a notebook that shows an explorer loads what widgets need.
        from mfbook.book.widgets.live import Live

        if self._live is None:
            self._live = Live(kind=self.kind, spec=self.spec, state=self._begins)
        return self._live

    @property
    def state(self) -> State:
        """Everything that the reader can change, as it is now."""
        now = self._live.state if self._live is not None else None
        return dict(now or self._begins)

    @property
    def problem(self) -> MatrixCompletion:
        return MatrixCompletion.from_array(self.state["cells"])

    @property
    def seed(self) -> int:
        return int(self.state["seed"])

    @property
    def log10_scale(self) -> float:
        return float(self.state["scale"])

    @property
    def factors(self) -> tuple[Any, ...]:
        return self._start(self.problem, self.state)

    @property
    def run(self) -> Trajectory:
        state = self.state
        if self._ran is None or self._ran[0] != state:
            run = gradient_flow(self.problem, self.factors, log10_scale=self.log10_scale)
            self._ran = (state, run)
        return self._ran[1]

    @property
    def spec(self) -> dict[str, Any]:
        """What the front end begins with."""
        return {"state": self._begins, **self._more}

    @property
    def html(self) -> str:
        """The static figure, inside the element that a page's script brings to life."""
        begins = self._begins | {"cells": rounded(self._begins["cells"])}
        spec = json.dumps(self.spec | {"state": begins}, separators=(",", ":"), ensure_ascii=False)
        head = f'<mf-explorer kind="{self.kind}" data-spec="{escape(spec)}">'
        return f"{head}{self._static}</mf-explorer>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = {"text/plain": str(self), "text/html": self.html}
        if find_spec("anywidget") is not None:
            bundle[VIEW] = self._view(**options)
        return bundle

    def _view(self, **options: Any) -> Any:
        made = self.live._repr_mimebundle_(**options)
        data = made[0] if isinstance(made, tuple) else made
        return (data or {})[VIEW]

    def __repr__(self) -> str:
        words = repr(self.problem).removeprefix("MatrixCompletion(").removesuffix(")")
        return f"widgets.{self.kind}({words}, seed={self.seed}, log10_scale={self.log10_scale:g})"
