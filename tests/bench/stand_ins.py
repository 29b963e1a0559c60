"""Small real pipelines, with text encoders and tokenizers, in place of the models that the papers' tables name."""

from pathlib import Path

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
)

from tests.adapters import tiny

SIDE = 32


def _stable_diffusion():
    return _sized(tiny.with_clip(tiny.sd()).pipe)


def _ldm():
    return _sized(tiny.ldm().pipe)


def _pixels():
    return diffusers.DDPMPipeline(tiny.unet2d(channels=3, size=SIDE), diffusers.DDPMScheduler())


def _sdxl():
    """Its first encoder has 8 features of a word and its second 8, so the network takes 16."""
    made = tiny.with_clip(tiny.sdxl())
    torch.manual_seed(0)
    pipe, first = made.pipe, made.pipe.text_encoder.config.to_dict()
    encoder = CLIPTextModelWithProjection(CLIPTextConfig(**{**first, "projection_dim": 8})).eval()
    unet = tiny._unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 8,
        cross_attention_dim=16,
    )
    pipe.register_modules(text_encoder_2=encoder, tokenizer_2=pipe.tokenizer, unet=unet)
    return _sized(pipe)


def _t5(pipe, encoder, tokenizer):
    torch.manual_seed(0)
    words = tiny.with_t5(tiny.sd()).pipe.tokenizer
    config = T5Config(vocab_size=len(words), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    pipe.register_modules(**{encoder: T5EncoderModel(config).eval(), tokenizer: words})
    return pipe


def _flux():
    return _t5(tiny.with_clip(tiny.flux()).pipe, "text_encoder_2", "tokenizer_2")


def _pixart():
    pipe = _t5(tiny.pixart().pipe, "text_encoder", "tokenizer")
    pipe.transformer.register_to_config(sample_size=SIDE // 2)
    return pipe


def _qwen():
    pipe = tiny.qwen().pipe
    torch.manual_seed(0)
    letters = sorted(ByteLevel.alphabet())
    tokenizer = Qwen2Tokenizer(vocab={letter: place for place, letter in enumerate(letters)}, merges=[])
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 10000.0}
    text |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "rope_parameters": rope}
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 2, "intermediate_size": 8, "out_hidden_size": 8}
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()
    pipe.register_modules(text_encoder=encoder, tokenizer=tokenizer)
    return pipe


def _sized(pipe):
    pipe.unet.register_to_config(sample_size=SIDE // 2)
    return pipe


MODELS = {
    "CompVis/ldm-celebahq-256": _ldm,
    "PixArt-alpha/PixArt-XL-2-512x512": _pixart,
    "Qwen/Qwen-Image": _qwen,
    "black-forest-labs/FLUX.1-dev": _flux,
    "google/ddpm-cifar10-32": _pixels,
    "stabilityai/stable-diffusion-2-base": _stable_diffusion,
    "stabilityai/stable-diffusion-xl-base-1.0": _sdxl,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _stable_diffusion,
}
"""Hub id → a function that makes its stand-in, for pictures of :data:`SIDE` pixels."""


class Saved:
    """Folders of stand-ins, each saved when it is first asked for by its hub id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> str:
        make = MODELS[name]
        place = self.folder / make.__name__.strip("_")
        if not place.exists():
            make().save_pretrained(place)
        return str(place)

    def of(self, text: str) -> str:
        """A text with folders in the place of hub ids."""
        for name in MODELS:
            text = text.replace(name, self[name]) if name in text else text
        return text
