"""What is seen at the edge of a hole: colour matching, and the pixels past the edge of a picture.

    python docs/studies/seams.py noto-emoji-128.zip

The archive is the one that the model cards name (``toy_models/lanpaint_toys/weights``). All pictures here are held out
from the training. The first table is that of ``match_colour`` (docs/use-with-your-model.md), the
second that of ``lanpaint/window.py``.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.demo import emoji_score
from lanpaint.images import hole_psnr
from lanpaint_toys.emoji import load_latent_pipeline
from lanpaint_toys.images import load_images


def mean_step(pictures: Tensor, hole: Tensor) -> float:
    """Mean difference between neighbours across the edge of the hole, of 255; pictures (n, 3, H, W) in [0, 1]."""
    steps = []
    for axis in (-1, -2):
        differs = hole.diff(dim=axis)
        steps.append(pictures.diff(dim=axis).abs()[..., differs])
    return float(torch.cat(steps, -1).mean()) * 255


def colours(data: str, count: int = 24) -> None:
    """Print the step across the edge with and without colour matching, with emoji-latent."""
    held = load_images(data, 64).unseen().families_first().images[:count]
    truth = (held + 1) / 2
    hole = torch.zeros(64, 64, dtype=torch.bool)
    hole[20:44, 20:44] = True
    pipe = load_latent_pipeline()
    pipe.set_progress_bar_config(disable=True)
    print("| match_colour | step across the edge, of 255 | PSNR in the hole |\n|---|---|---|")
    for match in (False, True):
        generator = lp.seeded(range(count))
        options = {"steps": 10, "inner_steps": 3, "generator": generator, "output_type": "np", "match_colour": match}
        made = torch.from_numpy(lp.Inpainter(pipe)(truth, hole, **options).images).movedim(-1, 1)
        psnr = float(hole_psnr(2 * made - 1, held, ~hole).mean())
        print(f"| {match} | {mean_step(made, hole):.1f} | {psnr:.1f} dB |")
    print(f"| the true pictures | {mean_step(truth, hole):.1f} | |\n")


def past_the_edge(data: str, count: int = 40) -> None:
    """Print what the pixels past the edge cost in the hole, against true pixels there, with emoji-pixel."""
    images, score = load_images(data, 32).unseen().families_first().images[:count], emoji_score()
    place = torch.arange(32)
    print("| of 32 px | hole | unknown | repeated, known | mirrored, known |\n|---|---|---|---|---|")
    for side in (29, 25, 20):
        rules = {
            "true": place,
            "unknown": place.clamp(max=side - 1),
            "repeated": place.clamp(max=side - 1),
            "mirrored": torch.where(place < side, place, 2 * side - 1 - place),
        }
        holes = {"inside": (slice(6, 16), slice(6, 16)), "at the cut": (slice(8, 18), slice(side - 9, side))}
        for name, (rows, columns) in holes.items():
            whole = torch.ones(32, 32, dtype=torch.bool)
            whole[rows, columns] = False
            found = {}
            for rule, index in rules.items():
                known = (
                    whole[index][:, index] if rule != "unknown" else whole & (place < side) & (place < side)[:, None]
                )
                observation = lp.Observation(images[..., index, :][..., index], known)
                made = lp.LanPaint(score, preset="fast", steps=10)(observation, generator=lp.seeded(range(count)))
                found[rule] = hole_psnr(made, images, whole)
            lost = [found[rule] - found["true"] for rule in ("unknown", "repeated", "mirrored")]
            cells = (f"{float(each.mean()):+.2f} ± {float(each.std() / count**0.5):.2f} dB" for each in lost)
            print(f"| {side} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("give the archive of pictures: python docs/studies/seams.py noto-emoji-128.zip")
    colours(sys.argv[1])
    past_the_edge(sys.argv[1])
