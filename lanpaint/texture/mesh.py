"""Meshes with texture coordinates: read by trimesh, written as GLB."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lanpaint.checks import as_path
from lanpaint.images import as_image, check_output, replacing, to_pixels
from lanpaint.texture.charts import charts, overlap

_LEAST_AREA = 1e-14  # of a face, in units of the mesh's radius squared; below it is a line or a point
_MOST_OVERLAP = 0.02  # share of the charts that may lie on other charts: rasterising errs by about a half of this


@dataclass(frozen=True)
class Mesh:
    """Triangles, and where each lies in the texture.

    Attributes:
        vertices: Positions with y up, float64, shape (V, 3).
        faces: Vertices of each triangle, int64, shape (F, 3).
        uv: Texture coordinates of each corner of each triangle, in [0, 1], v up, float64, shape (F, 3, 2).
        normals: Normals of the vertices if the file has them, shape (V, 3), or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    normals: np.ndarray | None = None

    @property
    def corners(self) -> np.ndarray:
        """The corners of each triangle, moved and scaled into the unit ball, shape (F, 3, 3)."""
        used = self.vertices[np.unique(self.faces)]
        centre = (used.min(0) + used.max(0)) / 2
        return ((self.vertices - centre) / np.linalg.norm(used - centre, axis=1).max())[self.faces]


def read_mesh(path: str | Path, up: Literal["y", "z"] = "y") -> Mesh:
    """The mesh in a file of any format that trimesh reads. The parts of a scene become one mesh.

    Texture coordinates of the file are kept if each point of the texture belongs to one point of the surface. Else
    xatlas makes charts.

    Args:
        path: The file: .obj, .ply, .stl, .glb, .off, …
        up: The axis of the file that points upwards. The mesh is turned until that is y.

    Raises:
        ImportError: Without trimesh, xatlas or embreex.
        ValueError: For a file that is missing or cannot be read, and for a mesh that cannot be painted: without faces,
            with vertices that are not finite, or with no face that has an area.

    Warns:
        UserWarning: When faces without an area are left out, or the texture coordinates of the file are not used.
    """
    path = as_path("a mesh", path)
    if up not in ("y", "z"):
        raise ValueError(f"up must be y or z, got {up!r}")
    loaded = _load(path)
    vertices, faces = np.asarray(loaded.vertices, dtype=np.float64), np.asarray(loaded.faces, dtype=np.int64)
    bad = int((~np.isfinite(vertices[np.unique(faces)])).any(1).sum())
    if bad:
        raise ValueError(f"{path} has {bad} vertices that are not finite numbers; mend the mesh first")
    normals = np.asarray(loaded.vertex_normals) if "vertex_normals" in loaded._cache.cache else None
    if up == "z":
        vertices, normals = _turned(vertices), None if normals is None else _turned(normals)
    size = np.linalg.norm(np.ptp(vertices[np.unique(faces)], axis=0)) / 2
    edges = vertices[faces[:, 1:]] - vertices[faces[:, :1]]
    with np.errstate(over="ignore", invalid="ignore"):
        flat = ~(np.linalg.norm(np.cross(edges[:, 0] / (size or 1), edges[:, 1] / (size or 1)), axis=1) > _LEAST_AREA)
    if bool(flat.all()):
        raise ValueError(f"{path} has no face with an area: all {len(faces)} are points or lines; mend the mesh first")
    if bool(flat.any()):
        warnings.warn(f"{int(flat.sum())} of {len(faces)} faces have no area and are left out", stacklevel=2)
    uv = getattr(loaded.visual, "uv", None)
    corners = None if uv is None or len(uv) != len(vertices) else np.asarray(uv, dtype=np.float64)[faces[~flat]]
    return with_charts(vertices, faces[~flat], corners, normals)


def with_charts(
    vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray | None = None, normals: np.ndarray | None = None
) -> Mesh:
    """A mesh with its texture coordinates if they are usable, else with charts by xatlas.

    Args:
        vertices: As in :class:`Mesh`.
        faces: As in :class:`Mesh`; each has an area.
        uv: Texture coordinates as in :class:`Mesh`, or None.
        normals: As in :class:`Mesh`.

    Raises:
        ImportError: Without xatlas or embreex.

    Warns:
        UserWarning: When the texture coordinates are not used.
    """
    problem = None if uv is None else _problem(uv)
    if uv is not None and problem is None:
        return Mesh(vertices, faces, uv, normals)
    if problem is not None:
        warnings.warn(f"the mesh's own texture coordinates are not used: {problem}", stacklevel=2)
    plain = Mesh(vertices, faces, np.zeros((len(faces), 3, 2)), normals)
    return Mesh(vertices, faces, charts(plain.corners), normals)


def _problem(uv: np.ndarray) -> str | None:
    """Why a texture cannot be painted with these coordinates; None if it can."""
    if not np.isfinite(uv).all():
        return "some are not finite"
    if uv.min() < -1e-6 or uv.max() > 1 + 1e-6:
        return "they leave the unit square, so the texture repeats"
    share = overlap(uv)
    return f"{share:.0%} of the charts lie on other charts" if share > _MOST_OVERLAP else None


def _turned(vectors: np.ndarray) -> np.ndarray:
    """Vectors with z up, with y up."""
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], 1)


def _load(path: Path) -> Any:
    """What trimesh makes of a file: one mesh with at least one face."""
    trimesh = needed("trimesh")
    if not path.is_file():
        raise ValueError(f"the mesh {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    endings = sorted(trimesh.available_formats())
    if path.suffix.lower().lstrip(".") not in endings:
        raise ValueError(f"cannot read {path}: its ending must be one of {', '.join(endings)}")
    try:
        loaded = trimesh.load_scene(path, process=False)
        meshes = [part for part in loaded.geometry.values() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        whole = loaded.to_mesh() if meshes else None
    except Exception as error:  # a file of unknown content can raise anything in the readers of trimesh
        told = (str(error).splitlines() or [""])[0]
        raise ValueError(f"cannot read {path} as a mesh: {type(error).__name__} {told:.80}".strip()) from error
    if whole is None or not len(whole.faces):
        raise ValueError(f"{path} has no faces, so there is no surface to paint; give a mesh of triangles")
    if whole.faces.min() < 0 or whole.faces.max() >= len(whole.vertices):
        raise ValueError(f"cannot read {path} as a mesh: a face names a vertex that is not there")
    return whole


def needed(package: str) -> Any:
    """A package of the extra ``mesh``. Raises ImportError, with what to install, where it is missing."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"meshes need the package {package}: pip install 'lanpaint[mesh]'") from error


def write_glb(path: str | Path, mesh: Mesh, texture: Any) -> None:
    """Write a mesh with its texture as GLB, one file that browsers and editors of 3D scenes open.

    Args:
        path: The file, which ends in .glb. Its folder is made if it is missing.
        mesh: The mesh. Vertices are split where charts end.
        texture: Values in [−1, 1], shape (1 or 3, N, N), the first row at v = 1.

    Raises:
        ImportError: Without trimesh.
        ValueError: For another ending, or when the file cannot be written.
    """
    trimesh = needed("trimesh")
    check_output(path, (".glb",))
    picture = as_image(to_pixels(texture)).convert("RGB")
    ids, uv = mesh.faces.reshape(-1), mesh.uv.reshape(-1, 2)
    keys, faces = np.unique(np.concatenate([ids[:, None], uv], 1), axis=0, return_inverse=True)
    old = keys[:, 0].astype(np.int64)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    whole = trimesh.Trimesh(
        mesh.vertices[old], faces.reshape(-1, 3), process=False,
        vertex_normals=None if mesh.normals is None else mesh.normals[old],
        visual=trimesh.visual.TextureVisuals(uv=keys[:, 1:], material=material),
    )  # fmt: skip
    with replacing(path) as part:
        part.write_bytes(whole.export(file_type="glb", include_normals=mesh.normals is not None))
