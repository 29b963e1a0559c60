"""Rays against triangles, by Embree: what is visible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hits:
    """What rays meet first.

    Attributes:
        face: Triangle that each ray meets first, −1 for none, int64, shape (R,).
        weights: Barycentric coordinates of the point in that triangle, shape (R, 3); zeros for none.
        distance: Distance along the ray, in units of its direction's length, shape (R,); infinite for none.
        cosine: Cosine of the angle between the ray and the triangle's normal, from 0 to 1, shape (R,).
    """

    face: np.ndarray
    weights: np.ndarray
    distance: np.ndarray
    cosine: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Whether each ray meets anything, shape (R,)."""
        return self.face >= 0


class Triangles:
    """Triangles that rays are shot at. Both sides of a triangle are seen.

    Embree finds the triangle in float32. Where the ray meets it is computed in float64.

    Args:
        corners: The corners of each triangle, shape (F, 3, 3), of a size of about 1.

    Raises:
        ImportError: Without embreex.
    """

    def __init__(self, corners: np.ndarray) -> None:
        from lanpaint.texture.mesh import needed

        self.corners = np.asarray(corners, dtype=np.float64)
        self._scene = needed("embreex.rtcore_scene").EmbreeScene()
        vertices = self.corners.reshape(-1, 3).astype(np.float32)
        faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
        self._held = needed("embreex.mesh_construction").TriangleMesh(self._scene, vertices, faces)

    def hit(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """What each ray meets first.

        Args:
            origins: Where the rays start, shape (R, 3).
            directions: Where they go, of any length, shape (R, 3).
        """
        rays = [np.ascontiguousarray(part, dtype=np.float32) for part in (origins, directions)]
        face = np.asarray(self._scene.run(*rays), dtype=np.int64)
        weights, distance = np.zeros((len(face), 3)), np.full(len(face), np.inf)
        cosine = np.zeros(len(face))
        rows = np.flatnonzero(face >= 0)
        a, b, c = np.moveaxis(self.corners[face[rows]], 1, 0)
        origin, direction = np.asarray(origins)[rows], np.asarray(directions)[rows]
        normal = np.cross(b - a, c - a)
        along = (direction * normal).sum(1)
        along = np.where(along == 0, np.finfo(float).tiny, along)
        distance[rows] = ((a - origin) * normal).sum(1) / along
        point = origin + distance[rows, None] * direction
        square = (normal**2).sum(1)
        second = (np.cross(point - a, c - a) * normal).sum(1) / square
        third = (np.cross(b - a, point - a) * normal).sum(1) / square
        inside = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
        weights[rows] = inside / inside.sum(1, keepdims=True)
        cosine[rows] = abs(along) / np.sqrt(square * (direction**2).sum(1))
        return Hits(face, weights, distance, cosine)
