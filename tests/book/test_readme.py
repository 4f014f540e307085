"""The README shows what the book shows, and its code prints what it says."""

import re

import nbformat

from tools.chapters import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_picture_is_that_of_the_first_page():
    twin = nbformat.read(ROOT / "book" / "welcome.ipynb", as_version=4)
    outputs = [output for cell in twin.cells for output in cell.get("outputs", [])]
    figures = [output["data"].get("image/svg+xml") for output in outputs if "data" in output]
    copy = ROOT / "book" / "_static" / "welcome.svg"
    assert copy.read_text("utf-8") == next(filter(None, figures)), (
        f"store the stored figure as {copy.name}"
    )


def test_the_code_prints_what_its_comments_say(capsys):
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(code, {})
    printed = capsys.readouterr().out
    assert printed.startswith("connected\n")
    assert "[3. 6.]" in printed and "[3. 1.]" in printed
    assert printed.endswith("excludes rank 0\n")
