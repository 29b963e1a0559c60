"""CoPaint (Zhang et al., 2023): optimise the state at every level, and step on with DDIM.

A level is entered at z̄. G steps of gradient descent follow, of length η √ᾱ with √ᾱ = α/√(α² + σ²), on the negative log
posterior of the state. It is used up to a factor, with x̂₀ for the end of the trajectory (one-step approximation):

    J(z) = ‖y_o − x̂₀(z)‖² + w ‖z − z̄‖²            first term over the known part, second term over all entries

The weight w = ξ'²/σ² is the ratio of the variances of the two terms. The method is defined in variance-preserving
coordinates z = x/√(α² + σ²). In any other coordinates a gradient step is, with c² = α² + σ²,
x ← x − η √ᾱ (c² ∇_x ‖y_o − x̂₀‖² + 2 w (x − x̄)). The factor √ᾱ shortens the gradient steps where nearly all of x is
noise: there x̂₀ of an inexact network varies as fast as x/α. Time travel diffuses the state forward from the end of
each block of τ levels to the beginning of the block, K times.

The method is a heuristic: it looks for the mode of an approximate posterior. It takes G + 1 evaluations per outer step,
G of them differentiated through the network; K + 1 times as many with time travel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_real, check_whole
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.gradients import check_checkpoint, differentiate, norm, square_error
from lanpaint.samplers.langevin_sampler import check_step_size
from lanpaint.samplers.sampler import Memory, Sampler
from lanpaint.score import Score


@dataclass(frozen=True)
class AnchoredMemory(Memory):
    """What CoPaint remembers between two steps.

    Attributes:
        solver: State of the solver, without x.
        anchor: x̄, the state when the level was entered, shape (B, …); None at a level without gradient steps.
    """

    anchor: Tensor | None = None


class CoPaint(Sampler):
    """CoPaint (Zhang et al., 2023), and CoPaint-TT with ``travels`` > 0. Known entries are set to y_o at the end only.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        inner_steps: G ≥ 0, gradient steps at each level. CoPaint-2 and CoPaint-3 of LanPaint's tables have G = 2 and 3.
        step_size: η > 0. LanPaint's Appendix A does not give η. CoPaint has 0.02 for 250 levels; with 0.02, 20 levels
            hardly see the known part. With 0.2 the gradient steps of 20 levels are together about as long.
        regularization: w ≥ 0: how strongly the state is held near x̄, where it entered the level.
        travel: τ ≥ 1, levels in a block of time travel; all levels are one block by default.
        travels: K ≥ 0: how often each block is repeated. 0 is CoPaint without time travel: the cost of CoPaint in
            LanPaint's Tables 1 and 2 suggests this. K = 1 with τ = 10 is CoPaint-TT.
        checkpoint: As in :class:`~lanpaint.DPS`.
        **options: Options of :class:`Sampler`. The solver is :class:`Euler` by default, that is DDIM with η = 0.

    Raises:
        ValueError: For settings outside of these ranges, ``checkpoint=True`` with a score that holds no network, time
            travel with a solver that chooses its levels, and as :class:`Sampler`. In the first gradient step: when
            the score gives no gradient.
    """

    remedy = "lower step_size (η): x̂₀ varies faster with x than the gradient steps allow"

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        inner_steps: int = 2,
        step_size: float = 0.2,
        regularization: float = 0.01,
        travel: int | None = None,
        travels: int = 0,
        checkpoint: bool = False,
        **options: Any,
    ) -> None:
        check_whole("inner_steps", inner_steps, least=0)
        check_step_size(step_size)
        check_real("regularization (w)", regularization)
        if not (math.isfinite(regularization) and regularization >= 0):
            raise ValueError(f"regularization (w) must be a number of at least 0, got {regularization}")
        super().__init__(score, **options)
        block = self.steps if travel is None else travel
        self.plan = self.plan.with_inner_steps(inner_steps).with_time_travel(block, travels)
        if travels and self.solver.levels(self.steps) is not None:
            raise ValueError(
                f"{type(self.solver).__name__} cannot travel back in time: it chooses its levels; leave travels out"
            )
        self.inner_steps, self.step_size, self.regularization = inner_steps, step_size, regularization
        self.travel, self.travels, self.checkpoint = block, travels, checkpoint
        if checkpoint:
            check_checkpoint(self.score)

    def remember(self, x: Tensor) -> AnchoredMemory:
        """The memory at the start of a run, or after time travel."""
        return AnchoredMemory(super().remember(x).solver)

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state at the level. The gradient steps are held near it, so it is kept as the anchor x̄."""
        state = super().enter(state, visit, noise)
        return replace(state, memory=replace(state.memory, anchor=state.x if visit.inner_steps else None))

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One step of gradient descent on J."""
        x, level = state.x, visit.level
        prediction, _, gradient = differentiate(
            self.score, x, level, square_error(state.observation), save_memory=self.checkpoint
        )
        scale = norm(level)  # c; 0 at entries without noise, which must not move
        length = self.step_size * level.alpha * reciprocal(scale)  # η √ᾱ
        hold = cast_like(2 * self.regularization * length, x) * (x - state.memory.anchor)
        return replace(state, x=x - cast_like(length * scale**2, x) * gradient - hold, prediction=prediction)
