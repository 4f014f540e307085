"""Every numbered statement of the book: what it is, its number, its title, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.chapters import ROOT, numbered_pages

OPENS = re.compile(r"^(:{3,}|`{3,})\{([\w:-]+)\}[ \t]*(.*)$")
LABEL = re.compile(r"^:label:[ \t]*([\w-]+)")


@dataclass(frozen=True)
class Statement:
    """A theorem, a definition, an observation; `page` is its place under book/."""

    label: str
    kind: str
    number: str
    title: str
    page: str

    @property
    def name(self) -> str:
        return f"{self.kind.capitalize()} {self.number}"


def statements(root: Path = ROOT) -> list[Statement]:
    """All of them in the order of the book, numbered as the pages number them: all kinds of a
    chapter together."""
    found = []
    for page, chapter in numbered_pages(root):
        before = f"{chapter}." if chapter else ""
        for count, (kind, title, label) in enumerate(blocks(root / "book" / f"{page}.md"), 1):
            found.append(Statement(label, kind, f"{before}{count}", title, page))
    return found


def blocks(source: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, title and label of the statements of one page, those in cells of code left out."""
    lines = source.read_text("utf-8").splitlines()
    code = ""
    for number, line in enumerate(lines):
        opened = OPENS.match(line)
        if code:
            code = "" if line.rstrip() == code else code
        elif opened and opened[2] == "code-cell":
            code = opened[1]
        elif opened and opened[2].startswith("prf:") and opened[2] != "prf:proof":
            options = (LABEL.match(one) for one in lines[number + 1 : number + 5])
            label = next((option[1] for option in options if option), "")
            yield opened[2].removeprefix("prf:"), opened[3].strip(), label
