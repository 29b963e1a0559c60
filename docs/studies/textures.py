"""Seams and drift in canvases of the textures model: tables of docs/chains.md, and docs/texture-strips.png.

    python docs/studies/textures.py                                                  # strips, by every method
    python docs/studies/textures.py CHAIN.png AVERAGE.png --window 128 --overlap 16  # pictures of `lanpaint wide`

Six strips begin with held-out windows of 64×64 pixels, two of each texture. Four more windows overlap by
16. Every method makes 24 evaluations of the model for each window. The gradient at a seam is the mean |difference| of
the last column of one window and the first new column of the next, over that of all other new columns of its strip: 1
without a seam. Drift is the rise along the strip per window, of the mean and of the standard deviation; pixels go from
−1 to 1. Errors are standard errors over strips; in a picture, over seams.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.images import as_image, to_pixels
from lanpaint.names import model_folder
from lanpaint.tiling import starts
from lanpaint_toys import textures

SIDE, OVERLAP, LENGTH = textures.WINDOW, 16, 256
SAMPLERS: dict[str, Callable[[lp.Score], lp.Sampler]] = {
    "Replace, 24 steps": lambda score: lp.Replace(score, steps=24),
    "ALM, fixed noise, 8 steps": lambda score: lp.ALM(score, steps=8, partner="fixed"),
    "LanPaint, 8 steps of 2": lambda score: lp.LanPaint(score, steps=8, inner_steps=2),
}


def told(values: Tensor) -> str:
    """Mean and standard error."""
    return f"{float(values.mean()):.3f} ± {float(values.std() / len(values) ** 0.5):.3f}"


def rise(values: Tensor) -> Tensor:
    """Rise per window of values (B, windows), by least squares."""
    at = torch.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return (values * at).sum(1) / at.square().sum()


def figures(strips: Tensor) -> list[str]:
    """Gradient at seams over that elsewhere; drift of the mean and of the contrast; contrast over that of the start."""
    begins = starts(LENGTH, SIDE, OVERLAP)
    each = (strips[..., 1:] - strips[..., :-1]).abs().mean((1, 2))
    seams = torch.tensor([start + SIDE - 1 for start in begins[:-1]])
    elsewhere = torch.arange(each.shape[1]) >= SIDE
    elsewhere[seams] = False
    windows = torch.stack([strips[..., start : start + SIDE] for start in begins], dim=1).flatten(2)
    contrast = windows.std(2)
    ratio = each[:, seams].mean(1) / each[:, elsewhere].mean(1)
    return [told(ratio), told(rise(windows.mean(2))), told(rise(contrast)), told(contrast[:, -1] / contrast[:, 0])]


def strips() -> None:
    """Make the strips, print the table, write the picture."""
    score = load_pixel_model(model_folder("textures"))
    given = textures.grid_windows(textures.load_textures("test"))[::2]
    values = torch.zeros(len(given), 1, SIDE, LENGTH)
    values[..., :SIDE] = given
    observation = lp.Observation(values, torch.arange(LENGTH) < SIDE)
    real = textures.load_textures("all").unfold(2, SIDE, SIDE).permute(0, 2, 1, 4, 3).reshape(-1, 1, SIDE, LENGTH)
    print("method | gradient at seams / elsewhere | drift of the mean | of the contrast | contrast, last / first")
    print("real textures, at the same columns", *figures(real), sep=" | ")
    painters = {f"chain, {name}": lp.Chain(make(score), (None, SIDE), OVERLAP) for name, make in SAMPLERS.items()}
    averaged = lp.WindowedScore(score, (None, SIDE), OVERLAP)
    painters |= {
        "MultiDiffusion, Replace, 24 steps": lp.Replace(averaged, steps=24),
        "SyncTweedies, 24 steps": lp.DDNM(averaged, steps=24, form="paper", eta=0.0),
        "StochSync, 9 steps of 3": lp.StochSync(score, (None, SIDE), steps=9, ode_steps=3),
    }
    shown = [real[::4]]
    for name, paint in painters.items():
        with torch.no_grad():
            made = paint(observation, generator=lp.seeded(range(len(given)))).clamp(-1, 1)
        print(name, *figures(made), sep=" | ", flush=True)
        shown.append(made[::2])
    rows = [torch.cat(list(torch.nn.functional.pad(made, (2, 2, 1, 1), value=1.0)), dim=-1) for made in shown]
    as_image(to_pixels(torch.cat(rows, dim=-2)[None])[0]).save(Path(__file__).parents[1] / "texture-strips.png")


def picture(path: str, window: int, overlap: int) -> None:
    """Print the gradients across the seams of a picture of `lanpaint wide`, over those across other lines."""
    pixels = torch.from_numpy(np.asarray(Image.open(path).convert("L")).astype(np.float32)) / 127.5 - 1
    ratios = []
    for values in (pixels, pixels.mT):
        length = values.shape[1]
        each = (values[:, 1:] - values[:, :-1]).abs().mean(0)
        begins = starts(length, window, overlap)
        lines = torch.tensor(
            sorted({line for start in begins for line in (start - 1, start + window - 1)} - {-1, length - 1})
        )
        other = torch.ones(len(each), dtype=torch.bool)
        other[lines] = False
        ratios.append(each[lines] / each[other].mean())
    columns = torch.stack([part.mean() for part in pixels.split(window, dim=1)])
    print(path, told(ratios[0]), told(ratios[1]), f"{float(columns.std()):.3f}", sep=" | ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--window", type=int, default=SIDE)
    parser.add_argument("--overlap", type=int, default=OVERLAP)
    given = parser.parse_args()
    if not given.pictures:
        strips()
    else:
        print("picture | gradient at vertical seams / elsewhere | at horizontal seams | deviation of the means")
    for path in given.pictures:
        picture(path, given.window, given.overlap)
