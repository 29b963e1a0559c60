"""What multistep solvers share: earlier predictions, and the exponential integral of a polynomial through them.

In the variable λ = log(α/σ) the probability-flow ODE is linear in x but for x̂₀ or, in another form, ε̂:

    denoised    x' = (σ'/σ) x + α' ∫ e^(u − λ') x̂₀(u) du        over u from λ to λ'
    epsilon     x' = (α'/α) x − σ' ∫ e^(λ' − u) ε̂(u) du

A solver puts a polynomial P through predictions at several levels in the place of x̂₀ or ε̂. With h = λ' − λ,
u = λ + θ h, and H = h for x̂₀ or −h for ε̂, both integrals are

    ∫₀¹ H e^((θ − 1) H) P(θ) dθ = (1 − e^(−H)) v₀ + Σ cᵢ (vᵢ − v₀)

times α' or σ'. The v are the predictions, v₀ that at θ = 0. Without the sum this is the first-order step, DDIM's. The
weight of a line's slope is not its integral but B/2, as in the published schemes, with B = 1 − e^(−H) or B = H.

An earlier prediction tells the derivative along the flow only if x is still on the flow. A sampler may have changed x
since the last step, by inner steps, known values or a gradient. Then the prediction has changed with x, by an amount
that does not get smaller with the steps. So a sample that was changed begins anew, with a step of first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lanpaint.device import move_like
from lanpaint.noise import NoiseLevel, cast_like
from lanpaint.solvers.base import SolverState

Form = Literal["denoised", "epsilon"]
BH = Literal["bh1", "bh2"]
Placed = tuple[Tensor, Tensor]
"""A prediction, shape (B, …), and λ of its level; λ is NaN where the prediction is not to be used."""

_TERMS = 18  # of a series in |H| ≤ 1; the next is below 1e-17


@dataclass(frozen=True)
class MultistepState(SolverState):
    """State of a solver that remembers predictions of earlier steps.

    Attributes:
        x: State at the current level, shape (B, …).
        prediction: The model's prediction in the last step, or None before the first step.
        history: Pairs (x̂₀ or ε̂, λ) of earlier steps, the latest first.
        reached: The state as the last step left it, or None before the first step.
    """

    history: tuple[Placed, ...] = ()
    reached: Tensor | None = None

    def recalled(self) -> tuple[Placed, ...]:
        """The history, where λ is NaN for each sample of x that is not as the last step left it."""
        if self.reached is None or self.x is self.reached:
            return self.history
        same = (self.x == self.reached).reshape(len(self.x), -1).all(1)
        same = same.reshape(-1, *[1] * (self.x.ndim - 1))
        return tuple((value, torch.where(same, move_like(lam, self.x), torch.nan)) for value, lam in self.history)


def beyond_first_order(
    first: Placed, others: Sequence[Placed], next_level: NoiseLevel, form: Form, bh: BH = "bh2"
) -> Tensor | float:
    """What a step to ``next_level`` by a polynomial adds to the first-order step, shape (B, …).

    A prediction is left out where its level has no signal or no noise, and where it is at the level of another one. So
    are those after it. Nothing is added where the step starts at α = 0, ends at σ = 0, or does not change the level.

    Args:
        first: The prediction at the level where the step starts.
        others: Predictions at other levels, the most important first. A corrector has that at ``next_level`` first.
        next_level: The level that the step leads to.
        form: Whether the predictions are x̂₀ or ε̂.
        bh: ``"bh1"`` has B = H, ``"bh2"`` has B = 1 − e^(−H) (Zhao et al., 2023).
    """
    value, lam = first
    scale = next_level.alpha if form == "denoised" else next_level.sigma
    lam, end, scale, *ats = on_one_device([lam, next_level.log_snr / 2, scale, *(at for _, at in others)], value)
    h = end - lam
    usable = torch.isfinite(h) & (h > 0)
    h = torch.where(usable, h, 1.0)
    exponent = h if form == "denoised" else -h
    line = (exponent if bh == "bh1" else -torch.expm1(-exponent)) / 2
    places, allowed = [torch.zeros_like(h)], []
    for at in ats:
        place = (at - lam) / h
        usable = usable & torch.isfinite(place)
        for other in places:
            usable = usable & (place != other)
        places.append(place)
        allowed.append(usable)
    added: Tensor | float = 0.0
    for weight, (other, _) in zip(_weights(places, allowed, exponent, line), others, strict=True):
        added = added + cast_like(scale * weight, value) * (other - value)
    return added


def on_one_device(tensors: Sequence[Tensor], like: Tensor) -> list[Tensor]:
    """Values of the levels as they are if they lie on one device, else where ``like`` does: λ may be NaN by sample."""
    if len({tensor.device for tensor in tensors}) == 1:
        return list(tensors)
    return [move_like(tensor, like) for tensor in tensors]


def _weights(places: Sequence[Tensor], usable: Sequence[Tensor], exponent: Tensor, line: Tensor) -> list[Tensor]:
    """The weights cᵢ, by Newton's form: integrals of Π (θ − θₖ) times divided differences, degree by degree.

    Args:
        places: θ₀ = 0, θ₁, …
        usable: Whether θ₁, … take part, for each entry.
        exponent: H.
        line: The weight of the slope where P is a line.
    """
    weights = [torch.zeros_like(exponent) for _ in usable]
    powers = moments(exponent, len(places)) if len(places) > 2 else []
    product = [torch.ones_like(exponent)]  # coefficients of Π (θ − θₖ), the lowest first
    for degree, allowed in enumerate(usable, start=1):
        zero = torch.zeros_like(exponent)
        below, above = [zero, *product], [*product, zero]
        product = [low - places[degree - 1] * high for low, high in zip(below, above, strict=True)]
        integral = line
        if powers:
            exact = sum((c * power for c, power in zip(product, powers, strict=False)), start=zero)
            integral = exact if degree > 1 else torch.where(usable[1], exact, line)
        for i in range(1, degree + 1):
            apart = torch.ones_like(exponent)
            for k in range(degree + 1):
                apart = apart if k == i else apart * (places[i] - places[k])
            weights[i - 1] = weights[i - 1] + torch.where(allowed, integral / apart, 0.0)
    return weights


def moments(exponent: Tensor, count: int) -> list[Tensor]:
    """∫₀¹ H e^((θ − 1) H) θᵏ dθ for k from 0 to ``count`` − 1, where H is the exponent, which must not be 0.

    Each follows from the one before, Mₖ = 1 − (k/H) Mₖ₋₁. Near H = 0 that cancels, so there the last one is a series,
    and each follows from the one after.
    """
    small = exponent.abs() < 1
    near = torch.where(small, exponent, 0.5)
    up = [-torch.expm1(-exponent)]
    for k in range(1, count):
        up.append(1 - k / exponent * up[-1])
    j = torch.arange(_TERMS, device=near.device)
    factors = (1.0 / (j.to(near.dtype) + count)).cumprod(0)  # (count − 1)!/(count + j)!
    down = [near * ((-near.unsqueeze(-1)) ** j * factors).sum(-1)]
    for k in range(count - 1, 0, -1):
        down.insert(0, near / k * (1 - down[0]))
    return [torch.where(small, low, high) for low, high in zip(down, up, strict=True)]
