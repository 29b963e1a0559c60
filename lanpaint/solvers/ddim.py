"""DDIM and DDPM: steps of the reverse process that add noise.

The model predicts x̂₀ and ε̂ at (α, σ). k = (σ'/α') / (σ/α) is the ratio of the noise at the next level to the noise at
this level. Both solvers draw, with ξ standard normal,

    x' = α' x̂₀ + σ' √(1 − η² (1 − k²)) ε̂ + s ξ

DDIM (Song et al., 2020, Eq. 12 and 16) has s = η σ' √(1 − k²), so x' has the noise σ' for any η. η = 0 is the Euler
step of the probability-flow ODE. η = 1 is the posterior of DDPM with its small variance. DDPM (Ho et al., 2020;
LanPaint, Eq. 35) has the mean of η = 1, and the large variance: the variance of the forward step from x' to x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still


def _kept_noise(level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
    """k² = (σ'/α')² / (σ/α)², 0 at α = 0."""
    return (next_level.sigma * level.alpha * reciprocal(next_level.alpha * level.sigma)) ** 2


class DDIM(Solver):
    """DDIM with η (Song et al., 2020, Eq. 12). First order, one evaluation.

    Args:
        eta: η in [0, 1]: how much of the noise is drawn anew. η = 0 is deterministic and equals :class:`Euler`.

    Raises:
        ValueError: For an η outside [0, 1].
    """

    def __init__(self, eta: float = 0.0) -> None:
        check_real("eta (η)", eta)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta (η) must lie between 0 and 1, got {eta}")
        self.eta = float(eta)

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """The state x' at ``next_level``: the mean, and noise of standard deviation s if η > 0."""
        prediction = score.predict(state.x, level)
        lost = 1 - _kept_noise(level, next_level)
        scatter = self._scatter(level, next_level, lost)
        x = _mean(prediction, next_level, lost * self.eta**2)
        if self.eta:
            x = x + cast_like(scatter, x) * noise(x)
        return SolverState(keep_still(x, state.x, level, next_level), prediction)

    def _scatter(self, level: NoiseLevel, next_level: NoiseLevel, lost: Tensor) -> Tensor:
        return self.eta * next_level.sigma * lost.clamp(min=0).sqrt()


class DDPM(DDIM):
    """DDPM's ancestral step (LanPaint, Eq. 35; Ho et al., 2020, with σ_t² = β_t). First order, one evaluation.

    Its variance is right for small steps only: use it with a hundred levels or more. The step to σ = 0 adds no noise.
    """

    def __init__(self) -> None:
        super().__init__(eta=1.0)

    def _scatter(self, level: NoiseLevel, next_level: NoiseLevel, lost: Tensor) -> Tensor:
        """√β in variance-preserving coordinates, scaled to the coordinates of the next level."""
        here, there = (v.alpha**2 + v.sigma**2 for v in (level, next_level))
        beta = 1 - (level.alpha / next_level.alpha) ** 2 * there / here
        return torch.where(next_level.sigma > 0, (beta.clamp(min=0) * there).sqrt(), 0.0)


def _mean(prediction: Prediction, next_level: NoiseLevel, lost: Tensor) -> Tensor:
    """α' x̂₀ + σ' √(1 − lost) ε̂."""
    x = prediction.x
    kept = next_level.sigma * (1 - lost).clamp(min=0).sqrt()
    return cast_like(next_level.alpha, x) * prediction.denoised + cast_like(kept, x) * prediction.epsilon
