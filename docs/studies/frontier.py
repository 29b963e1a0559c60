"""The presets on targets that they were chosen on and on targets that they were not: the tables of docs/frontier.md.

    python docs/studies/frontier.py             # analytic targets, mean of three seeds; about half an hour on one core
    python docs/studies/frontier.py digits      # held-out digits, the paper's four masks
    python docs/studies/frontier.py choices     # what each choice of the preset is worth

Each prints its table in Markdown.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from lanpaint import (
    CountedScore,
    DivergenceError,
    DPMSolver,
    FastLangevin,
    LanPaint,
    Observation,
    SecantLangevin,
    seeded,
)
from lanpaint.demo import digits_score, held_out_digits
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from toy_models import Gaussian, GaussianMixture, gauss2, star500
from toy_models.problems import gaussian_kl, histogram_kl

Target = tuple[GaussianMixture, Tensor, Callable[[Tensor], float], int]


def _gaussian(cov: Tensor, known: list[int]) -> Target:
    target = Gaussian([0.0] * len(cov), cov.tolist())
    mask = torch.zeros(len(cov), dtype=torch.bool)
    mask[known] = True
    return target, mask, lambda samples: gaussian_kl(samples, target), 20_000


def _planar(means: Tensor, deviation: float) -> Target:
    target = GaussianMixture(means, deviation**2)
    return target, torch.tensor([False, True]), lambda samples: histogram_kl(samples, target), 10_000


def _random_covariance(dim: int, condition: float, seed: int) -> Tensor:
    """Of eigenvalues spread evenly in logarithm, the largest 1, in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    return basis @ torch.diag(torch.logspace(0, -math.log10(condition), dim, dtype=torch.float64)) @ basis.mT


def targets() -> dict[str, tuple[Target, list[tuple[int, int]]]]:
    """Name → the target, the known entries, the figure of merit and the number of samples; and the (steps, inner)."""
    index = torch.arange(16, dtype=torch.float64)
    ar1 = 0.9 ** (index[:, None] - index).abs()
    turn = torch.arange(8, dtype=torch.float64) * math.pi / 4
    ring = 1.6 * torch.stack([turn.cos(), turn.sin()], 1)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1.5, 1.5, 4).double()] * 2, indexing="ij"), -1).reshape(-1, 2)
    along = torch.linspace(0, math.pi, 60, dtype=torch.float64)
    moons = torch.cat(
        [
            torch.stack([along.cos() - 0.5, along.sin() - 0.25], 1),
            torch.stack([0.5 - along.cos(), 0.25 - along.sin()], 1),
        ]
    )
    gauss, star = gauss2(), star500()
    chosen = {
        "gauss2": ((gauss.target, gauss.known, gauss.divergence, 20_000), [(5, 5), (20, 5)]),
        "star500": ((star.target, star.known, star.divergence, 10_000), [(20, 5), (20, 10)]),
        "AR(1), 16-d, ρ = 0.9": (_gaussian(ar1, list(range(1, 16, 2))), [(10, 5), (20, 5)]),
    }
    made_up = {
        "gauss2 with ρ = −0.99": (_gaussian(torch.tensor([[1.0, -0.99], [-0.99, 1.0]]), [1]), [(10, 5), (20, 5)]),
        "variances 1 and 0.01": (_gaussian(torch.tensor([[0.01, 0.05], [0.05, 1.0]]), [1]), [(10, 5), (20, 5)]),
        "8-d, condition 100": (_gaussian(_random_covariance(8, 100, 1), [0, 3, 6]), [(10, 5), (20, 5)]),
        "24-d, condition 1000": (_gaussian(_random_covariance(24, 1000, 2), list(range(0, 24, 3))), [(10, 5), (20, 5)]),
        "ring of 8, sd 0.15": (_planar(ring, 0.15), [(10, 5), (20, 5)]),
        "grid of 16, sd 0.1": (_planar(grid, 0.1), [(10, 5), (20, 5)]),
        "two moons, sd 0.08": (_planar(moons, 0.08), [(10, 5), (20, 5)]),
    }
    return {**chosen, **made_up}


def measure(target: Target, seed: int, **options: object) -> tuple[float, int]:
    """KL in nats (∞ for a run that diverged) and evaluations."""
    law, known, divergence, count = target
    generator = torch.Generator().manual_seed(seed)
    values = law.sample(count, generator=generator)
    score = CountedScore(law)
    try:
        x = LanPaint(score, **options)(Observation(values.float(), known), generator=generator)  # type: ignore[arg-type]
    except DivergenceError:
        return math.inf, score.evaluations
    return divergence(x.to(values.dtype)), score.evaluations


def floor(target: Target, seed: int) -> float:
    """The KL of exact samples."""
    law, _, divergence, count = target
    return divergence(law.sample(count, generator=torch.Generator().manual_seed(100 + seed)))


def analytic(seeds: int = 3) -> None:
    """Print the table of analytic targets."""
    print(
        "| target | NFE | paper | paper, log-SNR levels | fast | exact samples |\n|---|---|---|---|---|---|", flush=True
    )
    for name, (target, budgets) in targets().items():
        for steps, inner in budgets:
            cells = []
            for options in ({}, {"spacing": "logsnr"}, {"preset": "fast"}):
                rows = [measure(target, seed, steps=steps, inner_steps=inner, **options) for seed in range(seeds)]
                cells.append(f"{sum(kl for kl, _ in rows) / seeds:.2g}")
            exact = sum(floor(target, seed) for seed in range(seeds)) / seeds
            print(f"| {name} | {rows[0][1]} | {' | '.join(cells)} | {exact:.2g} |", flush=True)


def choices() -> None:
    """Print what leaves the fast preset by one choice, on the targets that it was chosen on."""
    fast: dict[str, object] = {"preset": "fast"}
    cases: dict[str, dict[str, object]] = {
        "fast": fast,
        "levels even in time": {**fast, "spacing": "paper"},
        "η = 1": {**fast, "step_size": 1.0},
        "η = 4": {**fast, "step_size": 4.0},
        "λ = 0": {**fast, "guidance": 0.0},
        "λ = 4": {**fast, "guidance": 4.0},
        "λ = 16": {**fast, "guidance": 16.0},
        "nothing measured (longest = 1)": {**fast, "dynamics": SecantLangevin(longest=1.0)},
        "longest = 10": {**fast, "dynamics": SecantLangevin(longest=10.0)},
        "no bound on the length": {**fast, "dynamics": SecantLangevin(longest=1e9)},
        "growth = 2": {**fast, "dynamics": SecantLangevin(growth=2.0)},
        "growth = 1.1": {**fast, "dynamics": SecantLangevin(growth=1.1)},
        "FLD, γ = 15, η = 0.15": {**fast, "friction": 15.0, "step_size": 0.15},
        "FLD, γ = 15, η = 0.5": {**fast, "friction": 15.0, "step_size": 0.5},
        "exact OU, η = 0.5": {**fast, "dynamics": FastLangevin(math.inf), "step_size": 0.5},
        "exact OU, η = 1": {**fast, "dynamics": FastLangevin(math.inf), "step_size": 1.0},
        "solver 2M": {**fast, "solver": DPMSolver()},
    }
    known = targets()
    budgets = {"gauss2": (5, 5), "star500": (20, 5), "AR(1), 16-d, ρ = 0.9": (20, 5)}
    print("| choice | " + " | ".join(f"{name}, {s * (n + 1)} NFE" for name, (s, n) in budgets.items()) + " |")
    print("|---" * (len(budgets) + 1) + "|", flush=True)
    for name, options in cases.items():
        cells = []
        for target, (steps, inner) in budgets.items():
            kl, _ = measure(known[target][0], 0, steps=steps, inner_steps=inner, **options)
            cells.append(f"{kl:.2g}" if math.isfinite(kl) else "diverges")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def digits(count: int = 240) -> None:
    """Print hole PSNR on held-out digits, and the unbiased squared MMD of the fills from the truth."""
    truth, score = held_out_digits(count), digits_score()
    runs = {
        "paper, 120 NFE": {"steps": 20, "inner_steps": 5},
        "fast, 60 NFE": {"preset": "fast", "steps": 10, "inner_steps": 5},
        "fast, 120 NFE": {"preset": "fast", "steps": 20, "inner_steps": 5},
    }
    print("| mask | " + " | ".join(f"{name}: PSNR, MMD²" for name in runs) + " |")
    print("|---" * (len(runs) + 1) + "|", flush=True)
    for mask, make in MASKS.items():
        known = make(8, 8)
        cells = []
        for options in runs.values():
            paint = LanPaint(score, **options)  # type: ignore[arg-type]
            x = paint(Observation(truth, known), generator=seeded(range(count)))
            psnr = hole_psnr(x, truth, known)
            cells.append(
                f"{float(psnr.mean()):.2f} ± {float(psnr.std()) / count**0.5:.2f} dB, "
                f"{mmd2(x[..., ~known].flatten(1), truth[..., ~known].flatten(1)):.4f}"
            )
        print(f"| {mask} | " + " | ".join(cells) + " |", flush=True)


def mmd2(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with a Gaussian kernel whose width is the median distance."""
    both = torch.cat([x, y]).double()
    square = torch.cdist(both, both).square()
    n = len(x)
    kernel = torch.exp(-square / square[square > 0].median())
    inside = (kernel.sum() - kernel.trace()) - 2 * kernel[:n, n:].sum()
    return float(inside / (n * (n - 1)) - 2 * kernel[:n, n:].mean())


if __name__ == "__main__":
    {"digits": digits, "choices": choices}.get(" ".join(sys.argv[1:]), analytic)()
