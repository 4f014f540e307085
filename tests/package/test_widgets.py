"""Explorers: what they show where nothing runs, and what comes back where something does."""

import copy
import json
import re
import subprocess
import sys
from functools import cache
from html import unescape
from itertools import pairwise

import ipywidgets
import numpy as np
import pytest

import mfbook as mf
from mfbook.book.widgets import front, static
from mfbook.book.widgets.answer import answer
from mfbook.book.widgets.explorer import VIEW, rounded
from mfbook.book.widgets.kinds.greedy import distance
from tools.chapters import ROOT

SENSING = mf.MatrixSensing([[[1.0, 0.0]]], [1.0])
SYMMETRIC = mf.SymmetricCompletion.from_text("1 2; 2 ?")
POPULATION = json.loads((ROOT / "book" / "bias" / "connected_map.json").read_text("utf-8"))
MAKE = {
    "matrix": lambda: mf.widgets.matrix("1 2; 3 ?", seed=3),
    "mask": lambda: mf.widgets.mask(),
    "scale": lambda: mf.widgets.scale("M4"),
    "time": lambda: mf.widgets.time(),
    "seed": lambda: mf.widgets.seed(90),
    "predict": lambda: mf.widgets.predict("diagonal"),
    "map": lambda: mf.widgets.map(POPULATION),
    "greedy": lambda: mf.widgets.greedy("1 2; 2 1"),
    "depth": lambda: mf.widgets.depth("1 2; 3 ?", log10_scale=-1.5),
}
# None of these is changed by a test.
made, made_again = (cache(lambda kind: MAKE[kind]()) for _ in range(2))
every_kind = pytest.mark.parametrize("kind", MAKE)


def spec_of(html: str) -> dict:
    return json.loads(unescape(re.search(r'data-spec="([^"]*)"', html)[1]))


@every_kind
def test_it_has_a_line_of_text_a_still_figure_and_a_view(kind):
    explorer = made(kind)
    shown = explorer._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html", VIEW}
    assert shown["text/plain"] == repr(explorer)
    html = shown["text/html"]
    assert html.startswith(f'<mf-explorer kind="{kind}" ') and html.endswith("</mf-explorer>")
    assert "<table" in html and "NaN" not in html and "nan" not in html
    assert set(shown[VIEW]) >= {"model_id"}


@every_kind
def test_what_is_stored_is_the_same_twice(kind):
    again = made_again(kind)
    assert (repr(again), again.html) == (repr(made(kind)), made(kind).html)


@every_kind
def test_what_it_begins_with_is_a_problem_and_a_start(kind):
    explorer = made(kind)
    state = spec_of(explorer.html)["state"]
    # A page rounds what may depend on the machine.
    assert state == explorer.state | {"cells": rounded(explorer.state["cells"])}
    assert explorer.problem.shape == np.shape(state["cells"])
    assert explorer.seed == state["seed"] and explorer.log10_scale == state["scale"]


def test_the_front_end_knows_every_kind():
    assert set(MAKE) == set(mf.widgets.__all__) - {"Explorer"}
    for kind in MAKE:
        assert f"mflive.explorers.{kind} = " in front.script()


def test_what_the_reader_does_comes_back():
    explorer = mf.widgets.matrix("1 2; 3 ?")
    explorer._repr_mimebundle_()
    assert round(explorer.run.W[1, 1], 3) == 6.0
    # What a front end sends when a cell is typed and the sliders move.
    explorer._live.set_state(
        {"state": {"cells": [[1, 2, None], [3, None, 5]], "seed": 4, "scale": -10}}
    )
    assert repr(explorer.problem) == "MatrixCompletion('1 2 ★; 3 ★ 5')"
    assert (explorer.seed, explorer.log10_scale) == (4, -10)
    start = mf.small_init((2, 3), rng=4)
    again = mf.gradient_flow(explorer.problem, start, log10_scale=-10)
    assert explorer.run.W.tolist() == again.W.tolist()


@every_kind
def test_an_explorer_is_a_widget_where_there_are_widgets(kind):
    explorer, other = made(kind), made_again(kind)
    assert isinstance(explorer, ipywidgets.DOMWidget) and isinstance(explorer, mf.widgets.Explorer)
    assert type(explorer) is mf.widgets.Explorer
    box = ipywidgets.VBox([explorer, other])
    shown = [explorer._repr_mimebundle_()[VIEW]["model_id"], other.model_id]
    assert box.get_state()["children"] == [f"IPY_MODEL_{name}" for name in shown]
    assert shown[0] != shown[1]


def test_an_explorer_is_none_where_there_are_no_widgets(monkeypatch):
    explorer = mf.widgets.matrix("1 2; 3 ?")
    monkeypatch.setattr("mfbook.book.widgets.explorer.find_spec", lambda name: None)
    assert not isinstance(explorer, ipywidgets.DOMWidget)
    assert isinstance(explorer, mf.widgets.Explorer)
    assert set(explorer._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_what_an_explorer_lacks_it_says():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mf.widgets.matrix().nothing
    with pytest.raises(AttributeError, match="no attribute '_nothing'"):
        _ = mf.widgets.matrix()._nothing
    assert copy.copy(mf.widgets.matrix("1 2; 3 ?")).seed == 0


def test_a_question_is_answered_or_refused_in_words():
    explorer = mf.widgets.matrix("1 2; 3 ?")
    explorer._repr_mimebundle_()
    said = []
    explorer._live.send = said.append
    request = {"values": [[1, 2], [3, None]], "seed": 0, "log10_scale": -100, "frames": 5}
    explorer._live._handle_custom_msg({"id": 1, "request": request}, [])
    explorer._live._handle_custom_msg({"id": 2, "request": {"values": [[None]]}}, [])
    assert said[0]["id"] == 1 and said[0]["answer"]["converged"]
    assert said[1]["id"] == 2 and "selects no entry" in said[1]["error"]
    explorer._live._handle_custom_msg({"id": 3, "request": {**request, "task": "rank"}}, [])
    assert "task must be one of flow, " in said[2]["error"] and "'rank'" in said[2]["error"]


def test_an_answer_is_that_of_the_package():
    problem = mf.examples.M3
    values = [[None if np.isnan(v) else float(v) for v in row] for row in problem.values]
    request = {"values": values, "seed": 1, "log10_scale": -50, "rtol": 1e-6, "frames": 9}
    said = answer(request)
    run = mf.gradient_flow(problem, mf.small_init((3, 3), rng=1), log10_scale=-50, loss_tol=1e-8)
    assert json.loads(json.dumps(said)) == said
    assert said["W"] == run.W.tolist() and said["reason"] == run.reason
    assert [phase["rank"] for phase in said["phases"]] == [phase.rank for phase in run.phases]
    frames = said["frames"]
    assert len(frames) == 9 and frames[0]["t"] == run.t[0] and frames[-1]["t"] == run.t[-1]
    assert all(a["t"] < b["t"] for a, b in pairwise(frames))
    for frame in frames:
        product = np.array(frame["A"]) @ np.array(frame["B"])
        # W and the factors come from one dense output.
        assert np.abs(product - frame["W"]).max() < 1e-9
    assert said["classes"] == {
        "connectivity": "connected",
        "components": [{"rows": [0, 1, 2], "cols": [0, 1, 2]}],
    }


def test_the_rivals_are_those_of_the_package():
    values = [[1, None, 3], [None, 5, None], [3, None, 9]]
    nuclear = answer({"task": "minNuclear", "values": values})
    rank = answer({"task": "minRank", "values": values})
    assert nuclear["sure"] and abs(nuclear["value"] - 15) < 1e-6
    assert nuclear["lower_bound"] <= nuclear["value"]
    assert (rank["rank"], rank["proven"]) == (1, True) and rank["why"]
    assert np.linalg.matrix_rank(rank["W"], tol=1e-9) == 1


def test_the_greedy_path_is_that_of_the_package():
    for problem in (mf.examples.connected_4x4, mf.examples.runaway_3x3):
        values = [[None if np.isnan(v) else float(v) for v in row] for row in problem.values]
        said = answer({"task": "glrl", "values": values})
        path = mf.glrl(problem, rtol=1e-5, max_steps=2000)
        assert json.loads(json.dumps(said)) == said
        points = [W.tolist() for W in path.critical_points]
        assert said == {
            "critical_points": points,
            "ranks": list(path.ranks),
            "W": points[-1],
            "converged": path.converged,
            "reason": path.reason,
        }


def test_a_rank_that_comes_twice_is_told_apart():
    html = mf.widgets.matrix("-3 ? -2; 1 4 -3; 0 4 2").html
    run = mf.widgets.matrix("-3 ? -2; 1 4 -3; 0 4 2").run
    assert [phase.rank for phase in run.phases] == [0, 1, 1, 2, 3]
    first, second = (static.digits(phase.loss, 3) for phase in run.phases[1:3])
    assert f"0 → 1 → 1 → 2 → 3 (rank 1: saddles of loss {first} and {second})." in html


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_deep_answer_is_that_of_the_package(depth):
    values = [[1, None, 3], [None, 5, None], [3, None, 9]]
    request = {"task": "deep", "values": values, "depth": depth, "seed": 1, "log10_scale": -2}
    said = answer(request | {"rtol": 1e-6, "loss_tol": 1e-8})
    start = mf.small_init((3, 3), depth=depth, rng=1)
    run = mf.gradient_flow(
        mf.examples.disconnected_3x3, start, log10_scale=-2, loss_tol=1e-8, max_steps=5000
    )
    assert json.loads(json.dumps(said)) == said
    assert said["W"] == run.W.tolist() and said["reason"] == run.reason
    assert [frame["t"] for frame in said["frames"]] == run.t.tolist()
    assert [phase["time"] for phase in said["phases"]] == [phase.time for phase in run.phases]


def test_the_still_figure_names_no_point_that_is_none():
    """GLRL runs away in its first phase: only zero is a critical point that it passed."""
    html = mf.widgets.greedy(mf.examples.runaway_3x3).html
    assert "W grows on" in html and "GLRL at rank" not in html
    assert html.count('<th scope="row">rank') == 1


def test_the_still_figure_measures_how_near_the_flow_comes():
    problem = mf.MatrixCompletion.from_text("4 ? 3 ?; ? 4 ? 3; 2 ? ? 3; ? 2 3 ?")
    path = mf.glrl(problem)
    run = mf.gradient_flow(problem, mf.small_init(problem.shape, rng=0), log10_scale=-30)
    near = [distance(run, W) for W in path.critical_points]
    # It rests at W_1 and then goes elsewhere.
    assert near[1] < 1e-2 * np.linalg.norm(path.critical_points[1])
    assert 0.1 * np.linalg.norm(path.W) < near[2] <= np.linalg.norm(run.W - path.W)


def test_the_step_limit_is_an_answer_and_not_an_end():
    request = {"values": [[1, 2], [3, None]], "seed": 0, "log10_scale": -100, "max_steps": 2}
    said = answer(request)
    assert not said["converged"] and said["reason"] == "step limit"


def test_the_start_that_is_turned_has_the_angle():
    for angle in (0, 35, 90, 180):
        explorer = mf.widgets.seed(angle)
        A, B = explorer.factors
        u = np.array([1, 0, 3]) / np.sqrt(10)
        first, second = A.T @ u + B @ u, A[1] + B[:, 1]
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        assert abs(cosine - np.cos(np.radians(angle))) < 1e-12
        # The limit is √5 cos(angle); from 10^-8 it is met to some 1e-8.
        assert abs(explorer.run.W[0, 1] - np.sqrt(5) * np.cos(np.radians(angle))) < 1e-4


def test_the_map_says_where_each_problem_ended():
    explorer = made("map")
    spec = spec_of(explorer.html)
    assert len(spec["lanes"]) == len(POPULATION["rows"])
    assert {len(letters) for letters in spec["far"]} == {len(POPULATION["rows"])}
    assert len(explorer.html) < 20_000
    problems, triples = mf.populations.connected_population(1, spec["seed"])
    assert spec["triples"] == [list(triple) for triple in triples]
    assert spec["lanes"][:2] == "00" and problems[0].shape == (2, 2)
    # It begins with an exception: what it learns is not of the smallest rank.
    row = POPULATION["rows"][spec["state"]["index"]]
    learned = mf.numerical_rank(explorer.run.W, rtol=1e-3)
    assert learned > row["min_rank"][0] == mf.min_rank(explorer.problem).rank


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: mf.widgets.matrix("1 x"), ValueError, "'x' is neither a number"),
        (lambda: mf.widgets.matrix("? ?"), ValueError, "selects no entry"),
        (lambda: mf.widgets.matrix(np.ones((9, 2))), ValueError, "at most 8 rows"),
        (lambda: mf.widgets.matrix("1 2", seed=-1), ValueError, "seed must be"),
        (lambda: mf.widgets.matrix("1 2", log10_scale=1), ValueError, "at most 0"),
        (lambda: mf.widgets.matrix(None), TypeError, "is None"),
        (lambda: mf.widgets.mask([[1, 2]], [[True], [True]]), ValueError, "same shape"),
        (lambda: mf.widgets.mask([[1, np.nan]], [[True, False]]), ValueError, "finite"),
        (lambda: mf.widgets.scale("M6"), ValueError, "one of M4, M5, runaway, c"),
        (lambda: mf.widgets.scale(log10_scale=-7), ValueError, "log10_scale must be one of"),
        (lambda: mf.widgets.time(log10_scale=-1000), ValueError, "log10_scale must be one of"),
        (lambda: mf.widgets.seed(7), ValueError, "angle must be one of"),
        (lambda: mf.widgets.predict("other"), ValueError, "example must be one of"),
        (lambda: mf.widgets.greedy(log10_scale=-7), ValueError, "log10_scale must be one of"),
        (lambda: mf.widgets.depth(log10_scale=-5), ValueError, "log10_scale must be one of"),
        (lambda: mf.widgets.depth(np.ones((5, 2))), ValueError, "at most 4 rows"),
        (lambda: mf.widgets.greedy("1 x"), ValueError, "'x' is neither a number"),
        (lambda: mf.widgets.map(POPULATION, index=2160), ValueError, "index must be"),
        (lambda: mf.widgets.map({}), TypeError, "stored must be the result"),
        (lambda: mf.widgets.map(None), TypeError, "stored must be the result"),
        (lambda: mf.widgets.matrix(SENSING), TypeError, "must be a MatrixCompletion"),
        (lambda: mf.widgets.depth(SYMMETRIC), ValueError, "an explorer follows two factors"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_what_a_reader_wrote_is_never_markup():
    problem = mf.MatrixCompletion.from_text("1 2; 3 ?", name="<img src=x>")
    assert "<img" not in mf.widgets.matrix(problem).html


@pytest.mark.slow
def test_nobody_pays_for_explorers_who_shows_none():
    code = "import sys, mfbook; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    modules = set(loaded.stdout.split())
    assert not {"anywidget", "ipywidgets", "traitlets", "mfbook.book.widgets"} & modules
    code = "import sys, mfbook as mf; mf.widgets.matrix('1 2; 3 ?').html; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert not {"anywidget", "ipywidgets"} & set(loaded.stdout.split())


def test_the_scripts_fetch_nothing_and_insert_no_markup():
    script = front.page_script()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert not re.findall(forbidden, script)
    assert not re.findall(
        r"\bfetch\(|XMLHttpRequest|importScripts|https?://(?!www\.w3\.org)", script
    )
