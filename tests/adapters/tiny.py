"""Real pipelines of diffusers, built small from their configurations, with random weights and prompts as embeddings."""

import logging
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)

logging.getLogger("diffusers").setLevel(logging.ERROR)

SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {**SD_BETAS, "timestep_spacing": "leading", "steps_offset": 1}


@dataclass
class Tiny:
    """A pipeline, what it is to be called with, and the size of its pictures: (height, width) or with frames before."""

    pipe: Any
    call: dict[str, Any]
    size: tuple[int, ...]
    networks: tuple[str, ...]
    calls_per_evaluation: int = 1
    channels: int = 3
    extra: dict[str, Any] = field(default_factory=dict)
    decode: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.pipe.set_progress_bar_config(disable=True)


def seeded():
    torch.manual_seed(0)


def embeds(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(pooled=False, masks=False):
    """A prompt and a negative one as embeddings, each with its pooled vector or attention mask where there is one."""
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds"] = embeds(1, 5, 8, seed=seed)
        if pooled:
            call[f"{prefix}pooled_prompt_embeds"] = embeds(1, 8, seed=seed)
        if masks:
            call[f"{prefix}prompt_attention_mask"] = torch.ones(1, 5)
    return call


def size(height=16, width=16, frames=None):
    """The size as arguments of a call."""
    return {"height": height, "width": width} | ({} if frames is None else {"num_frames": frames})


def kl(latent_channels=4, stages=2, **config):
    return AutoencoderKL(
        block_out_channels=(8,) * stages,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        latent_channels=latent_channels,
        norm_num_groups=4,
        layers_per_block=1,
        **config,
    ).eval()


def unet2d(channels=1, size=8):
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(8, 8),
        attention_head_dim=4,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).eval()


def ddpm(scheduler=None):
    seeded()
    pipe = diffusers.DDPMPipeline(unet2d(), diffusers.DDPMScheduler())
    if scheduler is not None:
        pipe.scheduler = scheduler
    return Tiny(pipe, {}, (8, 8), ("unet",), channels=1)


def ldm():
    seeded()
    vae = VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        num_vq_embeddings=16,
        norm_num_groups=4,
        scaling_factor=0.5,
    ).eval()
    pipe = diffusers.LDMPipeline(vae, unet2d(channels=3), diffusers.DDIMScheduler(**SD_BETAS))
    return Tiny(pipe, {}, (16, 16), ("unet",))


def _unet(**config):
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 8),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 8,
            "attention_head_dim": 4,
            "norm_num_groups": 4,
            **config,
        }
    ).eval()


def sd(scheduler=None, guidance=7.5, dtype=torch.float32, images=1, kind=None, **parts):
    seeded()
    pipe = (kind or diffusers.StableDiffusionPipeline)(
        vae=kl(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(),
        scheduler=scheduler or diffusers.DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    ).to(dtype)
    call = {
        "prompt_embeds": embeds(images, 5, 8).to(dtype),
        "negative_prompt_embeds": embeds(images, 5, 8, seed=2).to(dtype),
        "guidance_scale": guidance,
        "height": 16,
        "width": 16,
    }
    return Tiny(pipe, call, (16, 16), ("unet",))


def sd_v():
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return sd(diffusers.EulerDiscreteScheduler(**SD_BETAS, steps_offset=1, **settings))


def sd_controlnet():
    seeded()
    controlnet = diffusers.ControlNetModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 4),
    ).eval()
    for parameter in controlnet.controlnet_down_blocks.parameters():
        torch.nn.init.normal_(parameter)
    tiny = sd(kind=diffusers.StableDiffusionControlNetPipeline, controlnet=controlnet)
    tiny.extra = {"control_image": torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))}
    tiny.networks = ("unet", "controlnet")
    tiny.calls_per_evaluation = 2
    return tiny


def sdxl():
    seeded()
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=kl(scaling_factor=0.13025),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=_unet(
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + 8
        ),
        scheduler=diffusers.EulerDiscreteScheduler(**SD),
        add_watermarker=False,
    )
    call = prompts(pooled=True) | size()
    return Tiny(pipe, call, (16, 16), ("unet",))


def sdxl_adapter():
    seeded()
    adapter = diffusers.T2IAdapter(
        channels=[8] * 4, num_res_blocks=1, downscale_factor=4, adapter_type="full_adapter_xl"
    ).eval()
    parts = sdxl().pipe.components
    pipe = diffusers.StableDiffusionXLAdapterPipeline(**parts, adapter=adapter)
    call = (
        prompts(pooled=True) | size() | {"image": torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))}
    )
    return Tiny(pipe, call, (16, 16), ("unet",))


def sd3(layers=1):
    seeded()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=layers,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
    ).eval()
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer,
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        kl(shift_factor=0.06, scaling_factor=1.5),
        *[None] * 6,
    )
    call = prompts(pooled=True) | size()
    return Tiny(pipe, call, (16, 16), ("transformer",))


def flux(dtype=torch.float32):
    seeded()
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    ).eval()
    pipe = diffusers.FluxPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        kl(shift_factor=0.1159, scaling_factor=0.3611),
        None,
        None,
        None,
        None,
        transformer,
    ).to(dtype)
    call = {
        "prompt_embeds": embeds(1, 5, 8).to(dtype),
        "pooled_prompt_embeds": embeds(1, 8).to(dtype),
        "height": 16,
        "width": 24,
    }
    return Tiny(pipe, call, (16, 24), ("transformer",))


def pixart():
    seeded()
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=8,
        norm_num_groups=4,
        use_additional_conditions=False,
    ).eval()
    pipe = diffusers.PixArtSigmaPipeline(
        None, None, kl(scaling_factor=0.13), transformer, diffusers.DPMSolverMultistepScheduler()
    )
    call = prompts(masks=True) | size() | {"negative_prompt": None, "use_resolution_binning": False}
    return Tiny(pipe, call, (16, 16), ("transformer",))


def sana():
    seeded()
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=8,
        sample_size=8,
    ).eval()
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41,
    ).eval()
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    pipe = diffusers.SanaPipeline(None, None, vae, transformer, scheduler)
    call = prompts(masks=True) | size(32, 32) | {"negative_prompt": None, "use_resolution_binning": False}
    return Tiny(pipe, call, (32, 32), ("transformer",))


def _video_vae(kind, **config):
    return kind(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.7, 1.0, 2.0],
        **config,
    ).eval()


def qwen():
    seeded()
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(4, 6, 6),
    ).eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipe = diffusers.QwenImagePipeline(scheduler, _video_vae(diffusers.AutoencoderKLQwenImage), None, None, transformer)
    masks = {f"{prefix}prompt_embeds_mask": torch.ones(1, 5, dtype=torch.int64) for prefix in ("", "negative_")}
    call = prompts() | masks | size(16, 24) | {"true_cfg_scale": 4.0}
    return Tiny(pipe, call, (16, 24), ("transformer",), calls_per_evaluation=2)


def z_image():
    seeded()
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=1,
        n_kv_heads=1,
        cap_feat_dim=8,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 16, 16],
    ).eval()
    pipe = diffusers.ZImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        kl(shift_factor=0.1, scaling_factor=0.36),
        None,
        None,
        transformer,
    )
    call = {
        "prompt_embeds": [embeds(5, 8)],
        "negative_prompt_embeds": [embeds(5, 8, seed=2)],
        "height": 16,
        "width": 16,
    }
    return Tiny(pipe, call, (16, 16), ("transformer",))


def hidream():
    seeded()
    transformer = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[8, 8],
        text_emb_dim=8,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(8, 8),
        llama_layers=[0, 1],
        force_inference_output=True,
    ).eval()
    pipe = diffusers.HiDreamImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        kl(shift_factor=0.1, scaling_factor=0.36),
        *[None] * 8,
        transformer,
    )
    pipe.default_sample_size = 8  # it stretches every size to the area that this makes
    call = {
        "prompt_embeds_t5": embeds(1, 5, 8),
        "negative_prompt_embeds_t5": embeds(1, 5, 8, seed=2),
        "prompt_embeds_llama3": embeds(2, 1, 5, 8),
        "negative_prompt_embeds_llama3": embeds(2, 1, 5, 8, seed=2),
        "pooled_prompt_embeds": embeds(1, 8),
        "negative_pooled_prompt_embeds": embeds(1, 8, seed=2),
        "height": 16,
        "width": 16,
    }
    return Tiny(pipe, call, (16, 16), ("transformer",))


def _wan_transformer():
    return diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
    ).eval()


def wan(scheduler=None, two=False):
    seeded()
    pipe = diffusers.WanPipeline(
        None,
        None,
        _video_vae(diffusers.AutoencoderKLWan, scale_factor_temporal=2, scale_factor_spatial=2),
        scheduler
        or diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        _wan_transformer(),
        **({"transformer_2": _wan_transformer(), "boundary_ratio": 0.8} if two else {}),
    )
    call = prompts() | size(frames=5)
    networks = ("transformer", "transformer_2") if two else ("transformer",)
    return Tiny(pipe, call, (5, 16, 16), networks, calls_per_evaluation=2)


def wan_two():
    return wan(two=True)


def ltx():
    seeded()
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=8,
    ).eval()
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1,
    ).eval()
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    vae.latents_mean.copy_(torch.linspace(-0.3, 0.3, 8))
    vae.latents_std.copy_(torch.linspace(0.5, 2.0, 8))
    pipe = diffusers.LTXPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), vae, None, None, transformer)
    call = prompts(masks=True) | size(32, 32, frames=5)
    return Tiny(pipe, call, (5, 32, 32), ("transformer",))


def ltx2():
    """A video and its sound; called for latents, since what makes sound of them is left out."""
    seeded()
    transformer = diffusers.LTX2VideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=1,
        caption_channels=8,
    ).eval()
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 3,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    ).eval()
    audio_vae = diffusers.AutoencoderKLLTX2Audio(
        base_channels=8, ch_mult=(1, 1), num_res_blocks=1, latent_channels=2, mel_bins=16, resolution=16
    ).eval()
    audio_vae.latents_mean.zero_()
    audio_vae.latents_std.fill_(1.0)
    heads = {
        f"{kind}_connector_{name}": value
        for kind in ("video", "audio")
        for name, value in {
            "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "num_learnable_registers": None
        }.items()
    }  # fmt: skip
    connectors = diffusers.pipelines.ltx2.LTX2TextConnectors(caption_channels=8, text_proj_in_factor=1, **heads).eval()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipe = diffusers.LTX2Pipeline(scheduler, vae, audio_vae, None, None, connectors, transformer, None)
    masks = {f"{prefix}prompt_attention_mask": torch.ones(1, 5, dtype=torch.int64) for prefix in ("", "negative_")}
    call = prompts() | masks | size(64, 64, frames=9) | {"output_type": "latent"}
    for kind in ("", "audio_"):
        call |= {f"{kind}stg_scale": 0.0, f"{kind}modality_scale": 1.0}
    return Tiny(pipe, call, (9, 64, 64), ("transformer",))


def cogvideox():
    seeded()
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=8,
        num_layers=1,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        max_text_seq_length=5,
        temporal_compression_ratio=2,
    ).eval()
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=2,
        scaling_factor=0.7,
    ).eval()
    scheduler = diffusers.CogVideoXDDIMScheduler(
        **SD_BETAS, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    pipe = diffusers.CogVideoXPipeline(None, None, vae, transformer, scheduler)
    call = prompts() | size(frames=5) | {"max_sequence_length": 5}
    return Tiny(pipe, call, (5, 16, 16), ("transformer",))


FAMILIES = {
    "DDPM": ddpm,
    "LDM": ldm,
    "Stable Diffusion": sd,
    "Stable Diffusion, v, zero SNR": sd_v,
    "Stable Diffusion + ControlNet": sd_controlnet,
    "SDXL": sdxl,
    "SD3": sd3,
    "Flux": flux,
    "PixArt": pixart,
    "Sana": sana,
    "Qwen-Image": qwen,
    "Z-Image": z_image,
    "HiDream": hidream,
    "Wan": wan,
    "Wan, two transformers": wan_two,
    "LTX": ltx,
    "CogVideoX": cogvideox,
}

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def with_clip(made):
    """With a text encoder and a tokenizer of letters, for prompts in words."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    seeded()
    words = ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    tokenizer = CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=8)
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=8, **shape, **ends)
    made.pipe.register_modules(tokenizer=tokenizer, text_encoder=CLIPTextModel(config).eval())
    return made


def with_t5(made):
    """The same of the video pipelines."""
    from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

    seeded()
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in "▁" + _LETTERS)]
    config = UMT5Config(vocab_size=len(words), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    tokenizer = T5Tokenizer(vocab=words, extra_ids=0)
    made.pipe.register_modules(tokenizer=tokenizer, text_encoder=UMT5EncoderModel(config).eval())
    return made
