"""Pipeline classes that make sound: refused where pictures are given, and painted by their latents."""

from __future__ import annotations

import functools

import diffusers
import torch

from tests.adapters import tiny
from tests.adapters.tiny import SD, embeds, kl
from tests.adapters.zoo.case import Case, build, zoo

sound = functools.partial(Case, makes="sound", refused="makes sound")


def ddim():
    return diffusers.DDIMScheduler(**SD, clip_sample=False)


def vocoder():
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=160, upsample_initial_channel=16, upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]], normalize_before=False,
    )  # fmt: skip
    return SpeechT5HifiGan(config).eval()


def _audioldm(kind):
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    clap = ClapTextConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, projection_dim=8
    )
    unet = tiny._unet(
        cross_attention_dim=(8, 8),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=8,
        class_embeddings_concat=True,
    )
    vae = kl(in_channels=1, out_channels=1)
    encoder = ClapTextModelWithProjection(clap).eval()
    pipe = build(kind, vae=vae, unet=unet, scheduler=ddim(), vocoder=vocoder(), text_encoder=encoder)
    call = {"prompt_embeds": embeds(1, 8), "negative_prompt_embeds": embeds(1, 8, seed=2), "audio_length_in_s": 0.4}
    return sound(pipe, call)


@zoo("AudioLDM")
def audioldm():
    return _audioldm(diffusers.AudioLDMPipeline)


@zoo("MusicLDM")
def musicldm():
    return _audioldm(diffusers.MusicLDMPipeline)


@zoo("AudioLDM2")
def audioldm2():
    from diffusers import AudioLDM2UNet2DConditionModel
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

    unet = AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(None, 8, 8),
        attention_head_dim=4,
    ).eval()
    vae = kl(in_channels=1, out_channels=1)
    t5 = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).eval()
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=2)).eval()
    pipe = build(
        diffusers.AudioLDM2Pipeline, vae=vae, unet=unet, scheduler=ddim(), vocoder=vocoder(), text_encoder_2=t5,
        language_model=gpt2,
    )  # fmt: skip
    call = {"audio_length_in_s": 0.4, "guidance_scale": 3.5}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}generated_prompt_embeds"] = embeds(1, 4, 8, seed=seed)
        call[f"{prefix}attention_mask"] = torch.ones(1, 5, dtype=torch.int64)
    return sound(pipe, call)


@zoo("StableAudio")
def stable_audio():
    from diffusers import StableAudioProjectionModel

    transformer = diffusers.StableAudioDiTModel(
        sample_size=32,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=8,
        time_proj_dim=8,
        global_states_input_dim=16,
        cross_attention_input_dim=8,
    ).eval()
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=32,
    ).eval()
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(
        solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
    )
    projection = StableAudioProjectionModel(text_encoder_dim=8, conditioning_dim=8, min_value=0, max_value=32)
    pipe = build(
        diffusers.StableAudioPipeline, vae=vae, transformer=transformer, scheduler=scheduler,
        projection_model=projection.eval(),
    )  # fmt: skip
    call = {"audio_end_in_s": 1.5, "prompt_embeds": embeds(1, 5, 8), "negative_prompt_embeds": embeds(1, 5, 8, seed=2)}
    return sound(pipe, call)


@zoo("DanceDiffusion")
def dance_diffusion():
    unet = diffusers.UNet1DModel(
        block_out_channels=(32, 32, 64),
        extra_in_channels=16,
        time_embedding_dim=16,
        sample_size=64,
        sample_rate=64,
        in_channels=2,
        out_channels=2,
        use_timestep_embedding=False,
        down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
    ).eval()
    pipe = diffusers.DanceDiffusionPipeline(unet, diffusers.IPNDMScheduler())
    return sound(pipe, {}, output_type="", count=20)


@zoo("LongCatAudioDiT")
def longcat():
    transformer = diffusers.LongCatAudioDiTTransformer(
        dit_dim=16, dit_depth=1, dit_heads=2, dit_text_dim=8, latent_dim=4, text_conv=False
    ).eval()
    vae = diffusers.LongCatAudioDiTVae(
        channels=8, c_mults=[1, 2], strides=[2], latent_dim=4, encoder_latent_dim=8, downsampling_ratio=4,
        sample_rate=64,
    ).eval()  # fmt: skip
    pipe = build(
        diffusers.LongCatAudioDiTPipeline, vae=vae, transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=False),
    )  # fmt: skip
    made = tiny.with_t5(tiny.Tiny(pipe, {}, (), ()))
    return sound(made.pipe, {"prompt": "a", "audio_duration_s": 1.0})
