"""``lanpaint inpaint`` with an unconditional pixel-space model."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.cli.media import Media
from lanpaint.images import Picture, as_image, to_pixels
from lanpaint.masks import by_shade
from lanpaint.methods import Method
from lanpaint.observation import Observation
from lanpaint.preview import Preview
from lanpaint.window import Window


class PixelPainter:
    """Paints pictures with an unconditional pixel-space model.

    Args:
        model: The model's folder or hub id.
        device: The device that the model runs on.
        dtype: The dtype of its weights and computations.
        pad: Pixels to add and paint at the left, top, right and bottom.
        crop: Paint only the surroundings of the hole, this many times its size, at the model's size. None paints all.
        strength: What the greys of masks are multiplied by, as in :class:`~lanpaint.Inpainter`.
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
        crop: float | None,
        strength: float,
        quiet: bool,
        method: Method,
        /,
        **options: Any,
    ) -> None:
        from lanpaint.adapters.diffusers import load_pixel_model
        from lanpaint.score import CountedScore

        self.network, self.device = load_pixel_model(model, device=device, dtype=dtype), device
        self.pad, self.crop, self.strength = pad, crop, strength
        self._score = CountedScore(self.network)
        progress = not quiet and sys.stderr is not None
        self.sampler = method.sampler(self._score, progress=progress, **options)

    @property
    def evaluations(self) -> int:  # noqa: D102
        return self._score.evaluations

    def fit(self, media: Media) -> Media:
        """The padded picture, with the model's number of channels.

        Raises:
            ValueError: For a picture whose size or colours the model cannot take.
        """
        frames, origins = media.frames, media.origins
        change = torch.zeros(1, *media.size) if media.change is None else media.change
        if any(self.pad):
            left, top, right, bottom = self.pad
            frames = F.pad(frames.float(), (left, right, top, bottom), mode="replicate").to(torch.uint8)
            change = F.pad(change, (left, right, top, bottom), value=1.0)
            origins = tuple(origin.padded(self.pad) for origin in origins)
        media = Media(frames, change * self.strength, origins=origins)
        self._check_size(*self._window(media).size)  # before the colours: a photo is told that it needs another model
        return replace(media, frames=Picture(media.frames[0]).with_channels(self.network.channels).pixels[None])

    def _check_size(self, height: int, width: int) -> None:
        trained = self.network.sample_size
        if not all(trained) or (height, width) == trained:
            return
        if height >= 4 * trained[0] or width >= 4 * trained[1]:
            raise ValueError(
                f"the image is {width}×{height} and the model paints {trained[1]}×{trained[0]} images; no model "
                "that comes with lanpaint paints photos: give a pipeline with --model, such as Stable Diffusion"
            )
        print(
            f"note: the model was trained on {trained[1]}×{trained[0]} images, this one is painted at {width}×{height}",
            file=sys.stderr,
        )

    def _window(self, media: Media) -> Window:
        assert media.change is not None
        multiple = self.network.multiple

        def nearest(height: int, width: int) -> tuple[int, int]:
            return max(multiple, round(height / multiple) * multiple), max(multiple, round(width / multiple) * multiple)

        if self.crop is None:
            return Window.whole(*media.size, nearest, multiple)
        side = self.network.sample_size[0] or min(media.size)
        return Window.around(media.change[:, None] == 0, self.crop, side, nearest)

    def paint(self, media: Media, seed: int, feather: int, preview: Preview | None = None) -> list[Any]:
        """The painted picture, one PIL image with known pixels unchanged. ``media`` comes from :meth:`fit`."""
        from lanpaint.pasting import seam_weight
        from lanpaint.randomness import seeded

        assert media.change is not None
        change, window = media.change[:, None], self._window(media)
        weight = seam_weight(change == 0, feather)
        change = torch.where((weight < 1) & (change == 0), change.max(), change)  # the seam is painted, to fade into it
        shown = window.cut(media.frames.float() / 255, change == 0)[0]
        shown_change = by_shade(lambda known: window.cut(change, known)[1], change)
        observation = Observation.soft((2 * shown - 1).to(self.device), shown_change)

        def pasted(x: Tensor) -> Tensor:
            made = window.placed(to_pixels(x), media.frames / 255)
            return torch.lerp(made.float(), media.frames.float(), weight).round().to(torch.uint8)

        callbacks = [*self.sampler.callbacks]
        if preview is not None:
            self.sampler.callbacks.append(preview.through(lambda denoised: pasted(denoised).float() / 255))
        try:
            pixels = pasted(self.sampler(observation, generator=seeded([seed])))
        finally:
            self.sampler.callbacks[:] = callbacks
        return [media.origins[0].given_back(as_image(pixels[0]), weight[0, 0])]
