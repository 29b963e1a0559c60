"""FlowDPS (Kim, Kim & Ye, 2025, "Flow-Driven Posterior Sampling"), with A a mask.

With t = σ/(α + σ), the time of a rectified flow in any coordinates, and ξ standard normal,

    x̃₀ = x̂₀ + t κ (y − x̂₀)                          on the known entries, x̂₀ elsewhere
    x' = α' x̃₀ + σ' (√(1 − η) ε̂ + √η ξ),            η = 1 − t'

κ is how far the method's data step goes from x̂₀ to y: 1 when its conjugate gradients converge, as they do for a mask.
The blend by t and η = 1 − t' are those of the latent version, as remembered: the paper's code was not read.

The method is a heuristic. t goes to 0, so late steps hardly bind the known entries, and replacing them at the end shows
seams. The noise that is drawn anew is a share of all noise, and not that of an ancestral step: even unguided, variance
is lost, in the limit of many steps too. It takes one evaluation per outer step, and no gradients of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score


def flow_time(level: NoiseLevel) -> Tensor:
    """The time t = σ/(α + σ), shape of the level."""
    return level.sigma / (level.alpha + level.sigma)


class FlowDPS(Sampler):
    """FlowDPS (Kim et al., 2025). Known entries are set to y_o at the end only.

    Args:
        score: The model, as in :class:`Sampler`. The paper makes 28 steps.
        kappa: κ in [0, 1]: how far the data step goes from x̂₀ to y.
        eta: η in [0, 1]: share of the noise that is drawn anew. By default 1 − t' in each step.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        TypeError: For a κ or η that is no number, and as :class:`Sampler`.
        ValueError: For κ or η outside [0, 1], for a solver, and as :class:`Sampler`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        kappa: float = 1.0,
        eta: float | None = None,
        **options: Any,
    ) -> None:
        for name, value in {"kappa (κ)": kappa, "eta (η)": 0.0 if eta is None else eta}.items():
            check_real(name, value)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}")
        refuse_solver("FlowDPS", options)
        super().__init__(score, **options)
        self.kappa, self.eta = float(kappa), None if eta is None else float(eta)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step."""
        x, observation = state.x, state.observation
        prediction = self.score.predict(x, visit.level)
        blend = cast_like(self.kappa * flow_time(visit.level), x)
        clean = (
            prediction.denoised + torch.where(observation.known, observation.values - prediction.denoised, 0) * blend
        )
        fresh = 1 - flow_time(visit.next_level) if self.eta is None else torch.tensor(self.eta)
        epsilon = cast_like((1 - fresh).sqrt(), x) * prediction.epsilon + cast_like(fresh.sqrt(), x) * noise(x)
        return replace(state, x=visit.next_level.perturb(clean, epsilon), level=visit.next_level, prediction=prediction)
