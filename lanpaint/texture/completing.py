"""What completes a view: by a sampler of a pixel-space score, or by a painter of pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.observation import Observation
from lanpaint.painting import Painter, Settings, Task
from lanpaint.texture.views import View


class BySampler:
    """Completes views by any sampler of this library, without depth.

    Args:
        sampler: A sampler, or what is called as one: ``sampler(observation, generator=…)``.
        device: Where the sampler runs.
    """

    def __init__(self, sampler: Callable[..., Tensor], device: str | torch.device = "cpu") -> None:
        self.sampler, self.device = sampler, device

    def __call__(self, view: View) -> Tensor:
        """The completed view."""
        given = view.observation
        moved = Observation(given.values.to(self.device), given.known.to(self.device))
        return self.sampler(moved, generator=torch.Generator().manual_seed(view.seed))


class ByPainter:
    """Completes views by a painter of a pipeline with a ControlNet for depth.

    Each view is a :class:`~lanpaint.Task`: the view is its picture, what is unknown its mask, and the picture of
    nearness its ``control_image``. Pictures have 8 bits per channel.

    Args:
        painter: The painter, see :func:`~lanpaint.open_painter`.
        prompt: What to paint.
        settings: Whatever is not the default of :class:`~lanpaint.Settings`.

    Attributes:
        evaluations: Evaluations of the model so far.

    Raises:
        ValueError: For a model without a ControlNet, and as the painter.
    """

    def __init__(self, painter: Painter, prompt: str | None = None, settings: Any = ()) -> None:
        self.painter, self.prompt, self.evaluations = painter, prompt, 0
        self.settings = settings if isinstance(settings, Settings) else Settings.of(dict(settings))
        pipe = getattr(getattr(painter, "inpainter", None), "pipe", None)
        if getattr(pipe, "controlnet", None) is None:
            raise ValueError(
                f"{painter.name} has no ControlNet, so it cannot follow the depth of a mesh; give a pipeline that "
                f"has one for depth, or name one by {painter.spelled('controlnet')}"
            )

    def __call__(self, view: View) -> Tensor:
        """The completed view."""
        known, values = view.observation.known[0, 0], view.observation.values[0]
        settings = self.settings.updated({"control_image": view.depth.expand(3, -1, -1)})
        task = Task(((values + 1) / 2).clamp(0, 1), ~known, self.prompt, view.seed, settings)
        result = self.painter.paint(task)
        self.evaluations += result.evaluations
        pixels = torch.from_numpy(np.array(result.picture.convert("RGB"))).permute(2, 0, 1)[None]
        return pixels.float() / 127.5 - 1
