"""Modes that the known part decides at low noise only: SMCDiff beside the presets of LanPaint, for docs/trapped.md.

    python docs/studies/trapped.py wrong      # how often x lies in the wrong mode, in 2 and 128 dimensions
    python docs/studies/trapped.py shares     # shares of rare modes
    python docs/studies/trapped.py others     # KL on other targets
    python docs/studies/trapped.py check      # what stein_check says
    python docs/studies/trapped.py picture    # docs/trapped.png

The first four print a table in Markdown, in one to five minutes on one core.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from modes import CHOSEN_ON, HELD_OUT
from torch import Tensor

from lanpaint import CountedScore, LanPaint, Observation, Sampler, Score, SMCDiff, stein_check
from lanpaint_toys import GaussianMixture
from lanpaint_toys.problems import PROBLEMS

DEVIATION = 0.15
Make = Callable[[Score], Sampler]
PAPER: dict[int, Make] = {
    60: lambda score: LanPaint(score, steps=10, inner_steps=5),
    220: lambda score: LanPaint(score, steps=20, inner_steps=10),
    550: lambda score: LanPaint(score, steps=50, inner_steps=10),
}
FAST: dict[int, Make] = {
    60: lambda score: LanPaint(score, preset="fast", steps=10, inner_steps=5),
    220: lambda score: LanPaint(score, preset="fast", steps=20, inner_steps=10),
    550: lambda score: LanPaint(score, preset="fast", steps=50, inner_steps=10),
}
PARTICLES: dict[int, Make] = {
    60: lambda score: SMCDiff(score, particles=5, steps=6, inner_steps=1),
    220: lambda score: SMCDiff(score, particles=8, steps=14, inner_steps=1),
    550: lambda score: SMCDiff(score, particles=10, steps=18, inner_steps=2),
}
SAMPLERS = {"paper": PAPER, "fast": FAST, "SMCDiff": PARTICLES}


@dataclass(frozen=True)
class Two:
    """Two modes at ∓ ``mean`` with equal shares, and which coordinates are known."""

    mean: Tensor
    known: Tensor
    covariance: Tensor

    @property
    def target(self) -> GaussianMixture:
        """The mixture."""
        return GaussianMixture(torch.stack([-self.mean, self.mean]), self.covariance.expand(2, -1, -1))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples, and on which side they are. Along the line between the modes y is at its mode."""
        side = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0).double()
        noise = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        noise = noise @ torch.linalg.cholesky(self.covariance).mT
        line = torch.where(self.known, self.mean, 0.0)
        noise = noise - (noise @ line)[:, None] * line / line.square().sum()
        return side[:, None] * self.mean + noise, side

    def wrong(self, x: Tensor, side: Tensor) -> float:
        """Share of samples whose unknown part is on the other side."""
        along = x.double() @ torch.where(self.known, 0.0, self.mean)
        return float((along * side < 0).double().mean())


def flat() -> Two:
    """Modes (∓2, ∓0.3) in the plane."""
    return Two(torch.tensor([2.0, 0.3]).double(), torch.tensor([False, True]), DEVIATION**2 * torch.eye(2).double())


def large(each: bool = False, correlation: float = 0.0, dim: int = 128) -> Two:
    """The same in 128 dimensions, half of them known: distances as in the plane in all, or in each pair of coordinates.

    Unknown and known coordinates alternate, and neighbours have a correlation within a mode.
    """
    known = torch.arange(dim) % 2 == 1
    scale = 1.0 if each else (2 / dim) ** 0.5
    mean = scale * torch.where(known, 0.3, 2.0).double()
    places = torch.arange(dim)
    decay = torch.tensor(correlation).double() ** (places[:, None] - places).abs()
    return Two(mean, known, DEVIATION**2 * decay)


PROBLEMS_OF_TWO: dict[str, tuple[Callable[[], Two], int]] = {
    "2-d": (flat, 3_000),
    "128-d, the distances of 2-d in all": (large, 500),
    "128-d, the distances of 2-d in each pair": (lambda: large(each=True), 500),
    "128-d, in each pair, neighbours of correlation 0.8": (lambda: large(each=True, correlation=0.8), 500),
    "128-d, in all, neighbours of correlation 0.8": (lambda: large(correlation=0.8), 500),
}


def wrong() -> None:
    """Print how often x lies in the wrong mode."""
    print("| problem | NFE | paper | fast | SMCDiff | exact |\n|---|---|---|---|---|---|", flush=True)
    for name, (make, count) in PROBLEMS_OF_TWO.items():
        two = make()
        for budget in (60, 220, 550):
            cells = []
            for sampler in SAMPLERS.values():
                generator = torch.Generator().manual_seed(0)
                values, side = two.draw(count, generator)
                score = CountedScore(two.target)
                x = sampler[budget](score)(Observation(values.float(), two.known), generator=generator)
                cells.append(f"{two.wrong(x, side):.4f}")
            exact = two.target.sample_conditional(values, two.known, generator)
            row = f"| {name} | {budget} | {' | '.join(cells)} | {two.wrong(exact, side):.4f} |"
            print(row, flush=True)


def shares(count: int = 6_000) -> None:
    """Print the shares of all modes but the first, and the largest error in units of its bound, as modes.py does."""
    print("| target | exact shares | SMCDiff, 224 NFE | SMCDiff, 540 NFE |\n|---|---|---|---|", flush=True)
    for name, modes in (CHOSEN_ON | HELD_OUT).items():
        weights = modes.target.weights
        bound = 3 * (weights * (1 - weights) / count).sqrt() + 0.03 * weights
        cells = []
        for budget in (220, 550):
            generator = torch.Generator().manual_seed(1000)
            values = modes.target.sample(count, generator)
            x = PARTICLES[budget](modes.target)(Observation(values.float(), modes.known), generator=generator)
            nearest = modes.target.responsibilities(x.double()).argmax(1)
            found = torch.bincount(nearest, minlength=len(weights)) / count
            off = float(((found - weights).abs() / bound).max())
            cells.append(" ".join(f"{share:.4f}" for share in found[1:]) + f" ({off:.1f})")
        print(f"| {name} | {' '.join(f'{w:g}' for w in weights[1:].tolist())} | {' | '.join(cells)} |", flush=True)


def others(count: int = 3_000) -> None:
    """Print the KL in nats on the targets of docs/frontier.md."""
    print("| target | fast, 220 | SMCDiff, 224 | fast, 550 | SMCDiff, 540 | exact samples |\n|---|---|---|---|---|---|")
    for name in ("gaussian", "star", "ar1", "stiff8", "moons"):
        problem, cells = PROBLEMS[name](), []
        for budget in (220, 550):
            for make in (FAST, PARTICLES):
                generator = torch.Generator().manual_seed(7)
                values = problem.draw(count, generator)
                x = make[budget](problem.target)(Observation(values.float(), problem.known), generator=generator)
                cells.append(f"{problem.divergence(x.to(values.dtype)):.2g}")
        cells.append(f"{problem.floor(count, torch.Generator().manual_seed(1)):.2g}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def check(count: int = 128) -> None:
    """Print mean and z of stein_check for samples of three samplers and exact ones."""
    two, long, analytic = flat(), large(), {name: PROBLEMS[name]() for name in ("gaussian", "star")}
    cases = {
        "trapped, 2-d": (two.target, two.known, two.target.sample),
        "trapped, 128-d": (long.target, long.known, long.target.sample),
        **{name: (each.target, each.known, each.draw) for name, each in analytic.items()},
        **{
            name: (modes.target, modes.known, modes.target.sample)
            for name, modes in (CHOSEN_ON | HELD_OUT).items()
            if name in ("8-d, 4 known, sd 0.3", "4-d, 2 known, sd 0.2", "modes at −2, 2, 0, sd 0.1")
        },
    }
    print("| samples of | paper, 120 | fast, 120 | SMCDiff, 224 | exact |\n|---|---|---|---|---|", flush=True)
    for name, (target, known, draw) in cases.items():
        generator, cells = torch.Generator().manual_seed(0), []
        values = draw(count, generator)
        made: dict[str, Make] = {
            "paper": lambda score: LanPaint(score),
            "fast": lambda score: LanPaint(score, preset="fast"),
            "SMCDiff": PARTICLES[220],
        }
        results = [make(target)(Observation(values.float(), known), generator=generator) for make in made.values()]
        for x in (*results, values.float()):
            found = stein_check(target, x, known, generator=torch.Generator().manual_seed(3))
            cells.append(f"{found.mean:.2f}, z {found.z:.1f}{' **off**' if found.is_off else ''}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def picture(count: int = 1_500) -> None:
    """Draw docs/trapped.png: samples in the plane, y drawn from the target."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    two = flat()
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), sharex=True, sharey=True, layout="constrained")
    for axis, (name, make) in zip(axes, {**SAMPLERS, "exact": None}.items(), strict=True):
        generator = torch.Generator().manual_seed(0)
        values, side = two.draw(count, generator)
        values[:, 1] += DEVIATION * torch.randn(count, generator=generator, dtype=torch.float64)
        x = two.target.sample_conditional(values, two.known, generator)
        title = "exact"
        if make is not None:
            score = CountedScore(two.target)
            x = make[220](score)(Observation(values.float(), two.known), generator=generator)
            title = f"{name}, {score.evaluations} evaluations"
        for sign, colour in ((-1, "tab:blue"), (1, "tab:orange")):
            axis.scatter(*x[side == sign].mT, s=2, c=colour, linewidths=0)
        axis.set_title(title)
        axis.set_xlabel("x, unknown")
    axes[0].set_ylabel("y, known")
    figure.savefig(Path(__file__).parents[1] / "trapped.png", dpi=110)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    {"shares": shares, "others": others, "check": check, "picture": picture}.get(" ".join(sys.argv[1:]), wrong)()
