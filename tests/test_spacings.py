"""Spacings: which levels of a schedule are visited."""

import numpy as np
import pytest
import torch

from lanpaint.noise import NoiseLevel
from lanpaint.schedules import VE, VP, Flow
from lanpaint.spacings import SPACINGS, Focused, Karras, as_spacing, linspace_time, uniform_log_snr, uniform_time

SCHEDULES = {
    "VP linear": VP.linear(),
    "VP cosine": VP.cosine(),
    "VE": VE(),
    "flow": Flow(),
    "shifted flow": Flow(shift=3.0),
}
everywhere = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
all_spacings = pytest.mark.parametrize("spacing", [*SPACINGS.values(), Karras(rho=3.0)], ids=[*SPACINGS, "karras 3"])


def _ratios(levels):
    """σ/α in NumPy, by division of the two."""
    with np.errstate(divide="ignore"):
        return np.array([np.float64(level.sigma) / np.float64(level.alpha) for level in levels])


def _noisiest_ratio(schedule):
    """σ/α where a spacing over ratios starts: 0.1 % of the time later where there is no signal."""
    first = schedule.level(schedule.first_time)
    return float((schedule.level(0.999) if float(first.alpha) == 0 else first).relative_sigma)


@everywhere
@all_spacings
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 100])
def test_s_steps_visit_s_levels_of_falling_noise_and_then_clean_data(schedule, spacing, steps):
    levels = spacing(schedule, steps)
    assert len(levels) == steps + 1
    assert all(isinstance(level, NoiseLevel) and level.shape == () for level in levels)
    assert (float(levels[-1].alpha), float(levels[-1].sigma)) == (1.0, 0.0)
    assert bool((np.diff(_ratios(levels)) < 0).all())


@everywhere
@all_spacings
def test_levels_are_in_the_coordinates_of_the_schedule(schedule, spacing):
    for level in spacing(schedule, 7)[:-1]:
        own = schedule.level(schedule.time(level))
        torch.testing.assert_close(own.alpha, level.alpha, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(own.sigma, level.sigma, rtol=1e-9, atol=1e-12)


@everywhere
@all_spacings
@pytest.mark.parametrize("steps", [2, 9])
def test_first_and_last_noisy_levels_are_the_ends_of_the_schedule(schedule, spacing, steps):
    ratios = _ratios(spacing(schedule, steps))
    in_time = spacing in (uniform_time, linspace_time)
    first = _ratios([schedule.level(schedule.first_time)])[0] if in_time else _noisiest_ratio(schedule)
    assert ratios[0] == pytest.approx(first, rel=1e-9)
    if spacing is linspace_time:
        ratios = _ratios(uniform_time(schedule, steps + 1))
        np.testing.assert_array_equal(_ratios(linspace_time(schedule, steps))[:-1], ratios[:-2])
    assert ratios[-2] == pytest.approx(float(schedule.level(schedule.last_time).relative_sigma), rel=1e-9)


@all_spacings
@everywhere
def test_a_single_step_starts_at_the_noisiest_level(schedule, spacing):
    start, clean = spacing(schedule, 1)
    assert _ratios([start])[0] == pytest.approx(_ratios(spacing(schedule, 5))[0], rel=1e-9)
    assert float(clean.sigma) == 0


@pytest.mark.parametrize("steps", [2, 20, 1000])
@pytest.mark.parametrize("schedule", [VP.linear(), VP.linear(timesteps=300)], ids=["1000 times", "300 times"])
def test_paper_spacing_visits_evenly_spaced_times(schedule, steps):
    count = len(schedule.alphas_cumprod)
    times = np.array([float(schedule.time(level)) for level in uniform_time(schedule, steps)[:-1]])
    np.testing.assert_allclose(times, np.linspace(count - 1, 0, steps), rtol=0, atol=1e-8)


def test_paper_spacing_of_a_flow_starts_without_any_signal():
    first = uniform_time(Flow(), 10)[0]
    assert (float(first.alpha), float(first.sigma)) == (0.0, 1.0)


@pytest.mark.parametrize("spacing", [uniform_log_snr, Karras()], ids=["log-SNR", "Karras"])
def test_spacings_over_ratios_start_a_flow_where_there_is_signal(spacing):
    assert float(spacing(Flow(), 10)[0].alpha) > 0


@everywhere
@pytest.mark.parametrize("steps", [3, 20, 200])
def test_log_snr_spacing_is_even_in_log_snr(schedule, steps):
    log_snr = np.array([float(level.log_snr) for level in uniform_log_snr(schedule, steps)[:-1]])
    gap = (log_snr[-1] - log_snr[0]) / (steps - 1)
    np.testing.assert_allclose(np.diff(log_snr), gap, rtol=1e-8)


@everywhere
@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("steps", [2, 18])
def test_karras_spacing_follows_the_published_formula(schedule, rho, steps):
    largest, smallest = _noisiest_ratio(schedule), float(schedule.level(schedule.last_time).relative_sigma)
    expected = [
        (largest ** (1 / rho) + i / (steps - 1) * (smallest ** (1 / rho) - largest ** (1 / rho))) ** rho
        for i in range(steps)
    ]  # Karras et al., 2022, Eq. 5
    np.testing.assert_allclose(_ratios(Karras(rho)(schedule, steps))[:-1], expected, rtol=1e-8)


def test_default_karras_exponent_is_the_published_one():
    np.testing.assert_array_equal(_ratios(SPACINGS["karras"](VE(), 5)), _ratios(Karras(7.0)(VE(), 5)))


@everywhere
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_focused_spacing_is_even_in_its_own_variable(schedule, scale):
    logs = np.log(_ratios(Focused(scale)(schedule, 20))[:-1] / scale)
    place = logs + 10 * np.arctan((logs + 1.5) / 1.5)
    np.testing.assert_allclose(np.diff(place), (place[-1] - place[0]) / 19, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_focused_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match=f"scale must be a positive finite number, got {scale}"):
        Focused(scale)


@all_spacings
@pytest.mark.parametrize("steps", [0, -1, 2.5, 2.0, True, None, "3"])
def test_steps_that_are_no_whole_number_from_one_on_are_refused(spacing, steps):
    with pytest.raises(ValueError, match=f"steps must be a whole number of at least 1, got {steps!r}"):
        spacing(VP.linear(), steps)


@pytest.mark.parametrize("rho", [0.0, -7.0, float("nan")])
def test_karras_exponent_must_be_positive(rho):
    with pytest.raises(ValueError, match=f"rho must be a positive finite number, got {rho}"):
        Karras(rho)


def test_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"unknown spacing 'quadratic'.* paper, logsnr, karras, focused"):
        as_spacing("quadratic")


def test_spacing_is_found_by_name_and_a_function_is_taken_as_it_is():
    assert as_spacing("paper") is uniform_time
    assert as_spacing("logsnr") is uniform_log_snr
    assert isinstance(as_spacing("karras"), Karras)

    def mine(schedule, steps):
        return [schedule.clean]

    assert as_spacing(mine) is mine


def test_focused_checks_what_it_is_given():
    with pytest.raises(TypeError, match=r"scale must be a number, got '3'"):
        Focused("3")
    with pytest.raises(TypeError, match=r"schedule must be a Schedule such as VP\.linear\(\), got None"):
        Focused()(None, 5)
