"""Euler's method for the probability-flow ODE, in native coordinates.

With x̂₀ and ε̂ predicted at (α, σ), the next state is x' = α' x̂₀ + σ' ε̂. In variance-exploding coordinates this is the
Euler step of dz = ε̂ dσ (LanPaint, Eq. 51; Karras et al., 2022), in variance-preserving ones it is DDIM with η = 0 (Song
et al., 2020, Eq. 12): one method under two names, exact when x̂₀ and ε̂ do not change.
"""

from __future__ import annotations

from lanpaint.noise import NoiseLevel
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState


class Euler(Solver):
    """Euler ODE step, the same as DDIM with η = 0. First order, one evaluation."""

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """α' x̂₀ + σ' ε̂."""
        prediction = score.predict(state.x, level)
        return SolverState(next_level.perturb(prediction.denoised, prediction.epsilon), prediction)
