"""The widget behind an explorer in a running notebook: it carries state, and Python answers."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from mfbook.book.widgets import front
from mfbook.book.widgets.answer import answer


class Live(anywidget.AnyWidget):
    """One explorer's view. The front end asks `{id, request}` and hears `{id, answer}`."""

    _esm = front.module()
    _css = front.style()
    kind = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(self._hear)

    def _hear(self, _: Live, message: dict[str, Any], buffers: object) -> None:
        said: dict[str, Any]
        try:
            said = {"answer": answer(message["request"])}
        except (ValueError, TypeError) as error:
            said = {"error": str(error)}
        self.send({"id": message["id"], **said})
