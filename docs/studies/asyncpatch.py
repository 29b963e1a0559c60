"""AsyncPatch on Gaussians, exactly: the tables of docs/asyncpatch.md; and the picture and film of levels in space.

python docs/studies/asyncpatch.py            # the tables, a minute
python docs/studies/asyncpatch.py levels     # docs/asyncpatch-levels.png and docs/asyncpatch-levels.gif
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.plotting import new_figure, save
from lanpaint_toys import Gaussian
from lanpaint_toys.joint_bound import (
    cross_entropy,
    exact_model,
    gaussian_bound,
    mean_time_model,
    mean_time_score,
    path_bound,
    path_law,
)

DOUBLE = torch.float64
DATA = torch.tensor([[1.0, 0.6, 0.3], [0.6, 0.8, 0.2], [0.3, 0.2, 0.9]], dtype=DOUBLE)
OTHER = torch.tensor([[0.7, -0.2, 0.1], [-0.2, 1.3, 0.4], [0.1, 0.4, 0.6]], dtype=DOUBLE)
TARGET = Gaussian([0.2, -0.1, 0.3], DATA)
KNOWN = torch.tensor([True, False, False])
VALUES = torch.tensor([1.5, 0.0, 0.0], dtype=DOUBLE)
ALONE = [torch.arange(3) == i for i in range(3)]
SOLVERS = {"Euler": lp.Euler(), "Heun": lp.Heun(), "2M": lp.DPMSolver(2), "3M": lp.DPMSolver(3)}
DOCS = Path(__file__).parents[1]


def walk(u: float, moves: tuple[int, ...] = (1, 0, 2, 2, 0, 1)) -> Tensor:
    """A random walk of halves of each coordinate's way."""
    times = torch.ones(3, dtype=DOUBLE)
    for number, coordinate in enumerate(moves):
        times[coordinate] -= min(max(6 * u - number, 0.0), 1.0) / 2
    return times


PATHS = {
    "synchronous": lp.TimePath.synchronous(),
    "inpainting": lp.TimePath.inpainting(KNOWN),
    "autoregressive": lp.TimePath.autoregressive([ALONE[2], ALONE[0], ALONE[1]]),
    "random walk": lp.TimePath(walk),
    "easy first": lp.TimePath.easy_first(torch.tensor([0.0, 1.0, 0.5]), 0.5),
}


def law_error(path: lp.TimePath, solver: lp.Solver, steps: int, inpainting: bool) -> float:
    """Largest difference of mean or covariance from the target's, of what an ODE solver samples along a path."""
    starts = torch.cat([torch.zeros(1, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE)])
    sampler = lp.Sampler(TARGET, solver=solver, plan=path.plan(lp.Flow(), steps))
    known = KNOWN if inpainting else torch.zeros(3, dtype=torch.bool)
    out = sampler(lp.Observation(VALUES.expand(4, 3), known), start=starts)
    linear = (out[1:] - out[0]).mT[~known]
    mean, cov = out[0][~known], linear @ linear.mT
    exact = TARGET.conditional(VALUES, KNOWN) if inpainting else TARGET
    return max(float((mean - exact.mean).abs().max()), float((cov - exact.full_cov[0]).abs().max()))


def orders() -> None:
    """Errors with 48 and 96 steps and the order, on even steps and on steps that are short at both ends of a way."""
    for title, smooth in (("even steps", False), ("times 3τ² − 2τ³", True)):
        print(f"\n| {title} | " + " | ".join(SOLVERS) + " |\n|---" + "|---" * len(SOLVERS) + "|")
        for name, path in PATHS.items():
            warped = lp.TimePath(lambda u, path=path: path(u) ** 2 * (3 - 2 * path(u))) if smooth else path
            cells = []
            for solver in SOLVERS.values():
                errors = [law_error(warped, solver, steps, name == "inpainting") for steps in (48, 96)]
                cells.append(f"{errors[1]:.1e} ({math.log2(errors[0] / errors[1]):.1f})")
            print(f"| {name} | " + " | ".join(cells) + " |")


def bounds() -> None:
    """The bound of three models of Gaussian data, by quadrature."""
    print("\n| tokens | −H | exact model | −H − KL | exact model of another Gaussian | told the mean time |")
    print("|---|---|---|---|---|---|")
    for tokens in (1, 2, 3):
        cov, other = DATA[:tokens, :tokens], OTHER[:tokens, :tokens]
        values = [gaussian_bound(cov, model, 12, 120) for model in (exact_model(cov), exact_model(other))]
        mean = gaussian_bound(cov, mean_time_model(cov), 48 if tokens < 3 else 12, 120)
        ends = cross_entropy(cov, cov), cross_entropy(cov, other)
        print(f"| {tokens} | {ends[0]:.6f} | {values[0]:.6f} | {ends[1]:.6f} | {values[1]:.6f} | {mean:.2f} |")
    cov = DATA[:2, :2]
    print("\n| ω₁ | bound | log-likelihood of its own law | −H |\n|---|---|---|---|")
    for share in (0.5, 0.4, 0.3, 0.2, 0.1):
        omega = torch.tensor([share, 1 - share], dtype=DOUBLE)
        coarse, fine = (path_law(mean_time_model(cov), omega, nodes) for nodes in (2000, 4000))
        own = cross_entropy(cov, 2 * fine - coarse)
        bound = path_bound(cov, mean_time_model(cov), omega)
        print(f"| {share} | {bound:.3f} | {own:.3f} | {cross_entropy(cov, cov):.3f} |")


def divergence() -> None:
    """The bound of two tokens, down to lower and lower ℓ, of a velocity and of a score that are told the mean time."""
    cov = DATA[:2, :2]
    print("\n| least ℓ | velocity told the mean time | score told the mean time |\n|---|---|---|")
    for least in (-18.0, -36.0, -72.0, -144.0):
        models = (mean_time_model(cov), mean_time_score(cov))
        values = [gaussian_bound(cov, model, 96, round(5 * (44 - least)), (least, 44.0)) for model in models]
        print(f"| {least:g} | {values[0]:.2f} | {values[1]:.2f} |")


def estimators() -> None:
    """Standard errors with 64,000 evaluations of the exact model of three tokens."""
    generator = torch.Generator().manual_seed(0)
    target, count = Gaussian([0.0] * 3, DATA), 64_000
    data = target.sample(count, generator)
    true = float(target.log_prob(data).mean())
    print(f"\n−H = {cross_entropy(DATA, DATA):.3f}, log-likelihood of these data {true:.3f}")
    print("\n| estimator | estimate | standard error |\n|---|---|---|")
    for cut in (1e-2, 1e-3, 1e-4):
        t = cut + (1 - 2 * cut) * torch.rand(count, 3, generator=generator, dtype=DOUBLE)
        epsilon = torch.randn(count, 3, generator=generator, dtype=DOUBLE)
        level = lp.NoiseLevel(1 - t, t)
        error = (epsilon - target.epsilon(level.perturb(data, epsilon), level)) ** 2 / t**2
        h = -torch.log1p(-t)
        weight = 2 * h * (1 - t) / ((1 - t).prod(1, keepdim=True) * h.sum(1, keepdim=True) ** 3)  # Eq. 48, N = 3
        loss = (weight * t / (1 - t) * error).sum(1)
        print(f"| Eq. 48, t uniform in the cube, ε = {cut:g} | {float(-loss.mean()):.2f} + C(ε) | {_error(loss):.2f} |")
    bound = lp.likelihood_bound(target, data, groups=ALONE, draws=1, generator=generator)
    paired = bound.samples - target.log_prob(data)
    print(f"| `likelihood_bound` | {bound.mean:.3f} | {bound.error:.3f} |")
    print(f"| `likelihood_bound` minus log-likelihood | {float(paired.mean()):+.4f} | {_error(paired):.4f} |")


def _error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))


def guidance() -> None:
    """What input guidance samples of one unknown: c = 1, m = 1.2, v = 0.36."""
    mean, variance, prior = 1.2, 0.36, 1.0
    print("\n| w | mean, ODE | variance, ODE | variance, SDE | variance of p(x∣y)^(1+w)/p(x)^w | KL(ODE ‖ p(x∣y)) |")
    print("|---|---|---|---|---|---|")
    nodes, weights = np.polynomial.legendre.leggauss(200)
    s, low = (nodes + 1) / 2, variance / prior
    y = 1 - (1 - low) * s**2
    for weight in (0, 0.25, 0.5, 1, 2, 4):
        integral = float((weights * y ** (-(3 + weight) / 2)).sum())
        centre = mean * 0.5 * (1 + weight) * low ** ((1 + weight) / 2) * integral
        ode = variance * low**weight
        sde, tau = 1.0, np.geomspace(1e6, 1e-9, 40_001)  # the variance over 1 + τ, along the reverse SDE
        for before, after in itertools.pairwise(tau):
            rate = (1 + weight) / (variance + before) - weight / (prior + before)
            kept = 1 - (before - after) * rate
            sde = (kept**2 * sde * (1 + before) + before - after) / (1 + after)
        tilted = 1 / ((1 + weight) / variance - weight / prior)
        divergence = 0.5 * (ode / variance - 1 - math.log(ode / variance) + (centre - mean) ** 2 / variance)
        print(f"| {weight} | {centre:.3f} | {ode:.4f} | {sde:.4f} | {tilted:.4f} | {divergence:.3f} |")


def levels() -> None:
    """The picture and the film of time maps: four paths on 32 × 32 pixels."""
    height = width = 32
    known = torch.ones(height, width, dtype=torch.bool)
    known[8:24, 8:24] = False
    row, column = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    difficulty = torch.exp(-((row - 0.2) ** 2 + (column + 0.1) ** 2) / 0.15)
    paths = {
        "synchronous": lp.TimePath.synchronous(),
        "inpainting": lp.TimePath.inpainting(known),
        "autoregressive": lp.TimePath.autoregressive(lp.raster_patches((height, width), 8)),
        "easy first": lp.TimePath.easy_first(difficulty.double(), 0.3),
        "inside out": lp.TimePath.of_positions(
            lambda u, at: (2 * (1 - u) - 1 + 1.3 * (at - 0.5).square().sum(0).sqrt()).clamp(0, 1), (height, width)
        ),
    }
    inside = paths["inside out"]
    paths["inside out"] = lp.TimePath(lambda u: inside(u) / inside(0.0) if u else torch.ones(height, width))
    marks = (0, 0.2, 0.4, 0.6, 0.8, 1)
    figure = new_figure(figsize=(8.2, 7.2))
    axes = figure.subplots(len(paths), len(marks))
    for number, (line, (name, path)) in enumerate(zip(axes, paths.items(), strict=True)):
        for axis, u in zip(line, marks, strict=True):
            image = _map(axis, path(u).expand(height, width))
            axis.set_title(f"u = {u:g}" if number == 0 else "", fontsize=10)
        line[0].set_ylabel(name, fontsize=10)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, pad=0.02)
    bar.set_label("time τ: 1 noise, 0 data")
    save(figure, DOCS / "asyncpatch-levels.png", dpi=80)
    frames = 41
    figure = new_figure(figsize=(8.2, 2.2))
    axes = figure.subplots(1, len(paths))
    for axis, name in zip(axes, paths, strict=True):
        axis.set_title(name, fontsize=9)
    images = [_map(axis, path(0.0).expand(height, width)) for axis, path in zip(axes, paths.values(), strict=True)]

    def draw(frame: int) -> None:
        for image, path in zip(images, paths.values(), strict=True):
            image.set_data(path(frame / (frames - 1)).expand(height, width).numpy())

    from matplotlib.animation import FuncAnimation, PillowWriter

    FuncAnimation(figure, draw, frames=frames).save(DOCS / "asyncpatch-levels.gif", PillowWriter(fps=10), dpi=70)


def _map(axis, times):  # type: ignore[no-untyped-def]
    axis.set(xticks=[], yticks=[])
    return axis.imshow(times.numpy(), vmin=0, vmax=1, cmap="cividis_r", interpolation="nearest")


if __name__ == "__main__":
    if sys.argv[1:] == ["levels"]:
        levels()
    else:
        orders()
        bounds()
        divergence()
        estimators()
        guidance()
