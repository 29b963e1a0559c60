"""Still images without a VAE."""

import diffusers
import torch

from tests.adapters.tiny import _unet as unet
from tests.adapters.tiny import embeds, unet2d
from tests.adapters.zoo.case import Case, build, zoo
from tests.adapters.zoo.stable_diffusion import FROM_A_PICTURE, INPAINTS


@zoo("IF")
def deepfloyd():
    return _if("IFPipeline")


@zoo("ConsistencyModel")
def consistency():
    pipe = diffusers.ConsistencyModelPipeline(
        unet2d(3, 16), diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40)
    )
    return Case(pipe, {})


def _if_unet(**config):
    return unet(
        **{
            "in_channels": 3,
            "out_channels": 6,
            "sample_size": 16,
            "cross_attention_dim": 8,
            "encoder_hid_dim": 8,
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": 2,
            "resnet_time_scale_shift": "scale_shift",
            "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "encoder_hid_dim_type": "text_proj",
            **config,
        }
    )


def _if_scheduler():
    return diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True, sample_max_value=1.0
    )


def _if(name, **more):
    network = _if_unet(in_channels=6, class_embed_type="timestep") if "Super" in name else _if_unet()
    parts = {"image_noising_scheduler": diffusers.DDPMScheduler()} if "Super" in name else {}
    pipe = build(
        getattr(diffusers, name), unet=network, scheduler=_if_scheduler(), requires_safety_checker=False, **parts
    )
    return Case(pipe, {"prompt_embeds": embeds(1, 5, 8), "negative_prompt_embeds": embeds(1, 5, 8, seed=2)}, **more)


@zoo("IFSuperResolution")
def if_super():
    return _if("IFSuperResolutionPipeline", control=torch.rand(1, 3, 8, 8))


@zoo("IFImg2Img")
def if_img2img():
    return _if("IFImg2ImgPipeline", refused=FROM_A_PICTURE)


@zoo("IFInpainting")
def if_inpainting():
    return _if("IFInpaintingPipeline", refused=INPAINTS)


@zoo("IFImg2ImgSuperResolution")
def if_img2img_super():
    return _if("IFImg2ImgSuperResolutionPipeline", refused=FROM_A_PICTURE)


@zoo("IFInpaintingSuperResolution")
def if_inpainting_super():
    return _if("IFInpaintingSuperResolutionPipeline", refused=INPAINTS)


@zoo("DDIM")
def ddim():
    return Case(diffusers.DDIMPipeline(unet2d(3, 16), diffusers.DDIMScheduler()), {})


@zoo("DDPM, learned variance")
def ddpm_learned():
    network = diffusers.UNet2DModel(**dict(unet2d(3, 16).config) | {"out_channels": 6}).eval()
    return Case(diffusers.DDPMPipeline(network, diffusers.DDPMScheduler(variance_type="learned_range")), {})


@zoo("ConsistencyModel, of classes")
def consistency_of_classes():
    network = diffusers.UNet2DModel(**dict(unet2d(3, 16).config) | {"num_class_embeds": 10}).eval()
    scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40)
    return Case(diffusers.ConsistencyModelPipeline(network, scheduler), {"class_labels": 3})


@zoo("PNDM")
def pndm():
    pipe = diffusers.PNDMPipeline(unet2d(3, 16), diffusers.PNDMScheduler())
    return Case(pipe, {}, count=4)


@zoo("PNDM, without Runge-Kutta steps")
def plms():
    return Case(diffusers.PNDMPipeline(unet2d(3, 16), diffusers.PNDMScheduler(skip_prk_steps=True)), {})


@zoo("ScoreSdeVe")
def score_sde():
    pipe = diffusers.ScoreSdeVePipeline(unet2d(3, 16), diffusers.ScoreSdeVeScheduler())
    return Case(pipe, {}, refused="has no step")


@zoo("KarrasVe")
def karras_ve():
    pipe = diffusers.KarrasVePipeline(unet2d(3, 16), diffusers.KarrasVeScheduler())
    return Case(pipe, {}, refused="its step takes")


@zoo("RePaint")
def repaint():
    pipe = diffusers.RePaintPipeline(unet2d(3, 16), diffusers.RePaintScheduler())
    return Case(pipe, {}, refused=INPAINTS)
