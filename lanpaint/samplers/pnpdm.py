"""PnP-DM, split Gibbs sampling (Wu et al., 2024, arXiv:2405.18782, Alg. 1; Vono, Dobigeon & Chainais, 2019).

The target is the joint distribution p₀(x) exp(−‖x − z‖²/(2 ϱ²)) p(y | z). Two draws alternate:

    z given x    unknown entries x + ϱ ξ; known entries N(v (x/ϱ² + y/s²), v), 1/v = 1/ϱ² + 1/s², or y for s = 0
    x given z    the model's reverse process from the level with σ/α = ϱ, at α z, to the clean end

The reverse process is stochastic: ancestral steps (η = 1). The published code integrates the probability flow by
default, which is not Gibbs sampling and has another stationary law (tests/samplers/test_zoo_gibbs.py).

ϱ falls from iteration to iteration, max(ϱ_min, ϱ₀ dⁿ). The levels are those of the plan: an iteration begins at the
first level with σ/α ≤ ϱ, and takes the σ/α of that level for ϱ. The first iteration begins at the first level.

For a fixed ϱ and short steps the stationary law of x is exact, p₀(x) N(y; x, s² + ϱ²): the conditional as ϱ → 0, which
slows the chain down in proportion to ϱ². An iteration takes one evaluation for each level that it passes, and no
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_between, check_whole
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.clean import CleanSampler, ancestral, measured
from lanpaint.samplers.sampler import renoise
from lanpaint.score import Score


class PnPDM(CleanSampler):
    """PnP-DM (Wu et al., 2024). The defaults are those of InverseBench for pictures, with at most 100 steps.

    Args:
        score: The model, as in :class:`Sampler`.
        iterations: N ≥ 1, pairs of draws.
        rho: ϱ₀ > 0, in units of the data.
        decay: d in (0, 1]: factor of ϱ from an iteration to the next.
        least_rho: ϱ_min > 0, in units of the data.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, and as :class:`Sampler`.
    """

    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        iterations: int = 200,
        rho: float = 10.0,
        decay: float = 0.9,
        least_rho: float = 0.1,
        **options: Any,
    ) -> None:
        check_whole("iterations (N)", iterations, least=1)
        super().__init__(score, **options)
        self.iterations = iterations
        self.rho = check_between("rho (ϱ₀)", rho, 1e-9, math.inf)
        self.decay = check_between("decay (d)", decay, 1e-9, 1)
        self.least_rho = check_between("least_rho (ϱ_min)", least_rho, 1e-9, math.inf)
        ratios = [float((level.sigma * reciprocal(level.alpha)).amax()) for level in self.levels[:-1]]
        order = list(range(self.steps))
        for number in range(1, iterations):
            coupling = max(self.least_rho, self.rho * self.decay**number) * (1 + 1e-6)
            below = [step for step, ratio in enumerate(ratios) if ratio <= coupling and self.levels[step].alpha.all()]
            order += range(below[0] if below else self.steps - 1, self.steps)
        self.plan = replace(self.plan, order=order)

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state at α z, with z drawn given x, where an iteration begins."""
        is_first = state.kind == "start"
        if state.level is visit.level and not is_first:
            return state
        level, observation, fresh = visit.level, measured(state.observation), noise(state.x)
        x, s = state.x, observation.noise
        ratio, total = level.alpha * s, level.sigma**2 + (level.alpha * s) ** 2
        of_x = 0 * total if is_first else ratio**2 * reciprocal(total)  # before the first draw of x, z follows y
        spread = ratio if is_first else ratio * level.sigma * reciprocal(total.sqrt())
        known = cast_like(level.alpha * (1 - of_x), x) * observation.values + cast_like(level.alpha * of_x, x) * x
        unknown = x if is_first else renoise(x, state.level, level, fresh)
        x = observation.replace_known(unknown, known + cast_like(spread, x) * fresh)
        return replace(state, x=x, level=level)

    def clean(self, prediction: Prediction, observation: Observation, visit: Visit) -> Tensor:
        """x̂₀: the reverse process knows nothing of y."""
        return prediction.denoised

    def tau(self, level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
        """τ of an ancestral step."""
        return ancestral(level, next_level)
