"""CoPaint (Zhang et al., 2023): optimise the state at every level, and step on with DDIM.

At a level that was entered at z̄, G steps of gradient descent of length η √ᾱ, √ᾱ = α/√(α² + σ²), on the negative log
posterior of the state, with x̂₀ in place of the end of the trajectory (their one-step approximation) and up to a factor,

    J(z) = ‖y_o − x̂₀(z)‖² + w ‖z − z̄‖²                                   over the known part, and over all of it

w being the ratio of the variances of the two, ξ'²/σ². z = x/√(α² + σ²) are variance-preserving coordinates, in which
the method is defined; in any others a step is x ← x − η √ᾱ (c² ∇_x ‖y_o − x̂₀‖² + 2 w (x − x̄)) with c² = α² + σ². √ᾱ is
small where noise is all, and x̂₀ of a network that is not exact varies as fast as x/α. Time travel diffuses the state
forward again from the end of each block of τ levels to its beginning, K times.

A heuristic, which looks for the mode of an approximate posterior. G + 1 evaluations per step, G of them differentiated
through the network; K + 1 times as many with time travel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.plan import Visit, check_whole
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.gradients import check_checkpoint, differentiate, norm, square_error
from lanpaint.samplers.langevin_sampler import check_step_size
from lanpaint.samplers.sampler import Memory, Sampler
from lanpaint.score import Score


@dataclass(frozen=True)
class AnchoredMemory(Memory):
    """What CoPaint remembers.

    Attributes:
        solver: State of the solver, without x.
        anchor: x̄, the state as the level was entered, shape (B, …); None outside of the inner steps.
    """

    anchor: Tensor | None = None


class CoPaint(Sampler):
    """CoPaint, and with ``travel`` CoPaint-TT. Nothing is replaced before the end.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        inner_steps: G ≥ 0, gradient steps at each level; CoPaint-2 and CoPaint-3 of LanPaint's tables.
        step_size: η > 0. LanPaint's Appendix A does not give it. With 0.2 the steps of a run of 20 levels are together
            about as long as those of CoPaint's 250 levels with 0.02, with which 20 levels hardly see the known part.
        regularization: w ≥ 0: how strongly the state is held where it entered the level.
        travel: τ ≥ 1, levels in a block of time travel; all in one block by default.
        travels: K ≥ 0: how often each block is travelled back. 0 is CoPaint without time travel, which the cost of
            CoPaint in LanPaint's Tables 1 and 2 speaks for; 1 with τ = 10 is CoPaint-TT.
        checkpoint: As in :class:`~lanpaint.DPS`.
        **options: Those of :class:`Sampler`. The solver is Euler's by default, that is DDIM with η = 0.

    Raises:
        ValueError: For settings outside of these ranges, for a ``checkpoint`` without a network, for time travel with
            a solver that has its own levels, and as :class:`Sampler`. In the first step, when the score gives no
            gradient.
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
        if not (math.isfinite(regularization) and regularization >= 0):
            raise ValueError(f"regularization (w) must be a number of at least 0, got {regularization}")
        super().__init__(score, **options)
        block = self.steps if travel is None else travel
        self.plan = self.plan.with_inner_steps(inner_steps).with_time_travel(block, travels)
        if travels and self.solver.levels(self.steps) is not None:
            raise ValueError(f"{type(self.solver).__name__} cannot travel back in time; leave travels out")
        self.inner_steps, self.step_size, self.regularization = inner_steps, step_size, regularization
        self.travel, self.travels, self.checkpoint = block, travels, checkpoint
        if checkpoint:
            check_checkpoint(self.score)

    def remember(self, x: Tensor) -> AnchoredMemory:
        """The memory at the start of a run, or after time travel."""
        return AnchoredMemory(super().remember(x).solver)

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state as the level is entered is what the gradient steps are held to."""
        state = super().enter(state, visit, noise)
        return replace(state, memory=replace(state.memory, anchor=state.x if visit.inner_steps else None))

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One step of gradient descent on J."""
        x, level = state.x, visit.level
        prediction, _, gradient = differentiate(
            self.score, x, level, square_error(state.observation), save_memory=self.checkpoint
        )
        scale = norm(level)  # c, and 0 at entries without noise, which stay
        step = self.step_size * level.alpha * reciprocal(scale)
        hold = cast_like(2 * self.regularization * step, x) * (x - state.memory.anchor)
        return replace(state, x=x - cast_like(step * scale**2, x) * gradient - hold, prediction=prediction)
