"""Mixture-guided diffusion, MGDM (Janati et al., 2025, arXiv:2502.03332), with A a mask.

At a level t the state is (x₀, x_s, x_t) with s < t. A Gibbs sweep draws, in the notation of
:mod:`lanpaint.samplers.midpoint`,

    x_s | x₀, x_t     a draw of the fit to q(x_s | x₀, x_t) N(y; A x̂₀(x_s), s_y²), with q the bridge
    x_t | x_s         the forward process
    x₀ | x_s          a few ancestral steps of the model

and x' at the next level is the bridge from x₀ to x_t. The paper draws s at random. Here it runs through the levels
below t in a golden-ratio sequence, uniform in effect, so that a sample does not depend on its batch. For many ancestral
steps all conditionals but that of x_s are exact: the method is a heuristic. A sweep takes M evaluations with a gradient
and up to D without; the first takes one more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.midpoint import CLEAN, MidpointSampler, bridge
from lanpaint.samplers.sampler import Memory, renoise
from lanpaint.score import Score
from lanpaint.solvers import DDIM, SolverState

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class CleanMemory(Memory):
    """What MGDM remembers between two steps: ``clean``, x₀, shape of x."""

    clean: Tensor


class MGDM(MidpointSampler):
    """MGDM (Janati et al., 2025): Gibbs sweeps over three levels. Known entries are set at the end only.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        sweeps: R ≥ 0, Gibbs sweeps at each level but the last noisy one. Quality grows with R.
        ancestral_steps: D ≥ 1, at most so many ancestral steps for x₀.
        **options: As of :class:`~lanpaint.MGPS` but for the midpoint, and options of :class:`Sampler` but a solver.

    Raises:
        ValueError: For R < 0 or D < 1, and as the fit and :class:`Sampler`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        sweeps: int = 1,
        ancestral_steps: int = 5,
        **options: Any,
    ) -> None:
        check_whole("sweeps (R)", sweeps, least=0)
        check_whole("ancestral_steps (D)", ancestral_steps, least=1)
        super().__init__(score, **options)
        self.sweeps, self.ancestral_steps = sweeps, ancestral_steps
        numbers = [sweeps] * (self.steps - 1) + [0]
        sweeps_at = [[self._down(self._middle(step, i)) for i in range(count)] for step, count in enumerate(numbers)]
        costs = [sum(self.inner_steps + len(down) - 1 for down in each) for each in sweeps_at]
        plan = replace(self.plan, outer_evaluations=[1] + [0] * (self.steps - 1))
        self.plan = plan.with_inner_steps(numbers, costs)

    def _middle(self, step: int, sweep: int) -> int:
        """Number of the level s of a sweep, one of those between the level of the outer step and the clean end."""
        share = (GOLDEN * (1 + step * max(self.sweeps, 1) + sweep)) % 1
        return step + 1 + int(share * (self.steps - step - 1))

    def _down(self, number: int) -> list[int]:
        """Numbers of the levels of the ancestral steps, from one level to the clean end."""
        count = min(self.ancestral_steps, self.steps - number)
        return [number + round(i * (self.steps - number) / count) for i in range(count + 1)]

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state at the level, with x̂₀ for x₀ at the first one."""
        state = super().enter(state, visit, noise)
        if isinstance(state.memory, CleanMemory):
            return state
        clean = self.score.predict(state.x, visit.level).denoised
        return replace(state, memory=CleanMemory(state.memory.solver, clean))

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """A Gibbs sweep."""
        number = self._middle(visit.step, state.inner)
        clean, _, x = self.sweep(state.memory.clean, state.x, visit.level, number, state.observation, noise)
        return replace(state, x=x, memory=replace(state.memory, clean=clean))

    def sweep(
        self, clean: Tensor, x: Tensor, level: NoiseLevel, number: int, observation: Observation, noise: NoiseSource
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x₀, x_s and x_t after a sweep, with s the level of a number."""
        at = self.plan.levels[number]
        middle = self.draw_fit(*bridge(CLEAN, at, level, clean, x), at, observation, noise)
        return self.cleaned(middle, number, noise), middle, renoise(middle, at, level, noise(x))

    def cleaned(self, x: Tensor, number: int, noise: NoiseSource) -> Tensor:
        """x₀ given x at the level of a number, by ancestral steps."""
        state, down = SolverState(x), self._down(number)
        for here, there in pairwise(down):
            state = DDIM(1.0).step(state, self.score, self.plan.levels[here], self.plan.levels[there], noise)
        return state.x

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The bridge from x₀ to x, at the next level."""
        mean, variance = bridge(CLEAN, visit.next_level, visit.level, state.memory.clean, state.x)
        x = mean + cast_like(variance.sqrt(), mean) * noise(mean)
        return replace(state, x=x, level=visit.next_level)
