"""Each check of a stored notebook sees the fault that it is there for."""

import nbformat
import pytest

from tests.book.test_chapters import LARGEST, faults
from tools.chapters import has_code


def a_figure() -> nbformat.NotebookNode:
    """A notebook of one cell that shows a figure, and has no fault."""
    image = nbformat.v4.new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "x"})
    figure = {"image": {"alt": "A line."}, "figure": {"caption": "It rises.", "name": "fig-x"}}
    shown = nbformat.v4.new_code_cell(
        "draw()", execution_count=1, outputs=[image], metadata={"mystnb": figure}
    )
    return nbformat.v4.new_notebook(cells=[shown])


def test_a_notebook_without_fault_passes():
    assert not faults(a_figure())


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda cell: cell.update(execution_count=None), "was not executed"),
        (lambda cell: cell.update(source="# NBVAL_IGNORE_OUTPUT"), "opts out"),
        (lambda cell: cell.metadata.update(tags=["nbval-skip"]), "opts out"),
        (
            lambda cell: cell.outputs.append(nbformat.v4.new_output("error", ename="E")),
            "stores an error",
        ),
        (
            lambda cell: cell.outputs.append(
                nbformat.v4.new_output("stream", name="stderr", text="Warning: no")
            ),
            "stores a warning",
        ),
        (lambda cell: cell.metadata.mystnb.pop("image"), "without alt text"),
        (lambda cell: cell.metadata.mystnb.figure.update(caption=" "), "without a caption"),
        (lambda cell: cell.metadata.mystnb.figure.pop("name"), "name is missing"),
        (lambda cell: cell.outputs.append(cell.outputs[0]), "more than one image"),
        (lambda cell: cell.outputs[0].update(data={"image/png": "aGVsbG8="}), "not as curves"),
        (
            lambda cell: cell.outputs[0].data.update({"image/svg+xml": "x" * (LARGEST + 1)}),
            "thousands of marks",
        ),
    ],
)
def test_a_fault_is_seen(break_it, fault):
    notebook = a_figure()
    break_it(notebook.cells[0])
    (found,) = faults(notebook)
    assert fault in found


@pytest.mark.parametrize(
    ("text", "answer"),
    [("```{code-cell}\n1\n```", True), ("`{code-cell}` is a word", False), ("```python\n1", False)],
)
def test_a_page_with_code_is_known(tmp_path, text, answer):
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert has_code(page) is answer
