"""Still images in the latents of a VAE, by U-Nets."""

import diffusers
import torch

from tests.adapters import tiny
from tests.adapters.tiny import _unet as unet
from tests.adapters.tiny import embeds, kl, prompts, size
from tests.adapters.zoo.case import Case, build, zoo


@zoo("LatentConsistencyModel")
def lcm():
    pipe = build(
        diffusers.LatentConsistencyModelPipeline,
        vae=kl(),
        unet=unet(time_cond_proj_dim=8),
        scheduler=diffusers.LCMScheduler(**tiny.SD_BETAS),
        requires_safety_checker=False,
    )
    return Case(pipe, {"prompt_embeds": embeds(1, 5, 8)} | size())


@zoo("Kandinsky3")
def kandinsky3():
    network = diffusers.Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=8,
        groups=4,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(8, 8, 8, 8),
        cross_attention_dim=8,
        encoder_hid_dim=8,
    ).eval()
    pipe = build(
        diffusers.Kandinsky3Pipeline, unet=network, movq=movq(4), scheduler=diffusers.DDPMScheduler(**tiny.SD_BETAS)
    )
    masks = {f"{prefix}attention_mask": torch.ones(1, 5) for prefix in ("", "negative_")}
    return Case(pipe, prompts() | masks | size(64, 64), (64, 64))


def movq(stages=2):
    """The VQ model of Kandinsky."""
    return diffusers.VQModel(
        block_out_channels=(32,) * stages,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        latent_channels=4,
        num_vq_embeddings=16,
        norm_num_groups=4,
        norm_type="spatial",
        vq_embed_dim=4,
    ).eval()


@zoo("KandinskyV22")
def kandinsky22():
    network = unet(
        in_channels=4,
        out_channels=8,
        encoder_hid_dim=8,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        cross_attention_dim=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift",
    )
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipe = diffusers.KandinskyV22Pipeline(network, scheduler, movq())
    call = {"image_embeds": embeds(1, 8), "negative_image_embeds": embeds(1, 8, seed=2)}
    return Case(pipe, call | size())
