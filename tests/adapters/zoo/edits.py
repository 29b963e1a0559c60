"""Pipelines that are given a picture beside the prompt, and what else has no plain text-to-image form."""

import diffusers
import torch
from PIL import Image

from tests.adapters import tiny
from tests.adapters.tiny import embeds, kl, size
from tests.adapters.zoo.case import Case, build, zoo
from tests.adapters.zoo.transformers import (
    awake,
    flow,
    flux2_transformer,
    flux2_vae,
    guide,
    kandinsky5_transformer,
    variant,
)


def _pil(height, width):
    return Image.fromarray((guide(height, width)[0] * 255).byte().movedim(0, -1).numpy())


def _encoded(pipe, *embeddings):
    """The pipeline with a stub in the place of its text encoder."""
    pipe.encode_prompt = lambda *_, **__: embeddings
    return pipe


@zoo("Kandinsky5I2I")
def kandinsky5_i2i():
    pipe = build(
        diffusers.Kandinsky5I2IPipeline, vae=kl(scaling_factor=0.3, stages=4),
        transformer=kandinsky5_transformer(visual_cond=True), scheduler=flow(shift=3.0),
    )  # fmt: skip
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds_qwen"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}prompt_embeds_clip"] = embeds(1, 8, seed=seed)
        call[f"{prefix}prompt_cu_seqlens"] = torch.tensor([0, 5], dtype=torch.int32)
    pipe.resolutions = [(64, 64)]
    return Case(pipe, call | size(64, 64), (64, 64), control=guide(64, 64))


@zoo("Flux2, with a picture")
def flux2_edit():
    parts = {"scheduler": flow(shift=3.0, use_dynamic_shifting=True), "transformer": flux2_transformer()}
    pipe = build(diffusers.Flux2Pipeline, vae=flux2_vae(), **parts)
    return Case(pipe, {"prompt_embeds": embeds(1, 5, 8)} | size(64, 64), (64, 64), control=_pil(64, 64))


@zoo("BriaFibo")
def fibo():
    transformer = diffusers.BriaFiboTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, text_encoder_dim=8, axes_dims_rope=[4, 6, 6],
    ).eval()  # fmt: skip
    vae = tiny._video_vae(diffusers.AutoencoderKLWan, scale_factor_temporal=2, scale_factor_spatial=2)
    pipe = build(
        diffusers.BriaFiboPipeline, vae=vae, transformer=transformer, scheduler=flow(use_dynamic_shifting=True)
    )
    pipe.vae_scale_factor = 2  # the pipeline has that of the published VAE, 16
    layers = [embeds(1, 5, 8, seed=seed) for seed in (3, 4)]
    _encoded(
        pipe, embeds(1, 5, 16), embeds(1, 5, 16, seed=2), torch.zeros(5, 3), torch.ones(1, 5), torch.ones(1, 5),
        layers, layers,
    )  # fmt: skip
    return Case(pipe, {"prompt": "a"} | size(64, 64), (64, 64))


@zoo("ZImageControlNet")
def z_controlnet():
    made = tiny.z_image()
    network = diffusers.ZImageControlNetModel(
        control_layers_places=[0], control_refiner_layers_places=[0], control_in_dim=4, dim=16, n_refiner_layers=1,
        n_heads=1, n_kv_heads=1,
    ).eval()  # fmt: skip
    pipe = variant("ZImageControlNetPipeline", made, controlnet=awake(network))
    return Case(pipe, made.call, control=guide(), control_name="control_image")
