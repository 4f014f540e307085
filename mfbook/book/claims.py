"""The ledger: what the papers claim, what we found, and the check that settles it.

A chapter settles a claim where it stands, `mf.claim("bai2024-thm4").check(gap < 1e-6, "…")`. A
check that is false raises, so that the notebook fails; one that is true leaves a card in the page.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from html import escape

import numpy as np

from mfbook.book.stored import folder
from mfbook.problems.text import Printable

PAPERS = {
    "bai2024": "Bai, Zhao & Zhang 2024",
    "bai-talk": "Bai 2024 (talk)",
    "li2021": "Li, Luo & Lyu 2021",
    "arora2019": "Arora, Cohen, Hu & Luo 2019",
    "mfbook": "this book",
}
VERDICTS = {
    "reproduced": "as the paper says",
    "fine-print": "true with a condition that the paper leaves out",
    "corrected": "as printed it fails; the correction holds",
    "extended": "we show more",
    "new": "ours",
    "open": "not settled",
}


class ClaimFailed(AssertionError):
    """A check of a claim came out false."""


@dataclass(frozen=True)
class Claim(Printable):
    """One row of the ledger. `chapter` is the page that settles it, as `folder/name`."""

    id: str
    paper: str
    item: str
    statement: str
    chapter: str
    verdict: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.paper not in PAPERS:
            raise ValueError(f"claim {self.id}: paper {self.paper!r} is none of {list(PAPERS)}")
        if self.verdict not in VERDICTS:
            raise ValueError(
                f"claim {self.id}: verdict {self.verdict!r} is none of {list(VERDICTS)}"
            )
        if not all((self.item, self.statement, self.chapter)):
            raise ValueError(f"claim {self.id}: item, statement and chapter must not be empty")
        if self.verdict not in ("reproduced", "new") and not self.note:
            raise ValueError(f"claim {self.id}: the verdict {self.verdict!r} needs a note")

    def check(self, condition: bool | np.bool_, evidence: str) -> Card:
        """Settle the claim: return a card if `condition` is true, raise `ClaimFailed` if not.

        `condition` must be one boolean, so that a forgotten `.all()` or a string cannot pass.
        Several checks of a claim are chained: `claim(id).check(…).check(…)`.
        """
        return Card(self).check(condition, evidence)


@dataclass(frozen=True)
class Card(Printable):
    """A settled claim with the evidence for it, shown in the page and as a line of text."""

    claim: Claim
    evidence: tuple[str, ...] = ()

    def check(self, condition: bool | np.bool_, evidence: str) -> Card:
        """Add one more check of the same claim (see `Claim.check`)."""
        if not isinstance(condition, bool | np.bool_):
            raise TypeError(
                f"claim {self.claim.id}: the condition must be one boolean, but is a "
                f"{type(condition).__name__}; compare, and reduce arrays with .all()"
            )
        if not isinstance(evidence, str) or not evidence.strip():
            raise TypeError(
                f"claim {self.claim.id}: the evidence must be a text that says what was found, but "
                f"is {evidence!r}"
            )
        if not condition:
            raise ClaimFailed(f"{self.claim.id} ({self.claim.item}): not so: {evidence}")
        return Card(self.claim, (*self.evidence, evidence))

    def __repr__(self) -> str:
        return f"✓ {self.claim.id} [{self.claim.verdict}] {'; '.join(self.evidence)}"

    def _repr_html_(self) -> str:
        claim = self.claim
        up = "../" * claim.chapter.count("/")
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.evidence)
        return (
            f'<div class="mf-claim" id="{_anchor(claim)}">'
            f"{_badge(claim)} "
            f'<a href="{up}{_page("ledger")}#row-{claim.id}">{escape(PAPERS[claim.paper])}, '
            f"{escape(claim.item)}</a>"
            f"<ul>{lines}</ul></div>"
        )


class Ledger(tuple[Claim, ...]):
    """All rows of the ledger, in the order of the file; shown as one table a paper."""

    def __repr__(self) -> str:
        counts = {v: sum(row.verdict == v for row in self) for v in VERDICTS}
        return f"{len(self)} claims: " + ", ".join(f"{n} {v}" for v, n in counts.items() if n)

    def _repr_html_(self) -> str:
        return "".join(self._table(paper) for paper in PAPERS)

    def _table(self, paper: str) -> str:
        rows = [row for row in self if row.paper == paper]
        if not rows:
            return ""
        body = "".join(
            f'<tr id="row-{row.id}"><td><a href="{_page(row.chapter)}#{_anchor(row)}">'
            f"{escape(row.item)}</a></td><td>{_badge(row)}</td>"
            f"<td>{escape(row.statement)}{_note(row)}</td></tr>"
            for row in rows
        )
        return (
            f'<table class="mf-ledger"><caption>{escape(PAPERS[paper])}</caption><thead><tr>'
            '<th scope="col">item</th><th scope="col">verdict</th>'
            f'<th scope="col">what it says, and what we found</th></tr></thead><tbody>{body}'
            "</tbody></table>"
        )


def claim(id: str) -> Claim:
    """The row of the ledger with this id.

    Raises KeyError for an id that no row has, with the nearest one, and TypeError for other than a
    string.

    >>> claim("bai2024-def1").item
    'Definition 1 / A.1'
    """
    if not isinstance(id, str):
        raise TypeError(f"id must be a string such as 'bai2024-thm1', but is {id!r}")
    rows = {row.id: row for row in ledger()}
    if id not in rows:
        close = get_close_matches(id, rows, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise KeyError(f"no claim {id!r} in the ledger{hint}")
    return rows[id]


@cache
def ledger() -> Ledger:
    """All rows of `book/claims.yml`, in its order: what the papers claim, and what we found.

    A tuple of `Claim`. As the last expression of a cell it is shown as one table a paper.

    >>> [row.item for row in ledger() if row.id == "bai2024-prop1"]
    ['Proposition 1 / A.1']
    """
    import yaml

    text = folder().joinpath("claims.yml").read_text(encoding="utf-8")
    rows = [Claim(**row) for row in yaml.safe_load(text)]
    ids = [row.id for row in rows]
    repeated = {id for id in ids if ids.count(id) > 1}
    if repeated:
        raise ValueError(f"claims.yml holds these ids more than once: {sorted(repeated)}")
    return Ledger(rows)


def _page(name: str) -> str:
    """The file of a page: built as HTML, or a notebook where `make lab` says so."""
    return f"{name}.{os.environ.get('MFBOOK_PAGES', 'html')}"


def _anchor(claim: Claim) -> str:
    return f"claim-{claim.id}"


def _badge(claim: Claim) -> str:
    meaning = VERDICTS[claim.verdict]
    return (
        f'<span class="mf-verdict mf-verdict-{claim.verdict}" title="{meaning}">'
        f"{claim.verdict}</span>"
    )


def _note(claim: Claim) -> str:
    return f' <span class="mf-note">{escape(claim.note)}</span>' if claim.note else ""
