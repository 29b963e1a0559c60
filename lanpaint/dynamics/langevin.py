"""Overdamped Langevin dynamics by Euler–Maruyama steps, which are first order in dτ (LanPaint, Eq. 95, 96).

    dx = s(x) dτ + √2 dW,        x' = x + s(x) dτ + √(2 dτ) ξ

On a Gaussian of precision Λ a step is stable while Λ dτ < 2.
"""

from __future__ import annotations

from torch import Tensor

from lanpaint.drift import Coefficient, Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource


class Langevin(Dynamics):
    """Euler–Maruyama steps of overdamped Langevin dynamics (LanPaint, Eq. 96). One evaluation per step."""

    order = 1

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at x. The coefficients of the level are computed here."""
        self.proposal(drift, x)
        return State(x)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """The state at x + s(x) dτ + √(2 dτ) ξ."""
        move, scatter = self.proposal(drift, state.x)
        return State(add_terms(state.x, (move, drift(state.x)), (scatter, noise(state.x))))

    def proposal(self, drift: Drift, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """dτ and √(2 dτ), the factors of s(x) and ξ in a step, as coefficients of x."""

        def solve() -> list[Coefficient]:
            return drift.coefficients([drift.time_step, (2 * drift.time_step).sqrt()], x)

        move, scatter = drift.once(self, x, solve)
        return move, scatter
