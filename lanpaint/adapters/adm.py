"""Checkpoints of OpenAI's guided-diffusion (ADM, Dhariwal & Nichol, 2021, arXiv:2105.05233) in diffusers' layout.

    python -m lanpaint.adapters.adm 256x256_diffusion_uncond.pt adm-256
    lanpaint bench "adm-256:box" --images FOLDER

The network is one and the same, under other names: diffusers' UNet2DModel with residual blocks that change the
resolution, scale and shift by time, and one head of attention for each 64 channels. Three things differ. ADM keeps
query, key and value of a head side by side in one convolution; they are taken apart here. It also predicts a variance,
whose output channels are left out, because no sampler of this library asks for it. And it may be conditioned on a
class, which is refused.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DModel

State = Mapping[str, Tensor]

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def convert(state: State, sample_size: int, head_channels: int = 64) -> UNet2DModel:
    """The network of a guided-diffusion checkpoint, as a diffusers UNet2DModel on the CPU.

    Args:
        state: The checkpoint's state dict.
        sample_size: Side of the pictures in pixels, which the checkpoint does not say.
        head_channels: Channels of an attention head; 64 in all published checkpoints.

    Raises:
        ValueError: For a checkpoint of another layout: one with classes, without residual blocks that change the
            resolution, or without scale and shift by time.
    """
    from diffusers import UNet2DModel

    if "label_emb.weight" in state:
        raise ValueError("the checkpoint is conditioned on a class; give an unconditional one, such as …_uncond.pt")
    if "input_blocks.0.0.weight" not in state or "time_embed.0.weight" not in state:
        raise ValueError("this is no checkpoint of guided-diffusion: it has no input_blocks and time_embed")
    plan = _plan(state)
    config = _config(state, plan, sample_size, head_channels)
    unet: Any = UNet2DModel(**config)
    unet.load_state_dict(_renamed(state, plan, head_channels))
    model: UNet2DModel = unet.eval()
    return model


def _numbers(state: State, part: str) -> list[int]:
    return sorted({int(found[1]) for key in state if (found := re.match(rf"{part}\.(\d+)\.", key))})


def _is_attention(state: State, prefix: str) -> bool:
    return f"{prefix}.qkv.weight" in state


def _plan(state: State) -> list[list[int]]:
    """Numbers of the input blocks of each resolution. A block that changes the resolution is the last of its own.

    Such a block has no parameters of its own for that: it is known as the one after which the output blocks rise, which
    mirror the input blocks.
    """
    inputs, outputs = _numbers(state, "input_blocks")[1:], _numbers(state, "output_blocks")
    ups = [number for number in outputs if f"output_blocks.{number}.{_last(state, number)}.in_layers.0.weight" in state
           and _last(state, number) > 0]  # fmt: skip
    if not ups or len(outputs) % (len(ups) + 1):
        raise ValueError("the checkpoint has no residual blocks that change the resolution (resblock_updown)")
    each = len(outputs) // (len(ups) + 1)  # residual blocks of a resolution, and one that changes it
    levels = [inputs[start : start + each] for start in range(0, len(inputs), each)]
    if ups != [each * (level + 1) - 1 for level in range(len(ups))] or len(levels[-1]) != each - 1:
        raise ValueError("the checkpoint's blocks are not those of guided-diffusion")
    return levels


def _last(state: State, number: int) -> int:
    return max(_numbers(state, rf"output_blocks\.{number}"))


def _config(state: State, plan: list[list[int]], sample_size: int, head_channels: int) -> dict[str, Any]:
    channels = [state[f"input_blocks.{blocks[0]}.0.out_layers.3.weight"].shape[0] for blocks in plan]
    width = state["input_blocks.0.0.weight"].shape[0]
    first = state[f"input_blocks.{plan[0][0]}.0.emb_layers.1.weight"].shape[0]
    if first != 2 * channels[0]:
        raise ValueError("the checkpoint has no scale and shift by time (use_scale_shift_norm)")
    if channels[0] != width:
        raise ValueError(
            f"the first resolution has {channels[0]} channels and not the {width} of the first convolution"
        )
    attends = [_is_attention(state, f"input_blocks.{blocks[0]}.1") for blocks in plan]
    return {
        "sample_size": sample_size,
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": state["input_blocks.0.0.weight"].shape[1],
        "block_out_channels": tuple(channels),
        "layers_per_block": sum(1 for _ in plan[-1]),
        "down_block_types": tuple("AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attends)),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "attention_head_dim": head_channels,
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 32,  # else the middle block's attention has no norm
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def _renamed(state: State, plan: list[list[int]], head_channels: int) -> dict[str, Tensor]:
    """The tensors under diffusers' names."""
    new: dict[str, Tensor] = {}

    def layer(old: str, name: str, rows: int | None = None) -> None:
        for kind in ("weight", "bias"):
            if f"{old}.{kind}" in state:
                new[f"{name}.{kind}"] = state[f"{old}.{kind}"][:rows].float()

    def resnet(old: str, name: str) -> None:
        for one, other in _RESNET.items():
            layer(f"{old}.{one}", f"{name}.{other}")

    def attention(old: str, name: str) -> None:
        layer(f"{old}.norm", f"{name}.group_norm")
        for kind in ("weight", "bias"):
            tensor = state[f"{old}.qkv.{kind}"].float()
            heads = tensor.reshape(-1, 3, head_channels, *tensor.shape[1:2])  # query, key and value of each head
            for place, letter in enumerate("qkv"):
                new[f"{name}.to_{letter}.{kind}"] = heads[:, place].flatten(0, 1).contiguous()
        new[f"{name}.to_out.0.weight"] = state[f"{old}.proj_out.weight"].float()[:, :, 0]
        new[f"{name}.to_out.0.bias"] = state[f"{old}.proj_out.bias"].float()

    layer("time_embed.0", "time_embedding.linear_1")
    layer("time_embed.2", "time_embedding.linear_2")
    layer("input_blocks.0.0", "conv_in")
    for level, blocks in enumerate(plan):
        down, each = f"down_blocks.{level}", len(plan[-1])
        for place, number in enumerate(blocks):
            if place == each:
                resnet(f"input_blocks.{number}.0", f"{down}.downsamplers.0")
                continue
            resnet(f"input_blocks.{number}.0", f"{down}.resnets.{place}")
            if _is_attention(state, f"input_blocks.{number}.1"):
                attention(f"input_blocks.{number}.1", f"{down}.attentions.{place}")
    resnet("middle_block.0", "mid_block.resnets.0")
    attention("middle_block.1", "mid_block.attentions.0")
    resnet("middle_block.2", "mid_block.resnets.1")
    each = len(plan[-1]) + 1
    for number in _numbers(state, "output_blocks"):
        level, place = divmod(number, each)
        up, old = f"up_blocks.{level}", f"output_blocks.{number}"
        resnet(f"{old}.0", f"{up}.resnets.{place}")
        attends = _is_attention(state, f"{old}.1")
        if attends:
            attention(f"{old}.1", f"{up}.attentions.{place}")
        if place == each - 1 and level < len(plan) - 1:
            resnet(f"{old}.{1 + attends}", f"{up}.upsamplers.0")
    layer("out.0", "conv_norm_out")
    layer("out.2", "conv_out", rows=state["input_blocks.0.0.weight"].shape[1])
    return new


def save(state: State, folder: str | Path, sample_size: int) -> Path:
    """Write a checkpoint's network and its noise schedule as a folder that :func:`load_pixel_model` reads.

    Raises:
        ValueError: As :func:`convert`.
    """
    from diffusers import DDPMPipeline, DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    pipe: Any = DDPMPipeline(convert(state, sample_size), scheduler)
    pipe.save_pretrained(folder)
    return Path(folder)


def main() -> None:
    """The command: a checkpoint and a folder to write."""
    parser = argparse.ArgumentParser(description="guided-diffusion checkpoint → folder in diffusers' layout")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels [256]")
    given = parser.parse_args()
    try:
        state = torch.load(given.checkpoint, map_location="cpu", weights_only=True)
        print(save(state, given.folder, given.size))
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"cannot convert {given.checkpoint}: {' '.join(str(error).split())}") from error


if __name__ == "__main__":
    main()
