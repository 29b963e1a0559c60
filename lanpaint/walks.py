"""Random monotone walks of time: how AsyncPatch's likelihood bound averages over paths (Papa et al., 2026, App. B).

A walk takes N times from 0 (data) to 1 (noise). On a grid of K steps for each token, it chooses at each step which
token goes on, with probability in proportion to w_i (1 − t_i) (Eq. 14). The weights w are independent and Exp(1). For
K → ∞ the walk of given weights becomes a curve (Eq. 27, 28), with a clock s from 0 to ∞ and the physical time τ in
steps of 1/K:

    1 − t_i = e^(−h_i),   h_i = w_i s,   τ = N − Σ e^(−h_i)

All formulas are in h = −log(1 − t). Near t = 1 a token may wait for the others, and 1 − t is then smaller than any
float can tell from 0, while h is a number of ordinary size. The paper's cube (ε, 1 − ε)^N is this one, scaled.

The curve depends on the direction ω = w/Σw alone, which is uniform on the simplex. On the way of token i, t_i is
uniform in (0, 1). So a point on the way of a token is drawn with weights of one: draw ω, draw t_i, and all other
times follow, h_j = h_i ω_j/ω_i.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lanpaint.checks import check_whole


def log_density(h: Tensor) -> Tensor:
    """Logarithm of the density q of the times t = 1 − e^(−h) that walks pass (Eq. 33). It integrates to N.

    Args:
        h: −log(1 − t) > 0, shape (…, N).

    Returns:
        log q, shape (…).
    """
    count = h.shape[-1]
    capacity = torch.logsumexp(h.log() - h, dim=-1)  # log Σ (1 − t_j) h_j
    return math.lgamma(count) + capacity + h.sum(-1) - count * h.sum(-1).log()


def transition_probabilities(h: Tensor) -> Tensor:
    """The probability of each token to go on, at times t = 1 − e^(−h): the same for all weights (Eq. 29).

    Args:
        h: −log(1 − t) > 0, shape (…, N).

    Returns:
        Probabilities of shape (…, N), with sum 1.
    """
    return torch.softmax(h.log() - h, dim=-1)


def fluid_limit(weights: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
    """The curve that walks of given weights follow for K → ∞ (Eq. 27, 28).

    Args:
        weights: w > 0, shape (…, N).
        clock: s ≥ 0, broadcastable to (…).

    Returns:
        The times t, shape (…, N), and the physical time τ from 0 to N, shape (…).
    """
    left = torch.exp(-weights * clock[..., None])
    return 1 - left, left.shape[-1] - left.sum(-1)


def simulate(weights: Tensor, resolution: int, generator: torch.Generator | None = None) -> Tensor:
    """Random walks with given weights (Eq. 14).

    Args:
        weights: w > 0, shape (B, N).
        resolution: K, the steps of each token.
        generator: Source of random numbers.

    Returns:
        The times after 0, 1, …, NK steps, shape (NK + 1, B, N).

    Raises:
        ValueError: For a resolution below 1.
    """
    check_whole("resolution (K)", resolution, least=1)
    done = torch.zeros_like(weights)
    walk = [done]
    for _ in range(weights.shape[1] * resolution):
        moved = torch.multinomial(weights * (resolution - done), 1, generator=generator)
        done = done.scatter_add(1, moved, torch.ones_like(moved, dtype=done.dtype))
        walk.append(done)
    return torch.stack(walk) / resolution


def directions(count: int, tokens: int, generator: torch.Generator | None = None) -> Tensor:
    """Directions ω of walks, uniform on the simplex: shape (count, tokens), float64, with sum 1 in each row."""
    uniform = torch.rand(count, tokens, generator=generator, dtype=torch.float64)
    weights = -torch.log1p(-uniform)
    return weights / weights.sum(1, keepdim=True)
