r"""Baking: the texture whose renderings are nearest to the views.

A view reads the texture T by bilinear interpolation, so its pixels are A T with a sparse matrix A. Baking minimises

    Σ_p w_p |(A T − I)_p|² + smoothness Σ_{k ~ l} |T_k − T_l|²                                 (ALM, Appendix B.4)

over the pixels p of all views and the neighbouring texels k, l of a chart. This is linear least squares. Conjugate
gradients on its normal equations find the minimum itself, to a stated residual. A descent through a differentiable
renderer, as in the paper, approaches the same minimum without a rule for when to stop. The small second term decides
texels between the pixels, where the views are coarser than the texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from lanpaint.texture.filling import filled
from lanpaint.texture.surface import Surface


@dataclass(frozen=True)
class Pixels:
    """Pixels of a view that the texture is to show.

    Attributes:
        reading: The rows of the reading matrix of these pixels, shape (P, N²).
        values: Their values, shape (P, C).
        weights: w_p, shape (P,).
    """

    reading: scipy.sparse.csr_matrix
    values: np.ndarray
    weights: np.ndarray


def bake(
    surface: Surface, pixels: Sequence[Pixels], seen: np.ndarray, smoothness: float = 1e-3, tolerance: float = 1e-5
) -> tuple[np.ndarray, np.ndarray]:
    """The texture that shows these pixels.

    Args:
        surface: The surface.
        pixels: The pixels of each view.
        seen: Texels to be decided, shape (N²,). Texels that a pixel reads are decided too.
        smoothness: Weight of the squared difference of two neighbouring texels, where a pixel has a weight of at most
            1. With 0.001 a texel that a pixel reads is off by about 0.001 of its difference from its neighbours.
        tolerance: Residual of the normal equations, relative to that of the start, at which the solver stops.

    Returns:
        The texture, shape (N², C), and which of its texels were decided, shape (N²,). The others are 0 in charts, and
        outside of charts they have the value of the nearest texel of a chart.

    Raises:
        ValueError: When there is no pixel.
    """
    if not sum(len(part.weights) for part in pixels):
        raise ValueError("no pixel of any view shows the surface, so there is nothing to bake")
    reading = scipy.sparse.vstack([part.reading for part in pixels]).tocsr()
    values = np.concatenate([part.values for part in pixels]).astype(np.float64)
    weighted = reading.T.tocsr().multiply(np.concatenate([part.weights for part in pixels])).tocsr()  # Aᵀ W
    mass = weighted @ np.ones(len(values))
    read = mass > 0
    decided = read | (seen & surface.chart)
    start = filled(surface, (weighted @ values) / np.where(read, mass, 1)[:, None], read, decided)
    some = np.flatnonzero(decided)
    weighted = weighted[some]
    normal = weighted @ reading[:, some] + smoothness * _roughness(surface, some)
    texture = np.zeros_like(start)
    texture[some] = _solve(normal.tocsr(), weighted @ values, start[some], tolerance)
    beyond = np.flatnonzero(~decided & ~surface.chart)
    texture[beyond] = texture[surface.nearest[beyond]]
    return texture, decided


def _roughness(surface: Surface, texels: np.ndarray) -> scipy.sparse.csr_matrix:
    """The matrix of Σ |T_k − T_l|² over neighbours in the same chart, among some texels."""
    size = surface.size
    place = np.full(size**2, -1)
    place[texels] = np.arange(len(texels))
    places, labels = place.reshape(size, size), surface.label.reshape(size, size)
    pairs = []
    for one, other in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1),), (slice(1, None),)),
    ):
        joined = (places[one] >= 0) & (places[other] >= 0) & (labels[one] == labels[other])
        pairs.append(np.stack([places[one][joined], places[other][joined]], 1))
    edges = np.concatenate(pairs)
    rows = np.repeat(np.arange(len(edges)), 2)
    signs = np.tile([1.0, -1.0], len(edges))
    difference = scipy.sparse.csr_matrix((signs, (rows, edges.reshape(-1))), shape=(len(edges), len(texels)))
    return (difference.T @ difference).tocsr()


def _solve(matrix: scipy.sparse.csr_matrix, right: np.ndarray, x: np.ndarray, tolerance: float) -> np.ndarray:
    """Conjugate gradients for all columns at once, preconditioned by the diagonal."""
    scale = matrix.diagonal()
    inverse = 1 / np.where(scale > 0, scale, 1)[:, None]
    residual = right - matrix @ x
    direction = inverse * residual
    energy = (residual * direction).sum(0)
    goal = tolerance**2 * (inverse * right**2).sum(0)
    for _ in range(1000):
        if bool((energy <= goal).all()):
            break
        image = matrix @ direction
        step = energy / np.maximum((direction * image).sum(0), np.finfo(float).tiny)
        x = x + step * direction
        residual = residual - step * image
        scaled = inverse * residual
        before, energy = energy, (residual * scaled).sum(0)
        direction = scaled + energy / np.maximum(before, np.finfo(float).tiny) * direction
    return x
