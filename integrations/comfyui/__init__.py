# SPDX-License-Identifier: Apache-2.0
"""A ComfyUI node that inpaints with lanpaint. Put this folder into ``custom_nodes``; pip install 'lanpaint[pipelines]'.

The node has the V3 interface of ComfyUI (``comfy_api.latest``). This is all that it uses of it, and what
``tests/test_integrations.py`` stands in for:

- A node is a class that inherits ``io.ComfyNode``. Its class method ``define_schema`` returns ``io.Schema(node_id,
  display_name, category, description, inputs, outputs)``. Its class method ``execute`` takes the inputs by their ids
  and returns ``io.NodeOutput(value)``.
- ``io.Image``, ``io.Mask``, ``io.String``, ``io.Int``, ``io.Float``, ``io.Boolean`` and ``io.Combo`` have ``Input(id,
  …)`` with ``default``, ``min``, ``max``, ``step``, ``options``, ``multiline``, ``optional``, ``tooltip`` where they
  apply; ``io.Image`` has ``Output(display_name=…)``.
- An IMAGE is a float tensor (B, H, W, C) in [0, 1]. A MASK is a float tensor (B, H, W), 1 where it is painted.
- ``comfy_entrypoint`` is a coroutine function that returns a ``ComfyExtension``, whose coroutine ``get_node_list``
  returns the classes.
- ``comfy.utils.ProgressBar(total)`` has ``update_absolute(value)``. ``comfy.model_management`` has
  ``throw_exception_if_processing_interrupted()``, which raises when the user has cancelled.
"""

from __future__ import annotations

import functools
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import ComfyExtension, io

import lanpaint


@functools.lru_cache(maxsize=1)
def _painter(model: str) -> lanpaint.Painter:
    return lanpaint.open_painter(model)


class LanPaintInpaint(io.ComfyNode):
    """Paints the masked part of images; all other pixels stay bit for bit."""

    @classmethod
    def define_schema(cls) -> Any:
        """The inputs and outputs of the node."""
        return io.Schema(
            node_id="LanPaintLibraryInpaint",
            display_name="Inpaint (lanpaint library)",
            category="image/inpainting",
            description="Training-free inpainting with a pipeline of diffusers or a pixel model.",
            inputs=[
                io.Image.Input("image"),
                io.Mask.Input("mask"),
                io.String.Input(
                    "model", default="emoji-pixel", tooltip="A model that comes with lanpaint, a folder, or a hub id."
                ),
                io.String.Input("prompt", default="", multiline=True, tooltip="Only for pipelines."),
                io.Int.Input("seed", default=0, min=0, max=2**32 - 1),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Outer steps."),
                io.Int.Input("inner_steps", default=5, min=0, max=100, tooltip="Langevin steps at each level."),
                io.Float.Input("strength", default=1.0, min=0.01, max=1.0, step=0.01),
                io.Boolean.Input("soft", default=False, tooltip="Grey is how much may change."),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        mask: torch.Tensor,
        model: str,
        prompt: str,
        seed: int,
        steps: int,
        inner_steps: int,
        strength: float,
        soft: bool,
    ) -> Any:
        """Paint each image of the batch, with a seed that counts up. A fourth channel, alpha, stays as it is."""
        if len(mask) not in (1, len(image)):
            raise ValueError(f"there are {len(mask)} masks for {len(image)} images; give one, or one for each")
        settings = {"steps": steps, "inner_steps": inner_steps, "strength": strength, "soft": soft}
        masks = mask.expand(len(image), -1, -1)
        painted = []
        for number, (picture, part) in enumerate(zip(image.cpu(), masks.cpu(), strict=True)):
            colours = picture[..., :3]
            task = lanpaint.Task(colours.movedim(-1, 0), part, prompt or None, (seed + number) % 2**32, settings)
            result = _painter(model).paint(task, watch=_watch(number, len(image)))
            made = torch.from_numpy(_array(result.picture)).to(picture) / 255
            made = torch.cat([made.expand_as(colours), picture[..., 3:]], -1)
            painted.append(torch.where(_kept(part, soft)[..., None], picture, made))
        return io.NodeOutput(torch.stack(painted))


def _kept(mask: torch.Tensor, soft: bool) -> torch.Tensor:
    """The pixels that are not painted, by the library's own reader of masks."""
    from lanpaint.pictures import read_change

    return read_change(mask, soft=soft)[0, 0] == 0


def _array(picture: Any) -> Any:
    import numpy as np

    array = np.array(picture.convert("RGB") if picture.mode != "L" else picture)
    return array if array.ndim == 3 else array[..., None]


def _watch(number: int, count: int) -> Any:
    bars: list[Any] = []

    def watch(progress: lanpaint.Progress) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if not bars:
            bars.append(comfy.utils.ProgressBar(count * progress.total))
        bars[0].update_absolute(number * progress.total + progress.done)

    return watch


class LanPaintExtension(ComfyExtension):
    """The nodes of this folder."""

    async def get_node_list(self) -> list[Any]:
        """The classes of the nodes."""
        return [LanPaintInpaint]


async def comfy_entrypoint() -> LanPaintExtension:
    """What ComfyUI calls."""
    return LanPaintExtension()
