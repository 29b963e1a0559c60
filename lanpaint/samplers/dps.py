"""Diffusion posterior sampling, DPS (Chung et al., 2023, Alg. 1, with H a mask; LanPaint, Appendix A).

After every outer step the state moves down the gradient of the squared error of x̂₀ on the known part,

    z' ← z' − (ζ / ‖y_o − x̂₀‖) ∇_z ‖y_o − x̂₀(z)‖²                     equal to z' − 2 ζ ∇_z ‖y_o − x̂₀(z)‖

The method is defined in variance-preserving coordinates z = x/c with c = √(α² + σ²). In any coordinates, with c' of the
next level, it is x' ← x' − c' c (ζ / ‖y_o − x̂₀‖) ∇_x ‖y_o − x̂₀(x)‖². The norms are taken per sample.

The step is that of a measurement with Gaussian noise too (their Alg. 1): ζ takes the place of the noise. What the
noise changes is the end, where known entries are left as they are. Noise that differs from entry to entry is refused:
it would weigh the errors, and ζ does not.

The method is a heuristic: the point x̂₀ replaces the distribution p(x₀ | x). It takes one evaluation per outer step,
differentiated through the network. The solver uses that evaluation too.
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
from lanpaint.samplers.clean import measured
from lanpaint.samplers.gradients import Answered, check_checkpoint, differentiate, norm, square_error
from lanpaint.samplers.langevin_sampler import check_step_size
from lanpaint.samplers.sampler import Sampler, TakesNoise
from lanpaint.score import Score


class DPS(Sampler):
    """DPS (Chung et al., 2023): a gradient step after each outer step draws the known part towards y_o.

    Known entries are set to y_o at the end only; for an observation with noise they are not.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        step_size: ζ > 0; 1 is the value of LanPaint's Appendix A, for data of order 1.
        checkpoint: Gradient checkpointing: recompute the activations of the network's blocks for the gradient instead
            of keeping them. Results do not change. It saves memory and costs the time of one more evaluation, which
            is not counted.
        **options: Options of :class:`Sampler`.

    Raises:
        TypeError: For a ``step_size`` that is not a number, and as :class:`Sampler`.
        ValueError: For ζ ≤ 0, ``checkpoint=True`` with a score that holds no network, and as :class:`Sampler`. In the
            first step: when the score gives no gradient.
    """

    takes_noise: TakesNoise = "one number"
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
        """The solver's step, and then the gradient step."""
        x, level, next_level = state.x, visit.level, visit.next_level
        prediction, error, gradient = differentiate(
            self.score, x, level, square_error(measured(state.observation)), save_memory=self.checkpoint
        )
        begun, score = replace(state.memory.solver, x=x), Answered(self.score, prediction)
        state = self.advanced(state, self.solver.step(begun, score, level, next_level, noise), visit)
        length = (self.step_size * reciprocal(error.sqrt())).reshape(-1, *(1,) * (x.ndim - 1))
        next_norm = (next_level.alpha**2 + next_level.sigma**2).sqrt()
        return replace(state, x=state.x - cast_like(next_norm * norm(level), x) * length * gradient)
