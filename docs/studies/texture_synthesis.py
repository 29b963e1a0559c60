"""Texture synthesis with levels that differ in space: the upper half given, the lower one made.

    python docs/studies/texture_synthesis.py train FOLDER [minutes]   # the shipped texture model learns maps of times
    python docs/studies/texture_synthesis.py FOLDER                   # the table and the picture of docs/asyncpatch.md

The textures are scikit-image's brick, grass and gravel, in windows of 64 × 64 pixels from the quarter of each picture
that no model was trained on. Image quilting (Efros and Freeman, 2001) copies blocks of the upper half.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.adapters.time_map import TimeMapUNet
from lanpaint.plotting import new_figure, save
from lanpaint_toys.textures import NAMES, RandomWindows, grid_windows, load_textures

WEIGHTS = Path(__file__).parents[2] / "toy_models" / "lanpaint_toys" / "weights" / "textures"
DOCS = Path(__file__).parents[1]
SIDE = 64


# --- A network that takes maps of times, from the shipped weights


def draw_times(count: int) -> Tensor:
    """Maps of two times, (count, 1, 64, 64): a hole at one time, and the rest clean, noise, or at a time of its own."""
    hole = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    for one in hole:
        top, left = torch.randint(0, SIDE, (2,)).tolist()
        if torch.rand(()) < 0.5:
            one[:, SIDE // 2 :] = True
        else:
            one[:, top : top + SIDE // 2, left : left + SIDE // 2] = True
        if torch.rand(()) < 0.25:
            one ^= True
    inside, outside, kind = torch.rand(3, count, 1, 1, 1)
    outside = torch.where(kind < 0.4, 0.0, torch.where(kind < 0.6, 1.0, torch.where(kind < 0.8, inside, outside)))
    return torch.where(hole, inside, outside)


def train(folder: Path, minutes: float) -> None:
    """Train from the shipped weights for some minutes, and save the average of the weights to ``folder``."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    model = load_pixel_model(WEIGHTS)
    unet = TimeMapUNet.from_unet(UNet2DModel.from_pretrained(WEIGHTS / "unet", low_cpu_mem_usage=False).float()).train()
    average = {name: value.clone() for name, value in unet.state_dict().items()}
    optimizer = torch.optim.AdamW(unet.parameters(), lr=4e-4, weight_decay=0.01)
    source, schedule, end, step = RandomWindows(load_textures("train")), model.schedule, time.time() + 60 * minutes, 0
    recent: list[float] = []
    while time.time() < end:
        times, clean = draw_times(8).double(), source.draw(8)
        level = schedule.at(times)
        epsilon = torch.randn_like(clean)
        alpha, sigma = level.alpha.float(), level.sigma.float()
        answer = unet(alpha * clean + sigma * epsilon, schedule.time(level).float()).sample
        losses = (answer - (alpha * epsilon - sigma * clean)).square()
        loss = losses[(times > 0).expand_as(losses)].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        step += 1
        recent.append(float(loss.detach()))
        for name, value in unet.state_dict().items():
            average[name].lerp_(value, max(0.01, 1 / (step + 1)))
        if step % 50 == 0:
            print(f"step {step}: loss {sum(recent[-50:]) / 50:.4f}", flush=True)
            _save(unet, average, folder)
    _save(unet, average, folder)
    print(f"{step} steps")


def _save(unet: TimeMapUNet, average: dict[str, Tensor], folder: Path) -> None:
    import shutil

    network = TimeMapUNet.from_unet(unet)
    network.load_state_dict(average)
    network.eval().save_pretrained(folder / "unet")
    shutil.copytree(WEIGHTS / "scheduler", folder / "scheduler", dirs_exist_ok=True)


# --- Image quilting (Efros and Freeman, 2001)


def quilt(upper: Tensor, rows: int, seed: int, block: int = 12, overlap: int = 4) -> Tensor:
    """``rows`` more rows under a picture (H, W), of blocks of that picture joined along cuts of least error."""
    generator = torch.Generator().manual_seed(seed)
    height, width = upper.shape
    step = block - overlap
    across, down = -(-(width - overlap) // step), -(-rows // step)
    canvas = torch.full((height + down * step, overlap + across * step), float("nan"))
    canvas[:height, :width] = upper
    candidates = upper.unfold(0, block, 1).unfold(1, block, 1).reshape(-1, block, block)
    for i in range(down):
        for j in range(across):
            top, left = height - overlap + i * step, j * step
            old = canvas[top : top + block, left : left + block]
            seen = ~old.isnan()
            errors = torch.where(seen, candidates - old, 0.0).square().sum((1, 2))
            good = (errors <= 1.1 * errors.min() + 1e-9).nonzero()[:, 0]
            new = candidates[good[torch.randint(len(good), (1,), generator=generator)[0]]]
            error = torch.where(seen, new - old, 0.0).square()
            keep = torch.zeros(block, block, dtype=torch.bool)  # where the old picture stays
            keep[:overlap] = _cut(error[:overlap].mT).mT if i else True  # given rows stay
            if j:
                keep[:, :overlap] |= _cut(error[:, :overlap])
            canvas[top : top + block, left : left + block] = torch.where(keep & seen, old, new)
    return canvas[height : height + rows, :width]


def _cut(error: Tensor) -> Tensor:
    """The entries before the path of least error from the first row to the last, (n, overlap): those that stay."""
    cost = error.clone()
    for row in range(1, len(cost)):
        before = torch.nn.functional.pad(cost[row - 1], (1, 1), value=float("inf")).unfold(0, 3, 1).amin(1)
        cost[row] += before
    keep = torch.zeros_like(cost, dtype=torch.bool)
    at = int(cost[-1].argmin())
    for row in range(len(cost) - 1, -1, -1):
        if row < len(cost) - 1:
            low = max(at - 1, 0)
            at = low + int(cost[row, low : at + 2].argmin())
        keep[row, :at] = True
    return keep


# --- Statistics of a texture


def spectrum(pictures: Tensor) -> Tensor:
    """Logarithm of the mean power in 5 octave-like rings and 4 directions, (B, 20), of pictures (B, h, w)."""
    height, width = pictures.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width))
    power = torch.fft.fft2((pictures - pictures.mean((1, 2), keepdim=True)) * window).abs().square()
    v, u = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")
    radius, angle = (u**2 + v**2).sqrt(), torch.atan2(v, u) % torch.pi
    edges = [0.03, 0.08, 0.14, 0.22, 0.33, 0.5]
    direction = ((angle + torch.pi / 8) / (torch.pi / 4)).long() % 4
    rings = [(radius >= a) & (radius < b) for a, b in itertools.pairwise(edges)]
    return torch.stack([power[:, ring & (direction == d)].mean(1).log() for ring in rings for d in range(4)], 1)


def gram(pictures: Tensor) -> Tensor:
    """Correlations of the sizes of 9 filters' responses: two slopes and a bend at 3 scales, (B, 36)."""
    responses = []
    for scale in (1, 2, 4):
        small = torch.nn.functional.avg_pool2d(pictures[:, None], scale) if scale > 1 else pictures[:, None]
        across, down = small[..., 1:-1, 2:] - small[..., 1:-1, :-2], small[..., 2:, 1:-1] - small[..., :-2, 1:-1]
        bend = 4 * small[..., 1:-1, 1:-1] - small[..., 1:-1, 2:] - small[..., 1:-1, :-2]
        bend = bend - small[..., 2:, 1:-1] - small[..., :-2, 1:-1]
        each = torch.cat([across.abs(), down.abs(), bend.abs()], 1)
        responses.append(torch.nn.functional.interpolate(each, size=pictures.shape[-2:]))
    flat = torch.cat(responses, 1).flatten(2)
    flat = flat - flat.mean(2, keepdim=True)
    cov = flat @ flat.mT
    size = cov.diagonal(dim1=1, dim2=2).sqrt()
    row, column = torch.triu_indices(9, 9, 1)
    return (cov / (size[:, :, None] * size[:, None, :]))[:, row, column]


def figures(lower: Tensor, upper: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Distances of statistics of made lower halves (B, h, w) from those of the true ones, and the jump at the seam."""
    jump = (lower[:, 0] - upper[:, -1]).abs().mean(1) / (truth[:, 0] - upper[:, -1]).abs().mean(1)
    return {
        "spectrum": (spectrum(lower) - spectrum(truth)).square().mean(1).sqrt(),
        "correlations": (gram(lower) - gram(truth)).square().mean(1).sqrt(),
        "contrast": (lower.flatten(1).std(1) / truth.flatten(1).std(1)).log(),
        "seam": jump.log(),
    }


def study(folder: Path, fills: int = 1, steps: int = 16) -> None:
    """Print the table and draw the picture."""
    score = load_pixel_model(folder)
    windows = grid_windows(load_textures("test"), 32).repeat_interleave(fills, 0)
    half = SIDE // 2
    known = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    known[:, :half] = True
    upper, truth = windows[:, 0, :half], windows[:, 0, half:]
    observation, plan = lp.Observation(windows, known), lp.TimePath.inpainting(known).plan(score.schedule, steps)
    made: dict[str, Tensor] = {"the truth": truth}
    for weight in (0.0, 1.0, 4.0):
        seeds = range(len(windows))
        guided = lp.InputGuidance(score, known, weight, generator=lp.seeded(1000 + seed for seed in seeds))
        sampler = lp.Sampler(guided, solver=lp.Euler(), plan=plan)
        made[f"time maps, w = {weight:g}"] = sampler(observation, generator=lp.seeded(seeds))[:, 0, half:]
    made["image quilting"] = torch.stack([quilt(each, half, seed) for seed, each in enumerate(upper)])
    made["upper half mirrored"] = upper.flip(1)
    made["upper half of another window"] = upper.roll(fills, 0)
    count = len(windows) // fills
    print("| | spectrum | correlations | contrast | seam |\n|---|---|---|---|---|")
    for name, lower in list(made.items())[1:]:
        cells = []
        for values in figures(lower, upper, truth).values():
            each = values.view(count, fills).mean(1)
            told = f"{float(each.mean()):+.2f} ± {float(each.std()) / count**0.5:.2f}"
            cells.append(told if bool(each.isfinite().all()) else "no jump")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    _draw(upper, made, count // len(NAMES) * fills)


def _draw(upper: Tensor, made: dict[str, Tensor], per_texture: int) -> None:
    shown = ["the truth", "time maps, w = 0", "time maps, w = 1", "time maps, w = 4", "image quilting"]
    rows = [per_texture * n + 3 for n in range(len(NAMES))]
    figure = new_figure(figsize=(8.2, 5.4))
    for line, (index, texture) in enumerate(zip(rows, NAMES, strict=True)):
        for column, name in enumerate(shown):
            axis = figure.add_subplot(len(rows), len(shown), line * len(shown) + column + 1)
            picture = torch.cat([upper[index], made[name][index]])
            axis.imshow(picture.numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            axis.axhline(SIDE // 2 - 0.5, color="#D55E00", linewidth=0.8)
            axis.set(xticks=[], yticks=[])
            if line == 0:
                axis.set_title(name, fontsize=10)
            if column == 0:
                axis.set_ylabel(texture, fontsize=10)
    save(figure, DOCS / "asyncpatch-textures.png", dpi=90)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 15.0)
    else:
        study(Path(sys.argv[1]))
