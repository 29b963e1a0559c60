"""FlowChef, steering without gradients (Patel et al., 2024, arXiv:2412.00100, Alg. 1), with a quadratic loss.

x takes N gradient steps on the loss at x̂₀, with ∂x̂₀/∂x replaced by 1, and then the Euler step with the velocity from
before. In native coordinates, with κ = 2 times the step length of the loss ‖y − x̂₀‖², that is

    δ = (1 − (1 − κ)ᴺ)(y − x̂₀) on known entries
    x' = α' x̂₀ + σ' ε̂ + (α' + σ') δ

which is the Euler step of x̂₀ + δ and ε̂ + δ.

The method is a heuristic, and with κ = 1 close to the exact conditional on a Gaussian: of two entries with correlation
0.8, of which one is known, it ends at mean 0.792 and variance 0.357 of the unknown entry with 200 steps, and the exact
conditional has 0.8 and 0.36. It takes one evaluation per outer step, and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_between, check_whole
from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score


class FlowChef(Sampler):
    """FlowChef (Patel et al., 2024). Published with 30 to 200 steps.

    Args:
        score: The model, as in :class:`Sampler`.
        step_size: κ in [0, 2): 1 moves x̂₀ to y. The published loss is a mean over entries, so its κ depends on the size
            of the picture: 1000 divided by the number of entries, for pixels.
        gradient_steps: N ≥ 1, gradient steps at each level. The published edits have 1.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, and as :class:`Sampler`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        step_size: float = 1.0,
        gradient_steps: int = 1,
        **options: Any,
    ) -> None:
        check_whole("gradient_steps (N)", gradient_steps, least=1)
        refuse_solver("FlowChef", options)
        super().__init__(score, **options)
        self.step_size = check_between("step_size (κ)", step_size, 0, 2)
        self.gradient_steps = gradient_steps

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step."""
        observation, next_level = state.observation, visit.next_level
        prediction = self.score.predict(state.x, visit.level)
        x = next_level.perturb(prediction.denoised, prediction.epsilon)
        share = (1 - (1 - self.step_size) ** self.gradient_steps) * (next_level.alpha + next_level.sigma)
        steered = x + cast_like(share, x) * (observation.values - prediction.denoised)
        x = observation.replace_known(x, steered)
        return replace(state, x=x, level=next_level, prediction=prediction)
