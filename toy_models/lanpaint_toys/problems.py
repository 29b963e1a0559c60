"""Conditional sampling problems, each with a divergence from the truth: LanPaint, Sec. 5.1 and 5.2, and others.

For each sample, the known coordinates y are drawn from their marginal distribution. So the joint samples (x, y) follow
the target if and only if the unknown coordinates x follow their exact conditional distribution, on average over y. Only
``star-line`` has one fixed y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint_toys.calibration import conditional_ranks, rank_kl
from lanpaint_toys.gaussian import Gaussian, GaussianMixture


@dataclass(frozen=True)
class Problem:
    """A target, its known coordinates, and a divergence of joint samples from the target.

    Attributes:
        name: Short name.
        target: The exact distribution of the clean data.
        known: Boolean, shape (d,), True where known.
        divergence: Function: samples (B, d) → Kullback–Leibler divergence from the target, in nats.
        meaning: One line that defines this divergence.
        samples: Number of samples that a benchmark draws.
        observed: Values (d,) of the known coordinates, if they are the same for every sample; None if they are drawn.
    """

    name: str
    target: GaussianMixture
    known: Tensor
    divergence: Callable[[Tensor], float]
    meaning: str
    samples: int = 20_000
    observed: Tensor | None = None

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` exact joint samples (count, d) in float64, with known and unknown coordinates."""
        if self.observed is None:
            return self.target.sample(count, generator)
        return self.target.sample_conditional(self.observed.expand(count, -1), self.known, generator)

    def observe(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Observed values (count, d) in float64, and ``known``: the arguments of an Observation."""
        return torch.where(self.known, self.draw(count, generator), 0.0), self.known

    def floor(self, count: int, generator: torch.Generator) -> float:
        """The divergence of ``count`` exact samples. Only by chance can a method be below it."""
        return self.divergence(self.draw(count, generator))


def _finite(samples: Tensor, dim: int) -> Tensor:
    if samples.ndim != 2 or samples.shape[1] != dim or not len(samples):
        raise ValueError(f"samples must have shape (B, {dim}) with B ≥ 1, got {tuple(samples.shape)}")
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(f"{int((~torch.isfinite(samples)).any(1).sum())} of {len(samples)} samples are not finite")
    return samples.double()


def gaussian_kl(samples: Tensor, target: Gaussian) -> float:
    """KL(N(m, S) ‖ target) in nats, where m and S are the mean and covariance of ``samples`` (B, d)."""
    samples = _finite(samples, target.dim)
    away = samples.mean(0) - target.mean
    cov, true = torch.cov(samples.mT), target.full_cov[0]
    trace = torch.linalg.solve(true, cov).trace() + away @ torch.linalg.solve(true, away)
    return float(0.5 * (trace - target.dim - torch.logdet(cov) + torch.logdet(true)))


def histogram_kl(samples: Tensor, target: GaussianMixture, bins: int = 50, edge: float = 2.5) -> float:
    """KL(histogram ‖ exact) in nats, with ``bins`` squares a side on [−edge, edge]^d, for isotropic mixtures, d ≤ 2.

    The exact mass of each square comes from the normal distribution function. Samples (B, d) outside count in the
    nearest outermost square, and so does the target's mass outside. 1e-7 is added to every mass of both distributions,
    which are then normalised again.
    """
    edges = torch.linspace(-edge, edge, bins + 1, dtype=torch.float64)
    if not target.isotropic or target.dim > 2:
        raise ValueError("histogram_kl is for isotropic mixtures in one or two dimensions")
    index = torch.bucketize(_finite(samples, target.dim).clamp(-edge, edge), edges[1:-1])
    square = index[:, 0] if target.dim == 1 else index[:, 0] * bins + index[:, 1]
    counted = torch.bincount(square, minlength=bins**target.dim).double()
    deviation = target.cov.sqrt()[:, None, None]
    edges[0], edges[-1] = -math.inf, math.inf
    cdf = torch.special.ndtr((edges - target.means[..., None]) / deviation)  # (K, d, bins + 1)
    mass = cdf.diff(dim=-1)
    exact = torch.einsum("k,ki,kj->ij", target.weights, mass[:, 0], mass[:, -1]).flatten()
    if target.dim == 1:
        exact = target.weights @ mass[:, 0]
    p, q = ((m / m.sum() + 1e-7) / (m / m.sum() + 1e-7).sum() for m in (counted, exact))
    return float((p * (p / q).log()).sum())


def mode_coverage(samples: Tensor, target: GaussianMixture) -> float:
    """Share of the components that are covered by the samples (B, d).

    Each sample counts for its most probable component. A component is covered if it gets at least a tenth of the
    samples that it should get by its weight.
    """
    counted = torch.zeros(len(target.weights), dtype=torch.float64)
    for rows in _finite(samples, target.dim).split(2_000):
        origin = target.responsibilities(rows).argmax(1)
        counted += torch.bincount(origin, minlength=len(counted))
    return float((counted >= 0.1 * len(samples) * target.weights).double().mean())


def stray(samples: Tensor, target: GaussianMixture) -> Tensor:
    """Which samples (B, d) are stray: boolean (B,).

    A stray sample lies outside all ellipsoids, where each component has an ellipsoid that holds 99.7 % of its mass.
    """
    from scipy.stats import chi2

    limit = float(chi2.ppf(0.997, target.dim))
    return torch.cat([target.mahalanobis(x).amin(1) > limit for x in _finite(samples, target.dim).split(2_000)])


def _gaussian(name: str, cov: Tensor, known: list[int]) -> Problem:
    target = Gaussian([0.0] * len(cov), cov)
    mask = torch.zeros(len(cov), dtype=torch.bool)
    mask[known] = True
    return Problem(
        name,
        target,
        mask,
        lambda samples: gaussian_kl(samples, target),
        "KL of the Gaussian fitted to the joint samples from the truth",
    )


def _planar(name: str, means: Tensor, deviation: float) -> Problem:
    return _mixture(name, GaussianMixture(means, deviation**2))


def _mixture(name: str, target: GaussianMixture) -> Problem:
    return Problem(
        name,
        target,
        torch.tensor([False, True]),
        lambda samples: histogram_kl(samples, target),
        "KL of the histogram of the joint samples (50 × 50 squares on [−2.5, 2.5]²) from the truth",
        samples=10_000,
    )


def gauss2(correlation: float = 0.8) -> Problem:
    """Two Gaussian coordinates of unit variance with correlation 0.8, one known (LanPaint, Sec. 5.1)."""
    cov = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    return _gaussian("gauss2", cov, [1])


def scales() -> Problem:
    """Two Gaussian coordinates of variances 0.01 and 1 with correlation 0.5; the coordinate of variance 1 is known."""
    return _gaussian("scales", torch.tensor([[0.01, 0.05], [0.05, 1.0]], dtype=torch.float64), [1])


def ar1(dim: int = 16, correlation: float = 0.9) -> Problem:
    """A stationary autoregressive process of unit variance; every second coordinate is known."""
    index = torch.arange(dim, dtype=torch.float64)
    return _gaussian("ar1", correlation ** (index[:, None] - index).abs(), list(range(1, dim, 2)))


def stiff(dim: int, condition: float, seed: int) -> Problem:
    """A Gaussian whose principal axes are random; every third coordinate is known.

    The variances along the axes are evenly spaced in logarithm, from 1 to 1/``condition``.
    """
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    cov = basis @ torch.diag(torch.logspace(0, -math.log10(condition), dim, dtype=torch.float64)) @ basis.mT
    return _gaussian(f"stiff{dim}", cov, list(range(0, dim, 3)))


def star_outline(points: int = 500) -> Tensor:
    """Midpoints (points, 2) of equal arcs of the outline of a five-pointed star.

    The ten vertices have radii 2.0 and 0.8 in turn. The first vertex is at angle π/2, where the first arc starts.
    """
    angle = math.pi / 2 + torch.arange(11, dtype=torch.float64) * math.pi / 5
    radius = torch.tensor([2.0, 0.8] * 5 + [2.0], dtype=torch.float64)
    vertices = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    position = (torch.arange(points, dtype=torch.float64) + 0.5) * 10 / points  # all ten sides are equally long
    side = position.long()
    return torch.lerp(vertices[side], vertices[side + 1], (position - side)[:, None])


def star500() -> Problem:
    """A mixture of 500 narrow Gaussians along the outline of a star, one coordinate known (LanPaint, Sec. 5.2)."""
    return _planar("star500", star_outline(500), 0.05)


def star_line(height: float = 1.55) -> Problem:
    """The star with the same known value for all samples. It shows where samples are trapped (LanPaint, Fig. 3)."""
    star = star500()
    observed = torch.tensor([0.0, height], dtype=torch.float64)
    conditional = star.target.conditional(observed, star.known)
    conditional = GaussianMixture(conditional.means, conditional.cov[:, 0, 0], conditional.weights)
    return Problem(
        "star-line",
        star.target,
        star.known,
        lambda samples: histogram_kl(samples[:, :1], conditional),
        f"KL of the histogram of x (50 bins on [−2.5, 2.5]) from the distribution of x given y = {height:g}",
        samples=10_000,
        observed=observed,
    )


def ring() -> Problem:
    """Eight Gaussians of standard deviation 0.15 on a circle."""
    turn = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return _planar("ring", 1.6 * torch.stack([turn.cos(), turn.sin()], 1), 0.15)


def grid() -> Problem:
    """Sixteen Gaussians of standard deviation 0.1 on a square grid."""
    side = torch.linspace(-1.5, 1.5, 4, dtype=torch.float64)
    return _planar("grid", torch.cartesian_prod(side, side), 0.1)


def moons() -> Problem:
    """Two interlocked half circles of 60 Gaussians each, of standard deviation 0.08."""
    along = torch.linspace(0, math.pi, 60, dtype=torch.float64)
    upper = torch.stack([along.cos() - 0.5, along.sin() - 0.25], 1)
    return _planar("moons", torch.cat([upper, -upper]), 0.08)


def equicorrelated(dim: int = 10, correlation: float = 0.7) -> Problem:
    """Gaussian coordinates of unit variance with equal correlations between all pairs; the first half is known."""
    cov = torch.full((dim, dim), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    return _gaussian("equicorrelated", cov, list(range(dim // 2)))


def cross() -> Problem:
    """Two lines of 60 Gaussians each that cross at right angles, of standard deviation 0.06."""
    along = torch.linspace(-1.9, 1.9, 60, dtype=torch.float64)
    return _planar("cross", torch.cat([torch.stack([along, along], 1), torch.stack([along, -along], 1)]) / 2**0.5, 0.06)


def spiral() -> Problem:
    """A spiral of two turns of 200 Gaussians, of standard deviation 0.06."""
    turn = 4 * math.pi * torch.linspace(0.05, 1, 200, dtype=torch.float64).sqrt()
    return _planar("spiral", torch.stack([turn.cos(), turn.sin()], 1) * (turn / (4 * math.pi) * 2)[:, None], 0.06)


def uneven() -> Problem:
    """Three Gaussians of different widths and weights."""
    means = [[-1.2, -0.8], [1.0, -0.6], [0.3, 1.4]]
    return _mixture("uneven", GaussianMixture(means, [0.25, 0.01, 0.04], [0.6, 0.3, 0.1]))


def thin() -> Problem:
    """A circle of 250 Gaussians of standard deviation 0.02: a ring a hundred times wider than thick."""
    turn = torch.arange(250, dtype=torch.float64) * math.pi / 125
    return _planar("thin", 1.6 * torch.stack([turn.cos(), turn.sin()], 1), 0.02)


def _by_ranks(name: str, target: GaussianMixture) -> Problem:
    known = torch.tensor([False, True])
    return Problem(
        name,
        target,
        known,
        lambda samples: rank_kl(conditional_ranks(_finite(samples, 2), known, target)),
        "KL of the histogram of F(x given y), 20 equal parts of [0, 1], from uniform",
        samples=10_000,
    )


def far() -> Problem:
    """Two modes at x = -2 and 2, thirteen standard deviations each from the middle; y tells a little of which it is."""
    cov = torch.diag(torch.tensor([0.15**2, 0.5**2], dtype=torch.float64))
    return _by_ranks("far", GaussianMixture([[-2.0, -0.3], [2.0, 0.3]], cov.expand(2, 2, 2), [0.7, 0.3]))


def walk(name: str, variances: Tensor, weights: Tensor) -> Problem:
    """A walk of two increments from 0, of which the end y = e₁ + e₂ is known and the middle x = e₁ is asked for.

    Each increment is a scale mixture of Gaussians. With heavy tails and a far y, x is near 0 or near y: one of the two
    increments was a jump.

    Args:
        name: Short name.
        variances: (K,), variances of the mixture.
        weights: (K,), its weights.
    """
    first, second = (part.flatten() for part in torch.meshgrid(variances, variances, indexing="ij"))
    cov = torch.stack([torch.stack([first, first], 1), torch.stack([first, first + second], 1)], 1)
    pair = torch.outer(weights, weights).flatten()
    kept = pair > 1e-9
    return _by_ranks(name, GaussianMixture(torch.zeros(int(kept.sum()), 2), cov[kept], pair[kept]))


def laplace(nodes: int = 8) -> Problem:
    """A walk of Laplace increments of variance 1/2: a scale mixture over an exponential variance, by quadrature."""
    from scipy.special import roots_laguerre

    place, weight = (torch.as_tensor(part) for part in roots_laguerre(nodes))
    return walk("laplace", 0.5 * place, weight)


def student(freedom: float = 3.0, nodes: int = 10) -> Problem:
    """A walk of Student-t increments of 3 degrees of freedom, scale 1/2: a scale mixture of Gaussians, by quadrature.

    Its variances are 1/4 · ν/(2 u) with u from the gamma law of shape ν/2, at even places of log u from 0.004 to 12.
    So its tails end with a Gaussian of deviation 9.7.
    """
    place = torch.linspace(math.log(0.004), math.log(12), nodes, dtype=torch.float64).exp()
    weight = place ** (freedom / 2) * torch.exp(-place)
    return walk("student", 0.25 * freedom / (2 * place), weight / weight.sum())


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "gaussian": gauss2,
    "star": star500,
    "star-line": star_line,
    "ar1": ar1,
    "tight": lambda: gauss2(-0.99),
    "scales": scales,
    "stiff8": lambda: stiff(8, 100, seed=1),
    "stiff24": lambda: stiff(24, 1000, seed=2),
    "ring": ring,
    "grid": grid,
    "moons": moons,
    "equicorrelated": equicorrelated,
    "cross": cross,
    "spiral": spiral,
    "uneven": uneven,
    "thin": thin,
    "far": far,
    "laplace": laplace,
    "student": student,
}
"""Name → problem, as the command line and result files spell them."""
