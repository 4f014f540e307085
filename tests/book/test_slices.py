"""A slice holds what its last statement needs, and as little else as names can tell."""

import pytest

from tools.slices import parted, slice_of

NEEDED, OTHER = "needed = 1", "other = 2"


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        # what has nothing to do with it, however dear; what is printed; what comes later
        ([NEEDED, OTHER, "print(needed)", "last(needed)\nother"], [NEEDED, "", "", "last(needed)"]),
        # bound twice: the former is lost, unless the latter reads it or may not come to it
        (["x = 1", "x = 2", "last(x)"], ["", "x = 2", "last(x)"]),
        (["x = 1", "x = x + 1", "last(x)"], ["x = 1", "x = x + 1", "last(x)"]),
        (["x = 1", "if x:\n    x = 2", "last(x)"], ["x = 1", "if x:\n    x = 2", "last(x)"]),
        (
            ["x = 1", "for x in 2, 3:\n    y = x", "last(y)"],
            ["", "for x in 2, 3:\n    y = x", "last(y)"],
        ),
        # changed under its name
        (["x = []", "x.append(1)", "last(x)"], ["x = []", "x.append(1)", "last(x)"]),
        (["x = {}", "x['a'] = 1", "last(x)"], ["x = {}", "x['a'] = 1", "last(x)"]),
        (["import x", "x.set_y(1)", "last(x)"], ["import x", "x.set_y(1)", "last(x)"]),
        (["x = 1", "x += 1", "last(x)"], ["x = 1", "x += 1", "last(x)"]),
        (["rng = g()", "y = f(rng)", "last(rng)"], ["rng = g()", "y = f(rng)", "last(rng)"]),
        # read and changed in a function, where it is called
        (
            ["def f():\n    return k", "k = 1", "last(f())"],
            ["def f():\n    return k", "k = 1", "last(f())"],
        ),
        (
            ["x = []\ndef f():\n    x.append(1)", "f()", "last(x)"],
            ["x = []\ndef f():\n    x.append(1)", "f()", "last(x)"],
        ),
        # the names of a function and of a comprehension are its own
        (["k = f()", "last([k for k in range(3)])"], ["", "last([k for k in range(3)])"]),
        (["k = f()", "last(lambda k: k)"], ["", "last(lambda k: k)"]),
        # what shares a line stays together, and a decorator with its function
        (["a = 1; b = 2", "last(a)"], ["a = 1; b = 2", "last(a)"]),
        (["@f\ndef g():\n    pass", "last(g)"], ["@f\ndef g():\n    pass", "last(g)"]),
    ],
)
def test_what_is_kept(cells, kept):
    assert slice_of(cells, "last(") == kept


def test_names_can_be_added():
    cells = ["a = 1\nb = 2\nc = 3", "x = a", "last(x)"]
    assert slice_of(cells, "last(", {"x = a": {"b"}}) == ["a = 1\nb = 2", "x = a", "last(x)"]


@pytest.mark.parametrize(
    ("cell", "others"),
    [
        ("a = 1\nb = 2\nc = a", ["a = 1", "c = a"]),
        # a function, and what is called through another
        ("def a():\n    return 1\nb = 2\nc = a()", ["def a():\n    return 1", "c = a()"]),
        (
            "def a():\n    return 1\ndef b():\n    return a()\nc = b()\nd = 1",
            ["def a():\n    return 1", "def b():\n    return a()", "c = b()"],
        ),
        # what changes what a reached statement reads stays behind it
        ("b = 1\na = b\nb = 2\nc = b", ["a = b", "b = 2", "c = b"]),
        ("rng = g()\na = f(rng)\nb = f(rng)", ["a = f(rng)", "b = f(rng)"]),
        ("x = []\na = x\nx.append(1)", ["a = x", "x.append(1)"]),
    ],
)
def test_what_a_change_reaches(cell, others):
    """Of `a`, here."""
    text = next(x for x in ("def a", "a = ") if x in cell)
    first, then = parted([cell], text)
    assert then == others
    assert "\n".join(first + then).count("\n") == cell.count("\n")
