"""`make chapter`: which page is meant, what is done for it, and what is said when that fails."""

import sys

import pytest

from tools import check_chapter
from tools.chapters import ROOT, Chapter
from tools.check_chapter import PYTEST, choose, main, steps


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A book of a chapter, `part/sum`, and a page without code, `words`."""
    (tmp_path / "book" / "part").mkdir(parents=True)
    (tmp_path / "book" / "part" / "sum.md").write_text("```{code-cell}\n1 + 1\n```\n", "utf-8")
    (tmp_path / "book" / "words.md").write_text("# Words\n", "utf-8")
    monkeypatch.setattr(check_chapter, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("word", ["part/sum", "book/part/sum.md", "./book/part/sum.ipynb"])
def test_a_chapter_is_known_by_its_place(root, word):
    assert choose([word], root / "book") == Chapter("part/sum", root / "book")


@pytest.mark.parametrize("words", [[], ["part/gone"], ["words", "part/sum"]])
def test_without_a_chapter_they_are_listed(words, root):
    with pytest.raises(SystemExit, match=r"; there are: part/sum, words$"):
        main(words)


def test_a_page_without_code_is_only_built_and_looked_at(root):
    assert list(steps(Chapter("words", root / "book"))) == ["build", "browser"]


def test_all_that_fails_is_said_in_one_place(root, monkeypatch, capsys):
    def step(word: str, code: int) -> list[str]:
        return [sys.executable, "-c", f"print({word!r}); raise SystemExit({code})"]

    done = {"book": step("apple", 1), "compare": step("pear", 0), "browser": step("plum", 1)}
    monkeypatch.setattr(check_chapter, "steps", lambda chapter: done)
    assert main(["words"]) == 1
    said = capsys.readouterr().out
    steps_said, failures = said.split("=" * 80, 1)
    assert [line.split()[:2] for line in steps_said.splitlines() if line] == [
        ["book", "FAILED"],
        ["compare", "fine"],
        ["browser", "FAILED"],
    ]
    assert "\napple\n" in failures and "\nplum\n" in failures and "\npear\n" not in said
    assert said.endswith("\nwords: failed: book, browser\n")

    done["build"] = step("", 0)
    del done["book"], done["browser"]
    assert main(["words"]) == 0
    assert capsys.readouterr().out.endswith("\nwords: all is fine\n")


def test_nothing_is_compared_with_old_outputs(root, monkeypatch, capsys):
    done = {name: [sys.executable, "-c", "raise SystemExit(1)"] for name in ("execute", "compare")}
    monkeypatch.setattr(check_chapter, "steps", lambda chapter: done)
    assert main(["words"]) == 1
    assert capsys.readouterr().out.endswith("\nwords: failed: execute\n")


class Collected:
    """What a run of pytest would test."""

    def pytest_collection_finish(self, session) -> None:
        self.tests = [item.nodeid for item in session.items]


def test_the_tests_of_one_chapter_are_found():
    command = steps(Chapter("data/graph"))["book"]
    assert command[: len(PYTEST)] == PYTEST
    found = Collected()
    # In this process, which has loaded them all where they run together.
    words = [*command[len(PYTEST) :], "--collect-only", "-q", "-p", "no:cacheprovider"]
    assert pytest.main([f"--rootdir={ROOT}", *words], [found]) == 0
    assert len(found.tests) > 5
    assert all("[data/graph]" in test or "[data/graph-" in test for test in found.tests)
