"""The book on paper and for electronic readers, as `make pdf epub` bound it."""

from pathlib import Path

import pytest

from tools import epub, pdf
from tools.bound import HTML, Book, read_book
from tools.browser import launched


def built(file: Path) -> Path:
    if not file.exists():
        # A check that did not run must not look passed.
        pytest.fail(f"{file.name} is not there: run `make pdf epub` first")
    return file


@pytest.fixture(scope="session")
def book() -> Book:
    built(HTML / "index.html")
    return read_book()


@pytest.fixture(scope="session")
def pdf_file() -> Path:
    return built(pdf.FILE)


@pytest.fixture(scope="session")
def epub_file() -> Path:
    return built(epub.FILE)


# No two browsers at a time in one worker: the page of test_typeset is another's.
@pytest.fixture(scope="module")
def browser():
    # A check that did not run must not look passed: without a browser this is an error.
    with launched() as browser:
        yield browser
