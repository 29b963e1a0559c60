"""Midpoint guidance posterior sampling, MGPS (Moufad et al., 2025, arXiv:2410.09945), with A a mask.

A step from level k + 1 to level k goes by a midpoint ℓ ≤ k, where x̂₀ is a better guess. With levels counted from the
clean end, ℓ = ⌈η k⌉, and in the notation of :mod:`lanpaint.samplers.midpoint`,

    p(x_ℓ)   the bridge from x̂₀(x), clean, to x, at ℓ
    x_ℓ      a draw of the fit to p(x_ℓ) N(y; A x̂₀(x_ℓ), s²)
    x'       the bridge from x_ℓ to x, at k

The method is a heuristic. At ℓ = k it is a step like that of DPS, too sure of y; at the clean end there is no guidance.
Settings of the paper are uncertain here: its η is ½ or ¾, and it takes more steps of Adam in the first quarter of
the levels. It takes M + 1 evaluations per outer step, M of them with a gradient; the last step takes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.midpoint import CLEAN, MidpointSampler, bridge
from lanpaint.score import Score


class MGPS(MidpointSampler):
    """MGPS (Moufad et al., 2025): guidance at a cleaner level. Known entries are set at the end only.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        midpoint: η in [0, 1]: where the midpoint lies, from the clean end (0) to the next level (1).
        **options: ``inner_steps``, ``step_size``, ``noise_floor`` and ``checkpoint`` of the fit, and options of
            :class:`Sampler`, except a solver.

    Raises:
        ValueError: For η outside [0, 1], and as the fit and :class:`Sampler`.
    """

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, midpoint: float = 0.5, **options: Any
    ) -> None:
        check_real("midpoint (η)", midpoint)
        if not 0 <= midpoint <= 1:
            raise ValueError(f"midpoint (η) must lie between 0 and 1, got {midpoint}")
        super().__init__(score, **options)
        self.midpoint = float(midpoint)
        fits = [self._middle(step) < self.steps for step in range(self.steps)]
        self.plan = replace(self.plan, outer_evaluations=[1 + self.inner_steps * fit for fit in fits])

    def _middle(self, step: int) -> int:
        """Number of the midpoint's level for an outer step."""
        return step + 1 + int((1 - self.midpoint) * (self.steps - step - 1) + 1e-9)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step by the midpoint."""
        x, level, next_level = state.x, visit.level, visit.next_level
        prediction, number = self.score.predict(x, level), self._middle(visit.step)
        middle = self.plan.levels[number]
        mean, variance = bridge(CLEAN, middle, level, prediction.denoised, x)
        x_middle = self.draw_fit(mean, variance, middle, state.observation, noise) if number < self.steps else mean
        mean, variance = bridge(middle, next_level, level, x_middle, x)
        x = mean if number == visit.step + 1 else mean + cast_like(variance.sqrt(), x) * noise(x)
        return replace(state, x=x, level=next_level, prediction=prediction)
