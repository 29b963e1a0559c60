"""The stochastic harmonic oscillator, solved exactly (LanPaint, Eq. 111–118, Alg. 1).

    dx = q dτ
    dq = Γ (−q + C − A x) dτ + Γ √2 dW                     discriminant Δ = 1 − 4A/Γ

Over a time τ the solution is Gaussian, linear in x, q and the force f = C − A x at its start:

    x' = x + position_momentum q + position_force f + noise        covariance of the two noises: Σ
    q' =     momentum_momentum q + momentum_force f + noise

With h = Γτ/2, ω² = h² Δ and the impulse response G(u) = u e^(−hu) sinh(ωu)/(ωu) on u in [0, 1]:

    position_momentum = τ G(1)          position_force = Γτ² ∫ G du         Σ_xx = 2 Γ²τ³ ∫ G² du
    momentum_momentum = G'(1)           momentum_force = Γτ G(1)            Σ_qq = 2 Γ²τ ∫ G'² du
                                                                            Σ_xq = Γ²τ² G(1)²
In the paper's names ζ₂ = G(1), 1 − ζ₁ = Γτ ∫ G du, σ₂₂ = (Γτ)² ∫ G² du and σ₁₁ = 2Γτ ∫ G'² du.

Each integral has a closed form that loses its digits somewhere, so it is computed in one of three ways: by Gauss–
Legendre quadrature where h and ω are small (the integrands of Σ are positive: nothing cancels), as a sum of two
exponentials where the oscillator is overdamped, and in closed form elsewhere. For Γ = ∞ the position alone is left, an
Ornstein–Uhlenbeck process (LanPaint, Eq. 110).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lanpaint.drift import Drift, add_terms
from lanpaint.randomness import NoiseSource

_QUADRATURE_H = 1.5  # quadrature where h ≤ 1.5 and |ω| ≤ 4: 16 nodes leave 1e-16 there
_QUADRATURE_W = 16.0
_OVERDAMPED = 0.25  # two exponentials where Δ ≥ 1/4, so that their rates are well apart


def _phi(a: Tensor) -> Tensor:
    """(1 − e^(−a))/a, 1 at 0."""
    return torch.where(a == 0, torch.ones_like(a), -torch.expm1(-a) / torch.where(a == 0, torch.ones_like(a), a))


@cache
def _nodes() -> list[tuple[float, float]]:
    points, weights = np.polynomial.legendre.leggauss(16)
    return [((1 + p) / 2, w / 2) for p, w in zip(points.tolist(), weights.tolist(), strict=True)]


class Solution(Protocol):
    """A linear stochastic equation solved exactly over one time, C being held."""

    def spread(self, drift: Drift, x: Tensor) -> Solution:
        """The coefficients as tensors that broadcast against x."""

    def advance(
        self, x: Tensor, momentum: Tensor | None, force: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor | None]:
        """Position and momentum after the time, from those before it and the force C − A x there."""


@dataclass(frozen=True)
class Oscillator:
    """Coefficients of the exact solution over one time, each compact or spread over a state.

    Attributes:
        position_momentum: ∂x'/∂q, in units of τ.
        position_force: ∂x'/∂f for x held: 1/A at long times.
        momentum_momentum: ∂q'/∂q for f held.
        momentum_force: ∂q'/∂f.
        position_noise: Standard deviation of the noise of x, first row of the Cholesky factor of Σ.
        momentum_shared_noise: What the momentum takes of the same noise, its second row.
        momentum_noise: Standard deviation of the rest of the momentum's noise.
    """

    position_momentum: Tensor
    position_force: Tensor
    momentum_momentum: Tensor
    momentum_force: Tensor
    position_noise: Tensor
    momentum_shared_noise: Tensor
    momentum_noise: Tensor

    @classmethod
    def solve(cls, friction: Tensor, damping: Tensor, time: Tensor) -> Oscillator:
        """Coefficients for Γ > 0, A ≥ 0 and τ ≥ 0 of one shape, in float64 and returned so."""
        friction, damping, time = (t.double() for t in torch.broadcast_tensors(friction, damping, time))
        one = torch.ones_like(time)
        kappa = 4 * damping / friction  # 1 − Δ, without the cancellation
        delta = 1 - kappa
        h = friction * time / 2
        w = h**2 * delta
        omega = w.abs().sqrt()
        over = w > 0

        # e^(−h) cosh ω and e^(−h) sinh(ω)/ω; for Δ < 0 the trigonometric pair.
        root = delta.clamp(min=0).sqrt()
        slow = h * kappa / (1 + root)  # h − ω
        decay = torch.exp(torch.where(over, -slow, -h))
        cosh = decay * torch.where(over, (1 + torch.exp(-2 * omega)) / 2, torch.cos(omega))
        sinhc = decay * torch.where(over, _phi(2 * omega), torch.sinc(omega / math.pi))

        safe_root = torch.where(over, root, one)
        momentum = torch.where(
            over & (delta >= _OVERDAMPED),
            decay / (2 * safe_root) * (torch.exp(-2 * omega) * (1 + root) - kappa / (1 + root)),
            cosh - h * sinhc,
        )

        # Closed forms, with Σ in units of 2Γ²τ³ and 2Γ²τ.
        denominator = torch.where(h == 0, one, h**2 * kappa)
        denominator = torch.where(denominator == 0, one, denominator)
        force = (1 - cosh - h * sinhc) / denominator
        tail = -torch.expm1(-2 * h)
        safe_h = torch.where(h == 0, one, h)
        position = (tail - 2 * h * sinhc * (cosh + h * sinhc)) / (4 * safe_h * denominator)
        kinetic = (tail + 2 * h * sinhc * (cosh - h * sinhc)) / (4 * safe_h)

        # Two exponentials.
        wide = over & (delta >= _OVERDAMPED)
        safe_omega = torch.where(wide, omega, one)
        first, second = slow, h + omega
        force = torch.where(wide, (_phi(first) - _phi(second)) / (2 * safe_omega), force)
        middle = _phi(2 * h)
        pair = (_phi(2 * first) - 2 * middle + _phi(2 * second)) / (4 * safe_omega**2)
        position = torch.where(wide, pair, position)
        pair = first**2 * _phi(2 * first) - 2 * first * second * middle + second**2 * _phi(2 * second)
        kinetic = torch.where(wide, pair / (4 * safe_omega**2), kinetic)

        # Quadrature.
        small = (h <= _QUADRATURE_H) & (w.abs() <= _QUADRATURE_W)
        near_h, near_omega, near_over = torch.where(small, h, 0.0), torch.where(small, omega, 0.0), over & small
        sums = [torch.zeros_like(h) for _ in range(3)]
        for u, weight in _nodes():
            argument = u * near_omega
            even = torch.where(near_over, torch.cosh(argument), torch.cos(argument))
            odd = torch.where(
                near_over,
                torch.sinh(argument) / torch.where(argument == 0, one, argument),
                torch.sinc(argument / math.pi),
            )
            fade = torch.exp(-near_h * u)
            response, rate = u * fade * odd, fade * (even - near_h * u * odd)
            for total, value in zip(sums, (response, response**2, rate**2), strict=True):
                total.add_(weight * value)
        force, position, kinetic = (
            torch.where(small, near, far) for near, far in zip(sums, (force, position, kinetic), strict=True)
        )

        position, kinetic = position.clamp(min=torch.finfo(torch.float64).tiny), kinetic.clamp(min=0)
        scale = friction * (2 * time).sqrt()
        shared = sinhc**2 / (2 * position.sqrt())
        return cls(
            position_momentum=time * sinhc,
            position_force=2 * h * time * force,
            momentum_momentum=momentum,
            momentum_force=2 * h * sinhc,
            position_noise=scale * time * position.sqrt(),
            momentum_shared_noise=scale * shared,
            momentum_noise=scale * (kinetic - shared**2).clamp(min=0).sqrt(),
        )

    def spread(self, drift: Drift, x: Tensor) -> Oscillator:
        """These coefficients as tensors that broadcast against x."""
        return replace(self, **{f.name: drift.spread(getattr(self, f.name), x) for f in fields(self)})

    def advance(
        self, x: Tensor, momentum: Tensor | None, force: Tensor | None, noise: NoiseSource
    ) -> tuple[Tensor, Tensor]:
        """Position and momentum after the time, from those before it and the force C − A x there; None is no force."""
        assert momentum is not None
        first, second = noise(x), noise(x)
        pushed = [] if force is None else [(self.position_force, force)]
        position = add_terms(x, (self.position_momentum, momentum), *pushed, (self.position_noise, first))
        pushed = [] if force is None else [(self.momentum_force, force)]
        momentum = add_terms(
            self.momentum_momentum * momentum,
            *pushed,
            (self.momentum_shared_noise, first),
            (self.momentum_noise, second),
        )
        return position, momentum


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """The oscillator's overdamped limit Γ = ∞: dx = (C − A x) dτ + √2 dW (LanPaint, Eq. 110).

    Attributes:
        position_force: (1 − e^(−Aτ))/A.
        position_noise: √((1 − e^(−2Aτ))/A).
    """

    position_force: Tensor
    position_noise: Tensor

    @classmethod
    def solve(cls, damping: Tensor, time: Tensor) -> OrnsteinUhlenbeck:
        """Coefficients for A ≥ 0 and τ ≥ 0, in float64."""
        damping, time = damping.double(), time.double()
        return cls(time * _phi(damping * time), (2 * time * _phi(2 * damping * time)).sqrt())

    def spread(self, drift: Drift, x: Tensor) -> OrnsteinUhlenbeck:
        """These coefficients as tensors that broadcast against x."""
        return OrnsteinUhlenbeck(drift.spread(self.position_force, x), drift.spread(self.position_noise, x))

    def advance(self, x: Tensor, momentum: Tensor | None, force: Tensor, noise: NoiseSource) -> tuple[Tensor, None]:
        """Position after the time, from the one before it and the force C − A x there; there is no momentum."""
        return add_terms(x, (self.position_force, force), (self.position_noise, noise(x))), None
