"""DAPS, decoupled annealing (Zhang et al., 2024, arXiv:2407.01521, Alg. 1), with H a mask.

At each level x̂₀ is not the posterior mean, but the clean end of the probability flow from x, in a few Euler steps. With
r = σ/α and a likelihood of standard deviation τ, a step is

    x₀ ~ exp(−‖y − x₀‖²/(2 τ²) − ‖x₀ − x̂₀‖²/(2 r²)),      y on known entries
    x' = α' x₀ + σ' ξ

For a mask the first line is a Gaussian for each entry, and is drawn exactly. The published code takes Langevin steps
x₀ ← x₀ − h ∇ + √(2h) ξ from x̂₀ instead, which do not reach that distribution on the unknown part.

The Euler steps go through levels of the plan, so that a pipeline can make them: n steps, or as many as levels are left.
The published code has 200 levels from σ = 100 to 0.1, and steps to levels of its own. Where the first level has no
signal, r is that of the next level.

The method is a heuristic. It would be exact if the first line were the distribution of x₀ given x and y, and it is not:
the known part says nothing about the unknown part within a level, and r counts the unknown part's variance twice. On a
Gaussian of two entries with correlation 0.8, of which one is known, with the exact flow, it ends at mean 0.763 and
variance 0.798 of the unknown entry with 200 steps, and the exact conditional has 0.8 and 0.36; with ``ode_steps=1``,
where x̂₀ is the posterior mean, at 0.769 and 0.389. It needs many levels: where r falls by a large factor from one level
to the next, x' is far too wide for its level. It takes n evaluations per outer step, fewer at the end, and no
gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_between, check_whole
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.clean import measured
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score


class DAPS(Sampler):
    """DAPS (Zhang et al., 2024). Published with 200 steps.

    Args:
        score: The model, as in :class:`Sampler`.
        ode_steps: n ≥ 1, Euler steps of the probability flow at each level.
        tau: τ ≥ 0, standard deviation of the likelihood, in units of the data. The noise of an observation that has one
            takes its place.
        langevin_steps: Langevin steps at each level; 0 draws from the same distribution exactly. 100 are published.
        langevin_step_size: h > 0 of the first level, in units of the data squared. It falls in proportion to the steps
            that are left, to 1 %.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, Langevin steps with τ = 0, a solver, and as :class:`Sampler`.
    """

    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        ode_steps: int = 5,
        tau: float = 0.01,
        langevin_steps: int = 0,
        langevin_step_size: float = 1e-4,
        **options: Any,
    ) -> None:
        check_whole("ode_steps (n)", ode_steps, least=1)
        check_whole("langevin_steps", langevin_steps, least=0)
        refuse_solver("DAPS", options)
        super().__init__(score, **options)
        self.ode_steps, self.langevin_steps = ode_steps, langevin_steps
        self.tau = check_between("tau (τ)", tau, 1e-9 if langevin_steps else 0, 1e100)
        self.langevin_step_size = check_between("langevin_step_size (h)", langevin_step_size, 0, math.inf)
        counts = [min(ode_steps, self.steps - step) for step in range(self.steps)]
        self.plan = replace(self.plan, outer_evaluations=counts)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """Alg. 1: the flow to the clean end, x₀ given that and y, and forward diffusion to the next level."""
        levels, count = self.plan.levels, min(self.ode_steps, self.steps - visit.step)
        passed = [visit.step + round(n * (self.steps - visit.step) / count) for n in range(count + 1)]
        x, prediction = state.x, None
        for here, there in itertools.pairwise(passed):
            seen = self.score.predict(x, levels[here])
            prediction = prediction or seen
            x = levels[there].perturb(seen.denoised, seen.epsilon)
        clean = self._draw(x, measured(state.observation), visit, noise)
        x = visit.next_level.perturb(clean, noise(x))
        return replace(state, x=x, level=visit.next_level, prediction=prediction)

    def _draw(self, flowed: Tensor, observation: Observation, visit: Visit, noise: NoiseSource) -> Tensor:
        """x₀ given the clean end of the flow and y, shape of x."""
        level = visit.level if bool((visit.level.alpha > 0).all()) else visit.next_level
        wide, narrow = (level.sigma * reciprocal(level.alpha)) ** 2, observation.noise_or(self.tau) ** 2  # r², τ²
        if not self.langevin_steps:
            gain = wide * reciprocal(wide + narrow)
            fresh = noise(flowed)
            known = flowed + cast_like(gain, flowed) * (observation.values - flowed)
            known = known + cast_like((gain * narrow).sqrt(), flowed) * fresh
            return observation.replace_known(flowed + cast_like(wide.sqrt(), flowed) * fresh, known)
        x, size = flowed, self.langevin_step_size * (1 - 0.99 * visit.step / self.steps)
        zero, scale, narrow = torch.zeros_like(x), cast_like(reciprocal(wide), x), cast_like(narrow, x)
        for _ in range(self.langevin_steps):
            pull = observation.replace_known(zero, (observation.values - x) / narrow) + scale * (flowed - x)
            x = x + size * pull + (2 * size) ** 0.5 * noise(x)
        return x
