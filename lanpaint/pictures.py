"""What a person gives as a picture or a mask, read by one set of rules whatever it comes as.

A picture is a path, a PIL image, an array or a tensor; several are a list of these or one stacked array or tensor; a
video is a list of frames or frames stacked. The rules:

- A picture has 8 bits per channel, or floats in [0, 1]. A deeper one is refused, by every door. One in a HEIC file is
  read at 8 bits, with a warning.
- A picture whose camera lay on its side is turned upright (EXIF orientation).
- What a picture is transparent in is not known. An alpha channel that is opaque everywhere says nothing.
- What a picture has beside its colours is kept in an :class:`~lanpaint.origin.Origin`, to be given back.
- A mask tells what is *painted*: True, 1 or 255, white. It is boolean, or has the values 0 and 1, or 0 … 255 (128 and
  above is painted), or floats in [0, 1] (0.5 and above).
- A mask with an alpha channel that is not opaque everywhere: where all that is visible is white, the white strokes are
  painted. Else what is transparent is painted, as where an editor has cut a hole.
- Where greys are asked for (``soft``), a mask tells how much may change: nothing where it is black, all where it is
  white, and the share of the grey between them. A grey within 8 of black or white (of 255) stands for black or white,
  since a JPEG file has such greys near both.
- A mask in which nothing is painted is an error. Whole areas of grey in a mask whose greys are not asked for are warned
  of.

Masks tell what is painted here, at the door. Inside of the library a mask tells what is known.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.origin import Origin, in_rgb

_SNAP = 8.5 / 255  # greys this close to black or white stand for them
_FIRST = ("MPO", "HEIF")  # formats of cameras, whose further pictures are previews, depth and gain maps
_HEIF = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_DEEP = "has more than 8 bits per channel; convert it to 8 bits first: (numpy.asarray(picture) / 257).round() as uint8"


def read_pictures(pictures: Any, what: str = "image") -> tuple[Tensor, Tensor | None]:
    """One or several pictures as values in [0, 1], and what is opaque in them; as :func:`read_with_origins`."""
    return read_with_origins(pictures, what)[:2]


def read_with_origins(pictures: Any, what: str = "image") -> tuple[Tensor, Tensor | None, list[Any]]:
    """One or several pictures as values in [0, 1], what is opaque in them, and what they have beside that.

    Args:
        pictures: A path, a PIL image, an array (height, width[, channels]) or a tensor ([channels, ]height, width); a
            list of these; or several stacked. A video is a list of frames, or frames stacked.
        what: What an error calls a picture.

    Returns:
        Values, shape (n, C, H, W) for pictures and (n, F, C, H, W) for lists of videos, C = 1 or 3; and a boolean
        tensor of the same shape with C = 1, False where a picture is transparent to any degree, or None where none is.
        Last, a list with the :class:`~lanpaint.origin.Origin` of each picture; for lists of videos a list of lists.

    Raises:
        TypeError: For what is no picture.
        ValueError: For a picture that cannot be read, is deeper than 8 bits, or has another size than the first.
        ImportError: For a HEIC or AVIF file without what reads it.
    """
    if isinstance(pictures, (list, tuple)):
        return _stack([_read_item(item, what) for item in pictures], what)
    values, opaque, origin = _read_one(pictures, what)
    if values.ndim > 3:
        return values, opaque, origin
    return values[None], None if opaque is None else opaque[None], [origin]


def read_painted(mask: Any, size: tuple[int, int] | None = None, count: int = 1, may_be_empty: bool = False) -> Tensor:
    """What a mask, or several, say is painted: boolean, True where :func:`read_change` with its defaults has 1."""
    return read_change(mask, size, count, may_be_empty) > 0


def read_change(
    mask: Any, size: tuple[int, int] | None = None, count: int = 1, may_be_empty: bool = False, soft: bool = False
) -> Tensor:
    """How much a mask, or several, say may change.

    Args:
        mask: As ``pictures`` of :func:`read_pictures`, boolean ones too; one mask for all pictures or one for each.
        size: (height, width) of the pictures, which the mask must have; any will do for a single image.
        count: How many pictures there are, or frames of a video.
        may_be_empty: Whether a mask is right in which nothing is painted.
        soft: Whether grey is how much may change. If False, what is brighter than the middle grey is painted.

    Returns:
        float32 from 0 (known) to 1 (painted), shape (1 or n, 1, H, W), or (n, F, 1, H, W) for lists of videos' masks.

    Raises:
        TypeError: For what is no mask.
        ValueError: For a mask of another size, of values that are not understood, or in which nothing is painted.
    """
    if isinstance(mask, (list, tuple)):
        if not mask:
            raise ValueError("mask is an empty list; give at least one mask")
        parts = [read_change(item, size, count, may_be_empty, soft) for item in mask]
        nested = any(isinstance(item, (list, tuple)) for item in mask)
        return torch.stack(parts) if nested else torch.cat(parts)
    if isinstance(mask, (str, Path)):
        mask = _open(mask, "mask")
    if hasattr(mask, "getbands") and not isinstance(mask, type):
        shade = _shade_of_image(mask, soft)
    else:
        numbers = _as_tensor(mask, "mask")
        shape = (numbers.shape[-2], numbers.shape[-1]) if size is None else size
        shade = _shade_of_numbers(_arranged_mask(numbers, shape, count), soft)
    if size is not None and tuple(shade.shape[-2:]) != size:
        height, width = shade.shape[-2:]
        raise ValueError(
            f"the mask is {width}×{height} and the image {size[1]}×{size[0]}; give a mask of the image's size"
        )
    change = change_of_shade(shade, soft)
    if not may_be_empty and not bool(change.any()):
        least = "above black (9 or above of 255)" if soft else "white (128 or above, 1 or True)"
        raise ValueError(f"nothing is painted: no pixel of the mask is {least}")
    return change


def change_of_shade(shade: Tensor, soft: bool) -> Tensor:
    """How much may change, float32 from 0 to 1, where a mask (…, H, W) has these greys from 0 (black) to 1 (white).

    Warns:
        UserWarning: Where ``soft`` is False and the mask has areas of grey.
    """
    clear = torch.where(shade <= _SNAP, 0.0, torch.where(shade >= 1 - _SNAP, 1.0, shade.float()))
    if soft:
        return clear
    grey = (clear > 0) & (clear < 1)
    if bool(grey.any()):
        others = (~grey).reshape(-1, 1, *grey.shape[-2:]).float()
        inside = torch.nn.functional.max_pool2d(others, 5, stride=1, padding=2) == 0
        if bool(inside.any()):
            warnings.warn(
                "the mask has areas of grey, painted where they are 128 or above of 255; with soft=True (--soft-mask) "
                "grey is how much may change",
                stacklevel=3,
            )
    return (shade >= 0.5).float()


# Pictures


_Read = tuple[Tensor, Tensor | None, Any]  # values, what is opaque, and an origin, or a list of one for each


def _read_item(item: Any, what: str) -> _Read:
    if not isinstance(item, (list, tuple)):
        return _read_one(item, what)
    return _stack([_read_one(frame, what) for frame in item], what)


def _stack(parts: Sequence[_Read], what: str) -> _Read:
    if not parts:
        raise ValueError(f"{what} is an empty list; give at least one picture")
    sizes = sorted({tuple(values.shape[-2:]) for values, _, _ in parts})
    if len(sizes) > 1:
        raise ValueError(f"{what}s of one call must have one size, got {', '.join(f'{w}×{h}' for h, w in sizes)}")
    channels = max(values.shape[-3] for values, _, _ in parts)
    stacked = torch.stack([with_channels(values, channels) for values, _, _ in parts])
    origins = [origin for _, _, origin in parts]
    if all(opaque is None for _, opaque, _ in parts):
        return stacked, None, origins
    opaques = [
        torch.ones_like(values[..., :1, :, :], dtype=torch.bool) if opaque is None else opaque
        for values, opaque, _ in parts
    ]
    return stacked, torch.stack(opaques), origins


def _read_one(picture: Any, what: str) -> _Read:
    """Values in [0, 1], shape (…, C, H, W), what is opaque, (…, 1, H, W) or None, and the origin or several."""
    if isinstance(picture, (str, Path)):
        picture = _open(picture, what)
    origin: Any = None
    if hasattr(picture, "getbands") and not isinstance(picture, type):
        picture = in_rgb(_upright(picture, what))
        origin = Origin.of(picture)
        grey = picture.mode in ("1", "L", "LA", "La")
        picture = picture.convert("LA" if grey else "RGBA") if picture.has_transparency_data else picture
        array = np.array(picture if picture.mode in ("LA", "RGBA") else picture.convert("L" if grey else "RGB"))
        values = torch.from_numpy(array).reshape(*array.shape[:2], -1).movedim(-1, 0)
    else:
        values = _arranged_picture(_as_tensor(picture, what), isinstance(picture, np.ndarray), what)
    if values.dtype == torch.uint8:
        values = values.float() / 255
    elif values.is_floating_point():
        values = values.float()
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(f"{what} of floats must lie in [0, 1], got {values.min():.3g} … {values.max():.3g}")
    else:
        raise ValueError(f"{what} of {str(values.dtype).removeprefix('torch.')} {_DEEP}")
    alpha = None if values.shape[-3] in (1, 3) else values[..., -1:, :, :]
    values = values if alpha is None else values[..., :-1, :, :]
    if origin is None:
        origin = _origins(values, alpha)
    if alpha is None or bool((alpha >= 1).all()):
        return values, None, origin
    return values, alpha >= 1, origin


def _origins(values: Tensor, alpha: Tensor | None) -> Any:
    """The origin of numbers (C, H, W), or a list of one for each of several: their transparency."""
    if values.ndim > 3:
        return [_origins(one, None if alpha is None else alpha[row]) for row, one in enumerate(values)]
    if alpha is None or bool((alpha >= 1).all()):
        return Origin()
    return Origin((alpha[0] * 255).round().to(torch.uint8))


def _arranged_picture(picture: Tensor, is_array: bool, what: str) -> Tensor:
    """(…, C, H, W) of an array, whose channels are last, or a tensor, whose channels come first."""
    if picture.ndim == 2:
        return picture[None]
    channels = (1, 2, 3, 4)
    last, first = picture.shape[-1] in channels, picture.shape[-3] in channels
    if last and (is_array or not first):
        return picture.movedim(-1, -3)
    if first:
        return picture
    raise ValueError(
        f"{what} of shape {tuple(picture.shape)} has no axis of 1, 3 or 4 channels; give (height, width, channels) as "
        "an array, (channels, height, width) as a tensor"
    )


def with_channels(values: Tensor, channels: int) -> Tensor:
    """Pictures (…, C, H, W) with so many channels: grey is repeated, and a fourth channel is opaque.

    Raises:
        ValueError: When colours would be lost.
    """
    given = values.shape[-3]
    if given == channels:
        return values
    if given in (1, 3) and channels == 4:
        return torch.cat([with_channels(values, 3), torch.ones_like(values[..., :1, :, :])], dim=-3)
    if given == 1:
        return values.expand(*values.shape[:-3], channels, -1, -1)
    raise ValueError(f"the image has {given} channels and the model takes {channels}; convert the image first")


# Masks


def _shade_of_image(image: Any, soft: bool) -> Tensor:
    """The greys of a PIL image from 0 (known) to 1 (painted), (1, 1, H, W)."""
    image = _upright(image, "mask", deep=True)
    if image.has_transparency_data:
        pixels = torch.from_numpy(np.array(image.convert("RGBA")))
        colours, alpha = pixels[..., :3], pixels[..., 3]
        if bool((alpha < 255).any()):
            visible = alpha == 255
            strokes = bool(visible.any()) and bool((colours[visible] >= 250).all())
            if strokes:
                warnings.warn("the mask has white strokes on transparency: the strokes are painted", stacklevel=4)
                return (alpha.double() / 255 if soft else (alpha >= 128).double())[None, None]
            return (1 - alpha.double() / 255 if soft else (~visible).double())[None, None]
        image = image.convert("RGB")
    if image.mode == "P":  # colours, unless all of them are dark: then a map of labels
        greys = torch.from_numpy(np.array(image.convert("L")))
        if not bool((greys >= 128).any()):
            greys = torch.from_numpy(np.array(image))
        return _shade_of_numbers(greys, soft)[None, None]
    array = np.array(image if image.mode in ("L", "I", "F", "I;16") else image.convert("L"))
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    array = array.astype(np.int32) if array.dtype == np.uint16 else array
    return _shade_of_numbers(torch.from_numpy(array), soft)[None, None]


def _shade_of_numbers(values: Tensor, soft: bool) -> Tensor:
    """Greys from 0 (known) to 1 (painted) of a mask's numbers, in their shape, float64."""
    if values.dtype == torch.bool:
        return values.double()
    least, most = float(values.min()), float(values.max())
    if not (math.isfinite(least) and math.isfinite(most)) or least < 0:
        raise ValueError(f"a mask has values from 0 to 1 or to 255, got {least:.3g} … {most:.3g}")
    if most <= 1:
        return values.double()
    if (values.is_floating_point() and most > 255) or most > 65535:
        raise ValueError(f"a mask has values from 0 to 1 or to 255, got {least:.3g} … {most:.3g}")
    white = 255 if most <= 255 else 65535
    if most < white / 2 and not (soft and most > white * _SNAP):
        raise ValueError(
            f"the mask has values from {least:g} to {most:g}; 0 and 1, or 0 and 255, say what is painted; of a map of "
            f"labels give the label to paint: mask == {most:g}"
        )
    return values.double() / white


def _arranged_mask(mask: Tensor, size: tuple[int, int], count: int) -> Tensor:
    """(n, 1, H, W) of a mask in any arrangement whose height and width can be told."""
    if mask.ndim == 2:
        return mask[None, None]
    trailing, leading = tuple(mask.shape[-2:]) == size, tuple(mask.shape[-3:-1]) == size
    if leading and mask.shape[-1] in (1, 3) and not (trailing and mask.shape[-1] != 1):  # (…, H, W, C)
        mask, trailing = mask.movedim(-1, -3), True
    elif trailing and not (mask.ndim > 3 and mask.shape[-3] in (1, 3)):
        colour = mask.ndim == 3 and mask.shape[0] == 3 and count != 3 and mask.dtype != torch.bool
        mask = mask if colour else mask[..., None, :, :]
    if mask.shape[-3] == 3:
        grey = mask.double().mean(-3, keepdim=True)
        if mask.dtype == torch.bool:
            mask = grey > 0
        else:
            mask = grey if mask.is_floating_point() else grey.round().to(mask.dtype)
    return mask[None] if mask.ndim == 3 else mask


# Files, images and numbers


def _open(path: str | Path, what: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    path, name = Path(path), what if what.startswith("the ") else f"the {what}"
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:  # a name that no file can have
        raise ValueError(f"{name} {path!s:.60} cannot be read: {error.strerror or error}") from error
    if not exists:
        raise ValueError(f"{name} {path} does not exist")
    if is_folder:
        raise ValueError(f"{name} {path} is a folder; give an image file such as a PNG")
    _register_heif(path, name)
    try:
        image = Image.open(path)
        deep = _is_deep(image)  # what the file holds is forgotten once it is loaded
        if getattr(image, "n_frames", 1) == 1 or image.format in _FIRST:
            image.load()
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} {path} is not an image; give a PNG") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} {path} cannot be read: {error}") from error
    if deep and "mask" not in what:
        raise ValueError(f"{name} {path} {_DEEP}")
    return image


def _register_heif(path: Path, name: str) -> None:
    """Let Pillow read a HEIC or AVIF file. Raises ImportError, which names the extra, where it cannot."""
    from PIL import Image, features

    head = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(32)
    if head[4:8] != b"ftyp" or not any(brand in head for brand in _HEIF):
        return
    is_avif = b"avif" in head or b"avis" in head
    if features.check("avif") if is_avif else "HEIF" in Image.MIME:
        return
    try:
        if is_avif:
            raise ImportError("this Pillow is built without AVIF")
        import pillow_heif
    except ImportError as error:
        raise ImportError(
            f"{name} {path} is {'an AVIF' if is_avif else 'a HEIC'} file, and its reader is missing: "
            "pip install 'lanpaint[heic]', or give a PNG"
        ) from error
    pillow_heif.register_heif_opener()


def _upright(image: Any, what: str, deep: bool = False) -> Any:
    from PIL import ImageOps

    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _FIRST:
        raise ValueError(f"{what} has {frames} frames; give a still image")
    if not deep and _is_deep(image):
        raise ValueError(f"{what} {_DEEP}")
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:  # a file that ends too soon, or is closed
        raise ValueError(f"{what} cannot be read: {error}") from error
    bits = image.info.get("bit_depth", 8)  # of HEIC, whose reader gives 8
    if not deep and isinstance(bits, int) and bits > 8:
        warnings.warn(
            f"{what} has {bits} bits per channel and is read at 8: known pixels come back at 8 bits", stacklevel=4
        )
    return ImageOps.exif_transpose(image)


def _is_deep(image: Any) -> bool:
    """Whether a PIL image has, or stands for a file that has, more than 8 bits per channel."""
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3:]) for tile in getattr(image, "tile", ()))


def _as_tensor(numbers: Any, what: str) -> Tensor:
    if isinstance(numbers, np.ndarray):
        if numbers.dtype == np.uint16:
            numbers = numbers.astype(np.int32)
        if numbers.dtype.kind == "f" and numbers.dtype.itemsize > 8:
            numbers = numbers.astype(np.float64)
        if numbers.dtype.kind not in "buif":
            raise TypeError(f"{what} must be an array of numbers, got one of {numbers.dtype}")
        numbers = torch.from_numpy(np.ascontiguousarray(numbers))
    if not isinstance(numbers, Tensor):
        raise TypeError(f"{what} must be a PIL image, a path, an array or a tensor, got {type(numbers).__name__}")
    if numbers.layout is not torch.strided or numbers.is_meta or numbers.is_quantized:
        raise TypeError(f"{what} must be a dense tensor with numbers in it, got {numbers.layout}, {numbers.device}")
    if numbers.is_floating_point() and numbers.dtype.itemsize < 4:
        numbers = numbers.float()
    if numbers.ndim < 2 or 0 in numbers.shape:
        raise ValueError(
            f"{what} has shape {tuple(numbers.shape)}; give (height, width), and channels where there are any"
        )
    return numbers.detach().cpu()
