"""ALM: accelerated likelihood maximisation (Lee, Hwang & Kim, arXiv:2606.31323).

Before each step of SyncSDE the unknown part climbs two log densities, along the model's ε̂ at Y_t and at its blend with
the known content, E_t = X_t (1 − M) + Y_t M (Eq. 1 and 11):

    Y_t ← Y_t + c M (w₁' (ε̂(Y_t) − ε̂(E_t)) − w₂ ε̂(E_t))             w₁ = s w₁(init), w₂ = s w₂(init)    (Eq. 12)

In native coordinates c is √(α² + σ²), and s DDPM's standard deviation. For a rectified flow c = α + σ, w₁' = w₁/2 and
s = t⁴ with t = σ/(α + σ) (Eq. 27). The iterative method makes N such updates with w/N (Eq. 9).

It ascends and draws no noise, so it maximises rather than samples: docs/alm.md has the law. The one-step method takes
three evaluations per outer step, N iterations 2 N + 1; and S more before the first step for DDIM inversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.checks import check_real, check_whole
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.partner import check_weight
from lanpaint.samplers.pull import decay, norm
from lanpaint.samplers.syncsde import SyncSDE
from lanpaint.score import Score, as_score


class Reused(Score):
    """An earlier prediction, taken for that of any x: its ε̂, or a rectified flow's velocity."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The prediction at x. It takes no evaluation."""
        view = "flow" if self.prediction.is_flow else "epsilon"
        return Prediction(x, level, **{view: getattr(self.prediction, view)})


class ALM(SyncSDE):
    """ALM, one-step and iterative (arXiv:2606.31323). The defaults are the printed method.

    Args:
        score: The model, as in :class:`Sampler`.
        w1: w₁ ≥ 0, the weight of the conditional likelihood, and of SyncSDE's pull; 1 in the paper.
        w2: w₂ ≥ 0, the weight of the joint density; 0.005 in the paper.
        contrast: w₁' ≥ 0, the weight of the conditional likelihood in the updates alone; by default w₁, and w₁/2 for a
            flow. At 0 the pull stays, as in the paper's Table 3.
        iterations: N ≥ 1, updates at each level: 1 for the accelerated method; 500 in the paper's Appendix D.
        decay: Whether the weights of the updates decay with the noise (Eq. 12 or 27).
        last_share: Share of the outer steps, the last ones, without updates; 0.2 in the paper's mesh texturing (B.4).
        reuse: Whether the outer step takes ε̂(Y_t) of before the update, which saves one evaluation.
        scaled: Whether the updates have the factor 1/√(1 − ᾱ) of Eq. 7 and 8, which Eq. 9 drops.
        unguided: The model without classifier-free guidance, for the updates (Sec. 4.1); by default the score's own
            :attr:`~lanpaint.Score.unguided`.
        **options: Options of :class:`~lanpaint.SyncSDE`.

    Raises:
        ValueError: For w₂ < 0, w₁' < 0, N < 1, a share outside [0, 1], ``reuse`` with a solver of several stages, and
            as :class:`~lanpaint.SyncSDE`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        w1: float = 1.0,
        w2: float = 0.005,
        contrast: float | None = None,
        iterations: int = 1,
        decay: bool = True,
        last_share: float = 0.0,
        reuse: bool = False,
        scaled: bool = False,
        unguided: Score | None = None,
        **options: Any,
    ) -> None:
        check_weight("w2 (w₂)", w2)
        if contrast is not None:
            check_weight("contrast (w₁')", contrast)
        check_whole("iterations (N)", iterations, least=1)
        check_real("last_share", last_share)
        if not 0 <= last_share <= 1:
            raise ValueError(f"last_share must lie between 0 and 1, got {last_share}")
        super().__init__(score, w1=w1, **options)
        self.contrast = self.w1 * (0.5 if self.flow else 1.0) if contrast is None else float(contrast)
        self.w2, self.iterations, self.decay, self.reuse, self.scaled = float(w2), iterations, decay, reuse, scaled
        self.update_score = self.score.unguided if unguided is None else as_score(unguided)
        free = round(self.steps * (1 - last_share))
        numbers = [iterations if step < free else 0 for step in range(self.steps)]
        self.plan = self.plan.with_inner_steps(numbers, [2 * number for number in numbers])
        if reuse:
            each = self.solver.evaluations(self.plan.levels)
            if max(each) > 1:
                raise ValueError("reuse=True takes a solver of one evaluation a step, such as Euler or DDIM")
            outer = [n - bool(new) for n, new in zip(self.plan.outer_evaluations or (), numbers, strict=True)]
            self.plan = replace(self.plan, outer_evaluations=outer)

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One update of the unknown part (Eq. 1 with N = 1, else Eq. 9)."""
        x, level, known = state.x, visit.level, state.observation
        at_state = self.update_score.predict(x, level)
        at_blend = self.update_score.predict(known.replace_known(x, state.memory.partner), level)
        weight = decay(level, visit.next_level, self.flow) if self.decay else 1.0
        unit = norm(level, self.flow)
        unit = weight / self.iterations * (unit**2 * reciprocal(level.sigma) if self.scaled else unit)
        move = self.contrast * (at_state.epsilon - at_blend.epsilon) - self.w2 * at_blend.epsilon
        moved = known.replace_known(x + cast_like(unit, x) * move, x)
        kept = replace(state.memory, reused=at_state if self.reuse else None)
        return replace(state, x=moved, prediction=at_state, memory=kept)

    def outer_score(self, state: SamplerState) -> Score:
        """The model, or its prediction before the update."""
        return self.score if state.memory.reused is None else Reused(state.memory.reused)
