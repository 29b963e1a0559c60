"""Twisted diffusion sampling: sequential Monte Carlo for masks (Wu et al., 2023, "TDS", Alg. 1 and Sec. 3.3).

The target is the distribution of the path of the model's chain (:mod:`lanpaint.samplers.chain`, with k, b, s and v),
given that its x₀ equals y_o on the known entries. K particles follow it with

    twist         ψ(x) = N(y_o; x̂₀(x), v) over the known entries
    pull          p = (σ²/α) ∇_x log ψ(x),      h = min(1, ‖e‖²/⟨e, p⟩) p,      e = y_o − x̂₀ on the known entries
    proposal      q(x'|x) = N(x'; mean of the chain + b h, s²)
    weight        w' = w ψ(x') p(x'|x) / (ψ(x) q(x'|x)),      p(x'|x) the density of the chain's step

The pull p moves x̂₀ towards y_o. The factor min(1, …) keeps x̂₀ from overshooting y_o where v is too small for the
data. Weights are right for any mean of the proposal. Because the proposal has the variance s² of the chain, the weight
of a step has finite moments of every order, given x. (Known entries could take a smaller variance on their way to y_o.
That suits long steps better, but the moments are infinite where the model's variance of known entries is below v.)

The last step sets the known entries to y_o, and unknown entries follow the chain. The chain's density of y_o is the
twist itself. So the weights are complete when the last level is reached.

For a measurement with noise s the twist is N(y_o; x̂₀, v + s²), all entries follow the chain to the end, and the last
factor of the weight is N(y_o; x₀, s²). This is the likelihood of Wu et al. (Sec. 3.1) with Gaussian noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.chain import ChainSampler, log_normal
from lanpaint.samplers.clean import measured
from lanpaint.samplers.gradients import check_checkpoint, differentiate, known_error
from lanpaint.samplers.particles import repeated_level, total
from lanpaint.score import Score


class TwistedSMC(ChainSampler):
    """Twisted SMC (Wu et al., 2023): the reference that other samplers are compared with.

    K particles, a group, stand for each sample of the batch. One particle of each group is returned.

    As K → ∞ the weighted particles, and the sample drawn from them, follow the conditional distribution of the
    discretised chain, for any number of steps. For any K, estimates weighted by the evidence are unbiased. For an exact
    score, the chain's conditional distribution tends to the exact one as steps → ∞. Each outer step takes K
    evaluations, in one call on particles of shape (B K, …), differentiated through the network.

    Callbacks and :meth:`iterate` get a :class:`~lanpaint.SamplerState` with all particles, shape (B K, …); only the
    last state has the samples, shape (B, …). ``start`` has shape (B K, …) too. A sequence of generators has one
    generator per group, so a group does not depend on its batch.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        particles: K ≥ 1, particles for each sample.
        threshold: A group is resampled (systematically) when its effective sample size is below this share of K: never
            at 0, nearly always at 1.
        data_variance: a > 0, variance of the data, in units of the data squared.
        checkpoint: As in :class:`~lanpaint.DPS`.
        **options: Options of :class:`Sampler`, except a solver: the chain makes the outer steps.

    Attributes:
        cloud: :class:`Particles` after the last step of the latest run: weights, effective sample sizes and the
            evidence. None before the first run.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, for ``checkpoint=True`` with a score that holds
            no network, and as :class:`Sampler`. In the first step: when the score gives no gradient.
    """

    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        particles: int = 64,
        threshold: float = 0.5,
        data_variance: float = 1.0,
        checkpoint: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(score, particles=particles, threshold=threshold, data_variance=data_variance, **options)
        self.checkpoint = checkpoint
        if checkpoint:
            check_checkpoint(self.score)

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """One particle of each group, drawn by weight. The memory keeps all particles.

        A measurement with noise s weighs the particles by N(y_o; x₀, s²), which is ψ where v is 0.
        """
        observation = measured(state.observation)
        if observation.is_noisy:
            error = torch.where(observation.known, observation.values - state.x, 0.0)
            weighed = state.memory.weighted(log_normal(error, observation.noise**2, observation.known))
            state = replace(state, memory=weighed)
        return super().finish(state, noise)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One step of Alg. 1: weigh, resample, propose."""
        x, count, observation, particles = state.x, self.particles, measured(state.observation), state.memory
        level = state.level
        next_level = repeated_level(visit.next_level, count, x.ndim)
        variance = self.clean_variance(level)
        # Exact known entries that reach σ' = 0 in this step are set to y_o. Their weight is the twist itself.
        pinned = observation.exact & cast_like(next_level.sigma == 0, observation.known)
        kept = observation.known & ~pinned

        # Weigh by ψ at x. The twist of the kept entries gives the pull, and is divided out of the weight below.
        prediction, twist, gradient = differentiate(
            self.score, x, level, lambda at: _log_twist(at, observation, variance, kept), save_memory=self.checkpoint
        )
        final_twist = _log_twist(prediction, observation, variance, pinned)
        rows, particles = particles.weighted(twist + final_twist).resampled(self.threshold, noise)
        denoised, epsilon = prediction.denoised[rows], prediction.epsilon[rows]
        error = known_error(observation, prediction)[rows]

        # Propose, and weigh by p/q: with x' = mean + b h + s ξ, log p/q = −⟨b h/s, ξ⟩ − ‖b h/s‖²/2.
        kept_noise, jump, deviation = self.chain(level, next_level)
        pull = cast_like(level.sigma**2 * reciprocal(level.alpha), x) * gradient[rows]
        error = torch.where(kept, error, 0.0)
        reached, needed = total(error * pull), total(error.square())
        pull = pull * _as_column(needed * reciprocal(torch.maximum(reached, needed)), pull)
        fresh = noise(x)
        mean = cast_like(next_level.alpha, x) * denoised + cast_like(next_level.sigma * kept_noise, x) * epsilon
        shift = cast_like(jump * reciprocal(deviation), x) * pull  # b h/s; 0 where s = 0
        x = mean + cast_like(deviation, x) * (shift + fresh)
        x = torch.where(pinned, cast_like(next_level.alpha, x) * observation.values, x)
        log_ratio = total(torch.where(pinned, 0.0, -shift * (fresh + shift / 2)))
        memory = particles.weighted(log_ratio - twist[rows])
        return replace(state, x=x, level=next_level, prediction=prediction, memory=memory)


def _log_twist(prediction: Prediction, observation: Observation, variance: Tensor, mask: Tensor) -> Tensor:
    """Log N(y_o; x̂₀, v + s²) over the entries of ``mask``, with v the variance given, shape (B K,), float64."""
    return log_normal(observation.values - prediction.denoised, variance + observation.noise**2, mask)


def _as_column(each: Tensor, like: Tensor) -> Tensor:
    return each.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))
