"""``lanpaint inpaint`` with a pipeline of diffusers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lanpaint.adapters.loading import load_whole, read_index, told
from lanpaint.callbacks import DivergenceError
from lanpaint.cli.media import Media
from lanpaint.images import as_image, read_picture
from lanpaint.methods import Method
from lanpaint.options import read_value, split_pairs
from lanpaint.preview import Preview
from lanpaint.samplers import LanPaint, Sampler
from lanpaint.solvers import Solver

# Arguments of a pipeline or an Inpainter → the flag that gives them; None where the command line chooses.
_FLAGS = {
    "num_inference_steps": "--steps", "steps": "--steps", "prompt": "--prompt", "negative_prompt": "--negative-prompt",
    "guidance_scale": "--guidance-scale", "known_guidance_scale": "--known-guidance-scale", "pad": "--pad",
    "num_images_per_prompt": "--count", "control_image": "--control-image", "feather": "--feather", "crop": "--crop",
    "strength": "--strength", "soft": "--soft-mask", "grow": "--grow", "blur": "--blur", "invert": "--invert-mask",
    "match_colour": "--match-colour", "preview": "--preview", "generator": "--seed", "mask": "MASK",
    "image": "IMAGE", "output_type": None, "return_dict": None,
}  # fmt: skip
# The parts of an unconditional pixel-space pipeline. Its network is used directly, without the pipeline.
_PIXEL_PARTS = {"unet", "scheduler"}


def pipeline_parts(model: str) -> set[str] | None:
    """Names of the parts in the index of a diffusers pipeline; None for a model that is not a pipeline.

    Raises:
        ValueError: For a folder or hub id whose index cannot be read.
    """
    folder = Path(model)
    index: Any
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            return None
        index = read_index(folder)
    elif folder.is_absolute() or "/" not in model.strip("/.") or folder.suffix in (".safetensors", ".ckpt", ".bin"):
        return None
    else:
        from diffusers import DiffusionPipeline

        try:
            index = DiffusionPipeline.load_config(model)
        except Exception as error:  # the hub and its client can raise anything
            raise ValueError(f"cannot load {model!r} from the hub: {told(error)}") from error
    if not isinstance(index, dict):
        return None
    return {name for name, part in index.items() if isinstance(part, (list, tuple)) and part and part[0] is not None}


def is_pixel_model(parts: set[str] | None) -> bool:
    """Whether a model with these parts is an unconditional pixel-space model."""
    return parts is None or parts <= _PIXEL_PARTS


def load_pipeline(model: str, device: torch.device, dtype: torch.dtype, offload: bool, quiet: bool) -> Any:
    """A pipeline of diffusers, loaded to the device.

    Raises:
        ValueError: When the pipeline cannot be loaded, and for ``offload`` without a GPU.
    """
    from diffusers.utils import logging

    try:
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise ImportError("pipelines need more packages: pip install 'lanpaint[pipelines]'") from error
    if quiet:
        logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
    if offload and device.type == "cpu":
        raise ValueError("--offload needs a GPU, and there is no GPU; leave it out")
    pipe = load_whole(model, dtype)
    if offload:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    return pipe.to(device)


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """Name → value, from texts ``NAME=VALUE``. A value that is not JSON (number, true, false, null, list) is a text.

    Raises:
        ValueError: For a text without ``=``, a number that is not finite, and an argument that has a flag of its own or
            that the command line gives itself.
    """
    values = {name: read_value(text) for name, text in split_pairs(given, "--set", "true_cfg_scale=4").items()}
    for name, value in values.items():
        if name in _FLAGS:
            flag = _FLAGS[name]
            raise ValueError(
                f"--set {name}: " + (f"give it by {flag}" if flag else "the command line sets it; leave it out")
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--set {name} must be a finite number, got {value}")
    return values


def check_sampling(method: Method, levels: str | None) -> None:
    """Raise ValueError for options that no pipeline supports: a method that needs a gradient, and ``--levels``."""
    if method.needs_gradient:
        raise ValueError(
            f"{method.name} needs the gradient of the score, and a pipeline gives none; take another --method, or use "
            "a network adapter (lanpaint.adapters.networks)"
        )
    if levels is not None:
        raise ValueError("--levels: only for pixel-space models; for a pipeline, --scheduler sets the levels")


class PipelinePainter:
    """Paints pictures or a video with a pipeline.

    Args:
        pipe: The pipeline.
        call: Arguments of the pipeline's call: prompt, guidance scale and so on. None stands for the pipeline's
            default.
        scheduler: Name of a scheduler that replaces the pipeline's, see :mod:`lanpaint.adapters.scheduler_names`.
        pad: Pixels to add and paint at the left, top, right and bottom.
        quiet: Whether to show no progress bar.
        control_image: File of the picture for the ControlNet.
        known_guidance_scale: As in :class:`~lanpaint.Inpainter`.
        sampler: The sampler's class, or a function that makes a sampler from a score.
        solver: A solver that makes the outer steps instead of the pipeline's scheduler.
        crop: As in :class:`~lanpaint.Inpainter`.
        strength: As in :class:`~lanpaint.Inpainter`.
        match_colour: As in :class:`~lanpaint.Inpainter`.
        settings: What ``--set`` gave, for errors; it is in ``call`` too.

    Attributes:
        evaluations: Number of evaluations so far. With guidance, the two branches count as one evaluation.
        is_video: Whether the pipeline makes videos.

    Raises:
        ValueError: For an argument that the pipeline does not take.
    """

    def __init__(
        self,
        pipe: Any,
        call: dict[str, Any],
        *,
        scheduler: str | None,
        pad: tuple[int, int, int, int],
        quiet: bool,
        control_image: Path | None,
        known_guidance_scale: float | None,
        sampler: Callable[..., Sampler] = LanPaint,
        solver: Solver | None = None,
        crop: float | None = None,
        strength: float = 1.0,
        match_colour: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        from lanpaint.inpainter import Inpainter

        self.name, self.evaluations = type(pipe).__name__, 0
        if scheduler is not None:
            from lanpaint.adapters.scheduler_names import named_scheduler

            pipe.scheduler = named_scheduler(scheduler, pipe.scheduler)
        if quiet:
            pipe.set_progress_bar_config(disable=True)
        self.inpainter = Inpainter(pipe, sampler, solver=solver)
        self.layout, self.is_video = self.inpainter.layout, self.inpainter.layout.is_video
        self.pad, self._other_scheduler, self._settings = pad, scheduler is not None, settings
        self.call = self._checked(call, inspect.signature(pipe.__call__).parameters)
        if control_image is not None:
            if not hasattr(pipe, "controlnet"):
                raise ValueError(f"{self.name} has no ControlNet; leave --control-image out")
            self.call["control_image"] = _control(control_image)
        self.call |= {"known_guidance_scale": known_guidance_scale, "crop": crop, "strength": strength}
        self.call |= {"match_colour": match_colour}

    def _checked(self, call: dict[str, Any], names: Any) -> dict[str, Any]:
        call = {name: value for name, value in call.items() if value is not None}
        unknown = [f"--{name.replace('_', '-')}" for name in call if name not in names]
        if unknown:
            raise ValueError(f"{self.name} takes no {', '.join(unknown)}; leave that out")
        if "prompt" in names and "prompt_embeds" not in call:
            call.setdefault("prompt", "")
        weight = names.get("true_cfg_scale")
        if "negative_prompt" in call and weight and weight.default == 1 and "true_cfg_scale" not in call:
            raise ValueError(f"{self.name} reads a negative prompt only with a weight for it: --set true_cfg_scale=4")
        return call

    def fit(self, media: Media) -> Media:
        """The picture or video. Raises ValueError for a video when the pipeline makes still images."""
        if media.rate is not None and not self.is_video:
            raise ValueError(
                f"the image has {len(media.frames)} frames and {self.name} makes still images; give a still image"
            )
        return media

    def paint(self, media: Media, seed: int, feather: int, preview: Preview | None = None) -> list[Any]:
        """The painted frames as PIL images. Known pixels are unchanged."""
        mask = torch.zeros(1, 1, *media.size) if media.change is None else media.change[:, None]
        call = {**self.call, "generator": torch.Generator().manual_seed(seed), "output_type": "pil"}
        arguments = {"pad": self.pad, "feather": feather, "soft": True, "preview": preview, **call}
        picture, painted = (media.images(), mask) if self.is_video else (media.images()[0], mask[0])
        try:
            output = self.inpainter(picture, painted, **arguments)
        except (ValueError, DivergenceError, ImportError, OSError):
            raise
        except Exception as error:  # a pipeline may raise anything when it is given what it does not expect
            if self._settings:
                given = ", ".join(f"{name}={value}" for name, value in self._settings.items())
                raise ValueError(
                    f"{self.name} does not run with --set {given:.100}; give other values, or leave it out "
                    "(LANPAINT_DEBUG=1 tells why)"
                ) from error
            if not self._other_scheduler or not isinstance(error, (TypeError, AssertionError)):
                raise
            scheduler = type(self.inpainter.pipe.scheduler).__name__
            raise ValueError(
                f"{self.name} does not run with {scheduler} ({told(error)}); give another --scheduler, or none"
            ) from error
        assert self.inpainter.bridge is not None
        self.evaluations += self.inpainter.bridge.evaluations
        return output[0][0] if self.is_video else [output[0][0]]


def _control(path: Path) -> Any:
    return as_image(read_picture(path, "the control image").with_channels(3).pixels)
