"""SMCDiff with Langevin moves, for modes that the known part decides at low noise only.

In SMCDiff (Trippe et al., 2023, arXiv:2206.04119, Alg. 2) K particles of the unknown part, a group, share one path of
the known part (:mod:`lanpaint.samplers.known_path`). Given y at a level, x does not depend on noisier y. So at each
level the weighted particles follow p(x | y), and moves that keep it may follow (Gilks & Berzuini, 2001).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_between
from lanpaint.dynamics import PartialRefresh
from lanpaint.fields import FieldDrift
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.known_path import first_log_ratio, path_step
from lanpaint.samplers.lanpaint import LanPaint
from lanpaint.samplers.particles import KeepCloud, OneByOne, ParticleMemory, Particles, grouped, repeated
from lanpaint.samplers.presets import fast_time_step
from lanpaint.samplers.sampler import refuse_solver
from lanpaint.score import Score
from lanpaint.solvers import DDIM


class SMCDiff(LanPaint):
    """SMCDiff (Trippe et al., 2023) with Langevin moves: particles are resampled by what they say of the known part.

    As K → ∞ and steps get short, samples follow the exact conditional. A mode is found if a particle has entered it at
    high noise. Levels and steps are those of LanPaint's fast preset. An outer step takes K (N + 1) evaluations of shape
    (B, …), also in pipelines. Callbacks get all particles, (B K, …). ``start``, (B, …), begins one of each group.

    Args:
        score: The model, as in :class:`Sampler`.
        particles: K ≥ 1, particles for each sample. One of them is returned, drawn by its weight.
        inner_steps: N ≥ 0, as in the fast preset of :class:`LanPaint`. They move the unknown part.
        threshold: As in :class:`TwistedSMC`.
        eta: η in [0, 1] of DDIM: 1 in SMCDiff, where N = 0. With η = 0 and N = 0 copies of a particle stay together.
        **options: ``step_size`` and ``data_scale`` of :class:`LanPaint`, and options of :class:`Sampler`, no solver.

    Attributes:
        cloud: As in :class:`TwistedSMC`.

    Raises:
        ValueError: For settings outside of these ranges, a solver, a plan with time travel, and as :class:`LanPaint`.
    """

    takes_noise = False

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        particles: int = 8,
        inner_steps: int | Sequence[int] = 2,
        threshold: float = 0.5,
        eta: float = 0.0,
        **options: Any,
    ) -> None:
        check_between("threshold", threshold, 0, 1)
        refuse_solver("SMCDiff", options)
        options |= {"solver": DDIM(eta), "inner_steps": inner_steps}
        super().__init__(OneByOne(score, particles), preset="fast", lam=0.0, dynamics=PartialRefresh(1 / 3), **options)
        if self.plan.order != tuple(range(self.steps)):
            raise ValueError("SMCDiff takes no plan with time travel: the known part cannot go back on its path")
        self.plan = self.plan.with_particles(particles)
        self.particles, self.threshold = particles, float(threshold)
        self.cloud: Particles | None = None
        self.callbacks.append(KeepCloud())

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level: K particles with one known part, which is drawn from p_t(y | y_o)."""
        single, groups = observation.draw(noise), len(observation.values)
        state = super().begin(repeated(single, self.particles), grouped(noise, groups), None)
        if start is not None:
            state.x[:: self.particles] = self._start(state.level, single, noise, start)
        path = single.diffused(state.level, noise(single.values)).repeat_interleave(self.particles, 0)
        ratio = first_log_ratio(path, state.level, state.observation, self.data_scale)[:: self.particles]
        particles = Particles(torch.zeros_like(ratio)[:, None].repeat(1, self.particles), ratio)
        x = state.observation.replace_known(state.x, path)
        return replace(state, x=x, memory=ParticleMemory(state.memory.solver, particles=particles))

    def _prepare(self, *arguments: Any) -> tuple[SamplerState, NoiseSource]:
        state, noise = super()._prepare(*arguments)
        return state, grouped(noise, len(state.memory.particles.log_weights))

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state with the dynamics started at the new level. The known part stays on its path."""
        entered = super().enter(state, visit, noise)
        return replace(entered, x=state.observation.replace_known(entered.x, state.x))

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """The score, with the time steps of the fast preset on the unknown part. The known part does not move."""
        field, draws = self.field(observation), observation.draws
        unknown, held = fast_time_step(field, level, self.step_size, self.data_scale)
        held = 0 * held if draws is None else held * draws.entries
        return field.drift(level, torch.stack(torch.broadcast_tensors(unknown, held)))

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step of each particle, weighed by the step of the known part that they share, and resampling."""
        observation, before = state.observation, state.memory.particles
        state = super().advance(state, visit, noise)
        shared = noise(state.x[:: self.particles]).repeat_interleave(self.particles, 0)
        y, log_ratio = path_step(state.prediction, visit.next_level, observation, shared)
        rows, particles = before.weighted(log_ratio).resampled(self.threshold, noise)
        x = observation.replace_known(state.x, y)[rows]
        return replace(state, x=x, memory=replace(state.memory, particles=particles))

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """One particle of each group, drawn by weight. The memory keeps all particles."""
        cloud = replace(state.memory.particles, x=state.observation.finish(state.x))
        return replace(cloud.chosen(state, noise), memory=replace(state.memory, particles=cloud))
