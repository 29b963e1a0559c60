"""Schedules: the noise level of a model's time, and the time of a noise level.

A schedule maps the time that a model takes to a :class:`~lanpaint.noise.NoiseLevel` in the model's coordinates
(LanPaint, Appendix E):

    variance preserving    α = √ᾱ_t,   σ = √(1 − ᾱ_t)       t = 0 … T−1, ᾱ_t the cumulative product of 1 − β
    variance exploding     α = 1,      σ = σ_min (σ_max/σ_min)^t
    rectified flow         α = 1 − s,  σ = s                s = 0 … 1

The map from a level to a time uses only σ/α, which no rescaling of x changes. So a level of any formalism has a time in
any schedule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lanpaint.checks import as_numbers, check_real, check_whole
from lanpaint.noise import NoiseLevel


class Schedule(ABC):
    """A map between a model's time and noise levels.

    Attributes:
        first_time: The noisiest time, where sampling starts.
        last_time: The least noisy time at which a model is evaluated. The last outer step goes from there to σ = 0.
    """

    first_time: float
    last_time: float

    @abstractmethod
    def level(self, time: Tensor | float) -> NoiseLevel:
        """The level at ``time`` (any shape), in float64."""

    @abstractmethod
    def time(self, level: NoiseLevel) -> Tensor:
        """The time (shape of the level, float64) whose σ/α is that of ``level``, clamped to the schedule's ends."""

    def times(self, steps: int) -> Tensor:
        """S times from the first to the last, float64; evenly spaced, unless the schedule shifts its times."""
        return torch.linspace(self.first_time, self.last_time, steps, dtype=torch.float64)

    def at(self, share: Tensor | float) -> NoiseLevel:
        """The level at a share of the time from clean data (0) to the noisiest level (1), of any shape, in float64.

        It is clean, (1, 0), exactly where the share is 0. It is the level of the first time where the share is 1.
        """
        share = as_numbers("share", share)
        level, clean = self.level(self._time_at(share)), share == 0
        return NoiseLevel(torch.where(clean, 1.0, level.alpha), torch.where(clean, 0.0, level.sigma))

    def _time_at(self, share: Tensor) -> Tensor:
        return self.last_time + share * (self.first_time - self.last_time)

    def covers(self, level: NoiseLevel) -> bool:
        """Whether every σ/α of ``level`` occurs in the schedule, to 0.1 %; σ = 0 always counts as covered."""
        nearest = self.level(self.time(level))
        found, wanted = nearest.sigma * level.alpha, level.sigma * nearest.alpha
        return bool((((found - wanted).abs() <= 1e-3 * torch.maximum(found, wanted)) | (level.sigma == 0)).all())

    @property
    def clean(self) -> NoiseLevel:
        """The level of clean data, (1, 0)."""
        return NoiseLevel(1.0, 0.0)


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        check_real(name, value)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive finite number, got {value}")


def _clamped(time: Tensor | float, low: float, high: float) -> Tensor:
    time = as_numbers("time", time)
    if time.device.type == "cpu" and bool(time.isnan().any()):
        raise ValueError(f"time must be a number between {low:g} and {high:g}, got NaN")
    return time.clamp(low, high)


class VP(Schedule):
    """Variance-preserving schedule on T discrete times 0 … T−1 (DDPM, Stable Diffusion).

    Between two discrete times the angle arctan(σ/α) is linear in time. Both maps use this: time → level and level →
    time.

    Args:
        alphas_cumprod: ᾱ_t for t = 0 … T−1: shape (T,), strictly decreasing, inside (0, 1). The last may be 0, for
            models without signal at their noisiest time; such a network must predict v or x₀.

    Raises:
        ValueError: When ``alphas_cumprod`` is not such an array.
    """

    def __init__(self, alphas_cumprod: Tensor | Sequence[float]) -> None:
        alphas = as_numbers("alphas_cumprod", alphas_cumprod)
        if alphas.is_meta:
            raise ValueError("alphas_cumprod has no numbers: it is on the device meta")
        alphas = alphas.cpu()
        if alphas.ndim != 1 or len(alphas) < 2:
            raise ValueError(f"alphas_cumprod must have shape (T,) with T ≥ 2, got {tuple(alphas.shape)}")
        if not bool(((alphas >= 0) & (alphas < 1)).all()) or not bool((alphas.diff() < 0).all()):
            raise ValueError(
                "alphas_cumprod must decrease strictly from below 1 to 0 or above, "
                f"got {alphas[0]:.4g} … {alphas[-1]:.4g}"
            )
        self.alphas_cumprod = alphas
        self._angles = torch.atan2((1 - alphas).sqrt(), alphas.sqrt())
        self.first_time = float(len(alphas) - 1)
        self.last_time = 0.0

    @classmethod
    def linear(cls, beta_start: float = 1e-4, beta_end: float = 0.02, timesteps: int = 1000) -> VP:
        """β linear in time (Ho et al., 2020), as in the paper's Gaussian benchmarks and in most pixel models."""
        _positive(beta_start=beta_start, beta_end=beta_end)
        check_whole("timesteps", timesteps, least=0)
        return cls._from_betas(torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> VP:
        """√β linear in time (Rombach et al., 2022), as in latent diffusion and Stable Diffusion."""
        _positive(beta_start=beta_start, beta_end=beta_end)
        check_whole("timesteps", timesteps, least=0)
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float64) ** 2
        return cls._from_betas(betas)

    @classmethod
    def cosine(cls, timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> VP:
        """ᾱ as a squared cosine of time (Nichol & Dhariwal, 2021, Eq. 17), with every β at most ``max_beta``."""
        check_whole("timesteps", timesteps, least=0)
        check_real("offset", offset)
        check_real("max_beta", max_beta)
        times = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        curve = torch.cos((times + offset) / (1 + offset) * math.pi / 2) ** 2
        return cls._from_betas((1 - curve[1:] / curve[:-1]).clamp(max=max_beta))

    @classmethod
    def _from_betas(cls, betas: Tensor) -> VP:
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"every β must lie inside (0, 1), got {betas.min():.4g} … {betas.max():.4g}")
        return cls(torch.cumprod(1 - betas, dim=0))

    def level(self, time: Tensor | float) -> NoiseLevel:
        """The level at ``time`` in [0, T−1], which need not be a whole number."""
        time = _clamped(time, self.last_time, self.first_time)
        below = time.floor().long().clamp(max=len(self.alphas_cumprod) - 2)
        table = self._angles.to(time.device)
        angle = torch.lerp(table[below], table[below + 1], time - below)
        return NoiseLevel(torch.where(angle < math.pi / 2, torch.cos(angle), 0.0), torch.sin(angle))

    def time(self, level: NoiseLevel) -> Tensor:
        """The time in [0, T−1] at which σ/α is that of ``level``."""
        angle = torch.atan2(level.sigma.double(), level.alpha.double()).contiguous()
        table = self._angles.to(angle.device)
        below = (torch.searchsorted(table, angle) - 1).clamp(0, len(table) - 2)
        time = below + (angle - table[below]) / (table[below + 1] - table[below])
        return time.clamp(self.last_time, self.first_time)


class VE(Schedule):
    """Variance-exploding schedule, σ geometric in time from t = 0 (``sigma_min``) to t = 1 (``sigma_max``).

    Args:
        sigma_min: Smallest σ > 0, in units of the data.
        sigma_max: Largest σ, above ``sigma_min``.

    Raises:
        ValueError: When the two are not positive and increasing.
    """

    first_time, last_time = 1.0, 0.0

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        _positive(sigma_min=sigma_min, sigma_max=sigma_max)
        if sigma_max <= sigma_min:
            raise ValueError(f"sigma_max must exceed sigma_min, got {sigma_max} ≤ {sigma_min}")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def level(self, time: Tensor | float) -> NoiseLevel:
        """(1, σ) at ``time`` in [0, 1]."""
        time = _clamped(time, self.last_time, self.first_time)
        sigma = self.sigma_min * (self.sigma_max / self.sigma_min) ** time
        return NoiseLevel(torch.ones_like(sigma), sigma)

    def time(self, level: NoiseLevel) -> Tensor:
        """The time in [0, 1] at which σ equals σ/α of ``level``."""
        log_ratio = level.relative_sigma.double().log() - math.log(self.sigma_min)
        return (log_ratio / math.log(self.sigma_max / self.sigma_min)).clamp(self.last_time, self.first_time)


class Flow(Schedule):
    """Rectified-flow schedule: α = 1 − s, σ = s with s from 1 to 0.

    Time is s itself, the network's clock (LanPaint, Eq. 53–57). Transformers of diffusers count it in thousandths:
    wrap one as ``NetworkScore(lambda x, s: transformer(x, 1000 * s), "flow", Flow(shift=3.0))``.

    Args:
        shift: Time shift of the levels that are visited (Esser et al., 2024, Eq. 23): s = shift·t / (1 + (shift − 1) t)
            for t evenly from ``first_time`` to ``last_time``. Above 1, more of the levels are noisy.
        first_time: t of the first level, in (0, 1]. At 1 there is no signal. There a velocity or x₀ still determines
            x̂₀, but a score or ε does not: start networks that predict a score or ε at 0.999.
        last_time: t of the least noisy level before the outer step to clean data. The default, 1/1000, is the smallest
            time that flow models are trained at.

    Raises:
        ValueError: For a shift that is not positive, or times that are not 0 < ``last_time`` < ``first_time`` ≤ 1.
    """

    def __init__(self, shift: float = 1.0, first_time: float = 1.0, last_time: float = 1e-3) -> None:
        _positive(shift=shift, first_time=first_time, last_time=last_time)
        if not last_time < first_time <= 1:
            raise ValueError(f"times must be 0 < last_time < first_time ≤ 1, got {last_time} and {first_time}")
        self.shift = shift
        self._span = first_time, last_time
        self.first_time, self.last_time = (
            float(self._shifted(torch.tensor(t, dtype=torch.float64))) for t in self._span
        )

    def _shifted(self, times: Tensor) -> Tensor:
        return self.shift * times / (1 + (self.shift - 1) * times)

    def times(self, steps: int) -> Tensor:
        """S times s from the first to the last, shifted by ``shift``, float64."""
        return self._shifted(torch.linspace(*self._span, steps, dtype=torch.float64))

    def _time_at(self, share: Tensor) -> Tensor:
        return self._shifted(share * self._span[0])

    def level(self, time: Tensor | float) -> NoiseLevel:
        """(1 − s, s) at ``time`` s in [0, 1]."""
        time = _clamped(time, 0.0, 1.0)
        return NoiseLevel(1 - time, time)

    def time(self, level: NoiseLevel) -> Tensor:
        """Time s = σ/(α + σ), in [0, 1]."""
        alpha, sigma = level.alpha.double(), level.sigma.double()
        return sigma / (sigma + alpha)
