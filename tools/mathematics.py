"""Mathematics in plain text, as claims.yml and the cards write it, set as HTML.

`Ω_k`, `10^-100` and `[[1, 2], [3, ★]]` are readable in a terminal. A page shows indices, powers,
matrices and slanted letters instead, and needs no script for it.
"""

from __future__ import annotations

import re
from html import escape

# What stands in parentheses, which may hold one more pair.
INNER = r"(?:[^()<>]|\([^()<>]*\))+"
INDEX = re.compile(
    rf"(?<![\w.]{{2}})(?<=[^\W\d_]|‖|\))_(?:\(({INNER})\)|\{{([^{{}}<>]+)\}}|(\w+|\*))"
)
POWER = re.compile(rf"(?<=[\w)\]‖])\^(?:\(({INNER})\)|\{{([^{{}}<>]+)\}}|([-−–]?[\w.]*\w))")
WORDS = re.compile(r">[^<]+<")

MATRIX = re.compile(r"\[(\[[^\[\]]+\](?:, \[[^\[\]]+\])*)\]")
ROW = re.compile(r"\[([^\[\]]+)\]")
DECIMAL = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([-−]?\d+)\b")
# What stays as it is: tags, entities, the names of sections (F.4), a genitive; and words.
TOKEN = re.compile(r"<[^>]+>|&\w+;|\b[A-Z]\.\d+|'s\b|[^\W_]+")
# A word is mathematics if it is one of these, a lone letter after a number or not, or holds one of
# these signs.
KNOWN = {"AB", "UV", "PAP", "dt", "dW", "dM", "ds", "dr", "rd", "bc", "kt"}
LONE = re.compile(r"[\d½]*(?![IΣ])[^\W\d_]|\d+kt")
SIGN = re.compile(r"(?!Σ$)(?=.*[a-zA-Zα-ωΑ-Ω]).*[α-ωΑ-Ωᵀ₀-₉ₖₚᵢⱼ²³]")
ARTICLE = re.compile(
    r"(?:^|[.:;] )A (?=[a-z0-9])|(?<![=≥≤] )(?<!&lt; )(?<!&gt; )\ba (?![=≥≤&+−·√])"
)


def set_mathematics(html: str) -> str:
    """Indices and powers in the words of a piece of HTML, outside of its tags."""
    return WORDS.sub(lambda found: _raised(found[0]), html)


def as_html(text: str) -> str:
    """A sentence in plain text as HTML, its mathematics set.

    >>> as_html("W = AB from 1e-8 on")
    '<i>W</i> = <i>AB</i> from 10<sup>−8</sup> on'
    """
    done, at = [], 0
    for found in MATRIX.finditer(text):
        done += [_line(text[at : found.start()]), _matrix(found[1])]
        at = found.end()
    return "".join([*done, _line(text[at:])])


def _raised(text: str) -> str:
    text = INDEX.sub(lambda x: f"<sub>{x[1] or x[2] or x[3]}</sub>", text)
    return POWER.sub(
        lambda x: "<sup>{}</sup>".format((x[1] or x[2] or x[3]).replace("-", "−")), text
    )


def _line(text: str) -> str:
    html = _raised(escape(DECIMAL.sub(_power_of_ten, text), quote=False))
    articles = {found.end() - 2 for found in ARTICLE.finditer(html)}

    def slanted(found: re.Match) -> str:
        word = found[0]
        stays = not word[0].isalnum() or "." in word
        if stays or found.start() in articles:
            return word
        is_mathematics = word in KNOWN or LONE.fullmatch(word) or SIGN.match(word)
        return f"<i>{word}</i>" if is_mathematics else word

    return TOKEN.sub(slanted, html)


def _power_of_ten(found: re.Match) -> str:
    power = f"10^({found[2]})"
    return power if found[1] == "1" else f"{found[1]} · {power}"


def _matrix(rows: str) -> str:
    cells = [row.split(", ") for row in ROW.findall(rows)]
    spoken = escape("; ".join(" ".join(row) for row in cells))
    inner = "".join(f"<span>{_line(cell)}</span>" for row in cells for cell in row)
    return (
        f'<span class="mf-matrix" role="img" aria-label="matrix {spoken}" '
        f'style="grid-template-columns: repeat({len(cells[0])}, auto)">{inner}</span>'
    )
