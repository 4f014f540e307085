"""Each chapter's stored outputs are those of its source, all there, and without a fault.

That they are also *right* is checked by running every chapter again.
"""

import re

import nbformat
import pytest

from tools.chapters import ROOT, STORED, chapters, code_hash, out_of_step, outputs_hash

CHAPTERS = chapters()
IDS = [chapter.name for chapter in CHAPTERS]
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)

# A drawing of more characters has thousands of marks, which a page is slow to draw.
LARGEST = 1_000_000
# Comments and tags that make the check of the outputs skip a cell or its output.
OPT_OUT = re.compile(r"NBVAL_(IGNORE_OUTPUT|SKIP)|nbval-(ignore-output|skip)", re.IGNORECASE)


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What is wrong with a stored notebook, cell by cell."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        tags = cell.metadata.get("tags", [])
        if cell.source.strip() and cell.execution_count is None:
            found.append(f"cell {number} was not executed")
        if OPT_OUT.search(cell.source) or OPT_OUT.search(" ".join(tags)):
            found.append(f"cell {number} opts out of the check of its output")
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" not in tags:
                found.append(f"cell {number} stores an error")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} stores a warning: {output.text.strip()[:80]}")
        if any(kind.startswith("image/") for output in cell.outputs for kind in data(output)):
            found += [f"cell {number} {lack}" for lack in lacks_of_figure(cell)]
    return found


def data(output: nbformat.NotebookNode) -> dict[str, object]:
    return output.get("data", {})


def lacks_of_figure(cell: nbformat.NotebookNode) -> list[str]:
    """Whether the figure says in words what it shows, to those who see it and who do not."""
    render = cell.metadata.get("mystnb", {})
    alt = str(render.get("image", {}).get("alt", "")).strip()
    caption = str(render.get("figure", {}).get("caption", "")).strip()
    images = [
        (kind, len(shown))
        for output in cell.outputs
        for kind, shown in data(output).items()
        if kind.startswith("image/")
    ]
    return [
        lack
        for lack, missing in {
            "shows a figure without alt text": not alt,
            "shows a figure without a caption": not caption,
            "shows a figure whose name is missing": not render.get("figure", {}).get("name"),
            "shows more than one image under one caption": len(images) > 1,
            "stores a figure as dots, not as curves: is the house style used?": any(
                kind != "image/svg+xml" for kind, _ in images
            ),
            "draws thousands of marks as curves: ask for rasterized=True": any(
                size > LARGEST for _, size in images
            ),
        }.items()
        if missing
    ]


@every_chapter
def test_source_and_twin_are_in_step(chapter):
    assert not out_of_step(chapter), "run `make execute`"


@every_chapter
def test_outputs_are_stored_whole_and_without_fault(chapter):
    assert not faults(chapter.read_twin())


@every_chapter
def test_outputs_belong_to_the_code_that_stands_there(chapter):
    stored = chapter.read_twin().metadata.get(STORED, {})
    assert stored.get("code") == code_hash(chapter, chapter.read_source(), ROOT / "mfbook"), (
        "the chapter's code, the package, or data that it reads changed: run `make execute`"
    )


@every_chapter
def test_outputs_were_not_touched_since(chapter):
    twin = chapter.read_twin()
    assert twin.metadata[STORED]["outputs"] == outputs_hash(twin), (
        "an output, perhaps an image, is not the one that was computed: run `make execute`"
    )
