"""RePaint: denoise and renoise (Lugmayr et al., 2022, Alg. 1; LanPaint, Eq. 10, "RePaint-Euler").

    x ← Forward from (α', σ') to (α, σ) of Backward from (α, σ) to (α', σ') of x           known entries drawn anew

Each iteration is close to a Langevin step of length σ² (1 − σ' α/(σ α')), fixed by the levels. The known part is drawn
anew in every iteration, so that with short steps the unknown part sees its mean: on a Gaussian x settles at the law
p_t(x | y = α y_o), not at p_t(x | y) p_t(y | y_o). Both are the exact conditional at σ = 0, which is the target; with
few levels the steps are long, and the law that is kept is another: a heuristic. Inner steps + 1 evaluations per step
(those of the solver, times as many), 1 in the last step; no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.callbacks import Moment
from lanpaint.dynamics import State
from lanpaint.noise import NoiseLevel
from lanpaint.randomness import NoiseSource
from lanpaint.samplers.base import renoise
from lanpaint.samplers.langevin_paint import check_inner
from lanpaint.samplers.replace import Replace
from lanpaint.score import Score
from lanpaint.solvers import Euler


class RePaint(Replace):
    """RePaint with jumps of one level.

    Args:
        score: The model, as in :class:`Sampler`.
        inner_steps: N ≥ 0, resamplings at each level; U = N + 1 in Lugmayr et al. There are none at the last level
            before the clean one (their Alg. 1, line 8).
        **options: Those of :class:`Sampler`. The solver also denoises in a resampling, its memory of steps before left
            out; for one of diffusers, which cannot be stepped twice from a level, Euler does.

    Raises:
        ValueError: For N < 0, and as :class:`Sampler`.
    """

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, inner_steps: int = 5, **options: Any
    ) -> None:
        check_inner(inner_steps, step_size=1.0)
        super().__init__(score, **options)
        self.inner_steps = inner_steps
        self._backward = self.solver if self.solver.levels(self.steps) is None else Euler()

    def begin(self, moment: Moment, last: State | None, noise: NoiseSource) -> Moment:
        """Ready to resample, at all levels but the last."""
        return replace(moment, kind="inner") if self.inner_steps and moment.step < self.steps - 1 else moment

    def inner_step(self, moment: Moment, noise: NoiseSource) -> Moment:
        """One resampling (LanPaint, Eq. 10)."""
        x, observation = moment.x, moment.observation
        level, next_level = self.levels[moment.step : moment.step + 2]
        backward = self._backward.step(self._backward.init(x, self.steps), self.score, level, next_level, noise)
        fresh = noise(x)
        x = renoise(backward.x, next_level, level, fresh)
        # Known entries forgotten and drawn at this level: the law of those drawn at the next one and renoised.
        x = observation.replace_known(x, observation.diffused(level, fresh))
        return replace(moment, inner=moment.inner + 1, x=x, prediction=backward.prediction)
