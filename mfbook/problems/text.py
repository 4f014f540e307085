"""Matrices as text: what people paste is read, and what we print can be printed."""

from __future__ import annotations

import re
import sys

import numpy as np

UNOBSERVED_SIGNS = "? * ★ ⋆ ☆ _ . - − – —".split()
UNOBSERVED_WORDS = "nan na n/a <na> none null".split()
UNOBSERVED = frozenset(UNOBSERVED_SIGNS + UNOBSERVED_WORDS)
# Longer words are cut where a message repeats them.
LONGEST_SHOWN = 60
# Minus signs of typeset text, where a digit or a point follows.
MINUS = re.compile(r"[−–](?=[\d.])")
# A comma that may be a decimal one.
INSIDE_A_NUMBER = re.compile(r"\d,\d")
# What ASCII has for the signs that we print; others become "?".
PLAIN = str.maketrans({"★": "?", "✓": "*", "→": ">", "–": "-", "−": "-"})


def read_matrix(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Values (NaN where unobserved) and mask of a matrix; see `MatrixCompletion.from_text`."""
    if not isinstance(text, str):
        raise TypeError(
            f"text must be a string such as '1 2; 3 ?', but is a {type(text).__name__}; "
            "MatrixCompletion.from_array takes arrays and lists"
        )
    rows = _rows(text)
    if not rows:
        raise ValueError("the text holds no row; write one like '1 2; 3 ?'")
    widths = [len(row) for row in rows]
    if len(set(widths)) > 1:
        raise ValueError(
            f"all rows must have the same number of entries, but they have {widths}; write "
            "'?' for an entry that is not observed"
        )
    values = np.full((len(rows), widths[0]), np.nan)
    mask = np.zeros(values.shape, dtype=bool)
    for i, row in enumerate(rows):
        for j, word in enumerate(row):
            if not word or word.lower() in UNOBSERVED:
                continue
            try:
                if "_" in word:  # Python reads 1_0 as ten; nobody who pastes a matrix means it
                    raise ValueError
                values[i, j] = float(MINUS.sub("-", word))
            except ValueError:
                shown = word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}…"
                raise ValueError(
                    f"row {i}, column {j}: {shown!r} is neither a number nor one of "
                    f"{' '.join(UNOBSERVED_SIGNS + UNOBSERVED_WORDS)}, which mean that an entry "
                    "is not observed"
                ) from None
            mask[i, j] = True
    return values, mask


def _rows(text: str) -> list[list[str]]:
    """The words of every row; "" for an empty cell."""
    text = text.removeprefix("\ufeff").replace("\ufeff", " ")
    if "[" in text:
        text = re.sub(r"\]\s*[,;]?\s*\[", "\n", text.strip())
        text = re.sub(r"^[\[\s]+|[\]\s]+$", "", text)
    separator = "," if "," in text else "\t" if "\t" in text else None
    spaces = " \r" if separator == "\t" else None

    def blank(row: str) -> bool:
        return not row.strip(spaces)

    lines = text.splitlines()
    full = [line for line in lines if not blank(line)]
    if separator == "\t" and full and all(line.startswith("\t") for line in full):
        if any("\t" in line.strip() for line in full):
            raise ValueError(
                "every row begins with a tab and holds others: is that an indentation, or an "
                "empty first cell? Remove the indentation, or write '?' for an empty cell"
            )
        separator = None
    pieces = [piece for line in lines for piece in (line.split(";") if ";" in line else [line])]
    rows = [_words(piece, separator) for piece in pieces if not blank(piece)]
    if INSIDE_A_NUMBER.search(text) and any(
        len(cell.split()) > 1 for piece in pieces for cell in piece.split(",")
    ):
        raise ValueError(
            "commas stand between digits, and spaces between numbers: are those decimal commas? "
            "Write points, or commas alone between the cells of a row"
        )
    if rows and max(map(len, rows)) == 1:
        if len(full) > 1 and any(";" in line.strip().rstrip(";") for line in full):
            raise ValueError(
                "semicolons stand between single entries of several lines: do they end rows, or "
                "separate cells? Write spaces or commas between the cells of a row"
            )
        inner = "\n".join(pieces).strip("\n \r").split("\n")
        if any(blank(piece) for piece in inner):
            raise ValueError(
                "an empty line stands inside a single column: is that an entry? Write '?' for "
                "one that is not observed, or remove the line"
            )
    return rows


def _words(row: str, separator: str | None) -> list[str]:
    if separator is None:
        return row.split()
    return [word for cell in row.split(separator) for word in (cell.split() or [""])]


class Printable:
    """What is printed as its repr, in the signs that standard output has."""

    def __str__(self) -> str:
        return printable(repr(self))


def printable(text: str) -> str:
    """The text, or the nearest to it that standard output can print."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text
