"""Overlapping windows that cover a canvas, over any axes: width, height, time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.checks import check_whole

Part = tuple[slice, ...]
"""Where a window lies: one slice for each axis of the canvas, the batch included."""


def starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows along one axis begin. The last one ends with the canvas, so it may overlap more.

    Example:
        >>> starts(20, 8, 2)
        [0, 6, 12]
        >>> starts(21, 8, 2)
        [0, 6, 12, 13]
    """
    stride = window - overlap
    regular = list(range(0, length - window + 1, stride))
    return regular if regular[-1] == length - window else [*regular, length - window]


def shifted_starts(length: int, window: int) -> list[int]:
    """Where windows that do not overlap begin, shifted by half of a window; those at the ends overlap their neighbours.

    Example:
        >>> shifted_starts(20, 8)
        [0, 4, 12]
    """
    return sorted({0, *range(window // 2, length - window + 1, window), length - window})


@dataclass(frozen=True)
class Tiling:
    """Windows of one size, each of which overlaps its neighbours.

    Args:
        window: Entries of a window along the last axes of the canvas: a number for the last axis, or one number for
            each of several last axes. None is a whole axis.
        overlap: Entries that neighbours share: one number for all axes, or one for each.
        shifted: Whether the windows are shifted by half of a window, as :func:`shifted_starts` has them; only for an
            overlap of 0.

    Raises:
        ValueError: For a window below 1, and an overlap below 0 or not below the window.
    """

    window: int | Sequence[int | None]
    overlap: int | Sequence[int]
    shifted: bool = False

    def __post_init__(self) -> None:
        sizes = (self.window,) if not isinstance(self.window, Sequence) else tuple(self.window)
        overlaps = tuple(self.overlap) if isinstance(self.overlap, Sequence) else (self.overlap,) * len(sizes)
        if len(sizes) != len(overlaps):
            raise ValueError(f"overlap must be a number, or one for each of {len(sizes)} axes; got {len(overlaps)}")
        for size, overlap in zip(sizes, overlaps, strict=True):
            if size is not None:
                check_whole("window", size, least=1)
            check_whole("overlap", overlap, least=0)
            if size is not None and overlap >= size:
                raise ValueError(f"the overlap must be below the window, got {overlap} of {size}")
        if self.shifted and any(overlaps):
            raise ValueError(f"shifted windows have the overlap 0, got {overlaps}")
        object.__setattr__(self, "window", sizes)
        object.__setattr__(self, "overlap", overlaps)

    @property
    def axes(self) -> list[tuple[int, int, int]]:
        """Axis (from −1 down), window and overlap of each axis that has windows."""
        assert isinstance(self.window, tuple)
        assert isinstance(self.overlap, tuple)
        each = zip(range(-len(self.window), 0), self.window, self.overlap, strict=True)
        return [(axis, size, overlap) for axis, size, overlap in each if size is not None]

    def parts(self, shape: Sequence[int]) -> list[Part]:
        """The windows of a canvas of ``shape`` (B, …), in the order of its entries.

        Raises:
            ValueError: For a canvas smaller than a window, or with fewer axes.
        """
        ranges = {}
        for axis, size, overlap in self.axes:
            if len(shape) <= -axis:
                raise ValueError(f"the canvas must have more than {-axis} axes, the batch first; got {tuple(shape)}")
            if shape[axis] < size:
                raise ValueError(
                    f"the window ({size}) is larger than the canvas ({shape[axis]}) along axis {axis}; "
                    "give a larger canvas, or a smaller window"
                )
            begins = shifted_starts(shape[axis], size) if self.shifted else starts(shape[axis], size, overlap)
            ranges[axis] = [slice(at, at + size) for at in begins]
        whole = [ranges.get(axis, [slice(None)]) for axis in range(-len(shape), 0)]
        return list(itertools.product(*whole))

    def count(self, shape: Sequence[int]) -> Tensor:
        """How many windows cover each entry of a canvas, float, shape (1, …)."""
        covered = torch.zeros(1, *shape[1:])
        for part in self.parts(shape):
            covered[part] += 1
        return covered
