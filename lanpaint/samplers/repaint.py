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

from lanpaint.noise import NoiseLevel
from lanpaint.plan import Visit, check_whole
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.replace import Replace
from lanpaint.samplers.sampler import renoise
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
        check_whole("inner_steps", inner_steps, least=0)
        super().__init__(score, **options)
        self.inner_steps = inner_steps
        self._backward = self.solver if self.solver.levels(self.steps) is None else Euler()
        numbers = [inner_steps] * (self.steps - 1) + [0]
        each = self._backward.evaluations(self.levels)
        self.plan = self.plan.with_inner_steps(numbers, [n * cost for n, cost in zip(numbers, each, strict=True)])

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One resampling (LanPaint, Eq. 10)."""
        x, level, observation = state.x, visit.level, state.observation
        backward = self._backward.step(self._backward.init(x, self.steps), self.score, level, visit.next_level, noise)
        fresh = noise(x)
        x = renoise(backward.x, visit.next_level, level, fresh)
        # The known entries are drawn anew at this level. That has the distribution of known entries that are drawn at
        # the next level and then diffused to this one.
        x = observation.replace_known(x, observation.diffused(level, fresh))
        return replace(state, x=x, prediction=backward.prediction)
