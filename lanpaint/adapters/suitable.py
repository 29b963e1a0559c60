"""Pipelines that begin with a picture, or inpaint by themselves, and which one to give in place of each."""

from __future__ import annotations

import inspect
from typing import Any

# Parts of class names that say what a pipeline does with a picture of its own; without them the class has another.
_TASKS = ("Img2Img", "Inpainting", "Inpaint", "Fill", "Depth2Img", "DiffEdit", "ImageToVideo", "VideoToVideo")


def check_begins_with_noise(pipe: Any) -> None:
    """Raise ValueError for a pipeline that inpaints by itself, or that begins with a picture in place of noise."""
    kind, parameters = type(pipe), inspect.signature(type(pipe).__call__).parameters
    strength = parameters["strength"].default if "strength" in parameters else 1
    if "mask_image" in parameters:
        raise ValueError(
            f"{kind.__name__} inpaints by itself, and Inpainter makes a pipeline inpaint that does not (the mask is "
            f"called mask); {_instead(pipe)}"
        )
    if isinstance(strength, (int, float)) and strength < 1 and {"image", "video"} & set(parameters):
        raise ValueError(
            f"{kind.__name__} begins with a picture (strength={strength:g}) and leaves out the first of its times, and "
            f"a sampler needs all of them; {_instead(pipe)}"
        )


def _instead(pipe: Any) -> str:
    """Which pipeline to give in place of one that begins with a picture."""
    plain = _plain_class(type(pipe).__name__)
    if plain is None:
        return "give a text-to-image or text-to-video pipeline of its model"
    if _has_channels_for_pictures(pipe):
        return f"its network takes the picture as well, so load another model's: diffusers.{plain}.from_pretrained(…)"
    return f"give the one of the same parts: diffusers.{plain}.from_pipe(pipe)"


def _plain_class(name: str) -> str | None:
    import diffusers

    for task in _TASKS:
        plain = getattr(diffusers, name.replace(task, ""), None) if task in name else None
        if plain is not None:
            parameters = inspect.signature(plain.__call__).parameters
            if "mask_image" not in parameters and "strength" not in parameters:
                return str(plain.__name__)
    return None


def _has_channels_for_pictures(pipe: Any) -> bool:
    """Whether a pipeline's network takes more channels than it gives, twice as many for a variance left out."""
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    config: Any = getattr(network, "config", {})
    taken, given = config.get("in_channels"), config.get("out_channels")
    return bool(taken and given and taken > given and getattr(pipe, "controlnet", None) is None)
