"""Pictures and masks in the latents of a diffusers pipeline.

A latent pipeline samples what its VAE makes of a picture, with numbers of its own for scale and mean, and in an order
of its own: 2×2 cells as one token, say. Both are learned from the pipeline's tail, the way from its latents to its
decoder (:mod:`lanpaint.adapters.tail_map`). Where a tail cannot be run on its own, they are read from the configuration
of the VAE and from ``_pack_latents``. A pixel pipeline samples the picture itself.

Shapes here are (n, channels, [frames,] height, width). Only videos have ``frames``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.makes import FRAMES, makes_video, picture_processor
from lanpaint.adapters.reading import data_scale
from lanpaint.adapters.tail import EncodedPrompts, NoTailError, Tail, autoencoders, unnoticed
from lanpaint.adapters.tail_map import TailMap, learn_map
from lanpaint.masks import by_shade
from lanpaint.observation import Observation

CellRule = Callable[[Tensor, tuple[int, ...]], Tensor]

# Numbers of channels that pictures have: grey, RGB, RGB and alpha.
_PICTURES = (1, 3, 4)
# Arguments that say how large a picture or a video is.
_SIZES = ("height", "width", *FRAMES)
# How far probes reach in pictures, which pipelines clip to [−1, 1].
_PIXEL_REACH = 0.75


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
    """How a pipeline lays out pictures in its latents.

    The layout is learned from the pipeline itself: see :meth:`learn`. A subclass that overrides ``normalise`` or
    ``fold`` decides it instead.

    Args:
        pipe: The pipeline.
        cell_rule: Function (known pixels, latent sizes) → known latent cells, with the signature of
            :func:`wholly_known`.

    Attributes:
        learned: The map of the pipeline's tail for the size of the latest call; None where it cannot be learned.
        reason: Why it cannot be learned; empty where it is.
    """

    def __init__(self, pipe: Any, cell_rule: CellRule = wholly_known) -> None:
        self.pipe, self.cell_rule = pipe, cell_rule
        self.learned: TailMap | None = None
        self.reason = "the pipeline was not called yet"
        self._learned_for: tuple[Any, ...] | None = None
        self._nearest: dict[tuple[int, int], tuple[int, int]] = {}
        self.name = next(iter(autoencoders(pipe)), None)
        self.processor = picture_processor(pipe)
        self._from_zero = False
        self.is_video = makes_video(pipe)

    @property
    def vae(self) -> Any:
        """The module of the pipeline that encodes and decodes pictures; None for a pixel pipeline."""
        return None if self.name is None else getattr(self.pipe, self.name, None)

    @property
    def channels(self) -> int:
        """Channels of the pictures. Raises ValueError for a pipeline that makes no pictures."""
        if self.vae is not None:
            channels = getattr(self.vae.config, "in_channels", None)
            return channels if channels in _PICTURES else 3  # some count the pixels of a patch as channels
        channels = self._of_network("in_channels")
        if channels not in _PICTURES and "image" in inspect.signature(self.pipe.__call__).parameters:
            return 3  # its network is given another picture as well
        if channels not in _PICTURES:
            raise ValueError(
                f"{type(self.pipe).__name__} has no autoencoder, and its network takes {channels or 'no'} channels, "
                "not 1, 3 or 4: it makes no pictures, or makes them from others; use a text-to-image pipeline"
            )
        return int(channels)

    def _of_network(self, name: str) -> Any:
        """A setting of the pipeline's network; None where it has none."""
        own = autoencoders(self.pipe)
        modules = [
            part for key, part in vars(self.pipe).items() if isinstance(part, torch.nn.Module) and key not in own
        ]
        settings = (getattr(getattr(part, "config", None), name, None) for part in modules)
        return next((setting for setting in settings if setting is not None), None)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels if the pipeline takes only one size, else None.

        A pipeline that is told no size has that of its network, or that of a picture that it is given.
        """
        side = self._of_network("sample_size")
        if side is None or {"height", "image"} & set(inspect.signature(self.pipe.__call__).parameters):
            return None
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
            ratio = 2 ** (len(stages) - 1) if stages else getattr(self.pipe, "vae_scale_factor", None)
        return self._measured_factor if ratio is None else int(ratio)

    @functools.cached_property
    def _measured_factor(self) -> int:
        """Pixels per latent cell of an autoencoder that does not say: it encodes a black picture of 64×64 pixels."""
        return 64 // self.encode(torch.zeros(1, self.channels, 64, 64)).shape[-1]

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
        return f"multiples of {self.multiple}"

    def nearest(
        self, height: int, width: int, call: dict[str, Any] | None = None, prompts: EncodedPrompts | None = None
    ) -> tuple[int, int]:
        """The nearest (height, width) in pixels that the pipeline takes: unchanged if the pipeline takes this size.

        Args:
            height: Height in pixels.
            width: Width in pixels.
            call: The arguments of the call. With them the pipeline itself is asked what size it makes of a size: some
                pipelines change every size to one area.
            prompts: Prompts that were encoded before, for the same call.
        """
        if self.size is not None:
            return self.size
        multiple = self.multiple
        height, width = (max(multiple, round(side / multiple) * multiple) for side in (height, width))
        if call is None:
            return height, width
        asked = height, width
        if asked not in self._nearest:
            self._nearest[asked] = self._settled(asked, call, prompts or EncodedPrompts())
        return self._nearest[asked]

    @property
    def made_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that the pipeline makes, as it was learned; None where it was not."""
        if self.vae is None or self.learned is None:
            return None
        height, width = self.learned.decoded[-2:]
        return height * self.factor, width * self.factor

    def _settled(self, asked: tuple[int, int], call: dict[str, Any], prompts: EncodedPrompts) -> tuple[int, int]:
        """The (height, width) that becomes of a size when the pipeline's rule is repeated until it changes nothing."""
        sides = asked
        for _ in range(20):
            made = self._made({**call, "height": sides[0], "width": sides[1]}, prompts)
            if made == sides:
                return sides
            if made is None or 0 in made:
                break
            sides = made
        return asked  # a cell has another number of pixels than is known here, and nothing can be said

    def _made(self, call: dict[str, Any], prompts: EncodedPrompts) -> tuple[int, int] | None:
        """The (height, width) in pixels that the pipeline makes in a call; None where it does not show."""
        if self.vae is None:
            return None
        try:
            with unnoticed(self.pipe):
                shape = Tail(self.pipe, call, self.name, prompts)(torch.zeros_like).decoded.shape
        except NoTailError:
            return None
        return shape[-2] * self.factor, shape[-1] * self.factor

    @property
    def group(self) -> int:
        """Frames per latent frame; 1 for stills. The first frame has a latent frame to itself."""
        names = (name for name in dir(self.pipe) if name.startswith("vae") and "temporal" in name)
        factors = (value for name in names if isinstance(value := getattr(self.pipe, name, None), int))
        return next(factors, 1)

    def window(self, frames: int) -> int | None:
        """Frames that the pipeline samples at a time, of so many; None for all of them, or where it was not learned."""
        if self.learned is None or len(self.learned.decoded) != 4:
            return None
        sampled, group = self.learned.decoded[1], self.group
        return (sampled - 1) * group + 1 if sampled < (frames - 1) // group + 1 else None

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
        """Pictures in [0, 1] as input of the VAE, by the pipeline's processor if it has one.

        Else in [−1, 1], or in [0, 1] where the pipeline's tail takes what its decoder gives for pictures in [0, 1].
        """
        if self.processor is None:
            return pictures if self._from_zero else 2 * pictures - 1
        height, width = pictures.shape[-2:]
        frames = pictures.transpose(1, 2).flatten(0, 1) if self.is_video else pictures
        frames = self.processor.preprocess(frames, height=height, width=width)
        return frames.unflatten(0, (len(pictures), -1)).transpose(1, 2) if self.is_video else frames

    def learn(self, call: dict[str, Any], prompts: EncodedPrompts | None = None) -> None:
        """Learn the layout from the pipeline's tail, once for a size. The network is not called.

        Args:
            call: The arguments of the call that is going to be made.
            prompts: Where encoded prompts are kept, for that call.
        """
        own = type(self)
        if own.normalise is not LatentLayout.normalise or own.fold is not LatentLayout.fold:
            self.reason = f"{own.__name__} has a layout of its own"
            return
        sizes = tuple(call.get(name) for name in _SIZES)
        wanted = (sizes, *((name, id(part), getattr(part, "dtype", None)) for name, part in self._decoders()))
        if wanted == self._learned_for:
            return
        self.learned, self._learned_for, self.reason = None, wanted, ""
        prompts = prompts or EncodedPrompts()
        for name, _ in self._decoders():
            reach = {} if name is not None else {"reach": _PIXEL_REACH}
            try:
                with unnoticed(self.pipe):
                    tail = Tail(self.pipe, call, name, prompts)
                    self.learned = learn_map(tail, **reach)
                    if name is not None and self.processor is None:
                        shade = tail.shade(0.25)
                        self._from_zero = shade is not None and abs(shade - 0.25) < 0.02
            except NoTailError as error:
                self.reason = self.reason or str(error)
            else:
                self.name, self.reason = name, ""
                return

    def _decoders(self) -> list[tuple[str | None, Any]]:
        """The pipeline's autoencoders by name; (None, None) without any."""
        return [*autoencoders(self.pipe).items()] or [(None, None)]

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """What the VAE makes of pictures in [0, 1]: (n, channels, [frames,] height, width), as it decodes it again.

        Without a VAE: the pictures as the pipeline samples them, or as they are where the layout is learned.
        """
        if self.vae is None:
            return pictures if self.learned is not None else self.preprocess(pictures)
        return self._encoded(pictures, _mode)

    @torch.no_grad()
    def deviation(self, pictures: Tensor) -> Tensor:
        """Standard deviation of what the VAE makes of pictures, of the shape of :meth:`encode`; 0 for a VAE without."""
        return self._encoded(pictures, _deviation)

    def _encoded(self, pictures: Tensor, read: Callable[[Any], Tensor]) -> Tensor:
        vae: Any = self.vae
        pixels = self.preprocess(pictures)
        dtype = vae.dtype
        upcast = dtype == torch.float16 and getattr(vae.config, "force_upcast", False)  # this VAE overflows in float16
        if upcast:
            vae.to(torch.float32)
        try:
            device = getattr(self.pipe, "_execution_device", vae.device)
            pixels = as_batch(pixels.to(device, vae.dtype), self.dimensions)
            latents = read(vae.encode(pixels)).float()
        finally:
            if upcast:
                vae.to(dtype)
        return _as_pictures(latents, pictures)

    @property
    def dimensions(self) -> int:
        """Dimensions of what the VAE takes: 4 for stills, 5 for videos."""
        if self.learned is not None:
            return len(self.learned.decoded) + 1
        encoder = getattr(self.vae, "encoder", self.vae)
        return 5 if any(parameter.ndim == 5 for parameter in encoder.parameters()) else 4

    def normalise(self, latents: Tensor) -> Tensor:
        """(z − mean) · scale / std, with the VAE's values for the three, each one number or one number per channel."""
        vae: Any = self.vae
        if vae is None:
            return latents
        settings = {**dict(vae.config), **dict(vae.named_buffers())}  # LTX keeps these numbers in buffers

        def statistic(*names: str, otherwise: float) -> Tensor:
            value = next((settings[name] for name in names if settings.get(name) is not None), otherwise)
            value = torch.as_tensor(value, dtype=latents.dtype, device=latents.device)
            return value.reshape(-1, *(1,) * (latents.ndim - 2))

        mean = statistic("latents_mean", "shift_factor", otherwise=0.0)
        scale = statistic("scaling_factor", otherwise=1.0) * data_scale(self.pipe.scheduler)
        return (latents - mean) * scale / statistic("latents_std", otherwise=1.0)

    def fold(self, latents: Tensor) -> Tensor:
        """Latents in the layout in which the pipeline samples them.

        Raises:
            ValueError: When the pipeline's ``_pack_latents`` takes arguments that are not known here.
        """
        pack = getattr(self.pipe, "_pack_latents", None)
        if pack is None:
            return latents
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

    def arrange(self, encoded: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded pictures, and how much their cells may change, as the pipeline samples them.

        Args:
            encoded: (n, channels, [frames,] height, width), from :meth:`encode`.
            cells: How much each cell may change, from 0 (known) to 1, (n, 1, [frames,] height, width).

        Returns:
            Values, and how much each entry may change, both (n, …) in the layout of the pipeline's latents.

        Raises:
            ValueError: When the pipeline decodes cells of another size.
        """
        cells = cells.to(encoded.dtype).expand(encoded.shape)
        if self.learned is None:
            return self.fold(self.normalise(encoded)), self.fold(cells)
        dimensions = len(self.learned.decoded) + 1
        values, change = as_batch(encoded, dimensions), as_batch(cells, dimensions)
        wanted = (len(encoded) * self.learned.rows, *self.learned.decoded)
        if tuple(values.shape) != wanted:
            high, wide = (size * self.factor for size in wanted[-2:])
            raise ValueError(
                f"{type(self.pipe).__name__} decodes {_sizes(wanted)} cells and the picture encodes to "
                f"{_sizes(values.shape)}: another argument of the call, such as embeddings, fixes the size at about "
                f"{wide}×{high} pixels; paint a picture of that size, or give that argument for the picture's size"
            )
        return self.learned.invert(values, change)

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
            TypeError: For a mask of booleans.
            ValueError: When the encoded pictures do not have the shape of ``latents``.
        """
        self.prepare(latents)
        return self.placed(*self.encoded_cells(pictures, change), latents)

    def encoded_cells(self, pictures: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures as the VAE encodes them, and how much each cell may change, from how much each pixel may."""
        if not change.is_floating_point():
            raise TypeError(f"change must be floating point, from 0 (known) to 1 (painted), got {change.dtype}")
        encoded = self.encode(pictures)
        cells = by_shade(lambda known: self.cell_rule(known, tuple(encoded.shape[2:])), change)
        return encoded, cells.to(encoded.device)

    def placed(self, encoded: Tensor, cells: Tensor, latents: Tensor) -> Observation:
        """The observation of what :meth:`encoded_cells` gives, in the layout of the latents."""
        values, entries = self.arrange(encoded, cells)
        if values.shape[1:] != latents.shape[1:] and self.learned is None:
            plain = self.normalise(encoded)
            if plain.shape[1:] == latents.shape[1:]:  # the pipeline folds them later
                values, entries = plain, cells.expand(plain.shape)
        if values.shape[1:] != latents.shape[1:]:
            raise self._misfit(latents, values)
        return Observation.soft(values.to(latents.device), entries.to(latents.device, torch.float32))

    def _misfit(self, latents: Tensor, values: Tensor) -> ValueError:
        shapes = (
            f"{type(self.pipe).__name__} samples latents of shape {tuple(latents.shape)} and its pictures encode to "
            f"{tuple(values.shape)}"
        )
        if self.is_video and latents.ndim < values.ndim:
            return ValueError(f"{shapes}: it makes the other frames from one, so that no video can be a part of them")
        if self.is_video and latents[0].numel() > values[0].numel() and latents.shape[-1] > values.shape[-1]:
            return ValueError(
                f"{shapes}: it keeps something else in its latents, the picture that it begins with perhaps; use a "
                "text-to-video pipeline of its family (its class has from_pipe(pipe)), and give such a picture as a "
                "known frame of the video"
            )
        return ValueError(f"{shapes}: check height, width and frames, or give a layout= for its family")

    def prepare(self, latents: Tensor) -> None:
        """Learn what can only be learned when the pipeline's first latents are there; nothing, usually."""


def as_batch(tensor: Tensor, dimensions: int) -> Tensor:
    """Pictures or cells (n, c, [frames,] h, w) as a VAE takes them: stills as films, films as stills where it must be.

    Args:
        tensor: The tensor.
        dimensions: Dimensions of what the VAE takes: 4 for stills, 5 for films.
    """
    if tensor.ndim < dimensions:
        return tensor.unsqueeze(2)
    return tensor.transpose(1, 2).flatten(0, 1) if tensor.ndim > dimensions else tensor


def _as_pictures(latents: Tensor, pictures: Tensor) -> Tensor:
    """What a VAE has made of pictures, with as many dimensions as these."""
    if latents.ndim > pictures.ndim:
        return latents.squeeze(2)
    if latents.ndim < pictures.ndim:
        return latents.unflatten(0, (len(pictures), -1)).transpose(1, 2)
    return latents


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _mode(encoded: Any) -> Tensor:
    """The latents of an encoder's output: the mode of their distribution where the encoder gives a distribution."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    return encoded.latents if hasattr(encoded, "latents") else encoded.latent


def _deviation(encoded: Any) -> Tensor:
    return encoded.latent_dist.std if hasattr(encoded, "latent_dist") else torch.zeros_like(_mode(encoded))
