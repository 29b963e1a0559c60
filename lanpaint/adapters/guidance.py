"""Classifier-free guidance with one weight on the known part and another weight on the unknown part.

Let s_c be the score with the prompt and s_u the score without it. Guidance of weight w gives the score of a
distribution p_w,

    s_w = s_u + w (s_c − s_u).

The field of a level (LanPaint, Eq. 12) uses the score at the unknown entries x in one place and the score at the known
entries y in another place. So the two scores may have different weights: w at x and v at y. The level's distribution
is then that of Eq. 11 with p_v in the denominator:

    q ∝ p_w(x | y) p(y | y_o)^(1+λ) / p_v(y)^λ.

*Image first*, v = w: the known part follows the guided model, so the prompt acts on it too.
*Prompt first*, v = 0: the known part follows the model without the prompt. With v = w, the division by p_v(y)^λ pushes
the known part away from the prompt. With v = 0 it does not, so the painted part, which follows the known part, stays
closer to the prompt.

A pipeline computes its guidance itself: it multiplies (s_c − s_u) by a number. :class:`RegionalScale` takes the place
of that number. It is a float, and it multiplies each entry of a tensor by w or by v. A sampler may also ask for an
evaluation without guidance, as the updates of ALM do (arXiv:2606.31323, Sec. 4.1). Then it multiplies by the number
with which the pipeline gives s_c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RegionalScale(float):
    """A pipeline's guidance weight: w at the unknown part of the latents and v at the known part.

    Args:
        scale: w, the guidance weight that the pipeline was given.
        known_scale: v, the guidance weight at the known part, counted as the pipeline counts w; None for w.
        conditional: The weight with which the pipeline gives s_c: 1, but 0 where it adds w (s_c − s_u) to s_c.

    Raises:
        ValueError: For a weight that is no finite number.
    """

    known_scale: float | None
    conditional: float

    def __new__(cls, scale: float, known_scale: float | None = None, conditional: float = 1.0) -> RegionalScale:
        """A float of value w, because pipelines compare and convert their guidance weight."""
        for name, value in (("the guidance scale", scale), ("known_guidance_scale", known_scale)):
            if value is None and name == "known_guidance_scale":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        weight = super().__new__(cls, scale)
        weight.known_scale = None if known_scale is None else float(known_scale)
        weight.conditional = conditional
        weight._known = None
        weight._rows = 0
        weight._guided = lambda: True
        return weight

    _known: Tensor | None
    _rows: int
    _guided: Callable[[], bool]

    def hold(self, known: Tensor, guided: Callable[[], bool] = lambda: True) -> None:
        """Set the known part: boolean, True where known, of the latents' shape.

        ``guided`` tells whether the evaluation that runs is one with guidance.
        """
        self._known, self._guided, self._rows = known, guided, 0

    def was_used(self) -> bool:
        """Whether every row of the batch was guided once since the last call of this method."""
        rows, self._rows = self._rows, 0
        return self.known_scale is None or (self._known is not None and rows == len(self._known))

    def __mul__(self, other: Any) -> Any:
        """The product, with v at known entries of a tensor and w elsewhere; with w alone for numbers.

        A tensor holds all rows of the batch, or the rows that follow those of the last product.
        """
        if not isinstance(other, Tensor) or other.ndim == 0 or self._known is None:
            return float(self) * other
        scale = float(self) if self._guided() else self.conditional
        if self.known_scale is None:
            return scale * other
        known = self._next_rows(other)
        if not self._guided():
            return scale * other
        return torch.where(known, self.known_scale * other, float(self) * other)

    __rmul__ = __mul__

    def _next_rows(self, guided: Tensor) -> Tensor:
        """The known part of the rows in ``guided``, in the shape of ``guided``; these rows then count as guided."""
        assert self._known is not None
        known = self._known[self._rows :]
        if guided.ndim == known.ndim and guided.shape[1] == 2 * known.shape[1]:  # with a learned variance
            known = torch.cat([known, known], dim=1)
        count = guided.numel() // max(known[:1].numel(), 1)
        if count == 0 or count > len(known) or guided.numel() != known[:count].numel():
            raise ValueError(
                f"known_guidance_scale: the pipeline guides tensors of shape {tuple(guided.shape)}; expected the "
                f"latents' shape {tuple(self._known.shape)}; use a network adapter (lanpaint.adapters.networks)"
            )
        self._rows += count
        return known[:count].reshape(guided.shape)
