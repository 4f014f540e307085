"""The ledger, the chapters and the checks say the same thing."""

import os
import re
from contextlib import chdir
from functools import cache

import matplotlib.pyplot as plt
import pytest
import yaml

import mfbook as mf
from mfbook.book.claims import Claim, ClaimFailed
from tools.chapters import ROOT, Chapter, chapters

CALL = re.compile(r"mf\.claim\(\s*[\"']([\w.-]+)[\"']\s*\)")
ROWS = {row.id: row for row in mf.ledger()}


CHAPTERS = chapters()
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=[c.name for c in CHAPTERS])


def checks_of(chapter: Chapter) -> list[str]:
    """The ids that the code cells of a chapter check, in order."""
    cells = (cell for cell in chapter.read_source().cells if cell.cell_type == "code")
    return [id for cell in cells for id in CALL.findall(cell.source)]


def rows_of(chapter: Chapter) -> set[str]:
    return {row.id for row in ROWS.values() if row.chapter == chapter.name}


@every_chapter
def test_every_row_is_checked_in_its_own_chapter_and_every_check_has_a_row(chapter):
    """A second card of a row would have the first one's anchor, so chain the checks in one cell."""
    assert sorted(checks_of(chapter)) == sorted(rows_of(chapter))


def test_every_row_belongs_to_a_chapter():
    assert {row.chapter for row in ROWS.values()} <= {chapter.name for chapter in CHAPTERS}


@every_chapter
def test_every_row_has_a_stored_card_with_evidence(chapter):
    shown = set()
    for cell in chapter.read_twin().cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/plain", "")
            match = re.match(r"✓ (\S+) \[([\w-]+)\] .+", text)
            if match:
                assert match[2] == ROWS[match[1]].verdict, "run the chapter again"
                assert f'id="claim-{match[1]}"' in output["data"]["text/html"]
                shown.add(match[1])
    assert shown == rows_of(chapter)


def test_the_file_is_in_the_form_of_the_rows():
    for row in yaml.safe_load((ROOT / "book" / "claims.yml").read_text("utf-8")):
        assert set(row) <= set(Claim.__dataclass_fields__)
        assert row["statement"].endswith("."), row["id"]
        assert row.get("note", ".").endswith("."), row["id"]


def test_every_item_of_the_papers_is_settled():
    places = yaml.safe_load((ROOT / "book" / "papers.yml").read_text("utf-8"))
    items = {id for paper in places.values() for id in paper}
    assert len(items) == 99
    assert items == {row.id for row in ROWS.values() if row.paper != "mfbook"}
    assert all(ROWS[id].verdict != "open" for id in items)


class Unbroken:
    """A chapter's code, run as it stands as far as it is the same for all that is broken later."""

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.cells = [c.source for c in chapter.read_source().cells if c.cell_type == "code"]
        self.namespace: dict = {}
        self.done = 0

    def run(self, source: str) -> None:
        with chdir(self.chapter.source.parent):  # where a chapter finds its data
            exec(compile(source, self.chapter.source.name, "exec"), self.namespace)
        plt.close("all")  # as a notebook does after every cell

    def run_up_to(self, first: int) -> None:
        for source in self.cells[self.done : first]:
            self.run(source)
        self.done = first

    def outcome(self, id: str, old: str, new: str) -> str:
        """What the check of a claim says with one thing broken: "" where it passes."""
        first = next((k for k, source in enumerate(self.cells) if old in source), None)
        last = next((k for k, source in enumerate(self.cells) if id in CALL.findall(source)), None)
        if last is None:
            raise LookupError(f"{self.chapter.name} does not check {id}")
        assert first is not None and first <= last, f"nothing before {id} reads {old!r}"
        if first < self.done:
            self.namespace, self.done = {}, 0
        self.run_up_to(first)
        # What is broken runs in a copy of this process, which leaves this one as it is.
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for source in self.cells[first : last + 1]:
                    self.run(source.replace(old, new))
                said = ""
            except ClaimFailed as failed:
                said = f"claim failed: {failed}"
            except BaseException as error:
                said = f"another error: {error!r}"
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(child, 0)
        return said


@cache
def unbroken(name: str) -> Unbroken:
    [found] = [c for c in CHAPTERS if c.name == name]
    return Unbroken(found)


BROKEN = [
    # an edge to the wrong column; isolated vertices kept; the lemma without its condition
    ("data/graph", "bai2024-def1", "[P, np.zeros((m, m))]", "[~P, np.zeros((m, m))]"),
    ("data/graph", "bai2024-def1", "list(nx.isolates(graph))", "[]"),
    ("data/graph", "bai2024-lemA1", "for g in trimmed", "for g in atlas"),
    # components that spread along their rows only
    ("data/graph", "bai2024-def2", "rows | P[:, wider_cols].any(axis=1)", "rows"),
    # a residual that sees what is not observed
    ("data/graph", "bai2024-propA4", "(W[mask] - values)", "(W.sum() - values)"),
    # the zero rows kept; friends who must have met; a line that is observed after all
    ("data/graph", "bai2024-remA2", "C.any(axis=0)", "np.ones(len(C), dtype=bool)"),
    ("data/graph", "bai2024-remA2", "matrix_power(common, len(P))", "matrix_power(common, 1)"),
    ("data/graph", "bai2024-remA2", "wider = mf", "mask[3, 0] = True; wider = mf"),
    # two factors for three; a triangle that rank 1 fits
    ("answers", "mfbook-answers", "depth=N, rng=0", "depth=2, rng=0"),
    ("answers", "mfbook-answers", "2 ? -1; 2 -1 ?", "2 ? 1; 2 1 ?"),
    # a pattern dropped from the paper's list, and one read wrongly
    ("data/graph", "bai2024-secB3", '"110110001"]', "]"),
    ("data/graph", "bai2024-secB3", '"111110011"', '"111110111"'),
    # a model that does not start from zero; one that forgets an entry
    ("data/completing", "talk-nonfactored", "(np.zeros((3, 3)),)", "(np.ones((3, 3)),)"),
    ("data/completing", "talk-nonfactored", "return W0 +", "return 0 * W0 +"),
    # factors that start large
    ("data/completing", "talk-nonfactored", "(1e-6 * A, 1e-6 * B)", "(A, B)"),
    # another step, another sign
    ("data/completing", "mfbook-descent", "lr=0.02, steps", "lr=0.021, steps"),
    ("data/completing", "mfbook-two-by-two", "a * np.sign(b * c)", "-a * np.sign(b * c)"),
    # a scale that is lost, as if rounding had eaten it
    ("numerics/flow", "mfbook-rounding", "log10_scale=-int(e)", "log10_scale=-min(int(e), 16)"),
    # a law without the balance of the factors; a scale that does not follow c; another end
    ("numerics/small", "mfbook-scale-law-proved", "beta**2 / (4 * b)", "0 * beta / (4 * b)"),
    ("numerics/small", "mfbook-scale-law-proved", "=-c * s / np", "=-50 * s / np"),
    ("numerics/small", "mfbook-scale-law-proved", "return b / a", "return 0.99 * b / a"),
    # a basis in which A is not protected; a half of the Hessian, or a direction, mirrored
    ("dynamics/manifolds", "mfbook-equal-spans", "(2 * orthogonal", "(0.5 * orthogonal"),
    ("dynamics/escape", "bai2024-lemA2", "np.kron(-S, np.eye(h))", "np.kron(S, np.eye(h))"),
    ("dynamics/escape", "bai2024-propA7", "[lift[:4], -lift[4:]]", "[lift[:4], lift[4:]]"),
    # the whole distance for its part along one pair; a gradient that hardly moves; gradients
    # that are too small; a half of the factors that learns at half the speed
    (
        "dynamics/escape",
        "mfbook-escape-order",
        "np.linalg.norm(second @ off)",
        "np.linalg.norm(off)",
    ),
    ("dynamics/escape", "mfbook-escape", "moved = np.linalg", "moved = 1e-2 * np.linalg"),
    (
        "dynamics/traversal",
        "mfbook-timetable",
        "np.linalg.svd(p.gradient(q.W), compute_uv=False)",
        "0.98 * np.linalg.svd(p.gradient(q.W), compute_uv=False)",
    ),
    (
        "dynamics/traversal",
        "bai2024-fig3",
        "B - lr * A.T @ G\n        path",
        "B - lr / 2 * A.T @ G\n        path",
    ),
    # a step beyond the proof's range; a clock that runs at another speed in each part
    ("dynamics/landscape", "bai2024-thm1", "end = 2 * sigma / q", "end = 3 * sigma / q"),
    (
        "dynamics/disconnected",
        "mfbook-decoupled-flow",
        'problem.values[block], problem.mask[block], loss="half"',
        'problem.values[block], problem.mask[block], loss="mean"',
    ),
    # a Lyapunov function with the wrong sign; a start whose half is mirrored
    ("bias/rank", "mfbook-rank-one", "np.log(x / s)", "np.log(s / x)"),
    # a certificate with the wrong sign
    ("bias/nuclear", "bai2024-lemA5", "L[:, kept] @ Q[kept]", "L[:, kept] @ -Q[kept]"),
    (
        "bias/seed",
        "mfbook-seed-limit",
        "mf.disconnected_limit(problem, start)",
        "mf.disconnected_limit(problem, (start[0], -start[1]))",
    ),
    # a loss four times too large beside its gradient; summands in the wrong directions
    ("bias/seed", "mfbook-seed-limit", "np.sum(R**2) / 2", "np.sum(R**2) * 2"),
    (
        "dynamics/disconnected",
        "mfbook-component-sums",
        "directions[: int((sizes > 1e-3).sum())]",
        "directions[-int((sizes > 1e-3).sum()) :]",
    ),
    # a lower block read without its transpose; a cone without its edge
    ("greedy/conjecture", "li2021-eq2", "f(lower.T)", "f(lower)"),
    ("greedy/conjecture", "li2021-lemA", "np.maximum(values, 0)", "values"),
    # a second column that follows the gradient of the first; a lag twice as large
    ("greedy/conjecture", "mfbook-counterexample-scale", "turn = -C @ p", "turn = C @ p"),
    ("greedy/conjecture", "mfbook-counterexample-scale", "y**4, 1 - x", "y**4, 1.5 - x"),
    # an integral that lost its factor of two; a Jordan block that falls apart
    ("greedy/direction", "li2021-warm2", "-np.expm1(-2 * t * mus)", "-np.expm1(-t * mus)"),
    ("greedy/direction", "li2021-thm5.3", "np.diag(np.ones(k - 1), 1)", "0"),
    # a promise twice as large; a Jacobian that forgets one of the two factors
    ("greedy/purpose", "mfbook-pursuit-ends", "+ top[:-1])", "+ 2 * top[:-1])"),
    ("greedy/purpose", "li2021-fig3", "j] += U[i]", "j] += 0 * U[i]"),
    # the entry of another pair; a planar flow that lost a factor of two
    ("greedy/parting", "mfbook-triangle", "kept = abc[2 - zero]", "kept = abc[zero]"),
    ("greedy/parting", "mfbook-runaway-proved", "2 * y * (a - x * y), x", "y * (a - x * y), x"),
    # a sum of rates read as a difference; what the first phase does to the second column
    ("greedy/phases", "li2021-thmF5", "mu[i] + mu[j]", "mu[i] - mu[j]"),
    ("greedy/phases", "mfbook-second-phase", "np.log(c) + log_kappa", "np.log(c)"),
    # the part along the first column left in; a sum of two minors for their product; another power
    (
        "greedy/phases",
        "mfbook-kept-column",
        "across = q - w * (w @ q) / (w @ w)",
        "across = q - 2 * w * (w @ q) / (w @ w) + w",
    ),
    ("greedy/phases", "mfbook-kept-column", "slice(2)) * minor", "slice(2)) + minor"),
    ("greedy/phases", "mfbook-kept-column", "mu[1] * T1, share", "mu[2] * T1, share"),
    # the last pair for the first; a diagonal without the entry that misleads the flow
    (
        "depth/escaping",
        "mfbook-first-direction",
        "np.outer(left[:, 0], right[0])",
        "np.outer(left[:, -1], right[-1])",
    ),
    ("depth/escaping", "li2021-lemJ2", "diagonal[1] = 16", "diagonal[1] = 2"),
    # the middle layers left out of the entropy; a constant of another depth; a first column that
    # does not give way to the second
    (
        "depth/connectivity",
        "mfbook-deep-rank-one",
        "(depth - 2) * np.log(size) * np",
        "0 * np.log(size) * np",
    ),
    (
        "depth/connectivity",
        "mfbook-deep-runaway-proved",
        "law = ((depth + 2)",
        "law = ((depth + 1)",
    ),
    ("depth/limit", "mfbook-depth-two-nearest", "z = -np.linalg.solve", "z = 0 * np.linalg.solve"),
    # powers of another depth; the third eigenvalue for the second; a rank too few
    (
        "depth/endless",
        "li2021-thmD1",
        "np.exp(2 * m * (1 - 1 / depth))",
        "np.exp(2 * m * (1 - 2 / depth))",
    ),
    (
        "depth/endless",
        "mfbook-constant-of-depth",
        "left_over(mu, 1, L) - 1",
        "left_over(mu, 2, L) - 1",
    ),
    (
        "depth/endless",
        "li2021-def6.3",
        "mf.low_rankness(matrix, r)",
        "mf.low_rankness(matrix, max(r - 1, 0))",
    ),
    # a term too large; a sum that is not conserved; tokens with their mean; the
    # smallest share for the largest
    ("beyond/attention", "mfbook-attention-order", "n * T**2 * d**0.5)", "n * T * d**0.5)"),
    ("beyond/attention", "mfbook-attention-pairs", "Q.mT @ Q - K", "Q.mT @ Q + K"),
    ("beyond/attention", "mfbook-attention-times", "(X - mean[:, None, :])", "X"),
    ("beyond/attention", "mfbook-attention-heads", "np.argmax(share", "np.argmin(share"),
    ("beyond/attention", "mfbook-attention-centered", "(4, centered=True)", "(4)"),
    # ranks counted down to what the start has
    ("beyond/attention", "bai2024-figB9", "> 0.1 * sizes[-1", "> 1e-5 * sizes[-1"),
    # steps counted twice; opposite neurons taken for two; a head without what it shares
    ("beyond/model_rank", "mfbook-model-rank-layers", "(s[j + 1] - s[j])", "s[j + 1]"),
    ("beyond/model_rank", "mfbook-model-rank-network", "max(w, tuple(-x for x in w))", "w"),
    ("beyond/model_rank", "mfbook-model-rank-attention", "(q + k) - q * k", "(q + k)"),
    # a neuron that is nobody's twin; small and large starts taken for each other
    ("beyond/model_rank", "mfbook-neurons-stay-apart", "-twins[0, 2]", "twins[0, 2] / 2"),
    (
        "beyond/model_rank",
        "talk-modelrank",
        "{key: np.median(error)",
        "{(*key[:2], {1.0: 1e-3, 1e-3: 1.0}[key[2]]): np.median(error)",
    ),
    # a start that is felt with the wrong sign; a growth that lost its factor of two
    ("depth/limit", "li2021-thm6.2", "@ kappa - h[0]", "@ kappa + h[0]"),
    ("depth/limit", "mfbook-depth-two-nearest", "+ 2 * further[0])", "+ further[0])"),
    # a bound that a wrong power makes larger than what it bounds; the step before the last one
    ("depth/limit", "li2021-thm6.4", "** (-2 / (1 - 2 / L))", "** (-4 / (1 - 2 / L))"),
    ("depth/limit", "li2021-fig5", "critical_points[2]) / 2", "critical_points[1]) / 2"),
    # entries for measurements; two layers for three and four; the smallest norm of other data; V
    # for its transpose; a layer that climbs
    ("depth/printed", "arora2019-secD2", 'key[0] == "N(0, 1)"', 'key[0] == "entries"'),
    ("depth/printed", "arora2019-fig1", "log10_scale=exponent / depth", "log10_scale=0"),
    (
        "depth/printed",
        "arora2019-fig2",
        "mf.min_nuclear_norm(few)",
        "mf.min_nuclear_norm(problems[5000])",
    ),
    ("depth/printed", "arora2019-fig3", "gradient(W) @ Vt.T", "gradient(W) @ Vt"),
    ("depth/printed", "arora2019-fig456", "[first - rate * G", "[first + rate * G"),
    # one rank too many; a start that is not zero; a rating too many; the diagonal for the rest;
    # the best stop for the end
    ("beyond/ratings", "mfbook-fit-rank", "asked = max", "asked = 1 + max"),
    (
        "beyond/ratings",
        "mfbook-ratings-depth-one",
        "start = np.zeros(problem.shape)",
        "start = np.ones(problem.shape)",
    ),
    ("beyond/ratings", "mfbook-few-ratings", "(seen <= r)", "(seen <= r + 1)"),
    (
        "beyond/ratings",
        "arora2019-fig3ml",
        "on, on_spread, off, off_spread,",
        "off, off_spread, on, on_spread,",
    ),
    (
        "beyond/ratings",
        "mfbook-ratings-held-out",
        "paths[key][-1, TEST]",
        "paths[key][stop[key], TEST]",
    ),
    # a start that is not tiny
    ("welcome", "mfbook-welcome", "tiny = 1e-8", "tiny = 1e-1"),
]


def in_reading_order(broken: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    """Chapter by chapter, each from its beginning on: then no cell before a break runs twice."""
    texts = {chapter.name: chapter.source.read_text("utf-8") for chapter in CHAPTERS}
    return sorted(broken, key=lambda row: (row[0], texts[row[0]].find(row[2])))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("chapter", "id", "old", "new"), in_reading_order(BROKEN))
def test_a_broken_chapter_fails_its_check(chapter, id, old, new):
    assert unbroken(chapter).outcome(id, old, new).startswith(f"claim failed: {id}")


def test_a_chapter_that_is_not_broken_passes_its_check():
    """Otherwise a check that fails whatever one does would count as one that can fail."""
    assert unbroken("data/graph").outcome("bai2024-def1", "np.zeros", "np.zeros") == ""


def test_an_error_is_no_failed_check():
    said = unbroken("data/graph").outcome("bai2024-def1", "np.zeros((m, m))", "no_such_name")
    assert said.startswith("another error: NameError")
