"""Small unconditional models of colour emoji, trained here. The emoji images are not part of the repository.

- `PIXEL`, a `diffusers.DDIMPipeline`: 32x32 pixels, variance preserving, predicts the velocity v.
- `FLOW`, a `DDPMPipeline`: 32x32 pixels, the network of `PIXEL` trained as a rectified flow.
- `ASYNC`, a `DDPMPipeline`: 32x32 pixels, the network of `FLOW` trained with a time for each pixel.
- `LATENT`, an `LDMPipeline`: 64x64 pixels, predicts the velocity v of an autoencoder's latents.

The model cards say what the models were trained on. `python -m lanpaint_toys.train NAME --data FOLDER_OR_ZIP` trains
them again, on any images (`lanpaint_toys.images`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from lanpaint_toys.shipped import weights_folder

if TYPE_CHECKING:
    from diffusers import LDMPipeline, UNet2DModel

PIXEL, FLOW, ASYNC, LATENT = (weights_folder(f"emoji-{name}") for name in ("pixel", "flow", "async", "latent"))


def load_unet(folder: Path = PIXEL, dtype: torch.dtype = torch.float32) -> UNet2DModel:
    """Return a model's network, frozen and in evaluation mode.

    ``unet(x, t).sample`` is the network's output. ``x`` is ``(N, 3, 32, 32)`` in pixels or ``(N, 4, 16, 16)`` in scaled
    latents. ``t``, ``(N,)``, are times of the scheduler in the model's folder, or for `ASYNC` maps ``(N, 1, 32, 32)``.

    Args:
        folder: `PIXEL`, `FLOW`, `ASYNC` or `LATENT`, or the folder of a pipeline that ``lanpaint_toys.train`` wrote.
        dtype: Type of the parameters. They are stored as float16.

    Raises:
        OSError: If the weights are missing from the folder.
    """
    from lanpaint_toys.trained import unet_class

    unet: Any = unet_class(folder).from_pretrained(
        folder / "unet",
        torch_dtype=dtype,
        local_files_only=True,
        low_cpu_mem_usage=False,  # otherwise diffusers asks for `accelerate`, which so small a model does not need
    )
    return unet.eval().requires_grad_(False)


def load_latent_pipeline(folder: Path = LATENT) -> LDMPipeline:
    """Return a latent model as a pipeline, in float32, frozen, in evaluation mode and without a progress bar.

    Args:
        folder: `LATENT`, or the folder of a latent pipeline that ``lanpaint_toys.train`` wrote.

    Raises:
        UserError: If the folder holds no such pipeline.
    """
    from diffusers import LDMPipeline

    from lanpaint_toys.trained import load_trained

    model: Any = load_trained(folder)
    pipe: Any = LDMPipeline(model.autoencoder, model.unet, model.scheduler)
    pipe.set_progress_bar_config(disable=True)
    return cast("LDMPipeline", pipe)
