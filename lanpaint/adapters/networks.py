"""The network of a diffusers pipeline as a score, with prompt and guidance.

Use it for methods that need a gradient in x, for sampling loops that you write yourself, and for studies. Otherwise use
:mod:`lanpaint.adapters.bridge`, which runs the whole pipeline. Both use the pipeline's layout of latents, so a sampler
gives the same latents through both. The score made here uses only the pipeline's network, its guidance and one
ControlNet. All else that a pipeline may do (IP-Adapter, …) is left out.

The prompt is encoded once, by the pipeline's ``encode_prompt``. A modular pipeline needs no family here: the blocks of
its loop are called from outside (:mod:`lanpaint.adapters.modular.score`), with all that is in them.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lanpaint.adapters.guidance import Unguided
from lanpaint.adapters.modular.blocks import guiders, is_modular
from lanpaint.adapters.modular.score import LoopNetwork
from lanpaint.adapters.reading import view_of
from lanpaint.schedules import VP, Flow, Schedule
from lanpaint.score import NetworkScore

Part = Tensor | list[Tensor]  # one row per prompt; a list of rows where the rows differ in length
Conditioning = dict[str, Part]
Clock = Callable[[Tensor], Tensor]
# Attributes in which pipelines keep the networks that one evaluation may call.
_NETWORKS = ("unet", "transformer", "transformer_2", "controlnet")


@dataclass(frozen=True)
class Request:
    """The arguments of :func:`network_score` that a :class:`Family` needs.

    Attributes:
        pipe: The pipeline.
        prompt: Arguments of the pipeline's ``encode_prompt``.
        height: Height of the pictures, in pixels.
        width: Width of the pictures, in pixels.
        scale: Weight w of classifier-free guidance as diffusers counts it; None for no guidance.
        embedded: Guidance weight that the network takes as an input (Flux); None for a network without such an input.
        control: Picture for the ControlNet.
        strength: Weight of the ControlNet.
    """

    pipe: Any
    prompt: dict[str, Any]
    height: int
    width: int
    scale: float | None
    embedded: float | None
    control: Any = None
    strength: float = 1.0

    def encode(self, **more: Any) -> tuple[Any, ...]:
        """The output of the pipeline's ``encode_prompt``."""
        names = inspect.signature(self.pipe.encode_prompt).parameters
        arguments: dict[str, Any] = {name: None for name in ("prompt", "prompt_2", "prompt_3") if name in names}
        arguments |= {"device": self.pipe._execution_device, "num_images_per_prompt": 1} | self.prompt | more
        arguments["do_classifier_free_guidance"] = self.scale is not None
        with torch.no_grad():
            return self.pipe.encode_prompt(**{name: value for name, value in arguments.items() if name in names})

    def encode_twice(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The encoded negative prompt, empty without guidance, and the encoded prompt.

        For pipelines that encode the two in two calls of ``encode_prompt``.
        """
        negative = {name.removeprefix("negative_"): value for name, value in self.prompt.items() if "negative_" in name}
        positive = {name: value for name, value in self.prompt.items() if "negative_" not in name}
        with_prompt, with_negative = replace(self, prompt=positive), replace(self, prompt=negative)
        return (with_negative.encode() if self.scale is not None else ()), with_prompt.encode()

    def branches(self, conditional: Conditioning, unconditional: Conditioning) -> list[Conditioning]:
        """Unconditional, then conditional branch, in the order of diffusers; without guidance only the conditional."""
        return [conditional] if self.scale is None else [unconditional, conditional]


class Family(ABC):
    """How the network of one family of pipelines is called. Each family is a subclass.

    Attributes:
        together: Whether the pipeline evaluates both branches of guidance in one batch.
        scale_name: Name of the pipeline's argument for the weight of classifier-free guidance.
        neutral_scale: The pipeline guides only with a weight above this number.
    """

    together = True
    scale_name = "guidance_scale"
    neutral_scale = 1.0

    @abstractmethod
    def condition(self, request: Request) -> list[Conditioning]:
        """The conditioning of each branch of guidance: tensors with one row per prompt, or without a batch axis."""

    @abstractmethod
    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        """The network's output at x, (B, …), and at the pipeline's time, (B,).

        ``given`` is one branch of :meth:`condition`, with one row per row of x.
        """

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """The guided output s_u + w (s_c − s_u), with w = ``scale``."""
        return unconditional + scale * (conditional - unconditional)


class _Unconditional(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        return [{}]

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        return request.pipe.unet(x, time, return_dict=False)[0]


class _StableDiffusion(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        prompt, negative = request.encode()
        return request.branches({"encoder_hidden_states": prompt}, {"encoder_hidden_states": negative})

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        return request.pipe.unet(x, time, **given, return_dict=False)[0]


class _ControlNet(_StableDiffusion):
    def condition(self, request: Request) -> list[Conditioning]:
        pipe, network = request.pipe, request.pipe.controlnet
        if request.control is None or not hasattr(network, "config"):
            what = "a single ControlNet" if request.control is not None else "control_image, the ControlNet's picture"
            raise ValueError(f"{type(pipe).__name__} needs {what}; or use lanpaint.Inpainter")
        size = {"width": request.width, "height": request.height}
        image = pipe.prepare_image(request.control, **size, batch_size=1, num_images_per_prompt=1,
                                   device=pipe._execution_device, dtype=network.dtype)  # fmt: skip
        return [{**branch, "control": image} for branch in super().condition(request)]

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        text, image = given["encoder_hidden_states"], given["control"]
        options: dict[str, Any] = {"encoder_hidden_states": text, "return_dict": False}
        controlled = {"controlnet_cond": image, "conditioning_scale": request.strength}
        down, middle = request.pipe.controlnet(x, time, **options, **controlled)
        added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return request.pipe.unet(x, time, **options, **added)[0]


class _SDXL(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        prompt, negative, pooled, negative_pooled = request.encode()
        encoder = request.pipe.text_encoder_2
        width = pooled.shape[-1] if encoder is None else encoder.config.projection_dim
        size = (request.height, request.width)
        ids = request.pipe._get_add_time_ids(size, (0, 0), size, dtype=prompt.dtype, text_encoder_projection_dim=width)
        ids = ids.to(prompt.device).repeat(len(prompt), 1)
        return request.branches(
            {"encoder_hidden_states": prompt, "text_embeds": pooled, "time_ids": ids},
            {"encoder_hidden_states": negative, "text_embeds": negative_pooled, "time_ids": ids},
        )

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        added = {name: given[name] for name in ("text_embeds", "time_ids")}
        text = given["encoder_hidden_states"]
        return request.pipe.unet(x, time, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False)[0]


class _SD3(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        prompt, negative, pooled, negative_pooled = request.encode()
        return request.branches(
            {"encoder_hidden_states": prompt, "pooled_projections": pooled},
            {"encoder_hidden_states": negative, "pooled_projections": negative_pooled},
        )

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        return request.pipe.transformer(hidden_states=x, timestep=time, **given, return_dict=False)[0]


class _Flux(Family):
    together, scale_name = False, "true_cfg_scale"

    def condition(self, request: Request) -> list[Conditioning]:
        def named(encoded: tuple[Any, ...]) -> Conditioning:
            return dict(zip(("encoder_hidden_states", "pooled_projections", "txt_ids"), encoded, strict=False))

        negative, prompt = request.encode_twice()
        return request.branches(named(prompt), named(negative))

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        pipe, folded = request.pipe, request.pipe.vae_scale_factor * 2
        ids = pipe._prepare_latent_image_ids(
            len(x), request.height // folded, request.width // folded, x.device, x.dtype
        )
        guidance = None
        if pipe.transformer.config.guidance_embeds:
            guidance = torch.full((len(x),), 3.5 if request.embedded is None else request.embedded, device=x.device)
        time = time.to(x.dtype) / 1000
        return pipe.transformer(
            hidden_states=x, timestep=time, guidance=guidance, img_ids=ids, **given, return_dict=False
        )[0]


class _PixArt(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        prompt, mask, negative, negative_mask = request.encode()
        return request.branches(
            {"encoder_hidden_states": prompt, "encoder_attention_mask": mask},
            {"encoder_hidden_states": negative, "encoder_attention_mask": negative_mask},
        )

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        network = request.pipe.transformer
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if network.config.sample_size == 128 and type(request.pipe).__name__ == "PixArtAlphaPipeline":
            size = torch.tensor([request.height, request.width], dtype=x.dtype, device=x.device)
            added = {"resolution": size.expand(len(x), 2), "aspect_ratio": (size[0] / size[1]).expand(len(x), 1)}
        return network(x, timestep=time, added_cond_kwargs=added, **given, return_dict=False)[0]


class _Sana(_PixArt):
    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        network = request.pipe.transformer
        return network(x, timestep=time * network.config.timestep_scale, **given, return_dict=False)[0]


class _Wan(Family):
    together = False

    def condition(self, request: Request) -> list[Conditioning]:
        prompt, negative = request.encode()
        return request.branches({"encoder_hidden_states": prompt}, {"encoder_hidden_states": negative})

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        pipe, network = request.pipe, request.pipe.transformer
        boundary = pipe.config.boundary_ratio
        if boundary is not None and bool((time < boundary * pipe.scheduler.config.num_train_timesteps).all()):
            network = pipe.transformer_2
        return network(hidden_states=x, timestep=time, **given, return_dict=False)[0]


class _LTX(_PixArt):
    frame_rate = 25  # per second, the pipeline's default

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        pipe = request.pipe
        temporal, spatial = pipe.vae_temporal_compression_ratio, pipe.vae_spatial_compression_ratio
        height, width = request.height // spatial, request.width // spatial
        patch = pipe.transformer_temporal_patch_size * pipe.transformer_spatial_patch_size**2
        layout = {"num_frames": x.shape[1] * patch // (height * width), "height": height, "width": width}
        scale = (temporal / self.frame_rate, spatial, spatial)
        return pipe.transformer(
            hidden_states=x, timestep=time, rope_interpolation_scale=scale, **layout, **given, return_dict=False
        )[0]


class _CogVideoX(_Wan):
    together = True

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        pipe, network, rotary = request.pipe, request.pipe.transformer, None
        if network.config.use_rotary_positional_embeddings:
            size = (request.height, request.width)
            rotary = pipe._prepare_rotary_positional_embeddings(*size, x.shape[1], x.device)
        return network(hidden_states=x, timestep=time, image_rotary_emb=rotary, **given, return_dict=False)[0]


class _HiDream(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        t5, negative_t5, llama, negative_llama, pooled, negative_pooled = request.encode()

        def named(t5: Tensor, llama: Tensor, pooled: Tensor) -> Conditioning:
            llama = llama.transpose(0, 1)  # the axis of layers comes before the batch axis
            names = ("encoder_hidden_states_t5", "encoder_hidden_states_llama3", "pooled_embeds")
            return dict(zip(names, (t5, llama, pooled), strict=True))

        conditional = named(t5, llama, pooled)
        if request.scale is None:
            return [conditional]
        return [named(negative_t5, negative_llama, negative_pooled), conditional]

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        llama = given["encoder_hidden_states_llama3"]
        assert isinstance(llama, Tensor)
        given = {**given, "encoder_hidden_states_llama3": llama.transpose(0, 1)}
        return -request.pipe.transformer(hidden_states=x, timesteps=time, **given, return_dict=False)[0]


class _ZImage(Family):
    neutral_scale = 0.0

    def condition(self, request: Request) -> list[Conditioning]:
        prompt, negative = (request.prompt.get(name, ()) for name in ("prompt_embeds", "negative_prompt_embeds"))
        if not prompt or not (negative or request.scale is None):
            prompt, negative = request.encode()
        return request.branches({"cap_feats": prompt}, {"cap_feats": negative})

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        pictures = list(x.unsqueeze(2).unbind(0))
        outputs = request.pipe.transformer(pictures, (1000 - time) / 1000, **given, return_dict=False)[0]
        return -torch.stack([output.squeeze(1) for output in outputs]).to(x.dtype)

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """The guided output u_c + w (u_c − u_u): this pipeline's weight w is 0 without guidance."""
        return conditional + scale * (conditional - unconditional)


class _QwenImage(Family):
    together, scale_name = False, "true_cfg_scale"

    def condition(self, request: Request) -> list[Conditioning]:
        def named(encoded: tuple[Any, ...]) -> Conditioning:
            names = ("encoder_hidden_states", "encoder_hidden_states_mask")
            return {name: part for name, part in zip(names, encoded, strict=False) if part is not None}

        negative, prompt = request.encode_twice()
        return request.branches(named(prompt), named(negative))

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        folded = request.pipe.vae_scale_factor * 2
        shapes = [[(1, request.height // folded, request.width // folded)]] * len(x)
        time = time.to(x.dtype) / 1000
        return request.pipe.transformer(hidden_states=x, timestep=time, img_shapes=shapes, **given, return_dict=False)[
            0
        ]

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """The guided output, each token rescaled to the norm of its conditional velocity, as in the pipeline."""
        guided = super().guide(unconditional, conditional, scale)
        return guided * (conditional.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))


FAMILIES: dict[str, type[Family]] = {
    "DDPMPipeline": _Unconditional,
    "DDIMPipeline": _Unconditional,
    "LDMPipeline": _Unconditional,
    "StableDiffusionPipeline": _StableDiffusion,
    "StableDiffusionControlNetPipeline": _ControlNet,
    "StableDiffusionXLPipeline": _SDXL,
    "StableDiffusion3Pipeline": _SD3,
    "FluxPipeline": _Flux,
    "PixArtAlphaPipeline": _PixArt,
    "PixArtSigmaPipeline": _PixArt,
    "SanaPipeline": _Sana,
    "QwenImagePipeline": _QwenImage,
    "ZImagePipeline": _ZImage,
    "HiDreamImagePipeline": _HiDream,
    "WanPipeline": _Wan,
    "LTXPipeline": _LTX,
    "CogVideoXPipeline": _CogVideoX,
}


def network_score(
    pipe: Any,
    *,
    height: int | None = None,
    width: int | None = None,
    guidance_scale: float | None = None,
    true_cfg_scale: float | None = None,
    known_guidance_scale: float | None = None,
    known: Tensor | None = None,
    control_image: Any = None,
    controlnet_conditioning_scale: float = 1.0,
    family: Family | None = None,
    **prompt: Any,
) -> NetworkScore:
    """The network of a pipeline as a score of the pipeline's latents.

    The latents x have the pipeline's layout. The levels are those of the scheduler's formalism, diffusion or flow.

    Args:
        pipe: The pipeline, of a class in :data:`FAMILIES` unless ``family`` is given; or any modular pipeline.
        height: Height of the pictures, in pixels. Not needed for a pipeline with only one size.
        width: Width of the pictures, in pixels. Not needed for a pipeline with only one size.
        guidance_scale: The pipeline's argument of this name: the weight of classifier-free guidance, which guides above
            1 in most families. For Flux, the guidance weight that the network takes as an input. By default the
            pipeline's default.
        true_cfg_scale: Weight of classifier-free guidance in pipelines that give it this name (Flux, Qwen-Image).
        known_guidance_scale: Weight of classifier-free guidance for the score at the known part. By default the weight
            is the same everywhere. See :mod:`lanpaint.adapters.guidance`.
        known: The known part of the latents, needed for ``known_guidance_scale``: boolean, broadcastable to x, such as
            ``observation.known``.
        control_image: Picture for the ControlNet.
        controlnet_conditioning_scale: Weight of the ControlNet.
        family: How to call the network of a pipeline that is not in :data:`FAMILIES`.
        **prompt: Arguments of the pipeline's ``encode_prompt``: ``prompt``, ``negative_prompt``, or embeddings. For a
            modular pipeline any arguments of its call; its guidance is that of its guider.

    Returns:
        A score. x has the same number of rows for each prompt, and the rows of one prompt follow each other. The score
        holds the pipeline's networks themselves, no copies: ``.to()`` moves them for the pipeline too.

    Raises:
        ValueError: For a pipeline of an unknown family, an argument that ``encode_prompt`` or the pipeline does not
            take, missing ``height`` or ``width``, ``known_guidance_scale`` without ``known`` or without guidance, and
            a ControlNet without a picture.

    Example::

        score = network_score(pipe, height=512, width=512, prompt="a cat")
        paint = lanpaint.DPS(score, steps=50, solver=lanpaint.DiffusersSolver(pipe.scheduler))
    """
    name = type(pipe).__name__
    if is_modular(pipe):
        given = {"height": height, "width": width, "guidance_scale": guidance_scale, "control_image": control_image}
        given = {name: value for name, value in given.items() if value is not None}
        return _modular_score(pipe, known_guidance_scale, known, {**given, **prompt})
    if family is None:
        if name not in FAMILIES:
            raise ValueError(f"{name} is not one of {', '.join(FAMILIES)}; give family=, or use lanpaint.Inpainter")
        family = FAMILIES[name]()
    defaults = inspect.signature(pipe.__call__).parameters
    if (height is None or width is None) and "height" in defaults:
        raise ValueError(f"{name} makes pictures of any size; give height and width, in pixels")
    scales = {"guidance_scale": guidance_scale, "true_cfg_scale": true_cfg_scale}
    for scale_name, value in scales.items():
        if value is None and scale_name in defaults:
            scales[scale_name] = defaults[scale_name].default
        elif value is not None and scale_name not in defaults:
            raise ValueError(f"{name} has no {scale_name}; leave it out")
    has_negative = family.scale_name == "guidance_scale" or any("negative_" in key for key in prompt)
    scale = scales[family.scale_name]
    scale = scale if scale is not None and scale > family.neutral_scale and has_negative else None
    if known_guidance_scale is not None and (known is None or scale is None):
        raise ValueError(
            "known_guidance_scale needs known, the mask of the latents, and guidance: give "
            f"{family.scale_name} above {family.neutral_scale:g} and, for some families, a negative prompt"
        )
    if control_image is not None and not hasattr(pipe, "controlnet"):
        raise ValueError(f"{name} has no ControlNet; leave control_image out")
    encode = getattr(pipe, "encode_prompt", None)
    takes = () if encode is None else inspect.signature(encode).parameters
    unknown = {key.removeprefix("negative_") for key in prompt} - {key.removeprefix("negative_") for key in takes}
    if unknown:
        what = f"{name} has no prompt and" if encode is None else f"encode_prompt of {name}"
        raise ValueError(f"{what} does not take {', '.join(sorted(unknown))}")
    embedded = scales["guidance_scale"] if family.scale_name != "guidance_scale" else None
    control = {"control": control_image, "strength": controlnet_conditioning_scale}
    request = Request(pipe, prompt, height or 0, width or 0, scale, embedded, **control)
    view = view_of(pipe.scheduler)
    schedule: Schedule = Flow() if view == "flow" else VP(pipe.scheduler.alphas_cumprod)
    guided = _Guided(family, request, _clock(pipe.scheduler), known_guidance_scale, known)
    return NetworkScore(guided, view, schedule)


def _modular_score(pipe: Any, known_scale: float | None, known: Tensor | None, call: dict[str, Any]) -> NetworkScore:
    if known_scale is not None and (known is None or not guiders(pipe)):
        raise ValueError("known_guidance_scale needs known, the mask of the latents, and a pipeline with a guider")
    view = view_of(pipe.scheduler)
    schedule: Schedule = Flow() if view == "flow" else VP(pipe.scheduler.alphas_cumprod)
    return NetworkScore(LoopNetwork(pipe, call, _clock(pipe.scheduler), known_scale, known), view, schedule)


def _clock(scheduler: Any) -> Clock:
    """A function from the schedule's time to the time that the pipeline gives its network."""
    if view_of(scheduler) != "flow":
        return lambda time: time
    ticks = scheduler.config.num_train_timesteps
    if type(scheduler).__name__.startswith("FlowMatch"):
        return lambda time: ticks * time
    return lambda time: torch.floor(ticks * time + 1e-3)  # DPM-Solver and UniPC give the network whole-numbered times


class _Guided(nn.Module):
    """A function of (x, time): the network with its conditioning and guidance. The networks are submodules."""

    def __init__(
        self, family: Family, request: Request, clock: Clock, known_scale: float | None, known: Tensor | None
    ) -> None:
        super().__init__()
        parts = {name: getattr(request.pipe, name, None) for name in _NETWORKS}
        self.networks = nn.ModuleDict({name: part for name, part in parts.items() if isinstance(part, nn.Module)})
        self.family, self.request, self.clock = family, request, clock
        self.known_scale, self.known = known_scale, known
        self.branches = family.condition(request)

    def encode(self, prompts: list[str]) -> None:
        """Take these prompts in place of the former ones, each for the same number of rows that follow each other."""
        self.request = replace(self.request, prompt=self.request.prompt | {"prompt": prompts})
        self.branches = self.family.condition(self.request)

    @property
    def unguided(self) -> Unguided | None:
        """The same without guidance; None where there is none."""
        return None if self.request.scale is None else Unguided(self)

    def forward(self, x: Tensor, time: Tensor, guided: bool = True) -> Tensor:
        family, request, time = self.family, self.request, self.clock(time)
        branches = self.branches if guided else self.branches[-1:]  # the last one is that of the prompt
        rows = [{name: _rows(_like(part, x), len(x)) for name, part in branch.items()} for branch in branches]
        if family.together and len(rows) == 2:
            both = {name: _joined(rows[0][name], rows[1][name]) for name in rows[0]}
            outputs = list(family.call(request, torch.cat([x, x]), torch.cat([time, time]), both).chunk(2))
        else:
            outputs = [family.call(request, x, time, branch) for branch in rows]
        if outputs[0].shape[1] == 2 * x.shape[1]:  # the second half is a learned variance
            outputs = [output.chunk(2, dim=1)[0] for output in outputs]
        if request.scale is None or not guided:
            return outputs[0]
        unconditional, conditional = outputs
        output = family.guide(unconditional, conditional, request.scale)
        if self.known_scale is None or self.known is None:
            return output
        return torch.where(self.known.to(x.device), family.guide(unconditional, conditional, self.known_scale), output)


def _like(part: Part, x: Tensor) -> Part:
    """The conditioning on the device of x, and in the dtype of x if it is floating point."""
    if isinstance(part, list):
        return [row.to(x) for row in part]
    return part.to(x) if part.is_floating_point() else part.to(x.device)


def _joined(first: Part, second: Part) -> Part:
    """The rows of both."""
    if isinstance(first, list) and isinstance(second, list):
        return [*first, *second]
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    return torch.cat([first, second])


def _rows(part: Part, batch: int) -> Part:
    """One row per sample, from one row per prompt. Ids of tokens, (tokens, 3), have no batch axis and stay."""
    if isinstance(part, Tensor) and part.ndim == 2 and part.shape[-1] == 3 and batch % len(part):
        return part
    if batch % len(part):
        raise ValueError(
            f"x has {batch} rows and there are {len(part)} prompts; give the same number of rows for each prompt"
        )
    repeats = batch // len(part)
    if isinstance(part, list):
        return [row for row in part for _ in range(repeats)]
    return part.repeat_interleave(repeats, 0)
