"""Conditional sampling problems with a figure of merit: the benchmarks of LanPaint, Sec. 5.1 and 5.2.

In both, the second coordinate is known and drawn from its marginal, one value per sample, so that the joint samples
(x, y) follow the target if and only if x follows the exact conditional, on average over y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from toy_models.gaussian import Gaussian, GaussianMixture


@dataclass(frozen=True)
class Problem:
    """A target, what is known of it, and how far joint samples are from it.

    Attributes:
        name: Short name.
        target: The exact law of the clean data.
        known: Boolean, shape (d,).
        divergence: Samples (B, d) → Kullback–Leibler divergence from the target, in nats.
        meaning: What that divergence is, in one line.
    """

    name: str
    target: GaussianMixture
    known: Tensor
    divergence: Callable[[Tensor], float]
    meaning: str

    def observe(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Observed values (count, d) in float64, drawn from the target, and ``known``: what an Observation takes."""
        values = self.target.sample(count, generator)
        return torch.where(self.known, values, 0.0), self.known

    def floor(self, count: int, generator: torch.Generator) -> float:
        """The divergence of ``count`` exact samples: what no method can be below, but by chance."""
        return self.divergence(self.target.sample(count, generator))


def _finite(samples: Tensor, dim: int) -> Tensor:
    if samples.ndim != 2 or samples.shape[1] != dim or not len(samples):
        raise ValueError(f"samples must have shape (B, {dim}) with B ≥ 1, got {tuple(samples.shape)}")
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(f"{int((~torch.isfinite(samples)).any(1).sum())} of {len(samples)} samples are not finite")
    return samples.double()


def gaussian_kl(samples: Tensor, target: Gaussian) -> float:
    """KL(N(m, S) ‖ target) in nats, m and S the mean and covariance of ``samples`` (B, d)."""
    samples = _finite(samples, target.dim)
    away = samples.mean(0) - target.mean
    cov, true = torch.cov(samples.mT), target.full_cov[0]
    trace = torch.linalg.solve(true, cov).trace() + away @ torch.linalg.solve(true, away)
    return float(0.5 * (trace - target.dim - torch.logdet(cov) + torch.logdet(true)))


def histogram_kl(samples: Tensor, target: GaussianMixture, bins: int = 50, edge: float = 2.5) -> float:
    """KL(histogram ‖ exact) in nats over ``bins`` × ``bins`` squares on [−edge, edge]², for isotropic mixtures in 2-D.

    Samples (B, 2) outside are clamped to the outermost squares, and the target's mass out there counts with them; exact
    masses come from the normal distribution function; 1e-7 is added to every mass of both, which are then renormalised.
    """
    edges = torch.linspace(-edge, edge, bins + 1, dtype=torch.float64)
    if not target.isotropic or target.dim != 2:
        raise ValueError("histogram_kl is for isotropic mixtures in two dimensions")
    index = torch.bucketize(_finite(samples, 2).clamp(-edge, edge), edges[1:-1])
    counted = torch.bincount(index[:, 0] * bins + index[:, 1], minlength=bins * bins).double()
    deviation = target.cov.sqrt()[:, None, None]
    edges[0], edges[-1] = -math.inf, math.inf
    cdf = torch.special.ndtr((edges - target.means[..., None]) / deviation)  # (K, 2, bins + 1)
    mass = cdf.diff(dim=-1)
    exact = torch.einsum("k,ki,kj->ij", target.weights, mass[:, 0], mass[:, 1]).flatten()
    p, q = ((m / m.sum() + 1e-7) / (m / m.sum() + 1e-7).sum() for m in (counted, exact))
    return float((p * (p / q).log()).sum())


def gauss2() -> Problem:
    """Two unit Gaussians with correlation 0.8, one known (LanPaint, Sec. 5.1)."""
    target = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    return Problem(
        "gauss2",
        target,
        torch.tensor([False, True]),
        lambda samples: gaussian_kl(samples, target),
        "KL of the Gaussian fitted to the joint samples from the truth",
    )


def star_outline(points: int = 500) -> Tensor:
    """Midpoints (points, 2) of equal arcs of the outline of a five-pointed star.

    Ten vertices at radii 2.0 and 0.8 in turn, the first at angle π/2; the first arc starts there.
    """
    angle = math.pi / 2 + torch.arange(11, dtype=torch.float64) * math.pi / 5
    radius = torch.tensor([2.0, 0.8] * 5 + [2.0], dtype=torch.float64)
    vertices = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    position = (torch.arange(points, dtype=torch.float64) + 0.5) * 10 / points  # all ten sides are equally long
    side = position.long()
    return torch.lerp(vertices[side], vertices[side + 1], (position - side)[:, None])


def star500() -> Problem:
    """500 narrow Gaussians along the outline of a star, one coordinate known (LanPaint, Sec. 5.2)."""
    target = GaussianMixture(star_outline(500), 0.05**2)
    return Problem(
        "star500",
        target,
        torch.tensor([False, True]),
        lambda samples: histogram_kl(samples, target),
        "KL of the histogram of the joint samples (50 × 50 squares on [−2.5, 2.5]²) from the truth",
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {"gaussian": gauss2, "star": star500}
