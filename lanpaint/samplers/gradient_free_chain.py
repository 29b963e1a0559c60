"""The model's chain with particles that take no gradient: the base of MCGdiff and FPS-SMC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.chain import ChainSampler
from lanpaint.samplers.particles import OneByOne
from lanpaint.score import Score


class GradientFreeChain(ChainSampler):
    """A chain whose particles are evaluated one after another, so that a pipeline can carry it.

    The plan declares K evaluations for an outer step. Arguments are those of :class:`ChainSampler`.
    """

    takes_noise = True

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, particles: int, **options: Any
    ) -> None:
        super().__init__(OneByOne(score, particles), particles=particles, **options)
        self.plan = self.plan.with_particles(particles)

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level. ``start``, shape (B, …), is the first particle of each group."""
        state = super().begin(observation, noise, None)
        if start is not None:
            state.x[:: self.particles] = self._start(state.level, observation, noise, start)
        return state
