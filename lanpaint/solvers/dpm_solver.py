"""DPM-Solver++, multistep (Lu et al., 2022, arXiv:2211.01095, Alg. 2 and Appendix B).

In the variable λ = log(α/σ) the probability-flow ODE is linear in x, and x̂₀(λ) is its only non-linear part,

    x' = (σ'/σ) x + α' ∫ e^(u − λ') x̂₀(u) du          over u from λ to λ'

The solver extrapolates x̂₀ from the predictions of earlier steps. With h = λ' − λ, and D₁, D₂ the first two derivatives
of x̂₀ times h and h², estimated by divided differences:

    first order       (σ'/σ) x + α' (1 − e^(−h)) x̂₀                                    which is DDIM
    second, 2M        … + α' (1 − e^(−h)) D₁ / 2
    third, 3M         … + α' ((e^(−h) − 1)/h + 1) D₁ + α' (1/2 − (e^(−h) − 1 + h)/h²) D₂

The published code of 3M, and diffusers after it, uses the second divided difference as D₂, which is half of the second
derivative. That makes the published method second order. Here D₂ is the second derivative, and 3M is third order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still

_BEND = 2.0  # the second derivative is twice the second divided difference


@dataclass(frozen=True)
class MultistepState(SolverState):
    """State of :class:`DPMSolver`.

    Attributes:
        x: State at the current level, shape (B, …).
        prediction: The model's prediction in the last step, or None before the first step.
        history: Pairs (x̂₀, λ) of earlier steps, the latest first; ``order`` − 1 at most.
    """

    history: tuple[tuple[Tensor, Tensor], ...] = ()


class DPMSolver(Solver):
    """DPM-Solver++ 2M and 3M (Lu et al., 2022). One evaluation per step.

    The first steps have a lower order, because there is no history yet. A step that starts at α = 0 or ends at σ = 0
    has a lower order too, and so has the first step of an entry after steps in which its level did not change.

    Args:
        order: 2 (2M) or 3 (3M). The default 2 suits models with classifier-free guidance, and 3 suits models without.

    Raises:
        ValueError: For an order other than 2 and 3.
    """

    def __init__(self, order: int = 2) -> None:
        if not isinstance(order, int) or order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {order!r}; order 1 is Euler()")
        self.order = order

    def init(self, x: Tensor, steps: int) -> MultistepState:
        """The state at the first level, without history."""
        return MultistepState(x)

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> MultistepState:
        """The state at ``next_level``, by a step of the highest order that the history allows."""
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
            out = out + cast_like(torch.where(finite, next_level.alpha * weight, 0.0), x) * derivative

        gaps = [torch.nan_to_num(lam - past, nan=0.0) for _, past in state.history]
        if len(gaps) >= 1:
            slope = cast_like(h * _inverse(gaps[0]), x) * (now - state.history[0][0])
        if len(gaps) == 1:
            add(-torch.expm1(-h) / 2, slope)
        if len(gaps) == 2:
            between = _inverse(gaps[1] - gaps[0])
            earlier = cast_like(h * between, x) * (state.history[0][0] - state.history[1][0])
            # Three distinct levels with signal and noise are needed for a curve.
            curve = cast_like(((between > 0) & (_inverse(gaps[0]) > 0)).to(h), x) * (slope - earlier)
            share = torch.nan_to_num(gaps[0], posinf=0.0) * _inverse(gaps[1])
            add(torch.expm1(-h) / h + 1, slope + cast_like(share, x) * curve)
            bend = 0.5 - (torch.expm1(-h) + h) / h**2
            add(_BEND * bend, cast_like(h * _inverse(gaps[1]), x) * curve)
        out = keep_still(out, x, level, next_level)
        return MultistepState(out, prediction, ((now, lam), *state.history)[: self.order - 1])


def _inverse(gap: Tensor) -> Tensor:
    """1/gap; 0 for a gap to a level without signal, or between two levels without noise, where no slope exists."""
    usable = torch.isfinite(gap) & (gap > 0)
    return torch.where(usable, 1 / torch.where(usable, gap, 1.0), 0.0)
