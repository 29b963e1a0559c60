"""DDRM for masks (Kawar et al., 2022, Eq. 7 and 8, with H a mask; LanPaint, Appendix A, with σ_y = 0).

The singular values s_i of a mask are 1 and 0, and s is the noise of the measurement, 0 for exact values. The model
predicts x̂₀ and ε̂ at (α, σ), and ξ is fresh noise. A step is

    unknown entries    x' = α' x̂₀ + σ' (√(1 − η²) ε̂ + η ξ)                                   s_i = 0
    known entries      y' = α' ((1 − η_b) x̂₀ + η_b y_o) + √(σ'² − η_b² α'² s²) ξ              s_i = 1, σ' ≥ α' s
                       y' = α' x̂₀ + σ' (√(1 − η²) (y_o − x̂₀)/s + η ξ)                         s_i = 1, σ' < α' s

The method is a heuristic: a variational approximation of the conditional distribution. It takes one evaluation per
outer step, and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_between
from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.clean import measured
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score


class DDRM(Sampler):
    """DDRM (Kawar et al., 2022). The defaults are the values of LanPaint's Appendix A.

    Args:
        score: The model, as in :class:`Sampler`.
        eta: η in [0, 1]: share of the unknown part's noise that is drawn anew.
        eta_b: η_b in [0, 1]: how far the known part is moved from x̂₀ (0) to y_o (1).
        **options: Options of :class:`Sampler`, except a solver: Eq. 8 is the outer step.

    Raises:
        ValueError: For η or η_b outside [0, 1], for a solver, and as :class:`Sampler`.
    """

    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        eta: float = 0.7,
        eta_b: float = 1.0,
        **options: Any,
    ) -> None:
        for name, value in {"eta (η)": eta, "eta_b (η_b)": eta_b}.items():
            check_between(name, value, 0, 1)
        refuse_solver("DDRM", options)
        super().__init__(score, **options)
        self.eta, self.eta_b = float(eta), float(eta_b)

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level, with the known part set to α y_o + σ ξ (Eq. 7)."""
        state = super().begin(observation, noise, start)
        known = state.observation.diffused(state.level, noise(state.x))
        return replace(state, x=state.observation.replace_known(state.x, known))

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step (Eq. 8)."""
        observation, next_level = measured(state.observation), visit.next_level
        prediction = self.score.predict(state.x, visit.level)
        denoised, fresh = prediction.denoised, noise(state.x)
        unknown = next_level.perturb(denoised, (1 - self.eta**2) ** 0.5 * prediction.epsilon + self.eta * fresh)
        clean, scatter = torch.lerp(denoised, observation.values, self.eta_b), next_level.sigma
        if observation.is_noisy:
            brought = next_level.alpha * observation.noise
            above = next_level.sigma >= brought
            towards = cast_like((1 - self.eta**2) ** 0.5 * next_level.sigma / brought, denoised)
            clean = torch.where(
                cast_like(above, clean).bool(), clean, denoised + towards * (observation.values - denoised)
            )
            narrowed = (next_level.sigma**2 - (self.eta_b * brought) ** 2).clamp(min=0).sqrt()
            scatter = torch.where(above, narrowed, self.eta * next_level.sigma)
        known = NoiseLevel(next_level.alpha, scatter).perturb(clean, fresh)
        return replace(state, x=observation.replace_known(unknown, known), level=next_level, prediction=prediction)
