"""A call of a pipeline fitted to what is painted: the window, its size, and the pictures that guide it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.adapters.latents import LatentLayout
from lanpaint.adapters.makes import FRAMES, frames_argument
from lanpaint.adapters.tail import EncodedPrompts
from lanpaint.checks import check_whole
from lanpaint.given import Given
from lanpaint.images import as_image
from lanpaint.pictures import read_pictures
from lanpaint.window import Window

CONTROL = "control_image"
"""The picture of a ControlNet, which some pipelines call ``image``."""


def fitted(
    layout: LatentLayout,
    names: set[str],
    given: Given,
    crop: float | None,
    call: dict[str, Any],
    prompts: EncodedPrompts,
) -> tuple[Window, dict[str, Any]]:
    """What is painted, and the arguments of the call for it. The layout is learned for its size.

    Args:
        layout: The pipeline's, which is changed.
        names: Names of the pipeline's arguments.
        given: The pictures and masks.
        crop: The factor by which the window exceeds the hole; None for all of the pictures.
        call: Arguments of the call.
        prompts: Where encoded prompts are kept.

    Raises:
        ValueError: For a size that the call fixes otherwise, and for a crop that cannot be.
    """
    for ask in (False, True):
        sized = dict(call)
        window = _window(layout, given, crop, sized, prompts if ask else None)
        _set_size(layout.pipe, names, window, given.pictures, sized)
        layout.learn(sized, prompts)
        if layout.made_size in (None, window.size):
            break
    return window, sized


def _window(
    layout: LatentLayout, given: Given, crop: float | None, call: dict[str, Any], ask: EncodedPrompts | None
) -> Window:
    """What is painted: the whole pictures, or a window around the unknown pixels. ValueError if that cannot be.

    With encoded prompts the pipeline itself is asked what size it makes of a size.
    """
    multiple = asked_multiple(layout.pipe, layout.multiple, call)

    def nearest(height: int, width: int) -> tuple[int, int]:
        height, width = layout.nearest(height, width, None if ask is None else call, ask)
        if multiple == layout.multiple:
            return height, width
        return max(multiple, round(height / multiple) * multiple), max(multiple, round(width / multiple) * multiple)

    if crop is None:
        height, width = given.pictures.shape[-2:]
        window = Window.whole(height, width, nearest, multiple, layout.factor)
        if not layout.is_video:
            return window
        return replace(window, frames=layout.frames_above(given.pictures.shape[2]))
    if layout.is_video:
        raise ValueError(f"{type(layout.pipe).__name__} makes videos, and crop is for still images; leave it out")
    if call.get("output_type") == "latent":
        raise ValueError("crop needs pictures to lay back in their place, not latents; leave out output_type")
    return Window.around(given.known, crop, layout.native_side, nearest, layout.factor)


def _set_size(pipe: Any, names: set[str], window: Window, pictures: Tensor, call: dict[str, Any]) -> None:
    """Have the pipeline paint the size of the window, and show a ControlNet what the window shows."""
    sizes = dict(zip(("height", "width"), window.size, strict=True))
    if window.frames is not None:
        sizes[frames_argument(pipe) or FRAMES[0]] = window.frames
    for side, size in sizes.items():
        if side in names and call.setdefault(side, size) != size:
            raise ValueError(f"{side}={call[side]}, but the image is painted at {side} {size}; leave {side} out")
    check_whole("batch_size", call.get("batch_size", 1), least=1)
    if "batch_size" in names and len(pictures) > 1:
        call.setdefault("batch_size", len(pictures))
    guided = hasattr(pipe, "controlnet")
    for name in (CONTROL, "image"):
        if call.get(name) is not None:
            call[name] = _shown_control(call[name], window, pictures, guided)


def asked_multiple(pipe: Any, multiple: int, call: dict[str, Any]) -> int:
    """The multiple of height and width that the pipeline's own check takes: ``multiple``, doubled until it passes."""
    check = getattr(pipe, "check_inputs", None)
    if check is None:
        return multiple
    names = inspect.signature(check).parameters
    defaults = {name: value.default for name, value in inspect.signature(pipe.__call__).parameters.items()}
    given = {name: call.get(name, defaults.get(name)) for name in names}
    for times in (1, 2, 4, 8, 16):
        sides = {name: times * multiple for name in ("height", "width") if name in names}
        try:
            check(**{**given, **sides})
            return times * multiple
        except Exception:  # of the size, or of anything else that the pipeline will tell itself
            continue
    return multiple


def _shown_control(control: Any, window: Window, pictures: Tensor, guided: bool) -> Any:
    """What the window shows of a picture for a ControlNet, or of one of the size of ours; or of each of several.

    A reference of another size is the pipeline's own matter.
    """
    if isinstance(control, (list, tuple)):
        return [_shown_control(one, window, pictures, guided) for one in control]
    whole, size = window.is_all_of(pictures), tuple(pictures.shape[-2:])
    if whole and isinstance(control, (np.ndarray, Tensor)):
        return control
    values = read_pictures(control, "control image")[0]
    if not whole and (guided or tuple(values.shape[-2:]) == size):
        if tuple(values.shape[-2:]) != size:
            values = F.interpolate(values, size, mode="bicubic", antialias=True).clamp(0, 1)
        values = replace(window, frames=None).cut(values, torch.ones(1, 1, *size))[0]
    return as_image((values[0] * 255).round().to(torch.uint8).expand(3, -1, -1))
