"""Evaluate a denoising network: its loss with a standard error, its samples, and their distance from the data.

A network is trained to predict one **target**, which the settings of its scheduler name. With
``x_t = alpha_t x_0 + sigma_t eps``:

    epsilon        eps
    v_prediction   alpha_t eps - sigma_t x_0             (Salimans and Ho, 2022, https://arxiv.org/abs/2202.00512)
    rectified flow eps - x_0, where alpha = 1 - s, sigma = s    (Liu et al., 2022, https://arxiv.org/abs/2209.03003)

The network takes the scheduler's timestep as its time; for a flow, ``1000 s``.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d import UNet2DModel


def spread_positions(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` numbers in [0, 1], one from each of `count` equal parts.

    The number in each part is uniform. So the mean of a function over these numbers is unbiased for its mean over
    [0, 1]. For the loss, it has a smaller variance than the mean over independent uniform numbers, because the loss
    differs far more between parts than within a part.

    Returns:
        Numbers ``(count,)``, float32, in rising order.
    """
    return (torch.arange(count) + torch.rand(count, generator=generator)) / count


def spread_timesteps(count: int, timesteps: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` timesteps, one from each of `count` equal parts of ``0 .. timesteps - 1``; see `spread_positions`.

    Returns:
        Timesteps ``(count,)``, int64, in rising order.
    """
    # float32 may round the last position up to 1
    return (spread_positions(count, generator) * timesteps).long().clamp(max=timesteps - 1)


def spread_times(count: int, scheduler: Any, generator: torch.Generator | None = None) -> Tensor:
    """Draw times to train or to evaluate a network at, one from each of `count` equal parts.

    Returns:
        ``(count,)`` in rising order: int64 timesteps, or for a flow float32 times ``1000 s``.
    """
    timesteps = scheduler.config["num_train_timesteps"]
    if is_flow(scheduler):
        return spread_positions(count, generator) * timesteps
    return spread_timesteps(count, timesteps, generator)


def is_flow(scheduler: Any) -> bool:
    """Return whether a diffusers scheduler belongs to a rectified flow."""
    return type(scheduler).__name__.startswith("FlowMatch")


def noisy_and_target(scheduler: Any, clean: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the network's input at the given times, and the target that its output should equal.

    Args:
        scheduler: A diffusers scheduler: it defines the noise levels and names the target.
        clean: Images ``(N, C, H, W)``.
        noise: Standard normal, shape of `clean`.
        times: ``(N,)``, as `spread_times` draws them; of a flow also maps ``(N, 1, H, W)``.

    Returns:
        The noisy images and the targets, both of the shape of `clean`.

    Raises:
        ValueError: If the scheduler's target is none of those above.
    """
    if is_flow(scheduler):
        s = (times / scheduler.config["num_train_timesteps"]).to(clean.dtype)
        s = s if s.ndim == clean.ndim else s.view(-1, 1, 1, 1)
        return (1 - s) * clean + s * noise, noise - clean
    noisy = scheduler.add_noise(clean, noise, times)
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        return noisy, noise
    if kind == "v_prediction":
        return noisy, scheduler.get_velocity(clean, noise, times)
    raise ValueError(f"prediction_type is {kind!r}, expected 'epsilon' or 'v_prediction'")


def image_losses(unet: UNet2DModel, scheduler: Any, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Return the mean squared error of the network's output for each image.

    Args:
        unet: The network.
        scheduler: Defines the noise levels and the target.
        clean: Images ``(N, C, H, W)``.
        noise: Standard normal, shape of `clean`.
        times: ``(N,)``, as `spread_times` draws them.

    Returns:
        Losses ``(N,)``.
    """
    noisy, target = noisy_and_target(scheduler, clean, noise, times)
    return (unet(noisy, times).sample - target).square().flatten(1).mean(1)


@torch.no_grad()
def denoising_loss(
    unet: UNet2DModel, scheduler: Any, images: Tensor, *, draws: int = 50, seed: int = 0
) -> tuple[float, float]:
    """Return the denoising loss over uniform times and its standard error.

    Args:
        unet: The network, in evaluation mode.
        scheduler: Defines the noise levels and the target.
        images: ``(N, C, H, W)`` with ``N >= 2``.
        draws: Number of times for each image, each with its noise.
        seed: Seed of the times and the noise.

    Returns:
        The mean over images, and the standard error of this mean.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for image in images:
        times = spread_times(draws, scheduler, generator).to(images.device)
        noise = torch.randn(draws, *image.shape, generator=generator).to(images.device)
        losses.append(image_losses(unet, scheduler, image.expand_as(noise), noise, times).mean())
    each = torch.stack(losses)
    return each.mean().item(), (each.std() / len(each) ** 0.5).item()


@torch.no_grad()
def sample(unet: UNet2DModel, scheduler: Any, count: int, *, steps: int = 30, seed: int = 0) -> Tensor:
    """Return samples of the network, made by DDIM, or by Euler's method for a flow. Both are deterministic.

    Args:
        unet: The network, in evaluation mode.
        scheduler: The scheduler that the network was trained with. It is not changed.
        count: Number of samples.
        steps: Evaluations of the network.
        seed: Seed of the noise at the start, which is drawn on the CPU.

    Returns:
        ``(count, C, S, S)``, or ``(count, C, S)`` of a network of sequences, on the network's device.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    solver: Any = deepcopy(scheduler) if is_flow(scheduler) else DDIMScheduler.from_config(scheduler.config)
    solver.set_timesteps(steps)
    size, axes = unet.config["sample_size"], 1 if type(unet).__name__ == "UNet1DModel" else 2
    shape = (count, unet.config["in_channels"], *(size,) * axes)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(unet.device)
    for time in solver.timesteps:
        answer = unet(x, time.to(unet.device).expand(count)).sample.float()
        x = solver.step(answer, time, x).prev_sample
    return x


@torch.no_grad()
def reconstruction_error(autoencoder: AutoencoderKL, images: Tensor) -> tuple[float, float]:
    """Return the root mean square error of reconstructions from the latents' means, and its standard error.

    Args:
        autoencoder: The network, in evaluation mode.
        images: ``(N, C, H, W)`` with ``N >= 2``.

    Returns:
        The mean over images of each image's error, and the standard error of this mean, in units of pixel values.
    """
    errors = [
        (autoencoder(part).sample.clamp(-1, 1) - part).square().flatten(1).mean(1).sqrt() for part in images.split(16)
    ]
    each = torch.cat(errors)
    return each.mean().item(), (each.std() / len(each) ** 0.5).item()


def nearest_distances(images: Tensor, data: Tensor) -> Tensor:
    """Return the root mean squared difference of each image to its nearest image in `data`.

    Args:
        images: ``(N, C, H, W)``.
        data: ``(M, C, H, W)`` with ``M >= 1``.

    Returns:
        ``(N,)``, in units of pixel values.
    """
    # Without matrix products: with their rounding errors the distance of an image to itself would not be 0.
    distances = torch.cdist(images.flatten(1), data.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.min(1).values / images[0].numel() ** 0.5


def picture_grid(images: Tensor, columns: int = 8, gap: int = 2, zoom: int = 3) -> Any:
    """Return images side by side as one `PIL.Image.Image`.

    Args:
        images: ``(N, 3, H, W)`` or ``(N, 1, H, W)``, in [-1, 1]; values outside are clamped.
        columns: Images in a row.
        gap: Grey pixels between images.
        zoom: Side of the square that shows one pixel.
    """
    from PIL import Image

    count, _, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((3, rows * (height + gap) + gap, columns * (width + gap) + gap), 200, dtype=torch.uint8)
    pixels = ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().expand(-1, 3, -1, -1)
    for number, picture in enumerate(pixels):
        row, column = divmod(number, columns)
        top, left = row * (height + gap) + gap, column * (width + gap) + gap
        canvas[:, top : top + height, left : left + width] = picture
    grid = Image.fromarray(canvas.permute(1, 2, 0).numpy())
    return grid.resize((grid.width * zoom, grid.height * zoom), Image.Resampling.NEAREST)
