"""Small networks with random weights that pipelines of more than one form have: classic ones and modular ones."""

import diffusers
import torch

from tests.adapters.tiny import embeds, size


def flux2_vae():
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, norm_num_groups=4,
    ).eval()  # fmt: skip
    vae.bn.running_mean.copy_(torch.linspace(-0.3, 0.3, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 16))
    return vae


def flux2_transformer(guidance=True):
    return diffusers.Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guidance,
    ).eval()  # fmt: skip


def ernie_transformer():
    return diffusers.ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=1, ffn_hidden_size=16, in_channels=16, out_channels=16,
        text_in_dim=8, rope_axes_dim=(4, 6, 6),
    ).eval()  # fmt: skip


def krea2_transformer():
    return diffusers.Krea2Transformer2DModel(
        in_channels=16, num_layers=1, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, timestep_embed_dim=8, text_hidden_dim=8, num_text_layers=2, text_num_attention_heads=2,
        text_num_key_value_heads=1, text_intermediate_size=8, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    ).eval()  # fmt: skip


def hunyuan_video15():
    """Transformer, VAE, and the arguments of a call."""
    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, num_refiner_layers=1,
        text_embed_dim=8, text_embed_2_dim=8, image_embed_dim=8, rope_axes_dim=(2, 6, 8), target_size=16,
        task_type="t2v",
    ).eval()  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1
    ).eval()
    call = size(32, 32, frames=5)
    for prefix, seed in (("", 1), ("negative_", 2)):
        for number in ("", "_2"):
            call[f"{prefix}prompt_embeds{number}"] = embeds(1, 5, 8, seed=seed)
            call[f"{prefix}prompt_embeds_mask{number}"] = torch.ones(1, 5)
    return transformer, vae, call
