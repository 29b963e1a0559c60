"""Textures of meshes, painted view after view by any model that completes pictures (ALM, Sec. 4.5 and Appendix B.4)."""

from lanpaint.texture.baking import Pixels, bake
from lanpaint.texture.cameras import Camera, around, paper_cameras
from lanpaint.texture.completing import ByPainter, BySampler
from lanpaint.texture.latents import ByLatents
from lanpaint.texture.mesh import Mesh, read_mesh, with_charts, write_glb
from lanpaint.texture.surface import Surface
from lanpaint.texture.views import Painted, View, bake_views, disagreement, paint_surface, render

__all__ = [
    "ByLatents",
    "ByPainter",
    "BySampler",
    "Camera",
    "Mesh",
    "Painted",
    "Pixels",
    "Surface",
    "View",
    "around",
    "bake",
    "bake_views",
    "disagreement",
    "paint_surface",
    "paper_cameras",
    "read_mesh",
    "render",
    "with_charts",
    "write_glb",
]
