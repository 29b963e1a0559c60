"""Windows of three real textures: brick, grass and gravel, which come with scikit-image.

The pictures are 512x512 grey photographs (CC0, from CC0Textures and DeviantArt; see the docstrings of
`skimage.data.brick`, `grass` and `gravel`). Each is halved to 256x256 and brought to mean 0 and standard deviation 0.5.
No model trains on the right quarter of a texture, which is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

NAMES = ("brick", "grass", "gravel")

WINDOW = 64
"""Side in pixels of the windows that a model trains on."""

_TRAINING_COLUMNS = 192


def load_textures(split: Literal["train", "test", "all"] = "all") -> Tensor:
    """Return the textures, brick, grass and gravel in this order.

    Args:
        split: ``"train"`` for the left three quarters, ``"test"`` for the right quarter, ``"all"`` for the whole.

    Returns:
        ``(3, 1, 256, W)`` with W = 192, 64 or 256; float32 in [-1, 1], of mean 0 and standard deviation 0.5 before
        values beyond ±1 are clamped.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed.
        ValueError: For an unknown split.
    """
    from skimage import data

    parts = {"train": slice(0, _TRAINING_COLUMNS), "test": slice(_TRAINING_COLUMNS, None), "all": slice(None)}
    if split not in parts:
        raise ValueError(f"split is {split!r}, expected one of {', '.join(parts)}")
    pictures = torch.stack([torch.from_numpy(getattr(data, name)()).float() for name in NAMES]).unsqueeze(1)
    halved = torch.nn.functional.avg_pool2d(pictures, 2)
    centred = halved - halved.mean((2, 3), keepdim=True)
    scaled = 0.5 * centred / centred.square().mean((2, 3), keepdim=True).sqrt()
    return scaled.clamp(-1, 1)[..., parts[split]].contiguous()


def grid_windows(textures: Tensor, stride: int = WINDOW) -> Tensor:
    """Return all windows on a grid, ``(N, 1, 64, 64)``, of textures ``(3, 1, H, W)``; one texture after the other."""
    windows = textures.unfold(2, WINDOW, stride).unfold(3, WINDOW, stride)
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 1, WINDOW, WINDOW)


@dataclass(frozen=True)
class RandomWindows:
    """Windows at uniform places of textures, each mirrored left to right with probability one half.

    Attributes:
        textures: ``(N, 1, H, W)``.
    """

    textures: Tensor

    @cached_property
    def images(self) -> Tensor:
        """Windows on a grid, ``(M, 1, 64, 64)``: they name the data, and a draw takes other windows."""
        return grid_windows(self.textures)

    def draw(self, count: int) -> Tensor:
        """Return ``(count, 1, 64, 64)``, drawn with PyTorch's global random numbers."""
        number, _, height, width = self.textures.shape
        which = torch.randint(number, (count,))
        top, left = (torch.randint(side - WINDOW + 1, (count,)) for side in (height, width))
        mirrored = torch.rand(count) < 0.5
        windows = [
            self.textures[n, :, t : t + WINDOW, u : u + WINDOW] for n, t, u in zip(which, top, left, strict=True)
        ]
        return torch.stack([w.flip(-1) if m else w for w, m in zip(windows, mirrored, strict=True)])
