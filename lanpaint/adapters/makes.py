"""What a pipeline makes, pictures, videos or sound, as its parts and the arguments of its call tell."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

FRAMES = ("num_frames", "frames", "video_length")
"""Arguments that say how many frames a video has."""

PICTURES = ("images", "frames", "videos", "image", "video")
"""What pipelines call the pictures that they return."""

_PROCESSORS = ("image_processor", "video_processor")
# Parts of the names of arguments that pipelines of sound have.
_OF_SOUND = ("audio", "waveform")


def call_names(pipe: Any) -> set[str]:
    """Names of the arguments of a pipeline's call."""
    return set(inspect.signature(pipe.__call__).parameters)


def frames_argument(pipe: Any) -> str | None:
    """The pipeline's name for the number of frames; None for a pipeline that is not told that number."""
    return next((name for name in FRAMES if name in call_names(pipe)), None)


def makes_video(pipe: Any) -> bool:
    """Whether a pipeline makes videos. Some make stills with a VAE, and a processor, that are made for videos."""
    stills = "num_images_per_prompt" in call_names(pipe)
    return frames_argument(pipe) is not None or (hasattr(pipe, "video_processor") and not stills)


def makes_sound(pipe: Any) -> bool:
    """Whether a pipeline makes sound, and no pictures."""
    names = call_names(pipe)
    return "height" not in names and any(word in name for name in names for word in _OF_SOUND)


def picture_processor(pipe: Any) -> Any:
    """What turns pictures into the VAE's input, and its output into pictures; None for a pipeline without it.

    What prepares pictures for an encoder of pictures may be called ``image_processor`` too, and makes no pictures.
    """
    names = reversed(_PROCESSORS) if makes_video(pipe) else _PROCESSORS
    parts = (getattr(pipe, name, None) for name in names)
    return next((part for part in parts if _makes_pictures(part)), None)


def check_makes_pictures(pipe: Any) -> None:
    """Raise ValueError for a pipeline that makes something else than pictures, or pictures of an uncommon kind."""
    name = type(pipe).__name__
    if makes_sound(pipe):
        raise ValueError(
            f"{name} makes sound, and image and mask are of pictures; what is known of its latents is given to "
            "lanpaint.bridged(pipe, sampler, observation)"
        )
    fields = returned_fields(pipe)
    if fields and fields[0] not in PICTURES:
        raise ValueError(
            f"{name} makes {', '.join(fields)}, and Inpainter paints pictures; give a pipeline that makes pictures or "
            "videos, or paint the latents of this one by lanpaint.bridged"
        )
    own = [part for part in vars(pipe).values() if _makes_pictures(part)]
    if own and picture_processor(pipe) is None:
        raise ValueError(
            f"{name} makes its pictures with a {type(own[0]).__name__}, whose values are not those of ordinary "
            "pictures, so that a picture cannot be a part of them; use another pipeline of its family"
        )


def returned_fields(pipe: Any) -> tuple[str, ...]:
    """Names of the fields of the output of a pipeline; empty where its code does not tell."""
    call = inspect.unwrap(type(pipe).__call__)
    for name in getattr(getattr(call, "__code__", None), "co_names", ()):
        kind = call.__globals__.get(name)
        if isinstance(kind, type) and issubclass(kind, dict) and dataclasses.is_dataclass(kind):
            return tuple(field.name for field in dataclasses.fields(kind))
    return ()


def _makes_pictures(part: Any) -> bool:
    return callable(getattr(part, "preprocess", None)) and callable(getattr(part, "postprocess", None))


def missing_arguments(pipe: Any, call: dict[str, Any]) -> list[str]:
    """Names of the arguments without which a pipeline cannot be called, and which a call does not give."""
    parameters = inspect.signature(pipe.__call__).parameters
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [name for name, one in parameters.items() if one.kind in plain and one.default is inspect.Parameter.empty]
    return [name for name in needed if name not in ("self", *call)]
