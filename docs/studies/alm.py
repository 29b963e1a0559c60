"""What SyncSDE and ALM sample on Gaussians, exactly: the tables of docs/alm.md, and docs/alm.png.

    python docs/studies/alm.py

On a Gaussian both are affine maps of their random numbers, so mean and covariance follow without sampling. The data are
two coordinates of variance 1 and correlation 0.8. The second one, y, is known. The exact conditional of the first is
N(0.8 y, 0.36). A method samples N(a + b y, v). Its divergence is KL(method ‖ exact) in nats, on average over y.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.diagnostics import UpdateSizes, blend_deviation
from lanpaint.plotting import new_figure, save
from lanpaint.samplers.pull import ddpm_deviation
from lanpaint_toys import Gaussian, digits

SLOPE, VARIANCE = 0.8, 0.36
TARGET = Gaussian([0.0, 0.0], [[1.0, SLOPE], [SLOPE, 1.0]])
KNOWN = torch.tensor([False, True])
READINGS: dict[str, dict[str, Any]] = {
    "printed": {},
    "w₁ of Eq. 2 does not decay": {"pull_decay": False},
    "no weight decays": {"decay": False, "pull_decay": False},
    "X_{t−1} in Eq. 2": {"pull_next": True},
    "ε of Eq. 2 reused": {"reuse": True},
    "factor 1/√(1 − ᾱ) kept": {"scaled": True},
    "X_t by fixed noise": {"partner": "fixed"},
    "X_t by fresh noise": {"partner": "fresh"},
    "X_t fixed, w₁ of Eq. 2 does not decay": {"partner": "fixed", "pull_decay": False},
    "precision constant, 1/λ = 5": {"precision": "constant"},
    "precision of Eq. 28, DDPM steps": {"precision": "eq28", "solver": lp.DDIM(eta=1.0), "w1": 0.1},
    "last 20 % without updates": {"last_share": 0.2},
    "iterative, N = 20": {"iterations": 20},
}


class Basis:
    """Row i of the batch gets a 1 for the i-th random number that a row draws; row 0 gets zeros."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, like: Tensor) -> Tensor:
        """The next numbers."""
        out = torch.zeros_like(like)
        for column in range(like.shape[1]):
            self.drawn += 1
            if self.drawn < len(out):
                out[self.drawn, column] = 1
        return out


def law(sampler: lp.Sampler) -> tuple[float, float, float]:
    """Slope b, variance v and divergence of what an affine sampler makes of y."""
    count, zero = Basis(), torch.zeros(1, 2, dtype=torch.float64)
    base = sampler(lp.Observation(zero, KNOWN), noise=count)[0, 0]
    slope = sampler(lp.Observation(zero + 1, KNOWN), noise=Basis())[0, 0] - base
    moved = sampler(lp.Observation(zero.expand(count.drawn + 1, -1).clone(), KNOWN), noise=Basis())[1:, 0] - base
    b, v = float(slope), float(moved.square().sum())
    ratio = v / VARIANCE
    divergence = (
        0.5 * (ratio - 1 - math.log(ratio) + ((b - SLOPE) ** 2 + float(base) ** 2) / VARIANCE) if v else math.inf
    )
    return b, v, divergence


def told(make: Any) -> str:
    """A cell of a table: slope, variance, divergence."""
    try:
        return "{:.2f}, {:.2f}, {:.3f}".format(*law(make()))
    except lp.DivergenceError:
        return "diverges"


def alm(steps: int, **options: Any) -> lp.ALM:
    """ALM on the two coordinates."""
    if options.get("precision") == "constant":
        options["w1"] = 5.0
    return lp.ALM(TARGET, steps=steps, **options)


def sums(steps: int) -> float:
    """Σ s of Eq. 12."""
    levels = lp.uniform_time(lp.VP.linear(), steps)
    return sum(float(ddpm_deviation(here, there)) for here, there in pairwise(levels))


def tables() -> None:
    """Print the tables."""
    counts = (20, 50, 200)
    print("reading (slope b, variance v, divergence)", *(f"{steps} steps" for steps in counts), sep=" | ")
    print("SyncSDE", *(told(lambda steps=steps: lp.SyncSDE(TARGET, steps=steps)) for steps in counts), sep=" | ")
    for name, options in READINGS.items():
        cells = (told(lambda steps=steps, o=options: alm(steps, **o)) for steps in counts)
        print(name, *cells, sep=" | ", flush=True)
    print("\nw₁ \\ w₂ at 50 steps", *(weights := (0.0, 0.001, 0.005, 0.01, 0.05, 0.2)), sep=" | ")
    for w1 in (0.0, 0.5, 1.0, 1.5, 3.0):
        print(w1, *(told(lambda w2=w2, w1=w1: alm(50, w1=w1, w2=w2)) for w2 in weights), sep=" | ", flush=True)
    print("\nsteps | Σ s | Σ s/√S | ALM | ALM, w₂ = 0.05 | LanPaint of 5 inner steps")
    for steps in (10, 20, 50, 100, 200, 400):
        total = sums(steps)
        cells = [told(lambda s=steps, w=w: alm(s, w2=w)) for w in (0.005, 0.05)]
        painted = told(lambda s=steps: lp.LanPaint(TARGET, steps=s, expected_noise=1.0)) if steps <= 100 else "—"
        print(steps, f"{total:.2f}", f"{total / steps**0.5:.3f}", *cells, painted, sep=" | ", flush=True)
    print("\nat 120 evaluations | slope, variance, divergence")
    equal = {
        "Replace, 120 steps": lambda: lp.Replace(TARGET, steps=120),
        "SyncSDE, 60 steps": lambda: lp.SyncSDE(TARGET, steps=60),
        "ALM, 30 steps": lambda: alm(30),
        "ALM, fixed noise, 40 steps": lambda: alm(40, partner="fixed"),
        "ALM, reused ε, 40 steps": lambda: alm(40, reuse=True),
        "RePaint, 20 steps of 5": lambda: lp.RePaint(TARGET, steps=20),
        "LanPaint, 20 steps of 5": lambda: lp.LanPaint(TARGET, steps=20, expected_noise=1.0),
        "LanPaint fast, 20 steps of 5": lambda: lp.LanPaint(TARGET, steps=20, preset="fast"),
    }
    for name, make in equal.items():
        print(name, told(make), sep=" | ", flush=True)


def diagnostics() -> None:
    """Eq. 29 to 31 on the digits, with half of each image known."""
    from lanpaint.adapters.diffusers import load_pixel_model

    score, images = load_pixel_model(digits.FOLDER), digits.load_digits("test")[0][:16]
    known = torch.arange(8) < 4
    iterations = 20
    sizes = UpdateSizes()
    sampler = lp.ALM(score, steps=20, iterations=iterations, callbacks=[sizes])
    sampler(lp.Observation(images, known), generator=torch.Generator().manual_seed(0))
    mask = (~known).float().expand(1, 1, 8, 8)
    generator = torch.Generator().manual_seed(1)
    dilated = torch.nn.functional.max_pool2d(mask, 3, 1, 1)
    edge = (dilated > mask) | (mask > -torch.nn.functional.max_pool2d(-mask, 3, 1, 1))
    noisy = torch.where(edge, mask + 0.3 * torch.randn(mask.shape, generator=generator), mask).clamp(0, 1)
    deviations: dict[str, list[float]] = {"dilated mask": [], "noise along its edge": []}
    for level in sampler.levels[:-1]:
        fresh = torch.randn(2, *images.shape, generator=generator)
        state, partner = level.perturb(images.flip(0), fresh[0]), level.perturb(images, fresh[1])
        for name, changed in zip(deviations, (dilated, noisy), strict=True):
            deviations[name].append(float(blend_deviation(score, state, partner, level, mask, changed).mean()))
    ratio = [float(level.relative_sigma) for level in sampler.levels[:-1]]
    figure = new_figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    for name, values in deviations.items():
        left.semilogx(ratio, values, marker=".", label=f"{name} (mean {sum(values) / len(values):.2f})")
    left.set(xlabel="σ/α", ylabel="‖s(E′) − s(E)‖ / ‖s(E)‖", title="Eq. 29, digits, half known")
    right.loglog(ratio[:-1], sizes.sizes[:-1], marker=".", label="mean ‖Δⁱ‖ (Eq. 30)")
    right.loglog(ratio[:-1], sizes.changes[:-1], marker=".", label="mean ‖Δⁱ⁺¹ − Δⁱ‖ (Eq. 31)")
    right.set(xlabel="σ/α", title=f"updates of the iterative ALM, N = {iterations}")
    for axes in (left, right):
        axes.legend(fontsize=8)
    save(figure, Path(__file__).parents[1] / "alm.png")
    shares = [change / size for size, change in zip(sizes.sizes[:-1], sizes.changes[:-1], strict=True)]
    print(f"\nEq. 29: { ({name: round(sum(v) / len(v), 3) for name, v in deviations.items()}) }")
    print(f"Eq. 30: largest ‖Δⁱ‖ {max(sizes.sizes):.4f}; Eq. 31 over Eq. 30: {min(shares):.3f} to {max(shares):.3f}")


if __name__ == "__main__":
    diagnostics()
    tables()
