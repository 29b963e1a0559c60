"""Diffusion posterior sampling, DPS (Chung et al., 2023, Alg. 1, with H a mask; LanPaint, Appendix A).

After every outer step the state is moved down the squared error of x̂₀ on the known part,

    z' ← z' − (ζ / ‖y_o − x̂₀‖) ∇_z ‖y_o − x̂₀(z)‖²                     the same as − 2 ζ ∇_z ‖y_o − x̂₀(z)‖

where z = x/c, c = √(α² + σ²), is the state in variance-preserving coordinates, in which the method is defined. So in
any coordinates, with c' of the next level, x' ← x' − c' c (ζ / ‖y_o − x̂₀‖) ∇_x ‖y_o − x̂₀(x)‖², one norm per sample.

A heuristic: x̂₀ stands for all of p(x₀ | x). One evaluation per step (the solver's own, of which the gradient is taken),
differentiated through the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.gradients import Answered, check_checkpoint, differentiate, norm, square_error
from lanpaint.samplers.langevin_sampler import check_step_size
from lanpaint.samplers.sampler import Sampler
from lanpaint.score import Score


class DPS(Sampler):
    """DPS: nothing but the gradient draws the known part to y_o, and in the end it is set to y_o.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        step_size: ζ > 0; 1 is the value of LanPaint's Appendix A. In units of the data squared, as x̂₀ has data of
            order 1.
        checkpoint: Compute the activations of the network's blocks anew for the gradient instead of keeping them: the
            same numbers in less memory, for the time of one more evaluation, which is not counted.
        **options: Those of :class:`Sampler`.

    Raises:
        ValueError: For ζ ≤ 0, for a ``checkpoint`` without a network, and as :class:`Sampler`. In the first step, when
            the score gives no gradient.
    """

    remedy = "lower step_size (ζ)"

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        step_size: float = 1.0,
        checkpoint: bool = False,
        **options: Any,
    ) -> None:
        check_step_size(step_size)
        super().__init__(score, **options)
        self.step_size, self.checkpoint = step_size, checkpoint
        if checkpoint:
            check_checkpoint(self.score)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The solver's step, and the step down the gradient."""
        x, level, next_level = state.x, visit.level, visit.next_level
        prediction, error, gradient = differentiate(
            self.score, x, level, square_error(state.observation), save_memory=self.checkpoint
        )
        begun, score = replace(state.memory.solver, x=x), Answered(self.score, prediction)
        state = self.advanced(state, self.solver.step(begun, score, level, next_level, noise), visit)
        step = (self.step_size * reciprocal(error.sqrt())).reshape(-1, *(1,) * (x.ndim - 1))
        next_norm = (next_level.alpha**2 + next_level.sigma**2).sqrt()
        return replace(state, x=state.x - cast_like(next_norm * norm(level), x) * step * gradient)
