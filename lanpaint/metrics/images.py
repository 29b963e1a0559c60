"""Metrics of inpainted images, most of them computed with torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lanpaint.images import hole_psnr
from lanpaint.metrics.fsim import SMALLEST as SMALLEST_OF_FSIM
from lanpaint.metrics.fsim import feature_similarity
from lanpaint.metrics.networks import SMALLEST, inception_network, lpips_network

KERNEL, SMALL_KERNEL, SMALL = 11, 5, 32
"""Side of SSIM's window in pixels: ``KERNEL``, or ``SMALL_KERNEL`` if the image's shorter side is below ``SMALL``."""
_AT_ONCE = 32


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def image_figures(x: Tensor, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
    """PSNR in dB and SSIM, on the unknown pixels (the hole) and on the whole image, MS-SSIM and FSIM; one per image.

    Args:
        x: Images (B, C, H, W) in [−1, 1]; values outside are clamped.
        truth: True images, of the shape of x.
        known: Boolean, broadcastable to x, with at least one unknown pixel per image.

    Returns:
        Name → values (B,). ``psnr`` and ``ssim`` are those of the hole, ``psnr_whole`` and ``ssim_whole`` those of the
        whole image, as is ``mse``. SSIM's Gaussian window has 11 pixels a side, or 5 if the shorter side is below 32.
        ``ssim`` is the mean of the SSIM map over the hole. ``ms_ssim`` has five scales, so it is present only if the
        shorter side has 176 pixels or more, and ``fsim`` if it has 48. ``psnr_whole`` is infinite for an image that
        equals the truth.

    Raises:
        ValueError: When x and truth do not have the same shape (B, C, H, W).
    """
    if x.shape != truth.shape or x.ndim != 4:
        raise ValueError(f"images must be two tensors (B, C, H, W), got {tuple(x.shape)} and {tuple(truth.shape)}")
    known = known.expand_as(x)
    parts = [_figures_of(*part) for part in zip(*(t.split(_AT_ONCE) for t in (x, truth, known)), strict=True)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _figures_of(x: Tensor, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        structural_similarity_index_measure,
    )

    unknown = ~known
    side = min(x.shape[-2:])
    window = KERNEL if side >= SMALL else SMALL_KERNEL
    options: dict[str, Any] = {"kernel_size": window, "sigma": 1.5 * window / KERNEL, "data_range": 1.0}
    bright, true_bright = ((images.detach().float().clamp(-1, 1) + 1) / 2 for images in (x, truth))
    whole, local = structural_similarity_index_measure(
        bright, true_bright, gaussian_kernel=True, reduction="none", return_full_image=True, **options
    )
    figures = {
        "psnr": hole_psnr(x, truth, known),
        "mse": (x.clamp(-1, 1) - truth).square().flatten(1).mean(1).to(truth.dtype),
        "psnr_whole": hole_psnr(x, truth, torch.zeros_like(known)),
        "ssim": (local * unknown).flatten(1).sum(1) / unknown.flatten(1).sum(1),
        "ssim_whole": whole.reshape(-1),
    }
    if side // 16 >= KERNEL:
        scales = multiscale_structural_similarity_index_measure(bright, true_bright, reduction="none", data_range=1.0)
        figures["ms_ssim"] = scales.reshape(-1)
    if side >= SMALLEST_OF_FSIM:
        similarity = feature_similarity(x.to(_device()), truth.to(_device()))
        figures["fsim"] = similarity.to(truth.device, truth.dtype)
    return figures


def seam_shift(x: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Shift of the mean colour of x from that of the truth, over the pixels of the hole that touch known ones.

    Args:
        x: Images (B, C, H, W) in [−1, 1]; values outside are clamped.
        truth: True images, of the shape of x.
        known: Boolean, (H, W) or broadcastable to x, with known and unknown pixels.

    Returns:
        The mean over the channels, as a share of the whole range of values, (B,). It is 0 where no pixel of the hole
        touches a known one.
    """
    near = known.expand(1, 1, *known.shape[-2:]).float() if known.ndim == 2 else known[:, :1].float()
    seam = (torch.nn.functional.max_pool2d(near, 3, 1, 1) > 0) & (near == 0)
    weights = seam.to(x) / seam.sum((-2, -1), keepdim=True).clamp(min=1).to(x)
    return ((x.clamp(-1, 1) - truth) * weights).sum((-2, -1)).abs().mean(1) / 2


def perceptual_figures(x: Tensor, truth: Tensor, with_fid: bool = True) -> tuple[dict[str, Tensor], str | None]:
    """LPIPS (AlexNet) of each image and FID of the two sets, if the weights of their networks are here.

    Args:
        x: Images (B, C, H, W) in [−1, 1], C = 1 or 3; values outside are clamped.
        truth: True images, of the shape of x.
        with_fid: Whether to compute FID, which takes by far the longer of the two.

    Returns:
        (``lpips`` (B,) and ``fid`` (), None); or ({}, a line of text that says what is missing). Images with a side
        below 32 pixels have neither, because AlexNet does not take them.
    """
    if min(x.shape[-2:]) < SMALLEST:
        return {}, None
    device = _device()
    try:
        lpips, inception = lpips_network(device), inception_network(device)
    except OSError as error:
        return {}, f"no LPIPS and FID: {error}; python -m lanpaint.metrics.networks fetches it"
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, truth = (images.detach().float().clamp(-1, 1).expand(-1, 3, -1, -1) for images in (x, truth))
    fid, distances = FrechetInceptionDistance(inception).to(device), []
    with torch.no_grad():
        for made, true in zip(x.split(_AT_ONCE), truth.split(_AT_ONCE), strict=True):
            made, true = made.to(device), true.to(device)
            distances.append(lpips(made, true))
            for images, real in ((true, True), (made, False)) if with_fid else ():
                fid.update((images + 1) / 2, real=real)
    figures = {"lpips": torch.cat(distances).cpu()}
    return figures | ({"fid": fid.compute().cpu()} if with_fid else {}), None
