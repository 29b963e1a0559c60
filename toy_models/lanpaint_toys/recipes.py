"""Recipes of the toy models: data, network, noise levels and settings of each model."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lanpaint_toys import digits, motion, textures
from lanpaint_toys.images import ImageError, ImageSet, load_images
from lanpaint_toys.shipped import weights_folder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from lanpaint_toys.autoencoding import Autoencoding
    from lanpaint_toys.denoising import Denoising, ImageData

SPLITS: tuple[Literal["train"], Literal["test"]] = ("train", "test")


class UserError(Exception):
    """Raised for a mistake of the user. Its message is one line."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run. Code, devices, number of threads and these settings determine the weights.

    Attributes:
        model: A name in `RECIPES`.
        steps: Optimizer steps, over which the learning rate falls; None for a run without an end.
        batch_size: Images in each step on each device.
        learning_rate: Peak of the learning rate.
        dropout: Dropout probability in the network's residual blocks.
        validation_images: Number of images that are not trained on, to log the loss on.
        seed: Seed of the initial weights and of all random numbers of the run.
        data: Fingerprint of the training images; None for data that come with a package.
        init: Fingerprint of the weights that the run begins with; None for random weights.
        autoencoder: Fingerprint of the autoencoder, for a model of latents.
        times: How maps of times are drawn, a name in `lanpaint_toys.times.TIMES`; None for one time for each image.
        weighting: Weighting of the loss of each pixel, one of `lanpaint_toys.times.WEIGHTINGS`; None for one time.
    """

    model: str
    steps: int | None
    batch_size: int
    learning_rate: float
    dropout: float = 0.0
    validation_images: int = 0
    seed: int = 0
    data: str | None = None
    init: str | None = None
    autoencoder: str | None = None
    times: str | None = None
    weighting: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """How to train a model and how to ship it: the base class of the two recipes below.

    Attributes:
        summary: One line for the command line's help.
        defaults: Settings that the command line may override.
        warmup_steps: Steps in which the learning rate climbs.
        average_decay: Decay of the moving average of the weights, after many steps.
        epoch_steps: Steps between two validations; None for a validation at each checkpoint.
        checkpoint_steps: Steps between checkpoints; None to use `checkpoint_minutes`.
        checkpoint_minutes: Minutes between checkpoints.
        size: Side in pixels to which images from a folder or a zip are resized; None if the data come with a package.
        half: Whether to ship the weights as float16.
    """

    summary: str
    defaults: Settings
    warmup_steps: int
    average_decay: float
    epoch_steps: int | None = None
    checkpoint_steps: int | None = None
    checkpoint_minutes: float | None = None
    size: int | None = None
    half: bool = False

    @property
    def shipped(self) -> Path:
        """Folder of the shipped weights."""
        return weights_folder(self.defaults.model)

    @abstractmethod
    def make_module(self, settings: Settings) -> Any:
        """Return the `lanpaint_toys.denoising.Reproducible` to train, with random weights drawn with the run's seed."""

    @abstractmethod
    def save(self, module: Any, folder: Path) -> None:
        """Write the weights in the folder layout of diffusers; the module is left on the CPU."""

    def training_arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the arguments of `lanpaint_toys.denoising.Reproducible`."""
        steps = settings.steps
        return {
            "steps": steps,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "warmup_steps": self.warmup_steps if steps is None else min(self.warmup_steps, steps // 2),
            "weight_decay": WEIGHT_DECAY,
            "seed": settings.seed,
        }

    def make_data(self, settings: Settings, path: Path | None) -> ImageData:
        """Return the data to train and to validate on.

        Args:
            settings: Settings of the run.
            path: Folder or zip of images, for a model whose data do not come with a package.

        Raises:
            UserError: If the images cannot be read, or `settings.validation_images` does not fit their number.
        """
        from lanpaint_toys.denoising import ImageData

        training, held_out = self.sources(path)
        count = settings.validation_images
        if self.size is None:  # test images must not influence any choice, so training images are set aside to validate
            if not 0 <= count < len(training):
                raise UserError(f"{count} validation images, expected 0 to {len(training) - 1}")
            # The split has shuffled the images, so the first ones are a random choice.
            source = Uniform(training.images[count:])
            return ImageData(source, training.images[:count], epoch_steps=self.epoch_steps or settings.steps or 1000)
        first = held_out.one_per_family().images
        if count > len(first) or count == 1:
            raise UserError(f"{count} validation images, expected 0 or 2 to {len(first)}, one of each held-out family")
        return ImageData(training, first[:count], epoch_steps=self.epoch_steps or 1000)

    def sources(self, path: Path | None) -> tuple[ImageSet, ImageSet]:
        """Return the training images and the held-out images.

        Raises:
            UserError: If the images cannot be read, or all of them are held out.
        """
        if self.size is None:
            return _sets(lambda split: digits.load_digits(split)[0])
        if path is None:
            raise UserError("this model's data are not part of the repository: give --data FOLDER_OR_ZIP")
        try:
            training, held_out = load_images(path, self.size).split()
        except ImageError as error:
            raise UserError(str(error)) from error
        if not len(training):
            raise UserError(f"all images in {path} are held out: give more images")
        return training, held_out


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe(Recipe):
    """How to train a denoising network, for images or for an autoencoder's latents.

    Attributes:
        unet: Arguments of `diffusers.UNet2DModel`.
        scheduler: Name of a diffusers scheduler class, and its arguments.
        pipeline: Name of a diffusers pipeline class. The weights are written in its folder layout. None for the parts
            alone, where diffusers maintains no pipeline.
        autoencoder: Arguments of `diffusers.AutoencoderKL`, for a model of latents.
        validation_draws: Number of times at which the loss of each validation image is evaluated.
    """

    unet: dict[str, Any]
    scheduler: tuple[str, dict[str, Any]]
    pipeline: str | None
    autoencoder: dict[str, Any] | None = None
    validation_draws: int = 50

    def make_scheduler(self) -> Any:
        """Return a new scheduler."""
        import diffusers

        name, arguments = self.scheduler
        return getattr(diffusers, name)(**arguments)

    def make_unet(self, dropout: float = 0.0) -> Any:
        """Return the network with random weights."""
        from diffusers.models.unets.unet_2d import UNet2DModel

        return UNet2DModel(**self.unet, dropout=dropout)

    def make_module(self, settings: Settings) -> Denoising:
        """Return the network in training, with random weights drawn with the run's seed."""
        from lanpaint_toys.denoising import Denoising

        torch.manual_seed(settings.seed)
        return Denoising(
            self.make_unet(settings.dropout),
            self.make_scheduler(),
            autoencoder=None if self.autoencoder is None else make_autoencoder(self.autoencoder),
            validation_draws=self.validation_draws,
            **self.training_arguments(settings),
        )

    def save(self, module: Denoising, folder: Path) -> None:
        """Write the weights in the folder layout of a pipeline."""
        import diffusers

        parts: dict[str, Any] = {"unet": module.unet.cpu().eval(), "scheduler": self.make_scheduler()}
        if module.autoencoder is not None:
            parts["vqvae"] = module.autoencoder.cpu().eval()
            parts["vqvae"].register_to_config(scaling_factor=module.latent_scale.item())
        if self.half:
            parts = {name: part.half() if isinstance(part, torch.nn.Module) else part for name, part in parts.items()}
        if self.pipeline is None:
            for name, part in parts.items():
                part.save_pretrained(folder / name)
            return
        pipeline = getattr(diffusers, self.pipeline)(**parts)
        pipeline.register_to_config(unet=("diffusers", "UNet2DModel"))  # what diffusers can load of a subclass, too
        pipeline.save_pretrained(folder)


@dataclass(frozen=True, kw_only=True)
class AsyncRecipe(DenoiserRecipe):
    """How to train a denoising network that takes a time for each pixel."""

    def make_unet(self, dropout: float = 0.0) -> Any:
        """Return the network with random weights."""
        from lanpaint.adapters.time_map import TimeMapUNet

        return TimeMapUNet(**self.unet, dropout=dropout)

    def make_module(self, settings: Settings) -> Denoising:
        """Return the network in training, with random weights drawn with the run's seed."""
        from lanpaint_toys.asynchronous import AsyncDenoising
        from lanpaint_toys.times import TIMES

        torch.manual_seed(settings.seed)
        return AsyncDenoising(
            self.make_unet(settings.dropout),
            self.make_scheduler(),
            validation_draws=self.validation_draws,
            times=TIMES[settings.times or "asyncpatch"],
            weighting=settings.weighting or "velocity",
            **self.training_arguments(settings),
        )


@dataclass(frozen=True, kw_only=True)
class TextureRecipe(DenoiserRecipe):
    """How to train a denoising network on random windows of textures."""

    def make_data(self, settings: Settings, path: Path | None) -> ImageData:
        """Return random windows to train on. There are none to validate on: what is held out is for `evaluate`."""
        from lanpaint_toys.denoising import ImageData

        if settings.validation_images:
            raise UserError(f"{settings.validation_images} validation images, expected 0: this model logs none")
        source = textures.RandomWindows(textures.load_textures("train"))
        return ImageData(source, source.images[:0], epoch_steps=self.epoch_steps or settings.steps or 1000)

    def sources(self, path: Path | None) -> tuple[ImageSet, ImageSet]:
        """Return windows of the training part and of the held-out part of the textures, on a grid."""
        return _sets(lambda split: textures.grid_windows(textures.load_textures(split)))


@dataclass(frozen=True, kw_only=True)
class MotionRecipe(DenoiserRecipe):
    """How to train a denoising network on random windows of motion. Its ``unet`` are arguments of `UNet1DModel`."""

    def make_unet(self, dropout: float = 0.0) -> Any:
        """Return the network with random weights.

        Raises:
            UserError: For a dropout: the network has none.
        """
        from diffusers.models.unets.unet_1d import UNet1DModel

        if dropout:
            raise UserError(f"dropout {dropout}, expected 0: this model's network has no dropout")
        return UNet1DModel(**self.unet)

    def make_data(self, settings: Settings, path: Path | None) -> ImageData:
        """Return random windows to train on, and the middle of the training series that are set aside to validate."""
        from lanpaint_toys.denoising import ImageData

        series, _ = motion.load_motion("train")
        count = settings.validation_images
        if not 0 <= count < len(series):
            raise UserError(f"{count} validation images, expected 0 to {len(series) - 1} series")
        aside = torch.zeros(len(series), dtype=torch.bool)
        aside[torch.arange(count) * len(series) // max(count, 1)] = True  # the series are ordered by activity
        source = motion.RandomMotion(series[~aside])
        epoch_steps = self.epoch_steps or settings.steps or 1000
        return ImageData(source, motion.middle_windows(series[aside]), epoch_steps=epoch_steps)

    def save(self, module: Denoising, folder: Path) -> None:
        """Write the weights in the folder layout of a pipeline, and the units of the series beside them."""
        super().save(module, folder)
        motion.UNITS.save(folder)

    def sources(self, path: Path | None) -> tuple[ImageSet, ImageSet]:
        """Return the windows in the middle of the training series and of the held-out series."""
        return _sets(lambda split: motion.middle_windows(motion.load_motion(split)[0]))


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe(Recipe):
    """How to train an autoencoder.

    Attributes:
        autoencoder: Arguments of `diffusers.AutoencoderKL`.
    """

    autoencoder: dict[str, Any]

    def make_module(self, settings: Settings) -> Autoencoding:
        """Return the autoencoder in training, with random weights drawn with the run's seed."""
        from lanpaint_toys.autoencoding import Autoencoding

        torch.manual_seed(settings.seed)
        return Autoencoding(make_autoencoder(self.autoencoder), **self.training_arguments(settings))

    def save(self, module: Autoencoding, folder: Path) -> None:
        """Write the autoencoder as diffusers does, with the factor that brings its latents to unit variance."""
        autoencoder = module.autoencoder.cpu().eval()
        autoencoder.register_to_config(scaling_factor=module.latent_square.rsqrt().item())
        if self.half:
            autoencoder = autoencoder.half()
        autoencoder.save_pretrained(folder)


def _sets(load: Callable[[Literal["train", "test"]], Tensor]) -> tuple[ImageSet, ImageSet]:
    """The training images and the held-out images of data that come with a package, named by their rows."""
    training, held_out = (
        ImageSet(images, tuple(f"{split} {row}" for row in range(len(images))), torch.zeros(len(images)).bool())
        for split, images in ((split, load(split)) for split in SPLITS)
    )
    return training, held_out


def make_autoencoder(arguments: dict[str, Any]) -> AutoencoderKL:
    """Return an autoencoder with random weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(**arguments)


@dataclass(frozen=True)
class Uniform:
    """Images that are drawn uniformly with replacement.

    Attributes:
        images: ``(N, C, H, W)``.
    """

    images: Tensor

    def draw(self, count: int) -> Tensor:
        """Return ``(count, C, H, W)``, drawn with PyTorch's global random numbers."""
        return self.images[torch.randint(len(self.images), (count,))]


def fingerprint(*tensors: Tensor) -> str:
    """Return 16 hexadecimal digits that identify the content of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(json.dumps([list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


WEIGHT_DECAY = 0.01  # the default of AdamW

# The noise schedule of DDPM (Ho et al., 2020, section 4). The images' range is exact, so no step needs clipping.
DIGITS_SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
    "clip_sample": False,
}

_DIGITS_UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": (32, 48),  # resolutions 8 and 4; attention between, at 4
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 16,
    "resnet_time_scale_shift": "scale_shift",
}

# For 32x32 colour pictures. A convolution costs about the same at each resolution. Self-attention is used only at the
# 8x8 resolution. One core (AVX2) trains 25 pictures a second; with channels (32, 96, 160) 15, with (32, 96, 192) 11.
_PIXEL_UNET = {
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 32,
    "resnet_time_scale_shift": "scale_shift",
}

# The cosine schedule (Nichol and Dhariwal, 2021, https://arxiv.org/abs/2102.09672) has more of its times at the levels
# where a picture takes shape than the linear schedule. It ends in pure noise. There the noise is useless as a target,
# because the network's input is the noise itself; so the target is the velocity.
_COSINE_VELOCITY = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "timestep_spacing": "trailing",  # begins at the last timestep, pure noise, however few the steps
}

# A run without an end, whose learning rate stays: any checkpoint's averaged weights can be shipped, and it can resume.
_ENDLESS: dict[str, Any] = {"warmup_steps": 200, "epoch_steps": 1000, "checkpoint_minutes": 4, "half": True}
_EMOJI: dict[str, Any] = {**_ENDLESS, "average_decay": 0.9995, "size": 32}

_FLOW = ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 1000, "shift": 1.0})

# 64x64 pictures to 16x16 latents of 4 channels. It has few channels at full size, where a convolution costs most.
_AUTOENCODER = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "norm_num_groups": 8,
}

RECIPES: dict[str, Recipe] = {
    "textures": TextureRecipe(
        summary="64x64 grey windows of brick, grass and gravel, velocity prediction; fully convolutional",
        unet={
            "sample_size": textures.WINDOW,
            "in_channels": 1,
            "out_channels": 1,
            "layers_per_block": 1,
            "block_out_channels": (16, 32, 64, 96),  # resolutions 64 to 8; no attention, so any size will do
            "down_block_types": ("DownBlock2D",) * 4,
            "up_block_types": ("UpBlock2D",) * 4,
            "add_attention": False,
            "norm_num_groups": 8,
            "resnet_time_scale_shift": "scale_shift",
        },
        scheduler=("DDIMScheduler", _COSINE_VELOCITY),
        pipeline="DDIMPipeline",
        defaults=Settings(
            model="textures",
            steps=None,
            batch_size=8,
            learning_rate=1e-3,
        ),
        **_ENDLESS,
        average_decay=0.9995,
    ),
    "motion": MotionRecipe(
        summary="6.4 seconds of a wrist's acceleration and turning, 6 channels, velocity prediction",
        unet={
            "sample_size": motion.LENGTH,
            "sample_rate": 10,
            "in_channels": 6,
            "out_channels": 6,
            "layers_per_block": 1,
            "block_out_channels": (32, 64, 128),  # resolutions 64, 32 and 16; no attention
            "down_block_types": ("DownResnetBlock1D",) * 3,
            "up_block_types": ("UpResnetBlock1D",) * 3,
            "mid_block_type": "MidResTemporalBlock1D",
            "out_block_type": "OutConv1DBlock",
            "time_embedding_type": "positional",
            "use_timestep_embedding": True,
            "act_fn": "mish",
            "norm_num_groups": 8,
        },
        scheduler=("DDIMScheduler", _COSINE_VELOCITY),
        pipeline=None,
        defaults=Settings(
            model="motion",
            steps=1000,  # the loss on series that were set aside is lowest after 1,000 to 1,500
            batch_size=32,
            learning_rate=2e-3,
        ),
        warmup_steps=200,
        average_decay=0.999,
        checkpoint_steps=500,
        half=True,
    ),
    "digits": DenoiserRecipe(
        summary="8x8 handwritten digits, noise prediction",
        unet=_DIGITS_UNET,
        scheduler=("DDPMScheduler", DIGITS_SCHEDULER),
        pipeline="DDPMPipeline",
        # Chosen on 180 validation images; the model card lists the settings that were compared.
        defaults=Settings(
            model="digits",
            steps=3000,
            batch_size=128,
            learning_rate=4e-3,
        ),
        warmup_steps=100,
        average_decay=0.999,  # averages the last thousand of 3,000 steps
        checkpoint_steps=250,  # under a minute on one core
    ),
    "emoji-pixel": DenoiserRecipe(
        summary="32x32 colour pictures, velocity prediction at the levels of DDPM",
        unet=_PIXEL_UNET,
        scheduler=("DDIMScheduler", _COSINE_VELOCITY),
        pipeline="DDIMPipeline",
        defaults=Settings(
            model="emoji-pixel",
            steps=None,
            batch_size=16,
            learning_rate=8e-4,
            validation_images=100,
        ),
        **_EMOJI,
        validation_draws=6,
    ),
    "emoji-flow": DenoiserRecipe(
        summary="32x32 colour pictures, rectified flow; --init runs/emoji-pixel spares most of the training",
        unet=_PIXEL_UNET,
        scheduler=_FLOW,
        pipeline="DDPMPipeline",  # its loop uses only timesteps and step() of the scheduler, so a flow scheduler works
        defaults=Settings(
            model="emoji-flow",
            steps=None,
            batch_size=16,
            learning_rate=5e-4,
            validation_images=100,
        ),
        **_EMOJI,
        validation_draws=6,
    ),
    "emoji-async": AsyncRecipe(
        summary="32x32 colour pictures, flow with a time for each pixel; --init FOLDER_OF_EMOJI_FLOW",
        unet=_PIXEL_UNET,
        scheduler=_FLOW,
        pipeline="DDPMPipeline",
        defaults=Settings(
            model="emoji-async",
            steps=None,
            batch_size=16,
            learning_rate=3e-4,
            dropout=0.1,
            validation_images=100,
            times="mixed",
            weighting="velocity",
        ),
        **_EMOJI,
        validation_draws=4,
    ),
    "digits-async": AsyncRecipe(
        summary="8x8 handwritten digits, rectified flow with a time for each pixel; to compare ways to draw the times",
        unet=_DIGITS_UNET,
        scheduler=_FLOW,
        pipeline="DDPMPipeline",
        defaults=Settings(
            model="digits-async",
            steps=1500,
            batch_size=128,
            learning_rate=4e-3,
            times="asyncpatch",
            weighting="velocity",
        ),
        warmup_steps=100,
        average_decay=0.999,
        checkpoint_steps=250,
    ),
    "emoji-autoencoder": AutoencoderRecipe(
        summary="64x64 colour pictures to 16x16 latents of 4 channels and back, for emoji-latent",
        autoencoder=_AUTOENCODER,
        defaults=Settings(
            model="emoji-autoencoder",
            steps=None,
            batch_size=8,
            learning_rate=1e-3,
            validation_images=100,
        ),
        **_ENDLESS,
        average_decay=0.999,
        size=64,
    ),
    "emoji-latent": DenoiserRecipe(
        summary="64x64 colour pictures by way of an autoencoder's latents, velocity prediction; wants --autoencoder",
        unet={
            "sample_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "layers_per_block": 1,
            "block_out_channels": (64, 128),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 8,
            "attention_head_dim": 32,
            "resnet_time_scale_shift": "scale_shift",
        },
        autoencoder=_AUTOENCODER,
        scheduler=("DDIMScheduler", _COSINE_VELOCITY),
        pipeline="LDMPipeline",
        defaults=Settings(
            model="emoji-latent",
            steps=None,
            batch_size=16,
            learning_rate=8e-4,
            validation_images=100,
        ),
        **_ENDLESS,
        average_decay=0.9995,
        size=64,
        validation_draws=6,
    ),
}
"""The models, by name."""
