"""Hessian-free high-resolution dynamics, HFHR (LanPaint, Eq. 128–131; Li, Zha & Tao, 2022).

HFHR is underdamped Langevin dynamics with overdamped Langevin dynamics added to the position. In the paper's units
(Eq. 129, 130), with Ψ ≥ 1,

    dx = q dτ + (1 − 1/Ψ) s dτ + √(2 (1 − 1/Ψ)) dW₁
    dq = Γ (−q dτ + s/Ψ dτ + √(2/Ψ) dW₂)

Its stationary distribution is p(x) N(q; 0, Γ/Ψ). Ψ = 1 is fast Langevin dynamics (FLD). Γ = ∞ is overdamped Langevin
dynamics for any Ψ.

As in FLD, C = s + A x is constant over a step. Then the equation splits into two parts that are solved exactly. The
overdamped part of the position is an Ornstein–Uhlenbeck process over the time (1 − 1/Ψ) τ. The other part is an
oscillator of damping A/Ψ. A step is half of the overdamped part, the oscillator, and half of the overdamped part. Each
part leaves N(C/A, 1/A) N(0, Γ/Ψ) invariant. So where C is constant, the stationary distribution is exact for any time
step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.drift import add_terms, add_to, blend
from lanpaint.dynamics.fast_langevin import FastLangevin
from lanpaint.dynamics.oscillator import (
    Compact,
    OrnsteinUhlenbeck,
    Oscillator,
    OscillatorHalves,
    Solution,
    Strang,
)
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class SplitOscillator(Compact):
    """A first-order step: half an Ornstein–Uhlenbeck step of the position, an oscillator step, and the other half.

    Attributes:
        position: The exact half step of the position.
        oscillator: The exact step of position and momentum. Its coefficients of the force C − A x contain 1/Ψ.
        stiffness: −A, the change of the force for a unit move of the position.
    """

    position: OrnsteinUhlenbeck
    oscillator: Oscillator
    stiffness: Tensor

    @classmethod
    def solve(cls, friction: Tensor, damping: Tensor, psi: float, time: Tensor) -> SplitOscillator:
        """Coefficients over the time τ ≥ 0, for Γ > 0, A ≥ 0 and Ψ ≥ 1; all of one shape."""
        position = OrnsteinUhlenbeck.solve(damping, (1 - 1 / psi) * time / 2)
        plain = Oscillator.solve(friction, damping / psi, time)
        oscillator = replace(
            plain,
            position_force=plain.position_force / psi,
            momentum_force=plain.momentum_force / psi,
            position_noise=plain.position_noise / math.sqrt(psi),
            momentum_shared_noise=plain.momentum_shared_noise / math.sqrt(psi),
            momentum_noise=plain.momentum_noise / math.sqrt(psi),
        )
        return cls(position, oscillator, -damping)

    def advance(
        self, x: Tensor, momentum: Tensor | None, force: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor | None]:
        """Position and momentum after the time τ. ``force`` is C − A x at the start."""
        for solution in (self.position, self.oscillator, self.position):
            before = x
            x, moved = solution.advance(x, momentum, force, noise)
            momentum = momentum if moved is None else moved
            force = add_terms(force, (self.stiffness, x - before))
        return x, momentum


@dataclass(frozen=True)
class SplitStrang(Compact):
    """A Strang step, order 2. Each half is :class:`SplitOscillator` over half the time; kicks lie between the halves.

    μ = C/A is the centre before the step, and μ' is the centre where the score is evaluated.

    Attributes:
        pull: Share of the way to the centre that a quarter of the overdamped part moves the position, from 0 to 1.
        scatter: Standard deviation of the noise of that quarter.
        position_kick: (1 − 1/Ψ) A dτ, the factor of μ' − μ in the kick of the position.
        momentum_kick: Γ A dτ/Ψ, the factor of μ' − μ in the kick of the momentum.
        oscillator: The two half steps of the oscillator, of damping A/Ψ.
        variance: 1/A, as μ' = x + s/A.
    """

    pull: Tensor
    scatter: Tensor
    position_kick: Tensor
    momentum_kick: Tensor
    oscillator: OscillatorHalves
    variance: Tensor

    @classmethod
    def solve(cls, friction: Tensor, damping: Tensor, psi: float, time: Tensor) -> SplitStrang:
        """Coefficients of a step of length ``time``, for Γ > 0, A > 0 and Ψ ≥ 1."""
        share = 1 - 1 / psi
        quarter = OrnsteinUhlenbeck.solve(damping, share * time / 4)
        plain = OscillatorHalves.solve(friction, damping / psi, time)
        noises = {f.name: getattr(plain, f.name) / math.sqrt(psi) for f in fields(plain) if "noise" in f.name}
        return cls(
            pull=damping * quarter.position_force,
            scatter=quarter.position_noise,
            position_kick=share * damping * time,
            momentum_kick=friction * (damping / psi) * time,
            oscillator=replace(plain, **noises),
            variance=1 / damping,
        )

    def first(
        self, x: Tensor, momentum: Tensor | None, centre: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, tuple[Tensor]]:
        """The position after the first half, about the old centre, and the momentum for the second half."""
        assert momentum is not None
        x, momentum = self.oscillator.first(self._relax(x, centre, noise), momentum, centre, noise)
        return self._relax(x, centre, noise), (momentum,)

    def second(
        self, x: Tensor, handed: tuple[Tensor, ...], centre: Tensor, score: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Position, momentum and new centre after the kicks and the second half, about the old centre."""
        (momentum,) = handed
        new = add_terms(x, (self.variance, score))
        change = new - centre
        add_to(momentum, (self.momentum_kick, change))
        moved = add_terms(x, (self.position_kick, change))
        del change
        x = self._relax(moved, centre, noise)
        del moved
        x, momentum = self.oscillator.second(x, momentum, centre, noise)
        return self._relax(x, centre, noise), momentum, new

    def _relax(self, x: Tensor, centre: Tensor, noise: NoiseSource) -> Tensor:
        return add_to(blend(x, centre, self.pull), (self.scatter, noise(x)))


class HFHR(FastLangevin):
    """HFHR dynamics (LanPaint, Eq. 130; Li, Zha & Tao, 2022). One evaluation per step.

    Args:
        friction: γ in (0, ∞] with Γ = γ² A, as for :class:`FastLangevin`.
        psi: Ψ ≥ 1. The overdamped part is the share 1 − 1/Ψ of the motion: nothing at Ψ = 1, half at the default
            Ψ = 2, all at ∞.
        alpha: α ≥ 0 of Eq. 128, instead of ``psi``. In units in which the mass is 1/A, Ψ solves Ψ = 1 + α γ √Ψ.
        order: 1 keeps C constant over a step. 2 (the default) corrects C at the middle, as FLD's second-order scheme.

    Raises:
        ValueError: For both ``psi`` and ``alpha``, Ψ < 1, α < 0, α with an infinite friction, and as
            :class:`FastLangevin`.
    """

    def __init__(
        self, friction: float = 15.0, psi: float | None = None, *, alpha: float | None = None, order: int = 2
    ) -> None:
        super().__init__(friction, order)
        if psi is not None and alpha is not None:
            raise ValueError("give psi (Ψ) or alpha (α), not both: alpha determines psi")
        if alpha is not None:
            check_real("alpha (α)", alpha)
            if not 0 <= alpha < 1e100 or math.isinf(friction):
                raise ValueError(f"alpha (α) must be a number of at least 0, with a finite friction, got {alpha}")
            # Γ = γ'²/(m Ψ) with m = 1/A gives γ' = γ √Ψ for the friction γ' of Eq. 128, and Ψ = 1 + α γ'.
            psi = ((alpha * friction + math.sqrt((alpha * friction) ** 2 + 4)) / 2) ** 2
        psi = 2.0 if psi is None else psi
        check_real("psi (Ψ)", psi)
        if not 1 <= psi < math.inf:
            raise ValueError(f"psi (Ψ) must be a number of at least 1, got {psi}; Langevin() is its limit ∞")
        self.psi = psi

    def solve(self, damping: Tensor, time: Tensor) -> Solution:
        """The solution over ``time`` for constant C, with compact coefficients."""
        if math.isinf(self.friction):
            return super().solve(damping, time)
        return SplitOscillator.solve(self.friction**2 * damping, damping, self.psi, time)

    def solve_strang(self, damping: Tensor, time: Tensor) -> Strang:
        """The two halves and the kicks of a second-order step, with compact coefficients."""
        if math.isinf(self.friction):
            return super().solve_strang(damping, time)
        return SplitStrang.solve(self.friction**2 * damping, damping, self.psi, time)

    def momentum_variance(self, damping: Tensor) -> Tensor | None:
        """Γ/Ψ, the stationary variance of the momentum, compact; None in the overdamped limit."""
        variance = super().momentum_variance(damping)
        return None if variance is None else variance / self.psi
