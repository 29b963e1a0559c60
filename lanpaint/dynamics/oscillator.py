"""The stochastic harmonic oscillator, solved exactly (LanPaint, Eq. 111–118, Alg. 1).

    dx = q dτ
    dq = Γ (−q + C − A x) dτ + Γ √2 dW                     discriminant Δ = 1 − 4A/Γ

Over a time τ with constant C, the solution is Gaussian, and linear in x, q and the force f = C − A x at the start:

    x' = x + position_momentum q + position_force f + noise        covariance of the two noises: Σ
    q' =     momentum_momentum q + momentum_force f + noise

With h = Γτ/2, ω² = h² Δ and the impulse response G(u) = u e^(−hu) sinh(ωu)/(ωu) on u in [0, 1]:

    position_momentum = τ G(1)          position_force = Γτ² ∫ G du         Σ_xx = 2 Γ²τ³ ∫ G² du
    momentum_momentum = G'(1)           momentum_force = Γτ G(1)            Σ_qq = 2 Γ²τ ∫ G'² du
                                                                            Σ_xq = Γ²τ² G(1)²
In the paper's names ζ₂ = G(1), 1 − ζ₁ = Γτ ∫ G du, σ₂₂ = (Γτ)² ∫ G² du and σ₁₁ = 2Γτ ∫ G'² du.

Each integral has a closed form, but each closed form loses digits for some h and ω. So an integral is computed in one
of three ways: by Gauss–Legendre quadrature where h and ω are small (the integrands of Σ are positive, so nothing
cancels), as a sum of two exponentials where the oscillator is overdamped, and in closed form elsewhere. For Γ = ∞ there
is no momentum, and the position is an Ornstein–Uhlenbeck process (LanPaint, Eq. 110).

A Strang step is half of such a solution, a kick by the change of C, and the other half. It is written with the centre
of the spring, μ = C/A = x + s/A, instead of C. The centre takes fewer passes over the state, and loses no digits where
A is large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lanpaint.drift import Coefficient, Drift, add_terms, add_to, blend, sum_of
from lanpaint.randomness import NoiseSource

_QUADRATURE_H = 1.5  # quadrature where h ≤ 1.5 and |ω| ≤ 4: 16 nodes leave 1e-16 there
_QUADRATURE_W = 16.0
_OVERDAMPED = 0.25  # two exponentials where Δ ≥ 1/4, so that their rates are well apart


def _phi(a: Tensor) -> Tensor:
    """(1 − e^(−a))/a, 1 at 0."""
    return torch.where(a == 0, torch.ones_like(a), -torch.expm1(-a) / torch.where(a == 0, torch.ones_like(a), a))


_Self = TypeVar("_Self", bound="Compact")


class Compact:
    """Base class of dataclasses of coefficients, which ``solve`` makes compact (see :mod:`lanpaint.drift`)."""

    def broadcast(self: _Self, drift: Drift, x: Tensor) -> _Self:
        """A copy with coefficients of x: numbers, or tensors that broadcast against x."""
        return drift.record(self, x)


_FEW = 64  # numbers in an argument whose solution is remembered: enough for one level per sample


def _remembered(solve: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns the results of ``solve``, and remembers them for arguments of few numbers.

    Two runs with equal settings solve equal equations at each level. Results are not remembered for arguments that are
    on a GPU, have more than 64 entries or require a gradient.
    """

    @lru_cache(maxsize=4096)
    def cached(cls: type, shapes: tuple[torch.Size, ...], values: tuple[float, ...]) -> Any:
        numbers, tensors = iter(values), []
        for shape in shapes:
            count = math.prod(shape)
            tensors.append(torch.tensor([next(numbers) for _ in range(count)], dtype=torch.float64).reshape(shape))
        return solve(cls, *tensors)

    @wraps(solve)
    def remembered(cls: type, *tensors: Tensor) -> Any:
        if any(t.device.type != "cpu" or t.numel() > _FEW or t.requires_grad for t in tensors):
            return solve(cls, *tensors)
        values = tuple(value for t in tensors for value in t.double().flatten().tolist())
        return cached(cls, tuple(t.shape for t in tensors), values)

    return remembered


@cache
def _nodes() -> list[tuple[float, float]]:
    points, weights = np.polynomial.legendre.leggauss(16)
    return [((1 + p) / 2, w / 2) for p, w in zip(points.tolist(), weights.tolist(), strict=True)]


class Solution(Protocol):
    """The exact solution of a linear stochastic equation over a fixed time, for constant C."""

    def broadcast(self, drift: Drift, x: Tensor) -> Solution:
        """A copy with coefficients of x."""

    def advance(
        self, x: Tensor, momentum: Tensor | None, force: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor | None]:
        """Position and momentum after the time. ``force`` is C − A x at the start, shape of x."""


class Strang(Protocol):
    """A second-order step: two half steps about an old centre μ = C/A, and a kick between the half steps.

    The score is evaluated after the first half. It gives the new centre μ' = x + s/A, and the kick is proportional to
    μ' − μ. The first half returns the position, and a tuple of the other tensors that the second half needs. The second
    half may write to these tensors.

    Attributes:
        variance: 1/A, as μ' = x + s/A.
    """

    @property
    def variance(self) -> Coefficient:
        """1/A."""

    def broadcast(self, drift: Drift, x: Tensor) -> Strang:
        """A copy with coefficients of x."""

    def first(
        self, x: Tensor, momentum: Tensor | None, centre: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The position after the first half, and the other tensors that the second half needs."""

    def second(
        self, x: Tensor, handed: tuple[Tensor, ...], centre: Tensor, score: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Position and momentum after the second half, and the new centre μ' = x + s/A.

        Args:
            x: Position after the first half.
            handed: The other tensors that :meth:`first` returned.
            centre: The old centre μ.
            score: s(x), shape of x.
            noise: Source of standard normal numbers.
        """


@dataclass(frozen=True)
class Oscillator(Compact):
    """Coefficients of the exact solution over a time τ, each compact or broadcast against a state.

    The noises are the Cholesky factor of Σ: ``position_noise`` in the first row, ``momentum_shared_noise`` and
    ``momentum_noise`` in the second row.

    Attributes:
        position_momentum: ∂x'/∂q at constant f, in units of τ.
        position_force: ∂x'/∂f at constant x: 1/A at long times.
        momentum_momentum: ∂q'/∂q at constant f.
        momentum_force: ∂q'/∂f.
        position_noise: Standard deviation of the noise of x.
        momentum_shared_noise: Factor of the noise of x in the noise of q.
        momentum_noise: Standard deviation of the rest of the noise of q.
    """

    position_momentum: Tensor
    position_force: Tensor
    momentum_momentum: Tensor
    momentum_force: Tensor
    position_noise: Tensor
    momentum_shared_noise: Tensor
    momentum_noise: Tensor

    @classmethod
    @_remembered
    def solve(cls, friction: Tensor, damping: Tensor, time: Tensor) -> Oscillator:
        """Coefficients for Γ > 0, A ≥ 0 and τ ≥ 0, broadcast to one shape, in float64."""
        friction, damping, time = (t.double() for t in torch.broadcast_tensors(friction, damping, time))
        ones = torch.ones_like(time)
        kappa = 4 * damping / friction  # 1 − Δ, without cancellation
        delta = 1 - kappa
        h = friction * time / 2
        w = h**2 * delta
        omega = w.abs().sqrt()
        over = w > 0

        # e^(−h) cosh ω and e^(−h) sinh(ω)/ω; for Δ < 0 with cos and sin.
        root = delta.clamp(min=0).sqrt()
        slow = h * kappa / (1 + root)  # h − ω
        decay = torch.exp(torch.where(over, -slow, -h))
        cosh = decay * torch.where(over, (1 + torch.exp(-2 * omega)) / 2, torch.cos(omega))
        sinhc = decay * torch.where(over, _phi(2 * omega), torch.sinc(omega / math.pi))

        safe_root = torch.where(over, root, ones)
        momentum = torch.where(
            over & (delta >= _OVERDAMPED),
            decay / (2 * safe_root) * (torch.exp(-2 * omega) * (1 + root) - kappa / (1 + root)),
            cosh - h * sinhc,
        )

        # Closed forms, with Σ in units of 2Γ²τ³ and 2Γ²τ.
        denominator = torch.where(h == 0, ones, h**2 * kappa)
        denominator = torch.where(denominator == 0, ones, denominator)
        force = (1 - cosh - h * sinhc) / denominator
        tail = -torch.expm1(-2 * h)
        safe_h = torch.where(h == 0, ones, h)
        position = (tail - 2 * h * sinhc * (cosh + h * sinhc)) / (4 * safe_h * denominator)
        kinetic = (tail + 2 * h * sinhc * (cosh - h * sinhc)) / (4 * safe_h)

        # Two exponentials.
        wide = over & (delta >= _OVERDAMPED)
        safe_omega = torch.where(wide, omega, ones)
        first, second = slow, h + omega
        force = torch.where(wide, (_phi(first) - _phi(second)) / (2 * safe_omega), force)
        middle = _phi(2 * h)
        pair = (_phi(2 * first) - 2 * middle + _phi(2 * second)) / (4 * safe_omega**2)
        position = torch.where(wide, pair, position)
        pair = first**2 * _phi(2 * first) - 2 * first * second * middle + second**2 * _phi(2 * second)
        kinetic = torch.where(wide, pair / (4 * safe_omega**2), kinetic)

        near = (h <= _QUADRATURE_H) & (w.abs() <= _QUADRATURE_W)
        if near.device.type != "cpu" or bool(near.any()):
            sums = cls._integrals(torch.where(near, h, 0.0), torch.where(near, omega, 0.0), over & near)
            force, position, kinetic = (
                torch.where(near, small, large) for small, large in zip(sums, (force, position, kinetic), strict=True)
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

    @staticmethod
    def _integrals(h: Tensor, omega: Tensor, over: Tensor) -> list[Tensor]:
        """The integrals ∫ G, ∫ G² and ∫ G'² on [0, 1], by quadrature."""
        sums = [torch.zeros_like(h) for _ in range(3)]
        for u, weight in _nodes():
            argument = u * omega
            even = torch.where(over, torch.cosh(argument), torch.cos(argument))
            odd = torch.where(
                over,
                torch.sinh(argument) / torch.where(argument == 0, torch.ones_like(h), argument),
                torch.sinc(argument / math.pi),
            )
            fade = torch.exp(-h * u)
            response, rate = u * fade * odd, fade * (even - h * u * odd)
            for total, value in zip(sums, (response, response**2, rate**2), strict=True):
                total.add_(weight * value)
        return sums

    def advance(
        self, x: Tensor, momentum: Tensor | None, force: Tensor | None, noise: NoiseSource
    ) -> tuple[Tensor, Tensor]:
        """Position and momentum after the time τ. ``force`` is C − A x at the start, or None for zero."""
        assert momentum is not None
        xi = noise(x)
        pushed = [] if force is None else [(self.position_force, force)]
        position = add_terms(x, (self.position_momentum, momentum), *pushed, (self.position_noise, xi))
        pushed = [] if force is None else [(self.momentum_force, force)]
        momentum = sum_of((self.momentum_momentum, momentum), *pushed, (self.momentum_shared_noise, xi))
        del xi
        return position, add_to(momentum, (self.momentum_noise, noise(x)))


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Compact):
    """The overdamped limit Γ = ∞ of the oscillator: dx = (C − A x) dτ + √2 dW (LanPaint, Eq. 110).

    Attributes:
        position_force: (1 − e^(−Aτ))/A = ∂x'/∂f at constant x.
        position_noise: √((1 − e^(−2Aτ))/A), standard deviation of the noise of x.
    """

    position_force: Tensor
    position_noise: Tensor

    @classmethod
    def solve(cls, damping: Tensor, time: Tensor) -> OrnsteinUhlenbeck:
        """Coefficients for A ≥ 0 and τ ≥ 0, in float64."""
        damping, time = damping.double(), time.double()
        return cls(time * _phi(damping * time), (2 * time * _phi(2 * damping * time)).sqrt())

    def advance(self, x: Tensor, momentum: Tensor | None, force: Tensor, noise: NoiseSource) -> tuple[Tensor, None]:
        """Position after the time τ, and None, as there is no momentum. ``force`` is C − A x at the start."""
        return add_terms(x, (self.position_force, force), (self.position_noise, noise(x))), None


@dataclass(frozen=True)
class OscillatorHalves(Compact):
    """Two half steps of the oscillator about a centre μ of the spring, with room for a kick between them.

    The momentum between the two halves is not an output. So the first half leaves out the noise that enters the
    momentum alone, and the second half adds it. This takes three random numbers instead of four.

    Attributes:
        position_momentum: ∂x'/∂q over half a step.
        position_pull: ∂x'/∂μ over half a step.
        momentum_momentum: ∂q'/∂q over half a step.
        momentum_pull: ∂q'/∂μ over half a step.
        position_noise: Standard deviation of the noise of x in the first half.
        momentum_shared_noise: Factor of the noise of x in the noise of q, first half.
        late_position_noise: Standard deviation of the noise of x in the second half, with the noise that the first half
            left out.
        late_shared_noise: Factor of the noise of x in the noise of q, second half.
        late_momentum_noise: Standard deviation of the rest of the noise of q, second half.
    """

    position_momentum: Tensor
    position_pull: Tensor
    momentum_momentum: Tensor
    momentum_pull: Tensor
    position_noise: Tensor
    momentum_shared_noise: Tensor
    late_position_noise: Tensor
    late_shared_noise: Tensor
    late_momentum_noise: Tensor

    @classmethod
    @_remembered
    def solve(cls, friction: Tensor, damping: Tensor, time: Tensor) -> OscillatorHalves:
        """Coefficients of a step of length ``time``, in float64."""
        half = Oscillator.solve(friction, damping, time / 2)
        missed = half.momentum_noise
        position = (half.position_noise**2 + (half.position_momentum * missed) ** 2).sqrt()
        common = half.position_noise * half.momentum_shared_noise
        common = common + half.position_momentum * half.momentum_momentum * missed**2
        shared = common / position.clamp(min=torch.finfo(torch.float64).tiny)
        rest = half.momentum_shared_noise**2 + (1 + half.momentum_momentum**2) * missed**2 - shared**2
        return cls(
            position_momentum=half.position_momentum,
            position_pull=damping * half.position_force,
            momentum_momentum=half.momentum_momentum,
            momentum_pull=damping * half.momentum_force,
            position_noise=half.position_noise,
            momentum_shared_noise=half.momentum_shared_noise,
            late_position_noise=position,
            late_shared_noise=shared,
            late_momentum_noise=rest.clamp(min=0).sqrt(),
        )

    def first(self, x: Tensor, momentum: Tensor, centre: Tensor, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        """Position and momentum after the first half. Writes to ``x``."""
        xi, away = noise(x), centre - x
        add_to(x, (self.position_pull, away), (self.position_momentum, momentum), (self.position_noise, xi))
        away.mul_(self.momentum_pull)
        return x, add_to(away, (self.momentum_momentum, momentum), (self.momentum_shared_noise, xi))

    def second(self, x: Tensor, momentum: Tensor, centre: Tensor, noise: NoiseSource) -> tuple[Tensor, Tensor]:
        """Position and momentum after the second half. Writes to ``x`` and ``momentum``."""
        xi, away = noise(x), centre - x
        add_to(x, (self.position_pull, away), (self.position_momentum, momentum), (self.late_position_noise, xi))
        momentum.mul_(self.momentum_momentum)
        add_to(momentum, (self.momentum_pull, away), (self.late_shared_noise, xi))
        del xi, away
        return x, add_to(momentum, (self.late_momentum_noise, noise(x)))


@dataclass(frozen=True)
class OscillatorStrang(Compact):
    """A Strang step of the oscillator (LanPaint, Alg. 3), with few passes over the state.

    The step is the first half of :class:`OscillatorHalves`, a kick that adds Γ A dτ (μ' − μ) to the momentum with
    μ' = x₁ + s/A, and the second half. It is linear in the position x, the momentum q, the distance μ − x to the
    centre, the score s at x₁ and the noises. So the first half computes x₁, and also the terms of x, q, μ − x and the
    first noise in the end position x₂ and the end momentum q₂. The second half adds the terms of s and of the new
    noise.

    Attributes:
        position_momentum: ∂x₁/∂q.
        position_pull: ∂x₁/∂(μ − x).
        position_noise: Standard deviation of the noise of x₁.
        end_momentum: ∂x₂/∂q.
        end_pull: ∂x₂/∂(μ − x). It includes the effect of μ − x₁.
        end_noise: Factor of the noise of x₁ in x₂, in units of that noise's random number ξ.
        momentum_momentum: ∂q₂/∂q.
        momentum_pull: ∂q₂/∂(μ − x).
        momentum_noise: Factor of ξ in q₂.
        end_score: ∂x₂/∂s.
        momentum_score: ∂q₂/∂s.
        late_position_noise: Standard deviation of the new noise of x₂.
        late_shared_noise: Factor of the new noise of x₂ in q₂.
        late_momentum_noise: Standard deviation of the rest of the new noise of q₂.
        variance: 1/A, as μ' = x₁ + s/A.
    """

    position_momentum: Tensor
    position_pull: Tensor
    position_noise: Tensor
    end_momentum: Tensor
    end_pull: Tensor
    end_noise: Tensor
    momentum_momentum: Tensor
    momentum_pull: Tensor
    momentum_noise: Tensor
    end_score: Tensor
    momentum_score: Tensor
    late_position_noise: Tensor
    late_shared_noise: Tensor
    late_momentum_noise: Tensor
    variance: Tensor

    @classmethod
    @_remembered
    def solve(cls, friction: Tensor, damping: Tensor, time: Tensor) -> OscillatorStrang:
        """Coefficients of a step of length ``time``, in float64."""
        half = OscillatorHalves.solve(friction, damping, time)
        friction, damping, time = friction.double(), damping.double(), time.double()
        stay = 1 - half.position_pull  # share of the distance to the centre that is left after half a step
        kick = friction * damping * time  # factor of μ' − μ = s/A − (μ − x₁) in the momentum
        # Terms of the momentum after the kick, without the score.
        momentum = half.momentum_momentum + kick * half.position_momentum
        pull = half.momentum_pull - kick * stay
        noise = half.momentum_shared_noise + kick * half.position_noise
        return cls(
            position_momentum=half.position_momentum,
            position_pull=half.position_pull,
            position_noise=half.position_noise,
            end_momentum=half.position_momentum * (stay + momentum),
            end_pull=half.position_pull * (1 + stay) + half.position_momentum * pull,
            end_noise=half.position_noise * stay + half.position_momentum * noise,
            momentum_momentum=half.momentum_momentum * momentum - half.momentum_pull * half.position_momentum,
            momentum_pull=half.momentum_pull * stay + half.momentum_momentum * pull,
            momentum_noise=half.momentum_momentum * noise - half.momentum_pull * half.position_noise,
            end_score=half.position_momentum * friction * time,
            momentum_score=half.momentum_momentum * friction * time,
            late_position_noise=half.late_position_noise,
            late_shared_noise=half.late_shared_noise,
            late_momentum_noise=half.late_momentum_noise,
            variance=1 / damping,
        )

    def first(
        self, x: Tensor, momentum: Tensor | None, centre: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Position x₁ after the first half, and the terms of x₂ and q₂ that are determined by then."""
        assert momentum is not None
        xi, away = noise(x), centre - x
        middle = add_terms(x, (self.position_pull, away), (self.position_momentum, momentum), (self.position_noise, xi))
        end = add_terms(x, (self.end_pull, away), (self.end_momentum, momentum), (self.end_noise, xi))
        away.mul_(self.momentum_pull)
        return middle, (end, add_to(away, (self.momentum_momentum, momentum), (self.momentum_noise, xi)))

    def second(
        self, x: Tensor, handed: tuple[Tensor, ...], centre: Tensor, score: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor, Tensor]:
        """End position x₂, end momentum q₂ and new centre μ'. Writes to the tensors of ``handed``."""
        end, momentum = handed
        new = add_terms(x, (self.variance, score))
        add_to(end, (self.end_score, score))
        add_to(momentum, (self.momentum_score, score))
        del score  # frees its memory for the noise
        xi = noise(x)
        add_to(end, (self.late_position_noise, xi))
        add_to(momentum, (self.late_shared_noise, xi))
        del xi
        return end, add_to(momentum, (self.late_momentum_noise, noise(x))), new


@dataclass(frozen=True)
class OverdampedStrang(Compact):
    """A Strang step of the Ornstein–Uhlenbeck process, the limit Γ = ∞. Here the kick moves the position.

    With k = e^(−A dτ/2), the second half is x'' = k (x + A dτ (μ' − μ)) + (1 − k) μ + noise. That is a weighted mean of
    x, μ and μ', which takes two interpolations: first between x and μ, then towards μ'.

    Attributes:
        pull: 1 − k.
        scatter: Standard deviation of the noise of half a step.
        late_pull: Weight of μ in the first interpolation.
        new_pull: Weight of μ' in the second interpolation, k A dτ.
        variance: 1/A, as μ' = x + s/A.
    """

    pull: Tensor
    scatter: Tensor
    late_pull: Tensor
    new_pull: Tensor
    variance: Tensor

    @classmethod
    def solve(cls, damping: Tensor, time: Tensor) -> OverdampedStrang:
        """Coefficients of a step of length ``time``, in float64."""
        half = OrnsteinUhlenbeck.solve(damping, time / 2)
        damping, time = damping.double(), time.double()
        keep = torch.exp(-damping * time / 2)
        new_pull = keep * damping * time  # at most 2/e
        late_pull = 1 - keep / (1 - new_pull)
        return cls(damping * half.position_force, half.position_noise, late_pull, new_pull, 1 / damping)

    def first(
        self, x: Tensor, momentum: Tensor | None, centre: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The position after the first half, about the old centre. The second half needs nothing else."""
        return add_to(blend(x, centre, self.pull), (self.scatter, noise(x))), ()

    def second(
        self, x: Tensor, handed: tuple[Tensor, ...], centre: Tensor, score: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, None, Tensor]:
        """Position after a kick by A dτ (μ' − μ) and the second half about μ; None for the momentum; new centre μ'."""
        new = add_terms(x, (self.variance, score))
        moved = blend(x, centre, self.late_pull)
        moved.lerp_(new, self.new_pull)
        return add_to(moved, (self.scatter, noise(x))), None, new
