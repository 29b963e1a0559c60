"""Overdamped Langevin dynamics, Euler–Maruyama: first order in dτ (LanPaint, Eq. 95, 96).

    dx = s(x) dτ + √2 dW,        x' = x + s(x) dτ + √(2 dτ) ξ

On a Gaussian of precision Λ a step is stable while Λ dτ < 2.
"""

from __future__ import annotations

from torch import Tensor

from lanpaint.drift import Coefficient, Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource


class Langevin(Dynamics):
    """Euler–Maruyama steps of overdamped Langevin dynamics (LanPaint, Eq. 96). One evaluation a step."""

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """At x, coefficients computed once for the level."""
        self.proposal(drift, x)
        return State(x)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """From x to x + s(x) dτ + √(2 dτ) ξ."""
        move, scatter = self.proposal(drift, state.x)
        return State(add_terms(state.x, (move, drift(state.x)), (scatter, noise(state.x))))

    def proposal(self, drift: Drift, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """What s(x) and ξ are multiplied by in a step."""

        def solve() -> list[Coefficient]:
            return drift.coefficients([drift.time_step, (2 * drift.time_step).sqrt()], x)

        move, scatter = drift.once(self, x, solve)
        return move, scatter
