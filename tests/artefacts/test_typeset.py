"""What would be cut, blank or raw on paper stops the making of a book, and is named."""

import pytest

from tools.typeset import SHRINK, STICKING_OUT, load, mathjax, opened

COLUMN = 600


@pytest.fixture(scope="module")
def page():
    with opened(COLUMN) as page:
        yield page


@pytest.fixture
def show(page, tmp_path, book):
    def show(body: str):
        file = tmp_path / "page.html"
        file.write_text(
            f"<!DOCTYPE html><html><head>{mathjax(book.mathjax)}</head>"
            f'<body style="margin: 0">{body}</body></html>',
            "utf-8",
        )
        load(page, file)
        return page

    return show


def formula(terms: int) -> str:
    return '<div class="math">\\[' + "+".join(["x_{1}^{2}"] * terms) + "\\]</div>"


def test_what_is_too_wide_is_named(show):
    page = show(f'<p>fits</p><div style="width: {COLUMN + 9}px">does not</div>')
    [found] = page.evaluate(STICKING_OUT, COLUMN)
    assert found == f"div of {COLUMN + 9} pixels: does not"


def test_no_line_begins_with_the_comma_after_a_formula(show):
    text = 'A sum (<span class="math">\\(x_1 + x_2\\)</span>), and'
    widths = range(20, 220, 4)
    page = show(
        "<style>p { font: 16px serif } .mf-kept { white-space: nowrap }</style>"
        + "".join(f'<p style="width: {width}px">{text}</p>' for width in widths)
    )
    shown = page.locator("p").all_inner_texts()
    assert len(shown) == len(widths)
    assert all(one.replace("\n", " ").startswith("A sum (") for one in shown)
    kept = page.evaluate(
        """() => [...document.querySelectorAll('.mf-kept')].map(
          kept => [...kept.childNodes].map(node => {
            const range = document.createRange();
            range.selectNodeContents(node);
            return range.getBoundingClientRect().left;
          }))"""
    )
    broken = [
        width
        for width, (before, formula, after) in zip(widths, kept, strict=True)
        if not before < formula < after
    ]
    assert not broken


def test_a_formula_that_is_a_little_too_wide_is_set_smaller(show):
    page = show(formula(20))
    assert page.evaluate(STICKING_OUT, COLUMN)
    page.evaluate(SHRINK, 0.75)
    assert page.evaluate(STICKING_OUT, COLUMN) == []


def test_a_formula_that_is_much_too_wide_is_named(show):
    page = show(formula(40))
    page.evaluate(SHRINK, 0.75)
    assert any("pixels" in found for found in page.evaluate(STICKING_OUT, COLUMN))


def test_a_picture_that_is_missing_is_named(show):
    with pytest.raises(RuntimeError, match=r"page.html: .*nowhere\.png"):
        show('<img alt="" src="nowhere.png">')


@pytest.mark.parametrize(
    ("tex", "wrong"),
    [
        (r"x_{1", "not typeset"),
        (r"\frac12\right)", "extra"),
        (r"\nosuchcommand", r"nosuchcommand: unknown command"),
    ],
)
def test_a_formula_that_is_wrong_is_named(show, tex, wrong):
    with pytest.raises(RuntimeError, match=wrong):
        show(f'<span class="math">\\({tex}\\)</span>')
