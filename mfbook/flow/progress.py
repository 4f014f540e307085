"""One line on standard error that says how far a long run has come."""

from __future__ import annotations

import sys
import time

from mfbook.flow.shallow.composite import Composite

# A run that takes less says nothing.
SILENT_SECONDS = 3.0


class Progress:
    """A line that is rewritten a few times a second once a run is long."""

    def __init__(self, wanted: bool | None) -> None:
        self.on = sys.stderr.isatty() if wanted is None else wanted
        self.begun, self.next, self.shown = time.monotonic(), SILENT_SECONDS, False

    def update(self, run: Composite) -> None:
        passed = time.monotonic() - self.begun
        if not self.on or passed < self.next:
            return
        self.next = passed + 0.3
        self.shown = True
        loss = run.units.loss * sum(path.losses[-1] for path in run.paths)
        rank = sum(int(path.states[-1].active.sum()) for path in run.paths)
        sys.stderr.write(
            f"\rgradient flow: {passed:.0f} s, {run.n_steps} steps, t = {run.time(run.end()):.4g}, "
            f"{rank} active columns, loss {loss:.2e} (until {run.units.loss * run.threshold:.0e})"
            "\033[K"
        )
        sys.stderr.flush()

    def close(self) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
