"""A smooth function of time as a table of rows, from which its values are interpolated.

Row n is the function at the time (n − 2)/4. The value at a time t is the polynomial of degree 5 through the six rows
around it, a weighted sum of them (Lagrange):

    f(t) ≈ Σ_j w_j(4t − ⌊4t⌋) f((⌊4t⌋ + j)/4),     j = −2, …, 3

The error is at most 225/64/6! · 4⁻⁶ · max |f⁽⁶⁾| = 1.2e-6 max |f⁽⁶⁾|. An embedding of times has frequencies of at most
1, so six rows span five quarters of a radian of the fastest.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LAST = 1000.0
"""The last time of a table. The first is 0."""

_FINENESS = 4  # rows in a unit of time, a power of two: 4t is exact
_FIRST, _POINTS = -2, 6  # the rows around a time, counted from the row before it


@functools.cache
def grid(device: torch.device) -> Tensor:
    """The times of the rows, shape (R,). A few lie beyond the ends."""
    rows = torch.arange(_FIRST, round(_FINENESS * LAST) + _FIRST + _POINTS, device=device, dtype=torch.float32)
    return rows / _FINENESS


@functools.cache
def _lagrange() -> Tensor:
    """The matrix that turns the powers of a place between two rows into the weights of the rows."""
    places = torch.arange(_FIRST, _FIRST + _POINTS, dtype=torch.float64)
    return torch.linalg.inv(torch.linalg.vander(places, N=_POINTS))


def covers(times: Tensor) -> bool:
    """Whether all times lie between the ends of a table."""
    low, high = times.aminmax()
    return bool((low >= 0) & (high <= LAST))


def neighbours(times: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the rows around each of N times in [0, LAST], and their weights; both (N, 6)."""
    places = _FINENESS * times.flatten().double()
    before = places.floor()
    weights = torch.linalg.vander(places - before, N=_POINTS) @ _lagrange().to(times.device)
    numbers = before.long()[:, None] + torch.arange(_POINTS, device=times.device)
    return numbers, weights.float()


def interpolated(rows: Tensor, numbers: Tensor, weights: Tensor) -> Tensor:
    """The values (N, C) at N times, from a table (R, C) and their neighbours."""
    return F.embedding_bag(numbers, rows, mode="sum", per_sample_weights=weights)
