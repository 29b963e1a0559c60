"""Overdamped Langevin dynamics, Euler–Maruyama: first order in dτ (LanPaint, Eq. 95, 96).

    dx = s(x) dτ + √2 dW,        x' = x + s(x) dτ + √(2 dτ) ξ

On a Gaussian of precision Λ a step is stable while Λ dτ < 2.
"""

from __future__ import annotations

from lanpaint.drift import Drift
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource


class Langevin(Dynamics):
    """Euler–Maruyama steps of overdamped Langevin dynamics (LanPaint, Eq. 96). One evaluation a step."""

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """From x to x + s(x) dτ + √(2 dτ) ξ."""
        x = state.x
        dtau = drift.spread(drift.step, x)
        spread = drift.spread((2 * drift.step).sqrt(), x)
        return State(x + drift(x) * dtau + spread * noise(x))
