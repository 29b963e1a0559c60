"""Known pixels pasted into what a pipeline has painted, with what the given pictures have beside their colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.adapters.makes import PICTURES
from lanpaint.checks import shown
from lanpaint.origin import Origin

_MOST_FEATHER = 1000  # pixels; more is a slip


def with_pictures(output: Any, change: Callable[[Any], Any]) -> Any:
    """The output of a pipeline with a function applied to its pictures. Raises ValueError if it has none."""
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    if isinstance(output, (list, np.ndarray, Tensor)):  # a modular pipeline that was asked for nothing else
        return change(output)
    is_state = isinstance(getattr(output, "values", None), dict)  # of a modular pipeline, with its inputs: image, say
    fields, names = (output.values, PICTURES[:3]) if is_state else (output, PICTURES)
    found = [name for name in names if fields.get(name) is not None]
    if not found and not is_state:
        raise ValueError(
            f"the pipeline returns {', '.join(fields)}, and none of {', '.join(names)}, so that the known pixels have "
            "no place to go; use another output_type, or return_dict=False"
        )
    for name in found:
        fields[name] = change(fields[name])
    return output


def given_back(made: Any, origins: Sequence[Any], weight: Tensor) -> Any:
    """PIL images, or those of videos, with what the given pictures have beside their colours; numbers as they are."""
    if isinstance(made, (Tensor, np.ndarray)):
        return made
    times = len(made) // len(origins)
    return [
        each_frame(origins[n // times], Origin.given_back, images, weight[n // times, 0])
        for n, images in enumerate(made)
    ]


def each_frame(origin: Any, function: Callable[..., Any], *others: Any) -> Any:
    """The function of an origin and others, or of the origin of each frame and those of the others."""
    if isinstance(origin, list):
        return [function(*frame) for frame in zip(origin, *others, strict=True)]
    return function(origin, *others)


def seam_weight(known: Tensor, feather: int) -> Tensor:
    """The weight of the known picture per pixel, shape of ``known``, from 0 (unknown) to 1 (kept exactly).

    Known pixels next to the unknown part have a ramp of weights over ``feather`` pixels.

    Args:
        known: Boolean, shape (…, H, W).
        feather: Width of the ramp in pixels.

    Raises:
        ValueError: For a feather that is not a whole number from 0 to 1000.
    """
    if isinstance(feather, bool) or not isinstance(feather, int) or not 0 <= feather <= _MOST_FEATHER:
        raise ValueError(
            f"feather must be a whole number of pixels of at least 0 and at most {_MOST_FEATHER}, got {shown(feather)}"
        )
    flat = (~known).reshape(-1, 1, *known.shape[-2:]).float()
    near = [F.max_pool2d(flat, 2 * reach + 1, stride=1, padding=reach) for reach in range(feather + 1)]
    return (1 - torch.stack(near).mean(0)).reshape(known.shape)


def pasted(made: Any, pictures: Tensor, weight: Tensor) -> Any:
    """The pictures of the pipeline, of any output type, with the known pixels pasted into them."""
    if isinstance(made, Tensor):  # (B, [F,] C, H, W)
        known, weight = (batched(t, len(made)).to(made) for t in (pictures, weight))
        return torch.where(weight == 1, known, torch.lerp(made, known, weight))
    if isinstance(made, np.ndarray):  # (B, [F,] H, W, C)
        tensor = torch.from_numpy(made).movedim(-1, -3)
        return pasted(tensor, pictures, weight).movedim(-3, -1).numpy()
    return _pasted_images(made, batched(pictures, len(made)), batched(weight, len(made)))


def _pasted_images(made: Sequence[Any], pictures: Tensor, weight: Tensor) -> list[Any]:
    """PIL images, or lists of PIL images, with the known pixels pasted into them. Known bytes are kept exactly."""
    from PIL import Image

    images: list[Any] = []
    for painted, picture, share in zip(made, pictures, weight, strict=True):
        if isinstance(painted, (list, tuple)):
            images.append(_pasted_images(painted, picture, share))
            continue
        array = np.array(painted)
        tensor = torch.from_numpy(array).float().reshape(*array.shape[:2], -1).movedim(-1, 0)
        blend = torch.lerp(tensor, picture * 255, share).round().clamp(0, 255).to(torch.uint8)
        images.append(Image.fromarray(blend.movedim(0, -1).reshape(array.shape).numpy(), painted.mode))
    return images


def batched(tensor: Tensor, count: int) -> Tensor:
    """A tensor (n, C, [frames,] …) in the layout of a pipeline's output, (count, [frames,] C, …)."""
    if count % len(tensor):
        raise ValueError(f"{len(tensor)} images were given and {count} painted; give one image, or one per prompt")
    tensor = tensor.repeat_interleave(count // len(tensor), 0)
    return tensor.transpose(1, 2) if tensor.ndim == 5 else tensor
