"""Filling: what no view saw gets the value of the nearest point of the surface that one saw."""

from __future__ import annotations

import numpy as np
import scipy.spatial

from lanpaint.texture.surface import Surface


def filled(surface: Surface, texture: np.ndarray, known: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """A texture whose unknown texels have the value of the nearest known one.

    In charts the nearest is the nearest point of the surface in space: its Voronoi cells cross the charts' borders.
    Outside of charts it is the nearest texel of a chart, so that a renderer finds a chart's colour beyond its border.

    Args:
        surface: The surface.
        texture: Values, shape (N², C).
        known: Which texels are known, shape (N²,). Known texels outside of charts stay as they are.
        wanted: Texels of charts that are filled, shape (N²,); None for all.

    Raises:
        ValueError: When no texel is known.
    """
    if not bool(known.any()):
        raise ValueError("no texel is known, so the texture cannot be filled")
    whole = texture.copy()
    lacking = ~known & surface.chart
    lacking = np.flatnonzero(lacking if wanted is None else lacking & wanted)
    sources = np.flatnonzero(known & surface.chart)
    if not len(sources):  # a texture so small that pixels read only texels outside of charts
        whole[lacking] = texture[known].mean(0)
    elif len(lacking):
        _, which = scipy.spatial.cKDTree(surface.points[sources]).query(surface.points[lacking])
        whole[lacking] = texture[sources[which]]
    beyond = np.flatnonzero(~known & ~surface.chart)
    whole[beyond] = whole[surface.nearest[beyond]]
    return whole
