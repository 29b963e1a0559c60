"""The denoising loss of a noise-predicting network, with its standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler


def spread_timesteps(count: int, timesteps: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` timesteps, one from each of `count` equal parts of ``0 .. timesteps - 1``.

    Each part is sampled uniformly, so a mean over them is an unbiased mean over uniform timesteps. Its variance is
    smaller than that of independent draws, because the loss differs far more between timesteps than within a part.

    Returns:
        Timesteps ``(count,)``, int64, in rising order.
    """
    position = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (position * timesteps).long().clamp(max=timesteps - 1)  # float32 may round the last position up to 1


def image_losses(
    unet: UNet2DModel, scheduler: DDPMScheduler, clean: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Return each image's mean squared error of the predicted noise.

    Args:
        unet: The network.
        scheduler: Defines the noise levels.
        clean: Images ``(N, C, H, W)``.
        noise: Standard normal, shape of `clean`.
        timesteps: ``(N,)``, int64.

    Returns:
        Losses ``(N,)``.
    """
    noisy = scheduler.add_noise(clean, noise, timesteps)  # type: ignore[arg-type]  # wants IntTensor, takes int64
    return (unet(noisy, timesteps).sample - noise).square().flatten(1).mean(1)


@torch.no_grad()
def denoising_loss(
    unet: UNet2DModel, scheduler: DDPMScheduler, images: Tensor, *, draws: int = 50, seed: int = 0
) -> tuple[float, float]:
    """Return the denoising loss over uniform timesteps and its standard error.

    Args:
        unet: The network, in evaluation mode.
        scheduler: Defines the noise levels.
        images: ``(N, C, H, W)`` with ``N >= 2``.
        draws: Timesteps, and as many noises, for each image.
        seed: Names the timesteps and the noises.

    Returns:
        The mean over images, and the standard error of that mean over images drawn as these were.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for image in images:
        timesteps = spread_timesteps(draws, scheduler.config["num_train_timesteps"], generator).to(images.device)
        noise = torch.randn(draws, *image.shape, generator=generator).to(images.device)
        losses.append(image_losses(unet, scheduler, image.expand_as(noise), noise, timesteps).mean())
    each = torch.stack(losses)
    return each.mean().item(), (each.std() / len(each) ** 0.5).item()
