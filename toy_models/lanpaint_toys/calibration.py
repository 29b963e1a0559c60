"""What an exact conditional law says about samples: ranks, intervals, means and modes.

The distribution function F(x_i | y) is uniform on [0, 1] at exact samples. Gaussian mixtures have it in closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lanpaint_toys.gaussian import GaussianMixture

_BINS = 20
_CHUNK = 2**22  # most numbers of a tensor (rows, components, coordinates)


def rank_kl(ranks: Tensor) -> float:
    """Divergence of numbers in [0, 1], of any shape, from uniform, in nats: of their histogram in 20 equal parts.

    Its mean for n independent uniform numbers is 19/(2 n).
    """
    share = rank_histogram(ranks)
    return float(torch.special.xlogy(share, share * _BINS).sum())


def rank_histogram(ranks: Tensor) -> Tensor:
    """Shares of numbers in [0, 1], of any shape, in 20 equal parts: (20,), float64."""
    counts = torch.bincount((ranks.double().clamp(0, 1 - 1e-12) * _BINS).long().flatten(), minlength=_BINS).double()
    return counts / counts.sum()


def conditional_ranks(x: Tensor, known: Tensor, law: GaussianMixture) -> Tensor:
    """F(x_i | y) of samples x (B, d) for the u unknown coordinates i, where y are their known ones: (B, u), float64."""
    return torch.cat([ranks for ranks, _, _, _ in _parts(x, x, known, law)])


def _parts(x: Tensor, truth: Tensor, known: Tensor, law: GaussianMixture):  # type: ignore[no-untyped-def]
    """Yield F(x | y) (B, u), the exact mean (B, u), variance (B, u) and weights of the components (B, K), in parts."""
    unknown = ~known
    at_once = max(1, _CHUNK // (len(law.weights) * int(unknown.sum())))
    for rows in torch.arange(len(x)).split(at_once):
        centres, cov, log_weights = law._condition(truth[rows].double(), known)
        weights = torch.softmax(log_weights, 1)
        variances = cov.diagonal(dim1=-2, dim2=-1)  # (K, u)
        below = torch.special.ndtr((x[rows].double()[:, None, unknown] - centres) / variances.sqrt())
        mean = torch.einsum("bk,bku->bu", weights, centres)
        second = torch.einsum("bk,bku->bu", weights, centres.square() + variances)
        yield torch.einsum("bk,bku->bu", weights, below), mean, second - mean.square(), weights


def exact_calibration(
    x: Tensor, truth: Tensor, known: Tensor, law: GaussianMixture, fills: int = 1
) -> dict[str, float]:
    """What the exact conditional law says about samples.

    Args:
        x: Samples (B, d) of a method given the known coordinates of ``truth``.
        truth: Exact samples (B, d), of which ``fills`` in a row are equal.
        known: Boolean (d,), True where known.
        law: A :class:`lanpaint_toys.GaussianMixture`.
        fills: Samples for each observation.

    Returns:
        Name → metric.

        - ``pit``: divergence of the distribution of F(x_i | y) in 20 equal parts from uniform, in nats, over all
          unknown coordinates i. Its mean for n exact independent values is 19/(2 n).
        - ``mass50``, ``mass90``: share of samples inside of the exact central 50 % and 90 % interval.
        - ``width``: mean squared distance of the samples from the exact mean, over that of exact samples; 1 if exact.
        - ``wrong_mode``: for at most 32 components, half of the sum of |share of samples − exact share| over
          components, where a sample belongs to the component nearest in Mahalanobis distance. So it is the share of
          samples that would have to change their mode.
        - ``mmse_gap``: with several fills, squared distance of their mean from the exact mean, without what K fills
          have by chance, over the exact variance; 0 if exact.
    """
    unknown = ~known
    found = zip(*_parts(x, truth, known, law), strict=True)
    ranks, means, variances, weights = (torch.cat(part) for part in found)
    figures = {"pit": rank_kl(ranks)}
    for percent in (50, 90):
        figures[f"mass{percent}"] = float(((ranks - 0.5).abs() <= percent / 200).double().mean())
    asked = x.double()[:, unknown]
    figures["width"] = float((asked - means).square().sum() / variances.sum())
    if fills > 1:
        groups = asked.unflatten(0, (-1, fills))
        off = (groups.mean(1) - means[::fills]).square() - groups.var(1) / fills
        figures["mmse_gap"] = float(off.sum() / variances[::fills].sum())
    if 1 < len(law.weights) <= 32:
        own = torch.zeros(len(law.weights), dtype=torch.float64)
        for part in x.double().split(2_000):
            own += torch.bincount(law.mahalanobis(part).argmin(1), minlength=len(own)).double()
        figures["wrong_mode"] = float((own - weights.sum(0)).abs().sum() / (2 * len(x)))
    return figures
