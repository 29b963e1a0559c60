"""Levenberg-Marquardt-Langevin dynamics, LML (Wang et al., "LML", Eq. 7 and 9).

The paper takes the outer product of the score for the Hessian of −log p, and damps it. With the damping A and the time
step dτ of the level, let v = s/√A, which is −ε̂ on the unknown part. In units of √dτ for x, the dynamics is

    dx = D s dt + √(2 D) dW,        D = λ (v vᵀ + λ I)⁻¹ = I − v vᵀ/(λ + ‖v‖²)                          Sherman–Morrison

D is scaled to a largest eigenvalue of 1: a factor 1/λ is one of the time step. D depends on x through v. So p is
stationary only with the drift ∇·D in addition. The paper's Prop. 3 and 4 rest on it, and its update lacks it (the
formulas of our copy of the paper are lost; docs/lml.md says how it was read). There are two forms:

    printed     x' = x + D s dt + Δ,   Δ = √(2 D dt) ξ        samples another distribution, and for small λ none at all
    corrected   x' = x + ½ (D + D*) s dt + ½ (Δ + D* D⁻¹ Δ),   D* = D at x + D s dt + Δ

The corrected form has ∇·D in its mean without any derivative (Hütter & Öttinger, 1998, the kinetic interpretation). On
N(0, I) in d dimensions the printed form samples (λ + r²) exp(−½ (1 − (d−1)/λ) r²); for λ ≤ d − 1 the state runs away.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.drift import Coefficient, Drift
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.noise import reciprocal
from lanpaint.randomness import NoiseSource

FORMS = ("corrected", "printed")


class LMLangevin(Dynamics):
    """Levenberg-Marquardt-Langevin dynamics (Wang et al.), with a Hessian of rank one per sample.

    Two evaluations per step, in the printed form one.

    Args:
        damping: λ/d > 0 for samples of d entries, since ‖ε̂‖² is about d. Along ε̂ the dynamics is slower by
            λ/(λ + ‖ε̂‖²) than across it; below 1 the corrected form needs short steps. The paper's λ of 0.001 nearly
            stops it along ε̂.
        form: ``"corrected"`` samples p in the limit of short steps. ``"printed"`` is the paper's update, which does
            not.

    Raises:
        TypeError: For a λ that is no number.
        ValueError: For λ ≤ 0, or an unknown form.
    """

    def __init__(self, damping: float = 1.0, form: Literal["corrected", "printed"] = "corrected") -> None:
        check_real("damping (λ)", damping)
        if not 0 < damping < float("inf"):
            raise ValueError(f"damping (λ) must be a positive finite number, got {damping}")
        if form not in FORMS:
            raise ValueError(f"unknown form {form!r}; expected one of {', '.join(FORMS)}")
        self.damping, self.form = float(damping), form

    def evaluations(self, inner_steps: int) -> int:
        """Two evaluations per step, in the printed form one."""
        return inner_steps if self.form == "printed" else 2 * inner_steps

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> State:
        """The state at x. The coefficients of the level are computed here."""
        self._units(drift, x)
        return State(x)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> State:
        """The state after one step of the form."""
        x, (length, unit) = state.x, self._units(drift, state.x)
        score = drift(x)
        force, direction, fresh = length * score, unit * score, 2**0.5 * noise(x)
        move, kick = self.power(1.0, direction, force), self.power(0.5, direction, fresh)
        if self.form == "corrected":
            ahead = unit * drift(x + length * (move + kick))
            balanced = self.power(1.0, ahead, self.power(-0.5, direction, fresh))
            move, kick = (move + self.power(1.0, ahead, force)) / 2, (kick + balanced) / 2
        return State(x + length * (move + kick))

    def power(self, exponent: float, direction: Tensor, vector: Tensor) -> Tensor:
        """D to a power, times a vector; all of shape (B, …). ``direction`` is v."""
        size = _dot(direction, direction)
        damping = self.damping * math.prod(direction.shape[1:])
        share = torch.expm1(-exponent * torch.log1p(size / damping))
        return vector + share * reciprocal(size) * _dot(direction, vector) * direction

    def _units(self, drift: Drift, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """√dτ, and 1/√A at entries that move, else 0; as coefficients of x."""

        def solve() -> list[Coefficient]:
            step, damping = torch.broadcast_tensors(drift.time_step, drift.damping)
            return drift.coefficients([step.sqrt(), torch.where(step > 0, damping.rsqrt(), 0.0)], x)

        length, unit = drift.once(self, x, solve)
        return length, unit


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of each sample, with axes of length 1 for the axes of a sample."""
    axes = tuple(range(1, first.ndim))
    return (first * second).sum(axes, keepdim=True) if axes else first * second
