"""Painting with an unconditional pixel-space model."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.adapters.diffusers import PixelModel
from lanpaint.images import Picture, as_image, to_pixels
from lanpaint.masks import by_shade
from lanpaint.methods import usual_method
from lanpaint.observation import Observation
from lanpaint.painting.media import Media
from lanpaint.painting.painter import Painter, Prepared
from lanpaint.painting.task import Settings, Task
from lanpaint.painting.watch import WatchedScore, Watching
from lanpaint.preview import Preview
from lanpaint.samplers import Sampler
from lanpaint.window import Window

_OF_PIPELINES = ("negative_prompt", "guidance_scale", "known_guidance_scale", "control_image", "match_colour")


class PixelPainter(Painter):
    """Paints pictures with an unconditional pixel-space model.

    Args:
        network: The model, on the device that it runs on.
        source: Where the model comes from.
        most: Tasks in one batch at most.
        **common: As in :class:`Painter`.
    """

    def __init__(self, network: PixelModel, *, source: str = "", most: int = 64, **common: Any) -> None:
        super().__init__(source or "the model", **common)
        self.network, self.source, self.most, self.usual = network, source, most, min(most, 16)
        self.usual_method = usual_method(network.time_maps)
        weight = next(network.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self._score = WatchedScore(network)
        self._sampler: tuple[str, Sampler] | None = None

    @property
    def identity(self) -> dict[str, Any]:  # noqa: D102
        made = {"model": self.source, "dtype": str(self.dtype).removeprefix("torch.")}
        return made | ({"method": self.usual_method} if self.network.time_maps else {})

    def check(self, task: Task) -> None:  # noqa: D102
        given = {name: getattr(task.checked, name) for name in _OF_PIPELINES}
        given = {"prompt": task.prompt, **given, "arguments": task.checked.arguments}
        names = [self.spelled(name) for name, value in given.items() if value]
        if names:
            raise ValueError(
                f"{' and '.join(names)}: only for pipelines, and this is a pixel-space model; leave it out"
            )
        self._sampler_of(task.checked)

    def _sampler_of(self, settings: Settings) -> Sampler:
        key = settings.sampling
        if self._sampler is None or self._sampler[0] != key:
            sampler = settings.found_method.sampler(
                self._score, steps=settings.steps, spacing=settings.levels, dynamics=settings.dynamics,
                solver=settings.solver, progress=self.progress and sys.stderr is not None, **settings.options,
            )  # fmt: skip
            self._sampler = key, sampler
        return self._sampler[1]

    def fitted(self, media: Media, settings: Settings) -> tuple[Media, Hashable]:
        """The padded picture, with the model's number of channels, and what pictures of its batch share.

        Raises:
            ValueError: For a picture whose size or colours the model cannot take.
        """
        frames, origins = media.frames, media.origins
        if media.rate is not None or len(frames) > 1:
            raise ValueError(f"the image has {len(frames)} frames and the model makes still images; give a still image")
        change = torch.zeros(1, *media.size) if media.change is None else media.change
        if any(settings.pad):
            left, top, right, bottom = settings.pad
            frames = F.pad(frames.float(), (left, right, top, bottom), mode="replicate").to(torch.uint8)
            change = F.pad(change, (left, right, top, bottom), value=1.0)
            origins = tuple(origin.padded((left, top, right, bottom)) for origin in origins)
        media = Media(frames, change * settings.strength, origins=origins)
        size = self._window(media, settings.crop).size
        self._check_size(size, media.size)  # before the colours: a photo is told that it needs another model
        media = replace(media, frames=Picture(media.frames[0]).with_channels(self.network.channels).pixels[None])
        if settings.mixes_samples:
            return media, None
        return media, (size, settings.sampling, float(change.max()) * settings.strength)  # samples begin together

    def _check_size(self, size: tuple[int, int], given: tuple[int, int]) -> None:
        (height, width), trained = size, self.network.sample_size
        if not all(trained) or (height, width) == trained:
            return
        if height >= 4 * trained[0] or width >= 4 * trained[1]:
            raise ValueError(
                f"the image is {given[1]}×{given[0]} and the model paints {trained[1]}×{trained[0]} images; no model "
                "that comes with lanpaint paints photos: give a pipeline with --model, such as Stable Diffusion, or "
                f"paint the surroundings of the hole alone, at {trained[1]}×{trained[0]}, with --crop 1.5"
            )
        warnings.warn(
            f"the model was trained on {trained[1]}×{trained[0]} images, this one is painted at {width}×{height}",
            stacklevel=1,
        )

    def _window(self, media: Media, crop: float | None) -> Window:
        assert media.change is not None
        multiple = self.network.multiple

        def nearest(height: int, width: int) -> tuple[int, int]:
            return max(multiple, round(height / multiple) * multiple), max(multiple, round(width / multiple) * multiple)

        if crop is None:
            return Window.whole(*media.size, nearest, multiple)
        side = self.network.sample_size[0] or min(media.size)
        return Window.around(media.change[:, None] == 0, crop, side, nearest)

    def run(self, batch: Sequence[Prepared], watching: Watching | None) -> tuple[list[list[Any]], int]:
        """The painted pictures, known pixels unchanged."""
        from lanpaint.randomness import seeded

        settings = batch[0].task.checked
        sheets = [_Sheet(one, self._window(one.media, one.task.checked.crop)) for one in batch]
        sampler, before = self._sampler_of(settings), self._score.evaluations
        shown = [sheet.shown() for sheet in sheets]
        observation = Observation.soft(
            (2 * torch.cat([values for values, _ in shown]) - 1).to(self.device), torch.cat([part for _, part in shown])
        )
        callbacks = [*sampler.callbacks]
        if watching is not None:
            self._score.told = watching.evaluated

            def show(pictures: Tensor, _: int) -> None:  # of particles, the first
                rows = zip(sheets, pictures, strict=False)
                watching.tell(tuple(sheet.pasted(row[None])[0].float() / 255 for sheet, row in rows))

            sampler.callbacks += [watching, Preview(show, watching.every)]
        try:
            x = sampler(observation, generator=seeded([one.task.seed for one in batch]))
        finally:
            self._score.told = None
            sampler.callbacks[:] = callbacks
        painted = [[sheet.given_back(row[None])] for sheet, row in zip(sheets, x, strict=True)]
        return painted, self._score.evaluations - before


class _Sheet:
    """A picture of a batch: what of it is painted, and where that goes."""

    def __init__(self, one: Prepared, window: Window) -> None:
        from lanpaint.pasting import seam_weight

        assert one.media.change is not None
        self.media, self.window = one.media, window
        change = one.media.change[:, None]
        self.weight = seam_weight(change == 0, one.task.checked.feather)
        # The seam is painted too, to fade into it.
        self.change = torch.where((self.weight < 1) & (change == 0), change.max(), change)

    def shown(self) -> tuple[Tensor, Tensor]:
        """The values in [0, 1] of what the model sees, and how much may change there; both (1, C, H, W)."""
        values = self.window.cut(self.media.frames.float() / 255, self.change == 0)[0]
        return values, by_shade(lambda known: self.window.cut(self.change, known)[1], self.change)

    def pasted(self, x: Tensor) -> Tensor:
        """uint8 pixels of x (1, C, H, W) in the picture."""
        made = self.window.placed(to_pixels(x), self.media.frames / 255)
        return torch.lerp(made.float(), self.media.frames.float(), self.weight).round().to(torch.uint8)

    def given_back(self, x: Tensor) -> Any:
        """A PIL image of x (1, C, H, W) with what the picture had beside its colours."""
        return self.media.origins[0].given_back(as_image(self.pasted(x)[0]), self.weight[0, 0])
