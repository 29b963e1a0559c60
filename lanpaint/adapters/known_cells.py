"""The known part of a pipeline's latents, and the check that the pipeline decodes what was encoded.

A layout that does not fit a pipeline makes pictures that are wrong without a word. So what the pipeline gives its
decoder at known cells is compared with what the encoder gave for them.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.latents import LatentLayout, as_batch
from lanpaint.adapters.tail import DECODER_NOISE, joined, pictures_of
from lanpaint.observation import Observation

# Standard deviations within which what is drawn from an encoder's normal distribution lies, of millions of entries.
_DEVIATIONS = 6


class KnownCells:
    """The known part of one call of a pipeline: its observation, and the check on the way out.

    Args:
        layout: How the pipeline lays out pictures in its latents.
        pictures: (n, C, [frames,] height, width) in [0, 1].
        change: How much each pixel may change, from 0 (known) to 1, (n, 1, [frames,] height, width).
        decoder_noise: Deviation of the noise that the pipeline is told to add before it decodes.

    Attributes:
        layout: The layout.
    """

    def __init__(self, layout: LatentLayout, pictures: Tensor, change: Tensor, decoder_noise: float = 0.0) -> None:
        self.layout, self._pictures, self._change, self._noise = layout, pictures, change, decoder_noise
        self._name = type(layout.pipe).__name__
        self._encoded: tuple[Tensor, Tensor] | None = None
        self._eps, self._samples = 0.0, 0
        self._given: list[Tensor] = []
        self._chunks = 0  # of a video, that have begun

    @property
    def autoencoder(self) -> str | None:
        """Name of the module of the pipeline that decodes them."""
        return self.layout.name

    def observe(self, latents: Tensor) -> Observation:
        """The observation of the pipeline's latents.

        Args:
            latents: The latents with which the pipeline starts, (B, …).

        Raises:
            ValueError: When pictures and prompts, or pictures and latents, do not fit each other.
        """
        if len(latents) % len(self._pictures):
            raise ValueError(
                f"{len(self._pictures)} images were given and {len(latents)} {'is' if len(latents) == 1 else 'are'} "
                f"painted; give a prompt for each image, such as prompt=[…] of {len(self._pictures)}, or one image"
            )
        pictures, change = self._next_chunk()
        self._eps, self._samples = torch.finfo(latents.dtype).eps, len(latents)
        self._given = []
        self.layout.prepare(latents)
        self._encoded = self.layout.encoded_cells(pictures, change)
        return self.layout.placed(*self._encoded, latents)

    def _next_chunk(self) -> tuple[Tensor, Tensor]:
        """The frames that the pipeline samples now, and how much they may change: all, but where it samples by chunks.

        The last chunk is filled with its last frame. The pipeline cuts that off again.
        """
        window = None if self._pictures.ndim != 5 else self.layout.window(self._pictures.shape[2])
        if window is None:
            return self._pictures, self._change
        if self._given:
            self.check_latents()
        start, self._chunks = self._chunks * window, self._chunks + 1
        chunk = [t[:, :, start : start + window] for t in (self._pictures, self._change)]
        if not chunk[0].shape[2]:
            raise self._failure(f"samples more than {self._pictures.shape[2]} frames")
        lacking = window - chunk[0].shape[2]
        pictures, change = (torch.cat([t, *[t[:, :, -1:]] * lacking], dim=2) for t in chunk)
        return pictures, change

    def decoded(self, given: Tensor) -> None:
        """Note what the pipeline's decoder is given, (rows, channels, [frames,] height, width)."""
        self._given.append(given)

    def check_latents(self) -> None:
        """Raise ValueError when the decoder was not given what was encoded, at known cells."""
        if self._encoded is None:  # nothing was painted
            return
        encoded, change = self._encoded
        if not self._given:
            raise self._failure(f"does not decode with its {self.layout.name}")
        rows = self._samples * (1 if self.layout.learned is None else self.layout.learned.rows)
        given, pieces = None, 0
        while pieces < len(self._given) and (given is None or len(given) < rows):  # the last: a preview may come before
            pieces += 1
            given = joined(self._given[-pieces:])
        if given is None:
            raise self._failure("decodes pieces of several sizes")
        expected, cells = (as_batch(t, given.ndim) for t in (encoded, (change == 0).expand(encoded.shape)))
        if len(given) % len(expected) or given.shape[1:] != expected.shape[1:]:
            raise self._failure(
                f"decodes latents of shape {tuple(given.shape)} and the images encode to {tuple(expected.shape)}"
            )
        each, times = len(expected) // len(encoded), len(given) // len(expected)

        def repeated(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (-1, each)).repeat_interleave(times, 0).flatten(0, 1).to(given.device)

        expected, cells = repeated(expected), repeated(cells)
        if not bool(cells.any()):
            return
        away = torch.where(cells, abs(given.float() - expected.float()), 0.0)
        off, bound = float(away.max()), self._bound(given.dtype, float(abs(expected[cells]).max()))
        if off <= bound:
            return
        if self._pictures.ndim != 5 or away.ndim != 5 or not float(away[:, :, 1:].max()) <= bound:
            raise self._failure(f"decodes at known cells what is {off:.2g} away from the image's, {bound:.2g} allowed")
        # The first frame is the picture that the pipeline begins with, which some draw from what the encoder gives.
        spread = repeated(as_batch(self.layout.deviation(self._pictures), away.ndim))
        drawn = (away / spread)[:, :, :1][cells[:, :, :1]]
        if not (0.5 < float((drawn**2).mean()) < 2 and float(drawn.max()) < _DEVIATIONS):
            raise ValueError(
                f"{self._name} begins with a picture that is not the video's first frame, where that is known: give "
                "that frame as control_image, or a mask that is white in the first frame"
            )

    def check_pictures(self, made: Any) -> None:
        """Raise ValueError when a pixel pipeline paints other pixels than those that are known."""
        pictures = pictures_of(made)
        if pictures is None or pictures.shape[1:] != self._pictures.shape[1:]:
            raise self._failure("makes pictures of another size")
        times = len(pictures) // len(self._pictures)
        expected, known = (
            t.repeat_interleave(times, 0).to(pictures.device) for t in (self._pictures, self._change == 0)
        )
        known = known.expand(expected.shape)
        off = float(abs(pictures.float() - expected)[known].max()) if bool(known.any()) else 0.0
        bound = 2 / 255 + 16 * self._eps
        if not off <= bound:
            raise self._failure(f"paints known pixels that are {off:.2g} away from the image's, {bound:.2g} allowed")

    def _bound(self, dtype: torch.dtype, largest: float) -> float:
        """How far rounding in the pipeline may move an entry; a wrong scale or order moves it further."""
        learned = self.layout.learned
        eps = max(self._eps, torch.finfo(dtype).eps, 0.0 if learned is None else learned.eps)
        if learned is not None:
            largest = max(largest, float(abs(learned.shift).max()))
        return 16 * eps * largest + self._noise * (largest + 8)

    def _failure(self, found: str) -> ValueError:
        layout = self.layout
        source = f"read from its configuration, since {layout.reason}" if layout.reason else "learned from its tail"
        return ValueError(
            f"{self._name} {found} (its layout was {source}): give a layout= for its family, and report it"
        )


def decoder_noise(pipe: Any, call: dict[str, Any]) -> float:
    """The deviation of the noise that a call adds to the latents before they are decoded."""
    parameters = inspect.signature(type(pipe).__call__).parameters
    for name in DECODER_NOISE:
        value = call.get(name, parameters[name].default if name in parameters else None)
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            return max(abs(float(number)) for number in values)
    return 0.0
