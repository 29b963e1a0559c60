"""Metrics of completed sequences: whether they run on smoothly at the joins, and whether they differ as they should.

A completion that copies the truth has the value 1, and so has, up to sampling error, an exact sampler: it draws from
the law that the truth was drawn from. More is a jump that the data do not have; less is a sequence that is too smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def join_ratio(x: Tensor, truth: Tensor, known: Tensor, fills: int = 1) -> tuple[float, float]:
    """Jump from the last known step into the gap, and out of it: √(Σ jump²/Σ true jump²), and its standard error.

    Args:
        x: Completed sequences (B, C, T); ``fills`` in a row belong to one truth.
        truth: The true sequences, shape of x.
        known: Boolean (C, T), True where known.
        fills: Completions of each sequence.

    Returns:
        The ratio, and its standard error by leaving out one truth at a time; NaN where nothing joins in time, because
        whole channels are missing.
    """
    joins = known[:, 1:] != known[:, :-1]
    return _ratio(x.diff(dim=-1), truth.diff(dim=-1), joins, fills)


def bend_ratio(x: Tensor, truth: Tensor, known: Tensor, fills: int = 1) -> tuple[float, float]:
    """As :func:`join_ratio`, of second differences that reach over a join: of the bend, not the jump."""
    joins = (known[:, 2:] != known[:, 1:-1]) | (known[:, 1:-1] != known[:, :-2])
    return _ratio(x.diff(dim=-1, n=2), truth.diff(dim=-1, n=2), joins, fills)


def diversity_ratio(x: Tensor, truth: Tensor, fills: int = 1) -> tuple[float, float]:
    """Root mean square distance between two sequences of the set, over that of the true ones, and its standard error.

    Args:
        x: Features of the completions (B, F); ``fills`` in a row belong to one truth. Pairs of one truth are left out.
        truth: Features of the true sequences, shape of x.
        fills: Completions of each sequence.
    """
    one, other = (some.double().unflatten(0, (-1, fills)) for some in (x, truth))

    def spread(some: Tensor) -> Tensor:  # twice the variance, between truths
        mean, count = some.mean(1), len(some)
        total = some.square().sum(-1).mean(1).sum()
        cross = mean.sum(0).square().sum() - mean.square().sum()
        return 2 * total / count - 2 * cross / (count * (count - 1))

    return _jackknifed(len(one), lambda kept: float((spread(one[kept]) / spread(other[kept])).sqrt()))


def _ratio(x: Tensor, truth: Tensor, where: Tensor, fills: int) -> tuple[float, float]:
    if not bool(where.any()):
        return math.nan, math.nan
    made, true = (some.double()[:, where].square().sum(1).unflatten(0, (-1, fills)).sum(1) for some in (x, truth))
    return _jackknifed(len(made), lambda kept: float((made[kept].sum() / true[kept].sum()).sqrt()))


def _jackknifed(count: int, figure: Callable[[Tensor], float]) -> tuple[float, float]:
    """A figure of ``count`` independent truths, and its standard error (Efron and Tibshirani, 1993, Eq. 11.5)."""
    everyone = torch.ones(count, dtype=torch.bool)
    without = []
    for one in range(count):
        kept = everyone.clone()
        kept[one] = False
        without.append(figure(kept))
    left = torch.tensor(without, dtype=torch.float64)
    return figure(everyone), float(((count - 1) / count * (left - left.mean()).square().sum()).sqrt())
