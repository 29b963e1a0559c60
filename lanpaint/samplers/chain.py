"""The model's ancestral chain with particles, which twisted SMC, MCGdiff and FPS-SMC condition on the known part.

The chain starts from x ~ N(0, α² + σ²) at the first level. With x̂₀ and ε̂ predicted at (α, σ), and ξ standard normal, a
step draws

    x' = α' x̂₀ + σ' k ε̂ + s ξ,      k = σ' α/(σ α'),    b = α' (1 − k²),    s² = σ'² (1 − k²) + b² v

This is x₀ drawn from N(x̂₀, v), and then x' drawn from the forward process given x₀ and x. v = a σ²/(α² a + σ²) is the
variance of x₀ given x for data of variance a. The chain is exact in one step for data from N(0, a). For any data and
any a > 0 it is exact in the limit of short steps. (In variance-preserving coordinates a = 1 is DDPM with its large
variance, and a = 0 is DDPM with its small variance.) The last step draws x₀ ~ N(x̂₀, v), which has a density. So the
chain can be conditioned on known entries without noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lanpaint.checks import check_between, check_real, check_whole
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.clean import measured
from lanpaint.samplers.particles import KeepCloud, Particles, grouped, repeated, repeated_level, total
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score


class ChainStep(NamedTuple):
    """A step of the chain: k, b and s of the module, shape of the levels."""

    kept_noise: Tensor
    jump: Tensor
    deviation: Tensor

    def mean(self, prediction: Prediction, next_level: NoiseLevel) -> Tensor:
        """α' x̂₀ + σ' k ε̂, shape of x."""
        return next_level.perturb(prediction.denoised, cast_like(self.kept_noise, prediction.x) * prediction.epsilon)


class ChainSampler(Sampler):
    """K particles follow the chain for each sample. Arguments and ``cloud`` are those of :class:`TwistedSMC`."""

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        particles: int,
        threshold: float,
        data_variance: float,
        **options: Any,
    ) -> None:
        check_whole("particles (K)", particles, least=1)
        check_between("threshold", threshold, 0, 1)
        check_real("data_variance (a)", data_variance)
        if not 0 < data_variance < math.inf:
            raise ValueError(f"data_variance (a) must be positive and finite, got {data_variance}")
        refuse_solver(type(self).__name__, options)
        super().__init__(score, **options)
        self.particles, self.threshold, self.data_variance = particles, float(threshold), data_variance
        self.cloud: Particles | None = None
        self.callbacks.append(KeepCloud())

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level: K particles for each sample, with equal weights; ``start`` has all of them."""
        groups, count = len(observation.values), self.particles
        observation = repeated(observation.draw(noise), count)
        step = observation.first_step(self.steps)
        level = repeated_level(self.plan.levels[step], count, len(observation.shape))
        if observation.is_noisy and level is not self.plan.levels[step]:
            raise ValueError(
                f"{type(self).__name__} takes a measurement with noise only where all samples have one level"
            )
        x = self._start(level, observation, grouped(noise, groups), start)
        weights = torch.zeros(groups, count, dtype=torch.float64, device=x.device)
        return SamplerState(x, level, observation, memory=Particles(weights, weights[:, 0]), step=step)

    def _prepare(self, *arguments: Any) -> tuple[SamplerState, NoiseSource]:
        state, noise = super()._prepare(*arguments)
        return state, grouped(noise, len(state.memory.log_weights))

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state unchanged: each step of the chain ends at the level that is entered."""
        return state

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """One particle of each group, drawn by weight. The memory keeps all particles."""
        state = replace(state, observation=measured(state.observation))
        cloud = replace(state.memory, x=state.observation.finish(state.x))
        return replace(cloud.chosen(state, noise), memory=cloud)

    def clean_variance(self, level: NoiseLevel) -> Tensor:
        """The chain's variance v = a σ²/(α² a + σ²) of x₀ given x, shape of the level; a at α = 0."""
        return level.sigma**2 * reciprocal(level.alpha**2 + level.sigma**2 / self.data_variance)

    def chain(self, level: NoiseLevel, next_level: NoiseLevel) -> ChainStep:
        """k, b and s of the chain's step."""
        kept_noise = next_level.sigma * level.alpha * reciprocal(level.sigma * next_level.alpha)
        jump = next_level.alpha * (1 - kept_noise**2)
        variance = next_level.sigma**2 * (1 - kept_noise**2) + jump**2 * self.clean_variance(level)
        return ChainStep(kept_noise, jump, variance.clamp(min=0).sqrt())


def log_normal(difference: Tensor, variance: Tensor, mask: Tensor) -> Tensor:
    """Log N(difference; 0, variance) over the entries of ``mask`` with a variance > 0, (B K, …) → (B K,), float64."""
    variance = cast_like(variance, difference)
    square = difference.square() * reciprocal(variance)
    normal = -0.5 * (square + torch.log(2 * math.pi * torch.where(variance > 0, variance, 1.0)))
    return total(torch.where(mask & (variance > 0), normal, 0.0))
