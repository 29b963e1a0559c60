"""RED-diff (Mardani et al., 2023, arXiv:2305.04391, Alg. 1): a point, not a sample.

It minimises a divergence from a Gaussian of no width around a point μ. From noisy to clean levels, with a fresh ε each,

    x = α μ + σ ε,      g = (σ/α) (ε̂(x) − ε) on unknown entries,      μ ← Adam(μ, g),      μ = y on known entries

The published loss has a second term, which pulls known entries to y with weight 1, and g has a factor λ = 0.25. Here
known entries are y, and no other term acts on the rest, where Adam takes the same steps for any λ. The state x of a run
is α μ + σ ε, and at the clean end μ itself.

There is no law that it targets: μ goes to a mode, and what differs from run to run is the noise of the optimiser. On a
Gaussian with the last levels close to σ = 0, μ goes to the conditional mean. It takes one evaluation per outer step,
and no gradients. It needs many steps: 1000 are published. At a level without signal μ stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_between
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.clean import recomputed
from lanpaint.samplers.sampler import Memory, Sampler, refuse_solver
from lanpaint.score import Score

BETAS, TINY = (0.9, 0.99), 1e-8  # of Adam


@dataclass(frozen=True)
class PointMemory(Memory):
    """The point μ and the moments of Adam, shape of x, and the number of updates."""

    point: Tensor | None = None
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0
    updates: int = 0


class REDDiff(Sampler):
    """RED-diff (Mardani et al., 2023): a point near a mode of the conditional, not a sample from it.

    Args:
        score: The model, as in :class:`Sampler`.
        learning_rate: Length of a step of Adam, in units of the data.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, and as :class:`Sampler`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        learning_rate: float = 0.1,
        **options: Any,
    ) -> None:
        refuse_solver("REDDiff", options)
        super().__init__(score, **options)
        self.learning_rate = check_between("learning_rate", learning_rate, 0, math.inf)

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state α μ + σ ε, with μ = y on known entries and 0 elsewhere; ``start`` itself if it is given."""
        state = super().begin(observation, noise, start)
        level, point = state.level, torch.where(state.observation.known, state.observation.values, 0.0)
        norm = reciprocal((level.alpha**2 + level.sigma**2).sqrt())
        x = state.x if start is not None else level.perturb(point, cast_like(norm, point) * state.x)
        return replace(state, x=x, memory=PointMemory(state.memory.solver, point))

    def gradient(self, x: Tensor, point: Tensor, level: NoiseLevel, epsilon: Tensor) -> Tensor:
        """(σ/α)(ε̂ − ε), shape of x. The mean over ε of ε̂ alone is the same, but has more variance."""
        weight = level.sigma * reciprocal(level.alpha)
        return cast_like(weight, x) * (epsilon - recomputed(x, point, level))

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One step of Adam, and a fresh ε at the next level."""
        memory, observation = state.memory, state.observation
        prediction = self.score.predict(state.x, visit.level)
        gradient = self.gradient(state.x, memory.point, visit.level, prediction.epsilon)
        updates = memory.updates + 1
        first = BETAS[0] * memory.first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * memory.second + (1 - BETAS[1]) * gradient**2
        slope, size = first / (1 - BETAS[0] ** updates), (second / (1 - BETAS[1] ** updates)).sqrt()
        point = memory.point - self.learning_rate * slope / (size + TINY)
        point = observation.replace_known(point, observation.values)
        x = visit.next_level.perturb(point, noise(state.x))
        memory = replace(memory, point=point, first=first, second=second, updates=updates)
        return replace(state, x=x, level=visit.next_level, prediction=prediction, memory=memory)
