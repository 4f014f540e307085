"""The engine in the page says what the Python engine says, in the browser and in a Worker."""

from __future__ import annotations

import json
from statistics import median

import numpy as np
import pytest

import mfbook as mf
from mfbook.book.widgets.front import ENGINE, SERVE, engine_source, source
from studies.live_engine import STORE, answer, problem_of, start_of

# What pages ask for. Its promise is 10 rtol along a run; an end is met much better than that.
RTOL = 1e-4
STORED = json.loads(STORE.read_text("utf-8"))
ROWS = STORED["rows"]

OPEN = """source => {
  const worker = new Worker(URL.createObjectURL(new Blob([source])));
  const waiting = new Map();
  worker.onmessage = ({ data }) => { waiting.get(data.id)(data); waiting.delete(data.id); };
  window.ask = request => new Promise(resolve => {
    const id = Math.random();
    waiting.set(id, resolve);
    worker.postMessage({ id, request });
  });
}"""
ASK_ALL = """async requests => {
  const answers = [];
  for (const request of requests) answers.push(await ask(request));
  return answers;
}"""


@pytest.fixture(scope="module")
def page(browser):
    """An empty page with the engine, and with a Worker behind `ask`."""
    page = browser.new_page()
    page.add_script_tag(content=engine_source())
    page.evaluate(OPEN, source((*ENGINE, *SERVE)))
    yield page
    page.close()


def request_of(row: dict, **options: object) -> dict:
    start = (
        {"factors": [factor.tolist() for factor in start_of(row)]}
        if row["start"]
        else {"seed": row["seed"]}
    )
    return {
        "values": row["values"],
        "log10_scale": row["scale"],
        "loss": row["loss"],
        "rtol": RTOL,
        "loss_tol": STORED["provenance"]["loss_tol"],
        "max_steps": 1000,
        "frames": 0,
        **start,
        **options,
    }


@pytest.fixture(scope="module")
def answers(page) -> list[dict]:
    """What the page says of every stored problem."""
    ROUND = 40  # a message of all at once would wait for minutes
    found = []
    for first in range(0, len(ROWS), ROUND):
        found += page.evaluate(ASK_ALL, [request_of(row) for row in ROWS[first : first + ROUND]])
    wrong = [f"{k}: {one['error']}" for k, one in enumerate(found) if "error" in one]
    assert not wrong
    return [one["answer"] for one in found]


def largest(row: dict) -> float:
    """The size that an error of W is measured by: of the data, or of W where that is larger."""
    known = [abs(v) for line in row["values"] for v in line if v is not None]
    return max(*known, np.abs(row["W"]).max(), 0.0) or 1.0


def error(row: dict, found: dict) -> float:
    return float(np.abs(np.array(found["W"]) - row["W"]).max()) / largest(row)


SHAKEN = """requests => requests.map(request => {
  const { run } = mflive.flow(request);
  const again = new mflive.Run(run, mflive.rng(0)).follow(() => false);
  return { reasons: [run.reason, again.reason], taken: [run.taken, again.taken] };
})"""


def test_a_shaken_run_rests_where_the_run_does(page):
    """Data of full rank for fewer hidden columns: no fit ends the run."""
    requests = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        width = 1 + seed % 3
        start = rng.standard_normal((4, width)), rng.standard_normal((width, 4))
        requests.append(
            {
                "values": rng.standard_normal((4, 4)).tolist(),
                "factors": [factor.tolist() for factor in start],
                "log10_scale": (-1, -10, -100)[seed // 4],
                "rtol": RTOL,
                "max_steps": 4000,
            }
        )
    for found in page.evaluate(SHAKEN, requests):
        assert found["reasons"] == ["stopped at a critical point that is not a global minimum"] * 2
        run, again = found["taken"]
        assert again <= 1.1 * run + 10


def test_there_are_problems_of_all_kinds():
    assert len(ROWS) >= 300
    shapes = {(len(row["values"]), len(row["values"][0])) for row in ROWS}
    assert shapes >= {(m, n) for m in range(1, 7) for n in range(1, 7)}
    assert {row["scale"] for row in ROWS} >= {0, -1, -10, -100, -1000}
    masks = [np.array(row["values"], dtype=float) for row in ROWS]
    found = {mf.connectivity(~np.isnan(mask)) for mask in masks}
    assert found == {"connected", "disconnected", "complete-bipartite"}
    assert sum(row["converged"] for row in ROWS) >= 300
    assert len({row["reason"] for row in ROWS}) >= 3


@pytest.mark.slow
def test_the_page_ends_where_python_does(answers):
    pairs = list(zip(ROWS, answers, strict=True))
    both = [(row, found) for row, found in pairs if row["converged"] and found["converged"]]
    errors = np.sort([error(row, found) for row, found in both])
    far = [row for row, found in both if not error(row, found) <= 1e-3]
    assert not far
    assert np.mean(errors <= 1e-4) >= 0.99
    # Of two runs only one may have known that it did not arrive, but it has to be rare.
    assert len(both) >= 0.99 * sum(row["converged"] for row in ROWS)
    print(f"\nends differ by {np.quantile(errors, [0.5, 0.9, 0.99, 1])} (median, 90, 99, 100 %)")
    for side in range(1, 7):
        times = [
            found["ms"]
            for row, found in pairs
            if max(len(row["values"]), len(row["values"][0])) == side and found["converged"]
        ]
        print(f"up to {side}×{side}: {median(times):.1f} ms, at most {max(times):.0f}")


@pytest.mark.slow
def test_the_page_does_not_claim_what_python_does_not(answers):
    claims = [
        (row["name"], row["reason"], found["W"])
        for row, found in zip(ROWS, answers, strict=True)
        if found["converged"] and not row["converged"] and error(row, found) > 1e-3
    ]
    assert not claims


@pytest.mark.slow
def test_the_page_gives_the_same_reasons_and_ranks(answers):
    pairs = list(zip(ROWS, answers, strict=True))
    same = [row["reason"] == found["reason"] for row, found in pairs]
    assert np.mean(same) >= 0.99
    ranks = [
        row["ranks"] == [phase["rank"] for phase in found["phases"]]
        for row, found in pairs
        if row["converged"] and found["converged"]
    ]
    # A rank counts singular values above a thousandth, and one may lie there.
    assert np.mean(ranks) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("k", range(7, len(ROWS), 31))
def test_what_is_stored_is_what_python_says(k):
    row = ROWS[k]
    found = answer(row)
    assert (found["converged"], found["reason"]) == (row["converged"], row["reason"])
    if row["converged"]:
        # Another processor rounds otherwise, and a run promises 10 rtol.
        assert error(row, found) <= 10 * STORED["provenance"]["rtol"]


@pytest.mark.slow
@pytest.mark.parametrize("k", [k for k in range(3, len(ROWS), 23) if ROWS[k]["converged"]])
def test_the_way_is_the_same_at_every_instant(page, k):
    row = ROWS[k]
    found = page.evaluate("ask", request_of(row, frames=40))["answer"]
    run = mf.gradient_flow(problem_of(row), start_of(row), log10_scale=row["scale"])
    times = [frame["t"] for frame in found["frames"]]
    assert len(times) <= 40 and times == sorted(times) and times[0] == 0
    assert found["frames"][-1]["W"] == found["W"]
    size = max(largest(row), float(np.abs(run.W_at(0)).max()))
    for frame in found["frames"]:
        t = min(frame["t"], run.t[-1])
        # Ten times rtol is the promise of each at one time.
        assert np.abs(frame["W"] - run.W_at(t)).max() <= 10 * RTOL * size
        for mine, theirs in zip((frame["A"], frame["B"]), run.factors_at(t), strict=True):
            assert np.abs(mine - theirs).max() <= 10 * RTOL * np.sqrt(size)
        product = np.array(frame["A"]) @ np.array(frame["B"])
        assert np.abs(product - frame["W"]).max() <= 1e-12 * size
        s = np.linalg.svd(frame["W"], compute_uv=False)
        assert np.abs(s - frame["singular_values"]).max() <= 1e-12 * size
    for mine, theirs in zip(found["phases"], run.phases, strict=True):
        assert np.abs(mine["W"] - theirs.W).max() <= 10 * RTOL * size


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": [[None, None]]}, "no entry is observed"),
        ({"values": [[1, float("inf")]]}, "must be a finite number"),
        ({"values": [[1e200, 1]]}, "between 1e-152 and 1e152"),
        ({"seed": -1}, "a seed must be a whole number"),
        ({"factors": [[[0], [0]], [[0, 0]]]}, "not all zero"),
        ({"factors": [[[1], [1]], [[1, 1, 1]]]}, "multiply to 2 × 2"),
        ({"log10_scale": 90}, "the start is too large"),
        ({"log10_scale": float("-inf")}, "a finite power"),
    ],
)
def test_what_makes_no_sense_is_answered_in_words(page, change, words):
    request = {"values": [[1, 2], [3, None]], "seed": 0, "log10_scale": -10, **change}
    assert words in page.evaluate("ask", request)["error"]


def test_a_run_ends_with_the_readers_patience(page):
    request = {"values": [[4, -1], [-1, None]], "factors": [[[1, 0], [0, 1]], [[-1, 0], [0, -1]]]}
    found = page.evaluate("ask", {**request, "max_ms": 30, "max_steps": 10**6})["answer"]
    assert (found["converged"], found["reason"]) == (False, "time limit")
    found = page.evaluate("ask", {**request, "max_steps": 5})["answer"]
    assert (found["converged"], found["reason"], found["n_steps"]) == (False, "step limit", 5)


def test_classes_and_components_are_those_of_python(page):
    masks = [[[v is not None for v in line] for line in row["values"]] for row in ROWS]
    found = page.evaluate(
        "masks => masks.map(m => [mflive.connectivity(m), mflive.components(m)])", masks
    )
    for mask, (name, parts) in zip(masks, found, strict=True):
        assert name == mf.connectivity(mask)
        theirs = [[rows.tolist(), cols.tolist()] for rows, cols in mf.components(mask)]
        assert [[part["rows"], part["cols"]] for part in parts] == theirs


DRAW = """([seed, count]) => {
  const rng = mflive.rng(BigInt(seed)), draws = [];
  for (let k = 0; k < count; k++) draws.push(rng.normal());
  const uniform = draws.slice(0, 200).map(() => rng.random());
  const whole = draws.slice(0, 400).map((_, k) => rng.integers(-3, 1 + 20000 * k * k));
  return { draws, uniform, whole, order: rng.permutation(23), last: rng.normal() };
}"""


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32, 2**53 + 1, 2**130 + 7])
def test_random_numbers_are_those_of_numpy(page, seed):
    found = page.evaluate(DRAW, [str(seed), 20_000])
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal(20_000)
    # Strips are cut at edges that are computed; NumPy's are tabled. Both round: tens of last bits.
    np.testing.assert_allclose(found["draws"], draws, rtol=2e-14)
    assert (np.abs(draws) > 3.66).sum() >= 2  # the tail was met, and its strip's wedges thousands
    assert found["uniform"] == [rng.random() for _ in range(200)]
    whole = [int(rng.integers(-3, 1 + 20_000 * k * k)) for k in range(400)]
    assert found["whole"] == whole
    assert found["order"] == rng.permutation(23).tolist()
    assert found["last"] == pytest.approx(rng.standard_normal(), rel=2e-14)


def test_starts_and_draws_are_those_of_the_package(page):
    for shape, seed in (((3, 5), 7), ((8, 8), 0), ((1, 1), 12345)):
        found = page.evaluate("([m, n, seed]) => mflive.smallInit(m, n, seed)", [*shape, seed])
        for mine, theirs in zip(found, mf.small_init(shape, rng=seed), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-14)
    found = page.evaluate(
        """() => {
          const rng = mflive.rng(4);
          return [mflive.randomMask(rng, 4, 6, 11), mflive.randomLowRank(rng, 4, 6, 2)];
        }"""
    )
    rng = np.random.default_rng(4)
    assert found[0] == mf.populations.random_mask(rng, (4, 6), 11).tolist()
    theirs = mf.populations.random_low_rank(rng, (4, 6), 2)
    np.testing.assert_allclose(found[1], theirs, rtol=1e-12, atol=1e-13)


def hard_matrices() -> list[np.ndarray]:
    """Symmetric matrices that eigenvalue programs stumble over."""
    rng = np.random.default_rng(0)
    big = rng.standard_normal((40, 40))
    Q, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    tied = Q @ np.diag([1.0] * 6 + [-2.0] * 6) @ Q.T
    graded = np.diag(10.0 ** -np.arange(12.0)) + 1e-13
    split = np.kron(np.eye(3), np.ones((2, 2)))
    W = rng.standard_normal((3, 4))
    dilation = np.block([[np.zeros((3, 3)), W], [W.T, np.zeros((4, 4))]])
    return [
        np.zeros((3, 3)),
        np.eye(5),
        np.array([[-7.0]]),
        big + big.T,
        (tied + tied.T) / 2,
        graded,
        split,
        dilation,
        1e-290 * dilation,
        1e290 * dilation,
        np.array([[0.0, 1e-200], [1e-200, 0.0]]),
    ]


@pytest.mark.parametrize("S", hard_matrices())
def test_eigenvectors_of_hard_matrices(page, S):
    found = page.evaluate("S => mflive.eigh(S)", S.tolist())
    values, V = np.array(found["values"]), np.array(found["vectors"])
    rounding = 20 * len(S) * np.finfo(float).eps
    size = np.abs(S).max() or 1.0
    assert np.abs(V @ V.T - np.eye(len(S))).max() <= rounding
    assert np.abs((V / 1.0) @ (S / size) - (values / size)[:, None] * V).max() <= rounding
    assert np.abs(values - np.linalg.eigvalsh(S)).max() <= rounding * size


def test_couplings_below_the_rounding_are_kept(page):
    # Two pairs with eigenvalues ±1 and ±2, coupled by c: vectors of one have c/3, c of the other.
    c = 1e-40
    S = [[0, 1, 0, c], [1, 0, 0, 0], [0, 0, 0, 2], [c, 0, 2, 0]]
    V = np.array(page.evaluate("S => mflive.eigh(S).vectors", S))
    expected = np.array([2, 1]) * c / (3 * np.sqrt(2))
    np.testing.assert_allclose(np.abs(V[3, :2]), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 2), (8, 8)])
@pytest.mark.parametrize("rank", [0, 1, 8])
def test_singular_values(page, shape, rank):
    M = mf.populations.random_low_rank(3, shape, min(rank, *shape))
    found = page.evaluate("M => mflive.svd(M)", M.tolist())
    U, V = (np.array(found[key]).T for key in ("U", "V"))
    assert np.abs((U * found["s"]) @ V.T - M).max() <= 1e-13 * (1 + np.abs(M).max())
    np.testing.assert_allclose(found["s"], np.linalg.svd(M, compute_uv=False), atol=1e-13)
    for side in (U, V):
        if rank in (0, 8):  # of a deficient rank, rounding decides about the rest of U
            np.testing.assert_allclose(side.T @ side, np.eye(side.shape[1]), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("k", [*range(0, 300, 9), *range(300, len(ROWS), 7)])
def test_the_least_nuclear_norm_is_certified(page, k):
    row = ROWS[k]
    found = page.evaluate("ask", {"task": "minNuclear", "values": row["values"]})["answer"]
    best = mf.min_nuclear_norm(problem_of(row))
    size = max(best.value, 1e-300)
    W, values = np.array(found["W"]), problem_of(row).values
    assert np.array_equal(W[~np.isnan(values)], values[~np.isnan(values)])
    assert np.linalg.svd(W, compute_uv=False).sum() == pytest.approx(found["value"], rel=1e-12)
    # Each is proved to be within 1e-6 of the least, and the bound is one.
    assert found["sure"] and best.converged
    assert found["lower_bound"] <= best.value * (1 + 1e-12)
    assert abs(found["value"] - best.value) <= 1e-6 * size
    assert found["gap"] == pytest.approx(found["value"] - found["lower_bound"], abs=1e-12 * size)


@pytest.mark.slow
@pytest.mark.parametrize("k", [*range(1, 300, 7), *range(300, len(ROWS), 5)])
def test_the_smallest_rank_has_a_witness_and_a_proof(page, k):
    row = ROWS[k]
    found = page.evaluate("ask", {"task": "minRank", "values": row["values"]})["answer"]
    problem = problem_of(row)
    theirs = mf.min_rank(problem)
    assert (found["rank"], found["proven"]) == (theirs.rank, theirs.proven)
    W = np.array(found["W"])
    assert np.linalg.matrix_rank(W, 1e-7 * np.abs(W).max(initial=1e-300)) <= found["rank"]
    size = np.abs(problem.targets).max()
    assert np.abs((W - problem.values)[problem.mask]).max() <= 1e-9 * size


@pytest.mark.slow
def test_among_entries_of_many_magnitudes_the_witness_of_a_rank_fits(page):
    for seed in range(200):
        rng = np.random.default_rng([9, seed])
        m, n = rng.integers(2, 6, 2)
        rank = int(rng.integers(1, min(m, n) + 1))
        A, B = rng.choice([0, 1, -1, 1e-8], (m, rank)), rng.choice([0, 1, -1, 1e8], (rank, n))
        M, seen = A @ B, rng.random((m, n)) < rng.choice([0.5, 0.7, 0.9, 1.0])
        seen[0, 0] = True
        values = [
            [float(x) if s else None for x, s in zip(*r, strict=True)]
            for r in zip(M, seen, strict=True)
        ]
        found = page.evaluate("ask", {"task": "minRank", "values": values})["answer"]
        missing = np.abs(M - found["W"])[seen].max()
        assert missing <= 4e-12 * np.abs(M[seen]).max(), values


@pytest.mark.slow
@pytest.mark.parametrize("k", [*range(2, 300, 13), *range(302, len(ROWS), 9)])
def test_greedy_learning_passes_the_same_points(page, k):
    row = ROWS[k]
    request = {"task": "glrl", "values": row["values"], "loss": row["loss"]}
    found = page.evaluate("ask", request)["answer"]
    path = mf.glrl(problem_of(row), max_steps=2000)
    if not (path.converged and found["converged"]):
        assert not path.converged and not found["converged"]
        return
    assert len(found["critical_points"]) == len(path.critical_points)
    size = max(1e-300, np.abs(problem_of(row).targets).max(), np.abs(path.W).max())
    for mine, theirs in zip(found["critical_points"], path.critical_points, strict=True):
        assert np.abs(np.array(mine) - theirs).max() <= 1e-3 * size


@pytest.mark.parametrize(
    "text",
    [
        "4 .6 1.8 .8; 6 .9 2.7 ?; 8 2.2 2.6 1.6; 8 2.7 5.1 3.6",
        "1 10; 10 ?",
        "-1 1 1; 1 -1 1; ? ? 2",
        "4 ? 3 ?; ? 4 ? 3; 2 ? ? 3; ? 2 3 ?",
        "2 1 1; -1 -1 -1; 2 -3 ?",
        "1 ? 3; ? 5 ?; 3 ? 9",
    ],
)
def test_greedy_learning_and_the_bend_at_its_points(page, text):
    problem = mf.MatrixCompletion.from_text(text)
    values = [[None if np.isnan(v) else float(v) for v in row] for row in problem.values]
    found = page.evaluate("ask", {"task": "glrl", "values": values})["answer"]
    path = mf.glrl(problem)
    assert (found["reason"], found["ranks"]) == (path.reason, list(path.ranks))
    settled = found["critical_points"] if path.converged else found["critical_points"][:-1]
    for r, mine in enumerate(settled):
        W = np.array(mine)
        assert np.abs(W - path.critical_points[r]).max() <= 1e-4 * np.abs(path.W).max()
        bend = page.evaluate("([W, v, r]) => mflive.curvature(W, v, r)", [mine, values, r])
        U, s, Vt = np.linalg.svd(W)
        root = np.sqrt(s[:r])
        factors = (U[:, :r] * root, root[:, None] * Vt[:r])
        theirs = np.linalg.eigvalsh(mf.hessian(problem, factors)) if r else np.zeros(1)
        size = np.abs(theirs).max()
        assert abs(bend["least"] - theirs[0]) <= 1e-12 * size
        assert abs(bend["largest"] - theirs[-1]) <= 1e-12 * size


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("scale", [0, -1, -2.5, -4])
@pytest.mark.parametrize(
    "text",
    [
        "1 ? 3; ? 5 ?; 3 ? 9",
        "1 2 ?; 3 4 ?; 6 ? 5",
        "2 0; 0 1",
        "1 2 ?",
        "-3; 4",
        "4 .6 1.8 .8; 6 .9 2.7 ?; 8 2.2 2.6 1.6",
        "1 1; 1 -1",
    ],
)
def test_more_factors_end_where_python_ends(page, text, scale, depth):
    problem = mf.MatrixCompletion.from_text(text)
    values = [[None if np.isnan(v) else float(v) for v in row] for row in problem.values]
    request = {"values": values, "depth": depth, "seed": 3, "log10_scale": scale}
    found = page.evaluate("ask", {"task": "deep", **request})["answer"]
    start = mf.small_init(problem.shape, depth=depth, rng=3)
    run = mf.gradient_flow(problem, start, log10_scale=scale)
    assert found["converged"] and run.converged
    size = max(np.abs(problem.targets).max(), np.abs(run.W).max())
    # Both stop at 1e-10 of the loss, so 1e-5 of the data; and the page asks for 1e-4 a step.
    assert np.abs(np.array(found["W"]) - run.W).max() <= 3e-4 * size
    assert [p["rank"] for p in found["phases"]][-1] == run.phases[-1].rank
    # A rest lasts as long: when half of the first loss is gone.
    frames = found["frames"]
    half = (run.loss[0] + run.loss[-1]) / 2
    times = [
        np.interp(-half, -np.array([one["loss"] for one in frames]), [one["t"] for one in frames]),
        np.interp(-half, -run.loss, run.t),
    ]
    assert times[0] == pytest.approx(times[1], rel=0.03)


def test_the_page_draws_the_layers_that_python_draws(page):
    """At one step the run is still the start: two by three, four factors."""
    values = [[1, 2, None], [None, 1, 1]]
    request = {"values": values, "depth": 4, "seed": 11, "log10_scale": -1, "max_steps": 0}
    found = page.evaluate("ask", {"task": "deep", **request})["answer"]
    layers = mf.small_init((2, 3), depth=4, rng=11)
    W = 1e-4 * np.linalg.multi_dot(layers)
    np.testing.assert_allclose(found["W"], W, rtol=1e-12)
    assert (found["converged"], found["reason"]) == (False, "step limit")


def test_zeros_are_filled_in(page):
    assert page.evaluate("mflive.zeroFilled([[1, null], [0, -2]])") == [[1, 0], [0, -2]]
