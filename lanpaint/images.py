"""Image files: read into tensors in [−1, 1], and written with all that a picture has beside its colours."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import as_path
from lanpaint.origin import Origin
from lanpaint.pictures import read_painted, read_with_origins

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".webp": {"lossless": True, "exact": True},
    ".tif": {},
    ".tiff": {},
    ".bmp": {},
    ".jpg": {"quality": 95, "subsampling": 0},  # 0: colours at full resolution, 4:4:4
    ".jpeg": {"quality": 95, "subsampling": 0},
}
"""Endings of the picture files that are written, with options of Pillow. All but JPEG keep every pixel."""
_OPAQUE = (".bmp", ".jpg", ".jpeg", ".mp4")  # formats without transparency


@dataclass(frozen=True)
class Picture:
    """An image of 8 bits per channel.

    Attributes:
        pixels: uint8, shape (C, H, W), C = 1 for grey and 3 for colour.
        opaque: Boolean, shape (H, W), False at pixels that are at all transparent; None when no pixel is.
        origin: What the picture has beside its colours.
    """

    pixels: Tensor
    opaque: Tensor | None = None
    origin: Origin = field(default_factory=Origin)

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
            return replace(self, pixels=self.pixels.expand(3, -1, -1))
        if channels == 1:
            if bool((self.pixels != self.pixels[:1]).any()):
                raise ValueError("the model takes grey images and this image has colours; convert it to grey first")
            return replace(self, pixels=self.pixels[:1])
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
    values, opaque, origins = read_with_origins(as_path(what, path), what.removeprefix("the "))
    return Picture((values[0] * 255).round().to(torch.uint8), None if opaque is None else opaque[0, 0], origins[0])


def read_mask(path: str | Path, may_be_empty: bool = False) -> Tensor:
    """The mask in an image file: boolean, True where known, shape (H, W). :mod:`lanpaint.pictures` has the rules.

    Raises:
        ValueError: When the file is missing, is not a still image, or paints nothing and may not be empty.
    """
    return ~read_painted(as_path("the mask", path), may_be_empty=may_be_empty)[0, 0]


def write_picture(path: str | Path, image: Any) -> None:
    """Write a picture with its colour profile, resolution and EXIF data, without loss wherever the format can.

    Args:
        path: File with one of the endings of :data:`FORMATS`. Its folder is made if it is missing.
        image: A PIL image, grey or RGB, with an alpha channel or without. ``image.info`` has the rest. Or pixels, as
            :func:`as_image` takes.

    Raises:
        ValueError: For another ending, when the file cannot be written, or for transparency that it cannot hold.

    Warns:
        UserWarning: Where the format re-encodes the pixels, or holds no profile.
    """
    check_output(path)
    image = image if hasattr(image, "getbands") else as_image(image)
    ending = Path(path).suffix.lower()
    check_transparency(path, image.mode in ("LA", "RGBA"))
    if ending in (".jpg", ".jpeg"):
        warnings.warn(f"{path} is a JPEG: known pixels are encoded anew, not bit for bit; PNG keeps them", stacklevel=2)
    kept = {name: image.info[name] for name in ("icc_profile", "dpi", "exif") if name in image.info}
    if ending == ".bmp" and "icc_profile" in kept:
        warnings.warn(f"{path} is a BMP, which holds no colour profile: it is left out; PNG keeps it", stacklevel=2)
    with replacing(path) as part:
        image.save(part, **FORMATS[ending], **kept)


def check_transparency(path: str | Path, is_transparent: bool) -> None:
    """Raise ValueError if a picture is transparent, and a file of this ending holds no transparency."""
    if is_transparent and Path(path).suffix.lower() in _OPAQUE:
        raise ValueError(
            f"cannot write {path}: known pixels of the image are transparent, and "
            f"{Path(path).suffix[1:].upper()} holds no transparency; give .png, .webp or .tif"
        )


def as_image(pixels: Tensor) -> Any:
    """A PIL image of uint8 pixels (C, H, W), C = 1 for grey and 3 for colour. Raises ValueError for anything else."""
    from PIL import Image

    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.ndim != 3 or 0 in pixels.shape[1:]:
        given = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(pixels).__name__
        raise ValueError(f"pixels must be a uint8 tensor (channels, height, width), got {given}")
    if len(pixels) not in (1, 3):
        raise ValueError(f"pixels have 1 or 3 channels, got {len(pixels)}")
    array = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    return Image.fromarray(array.contiguous().numpy())


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file, which replaces ``path`` when the block ends without an error.

    The temporary file is in the folder of ``path``, which is made if it is missing, and has the ending of ``path``.

    Raises:
        OSError: When the file cannot be written. ``path`` is then as it was before.
    """
    path = Path(path)
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
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


def check_output(path: str | Path, endings: Collection[str] = FORMATS.keys()) -> None:
    """Raise ValueError unless a file of one of these endings can be written there. Its folder may be missing."""
    path = as_path("an output", path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"cannot write {path}: its ending must be {' or '.join(endings)}")
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.NamedTemporaryFile(prefix=".lanpaint-", dir=folder):
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
