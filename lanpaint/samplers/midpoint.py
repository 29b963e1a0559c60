"""Midpoint guidance: what MGPS and MGDM share.

The bridge is the forward process between two of its states. With a = α₂/α₁, v₁ = σ₂² − a² σ₁² and b = α₃/α₂,
v₂ = σ₃² − b² σ₂², the state at the middle one of three levels, given those at the ends, is

    x₂ | x₁, x₃ ~ N(V (a x₁/v₁ + b x₃/v₂), V),      V = 1/(1/v₁ + b²/v₂)

The fit is a Gaussian N(μ, diag e^{2w}) that is fitted to p(x) N(y; A x̂₀(x), s²), with p = N(m, V), by reverse
Kullback–Leibler divergence. It starts at p, and takes M steps of Adam on

    E ‖y − A x̂₀(μ + e^w ξ)‖²/(2 s²) + ½ Σ ((μ − m)²/V + e^{2w}/V) − Σ w

with one ξ per step. μ moves in units of c = √(α² + σ²), so that the coordinates of x make no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_real, check_whole
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.randomness import NoiseSource
from lanpaint.samplers.gradients import check_checkpoint, differentiate, known_error
from lanpaint.samplers.guided import measured
from lanpaint.samplers.langevin_sampler import check_step_size
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score

CLEAN = NoiseLevel(1.0, 0.0)
BETAS, TINY = (0.9, 0.999), 1e-8  # of Adam


def bridge(
    clean: NoiseLevel, level: NoiseLevel, noisy: NoiseLevel, x_clean: Tensor, x_noisy: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean (shape of x) and variance (shape of the level) of x at ``level``, given x at both other levels."""
    ahead, back = level.alpha * reciprocal(clean.alpha), noisy.alpha * reciprocal(level.alpha)
    first = (level.sigma**2 - (ahead * clean.sigma) ** 2).clamp(min=0)
    second = (noisy.sigma**2 - (back * level.sigma) ** 2).clamp(min=0)
    total = reciprocal(second + back**2 * first)
    of_clean = torch.where(total > 0, ahead * second * total, ahead)  # where all three levels are one, x stays
    of_noisy = back * first * total
    return cast_like(of_clean, x_clean) * x_clean + cast_like(of_noisy, x_noisy) * x_noisy, first * second * total


class MidpointSampler(Sampler):
    """The base of MGPS and MGDM: the fit at a midpoint.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        inner_steps: M ≥ 0, steps of Adam in each fit, of one evaluation with its gradient each. With few of them the
            guidance is weak: 20 are far better than 5 on the shipped digits.
        step_size: Rate of Adam, above 0.
        noise_floor: s > 0 of the fit where the observation has no noise, in units of the data.
        checkpoint: As in :class:`~lanpaint.DPS`.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, a solver, ``checkpoint=True`` without a network, and as
            :class:`Sampler`. In the first step: when the score gives no gradient.
    """

    remedy = "lower step_size, or raise noise_floor (s)"
    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        inner_steps: int = 5,
        step_size: float = 0.03,
        noise_floor: float = 0.01,
        checkpoint: bool = False,
        **options: Any,
    ) -> None:
        check_whole("inner_steps", inner_steps, least=0)
        check_step_size(step_size)
        check_real("noise_floor (s)", noise_floor)
        if not 0 < noise_floor < float("inf"):
            raise ValueError(f"noise_floor (s) must be a positive finite number, got {noise_floor}")
        refuse_solver(type(self).__name__, options)
        super().__init__(score, **options)
        self.inner_steps, self.step_size, self.checkpoint = inner_steps, step_size, checkpoint
        self.noise_floor = float(noise_floor)
        if checkpoint:
            check_checkpoint(self.score)

    def draw_fit(
        self, mean: Tensor, variance: Tensor, level: NoiseLevel, observation: Observation, noise: NoiseSource
    ) -> Tensor:
        """A draw of the fit for the prior N(``mean``, ``variance``) of x at ``level``, shape of x."""
        blur = (observation := measured(observation)).noise.clamp(min=self.noise_floor)
        precision = 1 / (2 * float(blur.min()) ** 2)
        size = torch.where(variance > 0, (level.alpha**2 + level.sigma**2).sqrt(), 0.0)
        unit, deviation = (cast_like(each, mean) for each in (size, variance.sqrt()))
        weight = cast_like(size**2 * reciprocal(variance), mean)
        shift, log_ratio, *moments = (torch.zeros_like(mean) for _ in range(6))  # (μ − m)/c, w − ½ log V; of Adam

        def misfit(prediction: Any) -> Tensor:
            share = cast_like(blur.min() / blur, mean)  # here, where a gradient may be taken
            return precision * (share * known_error(observation, prediction)).square().flatten(1).sum(1)

        for step in range(1, self.inner_steps + 1):
            moved = deviation * log_ratio.exp() * noise(mean)
            _, _, gradient = differentiate(self.score, mean + unit * shift + moved, level, misfit, self.checkpoint)
            slopes = unit * gradient + weight * shift, moved * gradient + (2 * log_ratio).exp() - 1
            for i, slope in enumerate(slopes):
                moments[i] = torch.lerp(slope, moments[i], BETAS[0])
                moments[2 + i] = torch.lerp(slope**2, moments[2 + i], BETAS[1])
            moves = [
                moments[i] / (1 - BETAS[0] ** step) / ((moments[2 + i] / (1 - BETAS[1] ** step)).sqrt() + TINY)
                for i in (0, 1)
            ]
            shift, log_ratio = shift - self.step_size * moves[0], log_ratio - self.step_size * moves[1]
        return mean + unit * shift + deviation * log_ratio.exp() * noise(mean)
