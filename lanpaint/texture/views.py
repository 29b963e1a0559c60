"""The loop over views: each completes what the views before it left, and the texture is baked from all (ALM, B.4).

.. code-block:: python

    from lanpaint import texture

    surface = texture.Surface(texture.read_mesh("chair.obj"), size=1024)
    painted = texture.paint_surface(surface, texture.ByPainter(painter, prompt="a wooden chair"), side=768)
    texture.write_glb("chair.glb", surface.mesh, painted.texture)

What completes a view is any function of a :class:`View`, so the loop knows nothing of samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lanpaint.checks import check_between, check_whole
from lanpaint.observation import Observation
from lanpaint.texture.baking import Pixels, bake
from lanpaint.texture.cameras import Camera, paper_cameras
from lanpaint.texture.filling import filled
from lanpaint.texture.rays import Hits
from lanpaint.texture.surface import Surface

_WHOLE = 1 - 1e-6  # share of a pixel's four texels that views must have painted, for the pixel to be known
_MOST_SIDE = 8192  # pixels of a view; more is a slip
_FARTHEST = 0.1  # depth picture of the farthest visible point; the background is 0


@dataclass(frozen=True)
class View:
    """A view that is to be completed.

    Attributes:
        number: Which view it is, from 0.
        camera: The camera.
        observation: The view as far as it is known, in [−1, 1], shape (1, C, H, W); all channels of a pixel are known
            or none.
        depth: Nearness for a depth-conditioned ControlNet: 1 at the nearest point and less beyond, in proportion to
            1/depth, and 0 at the background. Shape (1, H, W).
        seed: Seed of this view's random numbers.
    """

    number: int
    camera: Camera
    observation: Observation
    depth: Tensor
    seed: int


Complete = Callable[[View], Tensor]


@dataclass(frozen=True)
class Painted:
    """What the loop made.

    Attributes:
        texture: The texture, shape (C, N, N), the first row at v = 1. Nothing clamps it.
        seen: Which texels of charts a view has painted, shape (N, N). The others are filled from these.
        cameras: The camera of each view.
        pictures: The completed views, shape (V, C, H, W). A view in which all was known shows the texture so far.
        fresh: Which pixels each view painted, of those that show the surface, shape (V, 1, H, W).
    """

    texture: Tensor
    seen: Tensor
    cameras: tuple[Camera, ...]
    pictures: Tensor
    fresh: Tensor

    @property
    def painted_views(self) -> int:
        """Number of views in which anything was painted."""
        return int(self.fresh.flatten(1).any(1).sum())


def paint_surface(
    surface: Surface,
    complete: Complete,
    cameras: Sequence[Camera] | None = None,
    *,
    side: int = 768,
    channels: int = 3,
    background: Sequence[float] | None = None,
    widest_angle: float = 75.0,
    smoothness: float = 1e-3,
    seed: int = 0,
    on_view: Callable[[int, int], None] | None = None,
) -> Painted:
    """Paint a texture, view after view.

    Args:
        surface: The surface and the size of its texture.
        complete: Completes a view: takes a :class:`View` and returns values of the shape (1, C, H, W). Known pixels of
            what it returns are not used. :class:`~lanpaint.texture.BySampler` and
            :class:`~lanpaint.texture.ByPainter` do.
        cameras: The views in their order; None for the ten of the paper, :func:`paper_cameras`.
        side: Height and width of a view; 768 in the paper.
        channels: Channels C of the texture.
        background: Value of each channel beside the mesh, which each view is then given as known. None lets each view
            paint a background, which is not used.
        widest_angle: Pixels that show the surface at a larger angle from its normal, in degrees, are painted but not
            kept: a later view paints them better.
        smoothness: As in :func:`~lanpaint.texture.baking.bake`.
        seed: Seed of the first view; each view has the next.
        on_view: Is called with the number of views that are done and of all.

    Raises:
        TypeError, ValueError: For settings that are not allowed, for values of another shape or that are not finite,
            and when no view shows the surface.
    """
    cameras = paper_cameras() if cameras is None else tuple(cameras)
    if not cameras:
        raise ValueError("cameras is empty; give at least one view")
    check_whole("the side of a view", side, least=2, most=_MOST_SIDE)
    check_whole("channels", channels, least=1)
    cosine = float(np.cos(np.deg2rad(check_between("widest_angle", widest_angle, 0, 90))))
    if background is not None and len(background) != channels:
        raise ValueError(f"background must have {channels} values, one for each channel, got {len(background)}")
    beside = np.zeros(channels) if background is None else np.asarray(background, dtype=np.float64)
    seen, decided = (np.zeros(surface.size**2, dtype=bool) for _ in range(2))
    texture = np.zeros((surface.size**2, channels))
    pixels: list[Pixels] = []
    pictures, painted = [], []
    for number, camera in enumerate(cameras):
        hits = surface.hit(camera, side, side)
        reading = surface.reading(hits)
        known = reading @ (decided | decided[surface.nearest]).astype(np.float64) >= _WHOLE
        fresh = hits.found & ~known & (hits.cosine >= cosine)
        values = np.where(hits.found[:, None], reading @ texture, beside)
        if bool(fresh.any()):
            given = known | (~hits.found & (background is not None))
            observation = Observation(_picture(values, side), _picture(given[:, None], side).bool())
            view = View(number, camera, observation, depth_picture(hits, side), (seed + number) % 2**32)
            values = _completed(complete, view)
            pixels.append(Pixels(reading[fresh], values[fresh], hits.cosine[fresh] ** 2))
            seen = seen | surface.seen(camera, cosine)
            texture, decided = bake(surface, pixels, seen, smoothness)
        pictures.append(_picture(values, side))
        painted.append(_picture(fresh[:, None], side).bool())
        if on_view is not None:
            on_view(number + 1, len(cameras))
    if not pixels:
        raise ValueError(
            f"no view of {side}×{side} pixels shows the surface at less than {widest_angle:g}° from its normal; give "
            "other cameras, more pixels, or a wider angle"
        )
    return _painted(surface, texture, decided, cameras, torch.cat(pictures), torch.cat(painted))


def bake_views(
    surface: Surface,
    cameras: Sequence[Camera],
    pictures: Tensor,
    *,
    widest_angle: float = 75.0,
    smoothness: float = 1e-3,
) -> Painted:
    """A texture from finished pictures of all views. Where views differ it is their mean, weighted by the cosine².

    Args:
        surface: The surface and the size of its texture.
        cameras: The camera of each view.
        pictures: The views, shape (V, C, H, H).
        widest_angle: As in :func:`paint_surface`.
        smoothness: As in :func:`~lanpaint.texture.baking.bake`.

    Raises:
        ValueError: When no view shows the surface.
    """
    side, cosine = pictures.shape[-1], float(np.cos(np.deg2rad(check_between("widest_angle", widest_angle, 0, 90))))
    pixels, shown, seen = [], [], np.zeros(surface.size**2, dtype=bool)
    for camera, picture in zip(cameras, pictures, strict=True):
        hits = surface.hit(camera, side, side)
        fresh = hits.found & (hits.cosine >= cosine)
        values = picture.double().reshape(len(picture), -1).T.numpy()
        pixels.append(Pixels(surface.reading(hits)[fresh], values[fresh], hits.cosine[fresh] ** 2))
        seen = seen | surface.seen(camera, cosine)
        shown.append(_picture(fresh[:, None], side).bool())
    texture, decided = bake(surface, pixels, seen, smoothness)
    return _painted(surface, texture, decided, cameras, pictures, torch.cat(shown))


def _painted(
    surface: Surface,
    texture: np.ndarray,
    decided: np.ndarray,
    cameras: Sequence[Camera],
    pictures: Tensor,
    fresh: Tensor,
) -> Painted:
    """The record, with the texture filled where no view has painted."""
    square = (surface.size, surface.size)
    texture = filled(surface, texture, decided)
    return Painted(
        torch.from_numpy(texture.T.reshape(-1, *square).copy()).float(),
        torch.from_numpy((decided & surface.chart).reshape(square)),
        tuple(cameras), pictures, fresh,
    )  # fmt: skip


def _picture(values: np.ndarray, side: int) -> Tensor:
    """Values of the pixels (side², C) as float32 (1, C, side, side)."""
    return torch.from_numpy(values.T.reshape(1, -1, side, side).astype(np.float32))


def _completed(complete: Complete, view: View) -> np.ndarray:
    """The values of a completed view, shape (H·W, C)."""
    made, expected = complete(view), view.observation.values.shape
    if not isinstance(made, Tensor) or made.shape != expected:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"a completed view must have the shape {tuple(expected)}, got {got}")
    if not bool(torch.isfinite(made).all()):
        raise ValueError(f"view {view.number + 1} was completed with values that are not finite")
    return made.detach().cpu().double().reshape(expected[1], -1).T.numpy()


def depth_picture(hits: Hits, side: int) -> Tensor:
    """The picture of nearness, see :class:`View`."""
    near = np.zeros(len(hits.face))
    inverse = 1 / hits.distance[hits.found]
    if len(inverse):
        low, high = inverse.min(), inverse.max()
        share = (inverse - low) / (high - low) if high > low else np.ones_like(inverse)
        near[hits.found] = _FARTHEST + (1 - _FARTHEST) * share
    return _picture(near[:, None], side)[0]


def render(surface: Surface, texture: Tensor, camera: Camera, side: int, background: float = 1.0) -> Tensor:
    """A picture of the surface with a texture, without light.

    Args:
        surface: The surface.
        texture: Shape (C, N, N).
        camera: The camera.
        side: Height and width.
        background: Value beside the mesh.

    Returns:
        Values, float32, shape (C, side, side).
    """
    hits = surface.hit(camera, side, side)
    values = surface.reading(hits) @ texture.double().reshape(len(texture), -1).T.numpy()
    return _picture(np.where(hits.found[:, None], values, background), side)[0]


def disagreement(surface: Surface, painted: Painted) -> float:
    """How far views disagree on the same point of the surface.

    Each texel is looked up, by bilinear interpolation, in every view that sees it, where all four pixels show the
    surface around it.

    Returns:
        Root mean square of the deviation of a view's value from the mean of the views, over texels that two views or
        more see; NaN if there are none. In units of the pictures, which go from −1 to 1.
    """
    side = painted.pictures.shape[-1]
    count, total, square = (np.zeros(surface.size**2) for _ in range(3))
    total = np.zeros((surface.size**2, painted.pictures.shape[1]))
    square = np.zeros_like(total)
    for camera, picture in zip(painted.cameras, painted.pictures, strict=True):
        texels = np.flatnonzero(surface.seen(camera, 0.25))
        row, column, depth = camera.project(surface.points[texels], side, side).T
        shown = surface.hit(camera, side, side).distance
        values, good = np.zeros((len(texels), len(picture))), np.ones(len(texels), dtype=bool)
        flat = picture.double().reshape(len(picture), -1).T.numpy()
        top, left = np.floor(row), np.floor(column)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = abs(1 - down - (row - top)) * abs(1 - right - (column - left))
            at = np.clip(top + down, 0, side - 1) * side + np.clip(left + right, 0, side - 1)
            values += weight[:, None] * flat[at.astype(np.int64)]
            good &= abs(shown[at.astype(np.int64)] - depth) < 20 / side  # a slope of the surface, and no step
        rows = texels[good]
        count[rows] += 1
        total[rows] += values[good]
        square[rows] += values[good] ** 2
    twice = count >= 2
    if not bool(twice.any()):
        return float("nan")
    mean = total[twice] / count[twice, None]
    variance = np.maximum(square[twice] / count[twice, None] - mean**2, 0)
    return float(np.sqrt((variance.mean(1) * count[twice]).sum() / count[twice].sum()))
