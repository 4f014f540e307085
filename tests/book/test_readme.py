"""The README shows what the book shows, and its code prints what it says."""

import base64
import re

import nbformat

from tools.chapters import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_picture_is_that_of_the_first_page():
    twin = nbformat.read(ROOT / "book" / "welcome.ipynb", as_version=4)
    outputs = [output for cell in twin.cells for output in cell.get("outputs", [])]
    figure, *_ = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    copy = ROOT / "book" / "_static" / "welcome.png"
    assert copy.read_bytes() == base64.b64decode(figure), f"store the stored figure as {copy.name}"


def test_the_code_prints_what_its_comments_say(capsys):
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(code, {})
    printed = capsys.readouterr().out
    assert printed.startswith("connected\n")
    assert "[3. 6.]" in printed and "[3. 1.]" in printed
    assert printed.endswith("excludes rank 0\n")
