"""Still images without a VAE."""

import diffusers

from tests.adapters.tiny import _unet as unet
from tests.adapters.tiny import embeds, unet2d
from tests.adapters.zoo.case import Case, build, zoo


@zoo("IF")
def deepfloyd():
    network = unet(
        in_channels=3,
        out_channels=6,
        sample_size=16,
        cross_attention_dim=8,
        encoder_hid_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim_type="text_proj",
    )
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        thresholding=True,
        sample_max_value=1.0,
    )
    pipe = build(diffusers.IFPipeline, unet=network, scheduler=scheduler, requires_safety_checker=False)
    return Case(pipe, {"prompt_embeds": embeds(1, 5, 8), "negative_prompt_embeds": embeds(1, 5, 8, seed=2)})


@zoo("ConsistencyModel")
def consistency():
    pipe = diffusers.ConsistencyModelPipeline(
        unet2d(3, 16), diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40)
    )
    return Case(pipe, {})
