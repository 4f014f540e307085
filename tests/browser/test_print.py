"""One page on paper: what was opened is printed, what stayed folded is not, and nothing is cut."""

import numpy as np
import pypdfium2
import pytest

from tests.browser.watch import watched

# A4 and the margins of print.css at the sides, in millimetres.
WIDTH, MARGIN = 210, 16


@pytest.fixture(scope="module")
def printed(browser, site):
    with watched(browser, site) as (page, _):
        # With its transitions, unlike other tests: what fades in must not be printed half faded.
        page.goto(f"{site}/book/data/graph.html")
        page.evaluate("() => MathJax.startup.promise")
        folded = page.locator("details.hide")
        codes = [folded.nth(k).locator("pre").text_content() for k in (0, 1)]
        folded.nth(0).evaluate("one => { one.open = true; }")
        pdf = pypdfium2.PdfDocument(page.pdf(format="A4", prefer_css_page_size=True))
    yield pdf, codes
    pdf.close()


def together(text: str) -> str:
    return "".join(text.split())


def test_what_was_opened_is_printed_and_nothing_else(printed):
    pdf, (opened, folded) = printed
    text = together("".join(page.get_textpage().get_text_range() for page in pdf))
    assert opened and all(together(line) in text for line in opened.split("\n"))
    assert max(map(together, folded.split("\n")), key=len) not in text
    assert "Showthe" not in text and "Clickto" not in text
    assert "Aconnectedgraphon" in text  # the first solution, which the page folds, too


def test_what_was_opened_is_not_blank(printed):
    """A fold that fades in would be printed as it begins."""
    pdf, _ = printed
    page = pdf[0].get_textpage()
    at, _ = page.search("use_house_style").get_next()
    left, bottom, right, top = page.get_charbox(at)
    drawn = np.asarray(pdf[0].render(scale=2, grayscale=True).to_pil())
    up, down = (int(2 * (pdf[0].get_height() - y)) for y in (top, bottom))
    assert drawn[up : down + 1, int(2 * left) : int(2 * right) + 40].min() < 128


def test_nothing_is_printed_in_the_margins(printed):
    pdf, _ = printed
    for page in pdf:
        dark = np.asarray(page.render(scale=1, grayscale=True).to_pil()) < 250
        columns = np.flatnonzero(dark.any(axis=0)) / dark.shape[1] * WIDTH
        assert MARGIN - 1 < columns.min() and columns.max() < WIDTH - MARGIN + 1
