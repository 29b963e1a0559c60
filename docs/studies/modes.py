"""Shares of rare modes, which a KL hides: the tables of docs/frontier.md.

    python docs/studies/modes.py            # targets that the preset was chosen on, and targets made up after that
    python docs/studies/modes.py trapped    # a mode that the known part decides at low noise only
    python docs/studies/modes.py scales     # a Gaussian far from unit scale

Each prints its table in Markdown, in some minutes on one core.
"""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint import CountedScore, LanPaint, Observation
from lanpaint_toys import Gaussian, GaussianMixture
from lanpaint_toys.problems import gaussian_kl

COUNT, SEEDS = 20_000, (1000, 1001, 1002)


@dataclass(frozen=True)
class Modes:
    """A mixture with rare components, and which coordinates are known."""

    target: GaussianMixture
    known: Tensor


def beside(means: list[float], deviations: list[float], weights: list[float]) -> Modes:
    """Modes of x in one dimension, beside a known y ~ N(0, 1) that is independent of x."""
    covariances = torch.stack([torch.diag(torch.tensor([d**2, 1.0], dtype=torch.float64)) for d in deviations])
    return Modes(GaussianMixture([[m, 0.0] for m in means], covariances, weights), torch.tensor([False, True]))


def scattered(dim: int, known: int, spread: float, deviation: float, weights: list[float], seed: int) -> Modes:
    """Modes at random places in ``dim`` dimensions, of which the first ``known`` are known."""
    means = spread * torch.randn(len(weights), dim, generator=torch.Generator().manual_seed(seed)).double()
    return Modes(GaussianMixture(means, deviation**2, weights), torch.arange(dim) < known)


def undecided(dim: int, known: int, spread: float, deviation: float, weights: list[float], seed: int) -> Modes:
    """As :func:`scattered`, with known coordinates that are the same in all modes, so that they say nothing of x."""
    modes = scattered(dim, known, spread, deviation, weights, seed)
    means = torch.where(modes.known, modes.target.means[:1], modes.target.means)
    return Modes(GaussianMixture(means, deviation**2, weights), modes.known)


CHOSEN_ON = {
    "modes at −2, 2, 0, sd 0.1": beside([-2.0, 2.0, 0.0], [0.1] * 3, [0.9, 0.09, 0.01]),
    "8-d, 4 known, sd 0.3": scattered(8, 4, 1.0, 0.3, [0.7, 0.25, 0.04, 0.01], seed=5),
    "16-d, 4 known that say nothing, sd 0.2": undecided(16, 4, 0.6, 0.2, [0.9, 0.08, 0.02], seed=6),
}
HELD_OUT = {
    "modes at −1, 1.5, sd 0.15": beside([-1.0, 1.5], [0.15] * 2, [0.97, 0.03]),
    "modes at −1.8, −0.6, 0.6, 1.8, sd 0.12": beside([-1.8, -0.6, 0.6, 1.8], [0.12] * 4, [0.8, 0.15, 0.04, 0.01]),
    "modes at −1.5, 1.5, sd 0.3, 0.05": beside([-1.5, 1.5], [0.3, 0.05], [0.9, 0.1]),
    "4-d, 2 known, sd 0.2": scattered(4, 2, 1.0, 0.2, [0.8, 0.15, 0.05], seed=11),
    "6-d, 2 known that say nothing, sd 0.2": undecided(6, 2, 0.8, 0.2, [0.9, 0.07, 0.03], seed=13),
    "16-d, 8 known, sd 0.2": scattered(16, 8, 0.5, 0.2, [0.9, 0.06, 0.03, 0.01], seed=12),
}
BUDGETS = {60: (10, 5), 120: (20, 5), 550: (50, 10)}


def shares(modes: Modes, preset: str, steps: int, inner_steps: int) -> tuple[Tensor, int]:
    """Shares of the modes, mean of all seeds, and evaluations."""
    found = torch.zeros(len(modes.target.weights), dtype=torch.float64)
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        values, score = modes.target.sample(COUNT, generator), CountedScore(modes.target)
        paint = LanPaint(score, preset=preset, steps=steps, inner_steps=inner_steps)
        x = paint(Observation(values.float(), modes.known), generator=generator)
        nearest = modes.target.responsibilities(x.double()).argmax(1)
        found += torch.bincount(nearest, minlength=len(found)) / COUNT / len(SEEDS)
    return found, score.evaluations


def distance(found: Tensor, weights: Tensor) -> float:
    """The largest error of a share over its bound: three standard errors plus 3 % of the exact share."""
    error = (weights * (1 - weights) / (COUNT * len(SEEDS))).sqrt()
    return float(((found - weights).abs() / (3 * error + 0.03 * weights)).max())


def rare_modes() -> None:
    """Print the shares of all modes but the most frequent one; the error over its bound in brackets."""
    print("| target | NFE | exact shares | paper | fast |\n|---|---|---|---|---|", flush=True)
    for name, modes in (CHOSEN_ON | HELD_OUT).items():
        weights = modes.target.weights
        for evaluations in BUDGETS if name in list(CHOSEN_ON)[:1] else (120,):
            cells = []
            for preset in ("paper", "fast"):
                found, nfe = shares(modes, preset, *BUDGETS[evaluations])
                cells.append(" ".join(f"{share:.4f}" for share in found[1:]) + f" ({distance(found, weights):.1f})")
            exact = " ".join(f"{share:g}" for share in weights[1:].tolist())
            print(f"| {name} | {nfe} | {exact} | {' | '.join(cells)} |", flush=True)


def trapped() -> None:
    """Print how often x lies in the wrong one of two modes, (−2, 0.3) and (2, −0.3) with sd 0.15, where y tells."""
    target = GaussianMixture([[-2.0, 0.3], [2.0, -0.3]], 0.15**2)
    known = torch.tensor([False, True])
    print("| NFE | paper | fast | exact |\n|---|---|---|---|", flush=True)
    for steps, inner in (*BUDGETS.values(), (20, 10)):
        cells = []
        for preset in ("paper", "fast", None):
            generator = torch.Generator().manual_seed(SEEDS[0])
            values, score = target.sample(COUNT, generator), CountedScore(target)
            if preset is None:
                x = target.sample_conditional(values, known, generator)
            else:
                paint = LanPaint(score, preset=preset, steps=steps, inner_steps=inner)
                x = paint(Observation(values.float(), known), generator=generator)
                nfe = score.evaluations
            cells.append(f"{float((values[:, 0] * x[:, 0] < 0).double().mean()):.3f}")
        print(f"| {nfe} | {' | '.join(cells)} |", flush=True)


def scales() -> None:
    """Print the KL on a Gaussian of correlation 0.8, of other standard deviations and means."""
    known = torch.tensor([False, True])
    print("| sd, mean | NFE | paper | fast | fast, data_scale = sd |\n|---|---|---|---|---|", flush=True)
    for deviation, mean in ((100.0, 0.0), (10.0, 0.0), (0.1, 0.0), (0.01, 0.0), (1.0, 50.0), (1.0, 5000.0)):
        target = Gaussian([mean] * 2, deviation**2 * torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double())
        for steps in (5, 20):
            cells = []
            for options in ({}, {"preset": "fast"}, {"preset": "fast", "data_scale": deviation}):
                kl = 0.0
                for seed in SEEDS:
                    generator = torch.Generator().manual_seed(seed)
                    values, score = target.sample(COUNT, generator), CountedScore(target)
                    paint = LanPaint(score, steps=steps, **options)  # type: ignore[arg-type]
                    x = paint(Observation(values.float(), known), generator=generator)
                    kl += gaussian_kl(x, target) / len(SEEDS)
                cells.append(f"{kl:.2g}" if math.isfinite(kl) else "diverges")
            print(f"| {deviation:g}, {mean:g} | {score.evaluations} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of data far from unit scale
    torch.set_num_threads(1)
    {"trapped": trapped, "scales": scales}.get(" ".join(sys.argv[1:]), rare_modes)()
