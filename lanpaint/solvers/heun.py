"""Heun's method for the probability-flow ODE (Karras et al., 2022, Alg. 1).

In variance-exploding coordinates z = x/α, r = σ/α, the ODE is dz = ε̂ dr. An Euler step leads to r', where the model
predicts ε̂'. Then the step from r is repeated with the mean of ε̂ and ε̂'.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still


class Heun(Solver):
    """Heun's method (Karras et al., 2022, Alg. 1). Second order, two evaluations per step.

    A step that starts at α = 0 or ends at σ = 0 is an Euler step, with one evaluation.
    """

    def evaluations(self, levels: Sequence[NoiseLevel]) -> list[int]:
        """Evaluations in each outer step: 2 in a step that has a correction on any entry, else 1."""
        return [1 + bool(_half_step(*pair).any()) for pair in itertools.pairwise(levels)]

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """The state at ``next_level``: an Euler step, plus the correction (r' − r) α' (ε̂' − ε̂)/2."""
        prediction = score.predict(state.x, level)
        euler = next_level.perturb(prediction.denoised, prediction.epsilon)
        euler = keep_still(euler, state.x, level, next_level)
        half = _half_step(level, next_level)
        if not bool(half.any()):  # does not wait: a level is on the CPU unless its tensors were made elsewhere
            return SolverState(euler, prediction)
        corrected = score.predict(euler, next_level)
        x = euler + cast_like(half, euler) * (corrected.epsilon - prediction.epsilon)
        return SolverState(keep_still(x, state.x, level, next_level), prediction)


def _half_step(level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
    """(r' − r) α'/2, the weight of the correction, shape of the levels; 0 for entries that make an Euler step."""
    half = (next_level.sigma - next_level.alpha * level.sigma * reciprocal(level.alpha)) / 2
    return torch.where((level.alpha > 0) & (next_level.sigma > 0), half, 0.0)
