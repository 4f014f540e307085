"""`make quick`: which tests a change touches, and what is said of those left out."""

import subprocess

import pytest

from tools import quick
from tools.quick import main

FILES = {
    "mfbook/__init__.py": "from mfbook.one import f\nfrom mfbook.three import h\n",
    "mfbook/one.py": "from mfbook.two import g\n\n\ndef f():\n    return g()\n",
    "mfbook/two.py": "def g():\n    return 1\n",
    "mfbook/three.py": "def h():\n    return 3\n",
    "tools/__init__.py": "",
    "tools/saw.py": "TEETH = 9\n",
    "tests/package/test_f.py": "import mfbook as mf\n\n\ndef test_f():\n    assert mf.f() == 1\n",
    "tests/package/test_h.py": "import pytest\n\nfrom mfbook import h\n\n\n"
    "@pytest.mark.slow\ndef test_h():\n    assert h() == 3\n",
    "tests/package/test_import.py": "def test():\n    exec('import sys, mfbook')\n",
    "tests/book/test_saw.py": "from tools import saw\n\n\ndef test():\n    assert saw.TEETH == 9\n",
    "book/page.md": "# A page\n",
    "book/part/sum.md": "```{code-cell}\n1 + 1\n```\n",
    "tests/book/test_chapters.py": "import pytest\n\n\n"
    "@pytest.mark.parametrize('chapter', ['part/sum', 'part/sum-2'])\n"
    "def test_it(chapter):\n    assert chapter == 'part/sum'\n",
    "tests/book/test_ledger.py": "",
    "pytest.ini": "[pytest]\npythonpath = .\nmarkers = slow\n"
    "addopts = -p no:nbval -p no:hypothesispytest\n",
    ".gitignore": "__pycache__/\n.pytest_cache/\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A committed repository of four modules and their tests."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(quick, "style", list)
    return tmp_path


def touched(root) -> set[str]:
    names = quick.touched_tests(root, "HEAD", quick.changed_files(root, "HEAD"))
    return {name.rsplit("/", 1)[1] for name in names}


@pytest.mark.parametrize(
    ("name", "text", "tests"),
    [
        # through another module, by a public name; code in a string begins with the whole package
        ("mfbook/two.py", "def g():\n    return 2\n", {"test_f.py", "test_import.py"}),
        ("mfbook/three.py", "def h():\n    return 2\n", {"test_h.py", "test_import.py"}),
        ("mfbook/three.py", '"""Words."""\n\n\ndef h():\n    return 3  # more\n', set()),
        (
            "mfbook/three.py",
            'def h():\n    """>>> h()\n    3\n    """\n    return 3\n',
            {"three.py"},
        ),
        ("mfbook/two.py", None, {"test_f.py", "test_h.py", "test_import.py"}),
        ("tools/saw.py", "TEETH = 8\n", {"test_saw.py"}),
        ("tests/package/test_new.py", "def test(): pass\n", {"test_new.py"}),
        ("book/page.md", "# Another page\n", set()),
    ],
)
def test_a_change_touches_the_tests_that_reach_it(root, name, text, tests):
    assert touched(root) == set()
    if text is None:
        (root / name).unlink()
    else:
        (root / name).write_text(text, "utf-8")
    assert touched(root) == tests


def test_the_touched_tests_run_without_the_slow_ones(root, capfd):
    assert main([], root) == 0
    assert "(0 files) touches no test" in capfd.readouterr().out

    (root / "mfbook/three.py").write_text("def h():\n    return 2\n", "utf-8")
    assert main([], root) == 0
    said = capfd.readouterr().out
    assert "1 passed" in said
    assert "left out: the slow tests of tests/package/test_h.py" in said
    assert main(["--all"], root) == 1
    assert "1 failed, 1 passed" in capfd.readouterr().out


def test_a_changed_chapter_is_checked_as_it_stands(root, capfd):
    (root / "book/part/sum.md").write_text("```{code-cell}\n1 + 2\n```\n", "utf-8")
    assert main([], root) == 0
    said = capfd.readouterr().out
    assert "chapters that the change touches: part/sum" in said
    assert "1 passed, 1 deselected" in said
    (root / "tests/book/test_ledger.py").write_text(
        "import pytest\n\n\n@pytest.mark.parametrize('c', ['part/sum'])\n"
        "def test_its_rows(c):\n    assert False\n"
    )
    assert main([], root) == 1


def test_another_base_and_one_that_is_none(root, capfd):
    (root / "tools/saw.py").write_text("TEETH = 8\n", "utf-8")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run([*git, "commit", "-qam", "teeth"], cwd=root, check=True)
    assert touched(root) == set()
    assert main(["--base", "HEAD~1"], root) == 1
    assert "test_saw.py" in capfd.readouterr().out
    with pytest.raises(SystemExit, match="git diff failed"):
        main(["--base", "nowhere"], root)
