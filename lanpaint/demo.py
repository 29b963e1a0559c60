"""The demo: emoji and real held-out digits, four masks, Replace and LanPaint side by side in one picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.observation import Observation
from lanpaint.plotting import new_figure, save
from lanpaint.randomness import seeded
from lanpaint.samplers import LanPaint, Replace, Sampler
from lanpaint.score import CountedScore, Score

LEAST = 8
"""Smallest number of digits in the demo, because the PSNR is a mean over the digits."""

EMOJI = 6
"""Number of emoji in a row of the picture. Digits fill the rest of the row."""

_COLUMNS = 10
_TILE = 32  # width and height in pixels of each image in the picture; digits are enlarged to it
_HOLE = (0.0, 0.45, 0.70)
# Added to the seeds with which emoji are drawn. With the seeds of the inpainting, Replace would start from the noise
# that an emoji was drawn from, and draw the emoji again.
_DRAWN = 10**9


@dataclass(frozen=True)
class MaskResult:
    """Results of the demo for one mask.

    Attributes:
        mask: Name of the mask.
        known: Boolean (H, W), True where known.
        truth: Held-out images (B, C, H, W) in [−1, 1].
        filled: Method → inpainted images, of the shape of ``truth``.
        psnr: Method → mean over the images of the PSNR on the hole, in dB.
        nfe: Method → evaluations of the network.
        seconds: Method → wall-clock time for the batch, in seconds.
    """

    mask: str
    known: Tensor
    truth: Tensor
    filled: dict[str, Tensor]
    psnr: dict[str, float]
    nfe: dict[str, int]
    seconds: dict[str, float]


def run(
    score: Score, truth: Tensor, seed: int = 0, report: Callable[[MaskResult], None] | None = None
) -> list[MaskResult]:
    """Results of both methods for each of the four masks.

    Args:
        score: The model.
        truth: Images (B, C, H, W) in [−1, 1].
        seed: Image i is inpainted with a generator of seed ``seed + i``.
        report: Function that is called with each result as soon as it is there.
    """
    results = []
    for mask, make in MASKS.items():
        known = make(*truth.shape[-2:])
        observation = Observation(truth, known)
        counted = CountedScore(score)
        filled, psnr, nfe, seconds = {}, {}, {}, {}
        for name, sampler in {"Replace": Replace(counted), "LanPaint": LanPaint(counted)}.items():
            counted.evaluations, start = 0, time.perf_counter()
            x = sampler(observation, generator=seeded(range(seed, seed + len(truth))))
            filled[name], nfe[name], seconds[name] = x, counted.evaluations, time.perf_counter() - start
            psnr[name] = float(hole_psnr(x, truth, known).mean())
        results.append(MaskResult(mask, known, truth, filled, psnr, nfe, seconds))
        if report is not None:
            report(results[-1])
    return results


def draw(subjects: Sequence[Sequence[MaskResult]], path: str | Path) -> None:
    """Write the picture: for each mask four rows (truth, masked, Replace, LanPaint) with images of each subject.

    Args:
        subjects: For each subject, such as digits, the results for each mask. All subjects have the same masks in the
            same order; with fewer than four, blocks stay empty. Images have at most 32 pixels a side.
        path: File to write.
    """
    import numpy as np

    figure = new_figure(figsize=(13.2, 5.9))
    blocks: Any = figure.subfigures(2, 2, wspace=0.02, hspace=0.02)
    for block, results in zip(blocks.flat, zip(*subjects, strict=True), strict=False):
        axes = block.subplots(4, 1)
        block.suptitle(results[0].mask, fontsize=12)
        for axis, name in zip(axes, ("truth", "masked", *results[0].filled), strict=True):
            tiles: list[Any] = []
            for result in results:
                shown = _COLUMNS - len(tiles) if tiles else min(EMOJI, len(result.truth))
                tiles += list(_tiles(result, name)[:shown])
            strip = np.concatenate([np.pad(t, ((0, 0), (0, 2), (0, 0)), constant_values=1.0) for t in tiles], axis=1)
            axis.imshow(strip[:, :-2], interpolation="nearest")
            axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    save(figure, path)


def _tiles(result: MaskResult, name: str) -> Any:
    """The images of one row of the picture, (B, 32, 32, 3) in [0, 1]."""
    images = result.truth if name in ("truth", "masked") else result.filled[name]
    pixels = ((images.clamp(-1, 1) + 1) / 2).expand(-1, 3, -1, -1)
    if name == "masked":
        pixels = torch.where(result.known, pixels, torch.tensor(_HOLE)[:, None, None])
    return F.interpolate(pixels, size=(_TILE, _TILE), mode="nearest").permute(0, 2, 3, 1).numpy()


def digits_score(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Score:
    """The embedded digits model."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint_toys.digits import FOLDER

    return load_pixel_model(FOLDER, device=device, dtype=dtype)


def held_out_digits(count: int) -> Tensor:
    """The first ``count`` held-out digits, (count, 1, 8, 8) in [−1, 1]."""
    from lanpaint_toys.digits import load_digits

    images, _ = load_digits("test")
    if not LEAST <= count <= len(images):
        raise ValueError(f"the number of digits must be from {LEAST} to {len(images)}, got {count}")
    return images[:count]


def emoji_score(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Score:
    """The embedded model of colour emoji."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint_toys.emoji import PIXEL

    return load_pixel_model(PIXEL, device=device, dtype=dtype)


def emoji_pictures(score: Score, count: int = EMOJI, images: str | Path | None = None, seed: int = 0) -> Tensor:
    """Pictures to inpaint, (count, 3, 32, 32) in [−1, 1]: drawn from the model, or read from files.

    Args:
        score: The model that pictures are drawn from.
        count: Number of pictures.
        images: Folder or zip of image files to read instead. The pictures are spread evenly over the files. Emoji that
            the model was trained on are left out.
        seed: Seed for drawing from the model.

    Raises:
        ValueError: When the images cannot be read, or there are fewer than ``count``.
    """
    from lanpaint_toys.images import load_images

    if images is None:
        drawn = Sampler(score, steps=50)(
            (count, 3, _TILE, _TILE), generator=seeded(range(_DRAWN + seed, _DRAWN + seed + count))
        )
        return drawn.clamp(-1, 1)
    found = load_images(Path(images), _TILE).unseen().one_per_family()
    if len(found) < count:
        raise ValueError(f"{images} has {len(found)} pictures for the demo; give a folder or a zip of {count} or more")
    return found.images[torch.linspace(0, len(found) - 1, count).long()]


def main(count: int = 240) -> None:
    """Print the table of docs/benchmarks.md: PSNR on the hole and the paired gain, with standard errors."""
    print("| mask | Replace (20 NFE) | LanPaint (120 NFE) | gain |\n|---|---|---|---|", flush=True)

    def report(result: MaskResult) -> None:
        psnr = {name: hole_psnr(x, result.truth, result.known) for name, x in result.filled.items()}
        columns = [psnr["Replace"], psnr["LanPaint"], psnr["LanPaint"] - psnr["Replace"]]
        cells = [f"{float(c.mean()):.2f} ± {float(c.std()) / count**0.5:.2f} dB" for c in columns]
        print(f"| {result.mask} | " + " | ".join(cells) + " |", flush=True)

    run(digits_score(), held_out_digits(count), report=report)


if __name__ == "__main__":
    main()
