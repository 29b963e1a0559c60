"""Fast Langevin dynamics, FLD (LanPaint, Sec. 4.2 and Appendix G).

    dx = q dτ,    dq = Γ (−q dτ + s(x) dτ + √2 dW)                                                   Eq. 15, 99

Its law at stationarity is p(x) N(q; 0, Γ) (Theorem 4.2). The score is split as s(x) = C(x) − A x (Eq. 120) and, C being
held, the rest is a damped oscillator that is solved exactly. The first-order scheme (Alg. 2) holds C at its value at
the start. The second-order one (Alg. 3) is a Strang splitting: half an oscillator step with the *old* C₀, a kick of the
momentum by Γ (C − C₀) dτ at the middle, and another half step with the same C₀. With the new C in the second half the
kick would count twice over half a step, and the sampled variance would be off by several percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.dynamics.oscillator import OrnsteinUhlenbeck, Oscillator
from lanpaint.randomness import NoiseSource


@dataclass(frozen=True)
class FastLangevinState(State):
    """State of :class:`FastLangevin`.

    Attributes:
        x: Position, shape (B, …).
        momentum: q = dx/dτ, shape of x; None in the overdamped limit.
        constant: C = s + A x where it was evaluated last, shape of x; None before the first evaluation.
        whole: Exact solution over dτ.
        half: Exact solution over dτ/2.
        damping: A.
        kick: What C − C₀ is multiplied by at the middle of a step: Γ dτ on the momentum, dτ on the position if Γ = ∞.
    """

    momentum: Tensor | None
    constant: Tensor | None
    whole: Oscillator | OrnsteinUhlenbeck
    half: Oscillator | OrnsteinUhlenbeck
    damping: Tensor
    kick: Tensor


class FastLangevin(Dynamics):
    """Fast Langevin dynamics (LanPaint, Eq. 99, Alg. 1–3). One evaluation a step.

    Args:
        friction: γ in (0, ∞], with Γ = γ² A (Alg. 4, Eq. 126): the discriminant 1 − 4/γ² is the same at every noise
            level. 15 is the paper's value, deep in the overdamped regime; below 2 the oscillator rings; ``math.inf`` is
            the exact Ornstein–Uhlenbeck step, at half the random numbers.
        order: 2 for Alg. 3, whose first step after :meth:`init` is one of Alg. 2, as in Alg. 4; 1 for Alg. 2 alone.

    Raises:
        ValueError: For a friction that is not positive or an order other than 1 and 2.
    """

    def __init__(self, friction: float = 15.0, order: int = 2) -> None:
        if not friction > 0:
            raise ValueError(f"friction (γ) must be positive, math.inf included, got {friction}")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 (Alg. 2) or 2 (Alg. 3), got {order!r}")
        self.friction, self.order = float(friction), order

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> FastLangevinState:
        """Momentum drawn from N(0, Γ) (Alg. 1), coefficients solved once for the level."""
        damping, step = drift.damping, drift.step
        whole: Oscillator | OrnsteinUhlenbeck
        half: Oscillator | OrnsteinUhlenbeck
        if math.isinf(self.friction):
            momentum, kick = None, step
            whole, half = (OrnsteinUhlenbeck.solve(damping, time) for time in (step, step / 2))
        else:
            friction = self.friction**2 * damping
            momentum, kick = drift.spread(friction.sqrt(), x) * noise(x), friction * step
            whole, half = (Oscillator.solve(friction, damping, time) for time in (step, step / 2))
        return FastLangevinState(
            x=x,
            momentum=momentum,
            constant=None,
            whole=whole.spread(drift, x),
            half=half.spread(drift, x),
            damping=drift.spread(damping, x),
            kick=drift.spread(kick, x),
        )

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> FastLangevinState:
        """One step of Alg. 2 (first order, and first after init) or Alg. 3 (second order)."""
        assert isinstance(state, FastLangevinState)
        x, momentum, old = state.x, state.momentum, state.constant
        if old is None or self.order == 1:
            drifted = drift(x)
            constant = drifted + state.damping * x
            x, momentum = self._advance(state.whole, x, momentum, drifted, noise)
        else:
            x, momentum = self._advance(state.half, x, momentum, old - state.damping * x, noise)
            constant = drift(x) + state.damping * x
            kick = state.kick * (constant - old)
            x, momentum = (x + kick, None) if momentum is None else (x, momentum + kick)
            x, momentum = self._advance(state.half, x, momentum, old - state.damping * x, noise)
        return FastLangevinState(x, momentum, constant, state.whole, state.half, state.damping, state.kick)

    @staticmethod
    def _advance(
        solution: Oscillator | OrnsteinUhlenbeck, x: Tensor, momentum: Tensor | None, force: Tensor, noise: NoiseSource
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(solution, OrnsteinUhlenbeck):
            return solution.advance(x, force, noise), None
        assert momentum is not None
        return solution.advance(x, momentum, force, noise)
