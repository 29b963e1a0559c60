"""Previews of a run: every few outer steps, the picture that the model expects.

Latents are not decoded for that, which would take as long as some evaluations. The given picture and its latents are
pairs of colours and latent vectors, one for each cell. A linear map that fits these pairs turns x̂₀ into small
pictures. So it needs no numbers of a family of models, and costs next to nothing. It is as coarse as the cells, and
colours that the given picture does not have are a guess.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.callbacks import Callback, RunningSampler
from lanpaint.checks import check_whole
from lanpaint.sampler_state import SamplerState

# Weight of the ridge in the fit, for latents of variance 1: a picture may have fewer cells than channels.
_RIDGE = 1e-3


class Preview(Callback):
    """Shows what the model expects, every few outer steps. :class:`~lanpaint.Inpainter` takes it as ``preview``.

    As a callback of a sampler of its own it shows x̂₀ as it is, with the known entries set to the observation.

    Args:
        show: Is called as ``show(pictures, step)``: pictures in [0, 1], shape (n, C, H, W), and the number of outer
            steps that were made, from 1. It must not change the pictures.
        every: Outer steps between two previews.

    Raises:
        TypeError: For a ``show`` that is no function.
        ValueError: For ``every`` below 1.
    """

    def __init__(self, show: Callable[[Tensor, int], Any], every: int = 5) -> None:
        if not callable(show):
            raise TypeError(f"show must be a function of pictures and a step, got {type(show).__name__}")
        check_whole("every", every, least=1)
        self.show, self.every = show, every

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Shows x̂₀ if it is time for it."""
        if (state.step + 1) % self.every == 0 and state.denoised is not None:
            self.show(state.observation.finish(state.denoised), state.step + 1)

    def through(self, picture_of: Callable[[Tensor], Tensor]) -> Preview:
        """A preview that shows ``picture_of(x̂₀)``."""
        return Preview(lambda denoised, step: self.show(picture_of(denoised), step), self.every)


class LinearDecoder:
    """Latents of any layout as small pictures, by a linear map that fits one picture and its latents.

    Args:
        layout: The layout of a pipeline.
        pictures: (n, C, H, W) in [0, 1].
        latents: Latents of the pipeline, whose shape is used.
    """

    def __init__(self, layout: Any, pictures: Tensor, latents: Tensor) -> None:
        encoded = layout.encode(pictures[:1])
        rows, columns = self.cells = tuple(encoded.shape[-2:])
        self.size = tuple(pictures.shape[-2:])
        probe = copy.copy(layout)
        probe.encode = lambda _: encoded
        one = pictures[:1]

        def known(cells: Tensor) -> Tensor:
            change = F.interpolate((~cells).float().expand(1, 1, rows, columns), self.size, mode="nearest")
            observation = probe.observation(one, change, latents[:1])
            return observation.known.expand(observation.shape).flatten().cpu()

        # The number of each entry's cell, read off bit by bit.
        numbers = torch.arange(rows * columns).reshape(1, 1, rows, columns)
        cell = torch.zeros(latents[0].numel(), dtype=torch.long)
        for bit in range(max(1, math.ceil(math.log2(rows * columns)))):
            cell += known((numbers >> bit) % 2 == 1).long() << bit
        self.order = cell.argsort(stable=True)
        whole = probe.observation(one, torch.zeros(1, 1, *self.size), latents[:1]).values
        vectors = self._vectors(whole)[0]
        colours = F.adaptive_avg_pool2d(one, self.cells)[0].flatten(1).mT.to(vectors)
        self.middle, self.colour = vectors.mean(0), colours.mean(0)
        self.spread = vectors.std(0).clamp(min=1e-12)
        vectors = (vectors - self.middle) / self.spread
        square = vectors.mT @ vectors + _RIDGE * len(vectors) * torch.eye(vectors.shape[1], dtype=vectors.dtype)
        self.map = torch.linalg.solve(square, vectors.mT @ (colours - self.colour))

    def _vectors(self, latents: Tensor) -> Tensor:
        """(B, cells, channels) of latents: the vector of each cell."""
        flat = latents.flatten(1).cpu().double()[:, self.order]
        return flat.reshape(len(flat), self.cells[0] * self.cells[1], -1)

    def __call__(self, latents: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [0, 1] of latents (B, …)."""
        colours = (self._vectors(latents) - self.middle) / self.spread @ self.map + self.colour
        colours = colours.mT.reshape(len(latents), -1, *self.cells).float()
        return F.interpolate(colours.clamp(0, 1), self.size, mode="nearest")
