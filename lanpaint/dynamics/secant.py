"""Overdamped Langevin dynamics with a step that is measured on the way.

The position moves by the integrator of Leimkuhler and Matthews (2013), BAOAB at infinite friction,

    x' = x + h s(x) + √(h/2) (ξ + ξ')

where ξ' is the ξ of the next step. On a Gaussian the law of x is exact at any stable step h < 2/k, k the curvature, for
all curvatures at once: fast Langevin dynamics is exact where its damping A is the curvature, and for k ≪ A at η = 1 its
variance is 21 % too small. The first step at a level has no ξ behind it; it draws one of variance 3 − 2 h A instead of
1, with which the law of x, if it is right where the level is entered, stays right in that step too (for k = A).

The step is h = (1 − e^(−η))/A with η = A₀ dτ, dτ and A₀ the drift's own step and damping: the mean of an
Ornstein–Uhlenbeck process moves as far in dτ (LanPaint, Eq. 110). LanPaint takes A from what the noise alone implies,
1/σ², unless the user knows the spread of the clean data (Eq. 121, its expected noise). Here it is the curvature between
the last two evaluations, as in the step length of Barzilai and Borwein (1988),

    A = |⟨Δx, Δs⟩| / ⟨Δx, Δx⟩

over the entries of a sample, made from evaluations that are needed anyway.

It is bounded by A₀, which is safe: noise of level σ leaves no distribution with a curvature above 1/σ². What is
remembered is the excess variance e = 1/A − 1/A₀ (α² a in the paper's symbols), because that hardly changes from level
to level. It shrinks at once and grows slowly, and never makes a step more than ``longest`` times as long as the safe
one: where a distribution is flat and then steep, a curvature that was measured says nothing of the one to come.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.drift import Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.noise import reciprocal
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class SecantState(State):
    """State of :class:`SecantLangevin`.

    Attributes:
        x: Position, shape (B, …).
        point: Where the score was evaluated last, shape of x; None before the first evaluation at a level.
        score: s there.
        noise: ξ of the next step, shape of x; None before the first step at a level.
        excess: e of each sample, shape (B, 1, …), in units of x²; None before the first estimate of a run.
    """

    point: Tensor | None = None
    score: Tensor | None = None
    noise: Tensor | None = None
    excess: Tensor | None = None


class SecantLangevin(Dynamics):
    """Overdamped Langevin dynamics, Leimkuhler–Matthews steps of a measured length. One evaluation a step.

    The known part keeps the drift's own damping; e is one number for the unknown part of each sample, which so does not
    depend on its batch.

    Args:
        growth: g ≥ 1, by how much a step may be longer than the one before. 1.3 and 40 were chosen on gauss2, star500
            and an AR(1) process (docs/frontier.md).
        longest: L ≥ 1, by how much at most it may be longer than the safe one; 1 measures nothing.

    Raises:
        ValueError: For settings below 1.
    """

    def __init__(self, growth: float = 1.3, longest: float = 40.0) -> None:
        for name, value in {"growth": growth, "longest": longest}.items():
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.growth, self.longest = float(growth), float(longest)

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> SecantState:
        """At x, with nothing known."""
        return SecantState(x)

    def warm_start(self, state: State, x: Tensor, drift: Drift, noise: NoiseSource) -> SecantState:
        """At x on a new level, with the excess that the last one left."""
        assert isinstance(state, SecantState)
        excess = state.excess
        if excess is not None:
            excess = torch.minimum(excess, (self.longest - 1) / _safe(drift, x))
        return SecantState(x, excess=excess)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> SecantState:
        """From x to x + h s(x) + √(h/2) (ξ + ξ')."""
        assert isinstance(state, SecantState)
        x, score = state.x, drift(state.x)
        excess = self._measure(state, drift, x, score)
        damping = drift.broadcast(drift.damping, x)
        share = drift.broadcast(-torch.expm1(-drift.damping * drift.time_step), x)  # h A
        if excess is not None:
            wide = damping / (1 + damping * excess)
            damping = wide if drift.known is None else torch.where(drift.known, damping, wide)
        length = share / damping
        behind = (3 - 2 * share).sqrt() * noise(x) if state.noise is None else state.noise
        ahead = noise(x)
        scatter = (length / 2).sqrt()
        moved = add_terms(x, (length, score), (scatter, behind), (scatter, ahead))
        return SecantState(moved, x, score, ahead, excess)

    def _measure(self, state: SecantState, drift: Drift, point: Tensor, score: Tensor) -> Tensor | None:
        """The new e."""
        if state.point is None or state.score is None:
            return state.excess
        moved, turned = point - state.point, score - state.score
        if drift.known is not None:
            moved = torch.where(drift.known, 0, moved)
        axes = tuple(range(1, point.ndim))
        bent, size = (moved * turned), moved.square()
        if axes:
            bent, size = (t.sum(axes, keepdim=True) for t in (bent, size))
        safe = _safe(drift, point)
        curvature = torch.minimum(bent.abs() * reciprocal(size), safe)
        last, growth = state.excess, self.growth
        # The first may double the step: at the noisiest level nothing is steep.
        bound = 1 / safe if last is None else growth * last + (growth - 1) / safe
        bound = torch.minimum(bound, (self.longest - 1) / safe)
        found = (reciprocal(curvature) - 1 / safe).clamp(min=0)
        return torch.minimum(torch.where(curvature > 0, found, bound), bound)


def _safe(drift: Drift, x: Tensor) -> Tensor:
    """A₀ of the unknown part, one number for the batch or each sample."""
    compact = drift.damping if drift.known is None else drift.damping[0]
    compact = compact.to(x)
    per_sample = compact.ndim == x.ndim and compact.ndim > 0
    return compact.amax(tuple(range(1, x.ndim)), keepdim=True) if per_sample and x.ndim > 1 else compact.amax()
