"""A crop around what is painted: a large picture is painted where it is needed, at the size that the model is made for.

The window around the painted pixels, wider by the context factor, is resized to the model's size, painted, resized back
and laid in its place. Pixels that are known never pass the model; the pixels outside of the window are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


@dataclass(frozen=True)
class Crop:
    """A window of pictures, and the size at which it is painted.

    Attributes:
        top: First row of the window.
        left: First column of the window.
        height: Rows of the window.
        width: Columns of the window.
        size: (height, width) in pixels at which the window is painted.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]

    @classmethod
    def around(cls, known: Tensor, factor: float, side: int, nearest: Callable[[int, int], tuple[int, int]]) -> Crop:
        """The crop around the unknown pixels.

        Args:
            known: Boolean, (n, 1, H, W), True where a pixel is known. One window serves all n pictures.
            factor: Sides of the window over those of the smallest box that has all unknown pixels, at least 1.
            side: Side in pixels of the squares that the model was trained on: the window is painted at about side².
            nearest: Gives the nearest size that the pipeline takes.

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
        return cls(top, left, height, width, nearest(round(height * scale), round(width * scale)))

    def cut(self, pictures: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The window of pictures (n, C, H, W) and of their known pixels (n, 1, H, W), at the size of painting.

        A pixel is known if all pixels that it was made of are known.
        """
        rows, columns = self._window
        pictures, whole = pictures[..., rows, columns], known[..., rows, columns].float()
        if self.size != (self.height, self.width):
            pictures = F.interpolate(pictures, self.size, mode="bicubic", antialias=True).clamp(0, 1)
            whole = F.interpolate(whole, self.size, mode="bilinear", antialias=True)
        return pictures, whole > 1 - 1e-4

    def placed(self, made: Any, pictures: Tensor) -> Any:
        """The pipeline's pictures, of any output type, in the window of ``pictures`` (n, C, H, W) in [0, 1]."""
        if isinstance(made, Tensor):
            return self._placed(made, pictures)
        if isinstance(made, np.ndarray):
            return self._placed(torch.from_numpy(made).movedim(-1, 1), pictures).movedim(1, -1).numpy()
        return self._placed_images(made, pictures)

    @property
    def _window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def _placed(self, made: Tensor, pictures: Tensor) -> Tensor:
        whole = pictures.repeat_interleave(len(made) // len(pictures), 0).to(made, copy=True)
        if self.size != (self.height, self.width):
            made = F.interpolate(made.float(), (self.height, self.width), mode="bicubic", antialias=True).to(whole)
        rows, columns = self._window
        whole[..., rows, columns] = made.clamp(0, 1)
        return whole

    def _placed_images(self, made: Sequence[Any], pictures: Tensor) -> list[Any]:
        from PIL import Image

        arrays = [np.array(image) for image in made]
        values = torch.stack([torch.from_numpy(a).reshape(*a.shape[:2], -1).movedim(-1, 0) for a in arrays]).float()
        whole = (self._placed(values / 255, pictures) * 255).round().to(torch.uint8).movedim(1, -1).numpy()
        return [
            Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array, image.mode)
            for array, image in zip(whole, made, strict=True)
        ]
