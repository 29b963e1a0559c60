"""Schedules: levels against independent formulas and diffusers, and the way back to time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lanpaint.noise import NoiseLevel
from lanpaint.schedules import VE, VP, Flow
from lanpaint.spacings import uniform_time

DOUBLE = torch.float64
SCHEDULES = {
    "VP linear": VP.linear(),
    "VP scaled linear": VP.scaled_linear(),
    "VP cosine": VP.cosine(),
    "VP of 10 times": VP.linear(timesteps=10, beta_end=0.5),
    "VE": VE(),
    "flow": Flow(),
    "shifted flow": Flow(shift=3.0),
}
everywhere = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def _times(schedule, count=101):
    return torch.linspace(schedule.first_time, schedule.last_time, count, dtype=DOUBLE)


def _linear_betas(timesteps):
    return 1e-4 + (0.02 - 1e-4) * np.arange(timesteps) / (timesteps - 1)


def _scaled_linear_betas(timesteps):
    return (math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * np.arange(timesteps) / (timesteps - 1)) ** 2


def _cosine_betas(timesteps):
    def curve(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - curve((t + 1) / timesteps) / curve(t / timesteps), 0.999) for t in range(timesteps)])


@pytest.mark.parametrize("timesteps", [1000, 50])
@pytest.mark.parametrize(
    ("make", "betas"),
    [(VP.linear, _linear_betas), (VP.scaled_linear, _scaled_linear_betas), (VP.cosine, _cosine_betas)],
    ids=["linear", "scaled linear", "cosine"],
)
def test_variance_preserving_levels_follow_the_published_formulas(make, betas, timesteps):
    # The sum of logarithms is a different way to the product; it is good to 1e-13 for 1000 factors.
    alpha_bar = np.exp(np.cumsum(np.log1p(-betas(timesteps))))
    level = make(timesteps=timesteps).level(torch.arange(timesteps))
    np.testing.assert_allclose(level.alpha, np.sqrt(alpha_bar), rtol=1e-11)
    np.testing.assert_allclose(level.sigma, np.sqrt(1 - alpha_bar), rtol=1e-11)


@pytest.mark.parametrize(
    ("schedule", "config"),
    [
        (VP.linear(), {"beta_schedule": "linear"}),
        (VP.scaled_linear(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        (VP.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
        (VP.linear(1e-3, 0.1, 100), {"num_train_timesteps": 100, "beta_start": 1e-3, "beta_end": 0.1}),
    ],
    ids=["linear", "scaled_linear", "squaredcos_cap_v2", "100 times"],
)
def test_variance_preserving_schedule_is_that_of_diffusers(schedule, config):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(**config).alphas_cumprod
    # float32 there: 2 roundings of 2⁻²⁴ in each of 1000 factors, and 6e-5 in the factor 0.001 where cosine is clipped.
    np.testing.assert_allclose(schedule.alphas_cumprod, theirs, rtol=2e-4)
    assert len(theirs) == schedule.first_time + 1


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name.startswith("VP")])
def test_variance_is_preserved_between_times_too(name):
    level = SCHEDULES[name].level(_times(SCHEDULES[name], 777))
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones(777, dtype=DOUBLE), rtol=0, atol=1e-14)


def test_angle_is_linear_between_two_discrete_times():
    schedule = VP.linear()
    below, above = (math.acos(float(schedule.level(t).alpha)) for t in (500.0, 501.0))
    for fraction in (0.25, 0.5, 0.9):
        expected = (1 - fraction) * below + fraction * above
        assert math.asin(float(schedule.level(500 + fraction).sigma)) == pytest.approx(expected, rel=1e-12)


def test_variance_preserving_schedule_may_end_without_signal():
    schedule = VP([0.9, 0.5, 0.0])
    level = schedule.level(torch.tensor([0.0, 1.0, 1.5, 2.0]))
    np.testing.assert_allclose(level.alpha[[0, 1, 3]] ** 2, [0.9, 0.5, 0.0], rtol=0, atol=1e-15)
    assert float(level.alpha[3]) == 0
    torch.testing.assert_close(
        schedule.time(level), torch.tensor([0.0, 1.0, 1.5, 2.0], dtype=DOUBLE), rtol=0, atol=1e-12
    )


@everywhere
def test_levels_are_covered_up_to_the_ends_of_the_schedule(schedule):
    first, last = schedule.level(schedule.first_time), schedule.level(schedule.last_time)
    for level in (first, last, schedule.clean, first.rescale(7.0), schedule.level(_times(schedule))):
        assert schedule.covers(level)
    if not isinstance(schedule, Flow):  # which is defined from pure noise to clean data
        assert not schedule.covers(NoiseLevel(first.alpha, 1.01 * first.sigma))
        assert not schedule.covers(NoiseLevel(last.alpha, 0.99 * last.sigma))


def test_variance_exploding_levels_are_geometric_and_keep_the_signal():
    schedule = VE(sigma_min=0.01, sigma_max=100.0)
    level = schedule.level(torch.tensor([0.0, 0.25, 0.5, 1.0]))
    torch.testing.assert_close(level.sigma, torch.tensor([0.01, 0.1, 1.0, 100.0], dtype=DOUBLE), rtol=1e-12, atol=0)
    assert torch.equal(level.alpha, torch.ones(4, dtype=DOUBLE))


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_flow_spaces_its_times_by_the_shift(shift):
    times = np.linspace(1, 1e-3, 33)
    shifted = shift * times / (1 + (shift - 1) * times)
    np.testing.assert_allclose(Flow(shift).times(33), shifted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_flow_levels_do_not_depend_on_the_shift_of_their_spacing(shift):
    times = np.linspace(0, 1, 33)
    level = Flow(shift).level(torch.from_numpy(times))
    np.testing.assert_array_equal(level.sigma, times)
    np.testing.assert_array_equal(level.alpha, 1 - times)


def test_flow_keeps_a_small_signal_to_full_precision():
    assert float(Flow(3.0).level(1 - 2.0**-40).alpha) == 2.0**-40


def test_flow_starts_at_pure_noise():
    level = Flow(3.0).level(1.0)
    assert (float(level.alpha), float(level.sigma)) == (0.0, 1.0)


def test_shifted_flow_has_the_training_levels_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)  # before set_timesteps: 1000/1000 … 1/1000, shifted
    schedule = Flow(shift=3.0)
    np.testing.assert_allclose(
        schedule.level(schedule.times(1000)).sigma, theirs.sigmas, rtol=0, atol=2e-7
    )  # float32 there


@pytest.mark.parametrize("steps", [1, 2, 10, 28])
def test_evenly_spaced_shifted_flow_visits_the_levels_of_diffusers(steps):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(steps)
    # diffusers spaces its times down to a last one that has been shifted once already, and shifts that again.
    last = 3.0 * 1e-3 / (1 + 2 * 1e-3)
    levels = uniform_time(Flow(shift=3.0, last_time=last), steps)
    np.testing.assert_allclose([float(level.sigma) for level in levels], theirs.sigmas, rtol=0, atol=3e-7)


@everywhere
def test_time_of_a_level_is_the_time_it_was_made_from(schedule):
    times = _times(schedule, 1234)  # most of them between two discrete times
    span = abs(schedule.first_time - schedule.last_time)
    torch.testing.assert_close(schedule.time(schedule.level(times)), times, rtol=0, atol=1e-10 * span)


def test_time_of_each_discrete_level_is_its_index():
    for schedule in (VP.linear(), VP.cosine()):
        index = torch.arange(1000, dtype=DOUBLE)
        torch.testing.assert_close(schedule.time(schedule.level(index)), index, rtol=0, atol=1e-9)


@everywhere
@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1, 1), (2, 3, 4)])
def test_times_of_any_shape_give_levels_of_that_shape_and_back(schedule, shape):
    times = schedule.last_time + (schedule.first_time - schedule.last_time) * torch.rand(
        shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE
    )
    level = schedule.level(times)
    assert level.shape == shape
    assert level.alpha.dtype == level.sigma.dtype == DOUBLE
    back = schedule.time(level)
    assert back.shape == shape
    assert back.dtype == DOUBLE
    torch.testing.assert_close(back, times, rtol=0, atol=1e-10 * max(1.0, schedule.first_time))
    if len(shape) == 3:  # each entry on its own, in a transposed view
        turned = schedule.time(NoiseLevel(level.alpha.mT, level.sigma.mT))
        assert torch.equal(turned, back.mT)


@everywhere
@given(factor=st.floats(1e-3, 1e3), fraction=st.floats(0.0, 1.0))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_rescaled_level_has_the_same_time(schedule, factor, fraction):
    time = schedule.last_time + fraction * (schedule.first_time - schedule.last_time)
    back = schedule.time(schedule.level(time).rescale(factor))
    assert float(back) == pytest.approx(time, abs=1e-10 * max(1.0, schedule.first_time))


@everywhere
@pytest.mark.parametrize("other", ["VE", "shifted flow", "VP linear"])
def test_levels_of_another_formalism_with_the_same_ratio_have_the_same_time(schedule, other):
    theirs = SCHEDULES[other].level(_times(SCHEDULES[other])[1:])  # without α = 0
    ends = [float(schedule.level(t).log_snr) for t in (schedule.first_time, schedule.last_time)]
    inside = (theirs.log_snr > ends[0]) & (theirs.log_snr < ends[1])
    assert int(inside.sum()) > 20
    own = schedule.level(schedule.time(theirs))
    torch.testing.assert_close(own.log_snr[inside], theirs.log_snr[inside], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["VP linear", "VP cosine", "VE"])
def test_levels_and_times_beyond_the_ends_are_clamped_to_them(name):
    schedule = SCHEDULES[name]
    for time, end in ((schedule.first_time * 2 + 5, schedule.first_time), (-3.0, schedule.last_time)):
        assert float(schedule.level(time).sigma) == float(schedule.level(end).sigma)
    assert float(schedule.time(NoiseLevel(0.0, 1.0))) == schedule.first_time
    assert float(schedule.time(NoiseLevel(1.0, 1e9))) == schedule.first_time
    assert float(schedule.time(NoiseLevel(1.0, 1e-9))) == schedule.last_time
    assert float(schedule.time(schedule.clean)) == schedule.last_time


def test_flow_times_run_over_the_unit_interval_and_are_clamped_to_it():
    schedule = Flow(3.0)
    assert float(schedule.level(1.5).alpha) == 0
    assert float(schedule.level(-0.5).sigma) == 0
    assert float(schedule.time(NoiseLevel(0.0, 7.0))) == 1
    assert float(schedule.time(schedule.clean)) == 0


@everywhere
def test_noise_grows_strictly_with_time_and_ends_clean(schedule):
    ratio = schedule.level(_times(schedule)).log_snr
    assert bool((ratio.diff() > 0).all())
    assert (float(schedule.clean.alpha), float(schedule.clean.sigma)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("alphas", "told"),
    [
        (torch.tensor(0.5), r"shape \(T,\) with T ≥ 2, got \(\)"),
        ([0.5], r"shape \(T,\) with T ≥ 2, got \(1,\)"),
        ([[0.9, 0.5]], r"got \(1, 2\)"),
        ([0.9, 0.5, 0.5], "decrease strictly"),
        ([0.5, 0.9], "decrease strictly"),
        ([1.0, 0.5], "decrease strictly"),
        ([0.9, 0.0, 0.0], "decrease strictly"),
        ([0.9, -0.1], "decrease strictly"),
        ([0.9, math.nan], "decrease strictly"),
    ],
)
def test_values_that_are_no_variance_preserving_schedule_are_refused(alphas, told):
    with pytest.raises(ValueError, match=told):
        VP(alphas)


@pytest.mark.parametrize("bad", [{"beta_end": 1.0}, {"beta_start": 0.0}, {"beta_start": -0.1}])
@pytest.mark.parametrize("make", [VP.linear, VP.scaled_linear], ids=["linear", "scaled linear"])
def test_noise_increments_outside_the_unit_interval_are_refused(make, bad):
    with pytest.raises(ValueError, match=r"every β must lie inside \(0, 1\)|beta_start must be a positive"):
        make(**bad)


@pytest.mark.parametrize("timesteps", [0, 1])
@pytest.mark.parametrize("make", [VP.linear, VP.scaled_linear, VP.cosine], ids=["linear", "scaled linear", "cosine"])
def test_fewer_than_two_times_are_refused(make, timesteps):
    with pytest.raises(ValueError, match=r"shape \(T,\) with T ≥ 2"):
        make(timesteps=timesteps)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_are_not_positive_are_refused_by_name(bad):
    for make, name in ((VE, "sigma_min"), (VE, "sigma_max"), (Flow, "shift"), (Flow, "last_time")):
        with pytest.raises(ValueError, match=f"^{name} must be a positive finite number, got {bad}"):
            make(**{name: bad})


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"sigma_max must exceed sigma_min, got 1\.0 ≤ 1\.0"):
        VE(1.0, 1.0)
    for ends in ({"last_time": 1.0}, {"first_time": 0.5, "last_time": 0.6}, {"first_time": 1.5}):
        with pytest.raises(ValueError, match=r"times must be 0 < last_time < first_time ≤ 1"):
            Flow(**ends)
