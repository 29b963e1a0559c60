"""Underdamped Langevin dynamics, ULD (LanPaint, Eq. 97), with integrators from molecular dynamics.

    dx = v/m dt,    dv = −(γ/m) v dt + s(x) dt + √(2γ) dW

Its stationary distribution is p(x) N(v; 0, m) (Eq. 98). The equation is split into parts, each solved exactly over a
time t:

    A    x ← x + (t/m) v
    B    v ← v + t s(x)
    O    v ← e^(−γt/m) v + √(m (1 − e^(−2γt/m))) ξ
    U    A and O together: a free particle in a heat bath

A step composes the parts symmetrically. A letter that occurs twice is solved over half the time each:

    BAOAB    Leimkuhler & Matthews, 2013: the distribution of x is exact on a Gaussian for any stable step
    OBABO    Bussi & Parrinello, 2007
    UBU      Zapatero, 2017; Sanz-Serna & Zygalakis, 2021: also second order along each path, with one evaluation

Unlike FLD, none of these schemes uses the damping A. So a step is stable only while L t² < 4 m (nearly so for UBU),
where L is the largest curvature of −log p.

The time step of a drift is a Langevin time τ, as for overdamped dynamics and FLD. Here t = γ τ. Then at large friction
all dynamics move alike in equal τ. In terms of τ, the distribution of x depends on mass and friction through Γ = γ²/m
alone, and the bound on the step is Γ L τ² < 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.drift import Coefficient, Drift, add_terms, sum_of
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.dynamics.oscillator import Oscillator
from lanpaint.randomness import NoiseSource

Scheme = Literal["BAOAB", "OBABO", "UBU"]


@dataclass(frozen=True)
class UnderdampedCoefficients:
    """Coefficients of the parts of a step, each compact or broadcast against a state.

    Attributes:
        kick: Time of B: t, or t/2 if B occurs twice.
        move: Time of A over m: t/m, or t/(2m) if A occurs twice.
        keep: Factor of the momentum in O, over t for BAOAB and t/2 for OBABO.
        scatter: Standard deviation of the noise of O.
        free: U over t/2 for UBU, else None.
    """

    kick: Coefficient
    move: Coefficient
    keep: Coefficient
    scatter: Coefficient
    free: Oscillator | None


@dataclass(frozen=True)
class UnderdampedState(State):
    """State of :class:`Underdamped`.

    Attributes:
        x: Position, shape (B, …).
        momentum: v, shape of x.
        score: s at the last evaluation, shape of x, for the first B of the next step; None before the first step, and
            always for UBU.
    """

    momentum: Tensor
    score: Tensor | None


class Underdamped(Dynamics):
    """Underdamped Langevin dynamics (LanPaint, Eq. 97). One evaluation per step.

    Args:
        mass: m > 0 in units of 1/A, the variance of a Gaussian of precision A. 1 by default.
        friction: γ > 0, a pure number √(Γ m), so that FLD's friction is γ/√m. 2√m is critical damping on a Gaussian of
            precision A. Larger friction is closer to overdamped dynamics and has a shorter stable step, 2√m/γ in units
            of 1/A. 1 by default: it rings a little, and is stable wherever overdamped Langevin dynamics is stable.
        scheme: ``"BAOAB"``, ``"OBABO"`` or ``"UBU"``.

    The first half step of B after :meth:`init` is left out: the momentum that ``init`` draws is taken as the momentum
    after that half step.

    Raises:
        ValueError: For a mass or a friction that is not positive and finite, or an unknown scheme.
    """

    order = 2

    def __init__(self, mass: float = 1.0, friction: float = 1.0, scheme: Scheme = "BAOAB") -> None:
        for name, value in {"mass (m)": mass, "friction (γ)": friction}.items():
            check_real(name, value)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive finite number, got {value}")
        if scheme not in get_args(Scheme):
            raise ValueError(f"unknown scheme {scheme!r}; expected one of {', '.join(get_args(Scheme))}")
        self.mass, self.friction, self.scheme = float(mass), float(friction), scheme

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> UnderdampedState:
        """The state at x, with momentum drawn from N(0, m). The coefficients of the level are computed here."""
        self._coefficients(drift, x)
        deviation = (self.mass / drift.damping).sqrt()
        return UnderdampedState(x, momentum=noise(x) * drift.coefficients([deviation], x)[0], score=None)

    def _coefficients(self, drift: Drift, x: Tensor) -> UnderdampedCoefficients:
        return drift.once(self, x, lambda: drift.record(self._solve(drift), x))

    def _solve(self, drift: Drift) -> UnderdampedCoefficients:
        """Compact coefficients of a step."""
        mass, time = self.mass / drift.damping, self.friction * drift.time_step
        bath = time if self.scheme == "BAOAB" else time / 2
        decay = self.friction * bath / mass
        free = None
        if self.scheme == "UBU":  # FLD's oscillator with A = 0, in FLD's units q = γ v/m, τ = t/γ, Γ = γ²/m
            rate, unit = self.friction**2 / mass, self.friction / mass
            plain = Oscillator.solve(rate, torch.zeros_like(rate), time / 2 / self.friction)
            free = replace(
                plain,
                position_momentum=plain.position_momentum * unit,
                momentum_shared_noise=plain.momentum_shared_noise / unit,
                momentum_noise=plain.momentum_noise / unit,
            )
        return UnderdampedCoefficients(
            kick=time if self.scheme == "UBU" else time / 2,
            move=(time / 2 if self.scheme == "BAOAB" else time) / mass,
            keep=torch.exp(-decay),
            scatter=(mass * -torch.expm1(-2 * decay)).sqrt(),
            free=free,
        )

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> UnderdampedState:
        """The state after one step of the scheme, its letters applied from left to right."""
        assert isinstance(state, UnderdampedState)
        x, v, score, by = state.x, state.momentum, state.score, self._coefficients(drift, state.x)

        def kick(v: Tensor, score: Tensor | None) -> Tensor:
            return v if score is None else add_terms(v, (by.kick, score))

        def bath(v: Tensor) -> Tensor:
            return sum_of((by.keep, v), (by.scatter, noise(v)))

        if self.scheme == "UBU":
            assert by.free is not None
            x, v = by.free.advance(x, v, None, noise)
            v = kick(v, drift(x))
            x, v = by.free.advance(x, v, None, noise)
            return replace(state, x=x, momentum=v)
        if self.scheme == "BAOAB":
            v = kick(v, score)
            x = add_terms(x, (by.move, v))
            v = bath(v)
            x = add_terms(x, (by.move, v))
            score = drift(x)
            v = kick(v, score)
        else:
            v = kick(bath(v), score)
            x = add_terms(x, (by.move, v))
            score = drift(x)
            v = bath(kick(v, score))
        return replace(state, x=x, momentum=v, score=score)
