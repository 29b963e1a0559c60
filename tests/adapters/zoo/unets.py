"""Still images in the latents of a VAE, by U-Nets."""

import diffusers
import torch

from tests.adapters import tiny
from tests.adapters.tiny import _unet as unet
from tests.adapters.tiny import embeds, kl, prompts, size
from tests.adapters.zoo.case import Case, build, zoo
from tests.adapters.zoo.stable_diffusion import FROM_A_PICTURE, INPAINTS, NO_PICTURES, image_encoder


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


def prior_scheduler():
    return diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)


def _k22_unet(**config):
    return unet(
        **{
            "in_channels": 4,
            "out_channels": 8,
            "encoder_hid_dim": 8,
            "encoder_hid_dim_type": "image_proj",
            "addition_embed_type": "image",
            "cross_attention_dim": 8,
            "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "resnet_time_scale_shift": "scale_shift",
            **config,
        }
    )


def _k22_scheduler():
    return diffusers.DDPMScheduler(
        beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, variance_type="learned_range"
    )


def _k22_call():
    return {"image_embeds": embeds(1, 8), "negative_image_embeds": embeds(1, 8, seed=2)} | size()


@zoo("KandinskyV22, learned variance")
def kandinsky22_learned():
    return Case(diffusers.KandinskyV22Pipeline(_k22_unet(), _k22_scheduler(), movq()), _k22_call())


@zoo("KandinskyV22Controlnet")
def kandinsky22_controlnet():
    network = _k22_unet(in_channels=8, addition_embed_type="image_hint")
    pipe = diffusers.KandinskyV22ControlnetPipeline(network, _k22_scheduler(), movq(4))
    return Case(pipe, _k22_call() | {"hint": torch.rand(1, 3, 64, 64)} | size(64, 64), (64, 64))


@zoo("KandinskyV22Img2Img")
def kandinsky22_img2img():
    pipe = diffusers.KandinskyV22Img2ImgPipeline(_k22_unet(), _k22_scheduler(), movq())
    return Case(pipe, _k22_call(), refused=FROM_A_PICTURE)


@zoo("KandinskyV22ControlnetImg2Img")
def kandinsky22_controlnet_img2img():
    network = _k22_unet(in_channels=8, addition_embed_type="image_hint")
    pipe = diffusers.KandinskyV22ControlnetImg2ImgPipeline(network, _k22_scheduler(), movq())
    return Case(pipe, _k22_call() | {"hint": torch.rand(1, 3, 64, 64)}, refused=FROM_A_PICTURE)


@zoo("KandinskyV22Inpaint")
def kandinsky22_inpaint():
    pipe = diffusers.KandinskyV22InpaintPipeline(_k22_unet(in_channels=9), _k22_scheduler(), movq())
    return Case(pipe, _k22_call(), refused=INPAINTS)


@zoo("KandinskyV22Prior")
def kandinsky22_prior():
    prior = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=8, num_embeddings=5
    ).eval()
    pipe = build(diffusers.KandinskyV22PriorPipeline, prior=prior, scheduler=prior_scheduler())
    pipe._encode_prompt = lambda *_, **__: (embeds(2, 8), embeds(2, 5, 8, seed=2), torch.ones(2, 5, dtype=torch.bool))
    pipe.get_zero_embed = lambda *_, **__: torch.zeros(1, 8)
    return Case(pipe, {"prompt": "a"}, makes="embedding", refused=NO_PICTURES, output_type="pt")


@zoo("Kandinsky")
def kandinsky():
    network = _k22_unet(
        addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj", addition_embed_type_num_heads=2
    )
    pipe = build(diffusers.KandinskyPipeline, unet=network, movq=movq(), scheduler=_k22_scheduler())
    pipe._encode_prompt = lambda *_, **__: (embeds(2, 8), embeds(2, 5, 8, seed=2), None)
    return Case(pipe, {"prompt": "a", "image_embeds": embeds(1, 8), "negative_image_embeds": embeds(1, 8)} | size())


@zoo("Kandinsky3Img2Img")
def kandinsky3_img2img():
    made = kandinsky3()
    return Case(diffusers.Kandinsky3Img2ImgPipeline(**made.pipe.components), made.call, refused=FROM_A_PICTURE)


def cascade_unet(**config):
    return diffusers.StableCascadeUNet(
        **{
            "in_channels": 4, "out_channels": 4, "timestep_ratio_embedding_dim": 8, "conditioning_dim": 8,
            "block_out_channels": (8,), "num_attention_heads": (2,), "down_num_layers_per_block": (1,),
            "up_num_layers_per_block": (1,), "down_blocks_repeat_mappers": (1,), "up_blocks_repeat_mappers": (1,),
            "block_types_per_layer": (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),),
            "clip_text_in_channels": 8, "clip_text_pooled_in_channels": 8, "clip_image_in_channels": 8,
            "dropout": (0.0,), "self_attn": True, "switch_level": (False,), "clip_seq": 2, **config,
        }
    ).eval()  # fmt: skip


def _cascade_prompts():
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}prompt_embeds_pooled"] = embeds(1, 1, 8, seed=seed)
    return call


def paella():
    from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel

    return PaellaVQModel(bottleneck_blocks=1, embed_dim=8, latent_channels=4, num_vq_embeddings=16).eval()


def _paella_pictures(pipe):
    def reconstruct(pictures):
        return pipe.vqgan.decode(pipe.vqgan.encode(pictures).latents).sample.clamp(0, 1)

    return reconstruct


@zoo("StableCascadePrior")
def cascade_prior():
    parts = {"prior": cascade_unet(), "scheduler": diffusers.DDPMWuerstchenScheduler(), "resolution_multiple": 2}
    pipe = build(diffusers.StableCascadePriorPipeline, feature_extractor=None, image_encoder=None, **parts)
    pipe.encode_prompt = lambda **_: (
        embeds(1, 5, 8),
        embeds(1, 1, 8),
        embeds(1, 5, 8, seed=2),
        embeds(1, 1, 8, seed=2),
    )
    return Case(pipe, _cascade_prompts() | size(), makes="embedding", refused=NO_PICTURES, output_type="pt")


@zoo("StableCascadeDecoder")
def cascade_decoder():
    network = cascade_unet(clip_text_in_channels=None, clip_image_in_channels=None, effnet_in_channels=4)
    parts = {"decoder": network, "scheduler": diffusers.DDPMWuerstchenScheduler(), "vqgan": paella()}
    pipe = build(diffusers.StableCascadeDecoderPipeline, latent_dim_scale=2.0, **parts)
    call = {name: value for name, value in _cascade_prompts().items() if "negative" not in name}
    made = Case(pipe, call | {"image_embeddings": embeds(1, 4, 4, 4)}, (32, 32))
    made.reconstruct = _paella_pictures(pipe)
    return made


@zoo("WuerstchenPrior")
def wuerstchen_prior():
    from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_prior import WuerstchenPrior

    prior = WuerstchenPrior(c_in=4, c=8, c_cond=8, c_r=8, depth=1, nhead=2, dropout=0.0).eval()
    torch.nn.init.normal_(prior.out[-1].weight, std=0.01)
    parts = {"prior": prior, "scheduler": diffusers.DDPMWuerstchenScheduler(), "resolution_multiple": 2}
    pipe = build(diffusers.WuerstchenPriorPipeline, **parts)
    pipe.encode_prompt = lambda *_, **__: (embeds(1, 5, 8), None)
    return Case(
        pipe, {"prompt": "a", "guidance_scale": 1.0} | size(), makes="embedding", refused=NO_PICTURES, output_type="pt"
    )


@zoo("WuerstchenDecoder")
def wuerstchen_decoder():
    from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_diffnext import WuerstchenDiffNeXt

    network = WuerstchenDiffNeXt(
        c_r=8, c_cond=8, c_hidden=[8, 8], nhead=[-1, 2], blocks=[1, 1], level_config=["CT", "CTA"],
        inject_effnet=[False, False], effnet_embd=4, clip_embd=8, dropout=0.0,
    ).eval()  # fmt: skip
    parts = {"decoder": network, "scheduler": diffusers.DDPMWuerstchenScheduler(), "vqgan": paella()}
    pipe = build(diffusers.WuerstchenDecoderPipeline, latent_dim_scale=2.0, **parts)
    pipe.encode_prompt = lambda *_, **__: (embeds(1, 5, 8), None)
    made = Case(pipe, {"prompt": "a", "image_embeddings": embeds(1, 4, 4, 4)}, (32, 32))
    made.reconstruct = _paella_pictures(pipe)
    return made


@zoo("LDMTextToImage")
def ldm_text():
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tiny.with_clip(tiny.sd()).pipe
    bert = CLIPTextModel(CLIPTextConfig(**words.text_encoder.config.to_dict() | {"max_position_embeddings": 77})).eval()
    parts = {"bert": bert, "tokenizer": words.tokenizer, "scheduler": words.scheduler}
    pipe = diffusers.LDMTextToImagePipeline(vqvae=kl(stages=4), unet=unet(), **parts)
    return Case(pipe, {"prompt": "a cat", "guidance_scale": 2.0} | size(64, 64), (64, 64))


@zoo("LDMSuperResolution")
def ldm_super():
    made = tiny.ldm()
    vae = made.pipe.vqvae
    network = tiny.UNet2DModel(**dict(made.pipe.unet.config) | {"in_channels": 6}).eval()
    pipe = diffusers.LDMSuperResolutionPipeline(vae, network, diffusers.DDIMScheduler(**tiny.SD_BETAS))
    return Case(pipe, {}, (16, 16), control=torch.rand(1, 3, 8, 8))


@zoo("StableDiffusionImageVariation")
def variation():
    pipe = build(
        diffusers.StableDiffusionImageVariationPipeline, vae=kl(), unet=unet(),
        scheduler=diffusers.DDIMScheduler(**tiny.SD), image_encoder=image_encoder(), requires_safety_checker=False,
    )  # fmt: skip
    return Case(pipe, size(), control=torch.rand(1, 3, 16, 16))


@zoo("StableDiffusionLatentUpscale")
def latent_upscale():
    network = unet(
        in_channels=8, out_channels=5, time_cond_proj_dim=136, time_embedding_type="fourier", time_embedding_dim=8
    )
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type="sample", **tiny.SD_BETAS)
    pipe = build(diffusers.StableDiffusionLatentUpscalePipeline, vae=kl(), unet=network, scheduler=scheduler)
    call = {f"{prefix}prompt_embeds": embeds(1, 5, 8) for prefix in ("", "negative_")}
    call |= {f"{prefix}pooled_prompt_embeds": embeds(1, 8) for prefix in ("", "negative_")}
    return Case(pipe, call, (32, 32), control=torch.rand(1, 3, 16, 16))


@zoo("MarigoldDepth")
def marigold():
    pipe = build(
        diffusers.MarigoldDepthPipeline, unet=unet(in_channels=8), vae=kl(),
        scheduler=diffusers.DDIMScheduler(**tiny.SD), prediction_type="depth",
        default_denoising_steps=2, default_processing_resolution=16,
    )  # fmt: skip
    tiny.with_clip(tiny.Tiny(pipe, {}, (16, 16), ()))
    return Case(pipe, {}, control=torch.rand(1, 3, 16, 16), refused=NO_PICTURES)


@zoo("Amused")
def amused():
    transformer = diffusers.UVit2DModel(
        hidden_size=8, cond_embed_dim=8, micro_cond_encode_dim=8, micro_cond_embed_dim=8 * 5, encoder_hidden_size=8,
        vocab_size=17, codebook_size=16, in_channels=8, block_out_channels=8, num_res_blocks=1, block_num_heads=2,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, sample_size=8,
    ).eval()  # fmt: skip
    scheduler = diffusers.AmusedScheduler(mask_token_id=16)
    pipe = build(diffusers.AmusedPipeline, vqvae=movq(), transformer=transformer, scheduler=scheduler)
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds"] = embeds(1, 8, seed=seed)
        call[f"{prefix}encoder_hidden_states"] = embeds(1, 5, 8, seed=seed)
    return Case(pipe, call | size(), refused="no noise levels that are known here")
