"""Hessian-free high-resolution dynamics, HFHR (LanPaint, Eq. 128–131; Li, Zha & Tao, 2022).

Underdamped Langevin dynamics with some overdamped Langevin dynamics added to its position. In the paper's units
(Eq. 129, 130), with Ψ ≥ 1,

    dx = q dτ + (1 − 1/Ψ) s dτ + √(2 (1 − 1/Ψ)) dW₁
    dq = Γ (−q dτ + s/Ψ dτ + √(2/Ψ) dW₂)

Its law at stationarity is p(x) N(q; 0, Γ/Ψ). Ψ = 1 is fast Langevin dynamics, Γ = ∞ overdamped Langevin dynamics for
any Ψ.

With C = s + A x held, as in FLD, the equation splits into two parts that are solved exactly. The overdamped part of the
position is an Ornstein–Uhlenbeck process over the time (1 − 1/Ψ) τ. The rest is an oscillator of damping A/Ψ. A step is
half of the first part, the second part, and half of the first. Each leaves N(C/A, 1/A) N(0, Γ/Ψ) invariant, so the law
is exact for any time step where C is constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from torch import Tensor

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
    """Half an Ornstein–Uhlenbeck step of the position, an oscillator, and the other half.

    Attributes:
        position: The exact half step of the position.
        oscillator: The exact step of position and momentum, which takes the force C − A x in units that include 1/Ψ.
        stiffness: −A, by which a move of the position changes the force.
    """

    position: OrnsteinUhlenbeck
    oscillator: Oscillator
    stiffness: Tensor

    @classmethod
    def solve(cls, friction: Tensor, damping: Tensor, psi: float, time: Tensor) -> SplitOscillator:
        """Coefficients for Γ > 0, A ≥ 0, Ψ ≥ 1 and τ ≥ 0."""
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
        """Position and momentum after the time, from those before it and the force C − A x there."""
        for solution in (self.position, self.oscillator, self.position):
            before = x
            x, moved = solution.advance(x, momentum, force, noise)
            momentum = momentum if moved is None else moved
            force = add_terms(force, (self.stiffness, x - before))
        return x, momentum


@dataclass(frozen=True)
class SplitStrang(Compact):
    """A Strang step of both: each half is half of :class:`SplitOscillator`.

    Attributes:
        pull: How far a quarter of the overdamped part draws the position to the centre, from 0 to 1.
        scatter: Standard deviation of its noise.
        position_kick: What μ' − μ adds to the position, (1 − 1/Ψ) A dτ.
        momentum_kick: What μ' − μ adds to the momentum, Γ A dτ/Ψ.
        oscillator: The halves of the oscillator, of damping A/Ψ.
        variance: 1/A, by which the score is the way to the new centre.
    """

    pull: Tensor
    scatter: Tensor
    position_kick: Tensor
    momentum_kick: Tensor
    oscillator: OscillatorHalves
    variance: Tensor

    @classmethod
    def solve(cls, friction: Tensor, damping: Tensor, psi: float, time: Tensor) -> SplitStrang:
        """Coefficients of a step of length ``time``."""
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
        """The first half, about the old centre; the momentum is handed on."""
        assert momentum is not None
        x, momentum = self.oscillator.first(self._relax(x, centre, noise), momentum, centre, noise)
        return self._relax(x, centre, noise), (momentum,)

    def second(
        self, x: Tensor, handed: tuple[Tensor, ...], centre: Tensor, score: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Kicks of position and momentum, and the second half, about the old centre."""
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
    """HFHR dynamics (LanPaint, Eq. 130). One evaluation a step.

    Args:
        friction: γ in (0, ∞] with Γ = γ² A, as for :class:`FastLangevin`.
        psi: Ψ ≥ 1. The overdamped part has the share 1 − 1/Ψ of the motion: none at 1, all of it at ∞. 2 by default,
            half and half.
        alpha: α ≥ 0 of Eq. 128 instead of ``psi``, in units in which the mass is 1/A: Ψ = 1 + α γ √Ψ there.
        order: 1 holds C over a step, 2 corrects it at its middle as FLD's second-order scheme does. 2 by default.

    Raises:
        ValueError: For both ``psi`` and ``alpha``, Ψ < 1, α < 0, and as :class:`FastLangevin`.
    """

    def __init__(
        self, friction: float = 15.0, psi: float | None = None, *, alpha: float | None = None, order: int = 2
    ) -> None:
        super().__init__(friction, order)
        if psi is not None and alpha is not None:
            raise ValueError("give psi (Ψ) or alpha (α), not both")
        if alpha is not None:
            if not 0 <= alpha < math.inf or math.isinf(friction):
                raise ValueError(f"alpha (α) must be a number of at least 0, with a finite friction, got {alpha}")
            # Γ = γ'²/(m Ψ) with m = 1/A gives γ' = γ √Ψ for the friction γ' of Eq. 128, and Ψ = 1 + α γ'.
            psi = ((alpha * friction + math.sqrt((alpha * friction) ** 2 + 4)) / 2) ** 2
        psi = 2.0 if psi is None else psi
        if not 1 <= psi < math.inf:
            raise ValueError(f"psi (Ψ) must be a number of at least 1, got {psi}; Langevin() is its limit ∞")
        self.psi = psi

    def solve(self, damping: Tensor, time: Tensor) -> Solution:
        """The exact solution for a held C, compact coefficients."""
        if math.isinf(self.friction):
            return super().solve(damping, time)
        return SplitOscillator.solve(self.friction**2 * damping, damping, self.psi, time)

    def solve_strang(self, damping: Tensor, time: Tensor) -> Strang:
        """The halves and the kicks of a second-order step, compact coefficients."""
        if math.isinf(self.friction):
            return super().solve_strang(damping, time)
        return SplitStrang.solve(self.friction**2 * damping, damping, self.psi, time)

    def momentum_variance(self, damping: Tensor) -> Tensor | None:
        """Γ/Ψ, compact."""
        variance = super().momentum_variance(damping)
        return None if variance is None else variance / self.psi
