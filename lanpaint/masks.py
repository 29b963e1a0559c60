"""Masks: the paper's four (LanPaint, Appendix A), and what a person does to a mask.

The paper's are boolean tensors of shape (height, width), True where known. All else here takes and returns how much may
change, float32 from 0 (known) to 1 (painted), shape (…, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_SHADES = 64  # of a grey mask; a run has fewer levels than that


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


def by_shade(rule: Callable[[Tensor], Tensor], change: Tensor) -> Tensor:
    """A rule for what is known, applied to how much may change: where the rule says "known" only below a shade, to it.

    Args:
        rule: Function of what is known (boolean, shape of ``change``) that returns what is known elsewhere: in latents
            or in another size. The more is known, the more it must return as known.
        change: How much may change.

    Returns:
        How much may change there, float32 in the shape that the rule returns. Of more than 64 shades, neighbours are
        put together.
    """
    shades = change.unique()
    if len(shades) > _SHADES:
        change = (change * _SHADES).ceil() / _SHADES
        shades = change.unique()
    changed: Tensor | None = None
    for shade in shades.tolist():
        if shade or len(shades) == 1:
            known = rule(change < shade if shade else torch.ones_like(change, dtype=torch.bool))
            changed = torch.zeros(known.shape, device=known.device) if changed is None else changed
            changed = torch.where(known, changed, shade or 1.0)
    assert changed is not None
    return changed


def edited(change: Tensor, grow: int = 0, blur: float = 0.0, invert: bool = False) -> Tensor:
    """A mask that is inverted, then grown, then blurred.

    Args:
        change: How much may change.
        grow: Pixels by which what may change grows in all directions, at most 1000; below 0 it shrinks.
        blur: Standard deviation in pixels of a Gaussian blur, at most 1000. Pixels that are further than three of it
            from the edge of what may change stay as they are.
        invert: Whether black and white change places.

    Raises:
        ValueError: For a ``grow`` that is not a whole number and a ``blur`` that is negative or not finite, and for
            those beyond 1000.
    """
    check_edits(grow, blur)
    change = 1 - change if invert else change
    if grow:
        change = by_shade(lambda known: _grown(known, grow), change)
    return _blurred(change, blur) if blur else change


def check_edits(grow: int, blur: float) -> None:
    """Raise ValueError as :func:`edited`."""
    if isinstance(grow, bool) or not isinstance(grow, int) or abs(grow) > 1000:
        raise ValueError(f"grow must be a whole number of pixels from −1000 to 1000, got {grow!r}")
    if isinstance(blur, bool) or not isinstance(blur, (int, float)) or not 0 <= blur <= 1000:
        raise ValueError(f"blur must be a number of pixels from 0 to 1000, got {blur!r}")


def _grown(known: Tensor, pixels: int) -> Tensor:
    """What is known, without all that is within ``pixels`` of what is painted; below 0, with what it shrinks by."""
    from scipy.ndimage import distance_transform_edt

    pictures = (known if pixels > 0 else ~known).reshape(-1, *known.shape[-2:]).numpy()
    grown = torch.zeros(pictures.shape, dtype=torch.bool)
    for index, picture in enumerate(pictures):
        # Where all is of one kind the distance has no meaning: nothing is near to anything else.
        far = math.inf if picture.all() else distance_transform_edt(picture)
        grown[index] = torch.as_tensor(far > abs(pixels))
    grown = grown.reshape(known.shape)
    return grown if pixels > 0 else ~grown


def _blurred(change: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur, cut off at three standard deviations; beyond the border the mask goes on as at the border."""
    from scipy.ndimage import gaussian_filter1d

    blurred = change.double().numpy()
    for axis in (-2, -1):
        blurred = gaussian_filter1d(blurred, deviation, axis=axis, mode="nearest", truncate=3.0)
    return torch.from_numpy(blurred).float().clamp(0, 1)
