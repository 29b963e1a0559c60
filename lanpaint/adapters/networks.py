"""The network of a diffusers pipeline as a score, with prompt and guidance: for gradients, loops of one's own, studies.

The prompt is encoded once, by the pipeline's own ``encode_prompt``. Latents are in the pipeline's own layout, as in
:mod:`lanpaint.adapters.bridge`, and so is the score: one sampler gives the same latents through either. Here x has a
gradient, and what a pipeline does beside its network and guidance (ControlNet, IP-Adapter, …) is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.schedulers import view_of
from lanpaint.schedules import VP, Flow, Schedule
from lanpaint.score import NetworkScore

Conditioning = dict[str, Tensor]
Clock = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Request:
    """What a caller asks of a family.

    Attributes:
        pipe: The pipeline.
        prompt: Arguments of its ``encode_prompt``.
        height: In pixels.
        width: In pixels.
        scale: Weight w of classifier-free guidance as diffusers counts it; None for none.
        embedded: Guidance that the network is told as a number (Flux); None where it is not.
    """

    pipe: Any
    prompt: dict[str, Any]
    height: int
    width: int
    scale: float | None
    embedded: float | None

    def encode(self, **more: Any) -> tuple[Any, ...]:
        """What the pipeline's ``encode_prompt`` returns."""
        names = inspect.signature(self.pipe.encode_prompt).parameters
        given: dict[str, Any] = {name: None for name in ("prompt", "prompt_2", "prompt_3") if name in names}
        given |= {"device": self.pipe._execution_device, "num_images_per_prompt": 1} | self.prompt | more
        given["do_classifier_free_guidance"] = self.scale is not None
        with torch.no_grad():
            return self.pipe.encode_prompt(**{name: value for name, value in given.items() if name in names})

    def encode_twice(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """For pipelines that encode the negative prompt in a call of its own: that, and the prompt."""
        negative = {name.removeprefix("negative_"): value for name, value in self.prompt.items() if "negative_" in name}
        positive = {name: value for name, value in self.prompt.items() if "negative_" not in name}
        own = Request(self.pipe, positive, self.height, self.width, self.scale, self.embedded)
        other = Request(self.pipe, negative, self.height, self.width, self.scale, self.embedded)
        return (other.encode() if self.scale is not None else ()), own.encode()

    def branches(self, conditional: Conditioning, unconditional: Conditioning) -> list[Conditioning]:
        """The unconditional branch first, as diffusers has it; without guidance the conditional one alone."""
        return [conditional] if self.scale is None else [unconditional, conditional]


class Family:
    """How the network of a family is called. One class a family, with the two methods that differ.

    Attributes:
        together: Whether the pipeline evaluates both branches of guidance in one batch.
        scale_name: What the pipeline calls its weight of classifier-free guidance.
    """

    together = True
    scale_name = "guidance_scale"

    def condition(self, request: Request) -> list[Conditioning]:
        """The branches: tensors of one row per prompt, or without a batch."""
        raise NotImplementedError

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        """The network's output at x, (B, …), and the pipeline's time, (B,)."""
        raise NotImplementedError

    def guide(self, unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
        """Classifier-free guidance."""
        return unconditional + scale * (conditional - unconditional)


class _StableDiffusion(Family):
    def condition(self, request: Request) -> list[Conditioning]:
        prompt, negative = request.encode()
        return request.branches({"encoder_hidden_states": prompt}, {"encoder_hidden_states": negative})

    def call(self, request: Request, x: Tensor, time: Tensor, given: Conditioning) -> Tensor:
        return request.pipe.unet(x, time, **given, return_dict=False)[0]


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
        """With the length of each token's conditional velocity, as the pipeline has it."""
        guided = super().guide(unconditional, conditional, scale)
        return guided * (conditional.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))


FAMILIES: dict[str, type[Family]] = {
    "StableDiffusionPipeline": _StableDiffusion,
    "StableDiffusionXLPipeline": _SDXL,
    "StableDiffusion3Pipeline": _SD3,
    "FluxPipeline": _Flux,
    "PixArtAlphaPipeline": _PixArt,
    "PixArtSigmaPipeline": _PixArt,
    "SanaPipeline": _Sana,
    "WanPipeline": _Wan,
    "QwenImagePipeline": _QwenImage,
}


def network_score(
    pipe: Any,
    *,
    height: int,
    width: int,
    guidance_scale: float | None = None,
    true_cfg_scale: float | None = None,
    family: Family | None = None,
    **prompt: Any,
) -> NetworkScore:
    """The network of a pipeline as a score of its latents, in the pipeline's layout and the scheduler's formalism.

    Args:
        pipe: The pipeline; those of :data:`FAMILIES` are known.
        height: Of the pictures, in pixels.
        width: Of the pictures, in pixels.
        guidance_scale: The pipeline's: weight of classifier-free guidance, above 1 for any; for Flux the number that
            the network is told. The pipeline's own default when left out.
        true_cfg_scale: Weight of classifier-free guidance where the pipeline calls it so (Flux, Qwen-Image).
        family: How the network is called, for a pipeline that is not known.
        **prompt: Arguments of the pipeline's ``encode_prompt``: ``prompt``, ``negative_prompt``, or embeddings.

    Returns:
        A score. x has one row per prompt, or several for each, those of one prompt beside each other.

    Raises:
        ValueError: For a family that is not known, and an argument that ``encode_prompt`` does not take.

    Example::

        score = network_score(pipe, height=512, width=512, prompt="a cat")
        paint = lanpaint.DPS(score, steps=50, solver=lanpaint.DiffusersSolver(pipe.scheduler))
    """
    name = type(pipe).__name__
    if family is None:
        if name not in FAMILIES:
            raise ValueError(f"{name} is not one of {', '.join(FAMILIES)}; give family=, or use lanpaint.Inpainter")
        family = FAMILIES[name]()
    defaults = inspect.signature(pipe.__call__).parameters
    given = {"guidance_scale": guidance_scale, "true_cfg_scale": true_cfg_scale}
    for scale_name, value in given.items():
        if value is None and scale_name in defaults:
            given[scale_name] = defaults[scale_name].default
        elif value is not None and scale_name not in defaults:
            raise ValueError(f"{name} has no {scale_name}; leave it out")
    has_negative = family.scale_name == "guidance_scale" or any("negative_" in key for key in prompt)
    scale = given[family.scale_name]
    scale = scale if scale is not None and scale > 1 and has_negative else None
    unknown = {key.removeprefix("negative_") for key in prompt} - {
        key.removeprefix("negative_") for key in inspect.signature(pipe.encode_prompt).parameters
    }
    if unknown:
        raise ValueError(f"encode_prompt of {name} does not take {', '.join(sorted(unknown))}")
    embedded = given["guidance_scale"] if family.scale_name != "guidance_scale" else None
    request = Request(pipe, prompt, height, width, scale, embedded)
    view = view_of(pipe.scheduler)
    schedule: Schedule = Flow() if view == "flow" else VP(pipe.scheduler.alphas_cumprod)
    network = getattr(pipe, "unet", None) or pipe.transformer
    dtype = next(network.parameters()).dtype
    return NetworkScore(_guided(family, request, dtype, _clock(pipe.scheduler)), view, schedule, dtype)


def _clock(scheduler: Any) -> Clock:
    """The pipeline's time of a schedule's."""
    if view_of(scheduler) != "flow":
        return lambda time: time
    ticks = scheduler.config.num_train_timesteps
    if type(scheduler).__name__.startswith("FlowMatch"):
        return lambda time: ticks * time
    return lambda time: torch.floor(ticks * time + 1e-3)  # DPM-Solver and UniPC show times without their fraction


def _guided(family: Family, request: Request, dtype: torch.dtype, clock: Clock) -> Callable[[Tensor, Tensor], Tensor]:
    """The network with its conditioning and guidance, of (x, time) alone."""
    branches = [{name: _cast(part, dtype) for name, part in branch.items()} for branch in family.condition(request)]

    def network(x: Tensor, time: Tensor) -> Tensor:
        time = clock(time)
        rows = [{name: _rows(part, len(x)) for name, part in branch.items()} for branch in branches]
        if family.together and len(rows) == 2:
            both = {name: torch.cat([rows[0][name], rows[1][name]]) for name in rows[0]}
            outputs = list(family.call(request, torch.cat([x, x]), torch.cat([time, time]), both).chunk(2))
        else:
            outputs = [family.call(request, x, time, given) for given in rows]
        if outputs[0].shape[1] == 2 * x.shape[1]:  # a learned variance
            outputs = [output.chunk(2, dim=1)[0] for output in outputs]
        if request.scale is None:
            return outputs[0]
        unconditional, conditional = outputs
        return family.guide(unconditional, conditional, request.scale)

    return network


def _cast(part: Tensor, dtype: torch.dtype) -> Tensor:
    return part.to(dtype) if part.is_floating_point() else part


def _rows(part: Tensor, batch: int) -> Tensor:
    """One row per sample of a tensor of one per prompt; ids of tokens, (tokens, 3), have no batch."""
    if part.ndim == 2 and part.shape[-1] == 3 and batch % len(part):
        return part
    if batch % len(part):
        raise ValueError(f"x has {batch} rows and there are {len(part)} prompts; give several rows for each")
    return part.repeat_interleave(batch // len(part), 0)
