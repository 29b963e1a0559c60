"""The canvas of ``lanpaint wide``: how large it is, where the given picture lies on it, and what of it is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lanpaint.images import Picture
from lanpaint.painting.media import Media


@dataclass(frozen=True)
class Canvas:
    """A canvas of pixels.

    Attributes:
        pixels: uint8, (1, C, height, width); 0 where nothing is known.
        known: Boolean, (1, 1, height, width).
    """

    pixels: Tensor
    known: Tensor

    @classmethod
    def laid(
        cls, media: Media | None, width: int | None, height: int | None, padding: tuple[int, int, int, int]
    ) -> Canvas:
        """A canvas of a size, or of a picture with what is added around it.

        Args:
            media: The picture, and what of it is painted; None for an empty canvas.
            width: Width of the canvas; None for that of the picture.
            height: Height of the canvas; None for that of the picture.
            padding: Pixels that are added at the left, top, right and bottom of the picture.

        Raises:
            ValueError: For a size that is not given, or given twice, or too small, and where nothing is to be painted.
        """
        left, top, right, bottom = padding
        if media is None:
            if any(padding) or width is None or height is None:
                raise ValueError("without a picture, give --width and --height, and no --pad")
            return cls(torch.zeros(1, 1, height, width, dtype=torch.uint8), torch.zeros(1, 1, height, width).bool())
        if any(padding) and (width is not None or height is not None):
            raise ValueError("--pad or --width and --height say how large the result is; give one of the two")
        high, wide = media.size
        tall = high + top + bottom if height is None else height
        broad = wide + left + right if width is None else width
        if tall < high or broad < wide:
            raise ValueError(f"the picture is {wide}×{high}, larger than the result of {broad}×{tall}; give more")
        at = (..., slice(top, top + high), slice(left, left + wide))
        pixels = torch.zeros(1, media.frames.shape[1], tall, broad, dtype=torch.uint8)
        known = torch.zeros(1, 1, tall, broad, dtype=torch.bool)
        pixels[at] = media.frames[:1]
        known[at] = True if media.change is None else media.change[0] < 0.5
        if bool(known.all()):
            raise ValueError("there is nothing to paint: give --width, --height or --pad, or a mask with white in it")
        return cls(pixels, known)

    def of_channels(self, channels: int) -> Canvas:
        """The canvas in grey or colour."""
        return replace(self, pixels=Picture(self.pixels[0]).with_channels(channels).pixels[None])

    @property
    def painted(self) -> float:
        """Share of the pixels that are painted."""
        return float((~self.known).float().mean())
