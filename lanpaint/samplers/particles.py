"""Groups of weighted particles: what the methods of sequential Monte Carlo share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lanpaint.callbacks import Callback, RunningSampler
from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.langevin_sampler import LangevinMemory
from lanpaint.score import Score, ScoreWrapper


@dataclass(frozen=True)
class Particles:
    """B groups of K weighted particles.

    Attributes:
        x: The particles, group after group, shape (B K, …). None during a run, when the sampler's state holds them.
        log_weights: Logarithms of the weights since the last resampling, shape (B, K).
        log_resampled: Sum of the logarithms of the mean weights at each resampling, shape (B,).
        ess: Effective sample size 1/Σ W² of each group before resampling: a tensor of shape (B,) for each level.
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
        """Logarithm (in nats) of an estimate of p(y_o), the density of the known entries under the chain, shape (B,).

        The estimate of p(y_o) is unbiased; its logarithm is not.
        """
        return self.log_resampled + _log_mean(self.log_weights)

    def weighted(self, log_ratio: Tensor) -> Particles:
        """The particles with weights multiplied by a ratio, whose logarithm is given, shape (B K,)."""
        return replace(self, log_weights=self.log_weights + log_ratio.reshape(self.log_weights.shape))

    def resampled(self, threshold: float, noise: NoiseSource) -> tuple[Tensor, Particles]:
        """Groups whose effective sample size is below ``threshold`` K, resampled (systematically).

        Returns:
            Rows of the (B K, …) state that the particles go on from, and their weights after that.
        """
        count = self.log_weights.shape[1]
        ess = 1 / self.weights.square().sum(1)
        needy = (ess < threshold * count)[:, None]
        drawn = systematic(self.log_weights, noise, count)
        ancestors = torch.where(needy, drawn, torch.arange(count, device=drawn.device))
        log_resampled = self.log_resampled + torch.where(needy[:, 0], _log_mean(self.log_weights), 0.0)
        left = torch.where(needy, 0.0, self.log_weights)
        return _rows(ancestors, count), Particles(left, log_resampled, (*self.ess, ess), self.x)

    def chosen(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """The state of one particle of each group, drawn by weight, with known entries set to the observation."""
        rows = _rows(systematic(self.log_weights, noise, count=1), self.log_weights.shape[1])
        observation = state.observation.rows(rows)
        return replace(state, x=observation.finish(state.x[rows]), observation=observation)


@dataclass(frozen=True)
class ParticleMemory(LangevinMemory):
    """What a sampler of particles with a dynamics remembers between two steps: their weights too."""

    particles: Particles | None = None


class OneByOne(ScoreWrapper):
    """A score that evaluates the particles of a group one after another, each for all groups at once.

    So the model sees the batch of the samples, as in a pipeline, and K evaluations are made.

    Args:
        score: The score.
        particles: K ≥ 1, the number of particles. Rows k, K + k, 2 K + k, … of a (B K, …) state are evaluated together.
    """

    def __init__(self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], particles: int) -> None:
        check_whole("particles (K)", particles, least=1)
        super().__init__(score)
        self.particles = particles

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The prediction at all particles, by K evaluations."""
        firsts = range(self.particles)
        parts = [self.wrapped.predict(x[k :: self.particles], self._level_of(k, level, x)) for k in firsts]
        denoised, epsilon = (
            torch.stack([getattr(part, view) for part in parts], 1).flatten(0, 1) for view in ("denoised", "epsilon")
        )
        return Prediction(x, level, denoised=denoised, epsilon=epsilon)

    def _level_of(self, k: int, level: NoiseLevel, x: Tensor) -> NoiseLevel:
        """The level of particle k of each group: that of the batch, or its rows of a level of all particles."""
        if len(level.shape) < x.ndim or level.shape[0] != len(x):
            return level
        return NoiseLevel(level.alpha[k :: self.particles], level.sigma[k :: self.particles])


class KeepCloud(Callback):
    """Gives the sampler the particles of a run that ended without an error, as ``cloud``."""

    def on_run_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Keeps the particles if the run came to its end."""
        particles = getattr(state.memory, "particles", state.memory)
        if particles.x is not None:
            vars(getattr(sampler, "original", sampler))["cloud"] = particles


def total(each: Tensor) -> Tensor:
    """Sum over all entries of a sample, (B, …) → (B,), in float64."""
    return each.flatten(1).sum(1, dtype=torch.float64)


def _log_mean(log_weights: Tensor) -> Tensor:
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])


def systematic(log_weights: Tensor, noise: NoiseSource, count: int) -> Tensor:
    """Indices (B, ``count``) of systematic draws by weights (B, K), with one uniform number for each group."""
    uniform = torch.special.ndtr(noise(log_weights[:, :1]))
    positions = (uniform + torch.arange(count, device=uniform.device)) / count
    drawn = torch.searchsorted(torch.softmax(log_weights, dim=1).cumsum(1), positions)
    return drawn.clamp(max=log_weights.shape[1] - 1)  # by rounding, the sum of all weights may be below 1


def _rows(indices: Tensor, count: int) -> Tensor:
    """Row numbers of a (B K, …) tensor, from indices (B, any) within the groups."""
    return (indices + count * torch.arange(len(indices), device=indices.device)[:, None]).flatten()


def repeated(observation: Observation, count: int) -> Observation:
    """An observation of K = ``count`` particles for each sample, shape (B K, …)."""

    def each(part: Tensor) -> Tensor:
        return part.expand_as(observation.values).repeat_interleave(count, 0)

    change = None if observation.change is None else each(observation.change)
    noise = observation.rearranged_noise(each)
    return observation.like(each(observation.values), each(observation.known), change, noise)


def repeated_level(level: NoiseLevel, count: int, ndim: int) -> NoiseLevel:
    """A level of samples (B, …) as one of their particles (B K, …)."""
    if len(level.shape) < ndim or level.shape[0] == 1:
        return level
    return NoiseLevel(level.alpha.repeat_interleave(count, 0), level.sigma.repeat_interleave(count, 0))


def grouped(noise: NoiseSource, groups: int) -> NoiseSource:
    """A noise source for tensors (B K, …), from a noise source that has one generator per group."""
    return lambda like: noise(like.reshape(groups, -1, *like.shape[1:])).reshape(like.shape)
