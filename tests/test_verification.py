"""The checker of other people's dynamics: it passes what is right, and names what is wrong."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.dynamics.oscillator import OrnsteinUhlenbeck
from lanpaint.verification import (
    MEAN,
    PRECISION,
    NotAffineError,
    affine_step,
    gaussian_drift,
    measured_order,
    spectral_radius,
    verify,
)
from lanpaint.verification.rare_modes import ALPHA, SIGMA, Share, mixture_drift, rare_shares
from lanpaint.verification.report import Report

RIGHT = {
    "Langevin": (lp.Langevin(), 1),
    "FLD": (lp.FastLangevin(2.0), 2),
    "FLD, order 1": (lp.FastLangevin(2.0, order=1), 1),
    "OU": (lp.FastLangevin(math.inf), 2),
    "HFHR": (lp.HFHR(2.0), 2),
    "BAOAB": (lp.Underdamped(), math.inf),
    "OBABO": (lp.Underdamped(scheme="OBABO"), 2),
    "UBU": (lp.Underdamped(scheme="UBU"), 2),
    "preconditioned": (lp.Preconditioned(lp.FastLangevin(), 0.5), 2),
}


@pytest.mark.parametrize(("dynamics", "order"), RIGHT.values(), ids=RIGHT)
def test_every_dynamics_of_the_library_passes(dynamics, order):
    report = verify(dynamics)
    assert report.passed, report
    assert report.evaluations == 1
    assert report.bias_order > min(order, 9) - 0.2
    assert set(report.radii) == {1, 10, 100}
    text = str(report)
    assert text.startswith(f"{type(dynamics).__name__}: all well\n")
    assert ("exact at any step" in text) == math.isinf(order)


@pytest.mark.parametrize("dynamics", [lp.MALA(), lp.Metropolis(lp.FastLangevin(math.inf, order=1))])
def test_a_step_that_accepts_and_rejects_is_measured_by_sampling(dynamics):
    report = verify(dynamics)
    assert report.passed, report
    assert not report.affine
    variance, error = report.sampled
    assert abs(variance - 1) < 5 * error
    assert "by sampling" in str(report)


class Plain(lp.Dynamics):
    """Euler–Maruyama with something wrong in it."""

    heat = 2.0  # variance of the noise, in units of the step

    def step(self, state, drift, noise):
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        return lp.State(x + step * drift(x) + (self.heat * step).sqrt() * noise(x))


class Cold(Plain):
    heat = 1.0


class Off(Plain):
    def step(self, state, drift, noise):
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        return lp.State(x + step * (drift(x) + 0.05) + (2 * step).sqrt() * noise(x))


class Scaled(Plain):
    def step(self, state, drift, noise):
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        return lp.State(x + 0.9 * step * drift(x) + (2 * step).sqrt() * noise(x))


class GlobalNoise(Plain):
    def step(self, state, drift, noise):
        return super().step(state, drift, torch.randn_like)


class InPlace(Plain):
    def step(self, state, drift, noise):
        state.x.copy_(super().step(state, drift, noise).x)
        return state


class Still(Plain):
    def step(self, state, drift, noise):
        drift(state.x)
        return state


class Blind(Plain):
    def step(self, state, drift, noise):
        return super().step(state, lp.Drift(lambda x: -x, drift.damping, drift.time_step, drift.known), noise)


class Doubled(Plain):
    def step(self, state, drift, noise):
        return lp.State(super().step(state, drift, noise).x.double())


class Overflowing(Plain):
    """What moves without a known entry does so through a number that float16 does not hold."""

    def step(self, state, drift, noise):
        new = super().step(state, drift, noise).x
        return lp.State(new if drift.known is not None else state.x + (new - state.x) * 1e8 / 1e8)


class Restless(Plain):
    """Moves entries whose step is 0."""

    def step(self, state, drift, noise):
        step = drift.time_step.max()
        x = state.x
        return lp.State(x + step.to(x.dtype) * drift(x) + (2 * step).sqrt().to(x.dtype) * noise(x))


class Backwards(Plain):
    def step(self, state, drift, noise):
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        return lp.State(x - step * drift(x) + (2 * step).sqrt() * noise(x))


class ColdWhereKnown(Plain):
    """The noise of the unknown part's time step, for all entries."""

    def step(self, state, drift, noise):
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        heat = step if drift.known is None else drift.broadcast(drift.time_step[:1].expand(2), x)
        return lp.State(x + step * drift(x) + (2 * heat * (step > 0)).sqrt() * noise(x))


class OffWhereKnown(Plain):
    def step(self, state, drift, noise):
        new = super().step(state, drift, noise).x
        if drift.known is None:
            return lp.State(new)
        return lp.State(new + 0.05 * drift.known.to(new.dtype) * drift.broadcast(drift.time_step, new))


class BackwardsWhereKnown(Plain):
    def step(self, state, drift, noise):
        if drift.known is None:
            return super().step(state, drift, noise)
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        sign = 1 - 2 * drift.known.to(x.dtype)
        return lp.State(x + sign * step * drift(x) + (2 * step).sqrt() * noise(x))


class StepByPlace(Plain):
    """A time step that shrinks where the score is large, without its correction term: it samples p/h."""

    def step(self, state, drift, noise):
        x, score = state.x, drift(state.x)
        step = drift.broadcast(drift.time_step, x) / (1 + score.square())
        return lp.State(x + step * score + (2 * step).sqrt() * noise(x))


class HotStart(lp.Underdamped):
    """Momenta of twice the right standard deviation at the start of a level."""

    def init(self, x, drift, noise):
        state = super().init(x, drift, noise)
        return replace(state, momentum=2 * state.momentum)


class ColdStart(lp.FastLangevin):
    def init(self, x, drift, noise):
        state = super().init(x, drift, noise)
        return replace(state, momentum=0 * state.momentum)


class BoldClaim(Plain):
    order = 2


class Adding(Plain):
    """Acts as if the density were Gaussian: a linear force where the score is not linear."""

    def step(self, state, drift, noise):
        x, step = state.x, drift.broadcast(drift.time_step, state.x)
        far = 1e-3
        slope = (drift(far * x) - drift(torch.zeros_like(x))) / far
        return lp.State(x + step * (drift(torch.zeros_like(x)) + slope) + (2 * step).sqrt() * noise(x))


class SlowWeak(Plain):
    """The right stationary distribution, and a speed that does not converge: √h steps."""

    def step(self, state, drift, noise):
        x = state.x
        step = drift.broadcast(drift.time_step, x).sqrt() * 0.1
        return lp.State(x + step * drift(x) + (2 * step).sqrt() * noise(x))


@dataclass(frozen=True)
class Remembering(lp.State):
    constant: torch.Tensor | None = None


class NewConstant(lp.Dynamics):
    """The trap of Strang splitting (Alg. 3): the new C in the second half, the kick carrying all of C − C₀."""

    new = True

    def step(self, state, drift, noise):
        half = OrnsteinUhlenbeck.solve(drift.damping, drift.time_step / 2).broadcast(drift, state.x)
        damping, time = drift.broadcast(drift.damping, state.x), drift.broadcast(drift.time_step, state.x)
        old = getattr(state, "constant", None)
        if old is None:
            old = drift(state.x) + damping * state.x
        x, _ = half.advance(state.x, None, old - damping * state.x, noise)
        new = drift(x) + damping * x
        x = x + time * (new - old)
        x, _ = half.advance(x, None, (new if self.new else old) - damping * x, noise)
        return Remembering(x, new)


class OldConstant(NewConstant):
    new = False


def test_plain_langevin_by_hand_is_right():
    report = verify(Plain())
    assert report.passed, report
    assert report.bias_order == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("dynamics", "told"),
    [
        (Cold(), r"does not leave p\(x\) invariant: the covariance is off by 0\.\d+"),
        (Scaled(), r"does not leave p\(x\) invariant"),
        (Off(), r"the mean of x is off by 0\.\d+"),
        (GlobalNoise(), r"draws from the global generator; take random numbers from noise\(x\)"),
        (InPlace(), "a step writes to the state that it was given"),
        (Still(), "a step does not move"),
        (Blind(), "a step does not evaluate the score"),
        (Doubled(), r"turns x of \(\), torch\.float16 into x of \(\), torch\.float64"),
        (Overflowing(), r"gives NaN or infinite values for x of torch\.float16"),
        (Restless(), "moves entries whose time step is 0|fails for x of"),
        (ColdWhereKnown(), r"does not leave p\(x\) invariant where an entry is known: the covariance is off by"),
        (OffWhereKnown(), r"the mean of x is off by 0\.\d+ where an entry is known"),
        (BackwardsWhereKnown(), r"does not converge on a Gaussian at a time step of 0\.02/A where an entry is known"),
        (StepByPlace(), r"does not leave p\(x\) invariant at a time step of 0\.8: the variance is"),
        (lp.SecantLangevin(), r"samples another distribution where p is no Gaussian: the share where x is near a rare"),
        (HotStart(), r"init does not draw from the stationary distribution: the variance of momentum is off by 3 of"),
        (HotStart(mass=4e-4), r"init does not draw from the stationary .* of momentum is off by 3 of"),  # small momenta
        (ColdStart(), r"init does not draw from the stationary distribution: the variance of momentum is off by 1 of"),
        (BoldClaim(), r"claims order 2 in the time step, but the bias of x is of order 1\.0"),
        (Adding(), r"samples another distribution where p is no Gaussian"),
        (SlowWeak(), r"does not converge as the time step goes to 0"),
        (Backwards(), r"does not converge on a Gaussian at a time step of 0\.02/A"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, lp.Dynamics) else "",
)
def test_what_is_wrong_is_named(dynamics, told):
    report = verify(dynamics)
    assert not report.passed
    assert any(re.search(told, problem) for problem in report.problems), report
    assert "problem" in str(report).splitlines()[0]


def test_a_share_is_off_beyond_five_standard_errors_and_three_percent():
    """Of the exact share: with 20,000 chains and 0.1 that is 0.0136."""
    error = math.sqrt(0.1 * 0.9 / 20_000)
    for away, off in ((0.0, False), (0.0135, False), (0.0137, True)):
        for sign in (-1, 1):
            assert Share(0.1 + sign * away, error, 0.1).is_off is off
    assert Share(math.nan, error, 0.1).is_off


def test_the_exact_shares_are_integrals_of_the_density():
    """By sums over a fine grid of x and y, whose points lie off the bounds of the events."""
    at = (torch.arange(2400, dtype=torch.float64) - 1199.5) / 200
    grid = torch.cartesian_prod(at, at[::4] + 0.0076)
    weight = mixture_drift().log_density(grid).softmax(0)
    x, y = grid.unbind(1)
    events = (x > ALPHA, x < -2 * ALPHA, y.abs() > math.hypot(ALPHA, SIGMA))
    shares = [share.exact for share in rare_shares(lp.Langevin(), chains=2).values()]
    assert shares == pytest.approx([float(weight[event].sum()) for event in events], abs=4e-3)


def test_the_trap_of_strang_splitting_shows_in_the_order_of_the_bias():
    wrong, right = verify(NewConstant()), verify(OldConstant())
    assert right.passed
    assert right.bias_order > 1.8
    assert wrong.bias_order < 1.2
    assert wrong.position_bias[0.02] > 20 * right.position_bias[0.02]


def test_the_columns_of_a_report_stand_below_their_heads():
    radii, limits = {1: (0.5, 0.25, 68.1), 100: (0.9, 0.8, 3.0)}, {1: 10.0, 100: math.inf}
    text = str(Report("X", position_bias={0.02: 1e-4}, radii=radii, limits=limits)).splitlines()
    head = next(line for line in text if line.startswith("  condition"))
    places = [head.index(name) for name in ("condition", "radius", "best", "stable")]
    for line in text[text.index(head) + 1 :]:
        assert all(line[place - 1] == " " != line[place] for place in places), line


def test_only_a_dynamics_is_verified():
    with pytest.raises(TypeError, match="verify takes an instance of a Dynamics, got <class"):
        verify(lp.Langevin)


def test_an_affine_step_is_read_off_exactly():
    """Euler–Maruyama on a Gaussian: F = 1 − hΛ, b = hΛm, N = √(2h)."""
    h = 0.2
    step = affine_step(lp.Langevin(), gaussian_drift(PRECISION, MEAN, 1.0, h), 2)
    precision = PRECISION.numpy()
    assert step.names == ("x",)
    assert np.allclose(step.linear, np.eye(2) - h * precision, atol=1e-14)
    assert np.allclose(step.offset, h * precision @ MEAN.numpy(), atol=1e-14)
    assert np.allclose(step.noise @ step.noise.T, 2 * h * np.eye(2), atol=1e-14)
    # Σ = (Λ − hΛ²/2)⁻¹: the textbook answer for Euler–Maruyama.
    assert np.allclose(step.stationary_covariance(), np.linalg.inv(precision - h / 2 * precision @ precision))
    assert np.allclose(step.stationary_mean(), MEAN.numpy())


def test_the_log_density_of_a_gaussian_drift_has_the_drift_as_its_gradient():
    drift = gaussian_drift(PRECISION, MEAN, 1.0, 0.1)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(drift.log_density(x).sum(), x)
    assert torch.allclose(gradient, drift(x), rtol=0, atol=1e-13)


def test_a_step_that_is_not_affine_says_so():
    with pytest.raises(NotAffineError, match="a step of MALA is not affine"):
        affine_step(lp.MALA(), gaussian_drift(PRECISION, MEAN, 1.0, 0.5), 2)


def test_an_unstable_step_has_no_stationary_law():
    step = affine_step(lp.Langevin(), gaussian_drift(PRECISION, MEAN, 1.0, 5.0), 2)
    assert step.spectral_radius > 1
    with pytest.raises(ValueError, match="not a contraction: its spectral radius is"):
        step.stationary_covariance()


@pytest.mark.parametrize(("condition", "step"), [(1, 0.3), (10, 0.3), (100, 1.9), (10, 2.5)])
def test_the_radius_of_langevin_is_that_of_gradient_descent(condition, step):
    expected = max(abs(1 - step), abs(1 - step / condition))
    assert spectral_radius(lp.Langevin(), condition, step) == pytest.approx(expected, abs=1e-12)


def test_langevin_s_limit_and_best_step_are_those_of_gradient_descent():
    report = verify(lp.Langevin())
    for condition in (1, 10, 100):
        assert report.limits[condition] == pytest.approx(2, rel=1e-3)
    radius, best, at = report.radii[100]
    assert radius == pytest.approx(1 - 0.15 / 100)
    assert best == pytest.approx(99 / 101, abs=0.01)  # at 2/(1 + 1/100), which the grid need not hold
    assert at < 2


def test_figures_of_speed_are_per_evaluation():
    class Twice(lp.Langevin):
        def step(self, state, drift, noise):
            return super().step(super().step(state, drift, noise), drift, noise)

    report = verify(Twice())
    assert report.passed, report
    assert report.evaluations == 2
    assert report.radii[100][0] == pytest.approx(1 - 0.15 / 100)
    assert report.limits[10] == pytest.approx(2, rel=1e-3)


def test_an_error_of_the_dynamics_is_reported_and_not_raised():
    class Broken(lp.Dynamics):
        def step(self, state, drift, noise):
            return replace(state, x=drift(state.x) @ torch.ones(3, 3))

    report = verify(Broken())
    assert not report.passed
    assert "RuntimeError" in str(report)


def test_measured_order_is_the_slope():
    assert measured_order([1e-2, 2.5e-3, 6.25e-4], [0.4, 0.2, 0.1]) == pytest.approx(2)
    assert measured_order([1e-13, 1e-14], [0.2, 0.1]) == math.inf
