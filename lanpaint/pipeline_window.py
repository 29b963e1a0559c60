"""A pipeline of diffusers as what completes the windows of a chain, in its own latents.

    window = PipelineWindow(pipe, (512, 512), prompt="a coast", steps=20)
    chain = Chain(window, window=window.over(512, 512), overlap=16)
    latents = chain(window.observe(pictures, known), generator=generator)
    pictures = chain.decode(latents, window.decode, window.factor)

A canvas has the cells that the pipeline gives its decoder, (B, channels, [frames,] height, width). They are passed on
from window to window as they are: nothing is decoded and encoded again (ALM, Sec. 4.3). How the cells lie in the
latents that the pipeline samples is learned from the pipeline's tail (:mod:`lanpaint.adapters.tail_map`).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.bridge import SamplerFactory
from lanpaint.adapters.makes import FRAMES, frames_argument
from lanpaint.adapters.modular.blocks import is_modular
from lanpaint.adapters.tail import EncodedPrompts, NoTailError, Tail, unnoticed
from lanpaint.checks import check_whole
from lanpaint.fitting import asked_multiple
from lanpaint.inpainter import Inpainter
from lanpaint.observation import Observation
from lanpaint.randomness import Generators
from lanpaint.samplers import LanPaint
from lanpaint.solvers import Solver


class PipelineWindow:
    """Completes windows of a canvas of latents with a pipeline, for :class:`~lanpaint.Chain`.

    Args:
        pipe: A text-to-image, text-to-video or unconditional pipeline. Its latents must have one frame for each frame
            of a video. The pipeline itself is not changed.
        size: (height, width) of a window in pixels; None for the size that the model was trained on.
        frames: Frames of a window of a video; None for the pipeline's default.
        sampler: The class of a sampler, or a function of a score that makes one, as in :class:`~lanpaint.Inpainter`.
        solver: The solver of the outer steps, instead of the pipeline's scheduler.
        steps: Outer steps; the pipeline calls them ``num_inference_steps``.
        known_guidance_scale: Weight of the prompt at the known part, as in :class:`~lanpaint.Inpainter`.
        **arguments: Arguments of the pipeline (``prompt``, ``guidance_scale``, …), and options of the sampler
            (``inner_steps``, …).

    Attributes:
        size: (height, width) of a window in pixels.
        frames: Frames of a window; None for still images.
        factor: Pixels for each cell, along height and along width.
        multiple: What height and width of a canvas must be multiples of, in pixels.
        cells: Shape of a window, (channels, [frames,] height, width).
        evaluations: Evaluations of the model so far; those of a pipeline with guidance count once.

    Raises:
        ImportError: Without greenlet.
        TypeError: As :class:`~lanpaint.Inpainter`.
        ValueError: For a size that the pipeline does not take, a pipeline whose latents are no map of its decoder's
            input, a modular pipeline, and a video model that has one latent frame for several frames.

    Example::

        window = lanpaint.PipelineWindow(pipe, (512, 512), prompt="a coast", steps=20)
        chain = lanpaint.Chain(window, window=window.over(512, 512), overlap=16)
        latents = chain((1, *window.canvas(512, 2048)), generator=torch.Generator().manual_seed(0))
        pictures = chain.decode(latents, window.decode, window.factor)  # (1, 3, 512, 2048) in [0, 1]
    """

    def __init__(
        self,
        pipe: Any,
        size: tuple[int, int] | None = None,
        frames: int | None = None,
        *,
        sampler: SamplerFactory = LanPaint,
        solver: Solver | None = None,
        steps: int | None = None,
        known_guidance_scale: float | None = None,
        **arguments: Any,
    ) -> None:
        name = type(pipe).__name__
        if is_modular(pipe):
            raise ValueError(f"{name} is modular, and a chain passes on the latents of other pipelines; give its class")
        self._inpainter = inpainter = Inpainter(pipe, sampler, solver=solver)
        self._layout, self._known_scale, self.evaluations = inpainter.layout, known_guidance_scale, 0
        self._options = {key: arguments.pop(key) for key in list(arguments) if inpainter._is_option(key)}
        call = inpainter._call_arguments(steps, arguments)
        self.factor, self.multiple = self._layout.factor, self._layout.multiple
        self.frames = self._frames(pipe, frames)
        self.size = self._sized(size, asked_multiple(pipe, self.multiple, call))
        sides = {"height": self.size[0], "width": self.size[1], frames_argument(pipe) or FRAMES[0]: self.frames}
        call |= {key: side for key, side in sides.items() if side is not None and key in inpainter._names}
        self._call, self._prompts = call, EncodedPrompts()
        self._layout.learn(call, self._prompts)
        learned = self._layout.learned
        if learned is None:
            raise ValueError(f"{name} cannot pass on its latents: {self._layout.reason}; use another one of its family")
        self._learned = learned
        if self._layout.made_size not in (None, self.size):
            made = "×".join(str(side) for side in reversed(self._layout.made_size or ()))
            raise ValueError(f"{name} paints {made}, not {self.size[1]}×{self.size[0]}; give a window of that size")
        cells = learned.decoded
        if self.frames is not None and learned.rows * (cells[1] if len(cells) == 4 else 1) != self.frames:
            raise self._compressed(name)
        self.cells = (cells[0], *(() if self.frames is None else (self.frames,)), *cells[-2:])

    def _frames(self, pipe: Any, frames: int | None) -> int | None:
        """Frames of a window. Raises ValueError for those of a still image, and for a compressed video."""
        name, default = type(pipe).__name__, None
        if not self._layout.is_video:
            if frames is not None:
                raise ValueError(f"{name} makes still images; leave frames out, or use a video pipeline")
            return None
        if self._layout.group != 1:
            raise self._compressed(name)
        argument = frames_argument(pipe)
        if argument is not None:
            default = inspect.signature(pipe.__call__).parameters[argument].default
        if frames is None and not isinstance(default, int):
            raise ValueError(f"{name} does not say how many frames it makes; give the frames of a window")
        check_whole("frames of a window", default if frames is None else frames, least=1)
        return default if frames is None else frames

    @staticmethod
    def _compressed(name: str) -> ValueError:
        return ValueError(
            f"{name} has one latent frame for several frames, and the first one apart, so no window can begin with "
            "another's last latents; use a model with a latent frame for each frame, such as AnimateDiff"
        )

    def _sized(self, size: tuple[int, int] | None, multiple: int) -> tuple[int, int]:
        """(height, width) of a window. Raises ValueError for a size that the pipeline does not take."""
        layout = self._layout
        if size is None:
            side = max(multiple, layout.native_side // multiple * multiple)
            return layout.size or (side, side)
        for side in size:
            check_whole("a side of the window", side, least=1)
        height, width = size
        if layout.nearest(height, width) != (height, width) or height % multiple or width % multiple:
            takes = layout.sizes if layout.size is not None else f"multiples of {multiple}"
            name = type(self._inpainter.pipe).__name__
            raise ValueError(f"the window is {width}×{height}, and {name} takes {takes}; give that")
        return height, width

    def canvas(self, height: int, width: int, frames: int | None = None) -> tuple[int, ...]:
        """Shape (channels, [frames,] height, width) of a canvas of this size in pixels.

        Raises:
            ValueError: For sides that are no multiples of :attr:`multiple`, and frames that do not fit the pipeline.
        """
        if (frames is None) != (self.frames is None):
            raise ValueError(f"the pipeline makes {'still images' if self.frames is None else 'videos'}, got {frames=}")
        for what, side in (("height", height), ("width", width)):
            check_whole(what, side, least=1)
            if side % self.multiple:
                near = -(-side // self.multiple) * self.multiple
                raise ValueError(f"the {what} must be a multiple of {self.multiple} here, got {side}; {near} is one")
        time = () if frames is None else (frames,)
        return (self.cells[0], *time, height // self.factor, width // self.factor)

    def over(self, height: int | None = None, width: int | None = None) -> tuple[int | None, ...]:
        """The window of a :class:`~lanpaint.Chain`, in cells: along height and width, or along time for a video."""
        if self.frames is not None:
            return self.frames, None, None
        return tuple(None if side is None else side // self.factor for side in (height, width))

    def observe(self, pictures: Tensor, known: Tensor) -> Observation:
        """What is known of a canvas, as the pipeline's encoder gives it.

        Args:
            pictures: (B, C, [frames,] height, width) in [0, 1], of the size of the canvas. What is unknown in it does
                not matter, apart from what lies in one box with what is known, which the encoder sees.
            known: Boolean, (B, 1, [frames,] height, width). A cell is known if all its pixels are.
        """
        shape = (len(pictures), *self.canvas(*pictures.shape[-2:], *pictures.shape[2:-2]))
        values, cells = torch.zeros(shape), torch.zeros(len(pictures), 1, *shape[2:], dtype=torch.bool)
        if bool(known.any()):
            box = [slice(None), slice(None), *_box(known, self.multiple)]
            encoded = self._layout.encode(pictures[tuple(box)])
            within = self._layout.cell_rule(known[tuple(box)], tuple(encoded.shape[2:]))
            box[-2:] = [slice(side.start // self.factor, side.stop // self.factor) for side in box[-2:]]
            values[tuple(box)], cells[tuple(box)] = encoded.float().cpu(), within.cpu()
        return Observation(values, cells)

    def __call__(self, observation: Observation, *, generator: Generators = None) -> Tensor:
        """Complete a window.

        Args:
            observation: What is known of the window's cells, ``(B, *cells)``.
            generator: Generator of the pipeline's random numbers, or one per sample.

        Returns:
            The window's cells, ``(B, *cells)``, float32 on the CPU.
        """
        change = (~observation.known.expand(observation.shape)).float()

        def known_part(latents: Tensor) -> Observation:
            return self._layout.placed(observation.values, change, latents)

        inpainter, call = self._inpainter, {**self._call, "generator": generator}
        if "output_type" in inpainter._names:
            call["output_type"] = "latent"  # so that it is not decoded
        nothing = not bool(observation.known.any())
        inpainter._sampled(
            call, dict(self._options), self._prompts, self._known_scale, None, None if nothing else known_part
        )
        bridge = inpainter.bridge
        assert bridge is not None
        assert bridge.sample is not None
        self.evaluations += bridge.evaluations
        return self._as_canvas(self._learned.apply(bridge.sample).float())

    def decode(self, cells: Tensor) -> Tensor:
        """The pictures (B, C, [frames,] height, width) in [0, 1] of a window's cells, by the pipeline's own tail.

        Raises:
            ValueError: When the pipeline's tail does not come to its end.
        """
        values, _ = self._layout.arrange(cells, torch.zeros_like(cells[:, :1]))
        pipe = self._inpainter.pipe
        try:
            with unnoticed(pipe):
                tail = Tail(pipe, self._call, self._layout.name, self._prompts)
                return tail.pictures(lambda like: values.to(like).expand(like.shape).clone()).float()
        except NoTailError as error:
            raise ValueError(f"{type(pipe).__name__} cannot decode the latents of a canvas: {error}") from error

    def _as_canvas(self, given: Tensor) -> Tensor:
        """What the decoder is given, with the dimensions of a canvas."""
        if self.frames is None:
            return given.squeeze(2) if given.ndim == 5 else given
        return given if given.ndim == 5 else given.unflatten(0, (-1, self._learned.rows)).transpose(1, 2)


def _box(known: Tensor, multiple: int) -> list[slice]:
    """The smallest box with sides on multiples that has all known pixels, along the axes behind the channels."""
    places = known.flatten(0, 1).any(0).nonzero()
    box = [slice(int(first), int(last) + 1) for first, last in zip(places.amin(0), places.amax(0), strict=True)]
    for axis in (-2, -1):
        box[axis] = slice(box[axis].start // multiple * multiple, -(-box[axis].stop // multiple) * multiple)
    return box
