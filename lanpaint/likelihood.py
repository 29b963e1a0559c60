"""A lower bound on the log-likelihood of a model, on paths of levels that may differ from entry to entry.

AsyncPatch (Papa et al., 2026, Thm. 1 and Eq. 48) bounds the likelihood of joint diffusion. Its printed inequality adds
a positive multiple of the error, where it must subtract it. Its integral and its constant both diverge, because
(ε − ε̂)² → 1 where the noise vanishes. With a reference whose density is known, both converge. For the reference
N(m, s²) in each entry, ℓ = log(α²/σ²), and any monotone path of levels,

    log p(x) ≥ log N(x; m, s²) + ½ Σ_i ∫ E[(ε_i − ε̂⁰_i)² − (ε_i − ε̂_i)²] dℓ_i

on average over the data, where ε̂⁰ is the exact prediction for the reference and ε̂ that of the model. The exact model
attains minus the entropy of the data on each path. Outside of a range of ℓ the model is the reference, so the integral
is over the range. This too is a valid bound.

The estimator takes the error of reference and model on the same noise. It draws paths from the walks of the paper
(:mod:`lanpaint.walks`), picks a token and its ℓ_i evenly in the range, and uses all tokens of each evaluation. The
weights of an evaluation sum to N (ℓ_max − ℓ_min)/2, and share this in proportion to the speeds dℓ_j along the path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.checks import check_real, check_whole, shown
from lanpaint.noise import NoiseLevel
from lanpaint.score import Score, as_score
from lanpaint.time_path import check_groups
from lanpaint.walks import directions


@dataclass(frozen=True)
class LikelihoodBound:
    """A lower bound on the mean log-likelihood.

    Attributes:
        samples: An estimate for each sample of the data, in nats, shape (B,).
    """

    samples: Tensor

    @property
    def mean(self) -> float:
        """The bound on the mean log-likelihood of the data, in nats per sample."""
        return float(self.samples.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean, over data and noise."""
        return float(self.samples.std()) / math.sqrt(len(self.samples))


def likelihood_bound(
    score: Score | Callable[[Tensor, NoiseLevel], Tensor],
    data: Tensor,
    *,
    groups: Sequence[Tensor] | None = None,
    draws: int = 16,
    log_snr: tuple[float, float] = (-10.0, 12.0),
    mean: float = 0.0,
    variance: float = 1.0,
    generator: torch.Generator | None = None,
) -> LikelihoodBound:
    """Estimate the likelihood bound of a model on data.

    Args:
        score: The model. With ``groups`` it must take a level per entry.
        data: Clean data, shape (B, …), floating point.
        groups: N boolean masks that part a sample into tokens, of a shape that broadcasts to it; each token has a time
            of its own, on the random walks of the paper. By default there is one token: ordinary diffusion.
        draws: Evaluations of the model for each sample.
        log_snr: The range of ℓ = log(α²/σ²) in which the model is used.
        mean: m of the reference. The mean of the data gives a smaller error of the estimate.
        variance: s² of the reference.
        generator: Source of random numbers, on the CPU.

    Raises:
        TypeError: For ``data`` that are not floating point, and groups that are not boolean.
        ValueError: For groups that overlap or leave gaps, a range that is empty, or a variance that is not positive.
    """
    score = as_score(score)
    if not isinstance(data, Tensor) or not data.is_floating_point() or data.ndim < 2:
        what = f"{data.dtype} {tuple(data.shape)}" if isinstance(data, Tensor) else shown(data)
        raise TypeError(f"data must be a floating-point tensor of shape (B, …), got {what}")
    check_whole("draws", draws, least=1)
    low, high = log_snr
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"log_snr must be two finite numbers, the smaller one first, got {log_snr}")
    for name, value in (("mean", mean), ("variance", variance)):
        check_real(name, value)
    if not 0 < variance < math.inf:
        raise ValueError(f"variance must be positive and finite, got {variance}")
    token = torch.zeros((1,) * (data.ndim - 1), dtype=torch.long)
    if groups is not None:
        token = check_groups(groups)
        sizes = zip(reversed(token.shape), reversed(data.shape), strict=False)
        if token.ndim >= data.ndim or any(size not in (1, wanted) for size, wanted in sizes):
            raise ValueError(
                f"groups must broadcast to a sample's shape {tuple(data.shape[1:])}, got {tuple(token.shape)}"
            )
    count, batch = int(token.max()) + 1, len(data)
    total = -0.5 * ((data - mean).square() / variance + math.log(2 * math.pi * variance)).flatten(1).sum(1).double()
    for draw in range(draws):
        ell, weights = _times(batch, count, (low, high), draw / draws, generator)
        at, weight = (each.to(data.device)[:, token.to(data.device)] for each in (ell, weights))
        at = at.reshape(batch, *(1,) * (data.ndim - at.ndim), *at.shape[1:])
        h = torch.nn.functional.softplus(-at / 2)
        alpha, sigma = torch.exp(-h), -torch.expm1(-h)
        level = NoiseLevel(alpha, sigma)
        epsilon = torch.randn(data.shape, generator=generator, dtype=torch.float64).to(data)
        z = level.perturb(data, epsilon)
        with torch.no_grad():
            model = score.predict(z, level).epsilon
        here = level.to(data)
        plain = here.sigma * (z - here.alpha * mean) / (here.alpha**2 * variance + here.sigma**2)
        gain = (model - plain) * (2 * epsilon - plain - model)  # (ε − ε̂⁰)² − (ε − ε̂)²
        weight = weight.reshape(at.shape)
        total = total + (gain.double() * weight).flatten(1).sum(1) / draws
    return LikelihoodBound(total.cpu())


def _times(
    batch: int, count: int, log_snr: tuple[float, float], share: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """ℓ of each token, shape (B, N), on walks that keep to the range, and their weights, (B, N).

    The batch is stratified: its points on the way of the chosen token are evenly spaced, with one random shift.
    """
    low, high = log_snr
    omega = directions(batch, count, generator)
    chosen = torch.randint(count, (batch, 1), generator=generator)
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    even = (torch.randperm(batch, generator=generator) + shift) / batch
    own = low + (high - low) * ((even + share) % 1)
    h = torch.nn.functional.softplus(-own / 2)[:, None] * omega / omega.gather(1, chosen)
    ell = -2 * (h + torch.log(-torch.expm1(-h)))
    moving = (ell >= low) & (ell <= high)
    moving = moving.scatter(1, chosen, True)
    speed = torch.where(moving, omega / -torch.expm1(-h), 0.0)
    weights = speed / speed.sum(1, keepdim=True) * (count * (high - low) / 2)
    return ell.clamp(low, high).scatter(1, chosen, own[:, None]), weights
