"""Still images in the latents of a VAE, by transformers."""

import diffusers
import torch

from tests.adapters import tiny
from tests.adapters.tiny import embeds, kl, prompts, size
from tests.adapters.zoo.case import Case, build, zoo


def flow(**config):
    return diffusers.FlowMatchEulerDiscreteScheduler(**config)


@zoo("AuraFlow")
def aura_flow():
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    ).eval()
    pipe = build(
        diffusers.AuraFlowPipeline, vae=kl(scaling_factor=0.13), transformer=transformer, scheduler=flow(shift=1.73)
    )
    return Case(pipe, prompts(masks=True) | size())


@zoo("Lumina")
def lumina():
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=8,
        hidden_size=24,
        num_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=8,
        cross_attention_dim=8,
    ).eval()
    vae = kl(scaling_factor=0.13, stages=4)
    pipe = build(diffusers.LuminaPipeline, vae=vae, transformer=transformer, scheduler=flow())
    return Case(pipe, prompts(masks=True) | size(64, 64) | {"clean_caption": False}, (64, 64))


@zoo("Lumina2")
def lumina2():
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=8,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(32, 32, 32),
        cap_feat_dim=8,
    ).eval()
    vae = kl(scaling_factor=0.36, shift_factor=0.12, stages=4)
    pipe = build(diffusers.Lumina2Pipeline, vae=vae, transformer=transformer, scheduler=flow(shift=6.0))
    call = prompts()
    for prefix in ("", "negative_"):
        call[f"{prefix}prompt_attention_mask"] = torch.ones(1, 5, dtype=torch.bool)
    return Case(pipe, call | size(64, 64), (64, 64))


@zoo("CogView3Plus")
def cogview3plus():
    transformer = diffusers.CogView3PlusTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        text_embed_dim=8,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=8,
    ).eval()
    scheduler = diffusers.CogVideoXDDIMScheduler(
        **tiny.SD_BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    pipe = build(
        diffusers.CogView3PlusPipeline, vae=kl(scaling_factor=0.13), transformer=transformer, scheduler=scheduler
    )
    return Case(pipe, prompts() | size())


@zoo("CogView4")
def cogview4():
    transformer = diffusers.CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=4,
        text_embed_dim=8,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=8,
    ).eval()
    scheduler = flow(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    pipe = build(diffusers.CogView4Pipeline, vae=kl(scaling_factor=1.0), transformer=transformer, scheduler=scheduler)
    return Case(pipe, prompts() | size())


@zoo("DiT")
def dit():
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=8,
        norm_num_groups=4,
        num_embeds_ada_norm=1000,
    ).eval()
    pipe = build(
        diffusers.DiTPipeline, vae=kl(scaling_factor=0.18), transformer=transformer, scheduler=diffusers.DDIMScheduler()
    )
    return Case(pipe, {"class_labels": [3]})


@zoo("Chroma")
def chroma():
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=8,
        approximator_layers=1,
    ).eval()
    vae = kl(shift_factor=0.1159, scaling_factor=0.3611)
    pipe = build(
        diffusers.ChromaPipeline, vae=vae, transformer=transformer, scheduler=flow(use_beta_sigmas=False, shift=3.0)
    )
    return Case(pipe, prompts(masks=True) | size(16, 24), (16, 24))


@zoo("HunyuanDiT")
def hunyuan_dit():
    transformer = diffusers.HunyuanDiT2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=8,
        hidden_size=16,
        num_layers=2,
        cross_attention_dim=8,
        cross_attention_dim_t5=8,
        pooled_projection_dim=8,
        text_len=5,
        text_len_t5=5,
        activation_fn="gelu-approximate",
    ).eval()
    pipe = build(
        diffusers.HunyuanDiTPipeline,
        vae=kl(scaling_factor=0.13),
        transformer=transformer,
        scheduler=diffusers.DDPMScheduler(**tiny.SD_BETAS, prediction_type="v_prediction"),
        requires_safety_checker=False,
    )
    call = prompts(masks=True) | size() | {"use_resolution_binning": False}
    for prefix, seed in (("", 3), ("negative_", 4)):
        call[f"{prefix}prompt_embeds_2"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}prompt_attention_mask_2"] = torch.ones(1, 5)
    return Case(pipe, call)


@zoo("PixArtAlpha")
def pixart_alpha():
    made = tiny.pixart()
    return Case(diffusers.PixArtAlphaPipeline(**made.pipe.components), made.call)
