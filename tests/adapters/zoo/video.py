"""Pipeline classes that make videos, and some that make sound: built small, with random weights."""

from __future__ import annotations

import diffusers
import torch
from PIL import Image

from tests.adapters import parts, tiny
from tests.adapters.tiny import SD, SD_BETAS, embeds, kl, prompts, size
from tests.adapters.tiny import _unet as unet2d_condition
from tests.adapters.tiny import _video_vae as small_video_vae
from tests.adapters.tiny import _wan_transformer as wan_transformer
from tests.adapters.zoo.case import Case, build, zoo

LEFT_OUT = object()
BY_PARTS = "a sampler needs all of them at once: use a text-to-"
WANTS_A_PICTURE = "give it as control_image, or use a text-to-video pipeline"
FLOW_UNIPC = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


def euler(shift=3.0):
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)


def unipc():
    return diffusers.UniPCMultistepScheduler(**FLOW_UNIPC)


def ddim():
    return diffusers.DDIMScheduler(**SD, clip_sample=False)


def wan_config(**config):
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 8,
        "freq_dim": 8,
        "ffn_dim": 16,
        "num_layers": 1,
        "rope_max_seq_len": 32,
        **config,
    }


def wan_vae(**config):
    torch.manual_seed(0)  # of which it is known that it tells pictures apart
    return small_video_vae(diffusers.AutoencoderKLWan, scale_factor_temporal=2, scale_factor_spatial=2, **config)


def picture(height=16, width=16):
    """A tensor (1, 3, height, width) in [0, 1]."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))


# The first frame of the video that the judge gives.
def first_frame(frames, side):
    """The first frame of the video that the judge paints."""
    return torch.randint(0, 256, (1, 3, frames, side, side), generator=torch.Generator().manual_seed(0))[:, :, 0] / 255


FIRST_FRAME = first_frame(5, 16)


def frames_of(count, height=16, width=16):
    """A list of PIL images."""
    pixels = torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(4))
    return [Image.fromarray(frame) for frame in (255 * pixels).byte().numpy()]


def video(pipe, call, frames, **more):
    """A case that makes videos of a size (frames, height, width)."""
    if all(weight.ndim < 5 for weight in pipe.vae.encoder.parameters()):
        more.setdefault("reconstruct", by_frames(pipe.vae))
    return Case(pipe, call, frames, makes="video", **more)


def by_frames(vae):
    """decode(encode(video)) of a VAE for stills."""

    def reconstruct(pictures):
        frames = pictures.transpose(1, 2).flatten(0, 1)
        decoded = vae.decode(vae.encode(2 * frames - 1).latent_dist.mode()).sample / 2 + 0.5
        return decoded.clamp(0, 1).unflatten(0, (len(pictures), -1)).transpose(1, 2)

    return reconstruct


def like(made, kind, call=None, leave_out=(), control=None, refused=None, **parts):
    """The case of another class that has the parts of this one, but for those given."""
    kept = {name: part for name, part in made.pipe.components.items() if name not in leave_out}
    given = {**made.call, **(call or {})}
    given = {name: value for name, value in given.items() if value is not LEFT_OUT}
    return video(kind(**{**kept, **parts}), given, made.size, control=control, refused=refused)


def with_channels(network, channels):
    """A network like this one, with another number of input channels."""
    return type(network)(**{**network.config, "in_channels": channels}).eval()


def of(made):
    """The case of a pipeline that other tests use too."""
    return video(made.pipe, made.call, made.size)


# Video VAEs


@zoo("Allegro")
def allegro():
    transformer = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=8,
        sample_height=8,
        sample_frames=2,
        caption_channels=8,
    ).eval()
    vae = diffusers.AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_size=32,
    ).eval()
    vae.enable_tiling()  # the only way in which it decodes, by 24 frames
    pipe = build(
        diffusers.AllegroPipeline, vae=vae, transformer=transformer,
        scheduler=diffusers.EulerAncestralDiscreteScheduler(**SD),
    )  # fmt: skip
    call = prompts(masks=True) | size(32, 32, frames=24) | {"negative_prompt": None}
    return video(pipe, call, (24, 32, 32), reconstruct=frames_first(vae))


def hunyuan_vae(channels=4):
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=channels,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def hunyuan_transformer(**config):
    return diffusers.HunyuanVideoTransformer3DModel(
        **{
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 10,
            "num_layers": 1,
            "num_single_layers": 1,
            "num_refiner_layers": 1,
            "text_embed_dim": 8,
            "pooled_projection_dim": 8,
            "rope_axes_dim": (2, 4, 4),
            **config,
        }
    ).eval()


def frames_first(vae):
    """decode(encode(video)) of a VAE that gives the frames before the channels."""

    def reconstruct(pictures):
        decoded = vae.decode(vae.encode(2 * pictures - 1).latent_dist.mode()).sample.transpose(1, 2)
        return (decoded / 2 + 0.5).clamp(0, 1)

    return reconstruct


@zoo("HunyuanVideo")
def hunyuan_video():
    pipe = diffusers.HunyuanVideoPipeline(None, None, hunyuan_transformer(), hunyuan_vae(), euler(7.0), None, None)
    call = prompts(pooled=True, masks=True) | size(32, 32, frames=5) | {"true_cfg_scale": 3.0}
    return video(pipe, call, (5, 32, 32))


@zoo("HunyuanVideo15")
def hunyuan_video15():
    from diffusers.guiders import ClassifierFreeGuidance

    transformer, vae, call = parts.hunyuan_video15()
    pipe = diffusers.HunyuanVideo15Pipeline(
        None, None, transformer, vae, euler(7.0), None, None, ClassifierFreeGuidance(guidance_scale=6.0)
    )
    return video(pipe, call, (5, 32, 32))


@zoo("Mochi")
def mochi():
    transformer = diffusers.MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=8,
        in_channels=12,
        text_embed_dim=8,
        time_embed_dim=4,
        max_sequence_length=5,
    ).eval()
    vae = diffusers.AutoencoderKLMochi(
        latent_channels=12,
        encoder_block_out_channels=(32, 32, 32, 32),  # its group norms are of 32
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        latents_mean=(0.1, -0.2, 0.3, 0.0) * 3,
        latents_std=(1.5, 0.7, 1.0, 2.0) * 3,
    ).eval()
    pipe = diffusers.MochiPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae, None, None, transformer
    )
    call = {**prompts(), **size(16, 16, frames=7)}
    for prefix in ("", "negative_"):
        call[f"{prefix}prompt_attention_mask"] = torch.ones(1, 5, dtype=torch.bool)
    return video(pipe, call, (7, 16, 16))


def cosmos_transformer(**config):
    return diffusers.CosmosTransformer3DModel(
        **{
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 1,
            "mlp_ratio": 2,
            "text_embed_dim": 8,
            "adaln_lora_dim": 4,
            "max_size": (4, 32, 32),
            "patch_size": (1, 2, 2),
            "rope_scale": (2.0, 1.0, 1.0),
            "concat_padding_mask": False,  # it needs torchvision
            **config,
        }
    ).eval()


class SafetyChecker:
    """The place of Cosmos' guardrail, which is a package of its own: everything passes."""

    def to(self, *_):
        return self

    def check_text_safety(self, prompt):
        return True

    def check_video_safety(self, video):
        return video


def cosmos_vae():
    return diffusers.AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        patch_size=4,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
        latents_mean=[0.1, -0.2, 0.3, 0.0] * 40,
        latents_std=[1.5, 0.7, 1.0, 2.0] * 40,
    ).eval()


@zoo("CosmosTextToWorld")
def cosmos_text_to_world():
    scheduler = diffusers.EDMEulerScheduler(
        sigma_min=0.002, sigma_max=80, sigma_data=0.5, sigma_schedule="karras", prediction_type="epsilon"
    )
    pipe = diffusers.CosmosTextToWorldPipeline(
        None, None, cosmos_transformer(), cosmos_vae(), scheduler, safety_checker=SafetyChecker()
    )
    call = prompts() | size(32, 32, frames=9)
    return video(pipe, call, (9, 32, 32))


@zoo("Cosmos2TextToImage")
def cosmos2_text_to_image():
    pipe = diffusers.Cosmos2TextToImagePipeline(
        None, None, cosmos_transformer(), wan_vae(), cosmos2_scheduler(), safety_checker=SafetyChecker()
    )
    return Case(pipe, prompts() | size())


def cosmos2_scheduler():
    return diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


@zoo("Cosmos2VideoToWorld")
def cosmos2_video_to_world():
    pipe = diffusers.Cosmos2VideoToWorldPipeline(
        None, None, cosmos_transformer(in_channels=5), wan_vae(), cosmos2_scheduler(), safety_checker=SafetyChecker()
    )
    return video(pipe, prompts() | size(frames=5), (5, 16, 16), control=FIRST_FRAME)


@zoo("Cosmos2_5_PredictBase")
def cosmos2_5_predict():
    transformer = cosmos_transformer(in_channels=5, use_crossattn_projection=False, extra_pos_embed_type=None)
    pipe = diffusers.Cosmos2_5_PredictBasePipeline(
        None, None, transformer, wan_vae(), unipc(), safety_checker=SafetyChecker()
    )
    call = prompts() | size(frames=5)
    return video(pipe, call, (5, 16, 16))


@zoo("EasyAnimate")
def easy_animate():
    transformer = diffusers.EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        time_embed_dim=2,
        text_embed_dim=8,
        num_layers=1,
        sample_width=8,
        sample_height=8,
        time_position_encoding_type="3d_rope",
        mmdit_layers=1,
    ).eval()
    vae = diffusers.AutoencoderKLMagvit(
        latent_channels=4,
        down_block_types=(
            "SpatialDownBlock3D", "SpatialTemporalDownBlock3D", "SpatialTemporalDownBlock3D",
            "SpatialTemporalDownBlock3D",
        ),
        up_block_types=(
            "SpatialUpBlock3D", "SpatialTemporalUpBlock3D", "SpatialTemporalUpBlock3D", "SpatialTemporalUpBlock3D"
        ),
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    ).eval()  # fmt: skip
    pipe = diffusers.EasyAnimatePipeline(vae, None, None, transformer, euler(1.0))
    call = prompts(masks=True) | size(32, 32, frames=5)
    return video(pipe, call, (5, 32, 32))


def skyreels_transformer(**config):
    return diffusers.SkyReelsV2Transformer3DModel(**wan_config(**config)).eval()


@zoo("SkyReelsV2")
def skyreels():
    pipe = diffusers.SkyReelsV2Pipeline(None, None, skyreels_transformer(), wan_vae(), unipc())
    return video(pipe, prompts() | size(frames=5), (5, 16, 16))


@zoo("SkyReelsV2DiffusionForcing")
def skyreels_diffusion_forcing():
    pipe = diffusers.SkyReelsV2DiffusionForcingPipeline(None, None, skyreels_transformer(), wan_vae(), unipc())
    call = prompts() | size(frames=5) | {"prompt": None, "base_num_frames": 5}
    return video(pipe, call, (5, 16, 16), refused="with a copy of its scheduler")


@zoo("Wan, expand_timesteps")
def wan22_5b():
    """Wan 2.2 of 5B: a time for each token, and a VAE that folds 2×2 pixels."""
    vae = wan_vae(patch_size=None)
    transformer = wan_transformer()
    pipe = diffusers.WanPipeline(None, None, vae, unipc(), transformer, expand_timesteps=True)
    return video(pipe, prompts() | size(frames=5), (5, 16, 16))


@zoo("WanVACE")
def wan_vace():
    transformer = diffusers.WanVACETransformer3DModel(
        **wan_config(num_layers=2),
        vace_layers=[0],
        vace_in_channels=4 * 2 + 2 * 2,
    ).eval()
    pipe = diffusers.WanVACEPipeline(None, None, wan_vae(), unipc(), transformer)
    return video(pipe, prompts() | size(frames=5), (5, 16, 16))


@zoo("Kandinsky5T2V")
def kandinsky5():
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=8,
        in_text_dim2=8,
        time_dim=8,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 6, 6),
        visual_cond=False,
        attention_type="regular",
    ).eval()
    pipe = diffusers.Kandinsky5T2VPipeline(transformer, hunyuan_vae(), None, None, None, None, euler(5.0))
    call = size(32, 32, frames=5)
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds_qwen"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}prompt_embeds_clip"] = embeds(1, 8, seed=seed)
        call[f"{prefix}prompt_cu_seqlens"] = torch.tensor([0, 5], dtype=torch.int32)
    return video(pipe, call, (5, 32, 32))


@zoo("SanaVideo")
def sana_video():
    transformer = diffusers.SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=8,
        sample_size=8,
        rope_max_seq_len=32,
    ).eval()
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=8.0
    )
    pipe = diffusers.SanaVideoPipeline(None, None, wan_vae(), transformer, scheduler)
    call = prompts(masks=True) | size(32, 32) | {"frames": 5, "negative_prompt": None}
    call["use_resolution_binning"] = False
    return video(pipe, call, (5, 32, 32))


@zoo("MotifVideo")
def motif_video():
    from diffusers.guiders import ClassifierFreeGuidance

    transformer = diffusers.MotifVideoTransformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        num_decoder_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=8,
        rope_axes_dim=(4, 4, 4),
    ).eval()
    pipe = diffusers.MotifVideoPipeline(
        euler(3.0), wan_vae(), None, None, transformer, ClassifierFreeGuidance(guidance_scale=4.0)
    )
    call = prompts(masks=True) | size(frames=5)
    return video(pipe, call, (5, 16, 16))


@zoo("AnyFlow")
def anyflow():
    transformer = diffusers.AnyFlowTransformer3DModel(**wan_config()).eval()
    pipe = diffusers.AnyFlowPipeline(
        None, None, transformer, wan_vae(), diffusers.FlowMapEulerDiscreteScheduler(shift=3.0)
    )
    call = {"prompt_embeds": embeds(1, 5, 8)} | size(frames=5)
    return video(pipe, call, (5, 16, 16))


@zoo("AnyFlowFAR")
def anyflow_far():
    transformer = diffusers.AnyFlowFARTransformer3DModel(**wan_config(chunk_partition=(1, 2))).eval()
    pipe = diffusers.AnyFlowFARPipeline(
        None, None, transformer, wan_vae(), diffusers.FlowMapEulerDiscreteScheduler(shift=3.0)
    )
    call = {"prompt_embeds": embeds(1, 5, 8)} | size(frames=5)
    return video(pipe, call, (5, 16, 16), refused=BY_PARTS)


# Image VAEs: frames in the batch


@zoo("Latte")
def latte():
    transformer = diffusers.LatteTransformer3DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=8,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        video_length=4,
    ).eval()
    pipe = diffusers.LattePipeline(None, None, kl(), transformer, ddim())
    call = prompts() | size() | {"video_length": 4, "negative_prompt": None}
    return video(pipe, call, (4, 16, 16))


def motion_adapter(**config):
    return diffusers.MotionAdapter(
        block_out_channels=(8, 8),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
        **config,
    ).eval()


def motion_unet(**config):
    return unet2d_condition(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **config,
    )  # fmt: skip


@zoo("AnimateDiff")
def animatediff(kind=None, guidance=7.5, **parts):
    pipe = (kind or diffusers.AnimateDiffPipeline)(
        vae=kl(),
        text_encoder=None,
        tokenizer=None,
        unet=motion_unet(),
        motion_adapter=motion_adapter(),
        scheduler=diffusers.DDIMScheduler(**{**SD, "beta_schedule": "linear"}, clip_sample=False),
        **parts,
    )
    call = prompts() | size(frames=4) | {"guidance_scale": guidance}
    return video(pipe, call, (4, 16, 16))


@zoo("AnimateDiffPAG")
def animatediff_pag():
    return animatediff(diffusers.AnimateDiffPAGPipeline, pag_applied_layers=["down_blocks.0"])


@zoo("AnimateDiffSDXL")
def animatediff_sdxl():
    unet = motion_unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + 8
    )
    pipe = diffusers.AnimateDiffSDXLPipeline(
        vae=kl(scaling_factor=0.13025),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        motion_adapter=motion_adapter(use_motion_mid_block=False),
        scheduler=diffusers.DDIMScheduler(**SD, clip_sample=False),
    )
    return video(pipe, prompts(pooled=True) | size(frames=4), (4, 16, 16))


@zoo("TextToVideoSD")
def text_to_video_sd():
    """ModelScope."""
    unet = diffusers.UNet3DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    ).eval()
    pipe = diffusers.TextToVideoSDPipeline(kl(), None, None, unet, ddim())
    return video(pipe, prompts() | size(frames=4), (4, 16, 16))


def animatediff_with(kind, controlnet, **call):
    made = animatediff(kind, controlnet=controlnet)
    made.call |= call
    return made


@zoo("AnimateDiffControlNet")
def animatediff_controlnet():
    controlnet = diffusers.ControlNetModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 4),
    ).eval()
    kind = diffusers.AnimateDiffControlNetPipeline
    return animatediff_with(kind, controlnet, conditioning_frames=[picture()] * 4)


@zoo("AnimateDiffSparseControlNet")
def animatediff_sparse_controlnet():
    controlnet = diffusers.SparseControlNetModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        in_channels=4,
        conditioning_channels=3,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        cross_attention_dim=8,
        conditioning_embedding_out_channels=(8, 8),
        norm_num_groups=1,
        use_simplified_condition_embedding=False,
    ).eval()
    kind = diffusers.AnimateDiffSparseControlNetPipeline
    return animatediff_with(kind, controlnet, conditioning_frames=[picture()], controlnet_frame_indices=[0])


@zoo("TextToVideoZero")
def text_to_video_zero():
    made = tiny.with_clip(tiny.sd())
    pipe = diffusers.TextToVideoZeroPipeline(
        **{name: made.pipe.components[name] for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")},
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    call = size() | {"prompt": "a", "video_length": 3, "t0": 1, "t1": 2}
    return video(pipe, call, (3, 16, 16), output_type="tensor", refused="makes the other frames from one")


# Chunk by chunk


def helios_with(kind, scheduler, pixels=16, frames=5, **call):
    transformer = diffusers.HeliosTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_dim=(4, 4, 4),
    ).eval()
    pipe = build(kind, vae=wan_vae(), scheduler=scheduler, transformer=transformer)
    call = prompts() | size(pixels, pixels, frames=frames) | {"num_latent_frames_per_chunk": 3} | call
    return video(pipe, call, (frames, pixels, pixels))


@zoo("Helios")
def helios():
    return helios_with(diffusers.HeliosPipeline, diffusers.HeliosScheduler(stages=1, stage_range=[0, 1]))


@zoo("Helios, two chunks")
def helios_chunks():
    scheduler = diffusers.HeliosScheduler(stages=1, stage_range=[0, 1])
    made = helios_with(diffusers.HeliosPipeline, scheduler, frames=9)
    made.reconstruct = by_chunks(made.pipe.vae, 5)
    return made


def by_chunks(vae, window):
    """decode(encode(video)) of a video of less than two windows, each for itself; the second is filled and cut off."""

    def reconstruct(pictures):
        lacking = 2 * window - pictures.shape[2]
        filled = torch.cat([pictures, *[pictures[:, :, -1:]] * lacking], dim=2)
        chunks = [vae.decode(vae.encode(2 * chunk - 1).latent_dist.mode()).sample for chunk in filled.split(window, 2)]
        return (torch.cat(chunks, dim=2)[:, :, : pictures.shape[2]] / 2 + 0.5).clamp(0, 1)

    return reconstruct


@zoo("HeliosPyramid")
def helios_pyramid():
    made = helios_with(diffusers.HeliosPyramidPipeline, diffusers.HeliosScheduler(gamma=0.3), 64)
    made.refused = BY_PARTS
    made.steps = ""
    return made


# LTX


def ltx2_as(kind, **call):
    """LTX2 with its sound, and with what makes a waveform of that."""
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    made = tiny.ltx2()
    names = kind.__init__.__code__.co_varnames
    parts = {name: part for name, part in made.pipe.components.items() if name in names}
    parts["vae"] = diffusers.AutoencoderKLLTX2Video(
        **{**parts["vae"].config, "decoder_block_out_channels": (8,) * 3, "upsample_factor": (1, 1, 1)}
    ).eval()
    parts["vocoder"] = LTX2Vocoder(
        in_channels=16 * 2,
        hidden_channels=8,
        out_channels=2,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
    ).eval()
    given = {name: value for name, value in made.call.items() if name in kind.__call__.__wrapped__.__code__.co_varnames}
    del given["output_type"]
    return video(kind(**parts), given | call, made.size)


@zoo("LTX2")
def ltx2():
    return ltx2_as(diffusers.LTX2Pipeline)


@zoo("LTX2Condition")
def ltx2_condition():
    return ltx2_as(diffusers.LTX2ConditionPipeline)


@zoo("LTX2InContext")
def ltx2_in_context():
    return ltx2_as(diffusers.LTX2InContextPipeline)


@zoo("LTX2HDR")
def ltx2_hdr():
    made = ltx2_as(diffusers.LTX2HDRPipeline)
    made.refused = "whose values are not those of ordinary pictures"
    return made


@zoo("LTX2ImageToVideo")
def ltx2_image_to_video():
    made = ltx2_as(diffusers.LTX2ImageToVideoPipeline, image_crf=0)
    made.control = first_frame(*made.size[:2])
    return made


@zoo("LTX2ImageToVideo, without its picture")
def ltx2_without_picture():
    made = ltx2_as(diffusers.LTX2ImageToVideoPipeline)
    made.refused = WANTS_A_PICTURE
    return made


@zoo("LTXCondition")
def ltx_condition():
    return like(of(tiny.ltx()), diffusers.LTXConditionPipeline)


def ltx_sharp():
    """LTX with an encoder that is nearly sure of its latents, since its image-to-video class draws from them."""
    made = of(tiny.ltx())
    made.pipe.vae.encoder.conv_out.conv.bias.data[-1] = -20.0  # the logarithm of the variance
    return made


@zoo("LTXImageToVideo")
def ltx_image_to_video():
    made = ltx_sharp()
    return like(made, diffusers.LTXImageToVideoPipeline, control=first_frame(*made.size[:2]))


@zoo("LTXImageToVideo, another picture")
def ltx_image_to_video_other():
    made = ltx_sharp()
    control = picture(*made.size[1:])
    return like(made, diffusers.LTXImageToVideoPipeline, control=control, refused="is not the video's first frame")


@zoo("LTXI2VLongMultiPrompt")
def ltx_long():
    made = of(tiny.with_t5(tiny.ltx()))
    made.call, made.size = size(32, 32, frames=9) | {"prompt": "a", "negative_prompt": "b"}, (9, 32, 32)
    return like(made, diffusers.LTXI2VLongMultiPromptPipeline, refused=BY_PARTS)


# CogVideoX


@zoo("CogVideoX, DPM")
def cogvideox_dpm():
    made = of(tiny.cogvideox())
    scheduler = diffusers.CogVideoXDPMScheduler.from_config(made.pipe.scheduler.config)
    return like(made, diffusers.CogVideoXPipeline, scheduler=scheduler)


@zoo("CogVideoXFunControl")
def cogvideox_fun_control():
    made = of(tiny.cogvideox())
    wider = with_channels(made.pipe.transformer, 8)
    call = {"control_video": frames_of(5), "num_frames": LEFT_OUT}
    return like(made, diffusers.CogVideoXFunControlPipeline, call, transformer=wider)


@zoo("CogVideoXImageToVideo")
def cogvideox_image_to_video():
    made = of(tiny.cogvideox())
    config = {"in_channels": 8, "attention_head_dim": 16, "use_rotary_positional_embeddings": True}
    wider = diffusers.CogVideoXTransformer3DModel(**{**made.pipe.transformer.config, **config}).eval()
    return like(made, diffusers.CogVideoXImageToVideoPipeline, control=picture(), transformer=wider)


@zoo("CogVideoXVideoToVideo")
def cogvideox_video_to_video():
    made = of(tiny.cogvideox())
    call = {"video": frames_of(5), "num_frames": LEFT_OUT}
    made = like(made, diffusers.CogVideoXVideoToVideoPipeline, call)
    made.refused = "begins with a picture .*; (give|its) "
    return made


@zoo("ConsisID")
def consisid():
    from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline  # opencv is for its helpers alone

    transformer = diffusers.ConsisIDTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=8,
        num_layers=1,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        max_text_seq_length=5,
        temporal_compression_ratio=2,
        cross_attn_interval=1,
        is_train_face=False,
    ).eval()
    return like(of(tiny.cogvideox()), ConsisIDPipeline, control=picture(), transformer=transformer)


# Wan and its kin


@zoo("Wan, second transformer alone")
def wan_low_noise_alone():
    made = of(tiny.wan_two())
    parts = {"transformer": None, "boundary_ratio": 1.0}
    return like(made, diffusers.WanPipeline, **parts)


@zoo("WanImageToVideo")
def wan_image_to_video():
    pipe = build(
        diffusers.WanImageToVideoPipeline, vae=wan_vae(), scheduler=unipc(),
        transformer=with_channels(wan_transformer(), 4 + 2 + 4),
    )  # fmt: skip
    return video(pipe, prompts() | size(frames=5), (5, 16, 16), control=picture())


@zoo("WanImageToVideo, without its picture")
def wan_without_picture():
    made = wan_image_to_video()
    made.control, made.refused = None, WANTS_A_PICTURE
    return made


@zoo("WanImageToVideo, expand_timesteps")
def wan_image_to_video_5b():
    return like(wan22_5b(), diffusers.WanImageToVideoPipeline, control=FIRST_FRAME, expand_timesteps=True)


@zoo("WanImageToVideo, expand_timesteps, another picture")
def wan_image_to_video_5b_other():
    made = wan_image_to_video_5b()
    made.control, made.refused = picture(), "is not the video's first frame"
    return made


@zoo("WanVideoToVideo")
def wan_video_to_video():
    call = {"video": frames_of(5), "num_frames": LEFT_OUT}
    made = like(of(tiny.wan()), diffusers.WanVideoToVideoPipeline, call, leave_out=("transformer_2",))
    made.refused = "begins with a picture .*; (give|its) "
    return made


@zoo("LucyEdit")
def lucy_edit():
    pipe = build(
        diffusers.LucyEditPipeline, vae=wan_vae(), scheduler=euler(), transformer=with_channels(wan_transformer(), 8)
    )
    return video(pipe, prompts() | size(frames=5) | {"video": frames_of(5)}, (5, 16, 16))


def clip_vision(side=32):
    """An encoder of pictures of a size, and its processor."""
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=8, projection_dim=8, num_hidden_layers=1, num_attention_heads=2, image_size=side,
        intermediate_size=8, patch_size=side // 4,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval(), CLIPImageProcessorPil(crop_size=side, size=side)


@zoo("ChronoEdit")
def chrono_edit():
    transformer = diffusers.ChronoEditTransformer3DModel(
        **wan_config(in_channels=10, image_dim=8, added_kv_proj_dim=24)
    ).eval()
    encoder, processor = clip_vision()
    pipe = build(
        diffusers.ChronoEditPipeline, vae=wan_vae(), scheduler=euler(), transformer=transformer,
        image_encoder=encoder, image_processor=processor,
    )  # fmt: skip
    return video(pipe, prompts() | size(frames=5), (5, 16, 16), control=picture())


@zoo("SkyReelsV2ImageToVideo")
def skyreels_image_to_video():
    encoder, processor = clip_vision()
    pipe = build(
        diffusers.SkyReelsV2ImageToVideoPipeline, vae=wan_vae(), scheduler=unipc(),
        transformer=skyreels_transformer(in_channels=10, image_dim=8, added_kv_proj_dim=24),
        image_encoder=encoder, image_processor=processor,
    )  # fmt: skip
    return video(pipe, prompts() | size(frames=5), (5, 16, 16), control=picture())


# With a picture to begin with


@zoo("StableVideoDiffusion")
def svd():
    unet = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32),  # its group norms are of 32
        layers_per_block=1,
        sample_size=8,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=8,
        num_attention_heads=2,
        projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8,
        num_frames=4,
    ).eval()
    vae = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
    ).eval()
    scheduler = diffusers.EulerDiscreteScheduler(
        **{**SD_BETAS, "interpolation_type": "linear", "prediction_type": "v_prediction"}, use_karras_sigmas=True,
        timestep_spacing="leading", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0,
    )  # fmt: skip
    encoder, processor = clip_vision(224)
    pipe = diffusers.StableVideoDiffusionPipeline(vae, encoder, unet, scheduler, processor)
    return video(pipe, size(frames=4), (4, 16, 16), control=frames_of(1)[0], reconstruct=temporal_reconstruct(vae))


def temporal_reconstruct(vae):
    """The decoder of SVD smooths over the frames."""

    def reconstruct(pictures):
        frames = pictures.transpose(1, 2).flatten(0, 1)
        latents = vae.encode(2 * frames - 1).latent_dist.mode()
        decoded = vae.decode(latents, num_frames=len(frames)).sample / 2 + 0.5
        return decoded.clamp(0, 1).unflatten(0, (1, -1)).transpose(1, 2)

    return reconstruct


@zoo("I2VGenXL")
def i2vgen_xl():
    unet = diffusers.I2VGenXLUNet(
        block_out_channels=(8, 8),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    ).eval()
    encoder, processor = clip_vision()
    pipe = build(
        diffusers.I2VGenXLPipeline, vae=kl(), unet=unet, scheduler=ddim(), image_encoder=encoder,
        feature_extractor=processor,
    )  # fmt: skip
    return video(pipe, prompts() | size(frames=4), (4, 16, 16), control=picture())


@zoo("I2VGenXL, without its picture")
def i2vgen_xl_without_picture():
    made = i2vgen_xl()
    made.control, made.refused = None, WANTS_A_PICTURE
    return made


@zoo("PIA")
def pia():
    made = animatediff()
    wider = motion_unet(in_channels=4)
    adapter = motion_adapter(conv_in_channels=9)
    return like(
        made, diffusers.PIAPipeline, {"guidance_scale": 7.5}, control=picture(), unet=wider, motion_adapter=adapter
    )


@zoo("AnimateDiffVideoToVideo")
def animatediff_video_to_video():
    call = {"video": frames_of(4), "num_frames": LEFT_OUT}
    made = like(animatediff(), diffusers.AnimateDiffVideoToVideoPipeline, call)
    made.refused = "begins with a picture .*; (give|its) "
    return made


@zoo("CosmosVideoToWorld")
def cosmos_video_to_world():
    made = cosmos_text_to_world()
    return like(
        made, diffusers.CosmosVideoToWorldPipeline, control=first_frame(9, 32),
        transformer=cosmos_transformer(in_channels=5), safety_checker=SafetyChecker(),
    )  # fmt: skip


@zoo("Kandinsky5I2V")
def kandinsky5_image_to_video():
    made = kandinsky5()
    transformer = type(made.pipe.transformer)(**{**made.pipe.transformer.config, "visual_cond": True}).eval()
    control, refused = picture(32, 32), "it keeps something else in its latents"
    return like(made, diffusers.Kandinsky5I2VPipeline, control=control, refused=refused, transformer=transformer)


@zoo("SanaImageToVideo")
def sana_image_to_video():
    return like(
        sana_video(),
        diffusers.SanaImageToVideoPipeline,
        control=first_frame(*sana_video().size[:2]),
        scheduler=euler(8.0),
    )


@zoo("EasyAnimateInpaint")
def easy_animate_inpaint():
    made = easy_animate()
    wider = with_channels(made.pipe.transformer, 9)
    made = like(made, diffusers.EasyAnimateInpaintPipeline, transformer=wider)
    made.refused = "inpaints by itself"
    return made


@zoo("Kandinsky6TI2VA")
def kandinsky6():
    transformer = diffusers.Kandinsky6Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=8,
        in_text_dim2=8,
        time_dim=8,
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 6, 6),
        visual_cond=False,
        in_audio_dim=4,
        out_audio_dim=4,
        model_dim_a=16,
        time_dim_a=8,
        ff_dim_a=16,
        axes_dims_a=(16,),
    ).eval()
    pipe = build(diffusers.Kandinsky6TI2VAPipeline, transformer=transformer, vae=hunyuan_vae(), scheduler=euler(5.0))
    call = prompts(pooled=True) | size(32, 32, frames=5) | {"sample_audio": False}
    return video(pipe, call, (5, 32, 32))
