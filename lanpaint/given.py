"""What a person gives to be painted: pictures, and how much of them may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.adapters.latents import LatentLayout
from lanpaint.checks import shown
from lanpaint.masks import edited
from lanpaint.pasting import each_frame
from lanpaint.pictures import read_change, read_with_origins, with_channels

_MOST_PAD = 100_000  # pixels; more is a slip


@dataclass(frozen=True)
class Given:
    """Pictures and masks.

    Attributes:
        pictures: (n, C, [frames,] height, width) in [0, 1].
        change: How much each pixel may change, from 0 (known) to 1 (painted), (n, 1, [frames,] height, width).
        known: Which pixels are known, of the same shape, boolean.
        origins: What each picture has beside its colours; a list per video.
    """

    pictures: Tensor
    change: Tensor
    known: Tensor
    origins: list[Any]


def read_given(
    image: Any,
    mask: Any,
    layout: LatentLayout,
    *,
    pad: Sequence[int] = (0, 0, 0, 0),
    soft: bool = False,
    strength: float = 1.0,
    edits: dict[str, Any] | None = None,
) -> Given:
    """What is given to be painted by a pipeline with this layout. :class:`~lanpaint.Inpainter` says what each means.

    Raises:
        TypeError: For a picture or a mask of another type.
        ValueError: For pictures and masks that do not fit each other or the pipeline, and where nothing is painted.
    """
    edits = edits or {}
    pictures, opaque, origins = read_with_origins(image)
    pictures = with_channels(pictures, layout.channels)
    change = None if opaque is None else (~opaque).float()
    if mask is not None:
        height, width = pictures.shape[-2:]
        may_be_empty = any(pad) or any(edits.values())
        change = read_change(mask, (height, width), len(pictures), may_be_empty, soft)
    if layout.is_video:
        pictures = _channels_first(pictures)
        origins = origins if isinstance(origins[0], list) else [origins]
        change = None if change is None else _channels_first(change)
    elif pictures.ndim == 5:
        raise ValueError(
            f"{type(layout.pipe).__name__} makes still images, but a video was given; give an image, "
            "or use a video pipeline"
        )
    change = torch.zeros(()).expand(pictures[:, :1].shape) if change is None else change
    if len(change) not in (1, len(pictures)):
        raise ValueError(f"got {len(change)} masks for {len(pictures)} images; give one mask for all, or one per image")
    if change.ndim == 5 and change.shape[2] not in (1, pictures.shape[2]):
        raise ValueError(
            f"the mask has {change.shape[2]} frames and the video {pictures.shape[2]}; "
            "give one mask for all frames, or one per frame"
        )
    if change.ndim != pictures.ndim:
        raise ValueError(
            f"the mask has shape {tuple(change.shape)} for a picture of {tuple(pictures.shape)}; give (height, width)"
        )
    if any(edits.values()):
        change = edited(change, **edits)
        change = change if soft else (change >= 0.5).float()
    change = change.expand(pictures[:, :1].shape).clone()
    if any(pad):
        pictures, change = _padded(pictures, change, pad)
        origins = [each_frame(origin, lambda one: one.padded(pad)) for origin in origins]
    if not bool(change.any()) and (mask is None or any(edits.values())):
        changed = ", ".join(f"{name}={value}" for name, value in edits.items() if value)
        raise ValueError(
            "there is nothing to paint: give a mask, an image with transparent pixels, or pad"
            if not changed
            else f"nothing is left to paint after {changed}; give a mask that is larger, or change it less"
        )
    return Given(pictures, change * checked_strength(strength), change == 0, origins)


def checked_strength(strength: float) -> float:
    """``strength``. Raises ValueError for what is no number above 0 and at most 1."""
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 < strength <= 1:
        raise ValueError(f"strength must be a number above 0 and at most 1, got {strength!r}")
    return float(strength)


def _channels_first(video: Tensor) -> Tensor:
    """A video (frames, C, H, W), or several videos (n, frames, C, H, W), as (n, C, frames, H, W)."""
    return (video[None] if video.ndim == 4 else video).transpose(1, 2)


def check_pad(pad: Sequence[int]) -> None:
    """Raise ValueError for what are no four numbers of pixels."""
    is_list = isinstance(pad, Sequence) and len(pad) == 4
    if not is_list or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= _MOST_PAD for n in pad):
        raise ValueError(
            f"pad must be four whole numbers from 0 to {_MOST_PAD:,} (left, top, right, bottom), got {shown(pad)}"
        )


def _padded(pictures: Tensor, change: Tensor, pad: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Padded pictures and how much may change in them. The added pixels repeat the edge, for the VAE."""
    left, top, right, bottom = pad
    flat = pictures.reshape(-1, 1, *pictures.shape[-2:])
    flat = F.pad(flat, (left, right, top, bottom), mode="replicate")
    return flat.reshape(*pictures.shape[:-2], *flat.shape[-2:]), F.pad(change, (left, right, top, bottom), value=1.0)
