"""Charts: the pieces in which a surface lies flat in its texture."""

from __future__ import annotations

import numpy as np

from lanpaint.texture.rays import Triangles

_PADDING = 4  # texels between charts at a side of _SIDE, so that bilinear reading of one never meets another
_SIDE = 1024


def charts(corners: np.ndarray) -> np.ndarray:
    """Texture coordinates by xatlas.

    Args:
        corners: The corners of each triangle, shape (F, 3, 3).

    Returns:
        Coordinates in [0, 1], v up, shape (F, 3, 2).

    Raises:
        ImportError: Without xatlas.
    """
    from lanpaint.texture.mesh import needed

    xatlas = needed("xatlas")
    points, faces = np.unique(corners.reshape(-1, 3).astype(np.float32), axis=0, return_inverse=True)
    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = _SIDE, _PADDING, True
    atlas.add_mesh(points, faces.reshape(-1, 3).astype(np.uint32))
    atlas.generate(pack_options=packing)
    _, places, uv = atlas[0]
    return np.asarray(uv, dtype=np.float64)[places]


def overlap(uv: np.ndarray) -> float:
    """Share of the charts' area that lies on other charts, to about 1 %.

    Args:
        uv: Texture coordinates, shape (F, 3, 2).
    """
    edges = uv[:, 1:] - uv[:, :1]
    area = abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).sum() / 2
    if not area:
        return 1.0
    covered = float((flat_hits(uv, 512)[0] >= 0).mean())
    return max(0.0, 1 - covered / area)


def flat_hits(uv: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which triangle lies at each texel's middle.

    Args:
        uv: Texture coordinates, shape (F, 3, 2).
        size: Side N of the texture.

    Returns:
        Triangle of each texel, −1 for none, shape (N²,), rows from v = 1 down; and its barycentric coordinates,
        shape (N², 3).
    """
    middle = (np.arange(size) + 0.5) / size
    u, v = np.meshgrid(middle, 1 - middle)
    origins = np.stack([u.ravel(), v.ravel(), np.ones(size**2)], 1)
    flat = Triangles(np.concatenate([uv, np.zeros((*uv.shape[:2], 1))], 2))
    hits = flat.hit(origins, np.broadcast_to([0.0, 0.0, -1.0], origins.shape))
    return hits.face, hits.weights
