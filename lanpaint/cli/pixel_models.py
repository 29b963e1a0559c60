"""``lanpaint inpaint`` with an unconditional pixel-space model."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.cli.media import Media
from lanpaint.images import Picture, to_pixels
from lanpaint.methods import Method
from lanpaint.observation import Observation


class PixelPainter:
    """Paints pictures with an unconditional pixel-space model.

    Args:
        model: The model's folder or hub id.
        device: The device that the model runs on.
        dtype: The dtype of its weights and computations.
        pad: Pixels to add and paint at the left, top, right and bottom.
        resize: Whether to resize pictures of a size that the model cannot take. If False, they raise an error.
        quiet: Whether to show no progress bar.
        method: The method that makes the sampler.
        **options: As in :meth:`lanpaint.methods.Method.sampler`.

    Attributes:
        evaluations: Number of evaluations of the model so far.
        is_video: Always False.
    """

    is_video = False

    def __init__(
        self,
        model: str,
        device: torch.device,
        dtype: torch.dtype,
        pad: tuple[int, int, int, int],
        resize: bool,
        quiet: bool,
        method: Method,
        **options: Any,
    ) -> None:
        from lanpaint.adapters.diffusers import load_pixel_model
        from lanpaint.score import CountedScore

        self.network, self.device = load_pixel_model(model, device=device, dtype=dtype), device
        self.pad, self.resize = pad, resize
        self._score = CountedScore(self.network)
        progress = not quiet and sys.stderr is not None
        self.sampler = method.sampler(self._score, progress=progress, **options)

    @property
    def evaluations(self) -> int:  # noqa: D102
        return self._score.evaluations

    def fit(self, media: Media) -> Media:
        """The padded picture, with the model's number of channels and in a size that the model takes.

        Raises:
            ValueError: For a picture whose size or colours the model cannot take.
        """
        left, top, right, bottom = self.pad
        across, along = left + right, top + bottom
        height, width = media.size
        if self.resize:
            multiple = self.network.multiple
            fitted = [max(multiple, round(n / multiple) * multiple) for n in (height + along, width + across)]
            media = media.resized(fitted[0] - along, fitted[1] - across)
            height, width = media.size
        size = height + along, width + across
        trained = self.network.sample_size
        if all(trained) and (size[0] >= 4 * trained[0] or size[1] >= 4 * trained[1]):
            raise ValueError(
                f"the image is {size[1]}×{size[0]} and the model paints {trained[1]}×{trained[0]} images; no model "
                "that comes with lanpaint paints photos: give a pipeline with --model, such as Stable Diffusion"
            )
        self.network.check_size(*size)
        if size != trained and all(trained):
            print(
                f"note: the model was trained on {trained[1]}×{trained[0]} images, this one is {size[1]}×{size[0]}",
                file=sys.stderr,
            )
        frames = Picture(media.frames[0]).with_channels(self.network.channels).pixels[None]
        known = media.known if media.known is not None else torch.ones(1, *media.size, dtype=torch.bool)
        if any(self.pad):
            frames = F.pad(frames.float(), (left, right, top, bottom), mode="replicate").to(torch.uint8)
            known = F.pad(known, (left, right, top, bottom), value=False)
        return Media(frames, known)

    def paint(self, media: Media, seed: int, feather: int) -> Tensor:
        """The painted picture: uint8, shape (1, C, H, W), known pixels unchanged. ``media`` comes from :meth:`fit`."""
        from lanpaint.inpainter import seam_weight
        from lanpaint.randomness import seeded

        assert media.known is not None
        values = Picture(media.frames[0]).values().to(self.device)
        x = self.sampler(Observation(values, media.known.to(self.device)), generator=seeded([seed]))
        made, weight = to_pixels(x), seam_weight(media.known[:, None], feather)
        return torch.lerp(made.float(), media.frames.float(), weight).round().to(torch.uint8)
