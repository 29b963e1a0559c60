"""Schedules: which noise level a model's time stands for, and back.

A schedule maps a model's own time to a :class:`~lanpaint.noise.NoiseLevel` in the model's own coordinates
(LanPaint, Appendix E):

    variance preserving    α = √ᾱ_t,   σ = √(1 − ᾱ_t)       t = 0 … T−1, ᾱ_t the cumulative product of 1 − β
    variance exploding     α = 1,      σ = σ_min (σ_max/σ_min)^t
    rectified flow         α = 1 − s,  σ = s,               s = shift·t / (1 + (shift − 1) t)

The way back goes through σ/α, which no rescaling of x changes: a level of any formalism has a time in any schedule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel


class Schedule(ABC):
    """A map between a model's time and noise levels.

    Attributes:
        first_time: The noisiest time, where sampling starts.
        last_time: The least noisy time that a model was trained on; sampling ends with one step from there to σ = 0.
    """

    first_time: float
    last_time: float

    @abstractmethod
    def level(self, time: Tensor | float) -> NoiseLevel:
        """The level at ``time`` (any shape), in float64."""

    @abstractmethod
    def time(self, level: NoiseLevel) -> Tensor:
        """The time (shape of the level, float64) whose level has the same σ/α, clamped to the schedule's ends."""

    @property
    def clean(self) -> NoiseLevel:
        """The level of clean data, (1, 0)."""
        return NoiseLevel(1.0, 0.0)


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive finite number, got {value}")


def _clamped(time: Tensor | float, low: float, high: float) -> Tensor:
    time = torch.as_tensor(time, dtype=torch.float64)
    if time.device.type == "cpu" and bool(time.isnan().any()):
        raise ValueError(f"time must be a number between {low:g} and {high:g}, got NaN")
    return time.clamp(low, high)


class VP(Schedule):
    """Variance-preserving schedule on T discrete times 0 … T−1 (DDPM, Stable Diffusion).

    Between two times log(σ/α) is interpolated linearly, in both directions.

    Args:
        alphas_cumprod: ᾱ_t for t = 0 … T−1: shape (T,), strictly decreasing, inside (0, 1).

    Raises:
        ValueError: When ``alphas_cumprod`` is not such an array.
    """

    def __init__(self, alphas_cumprod: Tensor | Sequence[float]) -> None:
        alphas = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu()
        if alphas.ndim != 1 or len(alphas) < 2:
            raise ValueError(f"alphas_cumprod must have shape (T,) with T ≥ 2, got {tuple(alphas.shape)}")
        if not bool(((alphas > 0) & (alphas < 1)).all()) or not bool((alphas.diff() < 0).all()):
            raise ValueError(
                "alphas_cumprod must decrease strictly from below 1 to above 0 "
                f"(got {alphas[0]:.4g} … {alphas[-1]:.4g}); a schedule that ends at 0 has no score there"
            )
        self.alphas_cumprod = alphas
        self._log_relative_sigma = 0.5 * (torch.log1p(-alphas) - alphas.log())
        self.first_time = float(len(alphas) - 1)
        self.last_time = 0.0

    @classmethod
    def linear(cls, beta_start: float = 1e-4, beta_end: float = 0.02, timesteps: int = 1000) -> VP:
        """β linear in time (Ho et al., 2020): the paper's Gaussian benchmarks and most pixel models."""
        return cls._from_betas(torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, timesteps: int = 1000) -> VP:
        """√β linear in time (Rombach et al., 2022): latent diffusion and Stable Diffusion."""
        _positive(beta_start=beta_start, beta_end=beta_end)
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float64) ** 2
        return cls._from_betas(betas)

    @classmethod
    def cosine(cls, timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> VP:
        """ᾱ a squared cosine of time (Nichol & Dhariwal, 2021, Eq. 17), each β at most ``max_beta``."""
        times = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
        curve = torch.cos((times + offset) / (1 + offset) * math.pi / 2) ** 2
        return cls._from_betas((1 - curve[1:] / curve[:-1]).clamp(max=max_beta))

    @classmethod
    def _from_betas(cls, betas: Tensor) -> VP:
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"every β must lie inside (0, 1), got {betas.min():.4g} … {betas.max():.4g}")
        return cls(torch.cumprod(1 - betas, dim=0))

    def level(self, time: Tensor | float) -> NoiseLevel:
        """The level at ``time`` in [0, T−1], fractions included."""
        time = _clamped(time, self.last_time, self.first_time)
        below = time.floor().long().clamp(max=len(self.alphas_cumprod) - 2)
        fraction = time - below
        table = self._log_relative_sigma.to(time.device)
        log_ratio = torch.lerp(table[below], table[below + 1], fraction)
        return NoiseLevel(torch.sigmoid(-2 * log_ratio).sqrt(), torch.sigmoid(2 * log_ratio).sqrt())

    def time(self, level: NoiseLevel) -> Tensor:
        """The time in [0, T−1] at which log(σ/α) is the level's."""
        log_ratio = (level.sigma.double().log() - level.alpha.double().log()).contiguous()
        table = self._log_relative_sigma.to(log_ratio.device)
        below = (torch.searchsorted(table, log_ratio) - 1).clamp(0, len(table) - 2)
        time = below + (log_ratio - table[below]) / (table[below + 1] - table[below])
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
        """The time in [0, 1] at which σ is the level's σ/α."""
        log_ratio = level.relative_sigma.double().log() - math.log(self.sigma_min)
        return (log_ratio / math.log(self.sigma_max / self.sigma_min)).clamp(self.last_time, self.first_time)


class Flow(Schedule):
    """Rectified-flow schedule: α = 1 − s, σ = s with s = shift·t / (1 + (shift − 1) t) and t from 1 to 0.

    Args:
        shift: Time shift (Esser et al., 2024, Eq. 23): above 1, more of the steps go to the noisy end.
        last_time: The least noisy time before the step to clean data; 1/1000 as flow models are trained.

    Raises:
        ValueError: For a shift that is not positive or a ``last_time`` outside (0, 1).
    """

    first_time = 1.0

    def __init__(self, shift: float = 1.0, last_time: float = 1e-3) -> None:
        _positive(shift=shift, last_time=last_time)
        if last_time >= 1:
            raise ValueError(f"last_time must lie inside (0, 1), got {last_time}")
        self.shift, self.last_time = shift, last_time

    def level(self, time: Tensor | float) -> NoiseLevel:
        """(1 − s, s) at ``time`` in [0, 1]."""
        time = _clamped(time, 0.0, 1.0)
        scale = 1 + (self.shift - 1) * time
        return NoiseLevel((1 - time) / scale, self.shift * time / scale)

    def time(self, level: NoiseLevel) -> Tensor:
        """The time in [0, 1] whose s equals the level's σ/(α + σ)."""
        alpha, sigma = level.alpha.double(), level.sigma.double()
        return sigma / (sigma + self.shift * alpha)
