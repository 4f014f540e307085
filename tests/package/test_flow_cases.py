"""Degenerate problems, limits, refusals, interruption."""

import io
import signal
import sys
import threading

import numpy as np
import pytest

from mfbook.flow import gradient_flow, progress, trajectory
from mfbook.flow.shallow.composite import Composite
from mfbook.models import small_init
from mfbook.problems import MatrixCompletion, MatrixSensing, examples
from tests.package.given import full


@pytest.mark.parametrize("log10_scale", [-5, -500])
def test_equal_singular_values(log10_scale):
    result = gradient_flow(
        full(3 * np.eye(3), loss="half"), small_init((3, 3), rng=0), log10_scale=log10_scale
    )
    assert result.converged
    # A loss of 1e-10 f(0) bounds every residual by 1e-5 of the norm of the data.
    assert np.abs(result.W - 3 * np.eye(3)).max() < 1.01e-5 * np.sqrt(27)


def test_equal_blocks_have_the_angle_of_their_starts():
    """Two components [2], [2]: W_12 = 2 cos∠(c_1, c_2), c_p = A_p + B_pᵀ."""
    A, B = small_init((2, 2), rng=4)
    problem = MatrixCompletion.from_text("2 ?; ? 2")
    c = A + B.T
    cosine = c[0] @ c[1] / np.linalg.norm(c[0]) / np.linalg.norm(c[1])
    result = gradient_flow(problem, (A, B), log10_scale=-1000, loss_tol=1e-16)
    assert result.W[0, 1] == pytest.approx(2 * cosine, abs=1e-6)


def test_observed_zeros():
    result = gradient_flow(examples.talk_observed_zero, small_init((2, 2), rng=0), log10_scale=-300)
    assert result.converged
    assert np.abs(result.W - [[0, 1], [2, 0]]).max() < 1e-4
    assert [phase.rank for phase in result.phases] == [0, 1, 2]


def test_zero_data_contract_to_zero():
    """∇f(0) = 0: zero is a minimum, reached as 1/t from a start that is not small."""
    factors = small_init((2, 2), rng=0)
    result = gradient_flow(full(np.zeros((2, 2)), loss="half"), factors, loss_tol=1e-8)
    assert result.converged
    assert np.abs(result.W).max() < 2e-4
    # Without data the start sets the scale, and its size does not matter.
    tiny = gradient_flow(
        full(np.zeros((2, 2)), loss="half"), factors, log10_scale=-100, loss_tol=1e-8
    )
    assert tiny.converged
    assert tiny.n_steps == result.n_steps
    assert tiny.t[-1] * 1e-200 == pytest.approx(result.t[-1], rel=1e-5)


def test_a_zero_row_that_decays_among_rows_that_grow():
    """An observed zero row shrinks while its neighbour is learned; nothing is lost by rounding."""
    problem = full([[4.0, 0.0], [0.0, 0.0]], loss="half")
    result = gradient_flow(problem, small_init((2, 2), rng=1), loss_tol=1e-9)
    assert result.converged


@pytest.mark.parametrize(("m", "n", "width"), [(1, 1, 1), (1, 4, 2), (5, 2, 7), (3, 3, 1)])
def test_any_shape_and_width(m, n, width):
    M = np.outer(np.arange(1.0, m + 1), np.ones(n))
    factors = small_init((m, n), rng=0, width=width)
    result = gradient_flow(full(M, loss="half"), factors, log10_scale=-20)
    assert result.converged
    assert result.factors[0].shape == (m, width)
    assert np.abs(result.factors[0] @ result.factors[1] - result.W).max() < 1e-12
    assert np.abs(result.W - M).max() < 1.01e-5 * np.linalg.norm(M)


def test_a_width_below_the_rank_stops_at_a_critical_point():
    result = gradient_flow(
        full(np.diag([3.0, 1.0]), loss="half"), small_init((2, 2), width=1, rng=0), log10_scale=-50
    )
    assert not result.converged
    assert result.reason == trajectory.STUCK
    # The best approximation of rank 1 (Eckart–Young).
    assert np.abs(result.W - np.diag([3.0, 0.0])).max() < 1e-6


def test_a_start_inside_omega_k_stays_there():
    """A rank-one start in a wide hidden space never reaches rank two."""
    u = np.array([[1.0, 2.0, -1.0]])
    A, B = np.array([[1.0], [0.3]]) @ u, u.T @ np.array([[0.5, 1.0]])
    result = gradient_flow(full(np.diag([3.0, 1.0]), loss="half"), (A, B), log10_scale=-3)
    assert result.reason == trajectory.STUCK
    assert result.singular_values[-1, 1] == pytest.approx(0, abs=1e-14)


def test_a_start_inside_little_omega_k_stays_there():
    """Disconnected data, rank one in each component but rank two together: each stays at one."""
    values = np.zeros((4, 4))
    values[:2, :2], values[2:, 2:] = np.diag([3.0, 1.0]), np.diag([2.0, 1.0])
    mask = np.kron(np.eye(2), np.ones((2, 2))) > 0
    A = np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    B = np.array([[2.0, 1, 0, 0], [0, 0, 1, 1]])
    result = gradient_flow(MatrixCompletion(values, mask), (A, B), log10_scale=-20)
    assert result.reason == trajectory.STUCK
    assert np.abs(result.W - np.diag([3.0, 0, 2.0, 0])).max() < 1e-6


def test_a_start_of_graded_columns_keeps_the_small_one():
    """Hidden columns of sizes 1e-5 and 1e-45: the second is learned at its own late time."""
    A, B = np.diag([1e-5, 1e-45]), np.diag([1e-5, 1e-45])
    result = gradient_flow(full(np.diag([2.0, 1.0]), loss="half"), (A, B), loss_tol=1e-14)
    later = np.log(1e90) / 2
    assert result.W_at(later)[1, 1] == pytest.approx(0.5, abs=1e-5)


def test_unobserved_rows_and_columns_stay():
    A, B = small_init((3, 3), rng=0)
    problem = MatrixCompletion.from_text("1 2 ?; 3 ? ?; ? ? ?")
    result = gradient_flow(problem, (A, B), log10_scale=-5)
    assert np.allclose(result.factors[0][2], 1e-5 * A[2], rtol=1e-15)
    assert np.allclose(result.factors[1][:, 2], 1e-5 * B[:, 2], rtol=1e-15)
    assert np.allclose(result.W[2], result.factors[0][2] @ result.factors[1])


def test_large_starts():
    result = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=2)
    assert result.converged


def test_phases_name_the_saddles_and_the_way_out():
    """Full observation: rests at the truncated SVDs, leaving along the next singular vectors."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    sizes = np.array([5.0, 2.0, 0.7])
    M = U @ np.diag(sizes) @ V.T
    result = gradient_flow(full(M, loss="half"), small_init((3, 3), rng=1), log10_scale=-200)
    assert [phase.rank for phase in result.phases] == [0, 1, 2, 3]
    for k, phase in enumerate(result.phases[:-1]):
        best = U[:, :k] @ np.diag(sizes[:k]) @ V[:, :k].T
        assert np.abs(phase.W - best).max() < 1e-6
        assert phase.rate == pytest.approx(sizes[k], abs=1e-6)
        u, v = phase.direction
        assert abs(u @ U[:, k]) == pytest.approx(1, abs=1e-6)
        assert abs(v @ V[:, k]) == pytest.approx(1, abs=1e-6)
        assert np.outer(u, v).ravel() @ np.outer(U[:, k], V[:, k]).ravel() > 0
    assert result.phases[-1].rate is None


def test_limits_are_reported():
    problem, factors = examples.M4, small_init((2, 2), rng=0)
    late = gradient_flow(problem, factors, log10_scale=-3, t_max=1.0)
    assert (late.converged, late.reason, late.t[-1]) == (False, trajectory.TIME_LIMIT, 1.0)
    few = gradient_flow(problem, factors, log10_scale=-3, max_steps=7)
    assert (few.converged, few.reason, few.n_steps) == (False, trajectory.STEP_LIMIT, 7)
    assert "t_max" in late.advice
    assert "max_steps" in few.advice
    assert gradient_flow(problem, factors, log10_scale=-3).advice == ""
    none = gradient_flow(problem, factors, log10_scale=-3, t_max=0.0)
    assert none.t.tolist() == [0.0]
    with pytest.raises(ValueError, match="must lie in"):
        late.W_at(2.0)


def test_counts_of_work():
    """Gradient descent needs some 20,000 gradients here at its largest stable step."""
    result = gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=-8)
    assert result.n_gradients < 700
    assert result.n_steps == len(result.t) - 1


@pytest.mark.parametrize("scale", [-np.inf, np.inf, np.nan])
def test_a_scale_that_is_no_start_is_refused(scale):
    with pytest.raises(ValueError, match="log10_scale must be finite"):
        gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=scale)


@pytest.mark.parametrize(
    ("factors", "options", "error", "says"),
    [
        ((np.zeros((2, 2)), np.zeros((2, 2))), {}, ValueError, "zero is a critical point"),
        ((np.ones((2, 0)), np.ones((0, 2))), {}, ValueError, "width must be at least 1"),
        ((np.ones((2, 2)), np.full((2, 2), np.inf)), {}, ValueError, "finite"),
        ((np.ones((2, 2)), np.full((2, 2), np.nan)), {}, ValueError, "finite"),
        ((np.ones((2, 3)), np.ones((2, 2))), {}, ValueError, "multiply to the problem's shape"),
        ((np.ones((2, 2)),), {}, ValueError, "two factors"),
        ((np.ones((5, 2, 2)),) * 2, {"log10_scale": [1.0, 2.0]}, ValueError, "leading axes"),
        ((1j * np.ones((2, 2)),) * 2, {}, TypeError, "real"),
        (np.ones((2, 2, 2)), {}, TypeError, "tuple"),
        ((np.ones((2, 2)),) * 2, {"log10_scale": 60}, ValueError, "double precision"),
        ((np.ones((2, 2)),) * 2, {"rtol": 1e-15}, ValueError, "rtol"),
        ((np.ones((2, 2)),) * 2, {"rtol": np.nan}, ValueError, "rtol"),
        ((np.ones((2, 2)),) * 2, {"loss_tol": -1}, ValueError, "loss_tol"),
        ((np.ones((2, 2)),) * 2, {"t_max": np.nan}, ValueError, "t_max"),
        ((np.ones((2, 2)),) * 2, {"max_steps": -1}, ValueError, "max_steps"),
    ],
)
def test_bad_input_is_refused(factors, options, error, says):
    with pytest.raises(error, match=says):
        gradient_flow(examples.M4, factors, **options)


def test_a_problem_of_another_kind_is_refused():
    class Other:
        shape = (2, 2)

    with pytest.raises(TypeError, match="MatrixCompletion or a MatrixSensing"):
        gradient_flow(Other(), (np.ones((2, 2)),) * 2)


def test_a_long_run_shows_its_progress(monkeypatch):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=-3)
    assert screen.getvalue() == ""  # not a terminal
    gradient_flow(examples.M4, small_init((2, 2), rng=0), log10_scale=-3, progress=True)
    assert "steps" in screen.getvalue()
    assert screen.getvalue().endswith("\r\033[K")


def test_an_interrupt_returns_what_there_is(monkeypatch):
    steps = []

    def interrupt(self, composite):
        steps.append(1)
        if len(steps) == 20:
            signal.raise_signal(signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    # A shell starts what it runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(progress.Progress, "update", interrupt)
    try:
        result = gradient_flow(examples.disconnected_3x3, small_init((3, 3), rng=0), log10_scale=-8)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.reason == trajectory.INTERRUPTED
    assert not result.converged
    assert 0 < result.n_steps <= 20
    assert np.all(np.isfinite(result.W))


def test_one_measurement_of_the_trace():
    result = gradient_flow(
        MatrixSensing([np.eye(3)], [3.0]), small_init((3, 3), rng=0), log10_scale=-50
    )
    assert result.converged
    assert np.trace(result.W) == pytest.approx(3, abs=1e-4)


def test_every_reason_but_success_comes_with_advice():
    reasons = {
        value
        for name, value in vars(trajectory).items()
        if name.isupper() and isinstance(value, str)
    }
    assert set(trajectory.ADVICE) == reasons - {trajectory.LOSS_REACHED}


@pytest.mark.parametrize("log10_scale", [-2, -200, -1000])
@pytest.mark.parametrize("text", ["0 0 ?; 0 ? ?; ? ? 5", "0 0 ?; 0 ? ?; ? ? ?"])
def test_a_part_that_is_fitted_from_the_start(text, log10_scale):
    """Zeros are fitted by what is so small that its square is 0; the other part still learns."""
    problem = MatrixCompletion.from_text(text)
    run = gradient_flow(problem, small_init((3, 3), rng=0), log10_scale=log10_scale)
    assert run.converged
    assert problem.loss_value(run.W) <= 1e-9


def test_a_measurement_that_sees_nothing():
    """Nothing depends on W: it stays, and the loss is the least there is."""
    problem = MatrixSensing(np.zeros((1, 2, 2)), [3.0])
    run = gradient_flow(problem, (np.eye(2), np.eye(2)))
    assert run.converged
    assert run.W == pytest.approx(np.eye(2))
    assert run.loss == pytest.approx([4.5])


@pytest.mark.parametrize("text", ["2", "2 1; 1 2", "1 ?; ? 2"])
def test_parts_that_are_fitted_make_a_run_that_is(text, monkeypatch):
    """The loss of the whole is computed anew, and may be above its tolerance by rounding."""
    problem = MatrixCompletion.from_text(text)
    plain = Composite.excess
    monkeypatch.setattr(Composite, "excess", lambda self, columns: plain(self, columns) + 1e-20)
    run = gradient_flow(problem, (np.eye(len(problem.mask)),) * 2, log10_scale=-1, loss_tol=0)
    assert run.reason == trajectory.LOSS_REACHED and run.converged
    assert problem.loss_value(run.W) < 1e-29
