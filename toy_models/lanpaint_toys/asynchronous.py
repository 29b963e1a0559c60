"""Training of a network that takes a time for each pixel (AsyncPatch): the loss of each pixel at its own time.

The objective is Eq. 2 of the paper for a rectified flow x_t = (1 − t) x_0 + t eps with a map of times t,

    L = E_{t, x_0, eps}  mean_i  λ(t_i) || −eps_i/t_i − s_θ(x_t; t)_i ||²

An error e of the predicted velocity is an error (1 − t) e/t of the score. So with λ = t²/(1 − t)² the loss is e².
`lanpaint_toys.times.pixel_weights` has the weightings, as factors of e².
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lanpaint_toys.denoising import Denoising
from lanpaint_toys.evaluation import is_flow, noisy_and_target, spread_positions
from lanpaint_toys.times import Times, pixel_weights


def pixel_losses(unet: Any, scheduler: Any, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Return the squared error of the velocity of each pixel, its mean over channels, ``(N, 1, H, W)``.

    Args:
        unet: A network that takes maps of times.
        scheduler: The scheduler of a rectified flow.
        clean: Images ``(N, C, H, W)``.
        noise: Standard normal, shape of `clean`.
        times: Maps ``(N, 1, H, W)`` of times from 0 (clean) to 1 (noise).

    Raises:
        ValueError: For a scheduler that is not of a rectified flow, and times outside of [0, 1] or of another shape.
    """
    size = (len(clean), 1, *clean.shape[2:])
    if times.shape != size or not 0 <= float(times.min()) <= float(times.max()) <= 1:
        raise ValueError(
            f"times must be a map of shape {size} with values from 0 to 1, got shape {tuple(times.shape)} with values "
            f"from {float(times.min()):g} to {float(times.max()):g}"
        )
    if not is_flow(scheduler):
        raise ValueError(f"maps of times need the scheduler of a rectified flow, got {type(scheduler).__name__}")
    ticks = scheduler.config["num_train_timesteps"] * times
    noisy, target = noisy_and_target(scheduler, clean, noise, ticks)
    return (unet(noisy, ticks).sample - target).square().mean(1, keepdim=True)


class AsyncDenoising(Denoising):
    """A network that learns to denoise images in which every pixel has its own noise level.

    Args:
        times: How the maps of times are drawn.
        weighting: One of `lanpaint_toys.times.WEIGHTINGS`.
        arguments: Those of `lanpaint_toys.denoising.Denoising`.
    """

    def __init__(self, *arguments: Any, times: Times, weighting: str = "velocity", **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.times, self.weighting = times, weighting
        pixel_weights(torch.ones(1), weighting)  # raises for an unknown one now, not in the first step

    def training_step(self, _: list[Tensor]) -> Tensor:
        """Return the loss of the batch that belongs to this step."""
        clean = self.encode(self.begin_step().to(self.device))
        size = (clean.shape[-2], clean.shape[-1])
        times, weights = (part.to(self.device) for part in self.times.draw_weighted(self.batch_size, size))
        noise = torch.randn(clean.shape).to(self.device)
        losses = pixel_losses(self.unet, self.scheduler, clean, noise, times)
        loss = (weights * pixel_weights(times, self.weighting) * losses).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log two losses of the validation images: at one time for each picture, and in holes of clean pictures."""
        super().validation_step(batch)
        (images,) = batch
        loss, standard_error = hole_loss(self.unet, self.scheduler, self.encode(images), draws=self.validation_draws)
        self.log("validation_hole_loss", loss, batch_size=len(images))
        self.log("validation_hole_standard_error", standard_error, batch_size=len(images))


@torch.no_grad()
def hole_loss(unet: Any, scheduler: Any, images: Tensor, *, draws: int = 50, seed: int = 0) -> tuple[float, float]:
    """Return the loss in the holes of clean pictures, over uniform times, and its standard error.

    The holes are the left, right, upper and lower half and the middle quarter, in turn. A hole has one time, and the
    pixels around it have the time 0: what inpainting by a schedule asks of a network (Eq. 4).

    Args:
        unet: A network that takes maps of times, in evaluation mode.
        scheduler: The scheduler of a rectified flow.
        images: ``(N, C, H, W)`` with ``N >= 2``.
        draws: Number of times for each image, each with its noise.
        seed: Seed of the times and the noise.

    Returns:
        The mean over images, and the standard error of this mean.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = holes((images.shape[-2], images.shape[-1]))
    each = []
    for number, image in enumerate(images):
        hole = shapes[number % len(shapes)].to(images.device)
        times = spread_positions(draws, generator).to(images.device).view(-1, 1, 1, 1) * hole
        noise = torch.randn(draws, *image.shape, generator=generator).to(images.device)
        losses = pixel_losses(unet, scheduler, image.expand_as(noise), noise, times)
        each.append((losses * hole).sum() / (draws * hole.sum()))
    losses = torch.stack(each)
    return losses.mean().item(), (losses.std() / len(losses) ** 0.5).item()


def holes(size: tuple[int, int]) -> list[Tensor]:
    """Return five holes, each ``(1, H, W)``, 1 in the hole: the four halves of a picture, and its middle quarter."""
    height, width = size
    shapes = [torch.zeros(1, height, width) for _ in range(5)]
    shapes[0][:, :, : width // 2] = 1
    shapes[1][:, :, width // 2 :] = 1
    shapes[2][:, : height // 2] = 1
    shapes[3][:, height // 2 :] = 1
    shapes[4][:, height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return shapes
