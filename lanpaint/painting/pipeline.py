"""Painting with a pipeline of diffusers, as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lanpaint.adapters.loading import load_whole, read_index, told, with_controlnet
from lanpaint.callbacks import DivergenceError
from lanpaint.fitting import CONTROL
from lanpaint.images import as_image, read_picture
from lanpaint.painting.media import Media
from lanpaint.painting.painter import Painter, Prepared
from lanpaint.painting.task import Settings, Task
from lanpaint.painting.watch import Cancelled, Watching
from lanpaint.pictures import read_pictures, with_channels
from lanpaint.samplers import Sampler

if TYPE_CHECKING:
    from lanpaint.pipeline_window import PipelineWindow

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
            raise ValueError(
                f"cannot load {model!r} from the hub: {told(error).rstrip('.')}; check the name, and that the hub can "
                "be reached"
            ) from error
    if not isinstance(index, dict):
        return None
    return {name for name, part in index.items() if isinstance(part, (list, tuple)) and part and part[0] is not None}


def is_pixel_model(parts: set[str] | None) -> bool:
    """Whether a model with these parts is an unconditional pixel-space model."""
    return parts is None or parts <= _PIXEL_PARTS


def load_pipeline(
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    offload: bool,
    progress: bool,
    spelled: Callable[[str], str] = str,
    controlnet: str | None = None,
) -> Any:
    """A pipeline of diffusers, loaded to the device, with a ControlNet if one is named.

    Raises:
        ValueError: When the pipeline or the ControlNet cannot be loaded, and for ``offload`` without a GPU.
    """
    from diffusers.utils import logging

    try:
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise ImportError("pipelines need more packages: pip install 'lanpaint[pipelines]'") from error
    if not progress:
        logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
    if offload and device.type == "cpu":
        raise ValueError(f"{spelled('offload')} needs a GPU, and there is no GPU; leave it out")
    pipe = load_whole(model, dtype)
    if controlnet is not None:
        pipe = with_controlnet(pipe, controlnet, dtype)
    if offload:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    return pipe.to(device)


class PipelinePainter(Painter):
    """Paints pictures with a pipeline, or videos one at a time.

    Pictures of one size, one prompt and the same settings can be painted in one call of the pipeline. A prompt of its
    own might pad the others, so pictures of other prompts are painted in a call of their own.

    Args:
        pipe: The pipeline.
        scheduler: Name of a scheduler that replaces the pipeline's, see :mod:`lanpaint.adapters.scheduler_names`.
        source: Where the pipeline comes from.
        most: Pictures in one call at most.
        **common: As in :class:`Painter`.

    Raises:
        ImportError: Without greenlet.
        TypeError: For what is no pipeline.
        ValueError: For an unknown scheduler, and a pipeline that does not begin with noise.
    """

    def __init__(
        self, pipe: Any, *, scheduler: str | None = None, source: str = "", most: int = 1, **common: Any
    ) -> None:
        from lanpaint.inpainter import Inpainter

        super().__init__(type(pipe).__name__, **common)
        self.source, self._scheduler, self.most, self.usual = source, scheduler, most, most
        if scheduler is not None:
            from lanpaint.adapters.scheduler_names import named_scheduler

            pipe.scheduler = named_scheduler(scheduler, pipe.scheduler)
        if source and not self.progress:  # a pipeline that is given as an object keeps its own
            pipe.set_progress_bar_config(disable=True)
        self.inpainter = Inpainter(pipe)
        self.is_video = self.inpainter.layout.is_video

    @property
    def identity(self) -> dict[str, Any]:  # noqa: D102
        dtype = str(getattr(self.inpainter.pipe, "dtype", None)).removeprefix("torch.")
        return {"model": self.source or self.name, "dtype": dtype, "scheduler": self._scheduler}

    def check(self, task: Task) -> None:  # noqa: D102
        settings = task.checked
        if settings.found_method.needs_gradient:
            raise ValueError(
                f"{settings.method} needs the gradient of the score, and a pipeline gives none; take another "
                f"{self.spelled('method')}, or use a network adapter (lanpaint.adapters.networks)"
            )
        if settings.levels is not None:
            raise ValueError(
                f"{self.spelled('levels')}: only for pixel-space models; for a pipeline, {self.spelled('scheduler')} "
                "sets the levels"
            )
        self._call(task)
        if settings.control_image is not None and not hasattr(self.inpainter.pipe, "controlnet"):
            raise ValueError(f"{self.name} has no ControlNet; leave {self.spelled('control_image')} out")

    def _call(self, task: Task) -> dict[str, Any]:
        """The arguments of the pipeline's call."""
        settings, names = task.checked, inspect.signature(self.inpainter.pipe.__call__).parameters
        call = {
            "num_inference_steps": settings.steps, "prompt": task.prompt, "negative_prompt": settings.negative_prompt,
            "guidance_scale": settings.guidance_scale, **settings.arguments,
        }  # fmt: skip
        call = {name: value for name, value in call.items() if value is not None}
        unknown = [self.spelled(name) for name in call if name not in names]
        if unknown:
            raise ValueError(f"{self.name} takes no {', '.join(unknown)}; leave that out")
        if "prompt" in names and "prompt_embeds" not in call:
            call.setdefault("prompt", "")
        weight = names.get("true_cfg_scale")
        if "negative_prompt" in call and weight and weight.default == 1 and "true_cfg_scale" not in call:
            raise ValueError(
                f"{self.name} reads a negative prompt only with a weight for it: "
                f"{self.spelled('arguments')} true_cfg_scale=4"
            )
        return call

    def window(self, task: Task, size: tuple[int, int] | None = None, frames: int | None = None) -> PipelineWindow:
        """What completes the windows of a :class:`~lanpaint.Chain` by a task's prompt and settings.

        Args:
            task: The task; its picture and mask are not read.
            size: (height, width) of a window in pixels; None for what the model was trained on.
            frames: Frames of a window of a video; None for the pipeline's default.

        Raises:
            ValueError: As :meth:`paint` and :class:`~lanpaint.PipelineWindow`.
        """
        from lanpaint.pipeline_window import PipelineWindow

        self.check(task)
        settings = task.checked
        control = {} if settings.control_image is None else {CONTROL: _control(settings.control_image)}
        return PipelineWindow(
            self.inpainter.pipe, size, frames, sampler=settings.factory(), solver=settings.made_solver,
            known_guidance_scale=settings.known_guidance_scale, **self._call(task), **control,
        )  # fmt: skip

    def fitted(self, media: Media, settings: Settings) -> tuple[Media, Hashable]:
        """The picture or video, and what pictures of its batch share.

        Raises:
            ValueError: For a video when the pipeline makes still images.
        """
        if media.rate is not None and not self.is_video:
            raise ValueError(
                f"the image has {len(media.frames)} frames and {self.name} makes still images; give a still image"
            )
        return media, self._key(media, settings)

    def _key(self, media: Media, settings: Settings) -> Hashable:
        # A window is cut for each picture. A picture of a ControlNet guides one call.
        alone = self.is_video or settings.crop is not None or settings.control_image is not None
        if alone or settings.mixes_samples or not self._takes_several(settings):
            return None
        change = 1.0 if any(settings.pad) or media.change is None else float(media.change.max())
        return media.size, settings.sampling, repr(settings.given()), change  # samples begin together

    def _takes_several(self, settings: Settings) -> bool:
        """Whether it is known how the pipeline is asked for one picture of each generator."""
        names = inspect.signature(self.inpainter.pipe.__call__).parameters
        fixed = [name for name, value in settings.arguments.items() if not isinstance(value, (str, int, float, bool))]
        return not fixed and ("prompt" in names or "batch_size" in names)

    def run(self, batch: Sequence[Prepared], watching: Watching | None) -> tuple[list[list[Any]], int]:
        """The painted frames of each picture, or of one video, known pixels unchanged."""
        task, settings, inpainter = batch[0].task, batch[0].task.checked, self.inpainter
        masks = [
            torch.zeros(1, 1, *one.media.size) if one.media.change is None else one.media.change[:, None]
            for one in batch
        ]
        generators = [torch.Generator().manual_seed(one.task.seed) for one in batch]
        call = {
            **self._call(task), "generator": generators[0], "output_type": "pil",
            "known_guidance_scale": settings.known_guidance_scale, "crop": settings.crop, "pad": settings.pad,
            "strength": settings.strength, "match_colour": settings.match_colour, "feather": settings.feather,
            "soft": True,
        }  # fmt: skip
        if len(batch) > 1:
            call["generator"] = generators
            texts = {name: text for name, text in call.items() if "prompt" in name and isinstance(text, str)}
            call |= {name: [text] * len(batch) for name, text in texts.items()}
        if settings.control_image is not None:
            call["control_image"] = _control(settings.control_image)
        inpainter.sampler, inpainter.solver = settings.factory(), settings.made_solver
        if watching is not None:
            inpainter.sampler = _watched(inpainter.sampler, watching)
            call["preview"] = None if self.is_video else watching.preview()
        pictures: Any = [one.media.images()[0] for one in batch]
        try:
            if self.is_video:
                output = inpainter(batch[0].media.images(), masks[0], **call)
            else:
                output = inpainter(pictures, torch.cat(masks), **call)
        except (ValueError, DivergenceError, ImportError, OSError, Cancelled):
            raise
        except Exception as error:  # a pipeline may raise anything when it is given what it does not expect
            explained = self._explained(error, settings.arguments)
            if explained is error:
                raise
            raise explained from error
        assert inpainter.bridge is not None
        made = [list(output[0][0])] if self.is_video else [[picture] for picture in output[0]]
        if len(made) != len(batch):
            raise ValueError(
                f"{self.name} made {len(made)} pictures where {len(batch)} were asked for, so it paints one in a "
                "call; give it one at a time"
            )
        return made, inpainter.bridge.evaluations

    def _explained(self, error: Exception, arguments: Mapping[str, Any]) -> Exception:
        if "out of memory" in str(error) or isinstance(error, MemoryError):
            return error
        if arguments:
            given = ", ".join(f"{name}={value}" for name, value in arguments.items())
            return ValueError(
                f"{self.name} does not run with {self.spelled('arguments')} {given:.100}; give other values, or leave "
                "it out (LANPAINT_DEBUG=1 tells why)"
            )
        if self._scheduler is None or not isinstance(error, (TypeError, AssertionError)):
            return error
        scheduler = type(self.inpainter.pipe.scheduler).__name__
        return ValueError(
            f"{self.name} does not run with {scheduler} ({told(error)}); give another {self.spelled('scheduler')}, or "
            "none"
        )


def _watched(factory: Callable[..., Sampler], watching: Watching) -> Callable[..., Sampler]:
    """A function that makes the same sampler, watched."""

    def make(score: Any, **options: Any) -> Sampler:
        sampler = factory(watching.score(score), **options)
        sampler.callbacks.append(watching)
        return sampler

    return make


def _control(picture: Any) -> Any:
    if isinstance(picture, (str, Path)):
        return as_image(read_picture(picture, "the control image").with_channels(3).pixels)
    values = with_channels(read_pictures(picture, "control image")[0], 3)
    return as_image((values[0] * 255).round().to(torch.uint8))
