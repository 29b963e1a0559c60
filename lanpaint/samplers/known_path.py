"""A path of the forward process that ends at the observation, and what a model says of its steps.

y at (α, σ) is α y_o + σ ε. Going back, the forward process that has led from y_o to y passes (α', σ') at

    y' = α' y_o + σ' (k ε + √(1 − k²) ξ),            k = σ' α/(σ α'),       ξ standard normal.

The model's ancestral step (DDPM with its small variance) has α' x̂₀ + σ' k ε̂ for the mean, and the same variance. So the
logarithm of the density that it gives to y', over the density that y' was drawn from, is

    c ⟨ξ, e⟩ − ½ c² ‖e‖²,                            e = ε − ε̂,             c = √(1 − k²)/k.

Its exponential has the mean 1. For the step to σ' = 0 the model's density is N(y_o; x̂₀, σ²/α²), and at the first level
it is N(y; 0, α² s² + σ²) for data of standard deviation s. All in all the density of y_o under the chain is the mean of
the product over paths. (Trippe et al., 2023, Alg. 2. The sum of −½ c² ‖e‖² is the variational bound in short steps,
with c² near the step in ln(α²/σ²).)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.samplers.particles import total


def first_log_ratio(y: Tensor, level: NoiseLevel, observation: Observation, data_scale: float = 1.0) -> Tensor:
    """Log density of y at the first level under the model, over that under the forward process, shape (B,), float64."""
    epsilon = _epsilon(y, level, observation)
    variance = (level.alpha * data_scale) ** 2 + level.sigma**2
    spread = cast_like(torch.log(level.sigma**2 * reciprocal(variance)), y)
    ratio = 0.5 * (epsilon.square() - y.square() * cast_like(reciprocal(variance), y) + spread)
    return total(torch.where(observation.known, ratio, 0.0))


def path_step(
    prediction: Prediction | None, next_level: NoiseLevel, observation: Observation, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The known part at the next level, and the log ratio of the densities of that step.

    Args:
        prediction: The model's prediction at x, shape (B, …), with the known part of x on its path.
        next_level: (α', σ').
        observation: The known part.
        noise: ξ, shape of x.

    Returns:
        y', shape of x, meaningful at known entries only; and the log ratio, shape (B,), float64.
    """
    assert prediction is not None
    x, level = prediction.x, prediction.level
    epsilon = _epsilon(x, level, observation)
    kept = next_level.sigma * level.alpha * reciprocal(level.sigma * next_level.alpha)  # k; 0 also where σ = 0
    fresh = (1 - kept**2).clamp(min=0).sqrt()
    known = next_level.to(x)
    y = known.alpha * observation.values + known.sigma * (cast_like(kept, x) * epsilon + cast_like(fresh, x) * noise)
    ends = (kept == 0) & (level.sigma > 0)
    rate = torch.where(ends, 1.0, fresh * reciprocal(kept))  # c; 0 where an entry is clean already
    error = cast_like(rate, x) * torch.where(observation.known, epsilon - prediction.epsilon, 0.0)
    density = -0.5 * torch.log(
        2 * math.pi * torch.where(ends, level.sigma**2 * reciprocal(level.alpha**2), 0.5 / math.pi)
    )
    drawn = torch.where(cast_like(ends, x).bool(), 0.0, noise)
    ratio = error * (drawn - error / 2) + torch.where(observation.known, cast_like(density, x), 0.0)
    return y, total(ratio)


def _epsilon(y: Tensor, level: NoiseLevel, observation: Observation) -> Tensor:
    level = level.to(y)
    return (y - level.alpha * observation.values) * reciprocal(level.sigma)
