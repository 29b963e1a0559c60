"""Ways to draw the times of a time-map network: the figure and the tables of docs/asyncpatch.md (AsyncPatch, Table 1).

`python docs/studies/async_times.py histograms OUT.png` draws maps, and histograms of their means and spreads (Fig. 3).

`python docs/studies/async_times.py train IMAGES OUT [RUN …]` trains `emoji-async` on the emoji in the folder or zip
IMAGES, from the weights of `emoji-flow`: once for each way and each seed, with the same settings otherwise. A RUN is
for example `perlin-0`; without it there are all runs, seed by seed. A run that OUT holds is kept, also in part.
`python docs/studies/async_times.py table IMAGES OUT` judges the runs in OUT on held-out emoji, and prints the tables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from async_inpaint import figures as hole_figures
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import PixelModel
from lanpaint.adapters.time_map import TimeMapUNet
from lanpaint.metrics import energy_distance
from lanpaint.plotting import new_figure, save
from lanpaint_toys.asynchronous import hole_loss, holes
from lanpaint_toys.emoji import ASYNC, FLOW, load_unet
from lanpaint_toys.evaluation import denoising_loss
from lanpaint_toys.features import picture_features
from lanpaint_toys.images import load_images
from lanpaint_toys.recipes import RECIPES
from lanpaint_toys.times import TIMES, mean_and_spread
from lanpaint_toys.train import Sources, train

WAYS = ("independent", "perlin", "patchwise", "asyncpatch", "synchronous")
STEPS, BATCH, SEEDS = 250, 8, (0, 1, 2)
RUNS = tuple(f"{way}-{seed}" for seed in SEEDS for way in WAYS)
PICTURES, DRAWS, EVALUATIONS = 64, 4, 12
COLUMNS = ("loss, one time", "distance of samples", "loss in holes", "squared error in holes", "features in holes")


def train_all(images: Path, out: Path, runs: Sequence[str] = RUNS) -> None:
    """Train a network with each way to draw times and each seed; what is there is kept."""
    for run in runs:
        if not (out / run / "pipeline").is_dir():
            way, seed = run.split("-")
            settings = replace(
                RECIPES["emoji-async"].defaults,
                times=way,
                steps=STEPS,
                batch_size=BATCH,
                seed=int(seed),
                validation_images=0,
            )
            train(settings, out / run, sources=Sources(data=images, init=FLOW))
            print(f"{out / run} is done", flush=True)


@torch.no_grad()
def judge(unet: Any, truth: Tensor) -> list[float]:
    """The figures of a network, in the order of `COLUMNS`. Noise, times and holes are the same for all networks."""
    scheduler = RECIPES["emoji-async"].make_scheduler()
    score = PixelModel(unet, scheduler)
    samples = lp.Sampler(score, steps=EVALUATIONS)(truth.shape, generator=torch.Generator().manual_seed(0))
    masks = torch.stack(holes((32, 32))).bool()
    known = ~masks[torch.arange(len(truth)) % len(masks)]
    filled = lp.AsyncPaint(score, steps=EVALUATIONS)(
        lp.Observation(truth, known), generator=torch.Generator().manual_seed(0)
    )
    error, features, _ = hole_figures(filled, truth, known).mean(0).tolist()
    made, wanted = picture_features(samples), picture_features(truth)
    return [
        denoising_loss(unet, scheduler, truth, draws=DRAWS)[0],
        energy_distance(made, wanted, permutations=19).value / float(torch.pdist(wanted).mean()),
        hole_loss(unet, scheduler, truth, draws=DRAWS)[0],
        error,
        features,
    ]


def judged(images: Path, out: Path) -> dict[str, list[float]]:
    """Name → figures, of the runs in OUT, of the weights that they begin with, and of those that are shipped.

    OUT keeps the figures, so no run is judged twice.
    """
    truth = load_images(images, 32).split()[1].one_per_family().images
    truth = truth[torch.linspace(0, len(truth) - 1, PICTURES).long()]
    record = out / "figures.json"
    known: dict[str, list[float]] = json.loads(record.read_text()) if record.exists() else {}
    trained = {run: out / run / "pipeline" for run in RUNS if (out / run / "pipeline").is_dir()}
    for name, folder in {"before": FLOW, "shipped": ASYNC, **trained}.items():
        if name not in known:
            unet = load_unet(folder)
            known[name] = judge(TimeMapUNet.from_unet(unet) if folder == FLOW else unet, truth)
            record.write_text(json.dumps(known, indent=1) + "\n")
    return known


def with_error(values: Tensor) -> str:
    """Mean and standard error of values (N,); the value alone if there is one."""
    if len(values) == 1:
        return f"{float(values):.4f}"
    return f"{float(values.mean()):.4f} ± {float(values.std()) / len(values) ** 0.5:.4f}"


def table(images: Path, out: Path) -> None:
    """Print each way's means over seeds, and the means of its differences to AsyncPatch with the same seed."""
    known = judged(images, out)

    def seeds(way: str) -> list[int]:
        return [seed for seed in SEEDS if f"{way}-{seed}" in known]

    def rows(way: str, of: Sequence[int]) -> Tensor:
        return torch.tensor([known[f"{way}-{seed}"] for seed in of])

    head = ["| times | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    print("\n".join(head))
    for name in ("before", "shipped"):
        print(f"| {name} | | " + " | ".join(f"{value:.4f}" for value in known[name]) + " |")
    for way in (way for way in WAYS if seeds(way)):
        print("| " + " | ".join([way, str(len(seeds(way))), *map(with_error, rows(way, seeds(way)).T)]) + " |")
    print("\n".join(["", *head]))
    for way in WAYS:
        both = [seed for seed in seeds(way) if seed in seeds("asyncpatch")]
        if way != "asyncpatch" and both:
            beside = rows(way, both) - rows("asyncpatch", both)
            print("| " + " | ".join([way, str(len(both)), *map(with_error, beside.T)]) + " |")


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
    if sys.argv[1] == "histograms":
        histograms(Path(sys.argv[2]))
    elif sys.argv[1] == "train":
        train_all(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] or RUNS)
    else:
        table(Path(sys.argv[2]), Path(sys.argv[3]))
