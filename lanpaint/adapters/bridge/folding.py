"""Latents that a pipeline steps in another form than it prepares them: frames first, or folded into the batch."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


class Folding:
    """The form in which a pipeline steps its latents.

    Args:
        axes: The order of the axes in it, the batch first; empty where it is the form of the latents.
        batch: Size of the batch, where the second axis is folded into it; else 0.
    """

    def __init__(self, axes: tuple[int, ...] = (), batch: int = 0) -> None:
        self._axes, self._batch = axes, batch

    @staticmethod
    def of(latents: Tensor, stepped: Tensor) -> Folding | None:
        """The folding that makes of the latents what is stepped; None where there is none.

        Args:
            latents: The latents that a pipeline has prepared, (B, channels, frames, height, width) for example.
            stepped: What it has given its scheduler: (B, frames, channels, …) or (B · frames, channels, …) for example.
        """
        if latents.shape == stepped.shape and torch.equal(latents.to(stepped), stepped):
            return Folding()
        if stepped.numel() != latents.numel():
            return None
        batch = len(latents) if stepped.ndim < latents.ndim else 0
        for others in itertools.permutations(range(1, latents.ndim)):
            folding = Folding((0, *others), batch)
            folded = folding.fold(latents)
            if folded.shape == stepped.shape and torch.equal(folded.to(stepped), stepped):
                return folding
        return None

    @staticmethod
    def of_halves(stepped: Tensor, output: Tensor) -> Folding:
        """The folding of a pipeline that steps its batch twice over, for its guidance, with twice the same output."""
        half = len(stepped) // 2
        twice = half and all(torch.equal(one[:half], one[half:]) for one in (stepped, output[:, : stepped.shape[1]]))
        return _Twice() if twice else Folding()

    def fold(self, latents: Tensor) -> Tensor:
        """Latents, or a model output for them, as they are stepped."""
        if not self._axes:
            return latents
        ordered = latents.permute(self._axes)
        return ordered.flatten(0, 1) if self._batch else ordered

    def unfold(self, stepped: Tensor) -> Tensor:
        """The inverse of :meth:`fold`."""
        if not self._axes:
            return stepped
        ordered = stepped.unflatten(0, (self._batch, -1)) if self._batch else stepped
        return ordered.permute([self._axes.index(axis) for axis in range(ordered.ndim)])


class _Twice(Folding):
    """The batch, and the batch again."""

    def fold(self, latents: Tensor) -> Tensor:
        return torch.cat([latents, latents])

    def unfold(self, stepped: Tensor) -> Tensor:
        return stepped[: len(stepped) // 2]
