"""Seams and drift in strips of the digits model: a table of docs/chains.md, and docs/chain-strips.png.

    python docs/studies/wide.py

24 strips of 8×62 pixels, each begun with a held-out digit. Windows of 8 pixels overlap by 2. Every method makes 24
evaluations of the model for each window. The seam is between the last column of one window and the first new column of
the next, columns 1 and 2 of its digit: its gradient is the mean |difference| of the two columns. Errors are standard
errors over strips.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.images import as_image, to_pixels
from lanpaint.tiling import starts
from lanpaint_toys import digits

SIDE, OVERLAP, LENGTH, COUNT = 8, 2, 62, 24
SAMPLERS: dict[str, Callable[[lp.Score], lp.Sampler]] = {
    "Replace, 24 steps": lambda score: lp.Replace(score, steps=24),
    "SyncSDE, fixed noise, 24 steps": lambda score: lp.SyncSDE(score, steps=24, partner="fixed"),
    "ALM, fixed noise, 8 steps": lambda score: lp.ALM(score, steps=8, partner="fixed"),
    "LanPaint, 6 steps of 3": lambda score: lp.LanPaint(score, steps=6, inner_steps=3),
}


def gradients(strips: Tensor) -> Tensor:
    """Mean |difference| of neighbouring columns, (B, columns − 1)."""
    return (strips[..., 1:] - strips[..., :-1]).abs().mean((1, 2))


def told(values: Tensor) -> str:
    """Mean and standard error."""
    return f"{float(values.mean()):.3f} ± {float(values.std() / len(values) ** 0.5):.3f}"


def slope(values: Tensor) -> Tensor:
    """Rise per window of values (B, windows), by least squares."""
    at = torch.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return (values * at).sum(1) / at.square().sum()


def figures(strips: Tensor) -> tuple[str, str, str, str]:
    """Gradient at seams, and elsewhere; drift of the mean and of the contrast, both per window."""
    begins = starts(LENGTH, SIDE, OVERLAP)
    seams = torch.tensor([start + SIDE - 1 for start in begins[:-1]])
    each = gradients(strips)
    elsewhere = torch.ones(each.shape[1], dtype=torch.bool)
    elsewhere[:SIDE], elsewhere[seams] = False, False
    windows = torch.stack([strips[..., start : start + SIDE] for start in begins[1:]], dim=1).flatten(2)
    drifts = slope(windows.mean(2)), slope(windows.std(2))
    return told(each[:, seams].mean(1)), told(each[:, elsewhere].mean(1)), told(drifts[0]), told(drifts[1])


def main() -> None:
    """Make the strips, print the table, write the picture."""
    score = load_pixel_model(digits.FOLDER)
    values = torch.zeros(COUNT, 1, SIDE, LENGTH)
    values[..., :SIDE] = digits.load_digits("test")[0][:COUNT]
    observation = lp.Observation(values, torch.arange(LENGTH) < SIDE)
    made: dict[str, Tensor] = {}
    print("method | gradient at seams | elsewhere | drift of the mean | drift of the contrast")
    painters = {f"chain, {name}": lp.Chain(make(score), (None, SIDE), OVERLAP) for name, make in SAMPLERS.items()}
    real = gradients(digits.load_digits("test")[0])  # the seam lies between columns 1 and 2 of a window
    print("real digits", told(real[:, 1]), told(real[:, 2:].mean(1)), sep=" | ")
    average = lp.Replace(lp.WindowedScore(score, (None, SIDE), OVERLAP), steps=24)
    for name, paint in {**painters, "average, Replace, 24 steps": average}.items():
        made[name] = paint(observation, generator=lp.seeded(range(COUNT)))
        print(name, *figures(made[name].clamp(-1, 1)), sep=" | ", flush=True)
    rows = [torch.nn.functional.pad(x, (1, 1, 1, 1), value=1.0) for x in (strips[:2] for strips in made.values())]
    picture = torch.cat([row.reshape(1, -1, row.shape[-1]) for row in rows], dim=1)
    image = as_image(to_pixels(picture))
    image.resize((image.width * 6, image.height * 6), 0).save(Path(__file__).parents[1] / "chain-strips.png")


if __name__ == "__main__":
    main()
