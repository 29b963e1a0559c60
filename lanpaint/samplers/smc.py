"""Twisted diffusion sampling: sequential Monte Carlo for masks (Wu et al., 2023, "TDS", Alg. 1 and Sec. 3.3).

The model's ancestral chain, from x ~ N(0, α² + σ²) at the first level, draws with x̂₀ and ε̂ predicted at (α, σ)

    x' = α' x̂₀ + σ' k ε̂ + s ξ,      k = σ' α/(σ α'),    b = α' (1 − k²),    s² = σ'² (1 − k²) + b² v

that is, x₀ from N(x̂₀, v) and then x' from the forward process given x₀ and x. v = a σ²/(α² a + σ²) is the variance of
x₀ given x for data of variance a: the chain is exact for N(0, a) in one step, and as steps shrink for any data and any
a > 0. (In variance-preserving coordinates a = 1 is DDPM with its large variance, a = 0 with its small one.) Its last
step draws x₀ ~ N(x̂₀, v), which has a density, so that the chain can be conditioned on known entries without noise.

The target is that: the law of the chain's path given that its x₀ equals y_o on the known entries. K particles follow

    twist         ψ(x) = N(y_o; x̂₀(x), v) over the known entries
    proposal      x' ~ N(mean of the chain + b h, s²),      h = min(1, ‖e‖²/⟨e, p⟩) p,      p = (σ²/α) ∇_x log ψ(x)
    weight        w' = w ψ(x') p(x'|x) / (ψ(x) q(x'|x))                  of the chain's step p and of the proposal q

where p is what guidance adds to x̂₀ and e = y_o − x̂₀ the error on the known entries. The factor of h keeps the guided
x̂₀ from overshooting y_o, where v is too small for the data. Any mean is right: with the chain's own variance s² the
weight of a step has all moments given x. (The smaller variance of known entries on their way to y_o suits long steps
better, but then it has none where the model is surer of them than v.) In the last step the known entries are put to
y_o: the chain's density of that is the twist itself, so the weights are complete when the last level is reached, and
unknown entries follow the chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.callbacks import Callback, RunningSampler
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit, check_whole
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.gradients import check_checkpoint, differentiate, known_error
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score


@dataclass(frozen=True)
class Particles:
    """B groups of K weighted particles.

    Attributes:
        x: The particles, group after group, shape (B K, …); None in the memory of a run, whose state holds them.
        log_weights: Logarithms of the weights since the last resampling, shape (B, K).
        log_resampled: Sum of the logarithms of the mean weights at each resampling, shape (B,).
        ess: Effective sample size 1/Σ W² of each group at each level, before resampling: one (B,) for a level.
    """

    log_weights: Tensor
    log_resampled: Tensor
    ess: tuple[Tensor, ...] = ()
    x: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """Normalised weights W, shape (B, K)."""
        return torch.softmax(self.log_weights, dim=1)

    @property
    def log_evidence(self) -> Tensor:
        """Logarithm of the estimate of p(y_o), the density of the known entries under the chain, in nats: shape (B,).

        The estimate itself, not its logarithm, is unbiased.
        """
        return self.log_resampled + _log_mean(self.log_weights)


class TwistedSMC(Sampler):
    """Twisted SMC: the yardstick that other samplers are measured against. One sample of each group is returned.

    As K → ∞ the weighted particles, and the sample drawn from them, follow the conditional law of the discretised chain
    above, whatever the number of steps; for any K, estimates weighted by the evidence are unbiased for it. The chain's
    conditional in turn tends to the exact one as steps → ∞, for an exact score. K evaluations per step, made in one
    call on (B K, …) particles, differentiated through the network.

    Moments and callbacks see all particles, of shape (B K, …), but for the result. ``start`` is of that shape too. Per
    sample generators are per group, so a group does not depend on its batch.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        particles: K ≥ 1, particles for each sample.
        threshold: A group whose effective sample size is below this share of K is resampled (systematically); 0 never
            does, 1 (almost) always.
        data_variance: a > 0, the data's variance in their units squared.
        checkpoint: As in :class:`~lanpaint.DPS`.
        **options: Those of :class:`Sampler`, without a solver: the chain is its own.

    Attributes:
        cloud: :class:`Particles` after the last step of the latest run, None before one: weights, effective sample
            sizes and the evidence.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, for a ``checkpoint`` without a network, and as
            :class:`Sampler`. In the first step, when the score gives no gradient.
    """

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
        check_whole("particles (K)", particles, least=1)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
        if not 0 < data_variance < math.inf:
            raise ValueError(f"data_variance (a) must be positive and finite, got {data_variance}")
        refuse_solver("TwistedSMC", options)
        super().__init__(score, **options)
        self.particles, self.threshold, self.data_variance = particles, threshold, data_variance
        self.checkpoint = checkpoint
        if checkpoint:
            check_checkpoint(self.score)
        self.cloud: Particles | None = None
        self.callbacks.append(_KeepCloud())

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """K particles for each sample, of equal weights."""
        groups, count = len(observation.values), self.particles
        observation = _repeated(observation.draw(noise), count)
        level = _repeated_level(self.plan.levels[0], count, len(observation.shape))
        x = self._start(level, observation.values, _grouped(noise, groups), start)
        weights = torch.zeros(groups, count, dtype=torch.float64, device=x.device)
        return SamplerState(x, level, observation, memory=Particles(weights, weights[:, 0]))

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """Particles are where their last step has led them."""
        return state

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """One particle of each group, drawn by its weight. The memory keeps all of them."""
        chosen = _flat(_systematic(state.memory.log_weights, noise, count=1), self.particles)
        observation = Observation(state.observation.values[chosen], state.observation.known.expand_as(state.x)[chosen])
        cloud = replace(state.memory, x=state.observation.finish(state.x))
        return replace(state, x=observation.finish(state.x[chosen]), observation=observation, memory=cloud)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """Weigh, resample, propose: one step of Alg. 1."""
        x, count, observation, particles = state.x, self.particles, state.observation, state.memory
        noise = _grouped(noise, len(particles.log_weights))
        level = state.level
        next_level = _repeated_level(visit.next_level, count, x.ndim)
        variance = self._clean_variance(level)
        # Entries that reach σ' = 0 in this step are put to y_o, with the twist itself for a weight.
        pinned = observation.known & cast_like(next_level.sigma == 0, observation.known)
        kept = observation.known & ~pinned

        # Weigh by ψ at x. What is kept of it is divided out again below, and guides the proposal.
        prediction, twist, gradient = differentiate(
            self.score, x, level, lambda at: _log_twist(at, observation, variance, kept), save_memory=self.checkpoint
        )
        final_twist = _log_twist(prediction, observation, variance, pinned)
        log_weights = particles.log_weights + (twist + final_twist).reshape(-1, count)
        normalised = torch.softmax(log_weights, dim=1)
        ess = 1 / normalised.square().sum(1)

        # Resample the groups in need.
        needy = (ess < self.threshold * count)[:, None]
        ancestors = torch.where(needy, _systematic(log_weights, noise, count), torch.arange(count, device=x.device))
        log_resampled = particles.log_resampled + torch.where(needy[:, 0], _log_mean(log_weights), 0.0)
        log_weights = torch.where(needy, 0.0, log_weights)
        rows = _flat(ancestors, count)
        denoised, epsilon = prediction.denoised[rows], prediction.epsilon[rows]
        error = known_error(observation, prediction)[rows]

        # Propose, and weigh by p/q: with x' = mean + b h + s ξ, log p/q = −⟨b h/s, ξ⟩ − ‖b h/s‖²/2.
        kept_noise = next_level.sigma * level.alpha * reciprocal(level.sigma * next_level.alpha)  # k
        jump = next_level.alpha * (1 - kept_noise**2)  # b
        deviation = (next_level.sigma**2 * (1 - kept_noise**2) + jump**2 * variance).clamp(min=0).sqrt()  # s
        pull = cast_like(level.sigma**2 * reciprocal(level.alpha), x) * gradient[rows]
        error = torch.where(kept, error, 0.0)
        reached, needed = _sum(error * pull), _sum(error.square())
        pull = pull * _as_column(needed * reciprocal(torch.maximum(reached, needed)), pull)
        fresh = noise(x)
        mean = cast_like(next_level.alpha, x) * denoised + cast_like(next_level.sigma * kept_noise, x) * epsilon
        shift = cast_like(jump * reciprocal(deviation), x) * pull  # in units of s, 0 where nothing is drawn
        x = mean + cast_like(deviation, x) * (shift + fresh)
        x = torch.where(pinned, cast_like(next_level.alpha, x) * observation.values, x)
        log_ratio = _sum(torch.where(pinned, 0.0, -shift * (fresh + shift / 2)))
        log_weights = log_weights + (log_ratio - twist[rows]).reshape(-1, count)
        memory = Particles(log_weights, log_resampled, (*particles.ess, ess))
        return replace(state, x=x, level=next_level, prediction=prediction, memory=memory)

    def _clean_variance(self, level: NoiseLevel) -> Tensor:
        """The chain's variance v = a σ²/(α² a + σ²) of x₀ given x, shape of the level; a at α = 0."""
        return level.sigma**2 * reciprocal(level.alpha**2 + level.sigma**2 / self.data_variance)


class _KeepCloud(Callback):
    """Hands the particles of a run that has come to its end to its sampler."""

    def on_run_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        if isinstance(sampler, TwistedSMC) and state.memory.x is not None:
            sampler.cloud = state.memory


def _log_twist(prediction: Prediction, observation: Observation, variance: Tensor, mask: Tensor) -> Tensor:
    """Log N(y_o; x̂₀, v) over the entries of ``mask`` with v > 0, shape (B K,), float64."""
    variance = cast_like(variance, prediction.x)
    square = (observation.values - prediction.denoised).square() * reciprocal(variance)
    normal = -0.5 * (square + torch.log(2 * math.pi * torch.where(variance > 0, variance, 1.0)))
    return _sum(torch.where(mask & (variance > 0), normal, 0.0))


def _sum(each: Tensor) -> Tensor:
    """Sum over all entries of a sample, (B, …) → (B,), in float64."""
    return each.flatten(1).sum(1, dtype=torch.float64)


def _as_column(each: Tensor, like: Tensor) -> Tensor:
    return each.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


def _log_mean(log_weights: Tensor) -> Tensor:
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])


def _systematic(log_weights: Tensor, noise: NoiseSource, count: int) -> Tensor:
    """Indices (B, ``count``) of systematic draws by weights (B, K): one uniform number a group."""
    uniform = torch.special.ndtr(noise(log_weights[:, :1]))
    positions = (uniform + torch.arange(count, device=uniform.device)) / count
    drawn = torch.searchsorted(torch.softmax(log_weights, dim=1).cumsum(1), positions)
    return drawn.clamp(max=log_weights.shape[1] - 1)  # rounding may leave the last sum below 1


def _flat(indices: Tensor, count: int) -> Tensor:
    """Rows of a (B K, …) tensor, of indices (B, any) within the groups."""
    return (indices + count * torch.arange(len(indices), device=indices.device)[:, None]).flatten()


def _repeated(observation: Observation, count: int) -> Observation:
    values, known = observation.values, observation.known.expand_as(observation.values)
    return Observation(values.repeat_interleave(count, 0), known.repeat_interleave(count, 0))


def _repeated_level(level: NoiseLevel, count: int, ndim: int) -> NoiseLevel:
    if len(level.shape) < ndim or level.shape[0] == 1:
        return level
    return NoiseLevel(level.alpha.repeat_interleave(count, 0), level.sigma.repeat_interleave(count, 0))


def _grouped(noise: NoiseSource, groups: int) -> NoiseSource:
    """Noise for (B K, …) from a source of one generator per group."""
    return lambda like: noise(like.reshape(groups, -1, *like.shape[1:])).reshape(like.shape)
