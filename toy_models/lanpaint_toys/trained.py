"""Load trained weights from a folder, and evaluate them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lanpaint_toys.evaluation import denoising_loss, nearest_distances, reconstruction_error, sample
from lanpaint_toys.images import ImageSet
from lanpaint_toys.recipes import AutoencoderRecipe, Recipe, UserError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

_CHUNK = 32  # number of pictures in each call of an autoencoder


@dataclass(frozen=True)
class Trained:
    """A denoising network, in float32 and evaluation mode, with its scheduler and its autoencoder.

    Attributes:
        unet: The network, a `UNet2DModel` or `UNet1DModel`, called as ``unet(x, t).sample``.
        scheduler: A diffusers scheduler. It defines the noise levels and the network's target.
        autoencoder: Makes latents of images, for a network that denoises latents; else None.
    """

    unet: Any
    scheduler: Any
    autoencoder: AutoencoderKL | None = None

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the input of the network for clean images: the images ``(N, C, H, W)``, or their scaled latents."""
        if self.autoencoder is None:
            return images
        scale = self.autoencoder.config["scaling_factor"]
        return torch.cat([self.autoencoder.encode(part).latent_dist.mode() * scale for part in images.split(_CHUNK)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the images of scaled latents: the inverse of `encode`."""
        if self.autoencoder is None:
            return latents
        scale = self.autoencoder.config["scaling_factor"]
        return torch.cat([self.autoencoder.decode(part / scale).sample for part in latents.split(_CHUNK)])

    def sample(self, count: int, *, steps: int = 30, seed: int = 0) -> Tensor:
        """Return samples ``(count, C, …)``, clamped to [-1, 1]; see `lanpaint_toys.evaluation.sample`."""
        return self.decode(sample(self.unet, self.scheduler, count, steps=steps, seed=seed)).clamp(-1, 1)


def load_trained(folder: Path) -> Trained:
    """Return the model in a pipeline's folder.

    Args:
        folder: Folder in the layout of a diffusers pipeline with a `UNet2DModel`, or for sequences a `UNet1DModel`. An
            autoencoder is in ``vqvae``.

    Raises:
        UserError: If the folder holds no such pipeline.
    """
    import diffusers

    for part in ("unet/config.json", "scheduler/scheduler_config.json"):
        if not (folder / part).is_file():
            raise UserError(f"{folder} is not the folder of a trained model: it has no {part}")
    with _told(folder):
        unet = unet_class(folder).from_pretrained(folder / "unet", local_files_only=True, low_cpu_mem_usage=False)
        name = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
        scheduler = getattr(diffusers, name).from_pretrained(folder / "scheduler", local_files_only=True)
    autoencoder = load_autoencoder(folder / "vqvae") if (folder / "vqvae").is_dir() else None
    return Trained(unet.float().eval().requires_grad_(False), scheduler, autoencoder)


def unet_class(folder: Path) -> Any:
    """Return the class of the network in a pipeline's folder, which its configuration names."""
    from diffusers.models.unets.unet_1d import UNet1DModel
    from diffusers.models.unets.unet_2d import UNet2DModel

    from lanpaint.adapters.time_map import TimeMapUNet

    name = json.loads((folder / "unet" / "config.json").read_text()).get("_class_name")
    return {kind.__name__: kind for kind in (TimeMapUNet, UNet1DModel)}.get(name, UNet2DModel)


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """Return an autoencoder from a folder, in float32, frozen and in evaluation mode.

    Args:
        folder: The folder in which diffusers saved it, the folder of a latent pipeline, or the folder of a finished or
            exported run.

    Raises:
        UserError: If the folder holds no autoencoder.
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

    For a denoising network, the loss is `lanpaint_toys.evaluation.denoising_loss`. For an autoencoder, it is the root
    mean square error `lanpaint_toys.evaluation.reconstruction_error`.

    Args:
        recipe: The model's recipe, which names the images.
        folder: Folder of the weights, as `lanpaint_toys.train` writes them.
        data: Folder or zip of images, for a model whose data do not come with a package. Then the loss is taken over
            one picture of each held-out family, and one picture of each of as many training families.
        draws: Number of times for each image, each with its noise.

    Returns:
        For ``"train"`` and ``"test"``, the loss and its standard error.

    Raises:
        UserError: If `folder` holds no such weights, or the images cannot be read.
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
    """Return the distances of samples, and of held-out images, to the nearest training image.

    If a model copies its training images, its samples are much nearer to training images than held-out images are.

    Args:
        recipe: The recipe of a denoising network, which names the images.
        folder: Folder of the weights, as `lanpaint_toys.train` writes them.
        data: Folder or zip of images, as for `evaluate`.
        count: Number of samples.

    Returns:
        ``"samples"``: median distance of the samples; ``"held-out"``: median distance of the held-out images;
        ``"nearest"``: smallest distance of a sample. A distance is the root mean square difference to the nearest
        training image (mirror images included), in units of pixel values, which span [-1, 1].

    Raises:
        UserError: If `folder` holds no such weights, or the images cannot be read.
    """
    model = load_trained(folder)
    training, held_out = recipe.sources(data)
    trained_on = torch.cat([training.images, training.images[training.mirrored].flip(-1)])
    distances = nearest_distances(model.sample(count), trained_on)
    return {
        "samples": distances.median().item(),
        "held-out": nearest_distances(held_out.one_per_family().images, trained_on).median().item(),
        "nearest": distances.min().item(),
    }


def _judged(recipe: Recipe, data: Path | None) -> dict[str, ImageSet]:
    """Return the images on which a model is evaluated, as ``"train"`` and ``"test"``."""
    training, held_out = recipe.sources(data)
    if recipe.size is not None:
        training, held_out = training.one_per_family(), held_out.one_per_family()
        if len(held_out) < 2:
            raise UserError(f"{data} has {len(held_out)} held-out families, and a standard error needs 2")
        # Evenly spaced over all families, because emoji with neighbouring code points are alike.
        keep = torch.zeros(len(training), dtype=torch.bool)
        keep[torch.linspace(0, len(training) - 1, min(len(training), len(held_out))).long()] = True
        training = training.where(keep)
    return {"train": training, "test": held_out}


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn an error in reading a folder's weights into a UserError of one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot load {folder}: {first_line}") from error
