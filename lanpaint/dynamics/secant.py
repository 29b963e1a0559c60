"""Overdamped Langevin dynamics with a step length from the measured curvature.

The position moves by the integrator of Leimkuhler and Matthews (2013), BAOAB at infinite friction,

    x' = x + h s(x) + √(h/2) (ξ + ξ')

where ξ' is the ξ of the next step. Let k be the curvature of −log p, per direction. On a Gaussian the distribution of x
is exact for all k with h < 2/k. (Fast Langevin dynamics is exact only where k equals its damping A. For k ≪ A and η = 1
its variance is 21 % too small.) The first step at a level has no earlier ξ. It draws ξ with variance 3 − 2 h A instead
of 1. Then, if the distribution of x is right when the level is entered, it stays right in the first step (for k = A).

The step length is h = (1 − e^(−η))/A with η = A₀ dτ, where dτ and A₀ are the time step and the damping of the drift.
The mean of an Ornstein–Uhlenbeck process moves this far in the time dτ at A = A₀ (LanPaint, Eq. 110). LanPaint sets
A = 1/σ², from the noise alone, unless the user gives the variance of the clean data (Eq. 121, expected noise). Here A
is the curvature between the last two evaluations, as in the step length of Barzilai and Borwein (1988),

    A = |⟨Δx, Δs⟩| / ⟨Δx, Δx⟩

with sums over the entries of a sample. It needs no further evaluations.

A is at most A₀. A₀ is safe: a distribution with noise of level σ has no curvature above 1/σ². The state remembers the
excess variance e = 1/A − 1/A₀ (α² a in the paper's symbols), because e hardly changes from level to level. e may shrink
at once, but it grows slowly, and a step is never more than ``longest`` times as long as with A₀. This is a safeguard:
where a distribution is first flat and then steep, the measured curvature is too small for the next steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.device import move_like
from lanpaint.drift import Coefficient, Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class SecantCoefficients:
    """Coefficients of a level, each compact or broadcast against a state. The step length is h = length + growing · e.

    Attributes:
        length: h for e = 0, (1 − e^(−η))/A₀.
        growing: ∂h/∂e: 1 − e^(−η) on the unknown part, 0 on the known part.
        scatter: √(h/2) for e = 0.
        first: √(3 − 2 h A₀), the standard deviation of ξ in the first step of a level.
    """

    length: Coefficient
    growing: Coefficient
    scatter: Coefficient
    first: Coefficient


@dataclass(frozen=True)
class ExcessBounds:
    """Upper bounds on e at a level, in units of x²: numbers for the batch, or tensors with one number per sample.

    Attributes:
        safe: 1/A₀ of the unknown part, so that 1/A = safe + e.
        grown: (g − 1)/A₀. The new e is at most g e + grown, with e of the last step.
        most: (L − 1)/A₀. The new e is never larger.
        first: Bound on the first e of a run: 1/A₀, which doubles the step length, or ``most`` if that is smaller. It
            is safe because the distribution at the noisiest level is not steep anywhere.
    """

    safe: Coefficient
    grown: Coefficient
    most: Coefficient
    first: Coefficient


@dataclass(frozen=True)
class SecantState(State):
    """State of :class:`SecantLangevin`.

    Attributes:
        x: Position, shape (B, …).
        point: Position of the last evaluation, shape of x; None before the first evaluation at a level.
        score: s(point), shape of x.
        noise: ξ of the next step, shape of x; None before the first step at a level.
        excess: e of each sample, shape (B, 1, …), in units of x²; None before the first measurement of a run.
    """

    point: Tensor | None = None
    score: Tensor | None = None
    noise: Tensor | None = None
    excess: Tensor | None = None


class SecantLangevin(Dynamics):
    """Overdamped Langevin dynamics by Leimkuhler–Matthews steps, with a measured step length. One evaluation per step.

    The known part keeps the damping of the drift. e is one number for the unknown part of each sample, so a sample does
    not depend on its batch. The integrator is from Leimkuhler & Matthews (2013), the measured step length from Barzilai
    & Borwein (1988).

    Args:
        growth: g ≥ 1: a step is at most g times as long as the last step. 1.3 and ``longest`` = 40 were chosen on
            gauss2, star500 and an AR(1) process (docs/frontier.md).
        longest: L ≥ 1: a step is at most L times as long as with the damping of the drift. At 1 the step length is
            fixed, and the measurement has no effect.

    Raises:
        ValueError: For settings below 1.
    """

    def __init__(self, growth: float = 1.3, longest: float = 40.0) -> None:
        for name, value in {"growth": growth, "longest": longest}.items():
            check_real(name, value)
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.growth, self.longest = float(growth), float(longest)

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> SecantState:
        """The state at x, with nothing measured yet. The coefficients of the level are computed here."""
        self._coefficients(drift, x)
        self._bounds(drift, x)
        return SecantState(x)

    def warm_start(self, state: State, x: Tensor, drift: Drift, noise: NoiseSource) -> SecantState:
        """The state at x on a new level, with the excess e of the last level."""
        assert isinstance(state, SecantState)
        new, excess = self.init(x, drift, noise), state.excess
        return new if excess is None else replace(new, excess=excess.clamp(max=self._bounds(drift, x).most))

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> SecantState:
        """The state at x + h s(x) + √(h/2) (ξ + ξ')."""
        assert isinstance(state, SecantState)
        x, score, by = state.x, drift(state.x), self._coefficients(drift, state.x)
        excess = self._measure(state, drift, score)
        length, scatter = by.length, by.scatter
        if excess is not None:
            if isinstance(by.length, Tensor) and isinstance(by.growing, Tensor):
                length = torch.addcmul(by.length, excess, by.growing)
            else:
                length = excess * by.growing + by.length
            scatter = (length / 2).sqrt_()
        behind = noise(x) * by.first if state.noise is None else state.noise
        ahead = noise(x)
        moved = add_terms(x, (length, score), (scatter, behind), (scatter, ahead))
        return SecantState(moved, x, score, ahead, excess)

    def _measure(self, state: SecantState, drift: Drift, score: Tensor) -> Tensor | None:
        """The new e, shape (B, 1, …); None if nothing could be measured yet."""
        if state.point is None or state.score is None:
            return state.excess
        moved, turned, bounds = state.x - state.point, score - state.score, self._bounds(drift, state.x)
        if drift.known is not None:
            moved.masked_fill_(drift.known, 0.0)
        axes = tuple(range(1, moved.ndim))
        turned.mul_(moved)
        bent, size = (turned.sum(axes, keepdim=True) if axes else turned), moved.square_()
        size = size.sum(axes, keepdim=True) if axes else size
        found = (size / bent).abs_().sub_(bounds.safe).clamp_(min=0)  # NaN where nothing has moved
        last = state.excess
        if last is None:
            return torch.fmin(found, torch.full_like(found, 1.0) * bounds.first)
        return torch.fmin(found, (last * self.growth + bounds.grown).clamp_(max=bounds.most))

    def _coefficients(self, drift: Drift, x: Tensor) -> SecantCoefficients:
        def solve() -> SecantCoefficients:
            share = -torch.expm1(-drift.damping * drift.time_step)  # h A₀
            length = share / drift.damping
            growing = share if drift.known is None else torch.stack([share[0], torch.zeros_like(share[1])])
            compact = SecantCoefficients(length, growing, (length / 2).sqrt(), (3 - 2 * share).sqrt())
            return drift.record(compact, x)

        return drift.once((self, "coefficients"), x, solve)

    def _bounds(self, drift: Drift, x: Tensor) -> ExcessBounds:
        """The bounds on e, from the largest A₀ of the unknown part of each sample."""

        def solve() -> ExcessBounds:
            damping = drift.damping if drift.known is None else drift.damping[0]
            per_sample = damping.ndim == x.ndim and x.ndim > 1
            safe = 1 / (damping.amax(tuple(range(1, x.ndim)), keepdim=True) if per_sample else damping.amax())
            most = (self.longest - 1) * safe
            bounds = safe, (self.growth - 1) * safe, most, torch.minimum(safe, most)
            if not safe.shape and safe.device.type == "cpu":
                return ExcessBounds(*(float(bound) for bound in bounds))
            return ExcessBounds(*move_like(torch.stack(bounds), x).unbind())

        return drift.once((self, "bounds"), x, solve)
