"""Variants of Stable Diffusion 1, 2 and XL."""

import diffusers
import torch

from tests.adapters import tiny
from tests.adapters.tiny import _unet as unet
from tests.adapters.tiny import embeds, kl, prompts, size
from tests.adapters.zoo.case import Case, build, zoo

INPAINTS = "inpaints by itself, .*mask is called mask.*; (give|its)"
FROM_A_PICTURE = "begins with a picture .*; (give|its) "
NO_PICTURES = "and Inpainter paints pictures"


def scheduler(**config):
    return diffusers.DDIMScheduler(**{**tiny.SD, "clip_sample": False, "set_alpha_to_one": False, **config})


def guide(height=16, width=16, channels=3):
    """A picture that guides."""
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(3))


def sd(name, words=False, **parts):
    """A pipeline with the parts of Stable Diffusion and others."""
    parts = {"vae": kl(), "unet": unet(), "scheduler": scheduler(), **parts}
    if name in _WITH_SAFETY:
        parts["requires_safety_checker"] = False
    pipe = build(getattr(diffusers, name), **parts)
    if words:
        tiny.with_clip(tiny.Tiny(pipe, {}, (16, 16), ()))
    return pipe


_WITH_SAFETY = {
    name
    for name in dir(diffusers)
    if name.startswith(("StableDiffusion", "Semantic", "CycleD"))
    and name.endswith("Pipeline")
    and "XL" not in name
    and not any(part in name for part in ("3", "Upscale", "Depth", "Panorama2", "Onnx", "Modular"))
}


def controlnet(**config):
    made = diffusers.ControlNetModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 4),
        **config,
    ).eval()
    return awake(made)


def awake(made):
    """A ControlNet is born silent; one of random weights speaks."""
    for parameter in made.controlnet_down_blocks.parameters():
        torch.nn.init.normal_(parameter)
    return made


def words(**call):
    return {"prompt": "a cat", "negative_prompt": "b"} | size() | call


@zoo("StableDiffusionPAG")
def pag():
    return Case(sd("StableDiffusionPAGPipeline", pag_applied_layers="mid"), prompts() | size())


@zoo("StableDiffusionSAG")
def sag():
    return Case(sd("StableDiffusionSAGPipeline"), prompts() | size())


@zoo("StableDiffusionPanorama")
def panorama():
    return Case(sd("StableDiffusionPanoramaPipeline"), prompts() | size())


@zoo("StableDiffusionLDM3D")
def ldm3d():
    vae = kl(in_channels=6, out_channels=6)
    return Case(sd("StableDiffusionLDM3DPipeline", vae=vae), prompts() | size(), refused=NO_PICTURES)


@zoo("StableDiffusionModelEditing")
def model_editing():
    made = tiny.with_clip(tiny.sd())
    parts = {name: part for name, part in made.pipe.components.items() if name != "image_encoder"}
    pipe = diffusers.StableDiffusionModelEditingPipeline(**parts, requires_safety_checker=False, with_augs=[])
    return Case(pipe, prompts() | size())


@zoo("SemanticStableDiffusion")
def semantic():
    pipe = sd("SemanticStableDiffusionPipeline", words=True)
    return Case(pipe, words(editing_prompt=["dog"], edit_warmup_steps=0))


@zoo("StableDiffusionInstructPix2Pix")
def pix2pix():
    pipe = sd("StableDiffusionInstructPix2PixPipeline", unet=unet(in_channels=8))
    return Case(pipe, prompts(), control=guide())


@zoo("StableDiffusionUpscale")
def upscale():
    network = unet(in_channels=7, num_class_embeds=1000)
    parts = {"low_res_scheduler": diffusers.DDPMScheduler(), "vae": kl(stages=3), "max_noise_level": 350}
    pipe = sd("StableDiffusionUpscalePipeline", unet=network, **parts)
    return Case(pipe, prompts() | {"noise_level": 20}, (32, 32), control=guide(8, 8))


@zoo("StableDiffusionControlNetPAG")
def controlnet_pag():
    pipe = sd("StableDiffusionControlNetPAGPipeline", controlnet=controlnet(), pag_applied_layers="mid")
    return Case(pipe, prompts() | size(), control=guide())


@zoo("StableDiffusionControlNet, two")
def two_controlnets():
    pipe = sd("StableDiffusionControlNetPipeline", controlnet=[controlnet(), controlnet()])
    made = Case(pipe, prompts() | size(), control=[guide(), guide()])
    made.parts = [pipe.unet]
    return made


@zoo("StableDiffusionControlNetXS")
def controlnet_xs():
    network = unet(layers_per_block=2)
    adapter = diffusers.ControlNetXSAdapter.from_unet(
        network, size_ratio=1.0, conditioning_embedding_out_channels=(4, 4), num_attention_heads=2
    ).eval()
    pipe = sd("StableDiffusionControlNetXSPipeline", unet=network, controlnet=adapter)
    return Case(pipe, prompts() | size(), control=guide(), networks=("unet",))


@zoo("StableDiffusionAdapter")
def adapter():
    made = diffusers.T2IAdapter(channels=[8] * 2, num_res_blocks=1, downscale_factor=2).eval()
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    blocks["up_block_types"] = ("UpBlock2D", "CrossAttnUpBlock2D")
    pipe = sd("StableDiffusionAdapterPipeline", adapter=made, unet=unet(**blocks))
    return Case(pipe, prompts() | size(), control=guide())


@zoo("StableDiffusionGLIGEN")
def gligen():
    pipe = sd("StableDiffusionGLIGENPipeline", words=True, unet=unet(attention_type="gated"))
    boxes = {"gligen_phrases": ["a cat"], "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]]}
    return Case(pipe, words(**boxes))


@zoo("StableDiffusionAttendAndExcite")
def attend():
    pipe = sd("StableDiffusionAttendAndExcitePipeline", words=True)
    return Case(
        pipe,
        words(token_indices=[2], max_iter_to_alter=2, thresholds={}, attn_res=(4, 4)),
        refused="changed its latents between",
    )


@zoo("StableDiffusionParadigms")
def paradigms():
    pipe = sd("StableDiffusionParadigmsPipeline", scheduler=diffusers.DDIMParallelScheduler(**tiny.SD))
    return Case(pipe, prompts() | size(), refused="never calls its scheduler's step")


@zoo("CycleDiffusion")
def cycle():
    pipe = sd("CycleDiffusionPipeline", words=True)
    return Case(pipe, {"prompt": "a", "source_prompt": "b"}, refused=FROM_A_PICTURE)


@zoo("StableDiffusionImg2Img")
def img2img():
    return Case(sd("StableDiffusionImg2ImgPipeline"), prompts(), refused=FROM_A_PICTURE)


@zoo("StableDiffusionInpaint")
def inpaint():
    return Case(sd("StableDiffusionInpaintPipeline", unet=unet(in_channels=9)), prompts() | size(), refused=INPAINTS)


@zoo("StableDiffusionPAGImg2Img")
def pag_img2img():
    pipe = sd("StableDiffusionPAGImg2ImgPipeline", pag_applied_layers="mid")
    return Case(pipe, prompts(), refused=FROM_A_PICTURE)


@zoo("StableDiffusionPAGInpaint")
def pag_inpaint():
    pipe = sd("StableDiffusionPAGInpaintPipeline", pag_applied_layers="mid")
    return Case(pipe, prompts(), refused=INPAINTS)


@zoo("StableDiffusionControlNetImg2Img")
def controlnet_img2img():
    pipe = sd("StableDiffusionControlNetImg2ImgPipeline", controlnet=controlnet())
    return Case(pipe, prompts(), control=guide(), control_name="control_image", refused=FROM_A_PICTURE)


@zoo("StableDiffusionControlNetInpaint")
def controlnet_inpaint():
    pipe = sd("StableDiffusionControlNetInpaintPipeline", controlnet=controlnet())
    return Case(pipe, prompts(), control=guide(), control_name="control_image", refused=INPAINTS)


@zoo("StableDiffusionControlNetPAGInpaint")
def controlnet_pag_inpaint():
    pipe = sd("StableDiffusionControlNetPAGInpaintPipeline", controlnet=controlnet(), pag_applied_layers="mid")
    return Case(pipe, prompts(), control=guide(), control_name="control_image", refused=INPAINTS)


@zoo("StableDiffusionDepth2Img")
def depth2img():
    return Case(sd("StableDiffusionDepth2ImgPipeline", unet=unet(in_channels=5)), prompts(), refused=FROM_A_PICTURE)


@zoo("StableDiffusionDiffEdit")
def diffedit():
    parts = {"inverse_scheduler": diffusers.DDIMInverseScheduler(**tiny.SD_BETAS)}
    return Case(sd("StableDiffusionDiffEditPipeline", **parts), prompts(), refused=INPAINTS)


@zoo("PaintByExample")
def paint_by_example():
    pipe = sd("PaintByExamplePipeline", unet=unet(in_channels=9), requires_safety_checker=False)
    return Case(pipe, size(), refused=INPAINTS)


def image_encoder():
    """A CLIP for pictures."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, projection_dim=8, num_hidden_layers=1, num_attention_heads=2, image_size=16,
        patch_size=8,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


@zoo("StableUnCLIPImg2Img")
def unclip_from_embedding():
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    network = unet(class_embed_type="projection", projection_class_embeddings_input_dim=16)
    pipe = build(
        diffusers.StableUnCLIPImg2ImgPipeline,
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=8),
        image_noising_scheduler=diffusers.DDPMScheduler(),
        unet=network,
        scheduler=scheduler(),
        vae=kl(),
        image_encoder=image_encoder(),
    )
    tiny.with_clip(tiny.Tiny(pipe, {}, (16, 16), ()))
    return Case(pipe, prompts() | size() | {"image_embeds": embeds(1, 8)})


# Stable Diffusion XL


def unet_xl(**config):
    given = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 8 * 6 + 8}
    return unet(addition_embed_type="text_time", **given, **config)


def xl(name, **parts):
    """A pipeline with the parts of SDXL and others."""
    default = {
        "vae": kl(scaling_factor=0.13025),
        "unet": unet_xl(),
        "scheduler": diffusers.EulerDiscreteScheduler(**tiny.SD),
    }
    return build(getattr(diffusers, name), add_watermarker=False, **{**default, **parts})


def controlnet_xl():
    given = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 8 * 6 + 8}
    return controlnet(addition_embed_type="text_time", **given)


def pooled(**call):
    return prompts(pooled=True) | size() | call


@zoo("StableDiffusionXLControlNet")
def xl_controlnet():
    pipe = xl("StableDiffusionXLControlNetPipeline", controlnet=controlnet_xl())
    return Case(pipe, pooled(), control=guide())


@zoo("StableDiffusionXLControlNetUnion")
def xl_union():
    made = diffusers.ControlNetUnionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 8),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 8,
        num_control_type=2,
        num_trans_channel=8,
        num_trans_head=2,
        num_trans_layer=1,
        num_proj_channel=8,
    ).eval()
    pipe = xl("StableDiffusionXLControlNetUnionPipeline", controlnet=awake(made))
    return Case(pipe, pooled(control_mode=[0]), control=guide(), control_name="control_image")


@zoo("StableDiffusionXLControlNetXS")
def xl_controlnet_xs():
    network = unet_xl(layers_per_block=2)
    adapter = diffusers.ControlNetXSAdapter.from_unet(
        network, size_ratio=1.0, conditioning_embedding_out_channels=(4, 4), num_attention_heads=2
    ).eval()
    pipe = xl("StableDiffusionXLControlNetXSPipeline", unet=network, controlnet=adapter)
    return Case(pipe, pooled(), control=guide(), networks=("unet",))


@zoo("StableDiffusionXLPAG")
def xl_pag():
    return Case(xl("StableDiffusionXLPAGPipeline", pag_applied_layers="mid"), pooled())


@zoo("StableDiffusionXLControlNetPAG")
def xl_controlnet_pag():
    pipe = xl("StableDiffusionXLControlNetPAGPipeline", controlnet=controlnet_xl(), pag_applied_layers="mid")
    return Case(pipe, pooled(), control=guide())


@zoo("StableDiffusionXLAdapter")
def xl_adapter():
    made = tiny.sdxl_adapter()
    call = dict(made.call)
    return Case(made.pipe, call, control=call.pop("image"))


@zoo("StableDiffusionXLInstructPix2Pix")
def xl_pix2pix():
    pipe = xl("StableDiffusionXLInstructPix2PixPipeline", unet=unet_xl(in_channels=8))
    return Case(pipe, pooled(), control=guide())


@zoo("StableDiffusionXL, EDM")
def xl_edm():
    return Case(xl("StableDiffusionXLPipeline", scheduler=diffusers.EDMDPMSolverMultistepScheduler()), pooled())


@zoo("StableDiffusionXL, EDM Euler")
def xl_edm_euler():
    return Case(xl("StableDiffusionXLPipeline", scheduler=diffusers.EDMEulerScheduler()), pooled())


@zoo("StableDiffusionXL, LCM")
def xl_lcm():
    return Case(xl("StableDiffusionXLPipeline", scheduler=diffusers.LCMScheduler(**tiny.SD_BETAS)), pooled())


@zoo("StableDiffusionXL, TCD")
def xl_tcd():
    return Case(xl("StableDiffusionXLPipeline", scheduler=diffusers.TCDScheduler(**tiny.SD_BETAS)), pooled())


def _refused_xl(name, pattern, **parts):
    """A class of SDXL that is refused."""
    if "PAG" in name:
        parts["pag_applied_layers"] = "mid"
    control = None
    if "ControlNet" in name:
        parts["controlnet"], control = controlnet_xl(), guide()
    if "Union" in name:
        parts["controlnet"] = case_of_union().pipe.controlnet
    pipe = xl(name, **parts)
    return Case(pipe, pooled(), control=control, control_name="control_image", refused=pattern)


case_of_union = xl_union
for _kind in ("Img2Img", "PAGImg2Img", "ControlNetImg2Img", "ControlNetPAGImg2Img", "ControlNetUnionImg2Img"):
    zoo(f"StableDiffusionXL{_kind}")(
        lambda _kind=_kind: _refused_xl(f"StableDiffusionXL{_kind}Pipeline", FROM_A_PICTURE)
    )
for _kind in ("Inpaint", "PAGInpaint", "ControlNetInpaint", "ControlNetUnionInpaint"):
    zoo(f"StableDiffusionXL{_kind}")(lambda _kind=_kind: _refused_xl(f"StableDiffusionXL{_kind}Pipeline", INPAINTS))
