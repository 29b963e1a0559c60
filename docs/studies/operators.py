"""Super-resolution, colourisation, deblurring and compressive sensing by inpainting samplers, with held-out PSNR.

    python docs/studies/operators.py noto-emoji-128.zip docs/operators.png

The archive is the one that the model cards name (``toy_models/lanpaint_toys/weights``). All pictures here are held out
from the training. The figures are means over the pictures with their standard errors. It takes about five minutes on
one core.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.bench import make_target
from lanpaint.bench.targets import OperatorTarget
from lanpaint.demo import emoji_pictures, emoji_score
from lanpaint.images import hole_psnr, to_pixels
from lanpaint.methods import find_method
from lanpaint.plotting import new_figure, save

TARGETS = [f"emoji-pixel:{name}" for name in ("pool2", "pool4", "grey", "blur", "sense", "red")]
TARGETS += ["digits:pool2", "digits:blur", "digits:sense"]
METHODS = {
    "ddrm": {"steps": 30},
    "ddnm": {"steps": 30},
    "lanpaint": {"steps": 5, "inner_steps": 5},
    "lanpaint fast": {"steps": 5, "inner_steps": 5, "preset": "fast", "spacing": "focused"},
}
SHOWN = 4


def painted(target: OperatorTarget, truth: Tensor, method: str, options: dict) -> Tensor:
    """Pictures (n, C, H, W) given the measurements of ``truth``, with 30 evaluations."""
    observation = target.operator.observe(target.operator(truth))
    sampler = find_method(method.split()[0]).sampler(target.score, **options)
    return target.operator.unrotate(sampler(observation, generator=lp.seeded(range(len(truth)))))


def made_of(target: OperatorTarget, truth: Tensor) -> dict[str, Tensor]:
    """What A⁺ and every method make of the measurements of ``truth``."""
    made = {"A⁺ y": target.operator.pseudo_inverse(target.operator(truth))}
    return made | {method: painted(target, truth, method, options) for method, options in METHODS.items()}


def table(data: str, count: int) -> None:
    """Print the PSNR on held-out pictures."""
    print("| target | A⁺ y alone | " + " | ".join(METHODS) + " |")
    print("|---" * (2 + len(METHODS)) + "|")
    for name in TARGETS:
        target = make_target(name, data if name.startswith("emoji") else None)
        assert isinstance(target, OperatorTarget)
        truth = target.images[:count]
        cells = []
        for x in made_of(target, truth).values():
            psnr = hole_psnr(x, truth, torch.zeros(truth.shape[-2:], dtype=torch.bool))
            cells.append(f"{float(psnr.mean()):.1f} ± {float(psnr.std() / count**0.5):.1f}")
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def picture(data: str, path: str) -> None:
    """Draw what the methods make of pictures that the model has drawn itself: no picture of the data is shown."""
    names = [name for name in TARGETS if name.startswith("emoji")]
    figure = new_figure(figsize=(13, 0.75 * len(names)))
    heads = ["drawn by the model", "A⁺ y", *METHODS]
    panels = figure.subplots(len(names), len(heads), squeeze=False)
    truth = emoji_pictures(emoji_score(), SHOWN, seed=11)
    for row, name in zip(panels, names, strict=True):
        target = make_target(name, data)
        assert isinstance(target, OperatorTarget)
        for axis, head, x in zip(row, heads, [truth, *made_of(target, truth).values()], strict=True):
            strip = torch.cat(list(to_pixels(x)), -1).movedim(0, -1)
            axis.imshow(strip.numpy(), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if name == names[0]:
                axis.set_title(head, fontsize=9)
        row[0].set_ylabel(name.rpartition(":")[2], fontsize=9)
    save(figure, path, dpi=120)


def main(data: str, path: str, count: int = 8) -> None:
    """Print the table and draw the picture."""
    table(data, count)
    picture(data, path)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(
            "give the archive of pictures and the picture to draw: operators.py noto-emoji-128.zip out.png"
        )
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 8)
