"""Small unconditional models of colour emoji, trained here; the images themselves are not part of the repository.

`PIXEL` has 32x32 pixels, is variance preserving and predicts the velocity: a `diffusers.DDIMPipeline`. `FLOW` is the
same network as a rectified flow: a `DDPMPipeline`. `LATENT` has 64x64 pixels by way of an autoencoder, and predicts the
velocity of its latents: an `LDMPipeline`. Their cards tell what they were trained on. `python -m toy_models.train NAME
--data FOLDER_OR_ZIP` trains them anew, on any images (`toy_models.images`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from diffusers import LDMPipeline, UNet2DModel

PIXEL, FLOW, LATENT = (Path(__file__).parent / "weights" / f"emoji-{name}" for name in ("pixel", "flow", "latent"))


def load_unet(folder: Path = PIXEL, dtype: torch.dtype = torch.float32) -> UNet2DModel:
    """Return a model's network, frozen and in evaluation mode.

    ``unet(x, t).sample`` answers at ``x``, ``(N, 3, 32, 32)`` in pixels or ``(N, 4, 16, 16)`` in scaled latents, and
    the times ``t``, ``(N,)``, of the scheduler in the same folder.

    Args:
        folder: `PIXEL`, `FLOW` or `LATENT`, or that of a pipeline that ``toy_models.train`` wrote.
        dtype: Type of the parameters. They are stored as float16.

    Raises:
        OSError: If the weights are missing from the folder.
    """
    from diffusers import UNet2DModel

    unet = UNet2DModel.from_pretrained(
        folder / "unet",
        torch_dtype=dtype,
        local_files_only=True,
        low_cpu_mem_usage=False,  # otherwise diffusers asks for `accelerate`, which six megabytes do not need
    )
    return unet.eval().requires_grad_(False)


def load_latent_pipeline(folder: Path = LATENT) -> LDMPipeline:
    """Return a latent model as a pipeline, in float32, frozen, in evaluation mode and without a progress bar.

    Args:
        folder: `LATENT`, or that of a pipeline that ``toy_models.train`` wrote.

    Raises:
        UserError: If it holds no such pipeline.
    """
    from diffusers import LDMPipeline

    from toy_models.trained import load_trained

    model: Any = load_trained(folder)
    pipe: Any = LDMPipeline(model.autoencoder, model.unet, model.scheduler)
    pipe.set_progress_bar_config(disable=True)
    return cast("LDMPipeline", pipe)
