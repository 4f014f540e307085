"""`make coverage`: a chapter's code as it is run to see which lines it reaches."""

import pytest

from tools.chapters import Chapter
from tools.cover import run, script

PAGE = """# A page

```{code-cell} ipython3
x = 1
```

Words.

```{code-cell} ipython3
:tags: [raises-exception]
1 / 0
```

```{code-cell} ipython3
display(open("data.txt").read())
```
"""


@pytest.fixture
def chapter(tmp_path):
    (tmp_path / "book" / "part").mkdir(parents=True)
    (tmp_path / "book" / "part" / "data.txt").write_text("1", "utf-8")
    chapter = Chapter("part/sum", tmp_path / "book")
    chapter.source.write_text(PAGE, "utf-8")
    return chapter


def test_cells_that_are_meant_to_fail_are_left_out(chapter):
    assert script(chapter) == 'x = 1\n\ndisplay(open("data.txt").read())'


def test_a_chapter_runs_beside_its_data_and_a_failure_is_told(chapter, tmp_path):
    assert run(chapter, tmp_path) == ""
    (chapter.source.parent / "data.txt").unlink()
    assert "data.txt" in run(chapter, tmp_path)
