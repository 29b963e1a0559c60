"""What each method does on the same holes: the picture and the table of docs/gallery.md.

`python docs/studies/gallery.py [OUT.png]` paints the same emoji by every method, with about 120 evaluations each, and
writes one row of the picture for each method. The emoji are drawn by the model itself, so the truth is one of its own
pictures. The masks alternate: the right half, a box, all but the middle.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.bench import expand
from lanpaint.demo import emoji_pictures, emoji_score
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.methods import METHODS
from lanpaint.plotting import new_figure, save
from lanpaint.score import CountedScore

BUDGET = 120
SHOWN = 6  # pictures of each method in the figure, which has two columns of methods
_HOLE = torch.tensor([0.0, 0.45, 0.70])


def settings() -> dict[str, dict[str, int]]:
    """Method → the settings that spend the budget. `pnpdm` needs more for a single step."""
    every = expand({"target": "digits:box", "method": "all", "evaluations": BUDGET, "inner_steps": 5, "particles": 4})
    names = ("steps", "inner_steps", "particles")
    return {row.method: {name: value for name in names if (value := getattr(row, name)) is not None} for row in every}


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
    runs = [(name, name, options) for name, options in settings().items()]
    runs.append(("lanpaint, fast", "lanpaint", {"steps": 20, "inner_steps": 5, "preset": "fast"}))  # type: ignore[dict-item]
    for label, name, options in runs:
        counted = CountedScore(score)
        paint = METHODS[name].sampler(counted, **options)
        x = paint(lp.Observation(truth, known), generator=lp.seeded(range(count))).detach()
        rows[label] = pixels(x)
        psnr = torch.cat([hole_psnr(x[n : n + 1], truth[n : n + 1], known[n]) for n in range(count)])
        print(f"| `{label}` | {counted.rows // count} | {float(psnr.mean()):.1f} |", flush=True)
    rows["truth "] = rows["truth"]  # above the second column as well
    rows["given "] = rows["given"]
    names = [*rows][:-2]
    half = (len(names) + 3) // 2
    columns = [names[:half], ["truth ", "given ", *names[half:]]]
    figure = new_figure(figsize=(11, 0.72 * half))
    for part, labels in zip(figure.subfigures(1, 2), columns, strict=True):
        axes = part.subplots(half, SHOWN)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for line, label in zip(axes, labels, strict=False):
            for axis, picture in zip(line, rows[label], strict=False):
                axis.imshow(picture.numpy(), interpolation="nearest")
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    main(*sys.argv[1:2])
