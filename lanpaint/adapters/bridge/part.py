"""The part of its latents that a pipeline steps, where the rest stays as it was prepared.

A pipeline that begins with a picture may keep that picture in its latents, as their first frame or in channels of its
own, and give its scheduler the rest alone. The sampler's state is then the rest.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lanpaint.adapters.bridge.run import KnownPart
from lanpaint.observation import Observation


class Part:
    """Which entries of a pipeline's latents are stepped.

    Args:
        latents: Shape of the latents of a sample.
        stepped: Shape of what is stepped of a sample.
        source: For each entry that is stepped, its place in the latents.
    """

    def __init__(self, latents: tuple[int, ...], stepped: tuple[int, ...], source: Tensor) -> None:
        self._latents, self._stepped, self._source = latents, stepped, source

    @property
    def latents(self) -> torch.Size:
        """Shape of the latents, of a batch of 1."""
        return torch.Size((1, *self._latents))

    @staticmethod
    def of(latents: Tensor, stepped: Tensor) -> Part | None:
        """The part that is stepped; None where it is none, or where its values leave a choice.

        Args:
            latents: The latents that a pipeline holds, (B, …).
            stepped: What it has given its scheduler, (B, …), of fewer entries.
        """
        if len(latents) != len(stepped) or stepped.numel() >= latents.numel():
            return None
        whole = tuple(latents.shape[1:])
        places = torch.arange(latents[0].numel(), device=latents.device).reshape(whole)
        candidates = [*_corners(places, tuple(stepped.shape[1:])), _places_by_value(latents[0], stepped[0])]
        for source in candidates:
            if source is not None:
                part = Part(whole, tuple(stepped.shape[1:]), source.flatten())
                if torch.equal(part.take(latents).to(stepped), stepped):
                    return part
        return None

    def is_of(self, stepped: Tensor) -> bool:
        """Whether what is stepped has the shape of this part; a pipeline may step other parts later."""
        return tuple(stepped.shape[1:]) == self._stepped

    def take(self, latents: Tensor) -> Tensor:
        """What is stepped of latents (B, …)."""
        return latents.flatten(1)[:, self._source.to(latents.device)].reshape(-1, *self._stepped)

    def of_known(self, known: KnownPart) -> KnownPart:
        """The same known part, of what is stepped. One that was given for what is stepped stays as it is."""

        def observe(stepped: Tensor) -> Observation:
            whole = known(stepped.new_zeros(len(stepped), *self._latents)) if callable(known) else known
            if not isinstance(whole, Observation) or tuple(whole.shape[1:]) != self._latents:
                return whole  # type: ignore[return-value]  # refused where it does not fit what is stepped
            taken = self.take(whole.values), self.take(whole.known.expand(whole.shape))
            change = None if whole.change is None else self.take(whole.change.expand(whole.shape))
            return whole.like(*taken, change, whole.rearranged_noise(self.take))

        return None if known is None else observe


def _corners(places: Tensor, stepped: tuple[int, ...]) -> list[Tensor]:
    """The parts of a size at the corners of the latents."""
    if places.ndim != len(stepped) or any(part > size for size, part in zip(places.shape, stepped, strict=True)):
        return []
    starts = [sorted({0, size - part}) for size, part in zip(places.shape, stepped, strict=True)]
    corners = []
    for corner in itertools.product(*starts):
        slices = tuple(slice(start, start + part) for start, part in zip(corner, stepped, strict=True))
        corners.append(places[slices])
    return corners


def _places_by_value(latents: Tensor, stepped: Tensor) -> Tensor | None:
    """Where each value that is stepped lies in the latents; None where a value is not there, or is there twice."""
    values, order = latents.flatten().to(stepped.dtype).sort()
    wanted = stepped.flatten().contiguous()
    found = torch.searchsorted(values, wanted).clamp(max=len(values) - 1)
    last = (torch.searchsorted(values, wanted, right=True) - 1).clamp(min=0)
    there = (values[found] == wanted) & (found == last)
    return order[found] if bool(there.all()) else None
