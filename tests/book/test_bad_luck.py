"""A terminal that knows ASCII only, a folder that cannot be written to, a place that is no folder:
each ends well, or with a line that says the cure."""

import os
import shutil
import subprocess
import sys

import pytest

from tools import wheel
from tools.chapters import ROOT

SHOW = 'show: ; @"$(SHOWN_BY)" -c "print(chr(0x2605), chr(0x2713), chr(0x2192))"'
WITHIN = "within: ; @$(MAKE) -s --no-print-directory --eval='$(SHOW)' show"


@pytest.mark.parametrize("target", ["show", "within"])
@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", ":strict", "", None])
def test_what_make_starts_can_print_what_the_terminal_cannot_show(encoding, target):
    """Make itself starts it, or a make that make calls."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"LC_ALL": "C", "SHOWN_BY": sys.executable, "SHOW": SHOW}
    if encoding is not None:
        environment["PYTHONIOENCODING"] = encoding
    done = subprocess.run(
        ["make", "-s", f"--eval={SHOW}", f"--eval={WITHIN}", target],
        cwd=ROOT,
        env=environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    meant = rb"\u2605 \u2713 \u2192" if "ascii" in (encoding or "") else "★ ✓ →".encode()
    assert done.stdout.strip() == meant


def test_a_folder_that_cannot_be_written_to_is_named_as_the_cause(tmp_path):
    for path in (ROOT / "Makefile", *ROOT.glob("*.txt")):
        shutil.copy(path, tmp_path)
    tmp_path.chmod(0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("whoever runs this may write everywhere")
        done = subprocess.run(["make", "book"], cwd=tmp_path, capture_output=True, text=True)
    finally:
        tmp_path.chmod(0o755)
    assert done.returncode and "copy it to where you can write" in done.stderr


def test_a_wheel_that_cannot_be_stored_says_where_it_could(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder", "utf-8")
    monkeypatch.setattr(sys, "argv", ["wheel.py", str(tmp_path / "file" / "inside")])
    assert wheel.main() == 1
    assert "name a folder that can be written to" in capsys.readouterr().err
