"""What makes a chapter stale: the code that it reaches, and nothing else."""

import pytest

from tools.chapters import ROOT, Chapter, code_hash
from tools.dependencies import code_of_module, code_of_text, reached_modules

PACKAGE = {
    "__init__.py": "from mfbook.problems import Problem\n"
    "from mfbook.rivals.nuclear import norm\n\n\n"
    "def __getattr__(name):\n    return import_module('mfbook.book.plots')\n",
    "problems/__init__.py": "from mfbook.problems.completion import Problem\n",
    "problems/completion.py": "from mfbook.problems.checks import look\n",
    "problems/checks.py": "def look():\n    return 1\n",
    "rivals/__init__.py": "",
    "rivals/nuclear.py": "def norm():\n    from mfbook.problems import Problem\n",
    "book/__init__.py": "",
    "book/plots.py": "RED = 1\n",
}


@pytest.fixture
def package(tmp_path):
    for name, text in PACKAGE.items():
        file = tmp_path / "mfbook" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return tmp_path / "mfbook"


def names(package, code):
    return {str(p.relative_to(package)) for p in reached_modules(code, package)}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import mfbook as mf\n", set()),
        (
            "import mfbook as mf\nmf.Problem()",
            {"problems/completion.py", "problems/checks.py"},
        ),
        (
            "import mfbook\nmfbook.norm()",
            {"rivals/nuclear.py", "problems/completion.py", "problems/checks.py"},
        ),
        ("import mfbook as mf\nmf.plots.RED", {"book/plots.py"}),
        (
            "from mfbook import Problem",
            {"problems/completion.py", "problems/checks.py"},
        ),
    ],
)
def test_code_reaches_what_it_names_and_what_that_imports(package, code, expected):
    assert names(package, code) == expected


@pytest.mark.parametrize(
    "code",
    [
        "import mfbook as mf\nmf.unheard_of",
        "from mfbook.rivals.nuclear import norm",
        "import mfbook as mf\ngetattr(mf, name)",
    ],
)
def test_where_it_cannot_be_told_everything_counts(package, code):
    assert names(package, code) == set(PACKAGE)


def test_only_code_counts(tmp_path):
    file = tmp_path / "module.py"
    plain = 'X = "# no comment"\n\n\ndef f(a):\n    return a  \n'
    file.write_text(plain, "utf-8")
    before = code_of_module(file)
    file.write_text(
        '"""Über alles.\n\nMore."""\n# why\nX = "# no comment"  # ⋆\n\ndef f(a):\n'
        "    r'''W ∈ ℝ'''\n\n    return a\n",
        "utf-8",
    )
    assert code_of_module(file) == before
    file.write_text(plain.replace("return a", "return -a"), "utf-8")
    assert code_of_module(file) != before


BARE = """\
from __future__ import annotations

@dataclass
class Point:
    x: int

    def moved(self, by, *, far=(1, 2), **more):
        δ = by
        self.last = δ
        def inner(): return {1: 2}
        return self
"""
ANNOTATED = """\
from __future__ import annotations

@dataclass
class Point:
    x: int

    def moved(
        self,
        by: dict[str, int],  # a comment: with a colon
        *,
        far: tuple[int, int] = (1, 2),
        **more: Literal["a:b"],
    ) -> Point:
        '''Said.'''
        δ: float = by
        later: int
        self.last: list[
            float
        ] = δ
        def inner() -> dict[int, int]: return {1: 2}
        return self
"""


def test_annotations_in_functions_do_not_count():
    assert code_of_text(ANNOTATED) == code_of_text(BARE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    x: int\n", "    x: float\n"),
        ("(1, 2)", "(1, 3)"),
        ("*, far", "far"),
        ("δ = by", "δ = -by"),
        ("{1: 2}", "{1: 3}"),
        ("@dataclass", "@dataclass(frozen=True)"),
    ],
)
def test_what_is_evaluated_counts(old, new):
    assert old in BARE
    assert code_of_text(BARE.replace(old, new)) != code_of_text(ANNOTATED)


def test_annotations_count_where_they_are_evaluated():
    bare, annotated = (text.split("\n", 1)[1] for text in (BARE, ANNOTATED))
    assert code_of_text(bare) != code_of_text(annotated)


def test_the_real_chapters_reach_part_of_the_package():
    chapter = Chapter("data/graph")
    code = chapter.read_source()
    reached = reached_modules("import mfbook as mf\nmf.connectivity(mask)", ROOT / "mfbook")
    assert {p.name for p in reached} >= {"graph.py", "checks.py"}
    others = {"rivals/nuclear/minimum.py", "rivals/minrank/smallest.py", "flow/shallow/dense.py"}
    assert all((ROOT / "mfbook" / name).exists() for name in others)
    assert not {p.relative_to(ROOT / "mfbook").as_posix() for p in reached} & others
    assert code_hash(chapter, code, ROOT / "mfbook") == code_hash(chapter, code, ROOT / "mfbook")
