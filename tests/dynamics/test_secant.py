"""Leimkuhler–Matthews steps of a measured length: exact algebra for the step, exact numbers for what is measured."""

import itertools
import math

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.verification import affine_step, gaussian_drift, verify, zero_noise

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -1.0], dtype=torch.float64)


@pytest.mark.parametrize("step", [0.05, 0.5, 2.0, 50.0])
@pytest.mark.parametrize("damping", [2.3, 40.0])
def test_the_law_of_a_gaussian_is_exact_at_any_step_and_for_all_curvatures_at_once(step, damping):
    """Where the damping is no precision of it: fast Langevin dynamics is biased there, BAOAB's limit is not."""
    affine = affine_step(lp.SecantLangevin(longest=1.0), gaussian_drift(PRECISION, MEAN, damping, step), 2)
    covariance = affine.block(affine.stationary_covariance(), "x", "x")
    assert np.allclose(covariance, np.linalg.inv(PRECISION.numpy()), atol=1e-10)
    assert np.allclose(affine.stationary_mean()[:2], MEAN.numpy(), atol=1e-10)


def test_the_step_moves_the_mean_as_an_ornstein_uhlenbeck_process_does():
    for step in (0.1, 1.0, 4.0):
        drift = gaussian_drift(1.7 * torch.eye(1).double(), torch.zeros(1).double(), 1.7, step)
        affine = affine_step(lp.SecantLangevin(longest=1.0), drift, 1)
        assert affine.block(affine.linear, "x", "x").item() == pytest.approx(math.exp(-1.7 * step), abs=1e-12)


@pytest.mark.parametrize("step", [0.1, 0.7, 3.0])
def test_the_first_step_at_a_level_keeps_a_law_that_is_right(step):
    """(1 − hA)²/A + (h/2)(3 − 2hA) + h/2 = 1/A."""
    damping, drift = 1.7, lp.Drift(lambda x: -1.7 * x, 1.7, step)
    drawn = [torch.tensor([[v]], dtype=torch.float64) for v in (0.0, 1.0)]
    variance = 0.0
    for start, first, second in ((1 / math.sqrt(damping), 0, 0), (0.0, 0, 1), (0.0, 1, 0)):
        numbers = iter((drawn[first], drawn[second]))
        x = torch.tensor([[start]], dtype=torch.float64)
        dynamics = lp.SecantLangevin()
        variance += dynamics.step(dynamics.init(x, drift, zero_noise), drift, lambda like: next(numbers)).x.item() ** 2  # noqa: B023
    assert variance == pytest.approx(1 / damping, rel=1e-12)


def _run(dynamics, drift, x, steps, seed=0):
    noise = lp.NormalNoise(torch.Generator().manual_seed(seed))
    states = [dynamics.init(x, drift, noise)]
    for _ in range(steps):
        states.append(dynamics.step(states[-1], drift, noise))
    return states


@pytest.mark.parametrize("curvature", [0.03, 0.4, 1.0])
def test_the_spread_of_a_gaussian_is_measured_exactly(curvature):
    """e = 1/k − 1/A₀ once the growth allows it."""
    dynamics = lp.SecantLangevin(growth=100.0, longest=100.0)
    drift = lp.Drift(lambda x: -curvature * x, 1.0, 0.8)
    state = _run(dynamics, drift, torch.ones(4, 3, dtype=torch.float64), 4)[-1]
    assert torch.allclose(state.excess, torch.full((4, 1), 1 / curvature - 1.0, dtype=torch.float64), atol=1e-10)


def test_after_negative_curvature_the_length_is_that_of_its_magnitude():
    """Where the density is convex in its logarithm a step is as long as where it is as strongly concave."""
    dynamics = lp.SecantLangevin(growth=100.0, longest=100.0)
    state = _run(dynamics, lp.Drift(lambda x: 0.4 * x, 1.0, 0.8), torch.ones(2, 3, dtype=torch.float64), 4)[-1]
    assert torch.allclose(state.excess, torch.full((2, 1), 1.5, dtype=torch.float64), atol=1e-10)


def test_a_measured_step_is_h_a_0_times_the_measured_spread():
    """x + h A₀ (1/A₀ + e) s(x), and the noise of the step before, with one level for the batch."""
    dynamics, drift = lp.SecantLangevin(growth=1e6, longest=1e6), lp.Drift(lambda x: -0.1 * x, 2.0, 0.4)
    states = _run(dynamics, drift, torch.ones(3, 2, dtype=torch.float64), 4)
    step = -math.expm1(-0.8) * 10
    moved = dynamics.step(states[-1], drift, zero_noise)
    expected = (1 - 0.1 * step) * states[-1].x + math.sqrt(step / 2) * states[-1].noise
    assert torch.allclose(moved.x, expected, atol=1e-8)


def test_where_levels_vary_within_a_sample_the_steepest_of_them_bounds_what_is_measured():
    """e = 1/k − 1/A₀ with the largest A₀ of the sample, and each entry's own length is 1/A₀ + e there."""
    damping = torch.tensor([[1.0, 4.0], [2.0, 0.5], [1.0, 1.0]], dtype=torch.float64)
    dynamics = lp.SecantLangevin(growth=1e6, longest=1e6)
    drift = lp.Drift(lambda x: -0.1 * x, damping, 0.8 * torch.ones_like(damping))
    states = _run(dynamics, drift, torch.ones(3, 2, dtype=torch.float64), 4)
    steepest = damping.amax(1, keepdim=True)
    assert torch.allclose(states[-1].excess, 10 - 1 / steepest, atol=1e-8)
    share = -torch.expm1(-0.8 * damping)  # h A₀
    step = share * (1 / damping + states[-1].excess)
    zero = dynamics.step(states[-1], drift, zero_noise)  # the noise of the step before is still to come
    scatter = (step / 2).sqrt() * states[-1].noise
    assert torch.allclose(zero.x, states[-1].x - 0.1 * step * states[-1].x + scatter, atol=1e-8)


def test_a_step_grows_slowly_shrinks_at_once_and_is_bounded():
    flat = [True]

    def score(x):
        return -(1e-6 if flat[0] else 0.5) * x

    dynamics, drift = lp.SecantLangevin(growth=1.3, longest=10.0), lp.Drift(score, 1.0, 0.8)
    states = _run(dynamics, drift, torch.ones(1, 2, dtype=torch.float64), 14)
    lengths = [1 + float(state.excess) for state in states if state.excess is not None]
    assert lengths[0] == pytest.approx(2)  # the first may double the safe step
    for before, after in itertools.pairwise(lengths):
        assert after == pytest.approx(min(1.3 * before, 10.0), rel=1e-9)
    flat[0] = False
    noise = lp.NormalNoise(torch.Generator().manual_seed(1))
    state = dynamics.step(states[-1], drift, noise)
    for _ in range(2):
        state = dynamics.step(state, drift, noise)
    assert 1 + float(state.excess) == pytest.approx(2)


def test_the_spread_is_carried_from_level_to_level_within_the_new_level_s_bound():
    dynamics = lp.SecantLangevin(growth=100.0, longest=5.0)
    x = torch.ones(2, 3, dtype=torch.float64)
    state = _run(dynamics, lp.Drift(lambda x: -0.4 * x, 1.0, 0.8), x, 3)[-1]
    for damping, expected in ((1.0, 1.5), (10.0, 0.4)):
        carried = dynamics.warm_start(state, x, lp.Drift(torch.neg, damping, 0.1), zero_noise)
        assert carried.point is None
        assert torch.allclose(carried.excess, torch.full((2, 1), expected, dtype=torch.float64))


def test_only_the_unknown_part_is_measured_and_only_its_step_is_changed():
    known = torch.tensor([False, False, True])
    drift = lp.Drift(
        lambda x: torch.where(known, -9.0 * x, -0.25 * x), torch.tensor([1.0, 9.0]), torch.tensor([0.8, 0.1]), known
    )
    states = _run(lp.SecantLangevin(growth=100.0), drift, torch.ones(2, 3, dtype=torch.float64), 3)
    assert torch.allclose(states[-1].excess, torch.full((2, 1), 3.0, dtype=torch.float64))
    before, after = (
        _run(d, drift, torch.ones(2, 3).double(), 3)[-1].x
        for d in (lp.SecantLangevin(longest=1.0), lp.SecantLangevin(growth=100.0))
    )
    assert torch.equal(before[:, 2], after[:, 2])
    assert not torch.equal(before[:, 0], after[:, 0])


def test_a_sample_does_not_depend_on_its_batch():
    target = lp.CountedScore(_mixture())
    observation = lp.Observation(torch.full((5, 2), 0.3), known=torch.tensor([False, True]))
    paint = lp.LanPaint(target, preset="fast", steps=4, inner_steps=3)
    together = paint(observation, generator=lp.seeded(range(5)))
    alone = paint(lp.Observation(observation.values[3:4], observation.known), generator=lp.seeded([3]))
    assert torch.allclose(together[3:4], alone, atol=1e-6)


def _mixture():
    from lanpaint_toys import GaussianMixture

    return GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.04)


def test_levels_per_sample_and_per_entry_are_ordinary_inputs():
    for shape in ((3, 1), (1, 2), (3, 2)):
        sigma = torch.linspace(0.3, 0.6, math.prod(shape), dtype=torch.float64).reshape(shape)
        field = lp.BiG(_mixture(), lp.Observation(torch.zeros(3, 2), torch.tensor([False, True])), 2.0)
        level = lp.NoiseLevel(torch.sqrt(1 - sigma**2), sigma)
        drift = field.drift(level, field.time_scale(level))
        # A mixture itself takes one level a sample.
        drift = lp.Drift(lambda x: -x, drift.damping, drift.time_step, drift.known)
        state = _run(lp.SecantLangevin(), drift, torch.ones(3, 2), 4)[-1]
        assert state.x.shape == (3, 2)
        assert torch.isfinite(state.x).all()


def test_verify_accepts_it_at_a_fixed_step_only():
    report = verify(lp.SecantLangevin(longest=1.0))
    assert report.passed, report
    assert math.isinf(report.bias_order)
    assert not verify(lp.SecantLangevin()).passed  # its step depends on the state


@pytest.mark.parametrize("options", [{"growth": 0.9}, {"longest": 0.5}, {"growth": math.nan}])
def test_settings_below_one_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        lp.SecantLangevin(**options)
