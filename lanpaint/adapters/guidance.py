"""Classifier-free guidance of one weight on what is known, and of another on what is painted.

With the scores s_u without and s_c with the prompt, guidance of weight w has the score of a law p_w,

    s_w = s_u + w (s_c − s_u).

The field of a level (LanPaint, Eq. 12) reads the unknown part's score in the one place and the known part's in the
other. So they may be of laws with different weights, w and v, and the level's law is that of Eq. 11 with p_v below:

    q ∝ p_w(x | y) p(y | y_o)^(1+λ) / p_v(y)^λ.

*Image first*, v = w: what is known answers to what is painted as the guided model has it, the prompt's pull included.
*Prompt first*, v = 0: it answers as the model without the prompt has it. What is known is then not pushed away from the
prompt for being drawn to it, so that the painted part, which follows, keeps closer to the prompt.

A pipeline guides its own network. What is handed to it here in place of a number *is* that number, and multiplies
(s_c − s_u) by one weight or the other, entry by entry.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class RegionalScale(float):
    """A pipeline's weight of guidance that is another one on the known part of the latents.

    Args:
        scale: w, the pipeline's own.
        known_scale: v, on the known part, as the pipeline counts its weights.

    Raises:
        ValueError: For a weight that is no finite number.
    """

    known_scale: float

    def __new__(cls, scale: float, known_scale: float) -> RegionalScale:
        """A float, for every question that a pipeline asks of it."""
        for name, value in (("the guidance scale", scale), ("known_guidance_scale", known_scale)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        own = super().__new__(cls, scale)
        own.known_scale = float(known_scale)
        own._known = None
        own._rows = 0
        return own

    _known: Tensor | None
    _rows: int

    def hold(self, known: Tensor) -> None:
        """Where what is known lies: boolean, of the latents' shape."""
        self._known, self._rows = known, 0

    def was_used(self) -> bool:
        """Whether every row of the batch was guided once since this was last asked."""
        rows, self._rows = self._rows, 0
        return self._known is not None and rows == len(self._known)

    def __mul__(self, other: Any) -> Any:
        """Times a tensor as a pipeline guides it, all rows of the batch or the next ones; else a number's product."""
        if not isinstance(other, Tensor) or other.ndim == 0 or self._known is None:
            return float(self) * other
        known = self._next_rows(other)
        return torch.where(known, self.known_scale * other, float(self) * other)

    __rmul__ = __mul__

    def _next_rows(self, guided: Tensor) -> Tensor:
        assert self._known is not None
        known = self._known[self._rows :]
        if guided.ndim == known.ndim and guided.shape[1] == 2 * known.shape[1]:  # with a learned variance
            known = torch.cat([known, known], dim=1)
        count = guided.numel() // max(known[:1].numel(), 1)
        if count == 0 or count > len(known) or guided.numel() != known[:count].numel():
            raise ValueError(
                f"the pipeline guides tensors of shape {tuple(guided.shape)}, not of its latents' "
                f"{tuple(self._known.shape)}; use a network adapter (lanpaint.adapters.networks) for "
                "known_guidance_scale"
            )
        self._rows += count
        return known[:count].reshape(guided.shape)
