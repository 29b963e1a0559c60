"""FSIM, the feature similarity of two pictures (Zhang, Zhang, Mou & Zhang, 2011, IEEE Trans. Image Process. 20:2378).

A point of a picture matters as far as its Fourier components agree in phase there. Two pictures are compared by this
phase congruency P and by their gradients G, and each point counts by the larger of its two P (Eq. 6 to 9):

    FSIM = Σ S_P S_G P_m / Σ P_m        S_P = (2 P₁ P₂ + T₁)/(P₁² + P₂² + T₁), S_G alike with T₂, P_m = max(P₁, P₂)

P is Kovesi's, from log-Gabor filters (Eq. 1 to 4), above the noise that the finest filters show. It has the settings of
the authors' program, which the paper does not print in full: four scales from 6 pixels on, four orientations.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SMALLEST = 48
"""Pixels of the shorter side below which there is no FSIM: the wavelength of the coarsest filter."""
_T1, _T2 = 0.85, 160.0  # for brightness from 0 to 255
_SCALES, _ORIENTATIONS = 4, 4
_WAVELENGTH, _FACTOR = 6, 2  # pixels of the finest filter, and ratio of neighbours
_SIGMA_ON_F, _THETA_ON_SIGMA = 0.55, 1.2  # widths of a filter, along the frequency and around
_CUTOFF, _SHARPNESS = 0.45, 15  # of the low-pass filter that leaves the corners of the spectrum out
_DEVIATIONS, _ENERGY_SHARE = 2.0, 1.7  # the threshold is that many deviations above the noise, divided
_SIDE = 256  # pictures are brought to about this side


def feature_similarity(x: Tensor, truth: Tensor) -> Tensor:
    """FSIM of the brightness of pictures, from 0 to 1; 1 for equal ones.

    Args:
        x: Pictures (B, C, H, W) in [−1, 1], C = 1 or 3; values outside are clamped. The shorter side has
            :data:`SMALLEST` pixels or more.
        truth: Pictures of the shape of x.

    Returns:
        (B,), float64.

    Raises:
        ValueError: For pictures of different shapes, of another number of channels, or too small ones.
    """
    if x.shape != truth.shape or x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"FSIM takes two tensors (B, 1 or 3, H, W) of sides of at least {SMALLEST} pixels, got {tuple(x.shape)} "
            f"and {tuple(truth.shape)}"
        )
    first, second = _brightness(x), _brightness(truth)
    gradients = _similarity(_gradient(first), _gradient(second), _T2)
    phases = phase_congruency(first), phase_congruency(second)
    weight = torch.maximum(*phases)
    map_ = gradients * _similarity(*phases, _T1) * weight
    total = weight.sum((-2, -1))
    return torch.where(total > 0, map_.sum((-2, -1)) / total, gradients.mean((-2, -1)))  # without features: flat


def _brightness(images: Tensor) -> Tensor:
    """Brightness from 0 to 255, (B, H, W), averaged over blocks so that the shorter side is about 256 pixels."""
    images = (images.detach().double().clamp(-1, 1) + 1) * 127.5
    weights = (0.299, 0.587, 0.114) if images.shape[1] == 3 else (1.0,)  # Y of YIQ
    grey = (images * images.new_tensor(weights).reshape(-1, 1, 1)).sum(1, keepdim=True)
    block = max(1, round(min(grey.shape[-2:]) / _SIDE))
    before = (block - 1) // 2
    padded = F.pad(grey, (before, block - 1 - before) * 2)
    return F.avg_pool2d(padded, block, stride=1)[:, 0, ::block, ::block]


def _gradient(grey: Tensor) -> Tensor:
    """Size of the gradient by Scharr's operator (Table I), with zeros outside of the picture."""
    column = grey.new_tensor([3.0, 10.0, 3.0]) / 16
    across = column[:, None] * grey.new_tensor([1.0, 0.0, -1.0])
    kernels = torch.stack([across, across.T])[:, None]
    return F.conv2d(grey[:, None], kernels, padding=1).square().sum(1).sqrt()


def _similarity(first: Tensor, second: Tensor, constant: float) -> Tensor:
    return (2 * first * second + constant) / (first.square() + second.square() + constant)


@functools.lru_cache(maxsize=2)
def _filters(height: int, width: int) -> Tensor:
    """Log-Gabor filters (orientations, scales, height, width) in the order of an FFT's frequencies."""
    down, along = (_frequencies(side) for side in (height, width))
    radius, angle = torch.hypot(down[:, None], along), torch.atan2(-down[:, None], along)
    radius[0, 0] = 1.0
    low = 1 / (1 + (radius / _CUTOFF) ** (2 * _SHARPNESS))
    centres = [1 / (_WAVELENGTH * _FACTOR**scale) for scale in range(_SCALES)]
    radial = torch.stack([torch.exp(-((radius / f).log() ** 2) / (2 * math.log(_SIGMA_ON_F) ** 2)) for f in centres])
    radial = radial * low
    radial[:, 0, 0] = 0.0
    width_ = math.pi / _ORIENTATIONS / _THETA_ON_SIGMA
    turns = [angle - number * math.pi / _ORIENTATIONS for number in range(_ORIENTATIONS)]
    spread = [torch.exp(-(torch.atan2(turn.sin(), turn.cos()) ** 2) / (2 * width_**2)) for turn in turns]
    return torch.stack(spread)[:, None] * radial


def _frequencies(side: int) -> Tensor:
    """Cycles per pixel of the places of an FFT; of an odd side they reach 1/2 at both ends."""
    steps = torch.fft.fftfreq(side, dtype=torch.float64) * side
    return steps / (side - 1 if side % 2 else side)


def phase_congruency(grey: Tensor) -> Tensor:
    """Kovesi's phase congruency of brightness (B, H, W), from 0 to nearly 1."""
    filters = _filters(*grey.shape[-2:]).to(grey.device)
    energy, amplitude = torch.zeros_like(grey), torch.zeros_like(grey)
    spectrum = torch.fft.fft2(grey)[:, None]
    for filter_ in filters:
        response = torch.fft.ifft2(spectrum * filter_)  # (B, scales, H, W), even part and odd part
        total = response.sum(1)
        direction = total / (total.abs() + 1e-4)
        turned = response * direction.conj()[:, None]
        aligned = (turned.real - turned.imag.abs()).sum(1)
        energy += (aligned - _noise_threshold(response[:, 0], filter_)).clamp(min=0)
        amplitude += response.abs().sum(1)
    return energy / amplitude.clamp(min=1e-12)


def _noise_threshold(finest: Tensor, filter_: Tensor) -> Tensor:
    """Energy that noise alone has, (B, 1, 1), of the power of the finest filter's response (B, H, W).

    The response to noise has a Rayleigh distribution, so its median gives its power. The power of noise in the sum over
    scales follows from the filters.
    """
    size = filter_[0].numel()
    power = finest.abs().square().flatten(1).median(1).values / math.log(2) / filter_[0].square().sum()
    in_space = torch.fft.ifft2(filter_).real * math.sqrt(size)
    squares = in_space.square().sum()
    products = (in_space.sum(0).square().sum() - squares) / 2
    tau = (power * (squares + 2 * products)).sqrt()
    above = math.sqrt(math.pi / 2) + _DEVIATIONS * math.sqrt(2 - math.pi / 2)
    return (tau * above / _ENERGY_SHARE)[:, None, None]
