"""Inpainting with any diffusers pipeline: pictures and masks in, the pipeline's own output out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.adapters.bridge import Bridge, SamplerFactory, bridged
from lanpaint.adapters.latents import CellRule, LatentLayout, wholly_known
from lanpaint.observation import Observation
from lanpaint.pictures import read_painted, read_pictures, with_channels
from lanpaint.samplers import LanPaint
from lanpaint.solvers import Solver

# The picture of a ControlNet, which some pipelines call ``image``.
_CONTROL = "control_image"
# Options by which, and pipelines that, rescale a guided output by the length of all of it, or of a token.
_MIXING = ("guidance_rescale", "cfg_normalization", "use_dynamic_cfg")
_RENORMALISED = ("QwenImage",)
# What the bridge gives to a sampler, and no caller.
_FROM_BRIDGE = {"self", "score", "steps", "solver", "levels", "schedule", "spacing", "progress"}


class Inpainter:
    """A diffusers pipeline that inpaints; the pipeline itself stays as it is.

    Args:
        pipe: Any text-to-image or text-to-video pipeline, or an unconditional one.
        sampler: The sampler's class, or a function that makes one of a score: any that takes no gradient and asks for
            no more evaluations than its plan declares. See :func:`lanpaint.adapters.bridge.bridged`.
        solver: Another outer step than that of the pipeline's scheduler, whose levels are kept.
        layout: How the pipeline lays out pictures in its latents, for a family that does so in a way of its own; by
            default :class:`~lanpaint.adapters.latents.LatentLayout`.
        cell_rule: Which latent cells are known, given the pixels that are; by default those that have only known pixels
            under them.
        **options: The sampler's, such as ``inner_steps=3``; a call may give others.

    Raises:
        ImportError: Without greenlet.
        TypeError: For a pipeline without a scheduler, or an option that the sampler does not have.
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
        if not callable(pipe) or not hasattr(pipe, "scheduler"):
            raise TypeError(f"pipe must be a pipeline of diffusers, got {type(pipe).__name__}")
        if layout is not None and cell_rule is not None:
            raise ValueError("give layout or cell_rule, not both; a layout has its own rule")
        if solver is not None and not isinstance(solver, Solver):
            raise TypeError(f"solver must be a Solver, an instance, got {solver!r:.60}")
        self.pipe, self.sampler, self.solver, self.options = pipe, sampler, solver, options
        self.layout = layout or LatentLayout(pipe, cell_rule or wholly_known)
        self._names = set(inspect.signature(pipe.__call__).parameters)
        self.bridge: Bridge | None = None
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
        steps: int | None = None,
        known_guidance_scale: float | None = None,
        **arguments: Any,
    ) -> Any:
        """Inpaint.

        Args:
            image: The picture: a PIL image, the path of a file, an array (height, width[, channels]) or a tensor
                (channels, height, width), of bytes or of floats in [0, 1]; or several, in a list or stacked: one per
                prompt, or one for all. For a video pipeline one video: a list of frames, or frames stacked. None to
                sample without.
            mask: What is painted, as in diffusers: white, 1 or True is painted anew and the rest is known. A picture of
                the same size, or boolean. One for all, one per picture, or one per frame. By default what ``image`` is
                transparent in, and what ``pad`` adds.
            pad: Pixels to add at the left, top, right and bottom, and to paint (outpainting).
            feather: Width in pixels of a seam on the known side in which the known picture fades into the painted one.
                At 0 every known pixel is kept exactly; with a seam all those that are not in it.
            steps: Outer steps, the pipeline's ``num_inference_steps``.
            known_guidance_scale: Weight of classifier-free guidance for the known part's score, as the pipeline counts
                its own. Left out, the two are the same (the image first); 0 puts the prompt first: see
                :mod:`lanpaint.adapters.guidance`.
            **arguments: Whatever else the pipeline takes (``prompt``, ``generator``, ``num_images_per_prompt``,
                ``output_type``, …), and options of the sampler (``inner_steps``, ``lam``, …).
                ``callback_on_step_end`` is called once per outer step; it may not change the latents. The picture of a
                ControlNet is ``control_image``, also for pipelines that call it ``image``.

        Returns:
            The pipeline's own output, with the known pixels in its pictures.

        Raises:
            TypeError: For an argument that neither pipeline nor sampler has, and a picture that is none.
            ValueError: For pictures and masks that do not fit each other, or a size that the pipeline cannot take, and
                as :func:`~lanpaint.adapters.bridge.bridged`.
        """
        options = {**self.options, **{name: arguments.pop(name) for name in list(arguments) if self._is_option(name)}}
        given = self._call_arguments(steps, arguments)
        known_part: Callable[[Tensor], Observation] | None = None
        if image is not None:
            pictures, known = self._read(image, mask, pad)
            self._check_size(pictures, given)
            weight = seam_weight(known, feather)
            known_part = functools.partial(self.layout.observation, pictures, known)
        elif mask is not None or any(pad):
            raise ValueError("a mask or pad needs an image; leave them out to sample without one")
        factory = functools.partial(self.sampler, **options) if options else self.sampler
        with bridged(self.pipe, factory, known_part, solver=self.solver) as self.bridge:
            if known_guidance_scale is not None:
                self._guide_known(given, self.bridge, known_guidance_scale)
            output = self.pipe(**given)
        if image is None or given.get("output_type") == "latent":
            return output
        return _replace_pictures(output, lambda made: _paste(made, pictures, weight))

    def _is_option(self, name: str) -> bool:
        return name not in self._names and name in _option_names(self.sampler)

    def _call_arguments(self, steps: int | None, arguments: dict[str, Any]) -> dict[str, Any]:
        unknown = set(arguments) - self._names - ({_CONTROL} if "image" in self._names else set())
        if unknown:
            raise TypeError(
                f"neither {type(self.pipe).__name__} nor {_name(self.sampler)} takes {', '.join(sorted(unknown))}"
            )
        given = dict(arguments)
        if _CONTROL in given and _CONTROL not in self._names:
            given["image"] = given.pop(_CONTROL)
        if steps is not None:
            if "num_inference_steps" in given:
                raise ValueError("give steps or num_inference_steps, not both; they are the same")
            given["num_inference_steps"] = steps
        if "use_resolution_binning" in self._names:  # would paint another size and stretch the picture
            given.setdefault("use_resolution_binning", False)
        return given

    def _guide_known(self, given: dict[str, Any], bridge: Bridge, known_scale: float) -> None:
        """Have the pipeline guide the known part with a weight of its own."""
        name, parameters = type(self.pipe).__name__, inspect.signature(self.pipe.__call__).parameters
        weight = next((weight for weight in ("true_cfg_scale", "guidance_scale") if weight in parameters), None)
        if weight is None:
            raise ValueError(f"{name} has no classifier-free guidance; leave known_guidance_scale out")
        mixing = [option for option in _MIXING if given.get(option)]
        if name.startswith(_RENORMALISED) or mixing:
            raise ValueError(
                f"{name} rescales what it has guided ({', '.join(mixing) or 'by the length of its tokens'}), so known "
                "and unknown part cannot be told apart; use a network adapter (lanpaint.adapters.networks)"
            )
        given[weight] = bridge.guidance(given.get(weight, parameters[weight].default), known_scale)

    # Pictures

    def _read(self, image: Any, mask: Any, pad: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pictures (n, C, [frames,] H, W) in [0, 1], and what is known of them, (n, 1, [frames,] H, W)."""
        pictures, opaque = read_pictures(image)
        pictures = with_channels(pictures, self.layout.channels)
        known = opaque
        if mask is not None:
            height, width = pictures.shape[-2:]
            known = ~read_painted(mask, (height, width), len(pictures), may_be_empty=any(pad))
        if self.layout.is_video:
            pictures = _channels_first(pictures)
            known = None if known is None else _channels_first(known)
        elif pictures.ndim == 5:
            raise ValueError(f"{type(self.pipe).__name__} makes still images, and a video was given")
        known = torch.ones(1, dtype=torch.bool).expand(pictures[:, :1].shape) if known is None else known
        if len(known) not in (1, len(pictures)):
            raise ValueError(f"got {len(known)} masks for {len(pictures)} images; give one for all, or one per image")
        if known.ndim == 5 and known.shape[2] not in (1, pictures.shape[2]):
            raise ValueError(
                f"the mask has {known.shape[2]} frames and the video {pictures.shape[2]}; give one for all, or one per "
                "frame"
            )
        known = known.expand(pictures[:, :1].shape).clone()
        if any(pad):
            pictures, known = _padded(pictures, known, pad)
        if bool(known.all()) and mask is None:
            raise ValueError("nothing is to be painted: give a mask, a transparent image, or pad")
        return pictures, known

    def _check_size(self, pictures: Tensor, given: dict[str, Any]) -> None:
        height, width = pictures.shape[-2:]
        name, nearest = type(self.pipe).__name__, self.layout.nearest(height, width)
        if nearest != (height, width):
            raise ValueError(
                f"the image is {width}×{height} and {name} takes {self.layout.sizes}, nearest "
                f"{nearest[1]}×{nearest[0]}: resize or crop image and mask, or pad"
            )
        sizes = {"height": height, "width": width}
        if self.layout.is_video:
            sizes["num_frames"] = frames = pictures.shape[2]
            group = self.layout.group
            if (frames - 1) % group:
                raise ValueError(
                    f"the video has {frames} frames and {name} takes one more than a multiple of {group}, nearest "
                    f"{round((frames - 1) / group) * group + 1}: leave some out, or repeat the last"
                )
        for side, size in sizes.items():
            if side in self._names and given.setdefault(side, size) != size:
                raise ValueError(f"{side}={given[side]} is not that of the image, {size}; leave it out")
        if "batch_size" in self._names and len(pictures) > 1:
            given.setdefault("batch_size", len(pictures))


def _channels_first(video: Tensor) -> Tensor:
    """One video (frames, C, H, W), or several, as (n, C, frames, H, W)."""
    return (video[None] if video.ndim == 4 else video).transpose(1, 2)


def _name(sampler: Any) -> str:
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    return getattr(sampler, "__name__", "the sampler")


def _option_names(sampler: Any) -> set[str]:
    """Names of the options of a sampler's class, its base classes' included, or of a function that makes one."""
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    functions = [sampler]
    if isinstance(sampler, type):
        functions = [vars(kind)["__init__"] for kind in sampler.__mro__[:-1] if "__init__" in vars(kind)]
    return {name for function in functions for name in inspect.signature(function).parameters} - _FROM_BRIDGE


def _replace_pictures(output: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    name = "frames" if hasattr(output, "frames") else "images"
    output[name] = change(output[name])
    return output


def _padded(pictures: Tensor, known: Tensor, pad: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Pictures with their edges drawn out, for the VAE's sake, and what is known."""
    if len(pad) != 4 or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in pad):
        raise ValueError(f"pad must be four whole numbers of at least 0 (left, top, right, bottom), got {pad!r}")
    left, top, right, bottom = pad
    flat = pictures.reshape(-1, 1, *pictures.shape[-2:])
    flat = F.pad(flat, (left, right, top, bottom), mode="replicate")
    return flat.reshape(*pictures.shape[:-2], *flat.shape[-2:]), F.pad(known, (left, right, top, bottom), value=False)


def seam_weight(known: Tensor, feather: int) -> Tensor:
    """How much of the known picture stays: 1, 0 where it is unknown, and a ramp over ``feather`` pixels beside that."""
    if isinstance(feather, bool) or not isinstance(feather, int) or feather < 0:
        raise ValueError(f"feather must be a whole number of pixels of at least 0, got {feather!r}")
    flat = (~known).reshape(-1, 1, *known.shape[-2:]).float()
    near = [F.max_pool2d(flat, 2 * reach + 1, stride=1, padding=reach) for reach in range(feather + 1)]
    return (1 - torch.stack(near).mean(0)).reshape(known.shape)


def _paste(made: Any, pictures: Tensor, weight: Tensor) -> Any:
    """The pipeline's pictures, of whatever type, with the known ones in them."""
    if isinstance(made, Tensor):  # (B, [F,] C, H, W)
        known, weight = (_batch(t, len(made)).to(made) for t in (pictures, weight))
        return torch.where(weight == 1, known, torch.lerp(made, known, weight))
    if isinstance(made, np.ndarray):  # (B, [F,] H, W, C)
        tensor = torch.from_numpy(made).movedim(-1, -3)
        return _paste(tensor, pictures, weight).movedim(-3, -1).numpy()
    return _paste_bytes(made, _batch(pictures, len(made)), _batch(weight, len(made)))


def _paste_bytes(made: Sequence[Any], pictures: Tensor, weight: Tensor) -> list[Any]:
    """The same of a list of PIL images, or of lists of them: bytes stay bytes."""
    from PIL import Image

    pasted: list[Any] = []
    for one, picture, share in zip(made, pictures, weight, strict=True):
        if isinstance(one, (list, tuple)):
            pasted.append(_paste_bytes(one, picture, share))
            continue
        array = np.array(one)
        tensor = torch.from_numpy(array).float().reshape(*array.shape[:2], -1).movedim(-1, 0)
        blend = torch.lerp(tensor, picture * 255, share).round().clamp(0, 255).to(torch.uint8)
        pasted.append(Image.fromarray(blend.movedim(0, -1).reshape(array.shape).numpy(), one.mode))
    return pasted


def _batch(tensor: Tensor, count: int) -> Tensor:
    """(n, C, [frames,] …) as a pipeline gives it back: (count, [frames,] C, …)."""
    if count % len(tensor):
        raise ValueError(f"{len(tensor)} images were given and {count} painted; give one, or one per prompt")
    tensor = tensor.repeat_interleave(count // len(tensor), 0)
    return tensor.transpose(1, 2) if tensor.ndim == 5 else tensor
