"""Inpainting with any diffusers pipeline: pictures and masks in, the pipeline's own output out."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.bridge import Bridge, SamplerFactory, bridged
from lanpaint.adapters.bridge.call import turn
from lanpaint.adapters.checked_autoencoders import checked_autoencoders, replaced
from lanpaint.adapters.known_cells import KnownCells, decoder_noise
from lanpaint.adapters.latents import CellRule, LatentLayout, wholly_known
from lanpaint.adapters.makes import PICTURES, check_makes_pictures, missing_arguments
from lanpaint.adapters.modular.blocks import guiders, inputs, is_modular
from lanpaint.adapters.modular.layout import ModularLayout
from lanpaint.adapters.suitable import check_begins_with_noise
from lanpaint.adapters.tail import EncodedPrompts
from lanpaint.checks import check_whole, shown
from lanpaint.colour import match_colour as with_matched_colour
from lanpaint.fitting import CONTROL, fitted
from lanpaint.given import Given, check_pad, read_given
from lanpaint.masks import by_shade
from lanpaint.observation import Observation
from lanpaint.pasting import batched, given_back, pasted, seam_weight, with_pictures
from lanpaint.preview import LinearDecoder, Preview
from lanpaint.randomness import NormalNoise
from lanpaint.samplers import LanPaint, Sampler
from lanpaint.solvers import Solver
from lanpaint.window import Window

# Options with which a pipeline rescales the guided output by a norm over all entries.
_MIXING = ("guidance_rescale", "cfg_normalization", "use_dynamic_cfg")
# Pipelines that always rescale the guided output, by the norm of each token.
_RENORMALISED = ("QwenImage",)
# Arguments of a sampler that the bridge gives, so that a caller may not give them.
_FROM_BRIDGE = {"self", "score", "steps", "solver", "levels", "schedule", "spacing", "progress"}


class Inpainter:
    """A diffusers pipeline that inpaints. The pipeline itself is not changed.

    Args:
        pipe: Any text-to-image, text-to-video or unconditional pipeline.
        sampler: The class of a sampler, or a function of a score that makes a sampler. The sampler must not take
            gradients of the score, and must make no more evaluations than its plan declares. It may ask for predictions
            without guidance, by :attr:`lanpaint.Score.unguided`. See :func:`lanpaint.adapters.bridge.bridged`.
        solver: The solver of the outer steps, instead of the pipeline's scheduler. The levels are the scheduler's.
        layout: How the pipeline arranges pictures in its latents, for a family of pipelines that does not fit the
            default, :class:`~lanpaint.adapters.latents.LatentLayout`.
        cell_rule: A function that decides which latent cells are known, from the known pixels. By default a cell is
            known if all pixels under it are known.
        **options: Options of the sampler, such as ``inner_steps=3``. A call may override them.

    Attributes:
        bridge: The bridge of the latest call, None before the first call.

    Raises:
        ImportError: Without greenlet.
        TypeError: For a pipeline without a scheduler, a ``solver`` that is no Solver, or an option that the sampler
            does not have.
        ValueError: For both a layout and a cell_rule.

    Example::

        inpaint = lanpaint.Inpainter(pipe)
        image = inpaint(image=photo, mask=mask, prompt="a blue shirt", inner_steps=5).images[0]
    """

    def __init__(
        self,
        pipe: Any,
        sampler: SamplerFactory = LanPaint,
        *,
        solver: Solver | None = None,
        layout: LatentLayout | None = None,
        cell_rule: CellRule | None = None,
        **options: Any,
    ) -> None:
        scheduler = getattr(pipe, "scheduler", 0)  # a modular pipeline may get its own later
        is_none = scheduler is not None and not callable(getattr(scheduler, "set_timesteps", None))
        if isinstance(pipe, type) or not callable(pipe) or is_none:
            raise TypeError(f"pipe must be a pipeline of diffusers, got {shown(pipe)}")
        if isinstance(sampler, (str, Sampler)) or not callable(sampler):
            raise TypeError(f"sampler must be a class of samplers, or a function that makes one, got {shown(sampler)}")
        if layout is not None and cell_rule is not None:
            raise ValueError("give layout or cell_rule, not both; a layout has a cell rule already")
        if layout is not None and not isinstance(layout, LatentLayout):
            raise TypeError(f"layout must be an instance of LatentLayout, got {shown(layout)}")
        if cell_rule is not None and not callable(cell_rule):
            raise TypeError(f"cell_rule must be a function of the known pixels, got {shown(cell_rule)}")
        if solver is not None and not isinstance(solver, Solver):
            raise TypeError(f"solver must be an instance of Solver, got {shown(solver)}")
        self.pipe, self.sampler, self.solver, self.options = pipe, sampler, solver, options
        modular = is_modular(pipe)
        self.layout = layout or (ModularLayout if modular else LatentLayout)(pipe, cell_rule or wholly_known)
        self._names = set(inputs(pipe) if modular else inspect.signature(pipe.__call__).parameters)
        self.bridge: Bridge | None = None
        if not modular:
            check_begins_with_noise(pipe)
        unknown = set(options) - _option_names(sampler)
        if unknown:
            raise TypeError(f"{_name(sampler)} has no option {', '.join(sorted(unknown))}")

    def __call__(
        self,
        image: Any = None,
        mask: Any = None,
        *,
        pad: Sequence[int] = (0, 0, 0, 0),
        feather: int = 0,
        crop: float | None = None,
        soft: bool = False,
        strength: float = 1.0,
        grow: int = 0,
        blur: float = 0.0,
        invert: bool = False,
        match_colour: bool = False,
        preview: Preview | None = None,
        steps: int | None = None,
        known_guidance_scale: float | None = None,
        **arguments: Any,
    ) -> Any:
        """Inpaint one or several pictures, or a video.

        Args:
            image: The picture: a PIL image, the path of a file, an array (height, width[, channels]) or a tensor
                (channels, height, width), of bytes or of floats in [0, 1]. Several pictures come as a list or stacked:
                one per prompt, or one for all prompts. For a video pipeline give one video: a list of frames, or
                stacked frames. With None the pipeline samples without a picture.
            mask: What to paint, as in diffusers: white, 1 or True is painted anew, and the rest is known. A picture or
                a boolean array of the size of ``image``. One for all pictures, one per picture, or one per frame. By
                default the transparent pixels of ``image`` and the pixels that ``pad`` adds are painted.
            pad: Pixels to add at the left, top, right and bottom, which are painted (outpainting).
            feather: Width in pixels of a seam on the known side, in which the known picture fades into the painted
                picture. All known pixels outside of the seam are kept exactly. 0 is no seam.
            crop: Paint only the surroundings of what is painted, at the size that the model was trained on, and lay
                them back in their place: for a large picture with a small hole. The number is the factor by which the
                sides of the surroundings exceed those of the hole's box, 2 for example. None paints the whole picture.
            soft: Whether a grey in the mask is how much may change there: black keeps the picture exactly, white is
                painted wholly, and a grey pixel is held to the noised picture until as large a share of the steps is
                left as the grey is of white (differential diffusion). In latents a cell may change as much as the pixel
                under it that may change most. By default a grey is painted if it is 128 or above, of 255.
            strength: The largest share of the steps in which pixels may change, above 0 and at most 1: all greys are
                multiplied by it. At 1 nothing is left of what was in the hole. Below, the run starts at the level at
                which the first pixels may change, and the fill keeps something of them. Inner steps make it forget them
                sooner.
            grow: Pixels by which to enlarge what is painted, in all directions; below 0 it shrinks.
            blur: Standard deviation in pixels of a blur of the mask, after it has grown. Without ``soft`` it rounds the
                mask's corners, with it the edge is soft.
            invert: Whether to paint what the mask says is kept, and keep the rest.
            match_colour: Whether to add to the fill the difference between the given picture and the decoded one at the
                edge of the hole, continued smoothly into the hole (:mod:`lanpaint.colour`). It leaves no seam for
                ``feather`` to blend, and has no effect on models of pixels, which shift nothing.
            preview: A :class:`~lanpaint.Preview`, which is shown the picture every few outer steps: estimated from the
                latents, in the size of ``image``, with the known pixels in it. For still images.
            steps: Outer steps; the pipeline calls them ``num_inference_steps``.
            known_guidance_scale: Weight of classifier-free guidance for the score of the known part, in the convention
                of the pipeline. By default it equals the pipeline's weight, so that the image comes first. At 0 the
                prompt comes first. See :mod:`lanpaint.adapters.guidance`.
            **arguments: Arguments of the pipeline (``prompt``, ``generator``, ``num_images_per_prompt``,
                ``output_type``, …), and options of the sampler (``inner_steps``, ``lam``, …).
                ``callback_on_step_end`` is called once per outer step, and may not change the latents. The picture of a
                ControlNet is ``control_image``, also for pipelines that call it ``image``.

        Returns:
            The output of the pipeline, with the known pixels pasted into its pictures, in the size and number of frames
            of ``image``. Where the pipeline does not take that size, the picture is painted as a part of a larger one
            (:mod:`lanpaint.window`). Latents (``output_type="latent"``) are those of the larger one.

        Raises:
            TypeError: For an argument that neither pipeline nor sampler has, and for an ``image`` or ``mask`` of
                another type.
            ValueError: For pictures and masks that do not fit each other, and as
                :func:`~lanpaint.adapters.bridge.bridged`.
        """
        check_pad(pad)
        options = {**self.options, **{name: arguments.pop(name) for name in list(arguments) if self._is_option(name)}}
        call, prompts = self._call_arguments(steps, arguments), EncodedPrompts()
        edits = {"grow": grow, "blur": blur, "invert": invert}
        if image is None:
            if mask is not None or any((*pad, *edits.values(), soft, strength != 1, crop is not None, preview)):
                raise ValueError(
                    "mask, pad, crop, soft, strength, grow, blur, invert and preview need an image; leave them out to "
                    "sample without an image"
                )
            return self._sampled(call, options, prompts, known_guidance_scale)

        check_makes_pictures(self.pipe)
        given = read_given(image, mask, self.layout, pad=pad, soft=soft, strength=strength, edits=edits)
        weight = seam_weight(given.known, feather)
        with turn(self.pipe):
            window, call = fitted(self.layout, self._names, given, crop, call, prompts)
            layout = copy.copy(self.layout)  # of this size: another thread may learn another one meanwhile
        shown, change = _shown(given, weight, window, layout)
        cells = KnownCells(layout, shown, change, decoder_noise(self.pipe, call))
        known_part: Callable[[Tensor], Observation] = cells.observe
        if preview is not None:
            known_part, shown_by = self._previewed(
                preview, cells, shown, lambda made: pasted(window.placed(made, given.pictures), given.pictures, weight)
            )
            options["callbacks"] = [*options.get("callbacks", ()), shown_by]

        output = self._sampled(call, options, prompts, known_guidance_scale, cells, known_part)

        asked = call.get("output")  # what a modular pipeline is to return, where that is not all
        if call.get("output_type") == "latent" or (isinstance(asked, str) and asked not in PICTURES):
            return output
        if layout.vae is not None:
            cells.check_latents()

        def finished(made: Any) -> Any:
            if layout.vae is None:
                cells.check_pictures(made)
            made = window.placed(made, given.pictures)
            if match_colour and layout.vae is not None:
                made = with_matched_colour(made, batched(given.pictures, len(made)), batched(given.known, len(made)))
            return given_back(pasted(made, given.pictures, weight), given.origins, weight)

        return with_pictures(output, finished)

    def _sampled(
        self,
        call: dict[str, Any],
        options: dict[str, Any],
        prompts: EncodedPrompts,
        known_guidance_scale: float | None,
        cells: KnownCells | None = None,
        known_part: Callable[[Tensor], Observation] | None = None,
    ) -> Any:
        """The output of the pipeline, with the sampler in it."""
        factory = functools.partial(self.sampler, **options) if options else self.sampler
        with bridged(self.pipe, factory, known_part, solver=self.solver) as self.bridge:
            if known_guidance_scale is not None:
                self._guide_known(call, self.bridge, known_guidance_scale)
            with checked_autoencoders(self.pipe, cells), replaced(self.pipe, prompts.functions(self.pipe)):
                return self._called(call)

    def _previewed(
        self,
        preview: Preview,
        cells: KnownCells,
        shown: Tensor,
        placed: Callable[[Tensor], Tensor],
    ) -> tuple[Callable[[Tensor], Observation], Preview]:
        """The function of what is known, which fits a decoder as well, and the callback that shows its pictures."""
        if not isinstance(preview, Preview):
            raise TypeError(f"preview must be a lanpaint.Preview, got {type(preview).__name__}")
        if self.layout.is_video:
            raise ValueError(f"{type(self.pipe).__name__} makes videos, and preview is for still images; leave it out")
        decoders: list[LinearDecoder] = []

        def observe(latents: Tensor) -> Observation:
            decoders[:] = [LinearDecoder(cells.layout, shown, latents)]
            return cells.observe(latents)

        return observe, preview.through(lambda denoised: placed(decoders[0](denoised)))

    def _is_option(self, name: str) -> bool:
        return name not in self._names and name in _option_names(self.sampler)

    def _call_arguments(self, steps: int | None, arguments: dict[str, Any]) -> dict[str, Any]:
        unknown = set(arguments) - self._names - ({CONTROL} if "image" in self._names else set())
        if unknown:
            mask = "; the mask is called mask" if "mask_image" in unknown else ""
            raise TypeError(
                f"neither {type(self.pipe).__name__} nor {_name(self.sampler)} takes {', '.join(sorted(unknown))}{mask}"
            )
        call = dict(arguments)
        NormalNoise(call.get("generator"))  # raises for what is no generator
        if CONTROL in call and CONTROL not in self._names:
            call["image"] = call.pop(CONTROL)
        if steps is not None:
            if "num_inference_steps" in call:
                raise ValueError("give steps or num_inference_steps, not both; they are two names of one argument")
            check_whole("steps", steps, least=1)
            call["num_inference_steps"] = steps
        if "use_resolution_binning" in self._names:  # binning would change the size and stretch the picture
            call.setdefault("use_resolution_binning", False)
        missing = missing_arguments(self.pipe, call)
        if missing:
            raise TypeError(f"{type(self.pipe).__name__} needs {', '.join(missing)}{self._first_picture(missing)}")
        return call

    def _called(self, call: dict[str, Any]) -> Any:
        """The output of the pipeline. Raises ValueError where it fails without the picture that it begins with."""
        try:
            return self.pipe(**call)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            begins_with_picture = self.layout.is_video and "image" in self._names and call.get("image") is None
            if not begins_with_picture or _is_ours(error):
                raise
            told = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"{type(self.pipe).__name__} fails without image ({type(error).__name__}: {told:.80})"
                f"{self._first_picture(['image'])}"
            ) from error

    @staticmethod
    def _first_picture(missing: Sequence[str]) -> str:
        if "image" not in missing:
            return ""
        return (
            "; image and mask of an Inpainter are what is painted: where the pipeline begins with a picture, give it "
            "as control_image, or use a text-to-video pipeline of its family and give it as a known frame of the video"
        )

    def _guide_known(self, call: dict[str, Any], bridge: Bridge, known_scale: float) -> None:
        """Make the pipeline use a separate weight of classifier-free guidance for the known part."""
        name, weight = type(self.pipe).__name__, self._weight(call)
        if is_modular(self.pipe):
            rescales = any(getattr(guider, _MIXING[0], 0) for guider in guiders(self.pipe).values())
            if rescales or name.startswith(_RENORMALISED):
                raise ValueError(
                    f"{name} rescales the guided output, so the known and the unknown part cannot be separated; leave "
                    "known_guidance_scale out"
                )
            bridge.guide_known(known_scale)
            return
        if weight is None:
            raise ValueError(f"{name} has no classifier-free guidance; leave known_guidance_scale out")
        mixing = [option for option in _MIXING if call.get(option)]
        if name.startswith(_RENORMALISED) or mixing:
            raise ValueError(
                f"{name} rescales the guided output ({', '.join(mixing) or 'by the norm of its tokens'}), so the known "
                "and the unknown part cannot be separated; use a network adapter (lanpaint.adapters.networks)"
            )
        call[weight[0]] = bridge.guidance(weight[1], known_scale)

    def _weight(self, call: dict[str, Any]) -> tuple[str, Any] | None:
        """Name and value of the weight of classifier-free guidance that a call has; None if the pipeline has none."""
        parameters = inspect.signature(self.pipe.__call__).parameters
        for name in ("true_cfg_scale", "guidance_scale"):
            if name in parameters:
                return name, call.get(name, parameters[name].default)
        return None


def _shown(given: Given, weight: Tensor, window: Window, layout: LatentLayout) -> tuple[Tensor, Tensor]:
    """The pictures that the model is shown, and how much may change in them."""
    change = given.change
    if layout.vae is None:  # a model of pixels gives known ones back exactly, so it paints the seam as well
        change = torch.where((weight < 1) & given.known, change.max(), change)
    if window.is_all_of(given.pictures):
        return given.pictures, change
    shown, _ = window.cut(given.pictures, given.known)
    return shown, by_shade(lambda known: window.cut(given.pictures[:, :1], known)[1], change)


def _is_ours(error: BaseException) -> bool:
    """Whether this library has raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("lanpaint.")


def _name(sampler: Any) -> str:
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    return getattr(sampler, "__name__", "the sampler")


def _option_names(sampler: Any) -> set[str]:
    """Names of the options of a sampler class and its base classes, or of a function that makes a sampler."""
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    functions = [sampler]
    if isinstance(sampler, type):
        functions = [vars(kind)["__init__"] for kind in sampler.__mro__[:-1] if "__init__" in vars(kind)]
    return {name for function in functions for name in inspect.signature(function).parameters} - _FROM_BRIDGE
