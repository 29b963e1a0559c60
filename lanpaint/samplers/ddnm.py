"""DDNM and DDNM+, the null-space model (Wang, Yu & Zhang, 2022, arXiv:2212.00490, Alg. 1 and 2, Eq. 13 and 19).

The known entries of x̂₀ are replaced by y. Three forms of the step are in use, and they have different laws:

    paper          ε̃ = (x − α x̃₀)/σ,     τ ancestral with η = 1        paper, and the published code for large pictures
    code           ε̃ of the network,     τ = η σ', η = 0.85            the published code with a singular value
                                                                        decomposition
    inversebench   ε̃ = (x − α x̃₀)/σ,     τ = η σ', η = 0.85            InverseBench

DDNM+ (s > 0) trusts a measurement y with noise s no further than the noise of the step can hide: x̃₀ = x̂₀ + Λ (y − x̂₀)
on known entries, and what Λ brings in of the measurement's noise is left out of the noise that is drawn.

    recomputed ε̃   b = α' − α √(σ'² − τ²)/σ,    Λ = min(1, τ/(b s)),    √(τ² − (Λ b s)²) ξ
    network ε̂      σ' ≥ α' s: Λ = 1 and √(σ'² − α'² s²) ξ;   else Λ = σ' √(1 − η²)/(α' s) and η σ' ξ;   no ε̂ on known

The method is a heuristic. On a Gaussian of two entries with correlation 0.8, of which one is known, the exact
conditional has mean 0.8 and variance 0.36. With 200 steps the forms end at 0.497 and 0.527, 0.776 and 0.278, 0.748 and
0.289, and the first one does not come closer with more steps. DDNM takes one evaluation per outer step and no
gradients, and (K + 1) times as many with time travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_between, check_whole
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.samplers.clean import CleanSampler, ancestral, kept_noise, toward
from lanpaint.score import Score

FORMS = {"paper": 1.0, "code": 0.85, "inversebench": 0.85}
"""Name of a form → its η."""


class DDNM(CleanSampler):
    """DDNM, and DDNM+ where the observation has noise (Wang, Yu & Zhang, 2022).

    Args:
        score: The model, as in :class:`Sampler`.
        form: ``"code"``, ``"paper"`` or ``"inversebench"``, see the module.
        eta: η in [0, 1], how much of the noise is drawn anew; by default that of the form.
        travel: ℓ ≥ 1, levels in a block of time travel; 10 in the published code for large pictures.
        travels: K ≥ 0, how often each block is repeated: r − 1 of the paper, 2 in that code.
        **options: Options of :class:`Sampler`, except a solver. The paper takes 100 steps.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, and as :class:`Sampler`.
    """

    takes_noise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        form: str = "code",
        eta: float | None = None,
        travel: int = 1,
        travels: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(form, str) or form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        super().__init__(score, **options)
        self.form, self.eta = form, check_between("eta (η)", FORMS[form] if eta is None else eta, 0, 1)
        self.epsilon = "network" if form == "code" else "recomputed"
        check_whole("travel (τ)", travel, least=1)
        check_whole("travels (K)", travels, least=0)
        if travels:
            self.plan = self.plan.with_time_travel(travel, travels)

    def tau(self, level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
        """The standard deviation of the form."""
        return ancestral(level, next_level, self.eta) if self.form == "paper" else self.eta * next_level.sigma

    def clean(self, prediction: Prediction, observation: Observation, visit: Visit) -> Tensor:
        """x̃₀: the known entries of x̂₀ replaced by y, or moved towards y by Λ."""
        if not observation.is_noisy:
            return observation.replace_known(prediction.denoised, observation.values)
        return toward(prediction, observation, self._trust(visit, observation.noise)[0])

    def step(self, clean: Tensor, epsilon: Tensor, visit: Visit, observation: Observation, fresh: Tensor) -> Tensor:
        """D(x̃₀, ε̃; τ), with less noise on known entries if y has noise."""
        x = super().step(clean, epsilon, visit, observation, fresh)
        if not observation.is_noisy:
            return x
        tau = self.tau(visit.level, visit.next_level)
        known = cast_like(visit.next_level.alpha, x) * clean
        known = known + cast_like(self._trust(visit, observation.noise)[1], x) * fresh
        if self.epsilon == "recomputed":
            known = known + cast_like(kept_noise(visit.next_level, tau), x) * epsilon
        return torch.where(observation.exact, x, observation.replace_known(x, known))

    def _trust(self, visit: Visit, s: Tensor) -> tuple[Tensor, Tensor]:
        """Λ, and the standard deviation of the noise that is drawn on known entries; shape of the levels and s."""
        level, next_level = visit.level, visit.next_level
        tau = self.tau(level, next_level)
        if self.epsilon == "network":
            brought = next_level.alpha * s
            above = next_level.sigma >= brought
            trust = torch.where(above, 1.0, next_level.sigma * (1 - self.eta**2) ** 0.5 / brought)
            return trust, torch.where(above, (next_level.sigma**2 - brought**2).clamp(min=0).sqrt(), tau)
        brought = s * (next_level.alpha - level.alpha * kept_noise(next_level, tau) * reciprocal(level.sigma))
        trust = torch.where(brought > tau, tau / torch.where(brought > tau, brought, 1.0), 1.0)
        return trust, (tau**2 - (trust * brought) ** 2).clamp(min=0).sqrt()
