"""Pseudoinverse-guided diffusion, ΠGDM (Song et al., 2023).

p(y | x) is taken as N(A x̂₀, (r² + s²) I) with r² = σ²/(α² + σ²/a), the variance of x₀ given x for data of variance a.
With g its score in x, g = Jᵀ Aᵀ (y − A x̂₀)/(r² + s²), there are two weights:

    paper      x' = solver's step with x̂₀ + α c' r² g,      c'² = α'² + σ'²           √ᾱ r² g in VP coordinates
    bayes      x̃₀ = x̂₀ + (σ²/α) g                            as in :mod:`lanpaint.samplers.guided`

Both are heuristics. The first adds a move of the same size in each step, however short the step is: so more steps guide
more, and the samples go past the posterior. On two correlated unit Gaussians with one of them known, where the
conditional mean is 0.8, it has 0.92, 1.05 and 1.08 at 20, 200 and 2000 steps (η = 0). The second weight is Bayes' rule
for the approximate likelihood, and exact as the steps get shorter for data from N(m, a I). It takes one evaluation per
outer step and one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.gradients import Answered, known_error, pullback
from lanpaint.samplers.guided import Guided, measured, on_known
from lanpaint.score import Score


class PiGDM(Guided):
    """ΠGDM (Song et al., 2023): guidance by an isotropic variance of x₀ given x.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        weight: ``"paper"``, which guides more the more steps there are; or ``"bayes"``, which does not.
        data_variance: a > 0, variance of the data, in units of the data squared; 1 in the paper.
        **options: ``checkpoint`` of :class:`~lanpaint.DPS` and options of :class:`Sampler`. The solver is
            ``DDIM(1.0)`` by default, η = 1 as in the paper.

    Raises:
        TypeError: For a ``data_variance`` that is no number, and as :class:`Sampler`.
        ValueError: For an unknown weight, a ≤ 0, ``checkpoint=True`` with a score that holds no network, and as
            :class:`Sampler`. In the first step: when the score gives no gradient.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        weight: Literal["paper", "bayes"] = "paper",
        data_variance: float = 1.0,
        **options: Any,
    ) -> None:
        if weight not in ("paper", "bayes"):
            raise ValueError(f"unknown weight {weight!r}; expected paper or bayes")
        check_real("data_variance (a)", data_variance)
        if not 0 < data_variance < float("inf"):
            raise ValueError(f"data_variance (a) must be a positive finite number, got {data_variance}")
        super().__init__(score, **options)
        self.weight, self.data_variance = weight, float(data_variance)

    def variance(self, level: NoiseLevel) -> Tensor:
        """r², shape of the level."""
        return level.sigma**2 * reciprocal(level.alpha**2 + level.sigma**2 / self.data_variance)

    def weights(
        self, error: Tensor, covariance: Callable[[Tensor], Tensor], level: NoiseLevel, observation: Observation
    ) -> Tensor:
        """V Aᵀ u = (σ²/α) g."""
        return covariance(on_known(observation, error * self._precision(error, level, observation)))

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The solver's step with x̃₀ and ε̃; or with x̂₀, and then the move of the paper."""
        if self.weight == "bayes":
            return super().advance(state, visit, noise)
        x, level, next_level, observation = state.x, visit.level, visit.next_level, measured(state.observation)
        prediction, product = pullback(self.score, x, level, self.checkpoint)
        begun, score = replace(state.memory.solver, x=x), Answered(self.score, prediction)
        error = known_error(observation, prediction)
        score_of_y = product(on_known(observation, error * self._precision(error, level, observation)))
        state = self.advanced(state, self.solver.step(begun, score, level, next_level, noise), visit)
        length = level.alpha * (next_level.alpha**2 + next_level.sigma**2).sqrt() * self.variance(level)
        return replace(state, x=state.x + cast_like(length, x) * score_of_y)

    def _precision(self, like: Tensor, level: NoiseLevel, observation: Observation) -> Tensor:
        return cast_like(reciprocal(self.variance(level) + observation.noise**2), like)
