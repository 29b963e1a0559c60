"""Spacings: which noise levels of a schedule a sampler visits.

A spacing is a function of a schedule and a number of outer steps S. It returns S + 1 levels, noisiest first. The last
level is clean data (σ = 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lanpaint.checks import check_real, check_whole, shown
from lanpaint.noise import NoiseLevel
from lanpaint.schedules import Schedule

Spacing = Callable[[Schedule, int], list[NoiseLevel]]


def _check(schedule: Schedule, steps: int) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule must be a Schedule such as VP.linear(), got {shown(schedule)}")
    check_whole("steps", steps, least=1)


def uniform_time(schedule: Schedule, steps: int) -> list[NoiseLevel]:
    """S levels at evenly spaced times from the first to the last (shifted for a flow with a shift), then σ = 0.

    The benchmark code of the paper's authors uses these levels. The paper does not say which levels it uses.
    """
    _check(schedule, steps)
    return _levels(schedule, schedule.times(steps))


def linspace_time(schedule: Schedule, steps: int) -> list[NoiseLevel]:
    """S + 1 levels at evenly spaced times (shifted for a flow with a shift), the last of which is replaced by σ = 0.

    DPM-Solver and UniPC of diffusers have these levels by default (``timestep_spacing="linspace"``). With
    :func:`uniform_time` the step before the last leads to nearly clean data. In log(α/σ), where those solvers
    extrapolate, that step is much longer than the one before it.
    """
    _check(schedule, steps)
    return _levels(schedule, schedule.times(steps + 1)[:-1])


def _sigma_range(schedule: Schedule) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest and smallest σ/α. Where the schedule starts at α = 0, its first time is lowered so that σ/α is finite."""
    first = schedule.level(schedule.first_time)
    if float(first.alpha) == 0:
        first = schedule.level(schedule.first_time * (1 - 1e-3))
    return first.relative_sigma, schedule.level(schedule.last_time).relative_sigma


def _at_relative_sigmas(schedule: Schedule, sigmas: torch.Tensor) -> list[NoiseLevel]:
    """The schedule's levels with these σ/α, then clean data."""
    return _levels(schedule, schedule.time(NoiseLevel(torch.ones_like(sigmas), sigmas)))


def _levels(schedule: Schedule, times: torch.Tensor) -> list[NoiseLevel]:
    """The schedule's levels at these times, computed together, then clean data."""
    level = schedule.level(times)
    return [*map(NoiseLevel, level.alpha.unbind(), level.sigma.unbind()), schedule.clean]


def uniform_log_snr(schedule: Schedule, steps: int) -> list[NoiseLevel]:
    """S levels evenly spaced in log(α²/σ²) between the schedule's ends, then σ = 0 (Lu et al., 2022)."""
    _check(schedule, steps)
    largest, smallest = (s.log() for s in _sigma_range(schedule))
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return _at_relative_sigmas(schedule, torch.exp(largest + ramp * (smallest - largest)))


class Karras:
    """S levels evenly spaced in (σ/α)^(1/ρ) between the schedule's ends, then σ = 0 (Karras et al., 2022, Eq. 5).

    Args:
        rho: ρ > 0. Karras et al. use 7. A larger ρ gives more levels of low noise.

    Raises:
        ValueError: For ρ that is not positive.
    """

    def __init__(self, rho: float = 7.0) -> None:
        check_real("rho", rho)
        if not (rho > 0 and math.isfinite(rho)):
            raise ValueError(f"rho must be a positive finite number, got {rho}")
        self.rho = rho

    def __call__(self, schedule: Schedule, steps: int) -> list[NoiseLevel]:
        """The S + 1 levels."""
        _check(schedule, steps)
        largest, smallest = (s ** (1 / self.rho) for s in _sigma_range(schedule))
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        return _at_relative_sigmas(schedule, (largest + ramp * (smallest - largest)) ** self.rho)


class Focused:
    """S levels dense around the noise level where modes of the data merge, then σ = 0. The fast preset uses them.

    With r = σ/(α s) and l = ln r, the levels are evenly spaced in l + 10 atan((l + 1.5)/1.5) between the schedule's
    ends. So they are almost eight times denser at r = 0.22 than at the ends (docs/frontier.md).

    Args:
        scale: s > 0, the standard deviation of the clean data. 1 for normalised data.

    Raises:
        ValueError: For a scale that is not positive and finite.
    """

    def __init__(self, scale: float = 1.0) -> None:
        check_real("scale", scale)
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"scale must be a positive finite number, got {scale}")
        self.scale = float(scale)

    def __call__(self, schedule: Schedule, steps: int) -> list[NoiseLevel]:
        """The S + 1 levels."""
        _check(schedule, steps)
        ends = torch.stack([(sigma / self.scale).log() for sigma in _sigma_range(schedule)])
        largest, smallest = self._place(ends)
        wanted = largest + torch.linspace(0, 1, steps, dtype=torch.float64) * (smallest - largest)
        low, high = ends[1].expand(steps), ends[0].expand(steps)
        for _ in range(60):  # bisection: the place rises with l
            middle = (low + high) / 2
            above = self._place(middle) > wanted
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        middle = ((low + high) / 2).where(wanted < largest, ends[0]).where(wanted > smallest, ends[1])
        middle[0] = ends[0]
        return _at_relative_sigmas(schedule, middle.exp() * self.scale)

    @staticmethod
    def _place(log_ratio: torch.Tensor) -> torch.Tensor:
        return log_ratio + 10 * torch.atan((log_ratio + 1.5) / 1.5)


SPACINGS: dict[str, Spacing] = {
    "paper": uniform_time,
    "logsnr": uniform_log_snr,
    "karras": Karras(),
    "focused": Focused(),
    "linspace": linspace_time,
}


def as_spacing(spacing: str | Spacing) -> Spacing:
    """The spacing of a name in :data:`SPACINGS`. A function is returned as it is.

    Raises:
        ValueError: For an unknown name.
    """
    if callable(spacing):
        return spacing
    if not isinstance(spacing, str) or spacing not in SPACINGS:
        raise ValueError(f"unknown spacing {spacing!r}; expected one of {', '.join(SPACINGS)} or a function")
    return SPACINGS[spacing]
