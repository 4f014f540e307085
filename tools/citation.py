"""How the book and each of its pages are cited, from CITATION.cff and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.chapters import ROOT

# What TeX reads as a command, and how it is written.
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    letter: f"\\{letter}" for letter in "&%$#_{}"
}


@cache
def book(root: Path = ROOT) -> dict[str, Any]:
    return yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))


def authors(root: Path = ROOT) -> list[str]:
    """Family name, given names; or the name of a group."""
    return [
        one["name"] if "name" in one else f"{one['family-names']}, {one['given-names']}"
        for one in book(root)["authors"]
    ]


@dataclass(frozen=True)
class Page:
    """A page of the book: its place, such as `data/graph`, its title, and where it can be read."""

    name: str
    title: str
    url: str = ""
    root: Path = ROOT

    @property
    def released(self) -> date:
        return date.fromisoformat(str(book(self.root)["date-released"]))

    @property
    def series(self) -> str:
        return book(self.root)["title"].split(":")[0]

    @property
    def version(self) -> str:
        return str(book(self.root)["version"])

    def text(self) -> str:
        """One line for a list of references, with * around what is set in italics."""
        who = "; ".join(authors(self.root))
        where = f"In *{self.series}*, version {self.version}"
        said = [f"{who} ({self.released.year}). {self.title}", where, self.url]
        return ". ".join(part for part in said if part) + ("" if self.url else ".")

    def bibtex(self) -> str:
        people = " and ".join(name if "," in name else f"{{{name}}}" for name in authors(self.root))
        fields = {
            "author": people,
            "title": f"{{{tex(self.title)}}}",
            "howpublished": f"In: {tex(self.series)}, version {self.version}",
            "year": str(self.released.year),
            "month": self.released.strftime("%b").lower(),
            "url": self.url,
        }
        lines = [
            # The names of months are BibTeX's own and stand without braces.
            f"  {name} = {value}" if name == "month" else f"  {name} = {{{value}}}"
            for name, value in fields.items()
            if value
        ]
        key = "-".join(["mfbook", *re.findall(r"\w+", self.name)])
        return "@misc{" + key + ",\n" + ",\n".join(lines) + "\n}"


def tex(text: str) -> str:
    return "".join(SPECIAL.get(letter, letter) for letter in text)
