"""Views in the latents of a pipeline: the texture that is handed on from view to view has latents for texels.

Nothing is decoded and encoded again between views. At the end each view is decoded, and
:func:`~lanpaint.texture.bake_views` bakes the texture of colours (ALM, Appendix B.4: 1536² latents, then 1024² texels).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lanpaint.painting import Task
from lanpaint.painting.pipeline import PipelinePainter
from lanpaint.texture.completing import ByPainter
from lanpaint.texture.surface import Surface
from lanpaint.texture.views import View, depth_picture


class ByLatents(ByPainter):
    """Completes views of latents by a pipeline with a ControlNet for depth, as windows of a :class:`~lanpaint.Chain`.

    A cell of the latents shows the point of the surface at its middle.

    Args:
        surface: The surface, which the picture of nearness shows.
        painter: The painter of a pipeline.
        side: Height and width of a view in pixels.
        prompt: What to paint.
        settings: As in :class:`~lanpaint.texture.ByPainter`.

    Attributes:
        cells: Shape of a view, (channels, height, width).

    Raises:
        ValueError: As :class:`~lanpaint.texture.ByPainter` and :class:`~lanpaint.PipelineWindow`.
    """

    def __init__(
        self, surface: Surface, painter: PipelinePainter, side: int, prompt: str | None = None, settings: Any = ()
    ) -> None:
        super().__init__(painter, prompt, settings)
        self.surface, self.side = surface, side
        self._window = self._of(torch.zeros(1, side, side), 0)
        self.cells: tuple[int, ...] = self._window.cells

    def _of(self, depth: Tensor, seed: int) -> Any:
        settings = self.settings.updated({"control_image": depth.expand(3, -1, -1)})
        task = Task(None, None, self.prompt, seed, settings)
        return self.painter.window(task, (self.side, self.side))  # type: ignore[attr-defined]

    def __call__(self, view: View) -> Tensor:
        """The completed latents."""
        hits = self.surface.hit(view.camera, self.side, self.side)
        self._window = self._of(depth_picture(hits, self.side), view.seed)
        made = self._window(view.observation, generator=torch.Generator().manual_seed(view.seed))
        self.evaluations += self._window.evaluations
        return made

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures of latents (V, channels, height, width), in [−1, 1], shape (V, 3, side, side)."""
        with torch.no_grad():
            return torch.cat([2 * self._window.decode(one).cpu().clamp(0, 1) - 1 for one in latents.split(1)])
