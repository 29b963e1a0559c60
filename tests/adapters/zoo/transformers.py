"""Still images in the latents of a VAE, by transformers."""

import inspect

import diffusers
import torch

from tests.adapters import tiny
from tests.adapters.parts import ernie_transformer, flux2_transformer, flux2_vae, krea2_transformer
from tests.adapters.tiny import embeds, kl, prompts, size
from tests.adapters.zoo.case import Case, build, zoo
from tests.adapters.zoo.stable_diffusion import FROM_A_PICTURE, INPAINTS


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


# Variants of the tested families


def guide(height=16, width=16, channels=3):
    """A picture that guides."""
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(3))


def awake(controlnet):
    """A ControlNet is born silent; one of random weights speaks."""
    for name, parameter in controlnet.named_parameters():
        if "controlnet" in name or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return controlnet


def variant(name, made, **parts):
    """Another class with the parts of a tiny pipeline."""
    kind = getattr(diffusers, name)
    names = inspect.signature(kind.__init__).parameters
    own = {part: value for part, value in made.pipe.components.items() if part in names}
    return build(kind, **{**own, **parts})


def sd3_controlnet(**config):
    return awake(
        diffusers.SD3ControlNetModel(
            sample_size=8, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=8, caption_projection_dim=16, pooled_projection_dim=8, pos_embed_max_size=8, **config,
        ).eval()
    )  # fmt: skip


@zoo("StableDiffusion3ControlNet")
def sd3_control():
    made = tiny.sd3()
    pipe = variant("StableDiffusion3ControlNetPipeline", made, controlnet=sd3_controlnet())
    return Case(pipe, made.call, control=guide(), control_name="control_image")


@zoo("StableDiffusion3ControlNetInpainting")
def sd3_control_inpainting():
    made = tiny.sd3()
    parts = {"controlnet": sd3_controlnet(extra_conditioning_channels=1)}
    pipe = variant("StableDiffusion3ControlNetInpaintingPipeline", made, **parts)
    call = made.call | {"control_mask": torch.ones(1, 1, 16, 16)}
    return Case(pipe, call, control=guide(), control_name="control_image")


@zoo("StableDiffusion3PAG")
def sd3_pag():
    made = tiny.sd3(layers=2)
    pipe = variant("StableDiffusion3PAGPipeline", made, pag_applied_layers=["blocks.0"])
    return Case(pipe, made.call)


@zoo("StableDiffusion3Img2Img")
def sd3_img2img():
    made = tiny.sd3()
    return Case(variant("StableDiffusion3Img2ImgPipeline", made), made.call, refused=FROM_A_PICTURE)


@zoo("StableDiffusion3PAGImg2Img")
def sd3_pag_img2img():
    made = tiny.sd3(layers=2)
    pipe = variant("StableDiffusion3PAGImg2ImgPipeline", made, pag_applied_layers=["blocks.0"])
    return Case(pipe, made.call, refused=FROM_A_PICTURE)


@zoo("StableDiffusion3Inpaint")
def sd3_inpaint():
    made = tiny.sd3()
    return Case(variant("StableDiffusion3InpaintPipeline", made), made.call, refused=INPAINTS)


def flux_transformer(in_channels=16, out_channels=16, guidance=True):
    return diffusers.FluxTransformer2DModel(
        in_channels=in_channels, out_channels=out_channels, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance,
    ).eval()  # fmt: skip


def flux_case(name, control=False, refused=None, **parts):
    """A class of Flux."""
    made = tiny.flux()
    picture = guide(16, 24) if control else None
    return Case(
        variant(name, made, **parts),
        made.call,
        (16, 24),
        control=picture,
        control_name="control_image",
        refused=refused,
    )


def flux_controlnet():
    made = diffusers.FluxControlNetModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    ).eval()  # fmt: skip
    return awake(made)


@zoo("FluxControl")
def flux_control():
    return flux_case("FluxControlPipeline", True, transformer=flux_transformer(32))


@zoo("FluxControlNet")
def flux_controlled():
    return flux_case("FluxControlNetPipeline", True, controlnet=flux_controlnet())


@zoo("Flux, Schnell")
def flux_schnell():
    parts = {"transformer": flux_transformer(guidance=False), "scheduler": flow(shift=1.0)}
    return flux_case("FluxPipeline", **parts)


@zoo("Flux, true CFG")
def flux_cfg():
    made = tiny.flux()
    negative = {
        "negative_prompt_embeds": embeds(1, 5, 8, seed=2),
        "negative_pooled_prompt_embeds": embeds(1, 8, seed=2),
    }
    return Case(made.pipe, made.call | negative | {"true_cfg_scale": 3.0}, (16, 24))


@zoo("FluxKontext")
def flux_kontext():
    made = flux_case("FluxKontextPipeline", True)
    made.control_name = "image"
    made.call |= {"_auto_resize": False, "max_area": 16 * 24}
    return made


for _kind, _refused, _parts in (
    ("Img2Img", "FROM", dict),
    ("Inpaint", "MASK", dict),
    ("Fill", "MASK", lambda: {"transformer": flux_transformer(64)}),
    ("ControlImg2Img", "FROM", lambda: {"transformer": flux_transformer(32)}),
    ("ControlInpaint", "MASK", lambda: {"transformer": flux_transformer(32)}),
    ("ControlNetImg2Img", "FROM", lambda: {"controlnet": flux_controlnet()}),
    ("ControlNetInpaint", "MASK", lambda: {"controlnet": flux_controlnet()}),
    ("KontextInpaint", "MASK", dict),
):
    zoo(f"Flux{_kind}")(
        lambda _kind=_kind, _refused=_refused, _parts=_parts: flux_case(
            f"Flux{_kind}Pipeline",
            "Control" in _kind,
            FROM_A_PICTURE if _refused == "FROM" else INPAINTS,
            **_parts(),
        )
    )


@zoo("ChromaImg2Img")
def chroma_img2img():
    made = chroma()
    return Case(variant("ChromaImg2ImgPipeline", made), made.call, (16, 24), refused=FROM_A_PICTURE)


@zoo("ChromaInpaint")
def chroma_inpaint():
    made = chroma()
    return Case(variant("ChromaInpaintPipeline", made), made.call, (16, 24), refused=INPAINTS)


@zoo("PixArtSigmaPAG")
def pixart_pag():
    made = tiny.pixart()
    pipe = variant("PixArtSigmaPAGPipeline", made, pag_applied_layers="blocks.0")
    return Case(pipe, made.call)


@zoo("HunyuanDiTPAG")
def hunyuan_dit_pag():
    made = hunyuan_dit()
    pipe = variant("HunyuanDiTPAGPipeline", made, pag_applied_layers="blocks.0", requires_safety_checker=False)
    return Case(pipe, made.call)


@zoo("HunyuanDiTControlNet")
def hunyuan_dit_controlnet():
    made = hunyuan_dit()
    network = diffusers.HunyuanDiT2DControlNetModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=8, hidden_size=16,
        transformer_num_layers=2, cross_attention_dim=8, cross_attention_dim_t5=8, pooled_projection_dim=8, text_len=5,
        text_len_t5=5,
    ).eval()  # fmt: skip
    parts = {"controlnet": awake(network), "requires_safety_checker": False}
    pipe = variant("HunyuanDiTControlNetPipeline", made, **parts)
    return Case(pipe, made.call, control=guide(), control_name="control_image")


@zoo("SanaPAG")
def sana_pag():
    made = tiny.sana()
    pipe = variant("SanaPAGPipeline", made, scheduler=flow(shift=3.0), pag_applied_layers="transformer_blocks.0")
    return Case(pipe, made.call, (32, 32))


@zoo("SanaControlNet")
def sana_controlnet():
    made = tiny.sana()
    network = diffusers.SanaControlNetModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=8,
        sample_size=8,
    ).eval()  # fmt: skip
    pipe = variant("SanaControlNetPipeline", made, controlnet=awake(network))
    return Case(pipe, made.call, (32, 32), control=guide(32, 32), control_name="control_image")


@zoo("SanaSprint")
def sana_sprint():
    made = tiny.sana()
    transformer = diffusers.SanaTransformer2DModel(
        **dict(made.pipe.transformer.config) | {"guidance_embeds": True}
    ).eval()
    parts = {"transformer": transformer, "scheduler": diffusers.SCMScheduler()}
    pipe = variant("SanaSprintPipeline", made, **parts)
    call = {name: value for name, value in made.call.items() if "negative" not in name}
    return Case(pipe, call | {"intermediate_timesteps": None}, (32, 32))


@zoo("SanaSprintImg2Img")
def sana_sprint_img2img():
    made = tiny.sana()
    pipe = variant("SanaSprintImg2ImgPipeline", made, scheduler=diffusers.SCMScheduler())
    call = {name: value for name, value in made.call.items() if "negative" not in name}
    return Case(pipe, call, (32, 32), refused=FROM_A_PICTURE)


def qwen_case(name, refused=None, control=False, **parts):
    """A class of Qwen-Image."""
    made = tiny.qwen()
    picture = guide(16, 24) if control else None
    pipe = variant(name, made, **parts)
    return Case(pipe, made.call, (16, 24), control=picture, control_name="control_image", refused=refused)


def qwen_controlnet(**config):
    network = diffusers.QwenImageControlNetModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, axes_dims_rope=(4, 6, 6), **config,
    ).eval()  # fmt: skip
    return awake(network)


@zoo("QwenImageControlNet")
def qwen_controlled():
    return qwen_case("QwenImageControlNetPipeline", control=True, controlnet=qwen_controlnet())


@zoo("QwenImageControlNetInpaint")
def qwen_controlled_inpaint():
    parts = {"controlnet": qwen_controlnet(extra_condition_channels=4)}
    made = qwen_case("QwenImageControlNetInpaintPipeline", control=True, **parts)
    made.call["control_mask"] = torch.ones(1, 1, 16, 24)
    return made


@zoo("QwenImageImg2Img")
def qwen_img2img():
    return qwen_case("QwenImageImg2ImgPipeline", FROM_A_PICTURE)


@zoo("QwenImageInpaint")
def qwen_inpaint():
    return qwen_case("QwenImageInpaintPipeline", INPAINTS)


@zoo("QwenImageEditInpaint")
def qwen_edit_inpaint():
    return qwen_case("QwenImageEditInpaintPipeline", INPAINTS)


def z_case(name, refused=None, **parts):
    """A class of Z-Image."""
    made = tiny.z_image()
    return Case(variant(name, made, **parts), made.call, refused=refused)


@zoo("ZImageImg2Img")
def z_img2img():
    return z_case("ZImageImg2ImgPipeline", FROM_A_PICTURE)


@zoo("ZImageInpaint")
def z_inpaint():
    return z_case("ZImageInpaintPipeline", INPAINTS)


@zoo("ZImage, Turbo")
def z_turbo():
    made = tiny.z_image()
    call = {name: value for name, value in made.call.items() if "negative" not in name}
    return Case(made.pipe, call | {"guidance_scale": 0.0})


# Flow models with folded latents


@zoo("Bria")
def bria():
    transformer = diffusers.BriaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, axes_dims_rope=[4, 4, 8],
    ).eval()  # fmt: skip
    vae = kl(scaling_factor=0.13, stages=4)
    pipe = build(diffusers.BriaPipeline, vae=vae, transformer=transformer, scheduler=flow(shift=3.0))
    return Case(pipe, prompts() | size(64, 64), (64, 64))


@zoo("OvisImage")
def ovis():
    transformer = diffusers.OvisImageTransformer2DModel(
        in_channels=16, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=8, axes_dims_rope=(4, 4, 8),
    ).eval()  # fmt: skip
    vae = kl(shift_factor=0.1159, scaling_factor=0.3611)
    parts = {"scheduler": flow(shift=3.0, use_dynamic_shifting=True)}
    pipe = build(diffusers.OvisImagePipeline, vae=vae, transformer=transformer, **parts)
    return Case(pipe, prompts() | size(16, 24) | {"negative_prompt": None}, (16, 24))


@zoo("LongCatImage")
def longcat():
    transformer = diffusers.LongCatImageTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, pooled_projection_dim=8, axes_dims_rope=[4, 4, 8],
    ).eval()  # fmt: skip
    vae = kl(latent_channels=16, shift_factor=0.1159, scaling_factor=0.3611)
    parts = {"scheduler": flow(shift=3.0, use_dynamic_shifting=True)}
    pipe = build(diffusers.LongCatImagePipeline, vae=vae, transformer=transformer, **parts)
    pipe._encode_prompt = lambda prompt: embeds(len(prompt), 5, 8, seed=len(prompt[0]))
    return Case(
        pipe, {"prompt": "a", "negative_prompt": ""} | size(16, 24) | {"enable_prompt_rewrite": False}, (16, 24)
    )


@zoo("Flux2")
def flux2():
    parts = {"scheduler": flow(shift=3.0, use_dynamic_shifting=True), "transformer": flux2_transformer()}
    pipe = build(diffusers.Flux2Pipeline, vae=flux2_vae(), **parts)
    return Case(pipe, {"prompt_embeds": embeds(1, 5, 8)} | size(16, 24), (16, 24))


@zoo("Flux2Klein")
def flux2_klein():
    parts = {"scheduler": flow(shift=3.0, use_dynamic_shifting=True), "transformer": flux2_transformer(False)}
    pipe = build(diffusers.Flux2KleinPipeline, vae=flux2_vae(), **parts)
    return Case(pipe, prompts() | size(16, 24), (16, 24))


@zoo("Flux2KleinInpaint")
def flux2_klein_inpaint():
    parts = {"scheduler": flow(shift=3.0, use_dynamic_shifting=True), "transformer": flux2_transformer(False)}
    pipe = build(diffusers.Flux2KleinInpaintPipeline, vae=flux2_vae(), **parts)
    return Case(pipe, prompts(), (16, 24), refused=INPAINTS)


@zoo("ErnieImage")
def ernie():
    pipe = build(
        diffusers.ErnieImagePipeline, vae=flux2_vae(), transformer=ernie_transformer(), scheduler=flow(shift=3.0)
    )
    call = {"prompt_embeds": [embeds(5, 8)], "negative_prompt_embeds": [embeds(5, 8, seed=2)]}
    return Case(pipe, call | size(64, 64), (64, 64))


@zoo("Kandinsky5T2I")
def kandinsky5():
    pipe = build(
        diffusers.Kandinsky5T2IPipeline, vae=kl(scaling_factor=0.3, stages=4), transformer=kandinsky5_transformer(),
        scheduler=flow(shift=3.0),
    )  # fmt: skip
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds_qwen"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}prompt_embeds_clip"] = embeds(1, 8, seed=seed)
        call[f"{prefix}prompt_cu_seqlens"] = torch.tensor([0, 5], dtype=torch.int32)
    pipe.resolutions = [(64, 64)]
    return Case(pipe, call | size(64, 64), (64, 64))


def kandinsky5_transformer(**config):
    return diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, in_text_dim=8, in_text_dim2=8, time_dim=8, out_visual_dim=4, model_dim=16, ff_dim=16,
        num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 6, 6), **config,
    ).eval()  # fmt: skip


@zoo("HunyuanImage")
def hunyuan_image():
    transformer = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, text_embed_dim=8, text_embed_2_dim=8, rope_axes_dim=(4, 4),
    ).eval()  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32), layers_per_block=1,
        spatial_compression_ratio=2, sample_size=16, scaling_factor=0.75,
    ).eval()  # fmt: skip
    pipe = build(diffusers.HunyuanImagePipeline, vae=vae, transformer=transformer, scheduler=flow(shift=3.0))
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        for suffix in ("", "_2"):
            call[f"{prefix}prompt_embeds{suffix}"] = embeds(1, 5, 8, seed=seed)
            call[f"{prefix}prompt_embeds_mask{suffix}"] = torch.ones(1, 5, dtype=torch.int64)
    return Case(pipe, call | size())


@zoo("PRX")
def prx():
    transformer = prx_transformer(4)
    parts = {"vae": kl(scaling_factor=0.3, shift_factor=0.1), "transformer": transformer, "scheduler": flow(shift=3.0)}
    pipe = build(diffusers.PRXPipeline, **parts)
    call = prompts() | size() | {"use_resolution_binning": False, "negative_prompt": None}
    for prefix in ("", "negative_"):
        call[f"{prefix}prompt_attention_mask"] = torch.ones(1, 5, dtype=torch.bool)
    return Case(pipe, call)


def prx_transformer(channels, **config):
    return diffusers.PRXTransformer2DModel(
        in_channels=channels, patch_size=2, context_in_dim=8, hidden_size=16, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[4, 4], **config,
    ).eval()  # fmt: skip


@zoo("PRXPixel")
def prx_pixel():
    pipe = build(diffusers.PRXPixelPipeline, transformer=prx_transformer(3), scheduler=flow(shift=3.0))
    call = prompts() | size() | {"use_resolution_binning": False, "negative_prompt": None}
    for prefix in ("", "negative_"):
        call[f"{prefix}prompt_attention_mask"] = torch.ones(1, 5, dtype=torch.bool)
    return Case(pipe, call)


@zoo("Krea2")
def krea2():
    vae = tiny._video_vae(diffusers.AutoencoderKLQwenImage)
    parts = {"scheduler": flow(use_dynamic_shifting=True), "text_encoder_select_layers": [0, 1]}
    pipe = build(diffusers.Krea2Pipeline, vae=vae, transformer=krea2_transformer(), **parts)
    call = {f"{prefix}prompt_embeds": embeds(1, 5, 2, 8, seed=seed) for prefix, seed in (("", 1), ("negative_", 2))}
    masks = {f"{prefix}prompt_embeds_mask": torch.ones(1, 5, dtype=torch.bool) for prefix in ("", "negative_")}
    return Case(pipe, call | masks | size(16, 24), (16, 24))


@zoo("NucleusMoEImage")
def nucleus():
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=8, axes_dims_rope=(4, 6, 6), moe_enabled=False, capacity_factors=[8.0],
    ).eval()  # fmt: skip
    vae = tiny._video_vae(diffusers.AutoencoderKLQwenImage)
    pipe = build(
        diffusers.NucleusMoEImagePipeline, vae=vae, transformer=transformer, scheduler=flow(use_dynamic_shifting=True)
    )
    masks = {f"{prefix}prompt_embeds_mask": torch.ones(1, 5, dtype=torch.int64) for prefix in ("", "negative_")}
    return Case(pipe, prompts() | masks | size(16, 24), (16, 24))


@zoo("GlmImage")
def glm_image():
    transformer = diffusers.GlmImageTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, text_embed_dim=8,
        time_embed_dim=8, condition_dim=4, prior_vq_quantizer_codebook_size=16,
    ).eval()  # fmt: skip
    vae = kl(stages=4, latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.0, 2.0])
    pipe = build(
        diffusers.GlmImagePipeline, vae=vae, transformer=transformer, scheduler=flow(use_dynamic_shifting=True)
    )
    call = prompts() | size(64, 64) | {"prior_token_ids": torch.arange(16)[None]}
    return Case(pipe, call, (64, 64))


@zoo("CogView4Control")
def cogview4_control():
    made = cogview4()
    network = diffusers.CogView4Transformer2DModel(**dict(made.pipe.transformer.config) | {"in_channels": 8}).eval()
    pipe = variant("CogView4ControlPipeline", made, transformer=network)
    return Case(pipe, made.call, control=guide(), control_name="control_image")
