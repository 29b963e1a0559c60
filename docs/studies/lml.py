"""LML against other solvers of the probability-flow ODE: the tables of docs/lml.md, and one of docs/dynamics.md.

    python docs/studies/lml.py            # LML as a correction of the prediction
    python docs/studies/lml.py solvers    # the solvers that its paper compares, with equal evaluations
    python docs/studies/lml.py picture    # the same tables as docs/lml.png
    python docs/studies/lml.py inner      # the memory of multistep solvers between inner steps (docs/dynamics.md)
    python docs/studies/lml.py dynamics   # LML as a dynamics

The data are a Gaussian of variances 4, 1, 0.25 and 0.04, whose flow is known in closed form. The error is the root mean
square over samples and entries at σ/α = 0.05, from exact samples at σ/α = 20.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import eval_genlaguerre, roots_genlaguerre
from torch import Tensor

from lanpaint import (
    LML,
    PNDM,
    VP,
    DPMSolver,
    Drift,
    Euler,
    LanPaint,
    LMLangevin,
    NoiseLevel,
    Observation,
    UniPC,
)
from lanpaint.names import SOLVERS
from lanpaint.plotting import COLOURS, MARKERS, new_figure, save
from lanpaint.randomness import NormalNoise
from lanpaint.score import Score
from lanpaint.solvers import Solver
from lanpaint.spacings import SPACINGS
from lanpaint_toys import Gaussian, GaussianMixture, gauss2
from lanpaint_toys.problems import PROBLEMS

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


def error(integrate: Integrator, count: int, spaced: Callable[[int], list[NoiseLevel]] = levels) -> float:
    """Root mean square error after ``count`` steps."""
    grid = spaced(count)
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
    compare(METHODS, COUNTS)


def compare(
    methods: dict[str, Integrator],
    counts: Sequence[int],
    spaced: Callable[[int], list[NoiseLevel]] = levels,
) -> None:
    """Print a table of errors, with the order at the last two numbers of steps."""
    print("\n| method | " + " | ".join(f"{count} steps" for count in counts) + " | order |")
    print("|---" * (len(counts) + 2) + "|")
    for name, method in methods.items():
        errors = [error(method, count, spaced) for count in counts]
        order = math.log2(errors[-2] / errors[-1]) / math.log2(counts[-1] / counts[-2])
        print(f"| {name} | " + " | ".join(f"{value:.2g}" for value in errors) + f" | {order:.2f} |", flush=True)


# --- The solvers that the paper compares


def in_time(spacing: str) -> Callable[[int], list[NoiseLevel]]:
    """Levels of the linear variance-preserving schedule, to clean data."""
    return lambda count: SPACINGS[spacing](VP.linear(), count)


COMPARED: dict[str, Integrator] = {
    "DDIM": along(Euler(), TARGET),
    "DDIM, LML β = 0.5": along(Euler(), LML(TARGET, 0.5)),
    "PNDM": along(PNDM(), TARGET),
    "DPM-Solver 2M": along(DPMSolver(2, "epsilon"), TARGET),
    "DPM-Solver 3M": along(DPMSolver(3, "epsilon"), TARGET),
    "DPM-Solver++ 2M": along(DPMSolver(2), TARGET),
    "DPM-Solver++ 3M": along(DPMSolver(3), TARGET),
    "DPM-Solver++ 3M, LML β = 0.5": along(DPMSolver(3), LML(TARGET, 0.5)),
    "UniPC-2": along(UniPC(2), TARGET),
    "UniPC-2, B(h) = h": along(UniPC(2, "bh1"), TARGET),
    "UniPC-3": along(UniPC(3), TARGET),
}


def solvers() -> None:
    """Print the tables of solvers on three spacings. Each makes as many evaluations as steps."""
    for spaced in (levels, in_time("linspace"), in_time("paper")):
        compare(COMPARED, (5, 6, 8, 10, 15, 20, 40), spaced)


def picture() -> None:
    """Draw errors against evaluations on the three spacings."""
    counts = (5, 6, 8, 10, 15, 20, 40)
    figure = new_figure(figsize=(12, 4.4))
    panels = figure.subplots(1, 3, sharey=True)
    titles = ("even in log σ/α", "linspace", "paper")
    for axes, title, spaced in zip(panels, titles, (levels, in_time("linspace"), in_time("paper")), strict=True):
        for place, (name, method) in enumerate(COMPARED.items()):
            style = "--" if "LML" in name else ":" if place >= len(COLOURS) else "-"
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            errors = [error(method, count, spaced) for count in counts]
            axes.plot(counts, errors, style, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
        axes.set(xscale="log", yscale="log", title=title, xlabel="evaluations")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("root mean square error")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    save(figure, "docs/lml.png")


class Kept(Solver):
    """A multistep solver that keeps its memory whatever has become of x."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver

    def init(self, x: Tensor, steps: int) -> Any:
        """The state of the solver."""
        return self.solver.init(x, steps)

    def step(self, state: Any, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: Any) -> Any:
        """The solver's step from a state that is said to be its own; UniPC's corrector adds to what x has become."""
        if state.reached is not None and hasattr(state, "euler"):
            state = replace(state, euler=state.euler + state.x - state.reached)
        return self.solver.step(replace(state, reached=None), score, level, next_level, noise)


def inner() -> None:
    """Print the KL of LanPaint on ``gaussian`` with solvers that keep their memory between inner steps, and Euler."""
    problem, rows = gauss2(), []
    names = ("euler", "2m", "3m", "dpm2m", "dpm3m", "pndm", "unipc2")
    for name in names:
        cells: list[object] = [name if name == "euler" else f"{name}, memory kept"]
        for spacing in ("paper", "logsnr"):
            for steps, each in ((5, 5), (20, 5), (20, 20)):
                generator = torch.Generator().manual_seed(0)
                solver = SOLVERS[name]() if name == "euler" else Kept(SOLVERS[name]())
                sampler = LanPaint(problem.target, steps=steps, inner_steps=each, solver=solver, spacing=spacing)
                made = sampler(Observation(*problem.observe(20_000, generator)), generator=generator)
                cells.append(float(problem.divergence(made)))
        rows.append(cells)
    show("solver | 5 × 5, paper | 20 × 5 | 20 × 20 | 5 × 5, log-SNR | 20 × 5 | 20 × 20", rows)


# --- LML as a dynamics, on exact scores ---


def printed_variance(dim: int, damping: float) -> float:
    """Variance of an entry in the law of the printed form on N(0, I), ∞ if it has none; λ = ``dim`` · ``damping``."""
    strength = dim * damping
    narrow = 1 - (dim - 1) / strength
    if narrow <= 0:
        return math.inf
    return (strength / narrow + (dim + 2) / narrow**2) / (strength + dim / narrow)


def run_variance(dim: int, damping: float, form: str, step: float = 0.02, time: float = 40.0) -> float:
    """Variance of an entry after ``time``, from N(0, I), by 1000 chains."""
    generator = torch.Generator().manual_seed(0)
    noise, drift = NormalNoise(generator), Drift(lambda x: -x, 1.0, step)
    dynamics = LMLangevin(damping, form)  # type: ignore[arg-type]
    state = dynamics.init(torch.randn(1000, dim, generator=generator, dtype=torch.float64), drift, noise)
    for _ in range(round(time / step)):
        state = dynamics.step(state, drift, noise)
    return float(state.x.square().mean())


def hessian_error(score: Tensor, hessian: Tensor) -> tuple[float, float]:
    """Root mean square of ‖s sᵀ + ∇²log p‖/‖∇²log p‖ in the Hilbert–Schmidt norm, and of c s sᵀ with the best c."""
    outer = score[:, :, None] * score[:, None]
    size = hessian.square().sum((1, 2)).mean()
    error = (outer + hessian).square().sum((1, 2)).mean()
    overlap = -(outer * hessian).sum((1, 2)).mean()
    best = 1 - overlap.clamp(min=0) ** 2 / (outer.square().sum((1, 2)).mean() * size)
    return float((error / size).sqrt()), float(best.sqrt())


def at_samples(target: GaussianMixture, level: NoiseLevel, count: int = 4000) -> tuple[Tensor, Tensor]:
    """Score (n, d) and ∇²log p (n, d, d) at exact samples of a level."""
    generator = torch.Generator().manual_seed(0)
    clean = target.sample(count, generator)
    x = level.perturb(clean, torch.randn(clean.shape, generator=generator, dtype=clean.dtype)).requires_grad_()
    score = target.predict(x, level).score
    rows = [torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return score.detach(), torch.stack(rows, 1)


def rate(dim: int, damping: float, size: int = 60) -> float:
    """Exponential rate of the corrected dynamics on N(0, I): the spectral gap, by a basis of Laguerre polynomials.

    Functions are r^l Y_l times polynomials of r²/2. D is λ/(λ + r²) along x, and 1 across it. Langevin has the rate 1.
    """
    strength, gaps = dim * damping, []
    for degree in (0, 1, 2):
        if dim == 1 and degree == 2:
            continue
        order = degree + dim / 2 - 1
        u, weights = roots_genlaguerre(4 * size, order)
        weights = weights / math.gamma(order + 1) if order < 100 else weights / weights.sum()
        norms = [
            math.exp(0.5 * (math.lgamma(k + 1) + math.lgamma(order + 1) - math.lgamma(k + order + 1)))
            for k in range(size)
        ]
        values = np.array([norms[k] * eval_genlaguerre(k, order, u) for k in range(size)])
        slopes = np.array([-norms[k] * eval_genlaguerre(k - 1, order + 1, u) if k else 0 * u for k in range(size)])
        square = 2 * u  # r²
        radial = degree * values + square * slopes  # r d/dr, over r^l
        energy = (radial * (strength / (strength + square) / square * weights)) @ radial.T
        energy += degree * (degree + dim - 2) * (values * (weights / square)) @ values.T
        found = np.linalg.eigvalsh((energy + energy.T) / 2)
        gaps.append(found[1] if degree == 0 else found[0])
    return float(min(gaps))


def conditions(spectrum: Tensor, damping: float, count: int = 500) -> tuple[float, float]:
    """Condition number of the precisions Λ, and the mean of that of D Λ, with D of a constant v drawn from N(0, Λ)."""
    dim = len(spectrum)
    scaled = spectrum / spectrum.max()
    v = torch.randn(count, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scaled.sqrt()
    damped = torch.eye(dim) - v[:, :, None] * v[:, None] / (dim * damping + v.square().sum(1))[:, None, None]
    root = scaled.sqrt()
    values = torch.linalg.eigvalsh(root[:, None] * damped * root)
    return float(spectrum.max() / spectrum.min()), float((values[:, -1] / values[:, 0]).mean())


def show(head: str, rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"\n| {head} |\n" + "|---" * (head.count("|") + 1) + "|")
    for row in rows:
        print(
            "| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |",
            flush=True,
        )


SPECTRA = {
    "isotropic, 1-d": [1.0],
    "isotropic, 8-d": [1.0] * 8,
    "one of 8 stiff, 100 : 1": [100.0] + [1.0] * 7,
    "four of 8 stiff, 100 : 1": [100.0] * 4 + [1.0] * 4,
    "8-d, even in log from 100 to 1": torch.logspace(2, 0, 8).tolist(),
}


def dynamics() -> None:
    """Print the tables of LML as a dynamics."""
    cases = [(dim, damping) for dim in (1, 2, 8) for damping in (0.1, 0.5, 1.0, 4.0)]
    show(
        "entries | λ/d | printed, exact law | printed, run | corrected, run | rate, corrected",
        (
            (
                *(dim, damping, printed_variance(dim, damping), run_variance(dim, damping, "printed")),
                *(run_variance(dim, damping, "corrected"), rate(dim, damping)),
            )
            for dim, damping in cases
        ),
    )
    rows = []
    for name, spectrum in SPECTRA.items():
        target = Gaussian([0.0] * len(spectrum), torch.diag(1 / torch.tensor(spectrum)).tolist())
        precisions = torch.tensor(spectrum).double()
        formula = math.sqrt(1 + float(precisions.sum() ** 2 / precisions.square().sum()))
        measured = hessian_error(*at_samples(target, NoiseLevel(1.0, 0.0001)))
        rows.append((name, formula, *measured, *conditions(precisions, 1.0), conditions(precisions, 0.01)[1]))
    show("Gaussian | error, formula | error, samples | with the best factor | condition | at λ/d = 1 | at 0.01", rows)
    mixtures = {"two moons": PROBLEMS["moons"]().target, "ring of 8": PROBLEMS["ring"]().target}
    errors = []
    for name, mixture in mixtures.items():
        for ratio in (5.0, 1.0, 0.3, 0.1):
            norm = math.hypot(1, ratio)
            errors.append((name, ratio, *hessian_error(*at_samples(mixture, NoiseLevel(1 / norm, ratio / norm)))))
    show("mixture | σ/α | error | with the best factor", errors)


if __name__ == "__main__":
    {"dynamics": dynamics, "solvers": solvers, "picture": picture, "inner": inner}.get(" ".join(sys.argv[1:]), main)()
