"""Calibration: whether the spread of a method's samples is what it should be.

With K fills for one observation, the truth is one more exact sample. So if the method is exact, the rank of the truth
among the K fills is uniform from 0 to K in every coordinate (Talts et al., 2018, arXiv:1804.06788), and the squared
error of the fills' mean is (1 + 1/K) times their variance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def calibration(x: Tensor, truth: Tensor, known: Tensor, fills: int) -> dict[str, float]:
    """What the truth says about the spread of the fills, over all unknown entries. Empty for fewer than two fills.

    Args:
        x: Samples (M K, …), K in a row for each observation.
        truth: The truth of each sample, shape of x.
        known: Boolean, broadcastable to x; ignored entries.
        fills: K.

    Returns:
        Name → metric.

        - ``cover50``, ``cover90``: how often the truth lies inside of the fills' central interval of 50 % and 90 %. An
          interval consists of whole ranks, so it is exact for K = 19, and else the nearest that there is.
        - ``rank``: distance of the truth's ranks from uniform, half of the sum of absolute differences, from 0 to 1.
        - ``spread``: √((1 + 1/K) · variance of the fills/squared error of their mean), 1 if calibrated, less if the
          fills differ too little.
        - ``psnr_mean``: PSNR of the mean of the fills, in dB, of pictures in [−1, 1].
    """
    if fills < 2:
        return {}
    share = rank_shares(x, truth, known, fills)
    fill, true, unknown = _unknown(x, truth, known, fills)
    figures = {f"cover{percent}": _central(share, percent / 100) for percent in (50, 90)}
    figures["rank"] = float((share - 1 / (fills + 1)).abs().sum() / 2)
    error = (fill.mean(1) - true).square()
    variance = fill.var(1)
    figures["spread"] = math.sqrt((1 + 1 / fills) * float(variance.mean()) / max(float(error.mean()), 1e-300))
    if x.ndim == 4:
        clamped = x.double().clamp(-1, 1).unflatten(0, (-1, fills)).mean(1)[:, unknown]
        square = (clamped - true).square().mean(1).clamp(min=1e-10)
        figures["psnr_mean"] = float((10 * torch.log10(4 / square)).mean())
    return figures


def rank_shares(x: Tensor, truth: Tensor, known: Tensor, fills: int) -> Tensor:
    """How often the truth has each rank among the K fills, over all unknown entries: K + 1 shares, float64.

    They are equal if the fills are calibrated, highest at the ends if the fills differ too little, and in the middle if
    they differ too much. A tie counts half on either side, so that copies of the truth are not taken for a spread.
    The arguments are those of :func:`calibration`.
    """
    fill, true, _ = _unknown(x, truth, known, fills)
    rank = (fill < true[:, None]).sum(1)
    ties = (fill == true[:, None]).sum(1)
    counts = torch.zeros(fills + 1, dtype=torch.float64)
    for low, part in ((rank, 0.5), (rank + ties, 0.5)):
        counts += part * torch.bincount(low.flatten(), minlength=fills + 1).double()
    return counts / counts.sum()


def _unknown(x: Tensor, truth: Tensor, known: Tensor, fills: int) -> tuple[Tensor, Tensor, Tensor]:
    """The n unknown entries of the fills (M, K, n) and of the truth (M, n), in float64; and which they are."""
    unknown = (~known).expand(x.shape[1:]) if known.ndim < x.ndim else (~known)[0].expand(x.shape[1:])
    return x.double().unflatten(0, (-1, fills))[:, :, unknown], truth[::fills].double()[:, unknown], unknown


def _central(share: Tensor, level: float) -> float:
    """The share in the central ranks whose number is nearest to ``level`` of all."""
    out = round((1 - level) * len(share) / 2)
    return float(share[out : len(share) - out].sum())
