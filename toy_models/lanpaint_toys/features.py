"""Features of small colour pictures, for comparing sets of pictures.

The features come from the encoder of `emoji-latent`'s autoencoder, which was trained to reconstruct emoji of the
training families. They are the 64 channels of its middle block, each averaged over the cells of a 4x4 grid. They
describe edges, colours and shapes, and their positions. Nobody has measured how well they describe pictures other than
emoji.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint_toys.shipped import weights_folder

FOLDER = weights_folder("emoji-latent") / "vqvae"
SIDE, GRID = 64, 4
_CHUNK = 32


@torch.no_grad()
def picture_features(images: Tensor) -> Tensor:
    """Return the features of pictures. The pictures are resized to 64 pixels a side first.

    Args:
        images: ``(N, 3, S, S)`` in [-1, 1]; values outside are clamped.

    Returns:
        ``(N, 1024)``, not normalised.
    """
    encoder = _encoder()
    parts = []
    for part in images.detach().float().cpu().clamp(-1, 1).split(_CHUNK):
        part = F.interpolate(part, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        hidden = encoder.conv_in(part)
        for block in encoder.down_blocks:
            hidden = block(hidden)
        hidden = encoder.mid_block(hidden)
        parts.append(F.avg_pool2d(hidden, hidden.shape[-1] // GRID))
    return torch.cat(parts).flatten(1)


@cache
def _encoder() -> Any:
    from lanpaint_toys.trained import load_autoencoder

    return load_autoencoder(FOLDER).encoder
