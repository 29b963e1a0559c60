"""The paper's four masks (LanPaint, Appendix A): boolean tensors of shape (height, width), True where known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def box(height: int, width: int) -> Tensor:
    """The central box, from 1/4 to 3/4 of each side, is unknown; all else is known."""
    return ~outpaint(height, width)


def half(height: int, width: int) -> Tensor:
    """The left half is known, the right half is unknown."""
    known = torch.zeros(height, width, dtype=torch.bool)
    known[:, : width // 2] = True
    return known


def checkerboard(height: int, width: int) -> Tensor:
    """Every second square is known. A square is 1/16 of each side, and at least one pixel."""
    rows = torch.arange(height) // max(1, height // 16)
    columns = torch.arange(width) // max(1, width // 16)
    return (rows[:, None] + columns) % 2 == 0


def outpaint(height: int, width: int) -> Tensor:
    """The central box, from 1/4 to 3/4 of each side, is known; all else is unknown."""
    known = torch.zeros(height, width, dtype=torch.bool)
    known[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return known


MASKS: dict[str, Callable[[int, int], Tensor]] = {
    "box": box,
    "half": half,
    "checkerboard": checkerboard,
    "outpaint": outpaint,
}
