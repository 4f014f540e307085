"""Many runs of the flow at once: each as if it had run alone."""

import pickle

import numpy as np
import pytest

from mfbook.flow import gradient_flow
from mfbook.models import small_init
from mfbook.problems import examples


def assert_same(one, other):
    assert (one.t == other.t).all()
    assert (one.loss == other.loss).all()
    assert (one.W == other.W).all()
    assert (one.singular_values == other.singular_values).all()
    assert (one.converged, one.reason, one.n_steps) == (
        other.converged,
        other.reason,
        other.n_steps,
    )
    assert [phase.rank for phase in one.phases] == [phase.rank for phase in other.phases]


@pytest.mark.slow
@pytest.mark.parametrize("problem", [examples.M4, examples.disconnected_3x3])
def test_a_batch_of_seeds_and_scales(problem):
    A, B = small_init(problem.shape, rng=0, batch=3)
    scales = np.array([[-2.0], [-50.0]])
    batch = gradient_flow(problem, (A, B), log10_scale=scales)
    assert batch.converged.shape == batch.reason.shape == (2, 3)
    assert batch.converged.all()
    longest = batch.n_steps.max() + 1
    assert batch.t.shape == batch.loss.shape == (longest, 2, 3)
    assert batch.singular_values.shape == (longest, 2, 3, min(problem.shape))
    assert batch.W.shape == (2, 3, *problem.shape)
    assert [factor.shape[:2] for factor in batch.factors] == [(2, 3)] * 2
    assert batch.phases == ()
    for k in np.ndindex(2, 3):
        alone = gradient_flow(problem, (A[k[1]], B[k[1]]), log10_scale=float(scales[k[0], 0]))
        assert_same(batch[k], alone)
        assert (batch.W[k] == alone.W).all()
        assert batch.loss[-1][k] == alone.loss[-1]
        t = 0.4 * alone.t[-1]
        assert (batch.W_at(t)[k] == alone.W_at(t)).all()
        assert (batch.factors_at(t)[0][k] == alone.factors_at(t)[0]).all()
    later = batch.t.max()
    assert np.abs(batch.W_at(later) - batch.W).max() < 1e-12


def test_scales_alone_make_a_batch():
    batch = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=[-1, -10, -100])
    assert batch.W.shape == (3, 2, 2)
    assert_same(batch[2], gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=-100.0))


def test_batches_can_be_pickled():
    batch = gradient_flow(examples.M4, small_init((2, 2), rng=0, batch=2), log10_scale=-5)
    again = pickle.loads(pickle.dumps(batch))
    assert_same(again[1], batch[1])


def test_a_zero_start_in_a_batch_is_refused():
    A, B = small_init((2, 2), rng=0, batch=2)
    A[1], B[1] = 0.0, 0.0
    with pytest.raises(ValueError, match="zero is a critical point"):
        gradient_flow(examples.M4, (A, B))


def test_readings_are_computed_when_they_are_asked_for(monkeypatch):
    from mfbook.flow.shallow.composite import Composite

    calls = []
    plain = Composite.singular_values

    def counted(self, columns):
        calls.append(1)
        return plain(self, columns)

    monkeypatch.setattr(Composite, "singular_values", counted)
    run = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=-30)
    assert not calls
    assert run.singular_values is run.singular_values
    assert len(calls) == len(run.t)


def test_a_run_is_the_only_one_of_itself():
    run = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=-5)
    assert run[()] is run
    with pytest.raises(IndexError, match="0 leading axes, but the index has 1"):
        run[0]


def test_a_batch_says_how_many_of_its_runs_converged():
    start = small_init((2, 2), rng=0)
    batch = gradient_flow(examples.M4, start, log10_scale=[-1, -100], t_max=50.0)
    assert batch.converged.tolist() == [True, False]
    assert repr(batch) == "Trajectory(<2 runs, 1 converged>)"
    with pytest.raises(ValueError, match=r"take one, trajectory\[k\]"):
        _ = batch.advice
    assert batch[0].advice == "" and "raise t_max" in batch[1].advice


def test_the_sizes_of_columns_are_those_of_one_run():
    batch = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=[-3, -30])
    assert batch.log10_columns is None
    assert [batch[k].log10_columns[0, 0] for k in range(2)] == pytest.approx([-3, -30], abs=0.5)


def test_a_run_beyond_all_numbers_ends_at_a_power_of_ten():
    start = small_init((2, 2), depth=3, rng=0)
    run = gradient_flow(examples.M4, start, log10_scale=-1000)
    assert run.t[-1] == np.inf
    # A factor of three grows from α within a time of order 1/α.
    assert 997 < run.phases[-1].log10_time < 1000
    assert f"t = 10^{run.phases[-1].log10_time:.2f}, " in repr(run)
