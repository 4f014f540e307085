"""Inputs at the edge: every public name answers with numbers, or says why not and what to do.

Warnings are errors in all tests, so nothing overflows unseen. Numerical outcomes are in units of
the data: what a name makes of c M is c times what it makes of M, as far as M is in range.
"""

import numpy as np
import pytest

import mfbook as mf

NAN = np.nan
SHAPES = {
    "corner": [[1, 2], [3, NAN]],
    "connected": [[1, 2, NAN], [3, NAN, 1], [NAN, 1, 2]],
    "two components": [[1, NAN, 3], [NAN, 5, NAN], [3, NAN, 9]],
    "full": [[1, 2], [3, 4]],
    "rows without entries": [[NAN, NAN, NAN], [1, 2, NAN], [NAN, NAN, NAN]],
    "one number": [[2]],
    "row": [[1, NAN, 3, -4]],
    "column": [[1], [NAN], [3], [-4]],
    "one entry": [[NAN, NAN, NAN], [NAN, 2, NAN]],
    "zero": [[0, 0], [0, NAN]],
    "zero in two components": [[0, NAN], [NAN, 0]],
    "zero beside data": [[0, NAN], [NAN, 2]],
}
UNITS = [1.0, 1e100, 1e-100, 1e150, 1e-150, 1e300, 1e-300]
MIXED = {
    "1e20": [[1e20, 1e-20, NAN], [1, NAN, 1e-20]],
    "1e100": [[1e100, 1e-100], [1, NAN]],
    "1e150": [[1e150, 1e-150, NAN], [1, NAN, 1e-150]],
    "one large": [[1e150, 1], [1, NAN]],
    "apart": [[1e150, NAN], [NAN, 5e-324]],
    "smallest": [[5e-324, NAN], [1e-323, 5e-324]],
    "largest": [[1.7e308, -1.7e308], [1.7e308, NAN]],
}
PROBLEMS = {
    **{
        f"{name}, {unit:g}": (np.array(values, dtype=float) * unit)
        for name, values in SHAPES.items()
        for unit in UNITS
        if unit == 1.0 or not name.startswith("zero")
    },
    **{f"mixed {name}": np.array(values) for name, values in MIXED.items()},
}


def size(problem):
    return float(np.abs(problem.targets).max()) or 1.0


def start(problem, depth=2, width=None):
    """Factors whose product is of the size of the data."""
    unit = size(problem) ** (1 / depth)
    drawn = mf.small_init(problem.shape, depth=depth, width=width, rng=1)
    return tuple(unit * factor for factor in drawn)


def matrix(problem):
    return size(problem) * np.random.default_rng(2).uniform(-1, 1, problem.shape)


def zeros(problem):
    return tuple(0.0 * factor for factor in start(problem))


def rate(problem):
    """A step of descent that is too long for the data."""
    return 5.0 / max(size(problem), 1e-300)


# What is computed of a problem, in few steps.
QUICK = {
    "loss_value": lambda p: p.loss_value(matrix(p)),
    "value_and_gradient": lambda p: p.value_and_gradient(matrix(p)),
    "gradient_descent": lambda p: mf.gradient_descent(p, start(p), lr=rate(p) / 100, max_iters=50),
    "gradient_descent diverging": lambda p: mf.gradient_descent(
        p, start(p), lr=rate(p), max_iters=50
    ),
    "gradient_descent of layers": lambda p: mf.gradient_descent(
        p, start(p, 3), lr=1.0, max_iters=50
    ),
    "gradient_descent from a start in other units": lambda p: mf.gradient_descent(
        p, mf.small_init(p.shape, rng=0), lr=1e-2, max_iters=50
    ),
    "gradient_descent of W": lambda p: mf.gradient_descent(p, (matrix(p),), lr=100.0, max_iters=50),
    "hessian": lambda p: mf.hessian(p, start(p)),
    "escape_direction": lambda p: mf.escape_direction(p, start(p)),
    "escape_direction from zero": lambda p: mf.escape_direction(p, zeros(p)),
    "critical_point_kind": lambda p: mf.critical_point_kind(p, start(p)),
    "critical_point_kind of zero": lambda p: mf.critical_point_kind(p, zeros(p)),
    "relative_gradient": lambda p: mf.relative_gradient(p, start(p)),
    "disconnected_limit": lambda p: mf.disconnected_limit(p, start(p)),
    "dual_bound": lambda p: mf.dual_bound(p, p.adjoint(p.targets)),
    "rank_one_matrix_pursuit": lambda p: mf.rank_one_matrix_pursuit(p, 2),
    "geco": lambda p: mf.geco(p, 2),
    "alternating_least_squares": lambda p: mf.alternating_least_squares(p, 1, max_sweeps=50),
    "measures": lambda p: (
        mf.nuclear_norm(matrix(p)),
        mf.effective_rank(matrix(p)),
        mf.numerical_rank(matrix(p)),
        mf.low_rankness(matrix(p), 1),
        mf.reconstruction_error(matrix(p), 2 * matrix(p)),
    ),
    "InvariantManifold": lambda p: mf.InvariantManifold(matrix(p)[:1]).distance(start(p)),
    "min_rank": lambda p: mf.min_rank(p, starts=2),
    "min_nuclear_norm": lambda p: mf.min_nuclear_norm(p),
    "text": lambda p: (p._repr_latex_(), mf.MatrixCompletion.from_text(repr(p).split("'")[1])),
}

FEW = {"max_steps": 20}
# What follows a flow.
FLOWS = {
    "gradient_flow": lambda p: mf.gradient_flow(p, start(p), log10_scale=-3, max_steps=100),
    "gradient_flow from a start in other units": lambda p: mf.gradient_flow(
        p, mf.small_init(p.shape, rng=0), log10_scale=-30, max_steps=100
    ),
    "gradient_flow of width 1": lambda p: mf.gradient_flow(
        p, start(p, 2, 1), log10_scale=-3, max_steps=100
    ),
    "gradient_flow of many columns": lambda p: mf.gradient_flow(
        p, start(p, 2, sum(p.shape) + 1), log10_scale=-3, max_steps=100
    ),
    "gradient_flow of layers": lambda p: mf.gradient_flow(p, start(p, 3), log10_scale=-2, **FEW),
    "gradient_flow of layers in other units": lambda p: mf.gradient_flow(
        p, mf.small_init(p.shape, depth=3, rng=0), log10_scale=-100, **FEW
    ),
    "gradient_flow of layers of width 1": lambda p: mf.gradient_flow(
        p, start(p, 4, 1), log10_scale=-1, **FEW
    ),
    "gradient_flow of wide layers": lambda p: mf.gradient_flow(
        p, start(p, 3, sum(p.shape) + 1), log10_scale=-1, **FEW
    ),
    "taylor_flow": lambda p: mf.taylor_flow(p, start(p), log10_scale=-1, times=[0.1 / size(p)]),
    "end_to_end_flow of W": lambda p: mf.end_to_end_flow(p, matrix(p), depth=1, **FEW),
    "end_to_end_flow, depth 3/2": lambda p: mf.end_to_end_flow(p, matrix(p), depth=1.5, **FEW),
    "end_to_end_flow, depth 3": lambda p: mf.end_to_end_flow(p, matrix(p), depth=3, **FEW),
    "end_to_end_flow, depth inf": lambda p: mf.end_to_end_flow(p, matrix(p), depth=np.inf, **FEW),
    "end_to_end_flow in other units": lambda p: mf.end_to_end_flow(
        p, np.ones(p.shape), depth=3, log10_scale=-2, **FEW
    ),
    "deep_glrl": lambda p: mf.deep_glrl(p, 3, **FEW),
    "glrl": lambda p: mf.glrl(p, max_steps=100),
    "deep_limit": lambda p: mf.deep_limit(p, start(p, 3), max_steps=100),
    "deep_limit of a start in other units": lambda p: mf.deep_limit(
        p, mf.small_init(p.shape, depth=4, width=1, rng=0), max_steps=100
    ),
}


def answer_or_reason(call, problem):
    """What comes back, or None where the input is refused in words of our own."""
    try:
        return call(problem)
    except (TypeError, ValueError) as error:
        # NumPy's LinAlgError is a ValueError.
        assert type(error) in (TypeError, ValueError), repr(error)
        said = str(error)
        assert len(said) > 40 and any(sign in said for sign in ";:,"), said
        assert "array must not contain" not in said
        return None


def numbers(found):
    """All numbers that an answer holds."""
    if isinstance(found, float | np.floating):
        yield np.asarray(found)
    elif isinstance(found, np.ndarray) and found.dtype.kind == "f":
        yield found
    elif isinstance(found, tuple | list):
        for part in found:
            yield from numbers(part)
    elif hasattr(found, "__dataclass_fields__") and not isinstance(found, mf.MatrixCompletion):
        for name in found.__dataclass_fields__:
            yield from numbers(getattr(found, name))


def look_at(found):
    """Read all that a result offers, and find no nan but where a run says that it diverged."""
    if isinstance(found, mf.Trajectory):
        end = float(found.t[-1])
        found.W_at(end / 2 if np.isfinite(end) else 1.0)
        if found.dense_factors is not None:
            found.factors_at(0.0)
        for phase in found.phases:
            assert np.isfinite(phase.W).all() or found.reason == "diverged"
        assert not np.isnan(found.singular_values).any()
        assert np.isfinite(found.loss[0])
    assert repr(found)
    if getattr(found, "reason", "") != "diverged":
        assert not any(np.isnan(some).any() for some in numbers(found))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("call", QUICK)
def test_every_name_answers_or_says_why(call, name):
    look_at(answer_or_reason(QUICK[call], mf.MatrixCompletion.from_array(PROBLEMS[name])))


# Flows take seconds: shapes in the unit 1, units for one shape, and what mixes them.
FOLLOWED = [
    name
    for name in PROBLEMS
    if name.endswith(", 1") or name.startswith("two components") or name.startswith("mixed")
]


@pytest.mark.slow
@pytest.mark.parametrize("call", FLOWS)
def test_every_flow_answers_or_says_why(call):
    for name in FOLLOWED:
        look_at(answer_or_reason(FLOWS[call], mf.MatrixCompletion.from_array(PROBLEMS[name])))


KINDS = {
    "integers": lambda x: np.asarray(x).astype(np.int64),
    "float32": lambda x: np.asarray(x).astype(np.float32),
    "Fortran": np.asfortranarray,
    "read-only": lambda x: np.broadcast_to(x, np.shape(x)),
    "reversed": lambda x: np.ascontiguousarray(np.asarray(x)[::-1])[::-1],
    "masked": np.ma.array,
    "list": lambda x: np.asarray(x).tolist(),
}
VALUES = np.array([[1.0, 2, 5], [3, 6, 4], [2, 4, 7]])
MASK = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=bool)
STARTS = tuple(
    np.array(some, dtype=float)
    for some in (
        [[1, 0, 2], [0, 1, 1], [1, 1, 0]],
        [[2, 1, 0], [0, 1, 1], [1, 0, 1]],
        [[1, 1, 0], [0, 2, 1], [1, 0, 1]],
    )
)
OF_ARRAYS = {
    "gradient_flow": lambda p, f: mf.gradient_flow(p, f[:2], log10_scale=-2, max_steps=50).W,
    "gradient_flow of layers": lambda p, f: mf.gradient_flow(p, f, log10_scale=-1, max_steps=20).W,
    "gradient_descent": lambda p, f: mf.gradient_descent(p, f[:2], lr=1e-3, max_iters=20).W,
    "gradient_descent of layers": lambda p, f: mf.gradient_descent(p, f, lr=1e-3, max_iters=9).W,
    "end_to_end_flow": lambda p, f: mf.end_to_end_flow(p, f[0], depth=3, max_steps=9).W,
    "taylor_flow": lambda p, f: mf.taylor_flow(p, f[:2], log10_scale=-1, times=[0.1]),
    "deep_limit": lambda p, f: mf.deep_limit(p, f, max_steps=30).W,
    "relative_gradient": lambda p, f: mf.relative_gradient(p, f),
    "hessian": lambda p, f: mf.hessian(p, f[:2], tol=np.inf),
    "escape_direction": lambda p, f: mf.escape_direction(p, f[:2], tol=np.inf).rate,
    "loss_value": lambda p, f: p.loss_value(f[0]),
    "InvariantManifold": lambda p, f: mf.InvariantManifold(f[0][:1]).distance(f[:2]),
    "nuclear_norm": lambda p, f: mf.nuclear_norm(f[0]),
    "reconstruction_error": lambda p, f: mf.reconstruction_error(f[0], f[1]),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", OF_ARRAYS)
def test_it_does_not_matter_how_numbers_are_stored(call, kind):
    def stored(array):
        return KINDS[kind](array)

    usual = OF_ARRAYS[call](mf.MatrixCompletion(VALUES, MASK), STARTS)
    values, mask = stored(VALUES), MASK.tolist() if kind == "list" else MASK.copy(order="F")
    factors = tuple(map(stored, STARTS))
    before = [np.array(factor) for factor in factors]
    found = OF_ARRAYS[call](mf.MatrixCompletion(values, mask), factors)
    assert np.array_equal(found, usual)
    for one, other in zip(before, factors, strict=True):  # nothing was written there
        assert np.array_equal(one, np.array(other))


@pytest.mark.slow
@pytest.mark.parametrize("c", [1e-140, 1e140])
@pytest.mark.parametrize("depth", [1, 2, 2.5, 3, np.inf])
def test_the_flow_of_W_does_not_depend_on_the_unit(depth, c):
    M, W0 = np.array([[1.0, 2], [3, NAN]]), np.array([[1.0, 0.5], [0.25, 1]])
    one, other = (
        mf.end_to_end_flow(
            mf.MatrixCompletion.from_array(unit * M), unit * W0, depth=depth, log10_scale=-1
        )
        for unit in (1.0, c)
    )
    assert other.reason == one.reason == "loss reached"
    assert np.abs(other.W / c - one.W).max() < 2e-5 * 6
    assert np.log10(other.t[-1]) + (2 - 2 / depth) * np.log10(c) == pytest.approx(
        np.log10(one.t[-1]), abs=1e-3
    )
    assert other.loss[0] / c**2 == pytest.approx(one.loss[0], rel=1e-12)
    middle = one.t[-1] / 2
    scaled = other.W_at(float(other.t[-1]) * (middle / one.t[-1]))
    assert np.abs(scaled / c - one.W_at(middle)).max() < 1e-4 * 6
    for layer, usual in zip(other.factors, one.factors, strict=True):
        assert np.linalg.norm(layer) / c ** (1 / depth) == pytest.approx(
            np.linalg.norm(usual), rel=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("c", [1e-150, 1e150])
def test_deep_greedy_learning_does_not_depend_on_the_unit(c):
    M = np.array(SHAPES["two components"])
    one, other = (mf.deep_glrl(mf.MatrixCompletion.from_array(unit * M), 3) for unit in (1.0, c))
    assert (other.ranks, other.reason) == (one.ranks, one.reason)
    assert np.abs(other.W / c - one.W).max() < 1e-4 * 10


@pytest.mark.parametrize(
    "learn",
    [
        mf.glrl,
        pytest.param(lambda p, **kept: mf.deep_glrl(p, 3, **kept), marks=pytest.mark.slow),
    ],
)
def test_what_is_appended_has_a_size(learn):
    problem = mf.examples.M4
    for eps in (1e51, 1e300):
        with pytest.raises(ValueError, match="eps must be at most 1e"):
            learn(problem, eps=eps)
    with pytest.raises(ValueError, match=r"plateau of this start lasts about .* larger eps"):
        mf.deep_glrl(problem, 100, eps=1e-300)
    assert learn(problem, eps=1e-100).converged


@pytest.mark.slow
def test_starts_of_any_size_are_followed():
    """Directions of size c at the scale α/c are the start of size α."""
    problem, layers = mf.examples.M4, mf.small_init((2, 2), depth=3, rng=0)
    usual = mf.gradient_flow(problem, layers, log10_scale=-20)
    limit = mf.deep_limit(problem, layers)
    for c in (1e-300, 1e-60, 1e60, 1e300):
        other = tuple(c * layer for layer in layers)
        run = mf.gradient_flow(problem, other, log10_scale=-20 - np.log10(c))
        assert np.abs(run.W - usual.W).max() < 1e-4
        if abs(np.log10(c)) < 150:
            there = mf.deep_limit(problem, other)
            assert np.abs(there.W - limit.W).max() < 1e-4
            assert np.allclose(np.multiply(there.waiting_times, c), limit.waiting_times, rtol=1e-5)
    with pytest.raises(ValueError, match="waiting times follow"):
        mf.deep_limit(problem, other)
    with pytest.raises(ValueError, match=r"sizes at most 1e.100 apart"):
        mf.gradient_flow(problem, (layers[0], 1e-200 * layers[1], layers[2]))
    with pytest.raises(ValueError, match=r"log10_scale must be at least -1e.09"):
        mf.gradient_flow(problem, layers, log10_scale=-1e10)


def test_a_loss_beyond_all_numbers_is_inf_and_no_nan():
    sensing = mf.MatrixSensing([[[1, -1], [0, 0]], [[0, 0], [0, 1]]], [1.0, 2.0])
    large = 1.7e308
    assert sensing.loss_value([[large, large], [0, 0]]) == 2.5
    W = np.array([[large, -large], [0, 0]])
    assert sensing.loss_value(W) == np.inf
    assert sensing.gradient(W).tolist() == [[np.inf, -np.inf], [0.0, -2.0]]
    assert np.isinf(sensing.loss_value(np.stack([W, np.eye(2)]))).tolist() == [True, False]
    problem = mf.MatrixCompletion.from_text("-1.7e308 2; 3 ?")
    value, gradient = problem.value_and_gradient([[large, 0], [0, 0]])
    assert value == np.inf and np.isinf(gradient[0, 0]) and np.isfinite(gradient[1]).all()
    start = (np.full((2, 2), 1e100),) * 2
    with pytest.raises(ValueError, match="loss in double precision"):
        mf.gradient_descent(mf.examples.M4, start, lr=0.1)


@pytest.mark.parametrize("text", ["1e-100 ?", "1e100 ?", "0 ?", "0 0; 0 ?", "5", "1e-300 ?"])
@pytest.mark.parametrize("kind", ["depth", "matrix", "time", "greedy"])
def test_explorers_answer_or_say_why(kind, text):
    answer_or_reason(getattr(mf.widgets, kind), text)


# Limits at which nothing happens at all.
AT_ONCE = {
    "gradient_flow": lambda **o: mf.gradient_flow(
        mf.examples.M4, mf.small_init((2, 2), rng=0), **o
    ),
    "gradient_flow of layers": lambda **o: mf.gradient_flow(
        mf.examples.M4, mf.small_init((2, 2), depth=3, rng=0), **o
    ),
    "end_to_end_flow": lambda **o: mf.end_to_end_flow(mf.examples.M4, np.eye(2), depth=3, **o),
}


@pytest.mark.parametrize("options", [{"max_steps": 0}, {"t_max": 0}, {"t_max": 5e-324}])
@pytest.mark.parametrize("call", AT_ONCE)
def test_a_run_of_no_length_is_a_run(call, options):
    run = AT_ONCE[call](**options)
    look_at(run)
    assert not run.converged and run.reason in ("step limit", "time limit")


def test_a_process_of_no_steps_stays_at_zero():
    limit = mf.deep_limit(mf.examples.M4, mf.small_init((2, 2), depth=3, rng=0), max_steps=0)
    assert limit.reason == "step limit" and limit.ranks == (0,)
