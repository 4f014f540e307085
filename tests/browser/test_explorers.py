"""The explorers in the built pages, opened from a file: alive, fit for all, and asking nobody."""

import re
from contextlib import ExitStack

import numpy as np
import pytest

import mfbook as mf
from mfbook.book.widgets import front
from tests.browser.conftest import HTML
from tests.browser.test_pages import PAGES
from tests.browser.watch import THEMES, axe_violations, load, paint, watched
from tools.sphinx_offline import MATHJAX

PLACES = {
    "matrix": "book/explore.html",
    "mask": "book/data/connectivity.html",
    "scale": "book/numerics/small.html",
    "time": "book/numerics/flow.html",
    "seed": "book/bias/seed.html",
    "predict": "book/dynamics/traversal.html",
    "map": "book/bias/map.html",
    "greedy": "book/greedy/parting.html",
    "depth": "book/depth/connectivity.html",
}
every_kind = pytest.mark.parametrize("kind", PLACES)
WITH_SLIDER = ("matrix", "scale", "seed", "map", "greedy", "depth")
PATIENCE = 30_000
# A page that has to wait for the worker's first answer, which compiles while it runs.
SAID = ".mfx-live .mfx-said"
NO_FORMULAS = "window.MathJax = {startup: {promise: Promise.resolve()}};"
# What stands around the explorer in its chapter is for test_pages to look at.
ALONE = """() => {
  let inner = document.querySelector('mf-explorer');
  for (; inner.tagName !== 'ARTICLE'; inner = inner.parentElement)
    [...inner.parentElement.children].forEach(one => one === inner || one.remove());
}"""
# The output that holds an explorer would scroll.
STICKS_OUT_BY = """() => {
  const output = document.querySelector('section.mfx').closest('.output');
  return output.scrollWidth - output.clientWidth;
}"""
# What is drawn anew for a width is drawn after the next frame is laid out, and what depends on that
# one frame later.
DRAWN = """async () => {
  for (let k = 0; k < 3; k++) await new Promise(requestAnimationFrame);
}"""
ROBOT = "<img src=x onerror=\"document.title='caught'\">"


@pytest.fixture
def opened(browser):
    """Open a page of the book as a file; whatever goes wrong meanwhile fails the test."""
    with ExitStack() as tabs:
        seen = []

        def opened(path: str, fragment: str = "", media: dict | None = None, formulas=False):
            address = (HTML / path).as_uri()
            page, wrong = tabs.enter_context(watched(browser, address))
            seen.append(wrong)
            if not formulas:
                # An explorer sets its own signs, and typesetting a chapter takes seconds.
                page.route(f"**/{MATHJAX}", lambda route: route.fulfill(body=NO_FORMULAS))
            page.emulate_media(**(media or {}))
            load(page, address + fragment)
            page.locator("mf-explorer").first.scroll_into_view_if_needed()
            settled(page)
            return page

        yield opened
        assert not any(seen)


def settled(page) -> str:
    """Wait until the first explorer has said something and computes no more; return it."""
    page.wait_for_function(
        f"() => document.querySelector('{SAID}')?.textContent"
        " && !document.querySelector('section.mfx.mfx-busy')",
        timeout=PATIENCE,
    )
    return page.locator(SAID).first.inner_text()


def changed(page, before: str) -> str:
    page.wait_for_function(
        "([where, before]) => document.querySelector(where).innerText !== before",
        arg=[SAID, before],
        timeout=PATIENCE,
    )
    return settled(page)


@every_kind
def test_without_scripts_the_figure_stays(browser, kind):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((HTML / PLACES[kind]).as_uri())
    assert page.locator("mf-explorer table").first.is_visible()
    assert page.locator("mf-explorer .mfx-title").inner_text()
    context.close()


@every_kind
def test_it_lives_without_a_server_fits_and_is_open_to_all(opened, kind):
    page = opened(PLACES[kind], formulas=True)
    assert page.locator("mjx-container").count() or kind == "matrix"
    assert page.locator(f"mf-explorer[kind={kind}] section.mfx-{kind}").count() == 1
    assert page.locator(".mfx-still").first.is_hidden()
    assert not page.locator(".mfx-wrong:visible").count()
    keyboard_reaches_controls_with_names(page)
    if kind in WITH_SLIDER:
        a_slider_moves_with_the_keyboard(page)
    widths = (360, 1200, 1600)
    for width in widths:
        shown_in(page, width)
        assert page.evaluate(STICKS_OUT_BY) <= 1, width
    # Last, for it changes the page.
    assert not axe_violations(page, {"runOnly": ["duplicate-id-aria"]}, within="mf-explorer")
    page.evaluate(ALONE)
    for width in widths:
        shown_in(page, width)
        for theme in THEMES:
            paint(page, theme)
            assert not axe_violations(page, {}, within="mf-explorer"), (width, theme)


def shown_in(page, width: int) -> None:
    """In a window of this width, with all pictures drawn anew for it."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(DRAWN)


def keyboard_reaches_controls_with_names(page) -> None:
    controls = page.locator("section.mfx :is(input, button, textarea, summary):visible")
    nameless = controls.evaluate_all(
        """all => all.filter(one => !(one.getAttribute('aria-label') || one.textContent.trim()
          || [...(one.labels || [])].some(label => label.textContent.trim())))
          .map(one => one.outerHTML)"""
    )
    assert not nameless
    assert not controls.evaluate_all("all => all.filter(one => one.tabIndex < 0).length")


def a_slider_moves_with_the_keyboard(page) -> None:
    before = settled(page) + page.locator(".mfx").first.inner_text()
    slider = page.locator("section.mfx input[type=range]:visible").first
    slider.focus()
    spoken = slider.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") != spoken
    settled(page)
    assert settled(page) + page.locator(".mfx").first.inner_text() != before


def test_one_entry_flips_the_regime(opened):
    page = opened(PLACES["mask"])
    before = settled(page)
    assert "learns rank 2, where the smallest is 1" in before
    # Three factors have the smallest rank on both sides of the border.
    deep = page.locator(".mfx-live .mfx-card", has_text="three factors")
    assert "rank 1" in deep.inner_text()
    button = page.get_by_role("button", name="row 1, column 3")
    button.focus()
    page.keyboard.press("Enter")
    after = changed(page, before)
    assert "learns rank 1, the smallest" in after
    assert "rank 1" in deep.inner_text()
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused.startswith("row 1, column 4")


def test_the_scale_freezes_the_value_or_sends_it_away(opened):
    page = opened(PLACES["scale"], "#explorer=scale&example=M5&scale=-1000&c=20")
    assert "becomes 40: the matrix of rank 1" in settled(page)
    before = settled(page)
    page.get_by_label("the one that runs away").check()
    assert "it has run away from −3" in changed(page, before)


def test_time_goes_from_rest_to_rest(opened):
    page = opened(PLACES["time"], media={"reduced_motion": "reduce"})
    page.get_by_role("button", name="rest at rank 0").click()
    phase = page.locator(".mfx-strong").first
    assert "saddle of rank 0" in phase.inner_text()
    # Without motion, Play goes on to the next stage of the run.
    page.get_by_role("button", name="Play").click()
    assert "Leaving rank 0 for rank 1" in phase.inner_text()
    page.get_by_role("button", name="the end").click()
    assert "Arrived, at rank" in phase.inner_text()


def test_the_entry_follows_the_angle(opened):
    page = opened(PLACES["seed"], "#explorer=seed&angle=90&scale=-20")
    assert "√5 cos 90° = 0 for the entry" in settled(page)
    before = settled(page)
    slider = page.locator("section.mfx input[type=range]:visible").first
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(3):
        if "√5 cos 0°" in (before := changed(page, before)):
            break
    assert "learns 2.236" in before


def test_a_prediction_is_held_against_the_run(opened):
    page = opened(PLACES["predict"], "#explorer=predict&example=diagonal")
    before = settled(page)
    assert page.get_by_role("button", name="On to the next saddle").is_disabled()
    page.get_by_role("button", name="Run it").click()
    # The loss is a mean over four entries: all times are twice those of the chapter.
    assert "came at 1 · ln 1/α, as the timetable says" in changed(page, before)


def test_the_problems_of_the_map_are_those_of_the_package(opened):
    page = opened(PLACES["map"])
    number = page.locator("section.mfx input[type=number]").first
    problems, _ = mf.populations.connected_population(2, 2024)
    for k in (3, 71, 107):
        before = settled(page)
        number.fill(str(k))
        assert f"Problem {k}," in changed(page, before)
        seen = page.locator("section.mfx td.mfx-seen").all_inner_texts()
        values = [float(word.replace("−", "-")) for word in seen]
        # They are written to three digits, and what is learned is right to 1e-4 of the data.
        there = problems[k].targets
        assert np.abs(np.array(values) - there).max() < 6e-3 * np.abs(there).max()
    page.get_by_role("button", name="Next exception").click()
    assert "where the smallest" in changed(page, before)


# ---- the greedy path

# What is said of each example from 10^-30.
EXAMPLES = {
    "they agree": "They agree: the flow from α = 10−30 passes W₁ and W₂ and ends at W₃.",
    "only from far below": "The start is not small enough: from 10−200 they agree.",
    "a tie": "At W₀ two directions tie",
    "a saddle by symmetry": "And yet W₁ is a saddle among the matrices of rank 1",
    "a slower column with a head start": "At W₁ the flow leaves along direction 2",
    "GLRL runs away": "GLRL runs away in its phase 1",
}


def test_greedy_says_why_the_flow_parts_from_it(opened):
    page = opened(PLACES["greedy"])
    labels = page.locator("section.mfx .mfx-choice").first.locator("label")
    assert labels.all_inner_texts() == list(EXAMPLES)
    assert EXAMPLES["they agree"] in settled(page)
    for name, words in list(EXAMPLES.items())[1:]:
        before = settled(page)
        page.get_by_label(name, exact=True).check()
        changed(page, before)
        assert words in settled(page), name
        assert not page.locator(".mfx-wrong:visible").count()


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("4 ? 3 ?; ? 4 ? 3; 2 ? ? 3; ? 2 3 ?", -30),
        ("1 10; 10 ?", -30),
        ("1 ? 3; ? 5 ?; 3 ? 9", -50),
    ],
)
def test_the_distance_of_the_ends_is_that_of_the_package(opened, text, scale):
    page = opened(PLACES["greedy"], f"#explorer=greedy&cells={text}&scale={scale}&seed=3")
    said = float(re.search(r"ends at the distance ([\d.]+) from", settled(page))[1])
    problem = mf.MatrixCompletion.from_text(text)
    run = mf.gradient_flow(problem, mf.small_init(problem.shape, rng=3), log10_scale=scale)
    path = mf.glrl(problem)
    # A page asks for W(t) to 1e-4 of the data, and says three digits.
    size = np.linalg.norm(path.W)
    assert abs(said - np.linalg.norm(run.W - path.W)) < 5e-3 * said + 1e-3 * size


def test_a_run_to_infinity_has_no_point_at_its_end(opened):
    page = opened(PLACES["greedy"], "#explorer=greedy&cells=2 1 1;-1 -1 -1;2 -3 ?&scale=-8&seed=0")
    assert "no W₁ is in sight" in settled(page)
    rows = page.locator("section.mfx .mfx-table").first.locator("tbody th").all_inner_texts()
    assert rows == ["W₀"]
    problem = mf.examples.runaway_3x3
    run = mf.gradient_flow(problem, mf.small_init((3, 3), rng=0), log10_scale=-8)
    found = re.search(r"the singular values ([\d.]+) and ([\d.]+):", settled(page)).groups()
    s = np.linalg.svd(run.W, compute_uv=False)
    assert np.allclose([float(x) for x in found], s[:2], rtol=2e-3)


def test_a_scale_that_is_no_start_of_the_greedy_path_is_refused_in_words(opened):
    page = opened(PLACES["greedy"], "#explorer=greedy&scale=-7")
    assert "no stop of the controls" in page.locator("section.mfx > .mfx-wrong").inner_text()


def test_a_matrix_of_ones_own_is_followed_greedily_and_linked(opened):
    page = opened(PLACES["greedy"])
    before = settled(page)
    area = page.locator("section.mfx textarea")
    area.fill("1 2; 3")
    assert "the same number of entries" in page.locator(".mfx-wrong:visible").inner_text()
    assert settled(page) == before
    area.fill("1 2; 2 ?")
    changed(page, before)
    shown = settled(page)
    assert "ends at W₁" in shown and not page.locator(".mfx-wrong:visible").count()
    assert page.locator("section.mfx .mfx-choice input:checked").count() == 0
    page.get_by_role("button", name="Copy a link").click()
    page.wait_for_function("() => document.querySelector('.mfx-told').textContent")
    again = opened(PLACES["greedy"], page.evaluate("location.hash"))
    assert settled(again) == shown
    assert again.locator("section.mfx textarea").input_value() == "1 2\n2 ?"


def test_the_python_lines_follow_both_paths(opened, capsys):
    page = opened(PLACES["greedy"], "#explorer=greedy&cells=1 2; 20 ?&scale=-100&seed=1")
    exec(page.locator("section.mfx pre").text_content(), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("GreedyPath(loss reached, ranks 0 → 1")
    r, _, apart = out[-1].split()
    assert int(r) == 1 and float(apart) < 1e-3


# ---- more factors


def test_from_three_factors_on_parts_come_together(opened):
    page = opened(PLACES["depth"], "#explorer=depth&cells=1 ? 3; ? 5 ?; 3 ? 9&scale=-3&seed=5")
    said = settled(page)
    assert (
        "two factors end at rank 2, three at rank 1 and four at rank 1; the smallest is 1" in said
    )
    shares = [float(x) for x in re.findall(r"([\d.]+)\u00a0% with", said)]
    assert shares[0] > 10 * shares[1] > 100 * shares[2]
    cells = page.locator("section.mfx .mfx-matrix")
    for k, depth in enumerate((2, 3, 4)):
        start = mf.small_init((3, 3), depth=depth, rng=5)
        run = mf.gradient_flow(mf.examples.disconnected_3x3, start, log10_scale=-3)
        words = cells.nth(k).locator("td").all_inner_texts()
        shown = np.array([float(word.replace("−", "-")) for word in words])
        assert np.abs(shown - run.W.ravel()).max() < 6e-3 * 9


def test_depth_takes_examples_links_and_what_is_typed(opened):
    page = opened(PLACES["depth"])
    before = settled(page)
    page.get_by_label("one part", exact=True).check()
    one = changed(page, before)
    assert "two, three and four factors end at rank 2, the smallest" in one
    area = page.locator("section.mfx textarea")
    area.fill("1 2 3 4 5")
    assert "up to 4 rows and columns" in page.locator(".mfx-wrong:visible").inner_text()
    assert settled(page) == one
    area.fill("2 ?; ? 1")
    shown = changed(page, one)
    page.get_by_role("button", name="Copy a link").click()
    page.wait_for_function("() => document.querySelector('.mfx-told').textContent")
    again = opened(PLACES["depth"], page.evaluate("location.hash"))
    assert settled(again) == shown
    wrong = opened(PLACES["depth"], "#explorer=depth&cells=1 2 3 4 5")
    assert "up to 4 rows" in wrong.locator("section.mfx > .mfx-wrong").inner_text()


def test_a_deep_run_that_is_cut_short_is_no_end_to_quote(opened):
    runaway = "#explorer=depth&cells=2 1 1;-1 -1 -1;2 -3 ?&scale=-4&seed=0"
    page = opened(PLACES["depth"], runaway)
    said = settled(page)
    assert "With four factors the run was stopped before its end." in said
    assert "four at rank" not in said
    assert "Not an end to quote" in page.locator(".mfx-live .mfx-card").last.inner_text()


# ---- a matrix of one's own

TEXTS = [
    "1 2; 3 ?",
    "1 2 ?\n3 ? ?\n? ? 5\n",
    "1,,−3.5\n,NA,2\n",
    "[[1, 2], [3, nan]]",
    "[[1. 2.]\n [3. nan]]",
    "1\t2\n3\t?",
    "★ ⋆ 1\n− – 2",
    "\ufeff1 2\r\n3 *\r\n",
    "1e3 -2.5e-1; +4 .5",
    "1;2;3",
    "1; 2; ;3",
    "1 2; 3",
    "1 x",
    "",
    "   ",
    "? ?",
    "1_0 2",
    "inf 1",
    "1,5; 2,5",
    "1,5 2,5",
    "1,5\t2,5\n?\t4",
    "1, 2 3; 4, 5 6",
    "\t1\t2\n\t3\t4",
    "1;2\n3;4",
    "1\n\n2",
    "1 2 3 4 5 6 7 8 9",
    "0x10 1",
    "Infinity 2",
    "1 2\x0b3 4",
    "1 2\x853 4",
    "1,2;3,4",
    " , \n1,2",
    "--1 2",
    "–1 2",
    ROBOT,
    "1 2; 3 null",
    "none 1; N/A <NA>",
]


def in_python(text: str) -> list | None:
    try:
        problem = mf.MatrixCompletion.from_text(text)
    except ValueError:
        return None
    if max(problem.shape) > 8:
        return None
    return [[None if np.isnan(v) else float(v) for v in row] for row in problem.values]


def test_a_page_reads_text_as_the_package_does(opened):
    page = opened(PLACES["matrix"])
    read = page.evaluate("texts => texts.map(text => mflive.text.read(text))", TEXTS)
    for text, said in zip(TEXTS, read, strict=True):
        assert said.get("values") == in_python(text), text
        assert ("error" in said) is (in_python(text) is None)


def test_what_is_typed_is_run(opened):
    page = opened(PLACES["matrix"])
    before = settled(page)
    page.locator("section.mfx textarea").fill("1 2; 3 ?")
    assert "rank 1, the smallest" in changed(page, before)
    assert page.locator("section.mfx .mfx-entry").count() == 4
    cell = page.get_by_label("row 2, column 2")
    cell.click()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "row 1, column 2"
    before = settled(page)
    cell.fill("6.5")
    assert "rank 2, the smallest" in changed(page, before)
    assert page.locator("textarea").input_value() == "1 2\n3 6.5"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROBOT, "is neither a number"),
        ("1 2; 3", "the same number of entries"),
        ("? ?", "No entry is observed"),
        ("1 2 3 4 5 6 7 8 9", "up to 8 rows and 8 columns"),
        ("1e99 1", "in another unit"),
    ],
)
def test_nonsense_is_answered_in_words_beside_the_field(opened, text, words):
    page = opened(PLACES["matrix"])
    before = settled(page)
    area = page.locator("section.mfx textarea")
    area.fill(text)
    beside = page.locator(f"id={area.get_attribute('aria-describedby')}")
    assert words in beside.inner_text() and beside.is_visible()
    assert area.get_attribute("aria-invalid") == "true"
    # What was there stays, and nothing that was typed has become a part of the page.
    assert settled(page) == before
    assert page.locator("section.mfx img").count() == 0 and page.title() != "caught"
    area.fill("1 2; 3 ?")
    assert beside.is_hidden()


def test_a_pasted_table_fills_the_cells(opened):
    page = opened(PLACES["matrix"])
    page.get_by_label("row 1, column 1").focus()
    page.evaluate(
        """text => {
          const data = new DataTransfer();
          data.setData('text', text);
          const paste = new ClipboardEvent('paste',
            {clipboardData: data, bubbles: true, cancelable: true});
          document.activeElement.dispatchEvent(paste);
        }""",
        "1,2,\n,,6\n",
    )
    values = page.locator("section.mfx .mfx-entry").evaluate_all("all => all.map(x => x.value)")
    assert values == ["1", "2", "", "", "", "6"]


def test_a_link_opens_the_same_state_again(opened):
    page = opened(PLACES["matrix"], "#explorer=matrix&cells=1 ? 3; ? 5 ?; 3 ? 9&scale=-8&seed=7")
    shown = settled(page)
    assert "10−8" in shown and "nuclear norm 15, the least there is" in shown
    page.get_by_role("button", name="Copy a link").click()
    page.wait_for_function("() => document.querySelector('.mfx-told').textContent")
    fragment = page.evaluate("location.hash")
    again = opened(PLACES["matrix"], fragment)
    assert settled(again) == shown
    assert again.evaluate("location.hash") == fragment
    assert again.locator("section.mfx input[type=number]").last.input_value() == "7"


@pytest.mark.parametrize(
    "fragment",
    [
        "#explorer=matrix&cells=" + ROBOT,
        "#explorer=matrix&scale=many",
        "#explorer=matrix&scale=5",
        "#explorer=matrix&seed=-1",
        "#explorer=matrix&cells=",
    ],
)
def test_a_link_that_makes_no_sense_is_answered_in_words(opened, fragment):
    page = opened(PLACES["matrix"], fragment)
    wrong = page.locator("section.mfx > .mfx-wrong")
    assert "The link holds no" in wrong.inner_text()
    assert page.locator("section.mfx .mfx-entry").count() == 16
    assert page.locator("section.mfx img").count() == 0 and page.title() != "caught"


def test_a_random_matrix_is_drawn_as_asked(opened):
    page = opened(PLACES["matrix"])
    page.get_by_text("Draw a random matrix").click()
    fields = page.locator("section.mfx details input[type=number]")
    for k, value in enumerate([4, 5, 1, 9, 3]):  # rows, columns, rank, entries, seed
        fields.nth(k).fill(str(value))
    before = settled(page)
    page.get_by_role("button", name="Draw", exact=True).click()
    changed(page, before)
    drawn = mf.MatrixCompletion.from_text(page.locator("section.mfx textarea").input_value())
    assert drawn.shape == (4, 5) and drawn.n_observed == 9
    fields.nth(2).fill("5")
    page.get_by_role("button", name="Draw", exact=True).click()
    assert "can be at most 4" in page.locator("section.mfx .mfx-wrong:visible").inner_text()


def test_the_python_lines_do_the_same(opened):
    page = opened(PLACES["matrix"], "#explorer=matrix&cells=1 2; 20 ?&scale=-6&seed=2")
    learned = page.locator(".mfx-mine td").all_inner_texts()
    lines = page.locator("section.mfx pre").text_content()
    names: dict = {}
    exec(lines, names)
    # The page asks for W(t) to 1e-4 of the data, and shows three digits.
    assert abs(float(learned[-1]) - names["run"].W[1, 1]) < 0.05 + 20e-4


def test_a_rank_that_comes_twice_is_told_apart(opened):
    cells = "-3 ? -2; 1 4 -3; 0 4 2"
    page = opened(PLACES["matrix"], f"#explorer=matrix&cells={cells}&scale=-100&seed=0")
    run = mf.widgets.matrix(cells).run
    first, second = (f"{phase.loss:.3g}" for phase in run.phases[1:3])
    words = f"0 → 1 → 1 → 2 → 3 (rank 1: saddles of loss {first} and {second})."
    assert words in settled(page)


def test_what_does_not_converge_says_so(opened):
    page = opened(PLACES["matrix"])
    said = page.evaluate(
        """() => mflive.runs.doubt({converged: false, reason: 'step limit', n_steps: 3})"""
    )
    assert said == "Not an end to quote: after 3 steps the run stopped (step limit)."


def test_it_waits_for_the_reader(browser):
    """Far below the window the figure stands, and nothing is computed."""
    context = browser.new_context(viewport={"width": 1200, "height": 300})
    page = context.new_page()
    workers = []
    page.on("worker", lambda one: workers.append(one))
    load(page, (HTML / PLACES["map"]).as_uri())
    page.wait_for_timeout(500)
    assert page.locator(".mfx-still").is_visible() and not workers
    page.locator("mf-explorer").scroll_into_view_if_needed()
    settled(page)
    assert page.locator(".mfx-still").is_hidden() and len(workers) == 1
    context.close()


def test_on_paper_stands_the_figure(opened):
    page = opened(PLACES["matrix"])
    page.emulate_media(media="print")
    assert page.locator(".mfx-still").is_visible() and page.locator(".mfx-live").is_hidden()


def test_only_pages_with_an_explorer_load_its_script():
    for path in PAGES:
        text = (HTML / path).read_text("utf-8")
        assert ("mfbook-live.js" in text) is ("<mf-explorer" in text), path
    assert sum("<mf-explorer" in (HTML / path).read_text("utf-8") for path in PAGES) == 10


def test_a_page_loads_little():
    sizes = {
        name: (HTML / "_static" / name).stat().st_size
        for name in ("mfbook-live.js", "mfbook-live.css")
    }
    assert sizes["mfbook-live.js"] == len(front.page_script().encode())
    assert sum(sizes.values()) < 300_000
