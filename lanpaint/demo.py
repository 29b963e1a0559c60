"""The demo: real held-out digits, four masks, Replace and LanPaint side by side in one picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.observation import Observation
from lanpaint.plotting import new_figure, save
from lanpaint.randomness import seeded
from lanpaint.samplers import LanPaint, Replace
from lanpaint.score import CountedScore, Score

SHOWN = 8


@dataclass(frozen=True)
class MaskResult:
    """One mask of the demo.

    Attributes:
        mask: Its name.
        known: Boolean (H, W).
        truth: Held-out images (B, 1, H, W) in [−1, 1].
        filled: Method → images of the same shape.
        psnr: Method → mean over the images of the PSNR on the hole, in dB.
        nfe: Method → evaluations of the network.
        seconds: Method → time for the batch.
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
    """Inpaint ``truth`` (B, 1, H, W) under the four masks with both methods; every image has its own generator."""
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


def draw(results: list[MaskResult], path: str | Path) -> None:
    """Write the picture: per mask four rows (truth, masked, Replace, LanPaint) of the first eight images."""
    import numpy as np

    figure = new_figure(figsize=(13.2, 6.9))
    blocks: Any = figure.subfigures(2, 2, wspace=0.03, hspace=0.05)
    for block, result in zip(blocks.flat, results, strict=True):
        rows = {"truth": result.truth, "masked": result.truth, **result.filled}
        axes = block.subplots(len(rows), 1)
        gain = result.psnr["LanPaint"] - result.psnr["Replace"]
        block.suptitle(
            f"{result.mask}   (LanPaint {gain:+.1f} dB on the hole, {len(result.truth)} digits)", fontsize=11
        )
        for axis, (name, images) in zip(axes, rows.items(), strict=True):
            grey = ((images[:SHOWN, 0].clamp(-1, 1) + 1) / 2).numpy()
            colour = np.repeat(grey[..., None], 3, axis=-1)
            if name == "masked":
                colour[:, ~result.known.numpy()] = (0.0, 0.45, 0.70)
            strip = np.pad(colour, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1.0)
            axis.imshow(np.concatenate(list(strip), axis=1)[:, :-1], interpolation="nearest")
            axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    save(figure, path)


def digits_score(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Score:
    """The embedded digits model."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from toy_models.digits import FOLDER

    return load_pixel_model(FOLDER, device=device, dtype=dtype)


def held_out_digits(count: int) -> Tensor:
    """The first ``count`` held-out digits, (count, 1, 8, 8) in [−1, 1]."""
    from toy_models.digits import load_digits

    images, _ = load_digits("test")
    if not SHOWN <= count <= len(images):
        raise ValueError(f"the number of digits must be from {SHOWN} to {len(images)}, got {count}")
    return images[:count]


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
