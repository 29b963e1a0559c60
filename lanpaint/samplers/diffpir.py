"""DiffPIR, diffusion models for plug-and-play restoration (Zhu et al., 2023, arXiv:2305.08995, Alg. 1 and Eq. 13).

The known entries of x̂₀ are set to the mean of the posterior of y's likelihood with standard deviation s, for a prior
N(x̂₀, σ²/(α² λ)). Then ε is computed anew from the result. A step is

    x̃₀ = (y + ρ x̂₀)/(1 + ρ) on known entries,      ρ = λ s² α²/σ²
    x' = α' x̃₀ + σ' (√(1 − ζ) (x − α x̃₀)/σ + √ζ ξ)

The method is a heuristic. On a Gaussian of two entries with correlation 0.8, of which one is known, λ = 7, s = 0.05 and
ζ = 0.3 end at mean 0.684 and variance 0.388 of the unknown entry with 200 steps, and the exact conditional has 0.8 and
0.36. With ζ = 1 the variance is 0.18. It takes one evaluation per outer step, and no gradients. Repeats at a level
(RePaint's jumps) are ``plan=plan.with_time_travel(1, times)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from lanpaint.checks import check_between
from lanpaint.noise import NoiseLevel, Prediction, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.samplers.clean import CleanSampler, toward
from lanpaint.score import Score


class DiffPIR(CleanSampler):
    """DiffPIR (Zhu et al., 2023). The defaults are those of the published code for inpainting.

    Args:
        score: The model, as in :class:`Sampler`.
        prior_weight: λ ≥ 0, weight of x̂₀ against y; 1 to 10 in the paper.
        zeta: ζ in [0, 1]: share of the variance of the noise that is drawn anew; 0.1 to 1 in the paper.
        sigma_y: s ≥ 0, standard deviation of the likelihood, in units of the data. The noise of an observation that
            has one takes its place.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, and as :class:`Sampler`.
    """

    epsilon = "recomputed"
    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        prior_weight: float = 1.0,
        zeta: float = 1.0,
        sigma_y: float = 0.001,
        **options: Any,
    ) -> None:
        super().__init__(score, **options)
        self.prior_weight = check_between("prior_weight (λ)", prior_weight, 0, math.inf)
        self.zeta = check_between("zeta (ζ)", zeta, 0, 1)
        self.sigma_y = check_between("sigma_y (s)", sigma_y, 0, math.inf)

    def clean(self, prediction: Prediction, observation: Observation, visit: Visit) -> Tensor:
        """x̃₀: known entries moved by 1/(1 + ρ) of the way to y."""
        alpha, sigma = visit.level.alpha, visit.level.sigma
        tied = self.prior_weight * (alpha * observation.noise_or(self.sigma_y)) ** 2
        return toward(prediction, observation, sigma**2 * reciprocal(sigma**2 + tied))

    def tau(self, level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
        """√ζ σ'."""
        return self.zeta**0.5 * next_level.sigma
