"""MCGdiff: particles without gradients (Cardoso et al., 2023, arXiv:2308.07983, Alg. 1; derived here for masks).

K particles follow the model's chain (:mod:`lanpaint.samplers.chain`, a step N(m, f I) with f = s²), weighted by how
likely the diffused observation is at each level, q(x) = N(x; α y, u) on known entries with u = σ²:

    start     known entries ~ ∝ N(0, c²) N(α y, u),    c² = α² + σ²
    weight    w = N(α' y; m, f + u') / N(α y; x, u)
    move      known entries ~ N(κ α' y + (1 − κ) m, κ u'),    κ = f/(f + u');    unknown entries ~ N(m, f)

At σ' = 0 known entries are y. A measurement with noise s is a diffusion of y₀ to the level with σ = α s: above it
u = σ² − α² s², in the step across it u' = α'² s² − σ'², and below it known entries follow the chain.

The target is the distribution of the chain given that its x₀ has y on the known entries, or given the measurement. It
is exact as K → ∞ for any number of steps, and goes to the data's own conditional distribution as the steps shrink. For
any K, estimates weighted by the evidence are unbiased. The distribution at a level on the way is p(x) q(x) and not
p(x | y). It takes K evaluations per outer step, one for each particle, and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.chain import log_normal
from lanpaint.samplers.clean import measured
from lanpaint.samplers.gradient_free_chain import GradientFreeChain
from lanpaint.samplers.particles import repeated_level
from lanpaint.score import Score


class MCGDiff(GradientFreeChain):
    """MCGdiff (Cardoso et al., 2023). The defaults are those of InverseBench, which takes 200 steps.

    Args:
        score: The model, as in :class:`Sampler`.
        particles: K ≥ 1, particles for each sample.
        threshold: As in :class:`~lanpaint.TwistedSMC`; the paper resamples at every level.
        data_variance: As in :class:`~lanpaint.TwistedSMC`.
        **options: Options of :class:`Sampler`, except a solver.

    Attributes:
        cloud: As in :class:`~lanpaint.TwistedSMC`.

    Raises:
        ValueError: As :class:`~lanpaint.TwistedSMC`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        particles: int = 64,
        threshold: float = 1.0,
        data_variance: float = 1.0,
        **options: Any,
    ) -> None:
        options |= {"particles": particles, "threshold": threshold, "data_variance": data_variance}
        super().__init__(score, **options)

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The particles at the first level, with known entries drawn given the observation there."""
        state = super().begin(observation, noise, start)
        level, observation, x = state.level, state.observation, state.x
        wide, narrow = level.alpha**2 + level.sigma**2, _variance(observation, level)
        value = cast_like(level.alpha, x) * observation.values
        known = cast_like(wide * reciprocal(wide + narrow), x) * value
        known = known + cast_like((narrow * reciprocal(wide + narrow)).sqrt(), x) * x
        moved = observation.replace_known(x, known)
        evidence = log_normal(value, wide + narrow, observation.known)
        evidence = evidence + _density(observation, level, ~observation.is_above(level))
        first = evidence.reshape(-1, self.particles)[:, 0]
        return replace(state, x=moved, memory=replace(state.memory, log_resampled=first))

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """Weigh, resample, move."""
        x, level, observation = state.x, state.level, measured(state.observation)
        next_level = repeated_level(visit.next_level, self.particles, x.ndim)
        prediction = self.score.predict(x, level)
        chain = self.chain(level, next_level)
        mean, deviation = chain.mean(prediction, next_level), chain.deviation
        narrow = _variance(observation, next_level)
        above = observation.is_above(level) & (level.sigma > 0)
        guided = observation.known & cast_like(above, observation.known)
        here, there = (cast_like(each.alpha, x) * observation.values for each in (level, next_level))
        ratio = log_normal(there - mean, deviation**2 + narrow, guided)
        ratio = ratio - log_normal(here - x, _variance(observation, level), guided)
        ratio = ratio + _density(observation, next_level, above & ~observation.is_above(next_level))
        rows, particles = state.memory.weighted(ratio).resampled(self.threshold, noise)
        mean, fresh = mean[rows], noise(x)
        pull = deviation**2 * reciprocal(deviation**2 + narrow)  # κ
        known = mean + cast_like(pull, x) * (there - mean) + cast_like((pull * narrow).sqrt(), x) * fresh
        x = torch.where(guided, known, mean + cast_like(deviation, x) * fresh)
        return replace(state, x=x, level=next_level, prediction=prediction, memory=particles)


def _variance(observation: Observation, level: NoiseLevel) -> Tensor:
    """u, shape of the level: |σ² − α² s²|."""
    return (level.sigma**2 - (level.alpha * observation.noise) ** 2).abs()


def _density(observation: Observation, level: NoiseLevel, crossed: Tensor) -> Tensor:
    """Log α for each known entry that crosses the level of its measurement, (B K,): N(α y; …) as a density of y."""
    each = torch.where(crossed & (level.alpha > 0), level.alpha, 1.0).log()
    known = observation.known.expand_as(observation.values)
    return torch.where(known, cast_like(each, observation.values), 0.0).double().flatten(1).sum(1)
