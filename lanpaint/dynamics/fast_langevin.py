"""Fast Langevin dynamics, FLD (LanPaint, Sec. 4.2 and Appendix G).

    dx = q dτ,    dq = Γ (−q dτ + s(x) dτ + √2 dW)                                                   Eq. 15, 99

Its stationary distribution is p(x) N(q; 0, Γ) (Theorem 4.2). The score is split as s(x) = C(x) − A x (Eq. 120). For
constant C the equation is a damped oscillator, which is solved exactly. The first-order scheme (Alg. 2) keeps C
constant over a step, at its value at the start. The second-order scheme (Alg. 3) is a Strang splitting: half an
oscillator step with the *old* C₀, a kick of the momentum by Γ (C − C₀) dτ at the middle, and another half step with the
*old* C₀. With the new C in the second half, the kick would count twice over half a step, and the sampled variance would
be off by several percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.drift import Coefficient, Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.dynamics.oscillator import (
    OrnsteinUhlenbeck,
    Oscillator,
    OscillatorStrang,
    OverdampedStrang,
    Solution,
    Strang,
)
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class FastLangevinState(State):
    """State of :class:`FastLangevin`.

    Attributes:
        x: Position, shape (B, …).
        momentum: q = dx/dτ, shape of x; None in the overdamped limit.
        centre: C/A = x + s/A at the last evaluation, the centre of the spring, shape of x. None before the first
            evaluation, and always in the first-order scheme.
        whole: Exact solution over dτ, for steps of Alg. 2. None after the first step in the second-order scheme, whose
            later steps are steps of Alg. 3.
    """

    momentum: Tensor | None
    centre: Tensor | None
    whole: Solution | None


class FastLangevin(Dynamics):
    """Fast Langevin dynamics, FLD (LanPaint, Eq. 99, Alg. 1–3). One evaluation per step.

    Args:
        friction: γ, from 1e-6 to 1e6 or ``math.inf``, with Γ = γ² A (Alg. 4, Eq. 126). So the discriminant 1 − 4/γ² is
            the same at every noise level. 15 is the paper's value, deep in the overdamped regime. Below 2 the
            oscillator rings. ``math.inf`` is the exact Ornstein–Uhlenbeck step, with half the random numbers.
        order: 2 for Alg. 3, where the first step after :meth:`init` is a step of Alg. 2, as in Alg. 4; 1 for Alg. 2
            alone.

    Raises:
        ValueError: For a friction outside of this range, or an order other than 1 and 2.
    """

    def __init__(self, friction: float = 15.0, order: int = 2) -> None:
        check_real("friction (γ)", friction)
        if not (1e-6 <= friction <= 1e6 or friction == math.inf):
            raise ValueError(f"friction (γ) must be positive, from 1e-6 to 1e6 or infinite (inf), got {friction}")
        if not isinstance(order, int) or order not in (1, 2):
            raise ValueError(f"order must be 1 (Alg. 2) or 2 (Alg. 3), got {order!r}")
        self.friction, self.order = float(friction), order

    def solve(self, damping: Tensor, time: Tensor) -> Solution:
        """The exact solution over ``time`` for constant C, with compact coefficients."""
        if math.isinf(self.friction):
            return OrnsteinUhlenbeck.solve(damping, time)
        return Oscillator.solve(self.friction**2 * damping, damping, time)

    def solve_strang(self, damping: Tensor, time: Tensor) -> Strang:
        """The two halves and the kick of a second-order step (Eq. 125), with compact coefficients."""
        if math.isinf(self.friction):
            return OverdampedStrang.solve(damping, time)
        return OscillatorStrang.solve(self.friction**2 * damping, damping, time)

    def proposal(self, drift: Drift, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """The factors of s(x) and ξ in a first-order step without momentum.

        Raises:
            TypeError: Unless the friction is infinite and the order 1.
        """
        if not math.isinf(self.friction) or self.order != 1:
            raise TypeError(
                "a Gaussian proposal of the position alone takes FastLangevin(friction=math.inf, order=1), "
                f"got friction {self.friction:g} and order {self.order}"
            )
        exact = OrnsteinUhlenbeck.solve(drift.damping, drift.time_step).broadcast(drift, x)
        return exact.position_force, exact.position_noise

    def momentum_variance(self, damping: Tensor) -> Tensor | None:
        """Γ, the stationary variance of the momentum (Eq. 158), compact; None in the overdamped limit."""
        return None if math.isinf(self.friction) else self.friction**2 * damping

    def _strang(self, drift: Drift, x: Tensor) -> Strang:
        """Coefficients of a step of Alg. 3, solved once per level and kept by the drift of the level."""
        return drift.once(self, x, lambda: self.solve_strang(drift.damping, drift.time_step).broadcast(drift, x))

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> FastLangevinState:
        """The state at x, with momentum drawn from its stationary distribution (Alg. 1)."""
        variance, momentum = self.momentum_variance(drift.damping), None
        if variance is not None:
            momentum = noise(x) * drift.coefficients([variance.sqrt()], x)[0]
        if self.order == 2:
            self._strang(drift, x)
        whole = self.solve(drift.damping, drift.time_step).broadcast(drift, x)
        return FastLangevinState(x, momentum, centre=None, whole=whole)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> FastLangevinState:
        """The state after one step: of Alg. 2 for order 1 and in the first step after ``init``, else of Alg. 3."""
        assert isinstance(state, FastLangevinState)
        x, momentum, centre, whole = state.x, state.momentum, state.centre, state.whole
        if centre is None:
            assert whole is not None
            score = drift(x)
            moved, momentum = whole.advance(x, momentum, score, noise)
            if self.order == 1:
                return FastLangevinState(moved, momentum, centre=None, whole=whole)
            centre = add_terms(x, (self._strang(drift, x).variance, score))
            return FastLangevinState(moved, momentum, centre, whole=None)
        strang = self._strang(drift, x)
        middle, handed = strang.first(x, momentum, centre, noise)
        x, momentum, centre = strang.second(middle, handed, centre, drift(middle), noise)
        return FastLangevinState(x, momentum, centre, whole=None)
