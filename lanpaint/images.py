"""Read images and masks from files into tensors in [−1, 1], and write images without loss."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanpaint.pictures import read_painted, read_pictures

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """An image of 8 bits per channel.

    Attributes:
        pixels: uint8, shape (C, H, W), C = 1 for grey and 3 for colour.
        opaque: Boolean, shape (H, W), False at pixels that are at all transparent; None when no pixel is.
    """

    pixels: Tensor
    opaque: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def with_channels(self, channels: int) -> Picture:
        """This picture with 1 or 3 channels, without loss.

        Raises:
            ValueError: When a coloured picture would have to become grey, or ``channels`` is neither 1 nor 3.
        """
        if channels == self.pixels.shape[0]:
            return self
        if channels == 3:
            return Picture(self.pixels.expand(3, -1, -1), self.opaque)
        if channels == 1:
            if bool((self.pixels != self.pixels[:1]).any()):
                raise ValueError("the model takes grey images and this image has colours; convert it to grey first")
            return Picture(self.pixels[:1], self.opaque)
        raise ValueError(f"the model has {channels} channels; only grey (1) and colour (3) images are supported")

    def values(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The pixels as values in [−1, 1], shape (1, C, H, W)."""
        return (self.pixels.to(dtype) / 127.5 - 1)[None]


def to_pixels(x: Tensor) -> Tensor:
    """uint8 pixels of values in [−1, 1], clamped and rounded; the inverse of :meth:`Picture.values`."""
    return ((x.detach().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def read_picture(path: str | Path, what: str = "the image") -> Picture:
    """The picture in an image file. A grey image stays grey, any other image becomes RGB.

    Transparency goes into ``Picture.opaque``. A photo is turned upright if its EXIF data say that it is rotated.

    Args:
        path: The file.
        what: Name of the file's role in error messages.

    Raises:
        ValueError: When the file is missing, is not a still image, or has more than 8 bits per channel.
    """
    values, opaque = read_pictures(Path(path), what.removeprefix("the "))
    return Picture((values[0] * 255).round().to(torch.uint8), None if opaque is None else opaque[0, 0])


def read_mask(path: str | Path, may_be_empty: bool = False) -> Tensor:
    """The mask in an image file: boolean, True where known, shape (H, W). :mod:`lanpaint.pictures` has the rules.

    Raises:
        ValueError: When the file is missing, is not a still image, or paints nothing and may not be empty.
    """
    return ~read_painted(Path(path), may_be_empty=may_be_empty)[0, 0]


def write_picture(path: str | Path, pixels: Tensor) -> None:
    """Write uint8 pixels (C, H, W) to a lossless file.

    Raises:
        ValueError: When the file's ending is not in :data:`LOSSLESS`, or the file cannot be written.
    """
    check_output(path)
    with replacing(path) as part:
        as_image(pixels).save(part)


def as_image(pixels: Tensor) -> Any:
    """A PIL image of uint8 pixels (C, H, W), C = 1 for grey and 3 for colour."""
    from PIL import Image

    array = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    return Image.fromarray(array.contiguous().numpy())


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file, which replaces ``path`` when the block ends without an error.

    The temporary file is in the folder of ``path`` and has the ending of ``path``.

    Raises:
        OSError: When the file cannot be written. ``path`` is then as it was before.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=".lanpaint-", suffix=path.suffix, dir=path.absolute().parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror:  # a full disk
            raise OSError(f"cannot write {path}: {error.strerror}") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_output(path: str | Path, endings: Sequence[str] = LOSSLESS) -> None:
    """Raise ValueError unless a file of one of these endings can be written at ``path``."""
    path = Path(path)
    if path.suffix.lower() not in endings:
        why = "known pixels are kept bit for bit, so " if endings is LOSSLESS else ""
        raise ValueError(f"cannot write {path}: {why}its ending must be {' or '.join(endings)}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"cannot write {path}: the folder {path.absolute().parent} does not exist")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        with tempfile.NamedTemporaryFile(prefix=".lanpaint-", dir=path.absolute().parent):
            pass
        writable = not path.exists() or os.access(path, os.W_OK)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from error
    if not writable:
        raise ValueError(f"cannot write {path}: it is read-only")


def hole_psnr(x: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Peak signal-to-noise ratio on the unknown pixels of images in [−1, 1], in dB, one per image.

    Args:
        x: Shape (B, C, H, W); values are clamped to [−1, 1] first.
        truth: True images, of the shape of x.
        known: Boolean, broadcastable to x, with at least one unknown pixel per image.
    """
    unknown = (~known).expand_as(x)
    square = ((x.clamp(-1, 1) - truth) ** 2 * unknown).flatten(1).sum(1) / unknown.flatten(1).sum(1)
    return 10 * torch.log10(4 / square)
