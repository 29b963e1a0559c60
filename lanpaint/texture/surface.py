"""The surface of a mesh as texels: where each lies, how views read them, and which of them a camera sees."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.ndimage
import scipy.sparse

from lanpaint.checks import check_whole
from lanpaint.texture.cameras import Camera
from lanpaint.texture.charts import flat_hits
from lanpaint.texture.mesh import Mesh
from lanpaint.texture.rays import Hits, Triangles

_MOST_TEXELS = 8192  # along a side; more is a slip
_NEAR = 1e-4  # share of the way to a texel at which a hit is still the texel itself, not something before it


class Surface:
    """A mesh with a texture of N×N texels.

    Texels are numbered by rows from v = 1 down. A view reads the texture by bilinear interpolation, as renderers do, so
    each pixel is a weighted mean of four texels.

    Args:
        mesh: The mesh.
        size: Side N of the texture.

    Attributes:
        face: Triangle at the middle of each texel, −1 outside of the charts, shape (N²,).
        points: Positions of the texels in the unit ball, shape (N², 3); zeros outside of the charts.

    Raises:
        ImportError: Without embreex.
        ValueError: For a texture of so few texels that none lies in a chart.
    """

    def __init__(self, mesh: Mesh, size: int = 1024) -> None:
        check_whole("the texture's size", size, least=1, most=_MOST_TEXELS)
        self.mesh, self.size = mesh, size
        self.triangles = Triangles(mesh.corners)
        self.face, weights = flat_hits(mesh.uv, size)
        self.points = (weights[:, :, None] * self.triangles.corners[self.face]).sum(1)
        if not bool(self.chart.any()):
            raise ValueError(f"a texture of {size}×{size} texels is too small for this mesh; give more texels")

    @property
    def chart(self) -> np.ndarray:
        """Whether the middle of each texel lies in a chart, shape (N²,)."""
        return self.face >= 0

    @cached_property
    def nearest(self) -> np.ndarray:
        """For each texel the nearest texel of a chart in the texture's plane; itself in a chart. Shape (N²,)."""
        chart = self.chart.reshape(self.size, self.size)
        rows, columns = scipy.ndimage.distance_transform_edt(~chart, return_distances=False, return_indices=True)
        return (rows * self.size + columns).reshape(-1)

    @cached_property
    def label(self) -> np.ndarray:
        """Number of the chart that each texel lies in or is nearest to, shape (N²,)."""
        chart = self.chart.reshape(self.size, self.size)
        return scipy.ndimage.label(chart)[0].reshape(-1)[self.nearest]

    def hit(self, camera: Camera, height: int, width: int) -> Hits:
        """What the rays through the pixels of a view meet, H·W of them; distances are depths."""
        rays = camera.rays(height, width)
        return self.triangles.hit(np.broadcast_to(camera.position, rays.shape), rays)

    def reading(self, hits: Hits) -> scipy.sparse.csr_matrix:
        """The matrix by which rays read the texture, shape (R, N²). Rows of rays that meet nothing are empty."""
        rows = np.flatnonzero(hits.found)
        uv = (hits.weights[rows, :, None] * self.mesh.uv[hits.face[rows]]).sum(1)
        x, y = uv[:, 0] * self.size - 0.5, (1 - uv[:, 1]) * self.size - 0.5
        left, top = np.floor(x), np.floor(y)
        parts = []
        for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
            weight = abs(1 - right - (x - left)) * abs(1 - down - (y - top))
            column, row = (np.clip(at, 0, self.size - 1) for at in (left + right, top + down))
            parts.append((weight, rows, (row * self.size + column).astype(np.int64)))
        weight, row, column = (np.concatenate(each) for each in zip(*parts, strict=True))
        return scipy.sparse.csr_matrix((weight, (row, column)), shape=(len(hits.face), self.size**2))

    def seen(self, camera: Camera, least_cosine: float = 0.0) -> np.ndarray:
        """Which texels of charts a camera sees: nothing lies before them. Shape (N²,).

        Args:
            camera: The camera.
            least_cosine: Texels whose normal makes an angle with the ray of a smaller cosine count as unseen.
        """
        texels = np.flatnonzero(self.chart)
        directions = self.points[texels] - camera.position
        a, b, c = np.moveaxis(self.triangles.corners[self.face[texels]], 1, 0)
        normal = np.cross(b - a, c - a)
        scale = np.linalg.norm(normal, axis=1) * np.linalg.norm(directions, axis=1)
        texels = texels[abs((directions * normal).sum(1)) >= least_cosine * scale]
        directions = self.points[texels] - camera.position
        hits = self.triangles.hit(np.broadcast_to(camera.position, directions.shape), directions)
        visible = np.zeros(self.size**2, dtype=bool)
        visible[texels] = hits.distance >= 1 - _NEAR
        return visible
