"""The browser that looks at the pages and prints them: the machine's own Chromium, or one fetched.

python tools/browser.py      makes sure that there is one, and fails where it cannot
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What playwright fetches stays inside the environment, and goes with it.
FETCHED = Path(sys.prefix) / "browsers"
MISSING = (
    "A browser looks at the pages, and prints them: no Chromium was found. Install it (on Debian: "
    "apt install chromium; on macOS: brew install --cask chromium) or let one be fetched: "
    f"{Path(sys.executable).name} tools/browser.py"
)
# Without the last three, the browser itself calls its maker's hosts at every start.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """The program to run: what the variable CHROMIUM names, the machine's own, or one fetched."""
    named = os.environ.get("CHROMIUM")
    own = [named] if named else NAMES
    fetched = sorted(
        path
        for name in ("chrome", "headless_shell", "chrome-headless-shell", "Chromium")
        for path in FETCHED.glob(f"**/{name}")
        if path.is_file() and os.access(path, os.X_OK)
    )
    return next(filter(None, [*map(shutil.which, own), *map(str, fetched)]), None)


@contextmanager
def launched(*flags: str) -> Iterator[Browser]:
    """A headless Chromium with these flags more. Raises RuntimeError where there is none."""
    # Whether there is a browser is asked before anything looks at a page.
    from playwright.sync_api import sync_playwright

    program = find()
    if program is None:
        raise RuntimeError(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags])
        yield browser
        browser.close()


def fetch() -> None:
    subprocess.run(
        [sys.executable, "-m", "playwright", "install", "chromium"],
        env=os.environ | {"PLAYWRIGHT_BROWSERS_PATH": str(FETCHED)},
    )


def main() -> int:
    if find() is None:
        print("No Chromium here: fetching one.", flush=True)
        fetch()
    program = find()
    print(program or MISSING, file=sys.stdout if program else sys.stderr)
    return 0 if program else 1


if __name__ == "__main__":
    sys.exit(main())
