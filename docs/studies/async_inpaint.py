"""Inpainting with a time for each pixel, beside methods for ordinary networks: the table of docs/asyncpatch.md.

`python docs/studies/async_inpaint.py IMAGES [EVALUATIONS [NAME …]]` paints holes of 32 held-out emoji, from the folder
or zip IMAGES, by every method (or those named) with equal evaluations, and prints figures with standard errors over
pictures. It writes no picture.

`python docs/studies/async_inpaint.py films OUT.png` draws levels and pictures over time, from the model's own samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.metrics import seam_shift
from lanpaint.plotting import new_figure, save
from lanpaint_toys.asynchronous import holes
from lanpaint_toys.emoji import ASYNC, FLOW
from lanpaint_toys.features import picture_features
from lanpaint_toys.images import load_images

INNER = 4
Painted = Callable[[lp.Score, Tensor, Tensor, list[torch.Generator]], Tensor]


def depth(known: Tensor) -> Tensor:
    """How deep in the hole a pixel lies, from 0 at its edge to 1, shape of ``known`` (B, 1, H, W)."""
    deep = torch.stack([torch.from_numpy(distance_transform_edt(~one[0].numpy())) for one in known])[:, None]
    return deep / deep.amax((1, 2, 3), keepdim=True)


def outside_in(known: Tensor, delay: float = 0.5) -> lp.TimePath:
    """The inpainting path in which the edge of the hole goes first, and its depth later by ``delay``."""
    deep, unknown = depth(known), (~known).double()
    return lp.TimePath(lambda u: unknown * (1 + delay * deep - (1 + delay) * u).clamp(0, 1))


def by_plan(evaluations: int) -> Painted:
    """The schedule that goes from the edge of the hole inwards, one evaluation a step."""

    def paint(score: lp.Score, truth: Tensor, known: Tensor, generator: list[torch.Generator]) -> Tensor:
        plan = outside_in(known).plan(lp.Flow(), evaluations)
        return lp.Replace(score, plan=plan)(lp.Observation(truth, known), generator=generator)

    return paint


def in_two_parts(evaluations: int) -> Painted:
    """LanPaint twice, with half the steps each: first the outer half of the hole is kept, then the rest is painted."""

    def paint(score: lp.Score, truth: Tensor, known: Tensor, generator: list[torch.Generator]) -> Tensor:
        deep = depth(known)
        sampler = lp.LanPaint(score, steps=evaluations // (INNER + 1) // 2, inner_steps=INNER)
        first = sampler(lp.Observation(truth, known), generator=generator)
        middle = torch.stack([one[~own].median() for one, own in zip(deep, known, strict=True)]).view(-1, 1, 1, 1)
        return sampler(lp.Observation(first, known | (deep <= middle)), generator=generator)

    return paint


def by(kind: type[lp.Sampler], **options: int) -> Painted:
    """A method by its class, on an observation of the known pixels."""

    def paint(score: lp.Score, truth: Tensor, known: Tensor, generator: list[torch.Generator]) -> Tensor:
        return kind(score, **options)(lp.Observation(truth, known), generator=generator)

    return paint


def methods(evaluations: int) -> dict[str, tuple[Path, Painted]]:
    """Name → weights and method, each with so many evaluations."""
    plain, inner = {"steps": evaluations}, {"steps": evaluations // (INNER + 1), "inner_steps": INNER}
    return {
        "schedule (Eq. 4)": (ASYNC, by(lp.AsyncPaint, **plain)),
        "schedule and Langevin steps": (ASYNC, by(lp.AsyncPaint, **inner)),
        "schedule, edge first": (ASYNC, by_plan(evaluations)),
        "Replace": (ASYNC, by(lp.Replace, **plain)),
        "RePaint": (ASYNC, by(lp.RePaint, **inner)),
        "LanPaint": (ASYNC, by(lp.LanPaint, **inner)),
        "Replace, ordinary weights": (FLOW, by(lp.Replace, **plain)),
        "LanPaint, ordinary weights": (FLOW, by(lp.LanPaint, **inner)),
        "LanPaint, ordinary weights, edge first": (FLOW, in_two_parts(evaluations)),
    }


def figures(x: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Squared error in the hole, squared distance of features over that of features to zero, colour shift at the seam.

    Shape (B, 3).
    """
    hidden = (~known).expand_as(truth)
    error = ((x - truth).square() * hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1)
    made, wanted = picture_features(x), picture_features(truth)
    feature = (made - wanted).square().sum(1) / wanted.square().sum(1)
    return torch.stack([error, feature, seam_shift(x, truth, known)], 1)


def told(values: Tensor) -> str:
    """Mean and standard error of values (B,)."""
    return f"{float(values.mean()):.4f} ± {float(values.std()) / len(values) ** 0.5:.4f}"


def main(images: str, evaluations: int = 30, names: Sequence[str] = (), count: int = 32) -> None:
    """Print the table, of all methods or of some."""
    truth = load_images(images, 32).split()[1].one_per_family().images
    truth = truth[torch.linspace(0, len(truth) - 1, count).long()]
    masks = torch.stack(holes((32, 32))).bool()
    known = ~masks[torch.arange(count) % len(masks)]
    print("| method | evaluations | squared error in the hole | beside the schedule | features | seam |")
    print("|---|---|---|---|---|---|")
    first: Tensor | None = None
    for name, (weights, paint) in methods(evaluations).items():
        if names and name not in names:
            continue
        score = lp.CountedScore(load_pixel_model(weights))
        with torch.no_grad():
            found = figures(paint(score, truth, known, lp.seeded(range(count))), truth, known)
        first = found if first is None else first
        cells = [str(score.evaluations), told(found[:, 0]), told(found[:, 0] - first[:, 0]), told(found[:, 1])]
        print("| " + " | ".join([name, *cells, told(found[:, 2])]) + " |", flush=True)


def films(path: str = "docs/asyncpatch-films.png", columns: int = 7) -> None:
    """Draw the time map and the state at evenly spaced steps: the model's own sample, its right half painted anew."""
    score = load_pixel_model(ASYNC)
    truth = lp.Sampler(score, steps=30)((1, 3, 32, 32), generator=torch.Generator().manual_seed(3)).clamp(-1, 1)
    known = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    known[..., :16] = True
    patches = lp.TimePath.autoregressive(lp.raster_patches((32, 32), 16))
    paths = {
        "synchronous": (lp.TimePath.of_positions(lambda u, at: (1 - u) * torch.ones(32, 32), (32, 32)), None),
        "patch by patch": (patches, None),
        "inpainting": (lp.TimePath.inpainting(known), known),
        "edge first": (outside_in(known), known),
    }
    figure = new_figure(figsize=(1.1 * columns, 2.2 * len(paths)))
    axes = figure.subplots(2 * len(paths), columns)
    for row, (name, (path_of, held)) in enumerate(paths.items()):
        steps = 4 * (columns - 1)
        plan = path_of.plan(lp.Flow(), steps)
        observation = lp.Observation.none((1, 3, 32, 32)) if held is None else lp.Observation(truth, held)
        run = lp.Replace(score, plan=plan).iterate(observation, generator=torch.Generator().manual_seed(0))
        states = [state for state in run if state.kind in ("start", "outer")]
        shown = [state.x for state in states if state.kind == "start"][:: steps // (columns - 1)]
        shown.append(states[-1].x)
        for column, x in enumerate(shown):
            times = path_of(column / (columns - 1)).reshape(32, 32)
            axes[2 * row, column].imshow(times, vmin=0, vmax=1, cmap="gray_r")
            axes[2 * row + 1, column].imshow(((x[0].clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy())
        axes[2 * row, 0].set_ylabel(name, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    save(figure, path, dpi=110)


if __name__ == "__main__":
    if sys.argv[1] == "films":
        films(*sys.argv[2:3])
    else:
        main(sys.argv[1], *(int(text) for text in sys.argv[2:3]), names=sys.argv[3:])
