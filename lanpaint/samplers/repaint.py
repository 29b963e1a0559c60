"""RePaint: denoise and renoise (Lugmayr et al., 2022, Alg. 1; LanPaint, Eq. 10, "RePaint-Euler").

    x ← Forward((α', σ') → (α, σ), Backward((α, σ) → (α', σ'), x))                    and known entries drawn anew

Each iteration is close to a Langevin step of length σ² (1 − σ' α/(σ α')), which the levels fix. Every iteration draws
the known part anew. So with short steps the unknown part responds to the mean of the known part: on a Gaussian, x
settles at p_t(x | y = α y_o), not at p_t(x | y) p_t(y | y_o). Both distributions are the exact conditional at σ = 0,
which is the target. With few levels the Langevin steps are long and keep neither distribution; then the method is a
heuristic. With N inner steps it makes N + 1 solver steps per outer step (one evaluation each with Euler), but 1 in the
last outer step. It needs no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.replace import Replace
from lanpaint.samplers.sampler import renoise
from lanpaint.score import Score
from lanpaint.solvers import Euler


class RePaint(Replace):
    """RePaint (Lugmayr et al., 2022, Alg. 1) with jumps of one level.

    Args:
        score: The model, as in :class:`Sampler`.
        inner_steps: N ≥ 0, resamplings at each level; U = N + 1 in Lugmayr et al. There is no resampling at the last
            level before the clean one (Alg. 1, line 8).
        **options: Options of :class:`Sampler`. The solver also makes the backward step of a resampling, without its
            memory of earlier steps. A diffusers solver cannot step twice from one level; Euler takes its place there.

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
        # Known entries are drawn at this level directly. To draw them at the next level and diffuse them to this level
        # would give the same distribution.
        x = observation.replace_known(x, observation.diffused(level, fresh))
        return replace(state, x=x, prediction=backward.prediction)
