"""Overdamped Langevin dynamics, Euler–Maruyama: first order in dτ (LanPaint, Eq. 95, 96).

    dx = s(x) dτ + √2 dW,        x' = x + s(x) dτ + √(2 dτ) ξ

On a Gaussian of precision Λ a step is stable while Λ dτ < 2.
"""

from __future__ import annotations

from torch import Tensor

from lanpaint.drift import Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource


class Langevin(Dynamics):
    """Euler–Maruyama steps of overdamped Langevin dynamics (LanPaint, Eq. 96). One evaluation a step."""

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """From x to x + s(x) dτ + √(2 dτ) ξ."""
        move, scatter = self.proposal(drift, state.x)
        return State(add_terms(state.x, (move, drift(state.x)), (scatter, noise(state.x))))

    def proposal(self, drift: Drift, x: Tensor) -> tuple[Tensor, Tensor]:
        """What s(x) and ξ are multiplied by in a step, each broadcasting against x."""
        return drift.broadcast(drift.time_step, x), drift.broadcast((2 * drift.time_step).sqrt(), x)
