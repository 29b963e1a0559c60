"""DPM-Solver++, multistep (Lu et al., 2022, arXiv:2211.01095, Alg. 2 and Appendix B).

In λ = log(α/σ) the probability-flow ODE of the clean-data prediction is linear but for x̂₀(λ),

    x' = (σ'/σ) x + α' ∫ e^(u − λ') x̂₀(u) du          over u from λ to λ'

and x̂₀ is extrapolated through the predictions of the steps before. With h = λ' − λ, D₁ and D₂ the first and (half the)
second derivative of x̂₀ in units of h:

    first order       (σ'/σ) x + α' (1 − e^(−h)) x̂₀                                    which is DDIM
    second, 2M        … + α' (1 − e^(−h)) D₁ / 2
    third, 3M         … + α' ((e^(−h) − 1)/h + 1) D₁ + α' (1/2 − (e^(−h) − 1 + h)/h²) D₂
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, ready
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState


@dataclass(frozen=True)
class MultistepState(SolverState):
    """State of :class:`DPMSolver`.

    Attributes:
        history: The predictions x̂₀ of the steps before, the last first, each with its λ.
    """

    history: tuple[tuple[Tensor, Tensor], ...] = ()


class DPMSolver(Solver):
    """DPM-Solver++ 2M and 3M. One evaluation.

    The first steps are of lower order, for want of history, and so is one that starts at α = 0 or ends at σ = 0.

    Args:
        order: 2 (2M) or 3 (3M). 2 by default, the choice for guided models; 3 for unguided ones.

    Raises:
        ValueError: For another order.
    """

    def __init__(self, order: int = 2) -> None:
        if order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {order!r}; order 1 is Euler()")
        self.order = order

    def init(self, x: Tensor, steps: int) -> MultistepState:
        """Without history."""
        return MultistepState(x)

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> MultistepState:
        """Of the order that the history allows."""
        assert isinstance(state, MultistepState)
        x = state.x
        prediction = score.predict(x, level)
        now = prediction.denoised
        lam, h = level.log_snr / 2, (next_level.log_snr - level.log_snr) / 2
        out = next_level.perturb(now, prediction.epsilon)
        finite = torch.isfinite(h) & (h > 0)
        h = torch.where(finite, h, 1.0)

        def add(weight: Tensor, derivative: Tensor) -> None:
            nonlocal out
            out = out + ready(torch.where(finite, next_level.alpha * weight, 0.0), x) * derivative

        gaps = [lam - past for _, past in state.history]  # ∞ to a level with α = 0: its slope is then 0
        if len(gaps) >= 1:
            slope = ready(h / gaps[0], x) * (now - state.history[0][0])
        if len(gaps) == 1:
            add(-torch.expm1(-h) / 2, slope)
        if len(gaps) == 2:
            before = gaps[1] - gaps[0]
            earlier = ready(h / before, x) * (state.history[0][0] - state.history[1][0])
            span = gaps[1] / h
            share = torch.where(torch.isfinite(gaps[1]), gaps[0] / gaps[1], 0.0)
            curve = slope - earlier
            add(torch.expm1(-h) / h + 1, slope + ready(share, x) * curve)
            add(0.5 - (torch.expm1(-h) + h) / h**2, ready(1 / span, x) * curve)
        return MultistepState(out, prediction, ((now, lam), *state.history)[: self.order - 1])
