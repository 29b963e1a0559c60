"""Heun's method for the probability-flow ODE (Karras et al., 2022, Alg. 1).

In variance-exploding coordinates z = x/α, r = σ/α, the ODE is dz = ε̂ dr. An Euler step to r' predicts ε̂' there, and the
step is made anew with the mean of ε̂ and ε̂'.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState


class Heun(Solver):
    """Heun's method. Second order, two evaluations; one, an Euler step, where it starts at α = 0 or ends at σ = 0."""

    def evaluations(self, levels: Sequence[NoiseLevel]) -> list[int]:
        """2 in each step, 1 in those that are Euler steps."""
        pairs = itertools.pairwise(levels)
        return [1 + bool(((level.alpha > 0) & (after.sigma > 0)).any()) for level, after in pairs]

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """Euler, and the correction (r' − r) α' (ε̂' − ε̂)/2."""
        prediction = score.predict(state.x, level)
        euler = next_level.perturb(prediction.denoised, prediction.epsilon)
        half = (next_level.sigma - next_level.alpha * level.sigma * reciprocal(level.alpha)) / 2
        half = torch.where((level.alpha > 0) & (next_level.sigma > 0), half, 0.0)
        if not bool(half.any()):  # reads the level, which is on the CPU unless it varies within the batch
            return SolverState(euler, prediction)
        corrected = score.predict(euler, next_level)
        return SolverState(euler + cast_like(half, euler) * (corrected.epsilon - prediction.epsilon), prediction)
