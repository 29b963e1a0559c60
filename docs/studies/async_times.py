"""Ways to draw the times of a time-map network: the figure and the table of docs/asyncpatch.md (AsyncPatch, Table 1).

`python docs/studies/async_times.py histograms OUT.png` draws maps, and histograms of their means and spreads (Fig. 3).

`python docs/studies/async_times.py train OUT` trains `digits-async` with each way, and the same settings otherwise.
`python docs/studies/async_times.py table OUT` prints the table from the runs that OUT holds.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.metrics import energy_distance
from lanpaint.plotting import new_figure, save
from lanpaint_toys.asynchronous import hole_loss, holes
from lanpaint_toys.digits import load_digits
from lanpaint_toys.evaluation import denoising_loss
from lanpaint_toys.recipes import RECIPES
from lanpaint_toys.times import TIMES, mean_and_spread
from lanpaint_toys.train import train
from lanpaint_toys.trained import load_trained

WAYS = ("asyncpatch", "perlin", "independent", "patchwise", "synchronous", "mixed")
STEPS, BATCH, SEEDS = 400, 64, (0,)


def train_all(out: Path) -> None:
    """Train a network with each way to draw times and each seed; what is there is kept."""
    for seed in SEEDS:
        for way in WAYS:
            folder = out / f"{way}-{seed}"
            if not (folder / "pipeline").is_dir():
                settings = replace(
                    RECIPES["digits-async"].defaults, times=way, steps=STEPS, batch_size=BATCH, seed=seed
                )
                train(settings, folder)
                print(f"{folder} is done", flush=True)


def with_error(values: Tensor) -> str:
    """Mean and standard error of values (N,)."""
    return f"{float(values.mean()):.4f} ± {float(values.std()) / len(values) ** 0.5:.4f}"


def figures(folder: Path, truth: Tensor) -> list[str]:
    """The cells of a row: losses, distance of samples, error in holes."""
    trained, model = load_trained(folder), load_pixel_model(folder)
    one = denoising_loss(trained.unet, trained.scheduler, truth, draws=10)
    hole = hole_loss(trained.unet, trained.scheduler, truth, draws=10)
    samples = lp.Sampler(model, steps=20)((len(truth), *truth.shape[1:]), generator=torch.Generator().manual_seed(0))
    distance = energy_distance(samples.flatten(1), truth.flatten(1), permutations=19)
    masks = torch.stack(holes(truth.shape[-2:]))
    hidden = masks[torch.arange(len(truth)) % len(masks)].bool()
    filled = lp.AsyncPaint(model, steps=20)(lp.Observation(truth, ~hidden), generator=torch.Generator().manual_seed(0))
    error = ((filled - truth).square() * hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1)
    pairs = (one, (distance.value, distance.error), hole)
    return [*(f"{value:.4f} ± {spread:.4f}" for value, spread in pairs), with_error(error)]


def table(out: Path) -> None:
    """Print the table."""
    truth, _ = load_digits("test")
    print("| times | seed | loss, one time | distance of samples | loss in holes | squared error in holes |")
    print("|---|---|---|---|---|---|")
    for way in WAYS:
        for seed in SEEDS:
            folder = out / f"{way}-{seed}" / "pipeline"
            if folder.is_dir():
                print("| " + " | ".join([way, str(seed), *figures(folder, truth)]) + " |", flush=True)


def histograms(path: Path, count: int = 2000) -> None:
    """Draw three maps of each way, and histograms of the mean and the spread of many."""
    names = [name for name in TIMES if name != "mixed"]
    figure = new_figure(figsize=(8, 1.3 * len(names)))
    axes = figure.subplots(len(names), 5, width_ratios=(1, 1, 1, 1.6, 1.6))
    for row, name in zip(axes, names, strict=True):
        maps = TIMES[name].draw(count, (32, 32), torch.Generator().manual_seed(0))
        for axis, number in zip(row[:3], (count // 6, count // 2, 5 * count // 6), strict=True):
            axis.imshow(maps[number, 0], vmin=0, vmax=1, cmap="gray_r")
        row[0].set_ylabel(name)
        for axis, values in zip(row[3:], mean_and_spread(maps), strict=True):
            axis.hist(values.numpy(), bins=40, range=(0, 1), color="#36c")
            axis.set_xlim(0, 1)
        for axis in row:
            axis.set(yticks=[])
            axis.tick_params(labelsize=7)
        for axis in row[:3]:
            axis.set(xticks=[])
    for axis, title in zip(axes[0], ("", "maps", "", "mean", "spread"), strict=True):
        axis.set_title(title, fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    {"train": train_all, "table": table, "histograms": histograms}[sys.argv[1]](Path(sys.argv[2]))
