"""`make chapter`: which page is meant, what is done for it, and what is said when that fails."""

import subprocess
import sys

import pytest

from tools import check_chapter
from tools.chapters import ROOT, Chapter
from tools.check_chapter import choose, main, steps


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


def test_the_tests_of_one_chapter_are_found():
    command = [*steps(Chapter("data/graph"))["book"], "--collect-only"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    tests = [line for line in listed if "::" in line]
    assert len(tests) > 5
    assert all("[data/graph]" in test or "[data/graph-" in test for test in tests)
