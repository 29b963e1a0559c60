"""Training of a small autoencoder with Lightning. A denoising network then learns its latents.

The objective is, with ``z ~ N(mu(x), s(x)^2)`` the latents and ``x' = D(z)`` the reconstruction,

    L = |x' - x| + w_g |grad x' - grad x| + w_KL KL( N(mu, s^2) || N(0, 1) ),

where each term is a mean over its values, and `grad` is the difference of neighbouring pixels. The term in `grad` keeps
edges sharp, which matters most in such small pictures. The weak KL term keeps the latents near zero mean and unit
variance without blurring the reconstruction (Rombach et al., 2022, https://arxiv.org/abs/2112.10752, section G).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from lanpaint_toys.denoising import Reproducible
from lanpaint_toys.evaluation import reconstruction_error

GRADIENT_WEIGHT = 1.0
KL_WEIGHT = 1e-4


def reconstruction_loss(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Return the mean absolute error of the pixels, plus that of the differences of neighbouring pixels.

    Args:
        reconstruction: ``(N, C, H, W)``.
        images: ``(N, C, H, W)``.
    """
    error = reconstruction - images
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + GRADIENT_WEIGHT * gradient


class Autoencoding(Reproducible):
    """An autoencoder that learns to reconstruct images.

    Args:
        autoencoder: The network.
        settings: Those of `lanpaint_toys.denoising.Reproducible`.

    Attributes:
        latent_square: Running mean square of the latents. Their scaling factor is 1/sqrt of it.
    """

    latent_square: Tensor

    def __init__(self, autoencoder: AutoencoderKL, **settings: Any) -> None:
        super().__init__(**settings)
        self.autoencoder = autoencoder
        self.register_buffer("latent_square", torch.ones(()))

    def training_step(self, _: list[Tensor]) -> Tensor:
        """Return the loss of the batch that belongs to this step."""
        images = self.begin_step().to(self.device)
        posterior = self.autoencoder.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape).to(self.device)
        latents = posterior.mean + posterior.std * noise
        self.latent_square.lerp_(latents.detach().float().square().mean(), 0.01)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = reconstruction_loss(self.autoencoder.decode(latents).sample, images) + KL_WEIGHT * divergence
        self.log("train_loss", loss)
        self.log("divergence", divergence)
        return loss

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the root mean square error of the reconstructed validation images, in units of pixel values."""
        (images,) = batch
        self.log("validation_error", reconstruction_error(self.autoencoder, images)[0], batch_size=len(images))

    @torch.no_grad()
    def pictures(self, count: int) -> Tensor:
        """Return validation images and, below each row of them, their reconstructions, ``(count, C, H, W)`` in all."""
        images = self.trainer.datamodule.validation[: count // 2].to(self.device)  # type: ignore[attr-defined]
        pairs = zip(images.split(8), self.autoencoder(images).sample.split(8), strict=True)
        return torch.cat([rows for pair in pairs for rows in pair])
