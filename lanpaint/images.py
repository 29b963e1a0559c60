"""Images and masks: files in, tensors in [−1, 1], files out with known pixels untouched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """An image of 8 bits per channel.

    Attributes:
        pixels: uint8, shape (C, H, W), C = 1 for grey and 3 for colour.
        opaque: Boolean, shape (H, W), False where the file is transparent to any degree; None when it has no
            transparency.
    """

    pixels: Tensor
    opaque: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def with_channels(self, channels: int) -> Picture:
        """The same picture with 1 or 3 channels, without loss.

        Raises:
            ValueError: When a coloured picture would have to become grey, or for another number of channels.
        """
        if channels == self.pixels.shape[0]:
            return self
        if channels == 3:
            return Picture(self.pixels.expand(3, -1, -1), self.opaque)
        if channels == 1:
            if bool((self.pixels != self.pixels[:1]).any()):
                raise ValueError("the model is for grey images and this image has colours; convert it to grey first")
            return Picture(self.pixels[:1], self.opaque)
        raise ValueError(f"the model has {channels} channels; only grey (1) and colour (3) images are supported")

    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Values in [−1, 1], shape (1, C, H, W)."""
        return (self.pixels.to(dtype) / 127.5 - 1)[None]


def to_pixels(x: Tensor) -> Tensor:
    """uint8 pixels of values in [−1, 1], clamped and rounded; the inverse of :meth:`Picture.values`."""
    return ((x.detach().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _open(path: str | Path, what: str):  # type: ignore[no-untyped-def]
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if not path.exists():
        raise ValueError(f"{what} {path} does not exist")
    if path.is_dir():
        raise ValueError(f"{what} {path} is a folder; give an image file such as a PNG")
    try:
        image = Image.open(path)
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} {path} cannot be read as an image ({type(error).__name__}); give a PNG") from error
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{what} {path} has {image.mode} pixels; convert it to 8 bits per channel first")
    return image


def _tensor(image) -> Tensor:  # type: ignore[no-untyped-def]
    import numpy as np

    return torch.from_numpy(np.array(image))


def read_picture(path: str | Path) -> Picture:
    """Read an image file: grey stays grey, everything else becomes RGB, transparency is kept apart.

    Raises:
        ValueError: When the file is missing, no image, or deeper than 8 bits.
    """
    image = _open(path, "the image")
    opaque = None
    if image.has_transparency_data:
        alpha = _tensor(image.convert("RGBA"))[..., 3]
        opaque = alpha == 255 if bool((alpha < 255).any()) else None
    grey = image.mode in ("1", "L", "LA", "La")
    array = _tensor(image.convert("L" if grey else "RGB"))
    return Picture(array[None] if grey else array.permute(2, 0, 1).contiguous(), opaque)


def read_mask(path: str | Path) -> Tensor:
    """Read a mask file: True where known, shape (H, W).

    White (128 and above) is repainted, as in diffusers; in a file with transparency what is transparent is repainted,
    whatever its colour.

    Raises:
        ValueError: When the file is missing, no image, or deeper than 8 bits.
    """
    picture = read_picture(path)
    if picture.opaque is not None:
        return picture.opaque
    return _tensor(_open(path, "the mask").convert("L")) < 128


def write_picture(path: str | Path, pixels: Tensor) -> None:
    """Write uint8 pixels (C, H, W) to a lossless file.

    Raises:
        ValueError: When the ending is not that of a lossless format.
    """
    from PIL import Image

    check_output(path)
    array = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    Image.fromarray(array.contiguous().numpy()).save(path)


def check_output(path: str | Path) -> None:
    """Raise ValueError unless ``path`` can become a lossless image file."""
    path = Path(path)
    if path.suffix.lower() not in LOSSLESS:
        raise ValueError(f"cannot write {path}: known pixels are kept bit for bit, so its ending must be .png")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.absolute().parent} does not exist")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")


def hole_psnr(x: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Peak signal-to-noise ratio on the unknown pixels of images in [−1, 1], in dB, one per image.

    Args:
        x: Shape (B, C, H, W); values are clamped to [−1, 1] first.
        truth: The same shape.
        known: Boolean, broadcastable to x, with at least one unknown pixel per image.
    """
    unknown = (~known).expand_as(x)
    square = ((x.clamp(-1, 1) - truth) ** 2 * unknown).flatten(1).sum(1) / unknown.flatten(1).sum(1)
    return 10 * torch.log10(4 / square)
