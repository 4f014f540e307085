"""The study of real ratings: where its data come from, its solvers, and what it stored."""

import json

import numpy as np
import pytest

import mfbook as mf
from studies import full_width, movielens, ratings, soft_impute

STORED = json.loads(ratings.RESULT.read_text("utf-8"))


@pytest.fixture(scope="module")
def data():
    if not movielens.CACHE.exists():
        pytest.skip("MovieLens 100K may not be passed on: run `python -m studies.movielens` first")
    return movielens.load()


def table(count=movielens.COUNT):
    return "".join(f"{k % 943 + 1}\t{k // 943 + 1}\t{k % 5 + 1}\t0\n" for k in range(count))


def test_a_table_is_the_same_with_and_without_names_and_in_any_order():
    plain = movielens.parse(table())
    named = movielens.parse(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + table()
    )
    turned = movielens.parse("\n".join(reversed(table().splitlines())))
    assert len({movielens.fingerprint(x) for x in (plain, named, turned)}) == 1


def test_one_changed_rating_is_noticed():
    data = movielens.parse(table())
    ratings = data.ratings.copy()
    ratings[7] += 1
    changed = movielens.Ratings(data.users, data.films, ratings)
    assert movielens.fingerprint(changed) != movielens.fingerprint(data)
    with pytest.raises(ValueError, match="not those of MovieLens 100K"):
        movielens.checked(data)


def test_a_fetch_that_fails_names_every_source_and_the_cure(tmp_path):
    def unreachable():
        raise OSError("no route to host")

    sources = {"one": unreachable, "two": lambda: table(10), "three": table}
    cache = tmp_path / "ratings.npz"
    with pytest.raises(movielens.DataMissing) as failed:
        movielens.fetch(sources, cache)
    said = str(failed.value)
    assert "one: OSError: no route to host" in said
    assert "two: ValueError: expected 100,000 lines" in said
    assert "three: ValueError: the ratings are not those" in said
    assert "python -m studies.movielens ml-100k.zip" in said
    assert not cache.exists()
    with pytest.raises(movielens.DataMissing, match="is not here"):
        movielens.load(cache)


def test_the_second_source_is_asked_where_the_first_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "SHA256", movielens.fingerprint(movielens.parse(table())))
    cache = tmp_path / "cache" / "ratings.npz"
    fetched = movielens.fetch({"one": lambda: "no table", "two": table}, cache)
    assert np.array_equal(movielens.load(cache).ratings, fetched.ratings)


def noisy(rng, shape=(30, 40), count=500):
    chosen = rng.choice(shape[0] * shape[1], count, replace=False)
    rows, cols = np.divmod(chosen, shape[1])
    truth = rng.standard_normal((shape[0], 2)) @ rng.standard_normal((2, shape[1]))
    return rows, cols, truth[rows, cols] + 0.5 * rng.standard_normal(count), shape


def test_soft_impute_is_the_shrunk_matrix_where_everything_is_observed():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((12, 9))
    rows, cols = (x.ravel() for x in np.indices(M.shape))
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    for best in soft_impute.path(rows, cols, M.ravel(), M.shape, [4.0, 1.5, 0.2], tol=1e-5):
        W = (best.U * best.s) @ best.Vt
        expected = (U * np.maximum(s - best.penalty, 0)) @ Vt
        assert np.abs(W - expected).max() < 0.02
        assert -1e-12 <= best.gap < 1e-5


def test_soft_impute_meets_the_conditions_of_a_minimum():
    """‖M − W‖₂ ≤ λ, with λ on the singular vectors of W."""
    rows, cols, values, shape = noisy(np.random.default_rng(1))
    for best in soft_impute.path(rows, cols, values, shape, [8.0, 4.0, 2.0, 1.0], tol=1e-5):
        R = np.zeros(shape)
        R[rows, cols] = values - best.at(rows, cols)
        assert np.linalg.norm(R, 2) < best.penalty * 1.02
        along = np.einsum("ik,ij,kj->k", best.U, R, best.Vt)
        assert np.allclose(along, best.penalty, rtol=0.02)


def test_descent_at_full_width_is_that_of_the_package():
    rng = np.random.default_rng(2)
    rows, cols, values, shape = noisy(rng, (10, 12), 60)
    problem = mf.MatrixCompletion.from_triplets(rows, cols, values, shape=shape, loss="half")
    factors = [0.1 * X for X in mf.small_init(shape, rng=3)]
    run = mf.gradient_descent(problem, factors, lr=0.01, max_iters=50, loss_tol=0.0)
    *_, (count, A, B, loss) = full_width.descend(
        factors, rows, cols, values, lr=0.01, stops=[0, 20, 50]
    )
    assert count == 50
    assert np.allclose(A @ B, run.W, atol=1e-4)
    assert loss == pytest.approx(problem.loss_value(run.W), rel=1e-4)
    sigma, D = full_width.alignment(A, B, rows, cols, values)
    U, s, Vt = np.linalg.svd(A @ B, full_matrices=False)
    assert np.allclose(sigma, s)
    assert np.allclose(np.abs(D), np.abs(U.T @ problem.gradient(A @ B) @ Vt.T))


@pytest.mark.parametrize("depth", [2, 3])
def test_curvature_is_that_of_the_hessian(depth):
    rng = np.random.default_rng(4)
    rows, cols, values, shape = noisy(rng, (6, 7), 30)
    W = np.outer(rng.random(6) + 1, rng.random(7) + 1)
    problem = mf.MatrixCompletion.from_triplets(rows, cols, values, shape=shape, loss="half")
    found = movielens.Ratings(rows, cols, values)
    U, s, Vt = np.linalg.svd(W)
    size = s[0] ** (1 / depth)
    layers = (size * U[:, :1], *[np.array([[size]])] * (depth - 2), size * Vt[:1])
    H = mf.hessian(problem, layers, tol=np.inf)
    expected = np.abs(np.linalg.eigvalsh(H)).max()
    assert ratings.sharpness(found, W, depth) == pytest.approx(expected, rel=5e-3)


def test_only_aggregates_are_stored():
    """Far fewer numbers than ratings."""

    def numbers(node):
        if isinstance(node, dict):
            return sum(map(numbers, node.values()))
        return sum(map(numbers, node)) if isinstance(node, list) else 1

    assert numbers(STORED) < 0.05 * movielens.COUNT
    assert STORED["provenance"]["data"] == movielens.SHA256
    assert set(STORED) == {"provenance", "legend", *ratings.PARTS}


def test_the_penalized_minima_are_certified():
    for kind in ("raw", "centred"):
        assert all(row[2] <= ratings.GAP for row in STORED[f"nuclear {kind}"]["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("part", ["graph", "depth one", "baseline"])
def test_a_part_of_the_study_comes_out_again(data, part):
    function, arguments = ratings.PARTS[part]
    assert close(function(data, *arguments), STORED[part])


def close(found, stored):
    if isinstance(stored, dict):
        return found.keys() == stored.keys() and all(close(found[k], stored[k]) for k in stored)
    if isinstance(stored, list):
        return len(found) == len(stored) and all(map(close, found, stored))
    return found == pytest.approx(stored, rel=2e-3)


@pytest.mark.slow
def test_the_alignment_begins_as_stored(data, monkeypatch):
    monkeypatch.setattr(ratings, "STOPS", (0, 5, 10))
    again = ratings.part_alignment(data)["rows"]
    for found, stored in zip(again, STORED["alignment"]["rows"], strict=False):
        assert found[:2] == pytest.approx(stored[:2], rel=1e-3)
        assert found[2][0] == pytest.approx(stored[2][0], rel=1e-2)
        assert found[3:] == pytest.approx(stored[3:], rel=2e-2)


@pytest.mark.slow
def test_a_flow_on_the_means_ends_as_stored(data):
    """The shortest of the stored flows, along which no phase is told."""
    again = ratings.part_flow(data, 2, "centred")
    stored = STORED["flow 2 centred"]
    for errors in (1, 2, 3):
        found, there = (min(row[errors] for row in part["rows"]) for part in (again, stored))
        assert found == pytest.approx(there, abs=2e-3)
    assert close(again["bins"], stored["bins"])
