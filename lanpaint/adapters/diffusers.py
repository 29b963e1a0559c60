"""Unconditional models of diffusers as scores: of pixels, and of sequences.

The model is a folder in diffusers' layout (``unet/`` and ``scheduler/``, as ``DDPMPipeline.save_pretrained`` writes
it), or a model of that layout on the hub. It becomes a :class:`~lanpaint.score.NetworkScore`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lanpaint.adapters.loading import read_index, told
from lanpaint.checks import as_path, check_dtype, shown
from lanpaint.noise import View
from lanpaint.schedules import VP, Flow, Schedule
from lanpaint.score import NetworkScore

Made = TypeVar("Made", bound=NetworkScore)

_VIEWS: dict[str, View] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "denoised"}
# Schedulers of variance-preserving models. The same settings give the same noise schedule in each of these classes.
_VARIANCE_PRESERVING = (
    *("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler"),
    *("EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
    *("DPMSolverSDEScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler"),
)
_FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")


def schedule_of(scheduler: Any) -> tuple[Schedule, View]:
    """The noise schedule of a diffusers scheduler, and the view that its network predicts.

    Raises:
        ValueError: For a scheduler that is not of a flow and has no ᾱ, or has an unknown prediction type.
    """
    if type(scheduler).__name__ in _FLOWS:
        return Flow(shift=scheduler.config.shift), "flow"
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no alphas_cumprod and is not a FlowMatch… scheduler; give the scheduler "
            "of a variance-preserving model or of a rectified flow"
        )
    prediction = scheduler.config.prediction_type
    if prediction not in _VIEWS:
        raise ValueError(f"prediction_type {prediction!r} is not one of {', '.join(_VIEWS)}")
    return VP(alphas), _VIEWS[prediction]


class UNetScore(NetworkScore):
    """An unconditional diffusers U-Net of any number of axes.

    Args:
        unet: A ``UNet2DModel`` or ``UNet1DModel``. If it also predicts a variance, only its mean is used.
        scheduler: The scheduler that the U-Net was trained with, of diffusion or of rectified flow.
        time_maps: As in :class:`~lanpaint.NetworkScore`.

    Attributes:
        channels: Channels of the input.
    """

    def __init__(self, unet: torch.nn.Module, scheduler: Any, time_maps: bool = False) -> None:
        schedule, predicts = schedule_of(scheduler)
        config: Any = unet.config
        self.channels: int = config.in_channels
        super().__init__(self._mean, predicts, schedule, time_maps=time_maps)
        self.unet = unet
        self._ticks = scheduler.config.num_train_timesteps if predicts == "flow" else 1

    def _mean(self, x: Tensor, time: Tensor) -> Tensor:
        return self.unet(x, self._ticks * time).sample[:, : self.channels]


class PixelModel(UNetScore):
    """An unconditional diffusers U-Net on pixels in [−1, 1].

    Args:
        unet: A ``UNet2DModel``. If it also predicts a variance, only its mean is used. A
            :class:`~lanpaint.adapters.time_map.TimeMapUNet` takes levels that differ from pixel to pixel.
        scheduler: The scheduler that the U-Net was trained with, of diffusion or of rectified flow.

    Attributes:
        channels: Image channels.
        sample_size: (height, width) in pixels that the U-Net was trained for.
        multiple: Height and width in pixels must be multiples of this number.
    """

    def __init__(self, unet: torch.nn.Module, scheduler: Any) -> None:
        from lanpaint.adapters.time_map import TimeMapUNet  # here, because it imports diffusers

        config: Any = unet.config
        size = config.sample_size or 0
        self.sample_size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.multiple = 2 ** (len(config.block_out_channels) - 1)
        super().__init__(unet, scheduler, time_maps=isinstance(unet, TimeMapUNet))


def takes_time_maps(source: str | Path) -> bool:
    """Whether a folder holds a pixel-space model with a time for each pixel. False for what is no such folder."""
    try:
        config = json.loads((Path(source) / "unet" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") == "TimeMapUNet"


def load_pixel_model(
    source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> PixelModel:
    """An unconditional pixel-space model, loaded from a folder or from the hub.

    Args:
        source: A folder in diffusers' layout, or a hub id such as ``google/ddpm-cat-256``.
        device: The device that the model runs on.
        dtype: The dtype of its weights and computations.

    Raises:
        ValueError: When there is no such model, or it is not an unconditional pixel-space one.
    """
    from diffusers import UNet2DModel

    from lanpaint.adapters.time_map import TimeMapUNet

    return load_unet_score(source, (UNet2DModel, TimeMapUNet), PixelModel, "pixel-space", device, dtype)


def load_unet_score(
    source: str | Path,
    kinds: tuple[Any, ...],
    make: Callable[[torch.nn.Module, Any], Made],
    what: str,
    device: str | torch.device,
    dtype: torch.dtype,
) -> Made:
    """An unconditional model, loaded from a folder or from the hub.

    Args:
        source: A folder in diffusers' layout, or a hub id.
        kinds: The classes that the U-Net may have.
        make: Makes the score of the U-Net and the scheduler.
        what: Of what the model is, in words for errors.
        device: The device that the model runs on.
        dtype: The dtype of its weights and computations.

    Raises:
        ValueError: When there is no such model, or it is of another kind.
    """
    import diffusers
    from diffusers import DDPMScheduler

    folder = as_path("a model", source)
    check_dtype(dtype)
    try:
        torch.zeros(1, device=device).item()  # of the device meta, no value can be read
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device {shown(device)} is not available here; give cpu, or leave device out") from error
    if str(source) and folder.is_dir():
        _check_folder(folder, what)
    elif folder.is_absolute():
        raise ValueError(f"unknown model {str(source)!r}: there is no such folder")
    elif "/" not in str(source).strip("/.") or folder.suffix in (".safetensors", ".ckpt", ".bin", ".pt"):
        raise ValueError(f"unknown model {str(source)!r}; give a diffusers folder, or a hub id such as org/name")
    try:
        local = {"local_files_only": folder.is_dir()}
        found = {each.__name__: each for each in kinds}
        network: Any = kinds[0].load_config(source, subfolder="unet", **local)
        _check_class(network, "unet", tuple(found))
        config = DDPMScheduler.load_config(source, subfolder="scheduler", **local)
        _check_class(config, "scheduler", (*_VARIANCE_PRESERVING, *_FLOWS))
        is_flow = config["_class_name"] in _FLOWS
        scheduler = (getattr(diffusers, config["_class_name"]) if is_flow else DDPMScheduler).from_config(config)
        unet, loaded = found[network["_class_name"]].from_pretrained(
            source, subfolder="unet", torch_dtype=dtype, low_cpu_mem_usage=False, output_loading_info=True,
            use_safetensors=True, **local,
        )  # fmt: skip
        for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):  # such weights are random, or left out
            if loaded[what]:
                raise ValueError(f"its weights do not fit its unet/config.json: {what} {list(loaded[what])[:2]}")
        if getattr(unet.config, "num_class_embeds", None) or getattr(unet.config, "class_embed_type", None):
            raise ValueError("it is a class-conditional model; give an unconditional model")
        return make(unet.to(device).eval().requires_grad_(False), scheduler)
    except Exception as error:  # a folder of unknown content can raise anything in the libraries that read it
        raise ValueError(
            f"cannot load {str(source)!r} as an unconditional {what} model (unet/ and scheduler/): {told(error)}"
        ) from error


def _check_class(config: Any, part: str, expected: tuple[str, ...]) -> None:
    given = config.get("_class_name") if isinstance(config, dict) else None
    if given not in expected:
        some = ", ".join(expected[:3]) + (", …" if len(expected) > 3 else "")
        raise ValueError(f"its {part} has the class {given}; supported: {some}")


def _check_folder(folder: Path, what: str) -> None:
    parts = read_index(folder) if (folder / "model_index.json").is_file() else {}
    extra = sorted(set(parts) & {"vae", "vqvae", "text_encoder", "transformer"})
    if extra:
        raise ValueError(
            f"{folder} has {', '.join(extra)}, so it is not an unconditional {what} model; use lanpaint.Inpainter"
        )
    missing = [name for name in ("unet", "scheduler") if not (folder / name).is_dir()]
    if missing:
        raise ValueError(f"{folder} is not a diffusers pipeline folder: {' and '.join(missing)} missing in it")
