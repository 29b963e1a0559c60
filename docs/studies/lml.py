"""LML against DDIM and the two-step Adams–Bashforth method on the probability-flow ODE: the tables of docs/lml.md.

    python docs/studies/lml.py

The data are a Gaussian of variances 4, 1, 0.25 and 0.04, whose flow is known in closed form. The error is the root mean
square over samples and entries at σ/α = 0.05, from exact samples at σ/α = 20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lanpaint import LML, DPMSolver, Euler, NoiseLevel
from lanpaint.randomness import NormalNoise
from lanpaint.score import Score
from lanpaint.solvers import Solver
from toy_models import Gaussian

VARIANCES, MEAN = torch.tensor([4.0, 1.0, 0.25, 0.04]).double(), torch.tensor([0.5, -1.0, 0.2, 0.3]).double()
TARGET = Gaussian(MEAN.tolist(), torch.diag(VARIANCES).tolist())
COUNTS = (5, 10, 20, 40, 80, 160)
Integrator = Callable[[Sequence[NoiseLevel], Tensor], Tensor]


def levels(count: int) -> list[NoiseLevel]:
    """Levels from σ/α = 20 to 0.05, even in log σ/α, in variance-preserving coordinates."""
    ratios = torch.logspace(math.log10(20), math.log10(0.05), count + 1, dtype=torch.float64).tolist()
    return [NoiseLevel(1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)) for ratio in ratios]


def along(solver: Solver, score: Score) -> Integrator:
    """A solver of this library with a score."""

    def integrate(levels: Sequence[NoiseLevel], x: Tensor) -> Tensor:
        score.reset()
        state, noise = solver.init(x, len(levels) - 1), NormalNoise(None)
        for here, there in pairwise(levels):
            state = solver.step(state, score, here, there, noise)
        return state.x

    return integrate


def adams_bashforth(levels: Sequence[NoiseLevel], x: Tensor) -> Tensor:
    """x/α follows ε̂ in the variable σ/α; the first step is Euler's."""
    before: tuple[Tensor, float] | None = None
    for here, there in pairwise(levels):
        epsilon = TARGET.predict(x, here).epsilon
        ratio, following = float(here.relative_sigma), float(there.relative_sigma)
        slope = epsilon
        if before is not None:
            slope = epsilon + (following - ratio) / (2 * (ratio - before[1])) * (epsilon - before[0])
        before = epsilon, ratio
        x = there.alpha * (x / here.alpha + (following - ratio) * slope)
    return x


def error(integrate: Integrator, count: int) -> float:
    """Root mean square error after ``count`` steps."""
    grid = levels(count)
    start, end = ((level.alpha * MEAN, (level.alpha**2 * VARIANCES + level.sigma**2).sqrt()) for level in grid[::count])
    unit = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = integrate(grid, start[0] + unit * start[1])
    return float((made - end[0] - unit * end[1]).square().mean().sqrt())


METHODS: dict[str, Integrator] = {
    "DDIM": along(Euler(), TARGET),
    **{f"DDIM, LML β = {beta:g}": along(Euler(), LML(TARGET, beta)) for beta in (0.25, 0.5, 1.0, 2.0)},
    "DDIM, LML κ = 0.004, λ = 0.001": along(Euler(), LML(TARGET, kappa=0.004, damping=0.001)),
    **{
        f"DDIM, LML β = {beta:g}, x̂₀ kept": along(Euler(), LML(TARGET, beta, keep_denoised=True)) for beta in (0.1, 0.5)
    },
    "Adams–Bashforth 2": adams_bashforth,
    "DPM-Solver++(3M)": along(DPMSolver(3), TARGET),
    **{f"DPM-Solver++(3M), LML β = {beta:g}": along(DPMSolver(3), LML(TARGET, beta)) for beta in (0.25, 1.0)},
}


def main() -> None:
    """Print the table."""
    print("| method | " + " | ".join(f"{count} steps" for count in COUNTS) + " | order |")
    print("|---" * (len(COUNTS) + 2) + "|")
    for name, method in METHODS.items():
        errors = [error(method, count) for count in COUNTS]
        order = math.log2(errors[-2] / errors[-1])
        print(f"| {name} | " + " | ".join(f"{value:.2g}" for value in errors) + f" | {order:.2f} |")


if __name__ == "__main__":
    main()
