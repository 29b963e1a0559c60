"""Distances between two sets of samples, with p-values.

The samples come in pairs (x_i, y_i). y_i is an exact sample given the known part of x_i, and x_i is a sample of the
method given that known part. If and only if the method is exact, exchanging x_i with y_i does not change the joint
distribution. So the p-values come from random exchanges within the pairs. Two independent sets of samples are a special
case. The statistics are those of Gretton et al., "A kernel two-sample test" (JMLR 2012), Lemma 6, and of Székely and
Rizzo, "Energy statistics" (2013).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TwoSampleTest:
    """A distance and its significance.

    Attributes:
        value: Unbiased estimate of the squared distance. Its mean is 0 for equal distributions, so it may be negative.
        p_value: Probability of a value at least as large if the distributions are equal.
        floor: 95 % quantile of the value if the distributions are equal.
        error: Standard error of the value, to first order in 1/n (Serfling, 1980, Sec. 5.2). Valid only if the
            distributions differ.
    """

    value: float
    p_value: float
    floor: float
    error: float


def mmd(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth: float | None = None,
    permutations: int = 500,
    at_most: int = 2_000,
    generator: torch.Generator | None = None,
) -> TwoSampleTest:
    """Squared maximum mean discrepancy with the kernel exp(−‖x − y‖²/(2h²)), unbiased.

    Args:
        x: Samples (n, …).
        y: Samples of the shape of x, where y[i] is paired with x[i].
        bandwidth: h > 0, in the samples' units; by default the median distance between all samples of x and y.
        permutations: Number of random exchanges for the p-value, at least 19.
        at_most: Only the first ``at_most`` pairs are used. Time and memory grow with the square of their number.
        generator: Generator of the random exchanges; by default with seed 0.

    Raises:
        ValueError: For shapes that differ, fewer than two pairs, values that are not finite, or a bandwidth or number
            of permutations that is too small.
    """
    x, y = _pairs(x, y, at_most)
    if bandwidth is None:
        both = torch.cat([x, y])
        apart = torch.nn.functional.pdist(both)
        different = apart > 0
        apart = apart if bool(different.all()) else apart[different]
        bandwidth = float(apart.median()) if len(apart) else 1.0
    elif not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    return _test(
        x, y, lambda a, b: torch.cdist(a, b).square_().mul_(-0.5 / bandwidth**2).exp_(), permutations, generator
    )


def energy_distance(
    x: Tensor,
    y: Tensor,
    *,
    permutations: int = 500,
    at_most: int = 2_000,
    generator: torch.Generator | None = None,
) -> TwoSampleTest:
    """Energy distance 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, unbiased. Arguments and errors are those of :func:`mmd`."""
    x, y = _pairs(x, y, at_most)
    return _test(x, y, lambda a, b: -torch.cdist(a, b), permutations, generator)


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, directions: int = 100, generator: torch.Generator | None = None
) -> float:
    """Mean over random directions of the 1-Wasserstein distance of the projections, in the samples' units.

    Args:
        x: Samples (n, …).
        y: Samples of the shape of x.
        directions: Number of random directions. In one dimension a single direction is used.
        generator: Generator of the directions; by default with seed 0.

    Raises:
        ValueError: For shapes that differ, fewer than two samples, or values that are not finite.
    """
    x, y = _pairs(x, y, None)
    generator = generator or torch.Generator().manual_seed(0)
    axes = torch.randn(x.shape[1], directions if x.shape[1] > 1 else 1, generator=generator, dtype=torch.float64)
    axes = axes / axes.norm(dim=0)
    return float(((x @ axes).sort(dim=0).values - (y @ axes).sort(dim=0).values).abs().mean())


def _pairs(x: Tensor, y: Tensor, at_most: int | None) -> tuple[Tensor, Tensor]:
    """The first ``at_most`` pairs of samples, each set as (n, d) in float64 on the CPU."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError(f"the samples x and y must be tensors, got {type(x).__name__} and {type(y).__name__}")
    if x.shape != y.shape or x.ndim < 2 or len(x) < 2:
        raise ValueError(f"give two sets of n ≥ 2 samples of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = (samples[:at_most].detach().flatten(1).cpu().double() for samples in (x, y))
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("some samples are NaN or infinite; leave them out, and say how many")
    return x, y


def _test(
    x: Tensor,
    y: Tensor,
    kernel: Callable[[Tensor, Tensor], Tensor],
    permutations: int,
    generator: torch.Generator | None,
) -> TwoSampleTest:
    """The U-statistic of h_ij = k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − k(y_i, x_j), with its significance.

    Exchanging x_i with y_i changes the sign of h_ij for every j ≠ i. So each random exchange is a vector of signs.
    """
    if permutations < 19:
        raise ValueError(f"permutations must be at least 19 for a p-value of 0.05, got {permutations}")
    n = len(x)
    cross = kernel(x, y)
    h = kernel(x, x).add_(kernel(y, y)).sub_(cross).sub_(cross.mT)
    h.fill_diagonal_(0)
    generator = generator or torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (n, permutations), generator=generator).double() * 2 - 1
    exchanged = (signs * (h @ signs)).sum(0) / (n * (n - 1))
    value = h.sum() / (n * (n - 1))
    as_large = int((exchanged >= value).sum())
    return TwoSampleTest(
        value=float(value),
        p_value=(1 + as_large) / (1 + permutations),
        floor=float(exchanged.quantile(0.95)),
        error=2 * float((h.sum(1) / (n - 1)).std()) / n**0.5,
    )
