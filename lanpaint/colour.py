"""The colours of a fill matched to its surroundings, where a decoder shifts colours.

What a VAE decodes differs from what it has encoded: by a shift of the colours, and by what it cannot draw. Known pixels
are pasted over it, the fill is not, and a seam is left. On known pixels the difference is known. It is continued into
the hole as a membrane, the solution of Laplace's equation with the difference at the edge as boundary values, and
added to the fill (Pérez et al., 2003, Poisson image editing). So the fill meets the known pixels without a step, and
keeps its own detail.

Measured with emoji-latent on 24 held-out emoji, a box of 24 of 64 pixels, 10 steps: the step across the edge is 26.2 of
255 on average without it, 14.3 with it, and 12.3 in the true pictures; the PSNR in the hole rises from 12.3 to 13.3 dB.
The mean of the difference over the 4 pixels around the hole as one shift leaves 25.4, a Gaussian blur of 4 pixels of it
22.3, and an affine map of each channel 25.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_SMOOTHING = 20  # Jacobi iterations on each level of the pyramid


def membrane(values: Tensor, known: Tensor) -> Tensor:
    """Known values, continued into the unknown part as the solution of Laplace's equation, to a fraction of a percent.

    It is solved from coarse to fine: each level starts from the next coarser one. Beyond the border of the picture the
    membrane is free.

    Args:
        values: (n, C, H, W), floating point.
        known: Boolean, (n, 1, H, W). Where a picture has no known pixel the result is 0.
    """
    share = known.to(values)
    found = torch.where(known, values, 0.0)
    if min(values.shape[-2:]) > 1:
        # A coarse pixel has the mean of the known pixels in it, and is known if there is one.
        coarse, weight = (F.avg_pool2d(t, 2, ceil_mode=True, count_include_pad=False) for t in (found, share))
        coarse = membrane(coarse / weight.clamp(min=1e-6), weight > 0)
        found = torch.where(
            known, values, F.interpolate(coarse, values.shape[-2:], mode="bilinear", align_corners=False)
        )
    for _ in range(_SMOOTHING):
        around = F.pad(found, (1, 1, 1, 1), mode="replicate")
        around = around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
        found = torch.where(known, values, around / 4)
    return found


def matched(made: Tensor, pictures: Tensor, known: Tensor) -> Tensor:
    """The painted pictures with the colours of the fill matched to what surrounds it, clipped to [0, 1].

    Known pixels beside the fill become those of the given pictures, up to rounding.

    Args:
        made: What the pipeline has decoded, (n, C, H, W) in [0, 1], known pixels too.
        pictures: The given pictures, of the same shape.
        known: Boolean, (n, 1, H, W).
    """
    rows, columns = (torch.nonzero((~known).any(0)[0].any(axis))[:, 0].tolist() for axis in (1, 0))
    if not rows:
        return made
    box = (..., slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    shift = membrane((pictures - made)[box], known[box])
    made = made.clone()
    made[box] = (made[box] + shift).clamp(0, 1)
    return made


def match_colour(made: Any, pictures: Tensor, known: Tensor) -> Any:
    """:func:`matched` for the output of a pipeline, of any type: tensors, arrays, images, and lists of frames.

    Args:
        made: Tensors (B, [F,] C, H, W), arrays (B, [F,] H, W, C), a list of PIL images or a list of lists of them.
        pictures: (B, [F,] C, H, W) in [0, 1].
        known: Boolean, (B, [F,] 1, H, W).
    """
    if isinstance(made, Tensor):
        flat = (t.reshape(-1, *t.shape[-3:]) for t in (made.float(), pictures.to(made.device), known.to(made.device)))
        return matched(*flat).reshape(made.shape).to(made.dtype)
    if isinstance(made, np.ndarray):
        tensor = torch.from_numpy(made).movedim(-1, -3)
        return match_colour(tensor, pictures, known).movedim(-3, -1).numpy()
    return [_match_images(image, picture, part) for image, picture, part in zip(made, pictures, known, strict=True)]


def _match_images(made: Any, pictures: Tensor, known: Tensor) -> Any:
    from PIL import Image

    if isinstance(made, (list, tuple)):
        return [_match_images(image, picture, part) for image, picture, part in zip(made, pictures, known, strict=True)]
    array = np.array(made)
    values = torch.from_numpy(array).float().reshape(*array.shape[:2], -1).movedim(-1, 0) / 255
    values = (matched(values[None], pictures[None], known[None])[0] * 255).round().to(torch.uint8)
    return Image.fromarray(values.movedim(0, -1).reshape(array.shape).numpy(), made.mode)
