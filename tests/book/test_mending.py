"""What the pages show in place of what the extensions write."""

import pytest

from tools.lines import keep_together
from tools.mathematics import set_mathematics
from tools.sphinx_offline import FOLDED, name_folded_cell


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Ω_k and Ω_(k+1)", "Ω<sub>k</sub> and Ω<sub>k+1</sub>"),
        ("10^-100, α^(1/2)", "10<sup>−100</sup>, α<sup>1/2</sup>"),
        ("‖Z‖_*", "‖Z‖<sub>*</sub>"),
        ("loss_tol and log10_scale", "loss_tol and log10_scale"),
    ],
)
def test_plain_mathematics_is_set(written, meant):
    assert set_mathematics(f'<td id="a_b">{written}</td>') == f'<td id="a_b">{meant}</td>'


X = r'<span class="math notranslate nohighlight">\(x\)</span>'


@pytest.mark.parametrize(
    ("before", "after", "rest"),
    [
        ("", ",", " and"),
        ("(", "),", " and"),
        ("", ".", "</p>"),
        ("&quot;", "&quot;", " is"),
        ("", "-th", " row"),
        ("", "-", "dimensional"),
        ("“", "”?", ""),
    ],
)
def test_what_touches_a_formula_stays_with_it(before, after, rest):
    kept = keep_together(f"<p>Let {before}{X}{after}{rest}")
    assert kept == f'<p>Let <span class="mf-kept">{before}{X}{after}</span>{rest}'


@pytest.mark.parametrize(
    "text",
    [
        f"Let {X} be",
        f"{X} – {X}",
        f"<em>{X}</em>, as",
        r'<div class="math notranslate nohighlight">\[x\]</div>, where',
        "<code>(x)</code>, too",
    ],
)
def test_all_else_may_break(text):
    assert keep_together(text) == text


def test_formulas_are_kept_one_by_one():
    assert keep_together(f"{X}, {X}; {X}").count("mf-kept") == 2


@pytest.mark.parametrize(
    ("code", "what"),
    [('<span class="n">claim</span>(', "Show the check"), ("plot(x)", "Show the code")],
)
def test_a_folded_cell_says_what_it_holds(code, what):
    cell = (
        '<details class="admonition hide above-input"><summary>Show the code, Hide the code'
        f"</summary>{code}</details>"
    )
    assert what in FOLDED.sub(name_folded_cell, cell)
