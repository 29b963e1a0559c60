"""Euler's method for the probability-flow ODE, in native coordinates.

With x̂₀ and ε̂ predicted at (α, σ), the next state is x' = α' x̂₀ + σ' ε̂. In variance-exploding coordinates this is
the Euler step of dz = ε̂ dσ (LanPaint, Eq. 51; Karras et al., 2022). In variance-preserving coordinates it is DDIM with
η = 0 (Song et al., 2020, Eq. 12). These are two names of one method. It is exact when x̂₀ and ε̂ do not change.
"""

from __future__ import annotations

from lanpaint.noise import NoiseLevel
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still


class Euler(Solver):
    """Euler steps of the probability-flow ODE, equal to DDIM with η = 0. First order, one evaluation per step."""

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """The state α' x̂₀ + σ' ε̂ at ``next_level``."""
        prediction = score.predict(state.x, level)
        x = next_level.perturb(prediction.denoised, prediction.epsilon)
        return SolverState(keep_still(x, state.x, level, next_level), prediction)
