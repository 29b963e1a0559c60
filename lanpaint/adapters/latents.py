"""Pictures and masks in the latents of a diffusers pipeline.

A latent pipeline samples z = (E(picture) − mean) · scale / std, where E is the encoder of its VAE. Some pipelines then
fold 2×2 latent cells into one token. All of this is read from the pipeline: the numbers from its VAE, the folding from
its ``_pack_latents``. A pixel pipeline samples the picture itself.

Shapes here are (n, channels, [frames,] height, width). Only videos have ``frames``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.makes import makes_video, picture_processor
from lanpaint.masks import by_shade
from lanpaint.observation import Observation

CellRule = Callable[[Tensor, tuple[int, ...]], Tensor]

# Video pipelines whose latents have the axis of frames before the axis of channels.
_FRAMES_FIRST = ("CogVideoX", "ConsisID")
# Pipelines that change every size to one fixed number of pixels.
_ONE_AREA = ("HiDreamImage",)


def wholly_known(known: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Which latent cells are known: those whose pixels are all known.

    Args:
        known: Boolean, (n, 1, [frames,] height, width), True where a pixel is known.
        cells: ([frames,] height, width) of the latents. Frames are grouped as video VAEs group them: if the number of
            frames is not a multiple of the number of latent frames, the first frame has a latent frame to itself.

    Returns:
        Boolean, (n, 1, ``*cells``).

    Raises:
        ValueError: When the pixels cannot be divided evenly among the cells.
    """
    sizes = list(known.shape[2:])
    if len(sizes) == 3 and sizes[0] % cells[0] and cells[0] > 1:
        group = (sizes[0] - 1) // (cells[0] - 1)
        known = torch.cat([known[:, :, :1].expand(-1, -1, group - 1, -1, -1), known], dim=2)
        sizes[0] += group - 1
    if len(sizes) != len(cells) or any(size % cell for size, cell in zip(sizes, cells, strict=True)):
        pixels, among = ("×".join(map(str, numbers)) for numbers in (known.shape[2:], cells))
        raise ValueError(f"{pixels} pixels do not divide among {among} latent cells")
    split = [part for size, cell in zip(sizes, cells, strict=True) for part in (cell, size // cell)]
    within = tuple(range(3, 3 + 2 * len(cells), 2))
    return known.reshape(*known.shape[:2], *split).all(dim=within)


class LatentLayout:
    """How a pipeline lays out pictures in its latents. Override a method for a family with a different layout.

    Args:
        pipe: The pipeline.
        cell_rule: Function (known pixels, latent sizes) → known latent cells, with the signature of
            :func:`wholly_known`.
    """

    def __init__(self, pipe: Any, cell_rule: CellRule = wholly_known) -> None:
        self.pipe, self.cell_rule = pipe, cell_rule
        vaes = (getattr(pipe, name, None) for name in ("vae", "vqvae"))
        self.vae = next((vae for vae in vaes if vae is not None), None)
        self.processor = picture_processor(pipe)
        self.is_video = makes_video(pipe)

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        if self.vae is not None:
            return getattr(self.vae.config, "in_channels", None) or 3
        return self.pipe.unet.config.in_channels

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels if the pipeline takes only one size, else None."""
        if "height" in inspect.signature(self.pipe.__call__).parameters:
            return None
        side = self.pipe.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return height * self.factor, width * self.factor

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along height and along width."""
        if self.vae is None:
            return 1
        ratio: Any = getattr(self.vae, "spatial_compression_ratio", None)
        if ratio is None:
            stages = getattr(self.vae.config, "block_out_channels", None)
            ratio = 2 ** (len(stages) - 1) if stages else getattr(self.pipe, "vae_scale_factor", 8)
        return int(ratio)

    @property
    def native_side(self) -> int:
        """Side in pixels of the squares that the model was trained on; 1024 where the pipeline does not say."""
        if self.size is not None:
            return self.size[0]
        networks = (getattr(self.pipe, name, None) for name in ("unet", "transformer"))
        sides = [getattr(getattr(network, "config", None), "sample_size", None) for network in networks]
        sides = [getattr(self.pipe, "default_sample_size", None), *sides]
        side = next((side for side in sides if isinstance(side, int)), None)
        return 1024 if side is None else side * self.factor

    @property
    def multiple(self) -> int:
        """Height and width in pixels must be multiples of this number.

        Then the picture fills whole latent cells, and the cells fill whole patches of the network.
        """
        network = getattr(self.pipe, "transformer", None) or getattr(self.pipe, "transformer_2", None)
        patch = getattr(getattr(network, "config", None), "patch_size", None) or 1
        patch = patch[-1] if isinstance(patch, (tuple, list)) else patch
        return self.factor * (max(patch, 2) if self._takes_size() else patch)

    @property
    def sizes(self) -> str:
        """The sizes that the pipeline takes, in words."""
        if self.size is not None:
            return f"{self.size[1]}×{self.size[0]}"
        area = f"{self._area} pixels in all, in " if self._area else ""
        return f"{area}multiples of {self.multiple}"

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The nearest (height, width) in pixels that the pipeline takes: unchanged if the pipeline takes this size."""
        if self.size is not None:
            return self.size
        sides = height, width
        if self._area:  # repeat the pipeline's rule until it changes nothing
            for _ in range(100):
                scale = math.sqrt(self._area / (sides[0] * sides[1]))
                high, wide = (int(side * scale // self.multiple * self.multiple) for side in sides)
                if (high, wide) == sides or not (high and wide):
                    break
                sides = high, wide
        multiple = self.multiple
        height, width = (max(multiple, round(side / multiple) * multiple) for side in sides)
        return height, width

    @property
    def _area(self) -> int | None:
        """Number of pixels of every picture, for a pipeline where this number is fixed; else None."""
        if not type(self.pipe).__name__.startswith(_ONE_AREA):
            return None
        return int(self.pipe.default_sample_size * self.pipe.vae_scale_factor) ** 2

    @property
    def group(self) -> int:
        """Frames per latent frame; 1 for stills. The first frame has a latent frame to itself."""
        names = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")
        return next((int(getattr(self.pipe, name)) for name in names if hasattr(self.pipe, name)), 1)

    def frames_above(self, frames: int) -> int:
        """The least number of frames that is at least ``frames`` and fills whole latent frames."""
        group = self.group
        if (frames - 1) % group and frames % group == 0 and self._decodes(frames // group) == frames:
            return frames  # its first latent frame is of as many frames as the others
        return 1 + -(-(frames - 1) // group) * group

    @torch.no_grad()
    def _decodes(self, frames: int) -> int | None:
        """Frames that the decoder makes of latent frames, tried on a small video; None where it takes no small one."""
        vae: Any = self.vae
        channels = next((vae.config[name] for name in ("latent_channels", "z_dim") if name in vae.config), None)
        if channels is None:
            return None
        for side in (2, 4, 8):
            zeros = next(vae.parameters()).new_zeros(1, channels, frames, side, side)
            try:
                made = vae.decode(zeros, return_dict=False)[0]
            except Exception:  # for any reason: what a decoder takes is its own affair
                continue
            lengths = [size for size in made.shape[1:3] if size != self.channels]
            return int(lengths[0]) if len(lengths) == 1 else None
        return None

    def _takes_size(self) -> bool:
        """Whether the pipeline folds 2×2 cells into one token: its ``_pack_latents`` then takes the height."""
        pack = getattr(self.pipe, "_pack_latents", None)
        return pack is not None and "height" in inspect.signature(pack).parameters

    def preprocess(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] as input of the VAE, by the pipeline's processor if it has one, else in [−1, 1]."""
        if self.processor is None:
            return 2 * pictures - 1
        height, width = pictures.shape[-2:]
        frames = pictures.transpose(1, 2).flatten(0, 1) if self.is_video else pictures
        frames = self.processor.preprocess(frames, height=height, width=width)
        return frames.unflatten(0, (len(pictures), -1)).transpose(1, 2) if self.is_video else frames

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Clean latents of pictures in [0, 1], before folding: (n, channels, [frames,] height, width)."""
        pixels = self.preprocess(pictures)
        vae = self.vae
        if vae is None:
            return pixels
        dtype = vae.dtype
        upcast = dtype == torch.float16 and getattr(vae.config, "force_upcast", False)  # this VAE overflows in float16
        if upcast:
            vae.to(torch.float32)
        try:
            device = getattr(self.pipe, "_execution_device", vae.device)
            single = not self.is_video and _takes_frames(vae)
            pixels = pixels.to(device, vae.dtype)
            latents = _mode(vae.encode(pixels.unsqueeze(2) if single else pixels)).float()
        finally:
            if upcast:
                vae.to(dtype)
        latents = self.normalise(latents)
        return latents.squeeze(2) if single else latents

    def normalise(self, latents: Tensor) -> Tensor:
        """(z − mean) · scale / std, with the VAE's values for the three, each one number or one number per channel."""
        vae: Any = self.vae
        settings = {**dict(vae.config), **dict(vae.named_buffers())}  # LTX keeps these numbers in buffers

        def statistic(*names: str, otherwise: float) -> Tensor:
            value = next((settings[name] for name in names if settings.get(name) is not None), otherwise)
            value = torch.as_tensor(value, dtype=latents.dtype, device=latents.device)
            return value.reshape(-1, *(1,) * (latents.ndim - 2))

        mean = statistic("latents_mean", "shift_factor", otherwise=0.0)
        return (latents - mean) * statistic("scaling_factor", otherwise=1.0) / statistic("latents_std", otherwise=1.0)

    def fold(self, latents: Tensor) -> Tensor:
        """Latents in the layout in which the pipeline samples them.

        Raises:
            ValueError: When the pipeline's ``_pack_latents`` takes arguments that are not known here.
        """
        pack = getattr(self.pipe, "_pack_latents", None)
        if pack is None:
            frames_first = self.is_video and type(self.pipe).__name__.startswith(_FRAMES_FIRST)
            return latents.transpose(1, 2) if frames_first else latents
        arguments = {
            "latents": latents,
            "batch_size": latents.shape[0],
            "num_channels_latents": latents.shape[1],
            "height": latents.shape[-2],
            "width": latents.shape[-1],
            "patch_size": getattr(self.pipe, "transformer_spatial_patch_size", 1),
            "patch_size_t": getattr(self.pipe, "transformer_temporal_patch_size", 1),
        }
        names = inspect.signature(pack).parameters
        if not set(names) <= set(arguments):
            unknown = ", ".join(sorted(set(names) - set(arguments)))
            raise ValueError(
                f"_pack_latents of {type(self.pipe).__name__} takes {unknown}, which is not known here; "
                "give a layout= for its family"
            )
        return pack(**{name: arguments[name] for name in names})

    def observation(self, pictures: Tensor, change: Tensor, latents: Tensor) -> Observation:
        """The observation of the latents: which latent entries are known, and their clean values.

        Args:
            pictures: (n, C, [frames,] height, width) in [0, 1].
            change: How much each pixel may change, (n, 1, [frames,] height, width), floating point from 0 (known) to
                1 (painted).
            latents: The latents with which the pipeline starts, (B, …). Their shape and device are used.

        Returns:
            An observation of batch n, in the layout of ``latents``, float32.

        Raises:
            ValueError: When the encoded pictures do not have the shape of ``latents``.
        """
        encoded = self.encode(pictures)
        cells = by_shade(lambda known: self.cell_rule(known, tuple(encoded.shape[2:])), change).to(encoded.device)
        values, cells = self.fold(encoded), self.fold(cells.expand(encoded.shape))
        if values.shape[1:] != latents.shape[1:]:
            raise ValueError(
                f"{type(self.pipe).__name__} samples latents of shape {tuple(latents.shape)} and its pictures encode "
                f"to {tuple(values.shape)}: check height, width and frames, or give a layout= for its family"
            )
        return Observation.soft(values.to(latents.device), cells.to(latents.device, torch.float32))


def _takes_frames(vae: Any) -> bool:
    """Whether a VAE is made for video: its encoder has convolutions over time."""
    return any(parameter.ndim == 5 for parameter in vae.encoder.parameters())


def _mode(encoded: Any) -> Tensor:
    """The latents of an encoder's output: the mode of their distribution where the encoder gives a distribution."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent
