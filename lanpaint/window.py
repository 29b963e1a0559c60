"""A window of a picture, painted at a size that the model takes and laid back in its place.

Around a hole the window is a crop: a large picture is painted where it is needed, at the size that the model is made
for. Over a whole picture of a size that the model does not take, the window reaches past the right and lower edge, and
past the last frame. What lies there repeats the edge or the last frame, and is cut off again.

What is added is unknown, with one exception: in a latent cell that has pixels of the picture too, it is as known as the
pixel that it repeats. Else the cell, and with it pixels that are known, would be lost to the model. Measured with
emoji-pixel on 40 held-out emoji cut at 29 and at 25 of 32 pixels: against true pixels past the edge, unknown ones cost
0.2 dB in the hole, and ones that repeat or mirror the edge and count as known 0.3 dB.

Known pixels never come back from the model, and pixels outside of the window are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# A window is stretched by up to this factor to the size of painting, for models that take multiples of 64 pixels.
_STRETCH = 1.05
Nearest = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """A window of pictures, and the size at which it is painted.

    Attributes:
        top: First row of the window.
        left: First column of the window.
        height: Rows of the window.
        width: Columns of the window.
        size: (height, width) in pixels at which the window is painted.
        frames: Frames of a video that are painted, at least those that there are; None for still images.
        cell: Pixels per latent cell, along height and along width, at the size of painting.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    frames: int | None = None
    cell: int = 1

    @classmethod
    def whole(cls, height: int, width: int, nearest: Nearest, multiple: int = 1, cell: int = 1) -> Window:
        """The window of whole pictures.

        It has the size of the pictures where the model takes that. Else their sides are rounded up to multiples. Where
        the model takes only some size or area, the window has the shape of that size, and is resized to it.

        Args:
            height: Rows of the pictures.
            width: Columns of the pictures.
            nearest: Gives the nearest size that the model takes.
            multiple: What height and width must be multiples of, if that is all that the model asks.
            cell: Pixels per latent cell.
        """
        for size in ((height, width), (_above(height, multiple), _above(width, multiple))):
            if nearest(*size) == size:
                return cls(0, 0, *size, size, cell=cell)
        size = nearest(height, width)
        scale = max(height / size[0], width / size[1])
        high, wide = (round(side * scale) for side in size)
        return cls(0, 0, max(height, high), max(width, wide), size, cell=cell)

    @classmethod
    def around(cls, known: Tensor, factor: float, side: int, nearest: Nearest, cell: int = 1) -> Window:
        """The window around the unknown pixels.

        Args:
            known: Boolean, (n, 1, H, W), True where a pixel is known. One window serves all n pictures.
            factor: Sides of the window over those of the smallest box that has all unknown pixels, at least 1.
            side: Side in pixels of the squares that the model was trained on: the window is painted at about side².
            nearest: Gives the nearest size that the model takes.
            cell: Pixels per latent cell.

        Raises:
            ValueError: For a factor below 1, or when every pixel is known.
        """
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 <= factor < math.inf:
            raise ValueError(f"crop must be a factor of at least 1, 1.5 for example, got {factor!r}")
        unknown = (~known).any(0)[0]
        if not bool(unknown.any()):
            raise ValueError("nothing is to be painted, so there is nothing to crop to")
        rows, columns = (torch.nonzero(unknown.any(axis))[:, 0].tolist() for axis in (1, 0))
        spans = [(found[0], found[-1] + 1) for found in (rows, columns)]
        # A long thin hole needs context across it too, so no side is shorter than half of the other.
        sides = [factor * (end - start) for start, end in spans]
        sides = [max(sides[0], sides[1] / 2), max(sides[1], sides[0] / 2)]
        places = []
        for (start, end), wanted, whole in zip(spans, sides, unknown.shape, strict=True):
            length = min(math.ceil(wanted), whole)
            first = (start + end - length) // 2
            places.append((min(max(first, 0), whole - length), length))
        (top, height), (left, width) = places
        scale = side / math.sqrt(height * width)
        size = nearest(round(height * scale), round(width * scale))
        window = cls(top, left, height, width, size, cell=cell)
        return window._unstretched(*unknown.shape)

    def _unstretched(self, rows: int, columns: int) -> Window:
        """The window, grown to the shape of its size where that is another: a model may take only squares."""
        scales = [side / painted for side, painted in zip((self.height, self.width), self.size, strict=True)]
        if max(scales) <= _STRETCH * min(scales):
            return self
        height, width = (round(painted * max(scales)) for painted in self.size)
        top, left = self.top - (height - self.height) // 2, self.left - (width - self.width) // 2
        top, left = max(0, min(top, rows - height)), max(0, min(left, columns - width))
        return replace(self, top=top, left=left, height=height, width=width)

    def is_all_of(self, pictures: Tensor) -> bool:
        """Whether this is the whole of pictures (n, C, [frames,] H, W), at their own size."""
        frames = (self.frames,) if pictures.ndim == 5 else ()
        return (self.top, self.left) == (0, 0) and tuple(pictures.shape[2:]) == (*frames, *self.size)

    def cut(self, pictures: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The window of pictures (n, C, [frames,] H, W) and of their known pixels (n, 1, [frames,] H, W).

        Both have the size of painting. A pixel is known if all pixels that it was made of are known.
        """
        shown, whole = self._shown(pictures), self._shown(known)
        whole[..., self._reach(0, known.shape[-2]) :, :] = 0
        whole[..., self._reach(1, known.shape[-1]) :] = 0
        if self.size == (self.height, self.width):
            return shown, whole
        return _resized(shown, self.size), _resized(whole.float(), self.size, "bilinear") > 1 - 1e-4

    def placed(self, made: Any, pictures: Tensor) -> Any:
        """The pipeline's pictures, of any output type, in the window of ``pictures`` (n, C, [frames,] H, W) in [0, 1].

        The result has the size of ``pictures`` and their number of frames.
        """
        pictures = pictures.repeat_interleave(len(made) // len(pictures), 0)
        pictures = pictures.transpose(1, 2) if pictures.ndim == 5 else pictures
        if isinstance(made, Tensor):  # (B, [frames,] C, H, W)
            return self._placed(made, pictures)
        if isinstance(made, np.ndarray):  # (B, [frames,] H, W, C)
            return self._placed(torch.from_numpy(made).movedim(-1, -3), pictures).movedim(-3, -1).numpy()
        return [self._placed_images(images, picture) for images, picture in zip(made, pictures, strict=True)]

    def _shown(self, values: Tensor) -> Tensor:
        rows = torch.arange(self.top, self.top + self.height).clamp(max=values.shape[-2] - 1)
        columns = torch.arange(self.left, self.left + self.width).clamp(max=values.shape[-1] - 1)
        values = values[..., rows[:, None], columns]
        if values.ndim < 5 or self.frames is None:
            return values
        return values[:, :, torch.arange(self.frames).clamp(max=values.shape[2] - 1)]

    def _reach(self, axis: int, length: int) -> int:
        """Up to where the window has pixels of pictures of that length, rounded up to a whole cell."""
        cell = self.cell * (self.height, self.width)[axis] / self.size[axis]
        return round(math.ceil((length - (self.top, self.left)[axis]) / cell - 1e-9) * cell)

    def _placed(self, made: Tensor, pictures: Tensor) -> Tensor:
        if self.size != (self.height, self.width):
            made = _resized(made, (self.height, self.width))
        height, width = pictures.shape[-2:]
        bottom, right = min(self.top + self.height, height), min(self.left + self.width, width)
        made = made[..., : bottom - self.top, : right - self.left]
        made = made[..., : len(pictures[0]), :, :, :] if made.ndim == 5 else made
        if made.shape[-2:] == (height, width):
            return made
        whole = (pictures * 255).round() if made.dtype == torch.uint8 else pictures
        whole = whole.to(made, copy=True)
        whole[..., self.top : bottom, self.left : right] = made
        return whole

    def _placed_images(self, images: Any, pictures: Tensor) -> Any:
        """PIL images, one with (C, H, W) or those of a video with (frames, C, H, W)."""
        from PIL import Image

        if isinstance(images, Sequence):
            return [self._placed_images(image, picture) for image, picture in zip(images, pictures, strict=False)]
        array = np.array(images)
        made = torch.from_numpy(array).reshape(*array.shape[:2], -1).movedim(-1, 0)
        placed = self._placed(made[None], pictures[None])[0].movedim(0, -1).numpy()
        return Image.fromarray(np.ascontiguousarray(placed.reshape(*placed.shape[:2], *array.shape[2:])), images.mode)


def _above(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _resized(values: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Pictures (…, H, W) in another size, in their dtype: bytes, or numbers in [0, 1]."""
    most = 255 if values.dtype == torch.uint8 else 1
    flat = values.reshape(-1, 1, *values.shape[-2:]).float()
    flat = F.interpolate(flat, size, mode=mode, antialias=True).clamp(0, most)
    flat = flat.round() if most == 255 else flat
    return flat.reshape(*values.shape[:-2], *size).to(values.dtype)
