"""What each method does on the same holes: the picture and the table of docs/gallery.md.

`python docs/studies/gallery.py [OUT.png]` paints the same emoji by every method without particles, with about 120
evaluations each, and writes one row of the picture for each method. The emoji are drawn by the model itself, so the
truth is one of its own pictures. The masks alternate: the right half, a box, all but the middle.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.demo import emoji_pictures, emoji_score
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.methods import METHODS
from lanpaint.plotting import new_figure, save
from lanpaint.score import CountedScore

BUDGET = 120
_HOLE = torch.tensor([0.0, 0.45, 0.70])
# Method → settings that spend the budget; None is what the name has. Particles would need many times the budget.
SETTINGS: dict[str, dict[str, float]] = {
    "replace": {"steps": 120}, "blended": {"steps": 120}, "ddrm": {"steps": 120}, "ddnm": {"steps": 120},
    "diffpir": {"steps": 120}, "ding": {"steps": 60}, "flowchef": {"steps": 120}, "flowdps": {"steps": 120},
    "daps": {"steps": 24}, "syncsde": {"steps": 60}, "alm": {"steps": 30}, "reddiff": {"steps": 120},
    "mcg": {"steps": 120}, "dps": {"steps": 120}, "pigdm": {"steps": 120}, "repaint": {"steps": 20, "inner_steps": 5},
    "langevin": {"steps": 20, "inner_steps": 5}, "lanpaint": {"steps": 20, "inner_steps": 5},
}  # fmt: skip


def masks(count: int, side: int) -> Tensor:
    """What is known, (count, 1, side, side)."""
    kinds = [MASKS[name](side, side) for name in ("half", "box", "outpaint")]
    return torch.stack([kinds[n % len(kinds)] for n in range(count)])[:, None]


def pixels(images: Tensor) -> Tensor:
    """Images as (B, H, W, 3) in [0, 1]."""
    return ((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1)


def main(path: str = "docs/gallery.png", count: int = 9) -> None:
    """Write the picture and print the table."""
    score = emoji_score()
    truth = emoji_pictures(score, count, seed=7)
    known = masks(count, truth.shape[-1])
    given = torch.where(known.permute(0, 2, 3, 1), pixels(truth), _HOLE)
    rows = {"truth": pixels(truth), "given": given}
    print("| method | evaluations | PSNR of the hole, dB |\n|---|---|---|", flush=True)
    runs = [(name, name, options) for name, options in SETTINGS.items()]
    runs.append(("lanpaint, fast", "lanpaint", {**SETTINGS["lanpaint"], "preset": "fast"}))  # type: ignore[dict-item]
    for label, name, options in runs:
        counted = CountedScore(score)
        paint = METHODS[name].sampler(counted, **options)
        x = paint(lp.Observation(truth, known), generator=lp.seeded(range(count)))
        rows[label] = pixels(x)
        psnr = torch.cat([hole_psnr(x[n : n + 1], truth[n : n + 1], known[n]) for n in range(count)])
        print(f"| `{label}` | {counted.evaluations} | {float(psnr.mean()):.1f} |", flush=True)
    figure = new_figure(figsize=(7.2, 0.72 * len(rows)))
    axes = figure.subplots(len(rows), count)
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture.detach().numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    main(*sys.argv[1:2])
