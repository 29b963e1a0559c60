"""An error head on a network of digits that takes maps of times: its calibration, and whether easy pixels may go first.

    python docs/studies/uncertainty.py FOLDER      # the tables and the picture of docs/asyncpatch.md

FOLDER is a run of `python -m lanpaint_toys.train digits-async`. The head learns from training digits and is tested on
the test digits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.metrics import energy_distance
from lanpaint.plotting import COLOURS, MARKERS, new_figure, save
from lanpaint.score import Score
from lanpaint_toys.digits import load_digits
from lanpaint_toys.uncertainty import ErrorHead, collect, fit_head

DOCS = Path(__file__).parents[1]
CHUNK = 360


def draw_times(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Maps of times: even pictures, and holes in pictures at another time, by halves."""
    hole = torch.zeros(count, 1, side, side, dtype=torch.bool)
    for one in hole:
        top, left = torch.randint(0, side, (2,), generator=generator).tolist()
        one[:, top : top + side // 2, left : left + side // 2] = True
    inside, outside, even = torch.rand(3, count, 1, 1, 1, generator=generator)
    return torch.where(hole & (even < 0.5), outside, inside).clamp(min=0.02)


def examples(score: Score, pictures: Tensor, draws: int, seed: int) -> tuple[Tensor, ...]:
    """What the head learns from, or is tested on: each picture at some maps of times."""
    generator = torch.Generator().manual_seed(seed)
    clean = pictures.repeat(draws, 1, 1, 1)
    times = draw_times(len(clean), pictures.shape[-1], generator)
    noise = torch.randn(clean.shape, generator=generator)
    parts = zip(*(each.split(CHUNK) for each in (clean, times, noise)), strict=True)
    made = [collect(score, *part) for part in parts]
    return tuple(torch.cat(column) for column in zip(*made, strict=True))


@torch.no_grad()
def calibration(head: ErrorHead, data: tuple[Tensor, ...], bins: int = 10) -> Tensor:
    """Pixels sorted by the predicted error in bins of one size: predicted and true mean and its error, (bins, 3).

    The error is over pictures.
    """
    noisy, denoised, times, errors = data
    predicted = head.log_error(noisy, denoised, times).exp()
    edges = torch.quantile(predicted.flatten()[::7], torch.linspace(0, 1, bins + 1))[1:-1]
    which = torch.bucketize(predicted, edges)
    rows = []
    for number in range(bins):
        inside = which == number
        counts = inside.flatten(1).sum(1)
        told, true = (torch.where(inside, each, 0.0).flatten(1).sum(1) for each in (predicted, errors))
        ratio = true.sum() / counts.sum()
        error = (true - ratio * counts).square().sum().sqrt() / counts.sum()
        rows.append([float(told.sum() / counts.sum()), float(ratio), float(error)])
    return torch.tensor(rows)


@torch.no_grad()
def sample(score: Score, head: ErrorHead | None, noise: Tensor, steps: int, fastest: float, turn: float) -> Tensor:
    """Samples from noise (B, C, H, W): one time for all pixels down to ``turn``, then easy pixels go faster.

    The head looks at the state at ``turn`` once, with the prediction that the next step takes anyway: no evaluation is
    counted for it. Without a head all pixels keep one time.
    """
    first = max(1, round(steps * (1 - turn)))
    plan = lp.TimePath.synchronous().plan(lp.Flow(), steps)
    state, level = noise, plan.levels[0]
    solver = lp.Euler()
    for level, next_level in zip(plan.levels[:first], plan.levels[1 : first + 1], strict=True):
        state = solver.step(solver.init(state, steps), score, level, next_level, lp.NormalNoise()).x
    start = plan.levels[first]
    if head is None:
        path = lp.TimePath.synchronous()
    else:
        denoised = score.predict(state, start).denoised
        error = head.log_error(state, denoised, start.sigma.float().reshape(1, 1, 1, 1))
        error = torch.nn.functional.avg_pool2d(error, 3, 1, 1)
        low, high = (error.flatten(1).quantile(q, 1).view(-1, 1, 1, 1) for q in (0.05, 0.95))
        path = lp.TimePath.easy_first(((error - low) / (high - low)).clamp(0, 1), fastest)
    levels = path.starting_at(float(start.sigma)).plan(lp.Flow(), steps - first)
    sampler = lp.Sampler(score, plan=levels)
    return sampler(lp.Observation.none(noise.shape), start=state)


def study(folder: str) -> None:
    """Train the head, print both tables, draw the picture."""
    score = load_pixel_model(folder)
    training, test = load_digits("train")[0], load_digits("test")[0]
    torch.manual_seed(0)
    head = ErrorHead(1)
    loss = fit_head(head, examples(score, training, 2, 0), steps=800)
    data = examples(score, test, 3, 1)
    rows = calibration(head, data)
    print(f"loss of the head {loss:.3f}\n\n| predicted squared error | true |\n|---|---|")
    for told, true, error in rows.tolist():
        print(f"| {told:.4f} | {true:.4f} ± {error:.4f} |")
    told, true = head.log_error(*data[:3]).detach().exp().flatten(), data[3].flatten()
    print(f"\ncorrelation of their logarithms' ranks {_ranks(told, true):.2f}\n")
    real = test.flatten(1)
    results: dict[str, list[tuple[int, float, float]]] = {}
    print("| | " + " | ".join(f"{n} evaluations" for n in STEPS) + " |\n|---" + "|---" * len(STEPS) + "|")
    for name, options in SETTINGS.items():
        results[name] = []
        for steps in STEPS:
            found = []
            for seed in range(3):
                noise = torch.randn(120, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
                samples = sample(score, head if options else None, noise, steps, *(options or (1.0, 0.5)))
                found.append(energy_distance(samples.flatten(1), real[seed::3], permutations=19).value)
            mean, error = float(np.mean(found)), float(np.std(found, ddof=1)) / 3**0.5
            results[name].append((steps, mean, error))
        print(f"| {name} | " + " | ".join(f"{m:.3f} ± {e:.3f}" for _, m, e in results[name]) + " |", flush=True)
    _draw(rows, results, head, score, test)


STEPS = (4, 6, 8, 12)
SETTINGS = {
    "one time for all pixels": None,
    "easy first from τ = 0.75, fastest 0.5": (0.5, 0.75),
    "easy first from τ = 0.5, fastest 0.5": (0.5, 0.5),
    "easy first from τ = 0.5, fastest 0.75": (0.75, 0.5),
}


def _ranks(x: Tensor, y: Tensor) -> float:
    ranks = torch.stack([x.argsort().argsort().double(), y.argsort().argsort().double()])
    return float(torch.corrcoef(ranks)[0, 1])


def _draw(rows: Tensor, results: dict, head: ErrorHead, score: Score, test: Tensor) -> None:  # type: ignore[type-arg]
    figure = new_figure(figsize=(8.6, 6.0))
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.3, 1])
    left, right = upper.subplots(1, 2)
    left.errorbar(rows[:, 0], rows[:, 1], 2 * rows[:, 2], fmt="o-", color=COLOURS[0])
    ends = [float(rows[:, :2].min()), float(rows[:, :2].max())]
    left.plot(ends, ends, color="#999999", linewidth=1)
    left.set(xscale="log", yscale="log", xlabel="predicted squared error", ylabel="true squared error")
    for (name, line), colour, marker in zip(results.items(), COLOURS, MARKERS, strict=False):
        steps, mean, error = zip(*line, strict=True)
        right.errorbar(steps, mean, [2 * e for e in error], label=name, color=colour, marker=marker)
    right.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="energy distance of samples")
    right.set_xticks(STEPS, [str(n) for n in STEPS])
    right.minorticks_off()
    right.legend(fontsize=7)
    times = torch.full((6, 1, 8, 8), 0.6)
    noise = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    noisy, denoised, _, errors = collect(score, test[:6], times, noise)
    told = head.log_error(noisy, denoised, times).detach().exp()
    axes = lower.subplots(4, 6)
    shown = {"noisy": noisy, "x̂₀": denoised, "predicted": told, "true": errors}
    for line, (name, pictures) in zip(axes, shown.items(), strict=True):
        scale = {"vmin": -1, "vmax": 1, "cmap": "gray"} if name in ("noisy", "x̂₀") else {"vmin": 0, "vmax": 2}
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture[0].numpy(), interpolation="nearest", **scale)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    save(figure, DOCS / "asyncpatch-uncertainty.png", dpi=90)


if __name__ == "__main__":
    study(sys.argv[1])
