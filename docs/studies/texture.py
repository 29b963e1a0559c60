"""Textures of meshes, measured and drawn: the tables and the picture of docs/texture.md.

    python docs/studies/texture.py                              the tables
    python docs/studies/texture.py large                        the first one at the size of the paper
    python docs/studies/texture.py ball.glb views texture.png   the picture, from a run of lanpaint texture

The first table bakes views of a ball whose colours are a known function of space. The second samples a Gaussian process
on the ball, of Matérn covariance with ν = 3/2 and length 1, and pixels with noise of variance 0.01. The model of a view
is the exact score of the process at the points that its pixels show. Its 200 samples ride as channels of one texture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor

import lanpaint as lp
from lanpaint import texture
from lanpaint.images import to_pixels
from lanpaint_toys import Gaussian

SAMPLES, LENGTH, NOISE, SIDE = 200, 1.0, 0.01, 16
SAMPLERS: dict[str, Callable[[lp.Score], lp.Sampler]] = {
    "LanPaint, 20 × 5, a = 0.02": lambda score: lp.LanPaint(score, steps=20, inner_steps=5, expected_noise=0.02),
    "Replace, 120 steps": lambda score: lp.Replace(score, steps=120),
    "SyncSDE, fixed noise, 120 steps": lambda score: lp.SyncSDE(score, steps=120, partner="fixed"),
    "ALM, fixed noise, 40 steps": lambda score: lp.ALM(score, steps=40, partner="fixed"),
    "SyncSDE, inversion, 60 steps": lambda score: lp.SyncSDE(score, steps=60),
    "ALM, inversion, 30 steps": lambda score: lp.ALM(score, steps=30),
    "the same, none in the last 20 %": lambda score: lp.ALM(score, steps=30, last_share=0.2),
}
ANGLES = ((0, 1), (25, 35), (55, 65), (85, 95), (170, 180))


def ball(size: int) -> texture.Surface:
    """A ball with a texture of size² texels."""
    made = trimesh.creation.icosphere(subdivisions=3)
    return texture.Surface(texture.with_charts(made.vertices, made.faces), size)


def colour(points: np.ndarray) -> np.ndarray:
    """A smooth colour of points in space, in [−1, 1]."""
    x, y, z = points.T
    return 0.9 * np.stack([np.sin(2 * x + z), np.cos(2 * y + x), np.sin(2 * z - y)], 1)


def baked(sizes: Sequence[tuple[int, int]]) -> None:
    """Print how near baked textures are to the true one, for sides of texture and view."""
    print("texture | view | RMS of a new view | views apart | seconds")
    for size, side in sizes:
        surface = ball(size)
        exact = torch.from_numpy(colour(surface.points)[surface.nearest].T.reshape(3, size, size).copy()).float()
        start = time.process_time()
        made = texture.paint_surface(
            surface, lambda view, s=surface, t=exact, n=side: texture.render(s, t, view.camera, n)[None], side=side
        )
        seconds = time.process_time() - start
        camera = texture.Camera(75, 15)
        shows = texture.render(surface, made.seen[None].float(), camera, 200, 0.0)[0] > 0.999
        off = texture.render(surface, made.texture, camera, 200) - texture.render(surface, exact, camera, 200)
        error = float(off[:, shows].square().mean().sqrt()) * 127.5
        print(f"{size}² | {side}² | {error:.2f} | {texture.disagreement(surface, made) * 127.5:.2f} | {seconds:.1f}")


def covariance(points: np.ndarray) -> np.ndarray:
    """The covariance of the process at points (P, 3)."""
    scaled = np.sqrt(3 * ((points[:, None] - points[None]) ** 2).sum(-1)) / LENGTH
    return (1 + scaled) * np.exp(-scaled)


def of_process(surface: texture.Surface, complete: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> texture.Painted:
    """The texture of a process. ``complete`` takes values (B, P), what is known (P,), the covariance, and a seed."""

    def view_of(view: texture.View) -> Tensor:
        hits = surface.hit(view.camera, SIDE, SIDE)
        rows = np.flatnonzero(hits.found)
        points = (hits.weights[rows, :, None] * surface.triangles.corners[hits.face[rows]]).sum(1)
        values = view.observation.values.reshape(SAMPLES, -1)[:, rows]
        known = view.observation.known.reshape(-1)[rows]
        made = view.observation.values.reshape(SAMPLES, -1).clone()
        law = torch.from_numpy(covariance(points) + NOISE * np.eye(len(points)))
        made[:, rows] = complete(values, known, law, view.seed).float()
        return made.reshape(view.observation.shape)

    return texture.paint_surface(surface, view_of, side=SIDE, channels=SAMPLES, widest_angle=70)


def conditional(values: Tensor, known: Tensor, cov: Tensor, seed: int) -> Tensor:
    """Exact samples of what is unknown given what is known, (B, P)."""
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    free = noise @ torch.linalg.cholesky(cov).T  # Matheron: a free sample, moved to what is known
    gain = torch.linalg.solve(cov[known][:, known], cov[known])
    return torch.where(known, values.double(), free + (values.double() - free)[:, known] @ gain)


def sampled(make: Callable[[lp.Score], lp.Sampler]) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """A function that completes by a sampler and the exact score."""

    def complete(values: Tensor, known: Tensor, cov: Tensor, seed: int) -> Tensor:
        sampler = make(Gaussian([0.0] * len(cov), cov).score)
        return sampler(lp.Observation(values, known), generator=torch.Generator().manual_seed(seed))

    return complete


def row(surface: texture.Surface, painted: texture.Painted) -> tuple[list[str], list[float]]:
    """Mean covariance of texels at angles apart, with its standard error over samples, and that of the process."""
    seen = np.flatnonzero(painted.seen.reshape(-1).numpy())
    some = seen[np.random.default_rng(0).permutation(len(seen))[:500]]
    points = surface.points[some]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    angle = np.rad2deg(np.arccos(np.clip(unit @ unit.T, -1, 1)))
    values, truth = painted.texture.reshape(SAMPLES, -1)[:, some].double().numpy(), covariance(points)
    cells, exact = [], []
    for low, high in ANGLES:
        pairs = (angle >= low) & (angle <= high)
        each = ((values @ pairs) * values).sum(1) / pairs.sum()  # of each sample
        cells.append(f"{each.mean():.2f} ± {each.std() / SAMPLES**0.5:.2f}")
        exact.append(float(truth[pairs].mean()))
    return cells, exact


def process() -> None:
    """Print the covariance of textures of the process."""
    surface = ball(48)
    print("method | variance | 30° apart | 60° | 90° | opposite | views apart")
    ways = {"exact conditionals": conditional} | {name: sampled(make) for name, make in SAMPLERS.items()}
    for number, (name, complete) in enumerate(ways.items()):
        painted = of_process(surface, complete)
        made, truth = row(surface, painted)
        if not number:
            print("the process", *(f"{value:.2f}" for value in truth), "", sep=" | ")
        print(name, *made, f"{texture.disagreement(surface, painted):.3f}", sep=" | ", flush=True)


def picture(glb: Path, views: Path, path: Path) -> None:
    """Draw a run: the views in which it was painted, and the mesh from between them."""
    mesh, shown = texture.read_mesh(glb), 150
    pixels = np.asarray(Image.open(views / "texture.png").convert("RGB"))
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1
    surface = texture.Surface(mesh, values.shape[-1])
    files = sorted(views.glob("view-*.png"))
    above = [np.asarray(Image.open(file).convert("RGB").resize((shown, shown), 0)) for file in files]
    cameras = [texture.Camera(360 * n / len(files) + 20, 10) for n in range(len(files))]
    below = [to_pixels(texture.render(surface, values, camera, shown)).permute(1, 2, 0).numpy() for camera in cameras]
    Image.fromarray(np.concatenate([np.concatenate(line, 1) for line in (above, below)])).save(path)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        picture(*map(Path, sys.argv[1:]))
    elif sys.argv[1:] == ["large"]:
        baked(((1024, 768),))
    else:
        baked(((32, 32), (64, 32), (128, 32), (128, 128), (256, 128)))
        process()
