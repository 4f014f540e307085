"""One spelling each, as CONTRIBUTING.md says, where a pattern can decide without false alarms."""

import re
from pathlib import Path

import pytest
import yaml

from tools.chapters import ROOT, pages

CELL = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{code-cell\}[^\n]*\n(?P<inside>.*?)^(?P=fence)$", re.M | re.S
)
HEAD = re.compile(r"\A---\n(.*?\n)---\n", re.S)
# What is not the book's own text: displays, code, labels, places that links lead to, quotations,
# and the names in braces of roles and directives.
OTHERS = re.compile(
    r"^(`{3,})[^\n]*\n.*?^\1$|^\$\$.*?^\$\$[^\n]*$|`[^`\n]*`|^:(?:label|name):[^\n]*$|\]\([^)\n]*\)"
    r'|"[^"\n]*"|^:{3,}\{(?:solution|exercise)\}[^\n]*$|\{[\w:-]+\}|\[@[^\]]*\]',
    re.M | re.S,
)
FORMULA = re.compile(r"\$[^$]+\$")

# What is not written, and what is.
RULES = {
    "a rank in letters: rank 1": r"\brank[- ](?:zero|one|two|three|four|five)\b"
    r"(?! by one| could count| matrix pursuit)",
    "a blank before the sign: 5%": r"\d[ \u00a0\u202f]%",
    "digits with a word: 5%, or five percent": r"\d percent\b",
    "percent is one word": r"\bper cent\b",
    "nonzero, nonnegative": r"\bnon-(?:zero|negative|empty)\b",
    "semidefinite": r"\bsemi-definite\b",
    "submanifold": r"\bsub-manifold",
    "-ize": r"\b(?:minim|maxim|initial|general|normal|factor|regular|linear|parametr|organ|recogn"
    r"|diagonal|symmetr|stabil|optim|penal)is(?:e|es|ed|er|ers|ing|ation|ations)\b",
    "British spelling": r"\b(?:(?:color|neighbor|behavior|favor|center)(?:|s|ed|ing|hoods?)"
    r"|gray|labeled|labeling|modeling|analyz\w+|licenses?)\b",
    "thousands have a comma: 1,000": r"(?<![\w.,^{/:#=−-])(?!(?:19|20)\d\d\b)\d{4,}\b(?![-.]\w)",
    "logarithms are natural: \\ln": r"\\log(?![_a-zA-Z])",
    "sizes in the text are no formula: 3×3": r"\$[1-9]\d* *\\times *[1-9]\d*\$"
    r"|\d × \d|\b\d by \d\b",
}
# These speak of a formula, or look into it.
WITH_FORMULAS = {"sizes in the text are no formula: 3×3", "logarithms are natural: \\ln"}
# Ledgers write powers of ten and sizes in plain text.
ONLY_CHAPTERS = {"thousands have a comma: 1,000"}


def captions(inside: str) -> str:
    """What a code cell says to readers: the caption and the alt text of its figure."""
    head = HEAD.match(inside)
    render = (yaml.safe_load(head[1]) or {}).get("mystnb", {}) if head else {}
    said = (render.get("image", {}).get("alt"), render.get("figure", {}).get("caption"))
    return "\n".join(str(one) for one in said if one)


def prose(text: str) -> str:
    """The words and formulas of a page."""
    text = CELL.sub(lambda cell: captions(cell["inside"]), HEAD.sub("", text))
    return OTHERS.sub(" ", text)


def breaches(text: str, chapter: bool = True) -> list[str]:
    """What a page writes otherwise than the house does."""
    whole = prose(text)
    words = FORMULA.sub("x", whole)
    return [
        f"{rule}: …{where[max(0, hit.start() - 30) : hit.end() + 30]!r}"
        for rule, pattern in RULES.items()
        if chapter or rule not in ONLY_CHAPTERS
        for where in [whole if rule in WITH_FORMULAS else words]
        for hit in re.finditer(pattern, where, re.IGNORECASE)
    ]


def ledger(text: str) -> str:
    """What readers see of a list of rows."""
    seen = {"item", "statement", "note", "place", "printed", "correct"}
    return "\n".join(
        str(value) for row in yaml.safe_load(text) for key, value in row.items() if key in seen
    )


PAGES = [page for page in pages() if page.suffix == ".md"]
OUTSIDE = [ROOT / name for name in ("README.md", "paper.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_is_written_as_the_house_writes(page: Path):
    assert not breaches(page.read_text("utf-8"))


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda page: page.name)
def test_so_is_what_stands_outside_of_the_book(page: Path):
    assert not breaches(page.read_text("utf-8"), chapter=False)


@pytest.mark.parametrize("name", ["claims", "errata"])
def test_so_is_a_ledger(name: str):
    text = (ROOT / "book" / f"{name}.yml").read_text("utf-8")
    assert not breaches(ledger(text), chapter=False)


@pytest.mark.parametrize(
    "text",
    [
        "a matrix of rank one",
        "a Rank-two matrix",
        "within 5 %",
        "88 percent",
        "the last per cent",
        "non-zero entries",
        "a sub-manifold",
        "initialisation",
        "two colors",
        "of 1000 problems",
        r"a $3 \times 3$ matrix",
        r"after $\log\frac1\alpha$",
        "25 small 3 by 3 patterns",
        "```{code-cell}\n---\nmystnb:\n  image:\n    alt: gray dots\n---\nx = 1\n```",
    ],
)
def test_a_breach_is_seen(text):
    assert breaches(text)


@pytest.mark.parametrize(
    "text",
    [
        "raises the rank one by one",
        "rank-one matrix pursuit",
        "within 5%, or five percent",
        "from $10^{-1000}$, in 2024",
        "{prf:ref}`thm-rank-one` and [there](x.md#rank-one)",
        'the talk calls it "behavior"',
        "of 1,000 problems",
        r"in $\R^{20 \times 20}$, $\log_{10}$",
        "```{code-cell}\nn = 1000  # rank one\n```",
        "three raised by noise, as promised",
    ],
)
def test_what_is_written_so_passes(text):
    assert not breaches(text)
