"""Trained weights read back from a folder, and what they are worth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from toy_models.evaluation import denoising_loss, nearest_distances, reconstruction_error, sample
from toy_models.images import ImageSet
from toy_models.recipes import AutoencoderRecipe, Recipe, UserError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d import UNet2DModel

_CHUNK = 32  # pictures that go through an autoencoder together


@dataclass(frozen=True)
class Trained:
    """A denoising network, in float32 and evaluation mode, and what belongs to it.

    Attributes:
        unet: Called as ``unet(x, t).sample``.
        scheduler: A diffusers scheduler: the noise levels, and what the network predicts.
        autoencoder: Where the network works on latents.
    """

    unet: UNet2DModel
    scheduler: Any
    autoencoder: AutoencoderKL | None = None

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return what the network works on: the images ``(N, C, H, W)``, or their scaled latents."""
        if self.autoencoder is None:
            return images
        scale = self.autoencoder.config["scaling_factor"]
        return torch.cat([self.autoencoder.encode(part).latent_dist.mode() * scale for part in images.split(_CHUNK)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the images of what the network works on."""
        if self.autoencoder is None:
            return latents
        scale = self.autoencoder.config["scaling_factor"]
        return torch.cat([self.autoencoder.decode(part / scale).sample for part in latents.split(_CHUNK)])

    def sample(self, count: int, *, steps: int = 30, seed: int = 0) -> Tensor:
        """Return samples ``(count, C, H, W)``, clamped to [-1, 1]; see `toy_models.evaluation.sample`."""
        return self.decode(sample(self.unet, self.scheduler, count, steps=steps, seed=seed)).clamp(-1, 1)


def load_trained(folder: Path) -> Trained:
    """Read a pipeline's folder.

    Args:
        folder: In the layout of a diffusers pipeline of a `UNet2DModel`; an autoencoder lies in ``vqvae``.

    Raises:
        UserError: If it holds no such pipeline.
    """
    import diffusers
    from diffusers.models.unets.unet_2d import UNet2DModel

    for part in ("unet/config.json", "scheduler/scheduler_config.json"):
        if not (folder / part).is_file():
            raise UserError(f"{folder} is not the folder of a trained model: it has no {part}")
    with _told(folder):
        unet = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True, low_cpu_mem_usage=False)
        name = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
        scheduler = getattr(diffusers, name).from_pretrained(folder / "scheduler", local_files_only=True)
    autoencoder = load_autoencoder(folder / "vqvae") if (folder / "vqvae").is_dir() else None
    return Trained(unet.float().eval().requires_grad_(False), scheduler, autoencoder)


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """Read an autoencoder, in float32, frozen and in evaluation mode.

    Args:
        folder: Where diffusers saved it; or a latent pipeline's folder; or that of a finished or exported run.

    Raises:
        UserError: If it holds no autoencoder.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    for place in (folder, folder / "vqvae", folder / "pipeline"):
        if (place / "config.json").is_file():
            with _told(place):
                network = AutoencoderKL.from_pretrained(place, local_files_only=True, low_cpu_mem_usage=False)
            return network.float().eval().requires_grad_(False)
    raise UserError(f"{folder} is not the folder of an autoencoder: it has no config.json")


def evaluate(
    recipe: Recipe, folder: Path, *, data: Path | None = None, draws: int = 50
) -> dict[str, tuple[float, float]]:
    """Return the loss of a model's weights on its training and on its held-out images.

    The loss of a denoising network is that of `toy_models.evaluation.denoising_loss`, the loss of an autoencoder the
    root mean square error of `toy_models.evaluation.reconstruction_error`.

    Args:
        recipe: Decides the images.
        folder: The weights, as `toy_models.train` writes them.
        data: Folder or zip of images, for the models that have no data of their own. Then one picture of each held-out
            family counts, and one of as many training families.
        draws: Times, and as many noises, for each image.

    Returns:
        For ``"train"`` and ``"test"``, the loss and its standard error.

    Raises:
        UserError: If `folder` holds no such weights, or the images cannot be had.
    """
    if isinstance(recipe, AutoencoderRecipe):
        autoencoder = load_autoencoder(folder)
        return {name: reconstruction_error(autoencoder, part.images) for name, part in _judged(recipe, data).items()}
    model = load_trained(folder)
    return {
        name: denoising_loss(model.unet, model.scheduler, model.encode(part.images), draws=draws)
        for name, part in _judged(recipe, data).items()
    }


def memorisation(recipe: Recipe, folder: Path, *, data: Path | None = None, count: int = 32) -> dict[str, float]:
    """Return how near samples are to the training images, and how near held-out images are to them.

    A model that copies its training images has samples much nearer to them than held-out images are.

    Args:
        recipe: Of a denoising network; decides the images.
        folder: The weights, as `toy_models.train` writes them.
        data: Folder or zip of images, as for `evaluate`.
        count: Samples.

    Returns:
        For ``"samples"``, ``"held-out"`` images and, of the samples, the ``"nearest"``: the root mean square difference
        to the nearest training image (mirror images included), in units of pixel values, which span [-1, 1]; of the
        first two the median.

    Raises:
        UserError: If `folder` holds no such weights, or the images cannot be had.
    """
    model = load_trained(folder)
    training, held_out = recipe.sources(data)
    known = torch.cat([training.images, training.images[training.mirrored].flip(-1)])
    distances = nearest_distances(model.sample(count), known)
    return {
        "samples": distances.median().item(),
        "held-out": nearest_distances(held_out.one_per_family().images, known).median().item(),
        "nearest": distances.min().item(),
    }


def _judged(recipe: Recipe, data: Path | None) -> dict[str, ImageSet]:
    """Return the images on which to judge a model."""
    training, held_out = recipe.sources(data)
    if recipe.size is not None:
        training, held_out = training.one_per_family(), held_out.one_per_family()
        if len(held_out) < 2:
            raise UserError(f"{data} has {len(held_out)} held-out families, and a standard error needs 2")
        # Spread over all, since neighbours in the order of code points are alike.
        keep = torch.zeros(len(training), dtype=torch.bool)
        keep[torch.linspace(0, len(training) - 1, min(len(training), len(held_out))).long()] = True
        training = training.where(keep)
    return {"train": training, "test": held_out}


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell what goes wrong with a folder's weights in one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot load {folder}: {first_line}") from error
