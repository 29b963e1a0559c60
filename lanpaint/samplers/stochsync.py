"""StochSync: canvases from windows that are placed anew in each step (Yeo, Kim and Sung, 2025, arXiv:2501.15445).

The state is a clean canvas. It is noised with fresh noise, each window goes along the probability flow to the clean
end, and the windows are put together:

    x = α x̃₀ + σ ξ                          ξ fresh on the whole canvas
    x̂₀ = the end of the flow, n steps       window by window
    x̃₀ = x̂₀, with y on known entries

The windows do not overlap, and every other step they are shifted by half of a window. So what one step leaves at a seam
lies in the middle of a window of the next. Only the windows at the ends of a shifted row overlap their neighbours, and
there the model is averaged.

Over one window this is LATINO with the exact flow and s = 0, and a heuristic as that is (docs/chains.md has its law).
The paper's first steps at pure noise, and its last steps with a soft mask at the seams, are left out. It takes n
evaluations of all windows per outer step, and no gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler, refuse_solver
from lanpaint.score import Score, as_score
from lanpaint.windowed import WindowedScore


class StochSync(Sampler):
    """StochSync (Yeo et al., 2025) for canvases larger than a model's window. Published with 25 steps of 25.

    Args:
        score: The model of one window, as in :class:`Sampler`.
        window: Entries of a window along the last axes, as in :class:`~lanpaint.WindowedScore`.
        ode_steps: n ≥ 1, Euler steps of the probability flow at each level. They pass through the sampler's own levels,
            so they are fewer at the last ones.
        batch: Windows in one call of the model.
        **options: Options of :class:`Sampler`, except a solver.

    Raises:
        ValueError: For settings outside of these ranges, for a solver, and as :class:`~lanpaint.WindowedScore`.

    Example:
        >>> import torch, lanpaint as lp
        >>> from lanpaint_toys import Gaussian
        >>> window = Gaussian([0.0] * 4, torch.eye(4))
        >>> lp.StochSync(window, window=4, steps=5)((2, 100)).shape
        torch.Size([2, 100])
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        window: int | Sequence[int | None],
        *,
        ode_steps: int = 5,
        batch: int = 16,
        **options: Any,
    ) -> None:
        check_whole("ode_steps (n)", ode_steps, least=1)
        refuse_solver("StochSync", options)
        model = as_score(score)
        super().__init__(WindowedScore(model, window, 0, batch=batch), **options)
        self.shifted = WindowedScore(model, window, 0, batch=batch, shifted=True)
        self.ode_steps = ode_steps
        counts = [min(ode_steps, self.steps - step) for step in range(self.steps)]
        self.plan = replace(self.plan, outer_evaluations=counts)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The flow of each window to the clean end, and forward diffusion of the canvas to the next level."""
        score = self.shifted if visit.step % 2 else self.score
        levels, count = self.plan.levels, min(self.ode_steps, self.steps - visit.step)
        passed = [visit.step + round(n * (self.steps - visit.step) / count) for n in range(count + 1)]
        x = state.x
        prediction: Prediction | None = None
        for here, there in itertools.pairwise(passed):
            seen = score.predict(x, levels[here])
            prediction = prediction or seen
            x = levels[there].perturb(seen.denoised, seen.epsilon)
        clean = state.observation.replace_known(x, state.observation.values)
        x = visit.next_level.perturb(clean, noise(x))
        return replace(state, x=x, level=visit.next_level, prediction=prediction)
