"""Input: every public name takes what it should, and refuses the rest in words."""

import copy
import inspect
import pickle
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import torch

import mfbook as mf
from mfbook.problems import checks
from tests.package.own import Frame, NAType

P = mf.MatrixCompletion.from_text("1 2; 3 ?")
SENSING = mf.MatrixSensing(np.eye(2)[None], [3.0])
SYMMETRIC = mf.SymmetricCompletion.from_text("1 2; 2 ?")
EYE = np.eye(2, dtype=bool)
ONES = np.ones((2, 2))
TWO = (np.eye(2), np.eye(2))


HIDDEN = np.ma.array(ONES, mask=~EYE)
# Each 2×2, so that the shape is no reason.
BAD_ARRAYS = {
    "None": None,
    "masked": HIDDEN,
    "list of masked rows": list(HIDDEN),
    "complex": 1j * ONES,
    "datetime": ONES.astype("datetime64[s]"),
    "timedelta": ONES.astype("timedelta64[s]"),
    "strings": [["1", "2"], ["3", "4"]],
    "bytes": np.array([[b"1", b"2"], [b"3", b"4"]]),
    "objects": np.array([[1, 2], [3, object()]], dtype=object),
    "None inside": [[1, 2], [3, None]],
    "NA inside": Frame([[1, 2], [3, NAType()]]),
    "grad": torch.ones(2, 2, requires_grad=True),
    "list of grad": [torch.ones(2, requires_grad=True)] * 2,
    "sparse": scipy.sparse.csr_array(ONES),
    "ragged": [[1, 2], [3]],
    "dictionary": {"a": 1},
    "set": {1, 2},
    "fields": np.zeros((2, 2), dtype=[("a", float)]),
    "class": np.ndarray,
}
BAD_VALUES = {
    "nan": [[np.nan, 1], [1, 1]],
    "inf": [[np.inf, 1], [1, 1]],
    "too large": [[10**400, 1], [1, 1]],
}
# Every public function that takes an array of numbers, and how it is called with one.
OF_ARRAYS = {
    "MatrixCompletion": lambda x: mf.MatrixCompletion(x, np.ones((2, 2), dtype=bool)),
    "MatrixCompletion truth": lambda x: mf.MatrixCompletion(ONES, EYE, truth=x),
    "MatrixSensing": lambda x: mf.MatrixSensing([x], [1.0]),
    "SymmetricCompletion": lambda x: mf.SymmetricCompletion(x, np.ones((2, 2), dtype=bool)),
    "SymmetricCompletion start": lambda x: mf.gradient_flow(SYMMETRIC, (x,)),
    "SymmetricSensing": lambda x: mf.SymmetricSensing([x], [1.0]),
    "loss_value": P.loss_value,
    "gradient": P.gradient,
    "measure": P.measure,
    "sensing loss_value": SENSING.loss_value,
    "nuclear_norm": mf.nuclear_norm,
    "numerical_rank": mf.numerical_rank,
    "effective_rank": mf.effective_rank,
    "low_rankness": lambda x: mf.low_rankness(x, 1),
    "reconstruction_error": lambda x: mf.reconstruction_error(x, ONES),
    "reconstruction_error truth": lambda x: mf.reconstruction_error(ONES, x),
    "dual_bound": lambda x: mf.dual_bound(mf.MatrixCompletion(ONES, ONES == 1), x),
    "InvariantManifold": mf.InvariantManifold,
    "InvariantManifold.distance": lambda x: mf.InvariantManifold([[1, 0]]).distance((x, ONES)),
    "gradient_descent": lambda x: mf.gradient_descent(P, (x, ONES), lr=0.1),
    "gradient_flow": lambda x: mf.gradient_flow(P, (x, ONES)),
    "taylor_flow": lambda x: mf.taylor_flow(P, (x, ONES), log10_scale=0, times=[1]),
    "end_to_end_flow": lambda x: mf.end_to_end_flow(P, x, depth=3),
    "disconnected_limit": lambda x: mf.disconnected_limit(
        mf.MatrixCompletion(ONES, EYE), (x, ONES)
    ),
    "hessian": lambda x: mf.hessian(P, (x, ONES)),
    "escape_direction": lambda x: mf.escape_direction(P, (x, ONES)),
    "critical_point_kind": lambda x: mf.critical_point_kind(P, (x, ONES)),
    "relative_gradient": lambda x: mf.relative_gradient(P, (x, ONES)),
}
# These answer nan with nan, as an engine that looks at a run that diverged needs.
NAN_IN_NAN_OUT = {"loss_value", "gradient", "measure", "sensing loss_value"}


@pytest.mark.filterwarnings("ignore:Casting complex:UserWarning")
@pytest.mark.parametrize("kind", BAD_ARRAYS)
@pytest.mark.parametrize("name", OF_ARRAYS)
def test_what_is_no_array_of_numbers_is_refused_everywhere(name, kind):
    if (name, kind) == ("MatrixCompletion truth", "None"):
        pytest.skip("no truth is known")
    with pytest.raises((TypeError, ValueError), match=r"must .*(, but |holds)") as caught:
        OF_ARRAYS[name](BAD_ARRAYS[kind])
    assert len(str(caught.value)) > 40  # a requirement, what was seen, a cure


@pytest.mark.parametrize("kind", BAD_VALUES)
@pytest.mark.parametrize("name", sorted(OF_ARRAYS.keys() - NAN_IN_NAN_OUT))
def test_numbers_that_are_not_finite_are_refused_everywhere(name, kind):
    with pytest.raises(ValueError, match=r"must be finite, but .* (nan|inf)"):
        OF_ARRAYS[name](BAD_VALUES[kind])


@pytest.mark.parametrize(
    "good",
    [
        [[1, 2], [3, 4]],
        ((1, 2), (3, 4)),
        [[Fraction(1), Decimal(2)], [3, 4.0]],
        Frame([[1, 2.0], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=np.int8),
        np.array([[1, 2], [3, 4]], dtype=np.longdouble),
        np.matrix([[1, 2], [3, 4]]),
        np.ma.array([[1, 2], [3, 4]]),
        np.ma.array([[1, 2], [3, 4]], mask=np.zeros((2, 2), dtype=bool)),
        torch.tensor([[1, 2], [3, 4]]),
        [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])],
        [np.array([1, 2]), [3, np.float32(4)]],
    ],
    ids=lambda good: type(good).__name__,
)
def test_whatever_is_an_array_of_numbers_is_taken(good):
    found = checks.real_array("W", good, ndim=2, finite=True)
    assert type(found) is np.ndarray and found.dtype == np.float64
    assert found.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert mf.nuclear_norm(good) == mf.nuclear_norm([[1.0, 2.0], [3.0, 4.0]])


def test_arrays_are_copied():
    W = np.ones((2, 2))
    assert not np.shares_memory(checks.real_array("W", W), W)


OF_MASKS = {
    "MatrixCompletion": lambda x: mf.MatrixCompletion(ONES, x),
    "observation_graph": mf.observation_graph,
    "entry_graph": mf.entry_graph,
    "components": mf.components,
    "connectivity": mf.connectivity,
    "InvariantManifold": lambda x: mf.InvariantManifold([[1, 0]], mask=x, component=0),
}
BAD_MASKS = BAD_ARRAYS | {
    "masked mask": np.ma.array(EYE, mask=EYE),
    "numbers": np.eye(2),
    "sparse mask": scipy.sparse.csr_array(EYE),
    "vector": np.array([True, False]),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
@pytest.mark.parametrize("name", OF_MASKS)
def test_what_is_no_mask_is_refused_everywhere(name, kind):
    if name == "InvariantManifold" and kind == "None":
        pytest.skip("no mask is no sub-manifold")
    with pytest.raises((TypeError, ValueError), match=r"must .*, but |both a mask"):
        OF_MASKS[name](BAD_MASKS[kind])


BAD_PROBLEMS = {
    "None": (None, "None; build one"),
    "class": (mf.MatrixCompletion, "the class MatrixCompletion itself; make one"),
    "array": (ONES, "from_array"),
    "list": ([[1, 2], [3, 4]], "from_array"),
    "text": ("1 2; 3 ?", "from_text"),
    "number": (3, "a int; build one"),
}
OF_PROBLEMS = {
    "gradient_descent": lambda p: mf.gradient_descent(p, TWO, lr=0.1),
    "gradient_flow": lambda p: mf.gradient_flow(p, TWO),
    "taylor_flow": lambda p: mf.taylor_flow(p, TWO, log10_scale=0, times=[1]),
    "end_to_end_flow": lambda p: mf.end_to_end_flow(p, ONES, depth=3),
    "deep_glrl": lambda p: mf.deep_glrl(p, 3),
    "disconnected_limit": lambda p: mf.disconnected_limit(p, TWO),
    "min_nuclear_norm": mf.min_nuclear_norm,
    "dual_bound": lambda p: mf.dual_bound(p, ONES),
    "min_rank": mf.min_rank,
    "hessian": lambda p: mf.hessian(p, TWO),
    "escape_direction": lambda p: mf.escape_direction(p, TWO),
    "critical_point_kind": lambda p: mf.critical_point_kind(p, TWO),
    "relative_gradient": lambda p: mf.relative_gradient(p, TWO),
}


@pytest.mark.parametrize("kind", BAD_PROBLEMS)
@pytest.mark.parametrize("name", OF_PROBLEMS)
def test_what_is_no_problem_is_refused_everywhere(name, kind):
    problem, cure = BAD_PROBLEMS[kind]
    if name == "gradient_descent" and kind == "list":
        cure = "problem must be a MatrixCompletion"  # a list is a sequence of problems there
    with pytest.raises(TypeError, match=cure):
        OF_PROBLEMS[name](problem)


@pytest.mark.parametrize("name", ["disconnected_limit", "min_rank"])
def test_what_needs_entries_says_so(name):
    with pytest.raises(TypeError, match=r"must be a MatrixCompletion, but is a MatrixSensing: .*"):
        OF_PROBLEMS[name](SENSING)


OF_FACTORS = {
    "gradient_descent": lambda f: mf.gradient_descent(P, f, lr=0.1),
    "gradient_flow": lambda f: mf.gradient_flow(P, f),
    "taylor_flow": lambda f: mf.taylor_flow(P, f, log10_scale=0, times=[1]),
    "disconnected_limit": lambda f: mf.disconnected_limit(mf.MatrixCompletion(ONES, EYE), f),
    "InvariantManifold.distance": lambda f: mf.InvariantManifold([[1, 0]]).distance(f),
    "InvariantManifold.project": lambda f: mf.InvariantManifold([[1, 0]]).project(f),
    "hessian": lambda f: mf.hessian(P, f),
    "escape_direction": lambda f: mf.escape_direction(P, f),
    "critical_point_kind": lambda f: mf.critical_point_kind(P, f),
    "relative_gradient": lambda f: mf.relative_gradient(P, f),
}
BAD_FACTORS = {
    "None": None,
    "number": 3,
    "text": "AB",
    "array": np.ones((2, 2, 2)),
    "tensor": torch.ones(2, 2, 2),
    "dictionary": {0: ONES, 1: ONES},
    "set": {1, 2},
    "empty": (),
    "None inside": (None, None),
    "empty batch": (np.ones((0, 2, 2)), np.ones((0, 2, 2))),
    "vectors": (np.ones(2), np.ones(2)),
}


@pytest.mark.parametrize("kind", BAD_FACTORS)
@pytest.mark.parametrize("name", OF_FACTORS)
def test_what_are_no_factors_is_refused_everywhere(name, kind):
    with pytest.raises((TypeError, ValueError), match=r"factors?|factor 0"):
        OF_FACTORS[name](BAD_FACTORS[kind])


def descend(**options):
    return mf.gradient_descent(P, TWO, **{"lr": 0.1, "max_iters": 2, **options})


def oracle(**options):
    return mf.taylor_flow(P, TWO, **{"log10_scale": 0, "times": [0.1], **options})


def flow(**options):
    return mf.gradient_flow(P, TWO, **{"max_steps": 2, **options})


def end_to_end(**options):
    return mf.end_to_end_flow(P, ONES, **{"depth": 3, "max_steps": 2, **options})


THREE = (*TWO, np.eye(2))
SADDLE = (np.zeros((2, 2)), np.zeros((2, 2)))
RUNS = {"flow": flow(), "descent": descend(), "deep": mf.gradient_flow(P, THREE, max_steps=2)}
pop = mf.populations
# Numbers: how one is given, and values that are of the right kind and out of range.
NUMBERS = {
    "gradient_descent lr": (lambda x: descend(lr=x), [0, -1]),
    "gradient_descent loss_tol": (lambda x: descend(loss_tol=x), [-1]),
    "gradient_flow log10_scale": (lambda x: flow(log10_scale=x), [-2e9]),
    "gradient_flow loss_tol": (lambda x: flow(loss_tol=x), [-1]),
    "gradient_flow rtol": (lambda x: flow(rtol=x), [0, 1, -1]),
    "gradient_flow t_max": (lambda x: flow(t_max=x), [-1]),
    "end_to_end_flow depth": (lambda x: end_to_end(depth=x), [0, 0.9]),
    "end_to_end_flow log10_scale": (lambda x: end_to_end(log10_scale=x), [-2e9]),
    "end_to_end_flow loss_tol": (lambda x: end_to_end(loss_tol=x), [-1]),
    "end_to_end_flow rtol": (lambda x: end_to_end(rtol=x), [0, 1]),
    "end_to_end_flow t_max": (lambda x: end_to_end(t_max=x), [-1]),
    "hessian tol": (lambda x: mf.hessian(P, SADDLE, tol=x), [-1]),
    "escape_direction tol": (lambda x: mf.escape_direction(P, SADDLE, tol=x), [-1]),
    "critical_point_kind tol": (lambda x: mf.critical_point_kind(P, SADDLE, tol=x), [-1]),
    "glrl eps": (lambda x: mf.glrl(P, eps=x, max_steps=5), [0, -1, 1e51]),
    "glrl loss_tol": (lambda x: mf.glrl(P, loss_tol=x, max_steps=5), [-1]),
    "glrl rtol": (lambda x: mf.glrl(P, rtol=x, max_steps=5), [0, 1]),
    "deep_glrl loss_tol": (lambda x: mf.deep_glrl(P, 3, loss_tol=x, max_steps=5), [-1]),
    "deep_glrl rtol": (lambda x: mf.deep_glrl(P, 3, rtol=x, max_steps=5), [0, 1]),
    "deep_limit loss_tol": (lambda x: mf.deep_limit(P, THREE, loss_tol=x, max_steps=2), [-1]),
    "deep_limit rtol": (lambda x: mf.deep_limit(P, THREE, rtol=x, max_steps=2), [0, 1]),
    "rank_one_matrix_pursuit loss_tol": (
        lambda x: mf.rank_one_matrix_pursuit(P, 1, loss_tol=x),
        [-1],
    ),
    "geco loss_tol": (lambda x: mf.geco(P, 1, loss_tol=x), [-1]),
    "alternating_least_squares loss_tol": (
        lambda x: mf.alternating_least_squares(P, loss_tol=x),
        [-1],
    ),
    "alternating_least_squares rest_tol": (
        lambda x: mf.alternating_least_squares(P, rest_tol=x),
        [-1],
    ),
    "SymmetricCompletion tol": (lambda x: mf.SymmetricCompletion(ONES, EYE, tol=x), [-1]),
    "SymmetricSensing tol": (lambda x: mf.SymmetricSensing([ONES], [1], tol=x), [-1]),
    "Trajectory.W_at of a flow": (RUNS["flow"].W_at, [-1, 1e9]),
    "Trajectory.W_at of descent": (RUNS["descent"].W_at, [-1, 1e9]),
    "Trajectory.W_at in a phase": (lambda t: RUNS["deep"].W_at(t, phase=0), []),
    "Trajectory.factors_at": (RUNS["flow"].factors_at, [-1, 1e9]),
    "deep_glrl depth": (lambda x: mf.deep_glrl(P, x, max_steps=5), [1, 1.9]),
    "deep_glrl eps": (lambda x: mf.deep_glrl(P, 3, eps=x, max_steps=5), [0, -1]),
    "numerical_rank rtol": (lambda x: mf.numerical_rank(ONES, rtol=x), [-1]),
    "min_nuclear_norm tol": (lambda x: mf.min_nuclear_norm(P, tol=x), [0, -1]),
    "nuclear_norm_counterexample R": (mf.examples.nuclear_norm_counterexample, [1, -5]),
}
COUNTS = {
    "gradient_descent max_iters": (lambda k: descend(max_iters=k), [-1]),
    "gradient_descent max_records": (lambda k: descend(max_records=k), [0, 1, -5]),
    "taylor_flow log10_scale": (lambda k: oracle(log10_scale=k), []),
    "taylor_flow digits": (lambda k: oracle(digits=k), [0, -1]),
    "taylor_flow max_steps": (lambda k: oracle(max_steps=k), [0, -1]),
    "end_to_end_flow max_steps": (
        lambda k: mf.end_to_end_flow(P, ONES, depth=3, max_steps=k),
        [-1],
    ),
    "gradient_flow max_steps": (lambda k: flow(max_steps=k), [-1]),
    "glrl max_rank": (lambda k: mf.glrl(P, max_rank=k, max_steps=5), [0, 3]),
    "glrl max_steps": (lambda k: mf.glrl(P, max_steps=k), [-1]),
    "deep_glrl max_steps": (lambda k: mf.deep_glrl(P, 3, max_steps=k), [-1]),
    "deep_limit max_steps": (lambda k: mf.deep_limit(P, THREE, max_steps=k), [-1]),
    "rank_one_matrix_pursuit rank": (lambda k: mf.rank_one_matrix_pursuit(P, k), [0, -1]),
    "geco rank": (lambda k: mf.geco(P, k), [0, -1]),
    "alternating_least_squares rank": (lambda k: mf.alternating_least_squares(P, k), [0, 3]),
    "alternating_least_squares max_sweeps": (
        lambda k: mf.alternating_least_squares(P, max_sweeps=k),
        [0],
    ),
    "Trajectory.W_at phase": (lambda k: RUNS["deep"].W_at(0.0, phase=k), [-1, 9]),
    "deep_glrl max_rank": (lambda k: mf.deep_glrl(P, 3, max_rank=k, max_steps=5), [0, 3]),
    "low_rankness r": (lambda k: mf.low_rankness(ONES, k), [-1, 3]),
    "min_nuclear_norm max_iters": (lambda k: mf.min_nuclear_norm(P, max_iters=k), [0]),
    "min_rank starts": (lambda k: mf.min_rank(P, starts=k), [0, -3]),
    "sampling_patterns n": (mf.sampling_patterns, [0, -1, 6]),
    "sampling_patterns size": (lambda k: mf.sampling_patterns(2, k), [0, 5]),
    "small_init rows": (lambda k: mf.small_init((k, 2), rng=0), [0, -1]),
    "small_init depth": (lambda k: mf.small_init((2, 2), depth=k, rng=0), [0]),
    "small_init width": (lambda k: mf.small_init((2, 2), width=k, rng=0), [0]),
    "small_init batch": (lambda k: mf.small_init((2, 2), batch=k, rng=0), [0, -1]),
    "InvariantManifold component": (
        lambda k: mf.InvariantManifold([[1, 0]], mask=EYE, component=k),
        [-1, 2],
    ),
    "random_mask size": (lambda k: pop.random_mask(0, (2, 2), k), [0, 5]),
    "random_block_mask d": (lambda k: pop.random_block_mask(0, k), [1, 0]),
    "random_low_rank rank": (lambda k: pop.random_low_rank(0, (2, 2), k), [-1]),
    "random_block_problem rank": (lambda k: pop.random_block_problem(0, [(2, 2)], [k]), [5, -1]),
    "figure_1_population count": (lambda k: pop.figure_1_population(k, 0), [-1]),
    "connected_population count": (lambda k: pop.connected_population(k, 0), [-1]),
    "connected_population seed": (lambda k: pop.connected_population(1, k), [-1]),
    "sweep n_jobs": (lambda k: mf.sweep(abs, {}, store="/nowhere/at/all", n_jobs=k), [0]),
}
# None is an answer where a default stands for it.
NONE_IS_FINE = {
    "min_nuclear_norm tol",
    "deep_glrl max_rank",
    "glrl max_rank",
    "alternating_least_squares rank",
    "Trajectory.W_at phase",
    "sampling_patterns size",
    "small_init width",
    "InvariantManifold component",
    "sweep n_jobs",
}
# A number a run is as good as one.
MAY_BE_AN_ARRAY = {"gradient_flow log10_scale"}
# And infinity is one.
INF_IS_FINE = {
    "gradient_flow t_max",
    "end_to_end_flow t_max",
    "end_to_end_flow depth",
    "hessian tol",
    "escape_direction tol",
    "critical_point_kind tol",
}


@pytest.mark.parametrize("kind", ["None", "True", "text", "complex", "list", "array", "nan", "inf"])
@pytest.mark.parametrize("name", sorted(NUMBERS | COUNTS))
def test_what_is_no_number_is_refused_everywhere(name, kind):
    bad = {
        "None": None,
        "True": True,
        "text": "1",
        "complex": 1j,
        "list": [[1], [2]],
        "array": np.ones((3, 1)),
        "nan": np.nan,
        "inf": np.inf,
    }[kind]
    if kind == "None" and name in NONE_IS_FINE:
        pytest.skip("None has a meaning")
    if kind == "inf" and name in INF_IS_FINE:
        pytest.skip("infinity has a meaning")
    if kind in ("list", "array") and name in MAY_BE_AN_ARRAY:
        pytest.skip("an array has a meaning")
    give, _ = (NUMBERS | COUNTS)[name]
    with pytest.raises((TypeError, ValueError), match=r"must "):
        give(bad)


@pytest.mark.parametrize("name", sorted(NUMBERS | COUNTS))
def test_a_number_out_of_range_is_refused(name):
    give, out_of_range = (NUMBERS | COUNTS)[name]
    for bad in out_of_range:
        with pytest.raises(ValueError, match=r"must .*, but "):
            give(bad)


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_an_integer_beyond_the_floats_is_out_of_range(name):
    give, _ = NUMBERS[name]
    for bad in (10**400, -(10**400), Fraction(10**400)):
        with pytest.raises(ValueError, match=r"must .*, but "):
            give(bad)


@pytest.mark.parametrize("name", COUNTS)
def test_half_an_integer_is_refused(name):
    with pytest.raises(TypeError, match=r"must be an integer, but is 1.5"):
        COUNTS[name][0](1.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted((NUMBERS | COUNTS).keys() - {"sweep n_jobs"}))
def test_numpy_numbers_are_numbers(name):
    give, _ = (NUMBERS | COUNTS)[name]
    for kind in (np.float64, np.int64, np.array) if name in NUMBERS else (np.int64, np.uint8):
        if name.endswith("rtol") and name != "numerical_rank rtol":
            give(kind(1e-3) if kind is not np.int64 else np.float32(1e-3))
        elif name in ("InvariantManifold component", "Trajectory.W_at phase"):
            give(kind(0))
        else:
            give(kind(0 if name.startswith("Trajectory") else 2))


@pytest.mark.parametrize("bad", [None, "no", "yes", 0, 1, [], np.ones(1)])
def test_a_switch_is_true_or_false(bad):
    for give in (
        lambda x: mf.min_nuclear_norm(P, psd=x),
        lambda x: mf.dual_bound(P, np.eye(2), psd=x),
    ):
        with pytest.raises(TypeError, match="psd must be True or False, but is"):
            give(bad)
    assert mf.min_nuclear_norm(P, psd=np.bool_(False)).gap < 1e-6


@pytest.mark.parametrize("bad", [None, True, 0.5, "0", -1, [0, -1], [], np.random])
def test_a_generator_or_a_seed(bad):
    for draw in (
        lambda rng: mf.small_init((2, 2), rng=rng),
        lambda rng: pop.random_mask(rng, (2, 2), 1),
        lambda rng: pop.random_block_mask(rng, 3),
        lambda rng: pop.random_low_rank(rng, (2, 2), 1),
        lambda rng: pop.random_block_problem(rng),
        lambda rng: pop.figure_1_population(1, rng),
    ):
        with pytest.raises((TypeError, ValueError), match="rng must be"):
            draw(bad)


def test_seeds_of_every_kind_draw_the_same():
    masks = [
        pop.random_mask(rng, (4, 4), 8).tolist()
        for rng in (0, np.int64(0), np.random.default_rng(0), np.random.SeedSequence(0))
    ]
    assert all(mask == masks[0] for mask in masks)
    assert pop.random_mask([1, 2], (4, 4), 8).any()


@pytest.mark.parametrize("bad", [None, 3, "22", (2,), (2, 2, 2), (2, 0), (2.5, 2), (True, 2)])
def test_a_shape_is_a_pair_of_sizes(bad):
    for give in (
        lambda shape: mf.small_init(shape, rng=0),
        lambda shape: pop.random_mask(0, shape, 1),
        lambda shape: pop.random_low_rank(0, shape, 1),
        lambda shape: pop.random_block_problem(0, [shape], [1]),
    ):
        with pytest.raises(
            (TypeError, ValueError), match=r"shape must be|number of (rows|columns)"
        ):
            give(bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mf.MatrixCompletion(ONES, EYE, loss=ONES), "loss must be 'mean'"),
        (lambda: mf.MatrixCompletion(ONES, EYE, loss=None), "loss must be 'mean'"),
        (lambda: mf.MatrixCompletion(ONES, EYE, name=3), "name must be a string"),
        (lambda: mf.MatrixSensing([ONES], [1], name=None), "name must be a string"),
        (lambda: mf.MatrixSensing([ONES], None), "targets must be an array"),
        (lambda: mf.claim(None), "id must be a string"),
        (lambda: mf.claim(["bai2024-thm1"]), "id must be a string"),
        (lambda: mf.dual_bound(mf.MatrixCompletion([[1, 2, 3]], [[True] * 3]), [[1, 0, 0]],
                               psd=True), "positive semidefinite matrix is square"),
        (lambda: pop.random_block_problem(0, [(2, 2)], [5]), "rank at most 2, but 5"),
        (lambda: pop.random_block_problem(0, [(2, 2)], [1, 1]), "one rank a block"),
        (lambda: pop.random_block_problem(0, []), "at least one block"),
        (lambda: mf.MatrixCompletion(ONES, np.ma.array(EYE, mask=EYE)), "mask.filled.False."),
        (lambda: mf.MatrixCompletion(ONES, EYE, truth=np.inf * ONES), "is inf; correct it"),
        (lambda: mf.MatrixCompletion(np.inf * ONES, EYE), "mark it as unobserved"),
        (lambda: mf.reconstruction_error(np.ones((2, 2, 2)), np.ones((3, 2, 2))),
         "leading axes that agree"),
        (lambda: flow(log10_scale=[]), "log10_scale must hold at least one run"),
        (lambda: RUNS["flow"].W_at([0.0, 1.0]), "t must be one time"),
        (lambda: mf.escape_direction(P, THREE), "deep_limit tells"),
        (lambda: mf.sampling_patterns(0), "n must be at least 1, but is 0"),
        (lambda: mf.plots.matrix(None, np.ones((2, 3)), problem=P), r"shape \(2, 2\), but has"),
        (lambda: mf.plots.matrix(None, np.ones((0, 3))), "an entry to write"),
        (lambda: mf.sweep(3, {}, store="x"), "must be callable"),
        (lambda: mf.sweep(abs, None, store="x"), "instances must be pairs"),
        (lambda: mf.sweep(abs, ["ab", "c"], store="x"), "instances must be pairs"),
        (lambda: mf.sweep(abs, {}, store=None), "store must be a path"),
        (lambda: mf.sweep(abs, {}, store="x", provenance=[1]), "provenance must be a dictionary"),
        (lambda: mf.sweep(abs, {}, store="x", progress="no"), "progress must be True or False"),
    ],
)  # fmt: skip
def test_what_else_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_every_option_that_is_a_number_is_in_a_table():
    found = set()
    for name in mf.__all__:
        public = getattr(mf, name)
        results = {"Certified", "DeepLimit", "Escape", "GreedyPath", "MinRank", "Phase", "Claim"}
        if not callable(public) or name in results | {"below", "Trajectory"}:
            continue
        for option, parameter in inspect.signature(public).parameters.items():
            kinds = str(parameter.annotation).split(" | ")
            if kinds[0] in ("int", "float"):
                found.add(f"{name} {option}")
    assert len(found) > 40
    assert found <= (NUMBERS | COUNTS).keys()


def test_options_are_looked_at_before_anything_runs():
    nothing = mf.MatrixCompletion.from_text("0 ?; 0 0")
    for learn in (mf.glrl, lambda *args, **options: mf.deep_glrl(*args, 3, **options)):
        assert learn(nothing).ranks == (0,)
        for option in ({"loss_tol": -1}, {"rtol": 0}, {"max_steps": -1}, {"max_rank": 0}):
            with pytest.raises(ValueError, match=r"must .*, but "):
                learn(nothing, **option)


def test_all_public_names_are_in_a_table():
    tables = OF_ARRAYS | OF_MASKS | OF_PROBLEMS | OF_FACTORS | NUMBERS | COUNTS
    covered = {name.split()[0].split(".")[0] for name in tables}
    # Results, which nobody builds; modules; what takes nothing; and names in the tests above.
    others = {"Certified", "DeepLimit", "Escape", "GreedyPath", "MinRank", "Phase", "Trajectory"}
    others |= {"examples", "populations", "plots", "ledger", "claim", "sweep", "stored", "below"}
    # tests/package: test_glrl.py, test_deep_limit.py, test_pursuit.py, test_alternating.py and
    # test_widgets.py
    others |= {"glrl", "deep_limit", "widgets"}
    others |= {"rank_one_matrix_pursuit", "geco", "alternating_least_squares"}
    assert set(mf.__all__) <= covered | others


def test_a_number_too_small_to_square_is_still_a_size():
    assert mf.reconstruction_error([[2e-200]], [[1e-200]]) == 1.0
    assert mf.reconstruction_error([[2e200]], [[1e200]]) == 1.0
    assert mf.low_rankness(np.diag([3e-200, 4e-200, 5e-200]), 1) == pytest.approx(5e-200, rel=1e-15)
    with pytest.raises(ValueError, match="truth is zero"):
        mf.reconstruction_error([[1.0]], [[0.0]])


def test_the_oracle_takes_integer_times_and_no_negative_ones():
    whole, real = oracle(times=np.array([1, 2])), oracle(times=[1.0, 2.0])
    assert np.array_equal(whole, real)
    assert np.array_equal(oracle(times=[Fraction(1), 2]), real)
    for times, message in [
        ([-0.5, 1], "at least 0"),
        ([-1], "at least 0"),
        ([1, 1], "must rise"),
        ([2, 1], "must rise"),
        ([np.nan], "finite"),
        (1.0, "1 dimensions"),
        (None, "None"),
        (["1"], "text"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            oracle(times=times)


BATCH = mf.gradient_descent(P, mf.small_init((2, 2), rng=0, batch=(2, 3)), lr=0.1, max_iters=20)


@pytest.mark.parametrize("index", [slice(0, 1), (0, slice(0, 1)), (0, True), (0.0, 1), (None, 0)])
def test_one_run_is_taken_by_integers(index):
    with pytest.raises((TypeError, IndexError), match=r"must be an integer, but is|one number an"):
        BATCH[index]


def test_runs_are_counted():
    for k in (3, -4):
        with pytest.raises(IndexError, match=f"from -3 to 2, as there are 3 runs .* but is {k}"):
            BATCH[0, k]
    with pytest.raises(TypeError, match="must be an integer"):
        BATCH[np.array([0, 1]), 0]
    with pytest.raises(IndexError, match="0 leading axes"):
        BATCH[0, 0][0]
    one = BATCH[0, 0]
    assert one[()] is one
    assert np.array_equal(BATCH[np.int64(-1), 2].W, BATCH.W[1, 2])


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3,), (1,), (1, 1), (2, 3)])
def test_steps_that_are_broadcast_over_a_batch_are_those_of_its_runs(shape):
    steps = np.linspace(0.05, 0.1, int(np.prod(shape))).reshape(shape)
    start = mf.small_init((2, 2), rng=0, batch=(2, 3))
    batch = mf.gradient_descent(P, start, lr=steps, max_iters=20)
    assert batch.t.shape == (21, 2, 3)
    for run in np.ndindex(2, 3):
        step = float(np.broadcast_to(steps, (2, 3))[run])
        alone = mf.gradient_descent(P, [f[run] for f in start], lr=step, max_iters=20)
        assert np.array_equal(batch[run].W, alone.W)
        assert np.array_equal(batch[run].t, alone.t)
        assert np.array_equal(batch[run].W_at(0.3), alone.W_at(0.3))


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
@pytest.mark.parametrize("truth", [None, np.eye(2)])
def test_a_copy_of_a_problem_is_frozen_as_well(again, truth):
    for problem in (
        mf.MatrixCompletion(ONES, EYE, truth=truth),
        mf.MatrixSensing([ONES], [1.0], truth=truth),
        mf.SymmetricCompletion(ONES, EYE, truth=truth),
        mf.SymmetricSensing([ONES], [1.0], truth=truth),
    ):
        copied = again(problem)
        assert repr(copied) == repr(problem)
        assert copied.loss_value(2 * ONES) == problem.loss_value(2 * ONES)
        for name, value in vars(copied).items():
            assert not isinstance(value, np.ndarray) or not value.flags.writeable, name


def test_an_empty_stack_has_no_losses():
    for problem in (P, SENSING, SYMMETRIC):
        stack = np.zeros((3, 0, 2, 2))
        assert np.shape(problem.loss_value(stack)) == (3, 0)
        assert problem.gradient(stack).shape == (3, 0, 2, 2)


def test_trajectories_of_descent_can_be_pickled():
    for run in (BATCH, BATCH[1, 2], descend()):
        again = pickle.loads(pickle.dumps(run))
        assert np.array_equal(again.W, run.W)
        assert np.array_equal(again.W_at(0.15), run.W_at(0.15))


@pytest.mark.parametrize("iters", range(12))
def test_however_few_records_are_kept_the_end_is_one_of_them(iters):
    A, B = mf.small_init((2, 2), rng=0)
    run = mf.gradient_descent(P, (A, B), lr=0.1, max_iters=iters, max_records=4)
    assert np.allclose(run.W, run.factors[0] @ run.factors[1], rtol=1e-15)
    assert run.t[-1] == pytest.approx(0.1 * iters) and run.t[0] == 0


@pytest.mark.slow
def test_a_problem_can_be_printed_where_only_ascii_can():
    code = "import mfbook as mf; print(mf.examples.M4, mf.claim('bai2024-def1').check(True, '★'))"
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout
        == f"MatrixCompletion('1 2; 3 ?') * bai2024-def1 [{mf.claim('bai2024-def1').verdict}] ?\n"
    )
    assert repr(mf.examples.M4) == "MatrixCompletion('1 2; 3 ★')"


@pytest.mark.slow
def test_every_result_can_be_printed_where_only_ascii_can():
    code = """
import mfbook as mf
P = mf.examples.M4
start = mf.small_init(P.shape, rng=0)
results = [
    mf.gradient_descent(P, start, lr=0.02, max_iters=9), mf.rank_one_matrix_pursuit(P, 2),
    mf.min_rank(P), mf.min_nuclear_norm(P), mf.claim("bai2024-thm1"), mf.ledger(),
    mf.InvariantManifold([[1.0, 2.0]]), mf.widgets.matrix(),
]
print(*results, sep="\\n")
"""
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "ranks 0 > 1 > 2" in done.stdout


@pytest.mark.parametrize("problem", [P, SENSING, mf.examples.M1])
def test_measure_and_adjoint_are_transposes_of_each_other(problem):
    rng = np.random.default_rng(0)
    W = rng.standard_normal((3, *problem.shape))
    r = rng.standard_normal((3, problem.n_observed))
    left = (problem.measure(W) * r).sum(axis=-1)
    right = (problem.adjoint(r) * W).sum(axis=(-2, -1))
    assert np.allclose(left, right, rtol=1e-14)
    residual = problem.measure(W) - problem.targets
    assert np.allclose(
        problem.loss_value(W), problem.weight * (residual**2).sum(axis=-1), rtol=1e-14
    )
    assert np.allclose(problem.gradient(W), 2 * problem.weight * problem.adjoint(residual))
    # Entries outside of the parts are in no measurement.
    outside = np.ones(problem.shape, dtype=bool)
    for rows, cols in problem.parts:
        outside[np.ix_(rows, cols)] = False
    assert not problem.measure(outside.astype(float)).any()
    with pytest.raises(ValueError, match="one number a measurement"):
        problem.adjoint(np.ones(problem.n_observed + 1))


def test_what_is_a_problem_is_known_without_what_it_computes():
    """5,000 measurements of a 100×100 matrix need minutes for their singular values."""
    problem = mf.MatrixSensing(np.eye(2)[None], [3.0])
    checks.require_problem(problem)
    assert "attainable" not in vars(problem)
