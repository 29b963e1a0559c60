"""Real modular pipelines of diffusers, built small, with random weights and prompts as embeddings.

The blocks that encode prompts are left out, as anyone may who has embeddings.
"""

import diffusers
import torch
from diffusers.guiders import ClassifierFreeGuidance
from PIL import Image

from lanpaint.adapters.modular.blocks import loops
from tests.adapters import parts, tiny
from tests.adapters.parts import ernie_transformer, flux2_transformer, flux2_vae, krea2_transformer
from tests.adapters.tiny import Tiny, embeds, seeded, size

FAMILIES = {}


def family(name):
    """Lists a function that builds a pipeline under a name."""

    def listed(make):
        FAMILIES[name] = make
        return make

    return listed


def put_together(blocks, left_out=("text_encoder",), **parts):
    """The pipeline of some of diffusers' blocks, without those left out, of these parts."""
    tree = getattr(diffusers, blocks)()
    for name in left_out:
        tree.sub_blocks.pop(name)
    pipe = tree.init_pipeline()
    pipe.update_components(**{name: part for name, part in parts.items() if name in pipe._component_specs})
    for loop in loops(pipe._blocks):
        loop.set_progress_bar_config(disable=True)
    return pipe


def of_classic(make, blocks, calls=1, **parts):
    """The modular form of a pipeline that tests have in the classic form."""
    made = make()
    own = {name: part for name, part in made.pipe.components.items() if part is not None}
    pipe = put_together(blocks, **own, **parts)
    takes = {declared.name for declared in pipe._blocks.inputs}
    call = {name: value for name, value in made.call.items() if name in takes}
    return Tiny(pipe, call, made.size, made.networks, calls)


def euler(**settings):
    return diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **settings})


def prompts(*shape, masks=None):
    """A prompt and a negative one as embeddings of a shape, with masks of a dtype."""
    call = {}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}prompt_embeds"] = embeds(*shape, seed=seed)
        if masks is not None:
            call[f"{prefix}prompt_embeds_mask"] = torch.ones(shape[:2], dtype=masks)
    return call


def positive(call):
    """A call without its negative prompt."""
    return {name: value for name, value in call.items() if not name.startswith("negative_")}


@family("Stable Diffusion XL")
def sdxl():
    return of_classic(tiny.sdxl, "StableDiffusionXLAutoBlocks", 2)


@family("Stable Diffusion 3")
def sd3():
    return of_classic(tiny.sd3, "StableDiffusion3AutoBlocks", 2)


@family("Flux.1")
def flux():
    return of_classic(tiny.flux, "FluxAutoBlocks")


@family("Flux.1 Kontext")
def flux_kontext():
    return of_classic(tiny.flux, "FluxKontextAutoBlocks")


@family("Qwen-Image")
def qwen():
    return of_classic(tiny.qwen, "QwenImageAutoBlocks", 2)


@family("Z-Image")
def z_image():
    return of_classic(tiny.z_image, "ZImageAutoBlocks", 2, guider=ClassifierFreeGuidance(guidance_scale=5.0))


@family("Wan 2.1")
def wan():
    return of_classic(tiny.wan, "WanBlocks", 2)


@family("Wan 2.2")
def wan22():
    made = of_classic(tiny.wan_two, "Wan22Blocks", 2)
    made.pipe.update_components(boundary_ratio=0.8)
    return made


@family("LTX-Video")
def ltx():
    return of_classic(tiny.ltx, "LTXAutoBlocks", 2)


def _flux2(blocks, guided=False, guidance_embeds=False):
    seeded()
    transformer = flux2_transformer(guidance_embeds)
    pipe = put_together(blocks, transformer=transformer, vae=flux2_vae(), scheduler=euler(use_dynamic_shifting=True))
    call = prompts(1, 5, 8) | size(16, 24)
    return Tiny(pipe, call if guided else positive(call), (16, 24), ("transformer",), 1 + guided)


@family("Flux.2")
def flux2():
    return _flux2("Flux2AutoBlocks", guidance_embeds=True)


@family("Flux.2 Klein")
def flux2_klein():
    return _flux2("Flux2KleinAutoBlocks")


@family("Flux.2 Klein, base")
def flux2_klein_base():
    return _flux2("Flux2KleinBaseAutoBlocks", guided=True)


def _flux3(blocks, guided):
    seeded()
    from diffusers import Flux3Transformer2DModel

    transformer = Flux3Transformer2DModel(
        in_channels=16,
        cond_in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        timestep_channels=8,
        axes_dims_rope=(4, 4, 4, 4),
        flow_map=not guided,
    ).eval()
    left_out = ("prompt_upsampler", "text_encoder")
    pipe = put_together(blocks, left_out, transformer=transformer, vae=flux2_vae(), scheduler=euler())
    call = prompts(1, 5, 8) | size(16, 24)
    return Tiny(pipe, call if guided else positive(call), (16, 24), ("transformer",), 1 + guided)


@family("Flux.3")
def flux3():
    return _flux3("Flux3AutoBlocks", True)


@family("Flux.3, distilled")
def flux3_distilled():
    return _flux3("Flux3DistilledAutoBlocks", False)


@family("ERNIE-Image")
def ernie():
    seeded()
    transformer = ernie_transformer()
    pipe = put_together(
        "ErnieImageAutoBlocks", ("prompt_enhancer", "text_encoder"),
        transformer=transformer, vae=flux2_vae(), scheduler=euler(),
    )  # fmt: skip
    call = {name: [part[0] for part in value] for name, value in prompts(1, 5, 8).items()} | size(16, 24)
    return Tiny(pipe, call, (16, 24), ("transformer",), 2)


@family("Ideogram 4")
def ideogram():
    seeded()

    def transformer():
        return diffusers.Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=8,
            mrope_section=(4, 2, 2),
        ).eval()

    pipe = put_together(
        "Ideogram4AutoBlocks", ("prompt_upsample", "text_encoder"), transformer=transformer(),
        unconditional_transformer=transformer(), vae=flux2_vae(), scheduler=euler(shift=1.0),
    )  # fmt: skip
    call = {"text_features": embeds(1, 5, 8), "text_lengths": torch.tensor([5])} | size(16, 24)
    call |= {"guidance_schedule": (7.0, 5.0, 3.0)}
    return Tiny(pipe, call, (16, 24), ("transformer", "unconditional_transformer"), 2)


def _krea2(blocks, guided):
    seeded()
    transformer = krea2_transformer()
    vae = tiny._video_vae(diffusers.AutoencoderKLQwenImage)
    pipe = put_together(blocks, transformer=transformer, vae=vae, scheduler=euler(use_dynamic_shifting=True))
    call = prompts(1, 5, 2, 8, masks=torch.bool) | size(16, 24)
    return Tiny(pipe, call if guided else positive(call), (16, 24), ("transformer",), 1 + guided)


@family("Krea 2")
def krea2():
    return _krea2("Krea2AutoBlocks", True)


@family("Krea 2 Turbo")
def krea2_turbo():
    return _krea2("Krea2TurboAutoBlocks", False)


def _qwen21(blocks, guided):
    seeded()
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=8,
        axes_dims_rope=(4, 6, 6),
    ).eval()
    factors = {"scale_factor_temporal": 2, "scale_factor_spatial": 2}
    vae = tiny._video_vae(diffusers.AutoencoderKLQwenImage21, decoder_base_dim=4, **factors)
    pipe = put_together(blocks, transformer=transformer, vae=vae, scheduler=euler(use_dynamic_shifting=True))
    if guided:
        pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=4.0))
    call = prompts(1, 5, 8, masks=torch.int64) | size(16, 24)
    for prefix in ("", "negative_"):
        call[f"{prefix}image_pad_mask"] = torch.zeros(1, 5, dtype=torch.bool)
    return Tiny(pipe, call if guided else positive(call), (16, 24), ("transformer",), 1 + guided)


@family("Qwen-Image 2.1")
def qwen21():
    return _qwen21("QwenImage21AutoBlocks", True)


@family("Qwen-Image 2.1 Turbo")
def qwen21_turbo():
    return _qwen21("QwenImage21TurboAutoBlocks", False)


@family("Anima")
def anima():
    seeded()
    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=8,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,  # it needs torchvision
        extra_pos_embed_type=None,
    ).eval()
    conditioner = diffusers.AnimaTextConditioner(
        source_dim=8, target_dim=8, model_dim=8, num_layers=1, num_attention_heads=2, target_vocab_size=16,
        min_sequence_length=5,
    ).eval()  # fmt: skip
    vae = tiny._video_vae(diffusers.AutoencoderKLQwenImage)
    pipe = put_together(
        "AnimaAutoBlocks", transformer=transformer, text_conditioner=conditioner, vae=vae, scheduler=euler()
    )
    call = size(16, 24)
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}qwen_prompt_embeds"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}t5_input_ids"] = torch.arange(5)[None] + seed
        for kind in ("qwen", "t5"):
            call[f"{prefix}{kind}_attention_mask"] = torch.ones(1, 5, dtype=torch.int64)
    return Tiny(pipe, call, (16, 24), ("transformer",), 2)


@family("HunyuanVideo 1.5")
def hunyuan_video15():
    seeded()
    transformer, vae, call = parts.hunyuan_video15()
    pipe = put_together(
        "HunyuanVideo15AutoBlocks", transformer=transformer, vae=vae, scheduler=euler(shift=7.0),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
    )  # fmt: skip
    call["batch_size"] = 1
    return Tiny(pipe, call, (5, 32, 32), ("transformer",), 2)


@family("Wan 2.2 VACE")
def wan_vace():
    seeded()
    transformers = [
        diffusers.WanVACETransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=8,
            freq_dim=8,
            ffn_dim=16,
            num_layers=2,
            rope_max_seq_len=32,
            vace_layers=[0],
            vace_in_channels=4 * 2 + 2 * 2,
        ).eval()
        for _ in range(2)
    ]
    made = tiny.wan()
    pipe = put_together(
        "Wan22VaceBlocks", transformer=transformers[0], transformer_2=transformers[1], vae=made.pipe.vae,
        scheduler=made.pipe.scheduler,
    )  # fmt: skip
    call = {name: value for name, value in made.call.items() if name != "max_sequence_length"}
    return Tiny(pipe, call, made.size, ("transformer", "transformer_2"), 2)


@family("LTX-2")
def ltx2():
    from diffusers.guiders import LTX2Guidance
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    made = tiny.ltx2()
    parts = made.pipe.components
    parts["vae"] = diffusers.AutoencoderKLLTX2Video(
        **{**parts["vae"].config, "decoder_block_out_channels": (8,) * 3, "upsample_factor": (1, 1, 1)}
    ).eval()
    parts["vocoder"] = LTX2Vocoder(
        in_channels=32,
        hidden_channels=8,
        out_channels=2,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
    ).eval()
    guider = LTX2Guidance(guidance_scale=4.0)
    left_out = ("prompt_enhancer", "text_encoder", "duration")
    parts |= {"guider": guider, "audio_guider": LTX2Guidance(guidance_scale=4.0)}
    pipe = put_together("LTX2AutoBlocks", left_out, **parts)
    call = size(64, 64, frames=9) | {"batch_size": 1, "dtype": torch.float32}
    for prefix, seed in (("", 1), ("negative_", 2)):
        call[f"{prefix}connector_prompt_embeds"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}connector_audio_prompt_embeds"] = embeds(1, 5, 8, seed=seed)
        call[f"{prefix}connector_attention_mask"] = torch.ones(1, 5, dtype=torch.int64)
    return Tiny(pipe, call, made.size, ("transformer",), 2)


def _reference(height, width):
    pixels = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(3))
    return Image.fromarray((255 * pixels).byte().numpy())


@family("Wan 2.1 image to video")
def wan_i2v():
    seeded()
    made = tiny.wan()
    transformer = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4 * 2 + 2,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
        image_dim=8,
        added_kv_proj_dim=24,
    ).eval()
    pipe = put_together(
        "WanImage2VideoAutoBlocks", ("text_encoder", "image_encoder"), transformer=transformer, vae=made.pipe.vae,
        scheduler=made.pipe.scheduler,
    )  # fmt: skip
    call = {**made.call, "image_embeds": embeds(1, 4, 8)}
    return Tiny(pipe, call, made.size, ("transformer",), 2, extra={"control_image": _reference(16, 16)})


def chunks():
    """A pipeline whose loop goes over parts of the video, each of which it samples in a loop within. It is refused."""
    seeded()
    transformer = diffusers.HeliosTransformer3DModel(
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
    scheduler = diffusers.HeliosScheduler(stages=1, stage_range=[0, 1])
    pipe = put_together("HeliosAutoBlocks", transformer=transformer, vae=tiny.wan().pipe.vae, scheduler=scheduler)
    call = prompts(1, 5, 8) | size(frames=5) | {"num_latent_frames_per_chunk": 3}
    return Tiny(pipe, call, (5, 16, 16), ("transformer",), 2)
