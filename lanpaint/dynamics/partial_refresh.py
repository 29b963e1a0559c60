"""Langevin dynamics whose step needs no measurement, with momentum that is refreshed in part at each step.

The momentum v has mass 1. A step has the length d = √(2 dτ), where dτ is the time step of the drift. It is BAOAB
(Leimkuhler & Matthews, 2013), of which the two half kicks between two steps are made as one,

    v ← v + d s(x)                      half of it in the first step at a level
    x ← x + (d/2) v
    v ← c v + √(1 − c²) ξ               partial refreshment (Horowitz, 1991)
    x ← x + (d/2) v

and takes one evaluation. At c = 0 it is the step of Leimkuhler and Matthews, x' = x + dτ s + √(dτ/2) (ξ + ξ'). Let k be
the curvature of −log p in any direction. On a Gaussian the distribution of x is exact, for all curvatures below

    4/d² = 2/dτ

at once, and the step is unstable above. A distribution with noise of level σ has no curvature above 1/σ². So a step
with d < 2 σ is safe, and its length can be tied to σ. Nothing is measured, so the length does not depend on the state.
(A length that does is a different dynamics: without its correction term it settles near p/d².)

v is drawn from N(0, 1) when a level is entered. c is above 0 on the unknown part alone. The known part follows BiG,
which for λ > 0 is no gradient: there y answers x with a delay, and momentum in both parts would be amplified.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.drift import Coefficient, Drift, add_terms, sum_of
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class PartialRefreshCoefficients:
    """Coefficients of a step, each compact or broadcast against a state.

    Attributes:
        kick: d, the factor of s(x) in v.
        move: d/2, the factor of v in x, and of s(x) in the first step at a level.
        keep: c; 0 on the known part.
        scatter: √(1 − c²).
    """

    kick: Coefficient
    move: Coefficient
    keep: Coefficient
    scatter: Coefficient


@dataclass(frozen=True)
class PartialRefreshState(State):
    """State of :class:`PartialRefresh`.

    Attributes:
        x: Position, shape (B, …).
        momentum: v, shape of x, in units of x over d.
        fresh: Whether v was drawn for this level and no step has been made since.
    """

    momentum: Tensor
    fresh: bool = False


class PartialRefresh(Dynamics):
    """BAOAB with momentum drawn anew at each level, and in part at each step. One evaluation per step.

    The distribution of x is exact on a Gaussian for all curvatures below 2/dτ (Leimkuhler & Matthews, 2013; partial
    refreshment by Horowitz, 1991).

    Args:
        keep: c in [0, 1), the part of the momentum that a step keeps, on the unknown part. The known part keeps none.
            0.45 by default: with LanPaint's λ = 8 and the longest step of the fast preset, d = √2 σ, all Gaussians are
            stable below 0.47 (docs/frontier.md).

    Raises:
        ValueError: For c outside [0, 1).
    """

    def __init__(self, keep: float = 0.45) -> None:
        if not 0 <= keep < 1:
            raise ValueError(f"keep (c) must be at least 0 and below 1, got {keep}")
        self.keep = float(keep)

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> PartialRefreshState:
        """The state at x, with momentum drawn from N(0, 1). The coefficients of the level are computed here."""
        self._coefficients(drift, x)
        return PartialRefreshState(x, noise(x), fresh=True)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> PartialRefreshState:
        """The state after a kick, half a move, the refreshment and half a move."""
        assert isinstance(state, PartialRefreshState)
        x, v, by = state.x, state.momentum, self._coefficients(drift, state.x)
        v = add_terms(v, (by.move if state.fresh else by.kick, drift(x)))
        x = add_terms(x, (by.move, v))
        v = sum_of((by.keep, v), (by.scatter, noise(x)))
        return PartialRefreshState(add_terms(x, (by.move, v)), v)

    def _coefficients(self, drift: Drift, x: Tensor) -> PartialRefreshCoefficients:
        def solve() -> PartialRefreshCoefficients:
            length = (2 * drift.time_step).sqrt()
            keep = torch.full_like(length, self.keep)
            if drift.known is not None:
                keep = torch.stack([keep[0], torch.zeros_like(keep[1])])
            return drift.record(PartialRefreshCoefficients(length, length / 2, keep, (1 - keep**2).sqrt()), x)

        return drift.once(self, x, solve)
