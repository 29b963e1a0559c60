"""The presets on targets that they were chosen on and on targets that they were not: the tables of docs/frontier.md.

    python docs/studies/frontier.py             # analytic targets, mean of three seeds; about half an hour on one core
    python docs/studies/frontier.py digits      # held-out digits, the paper's four masks
    python docs/studies/frontier.py choices     # what each choice of the preset is worth
    python docs/studies/frontier.py schedules   # inner steps, λ and η that change from level to level

Each prints its table in Markdown.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import torch

from lanpaint import (
    Callback,
    CountedScore,
    DivergenceError,
    DPMSolver,
    FastLangevin,
    LanPaint,
    Moment,
    NoiseLevel,
    Observation,
    Prediction,
    Sampler,
    Score,
    SecantLangevin,
    SolverState,
    Stop,
    seeded,
)
from lanpaint.demo import digits_score, held_out_digits
from lanpaint.fields import FieldDrift
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.metrics import mmd
from lanpaint.randomness import NoiseSource
from toy_models.problems import PROBLEMS, Problem

BUDGETS: dict[str, list[tuple[int, int]]] = {  # (steps, inner steps)
    "gaussian": [(5, 5), (20, 5)],
    "star": [(20, 5), (20, 10)],
    "ar1": [(10, 5), (20, 5)],
    **{name: [(10, 5), (20, 5)] for name in ("tight", "scales", "stiff8", "stiff24", "ring", "grid", "moons")},
}
"""The first three are those that the preset was chosen on; the others were made up afterwards."""

NAMES = {
    "gaussian": "gauss2",
    "star": "star500",
    "ar1": "AR(1), 16-d, ρ = 0.9",
    "tight": "gauss2 with ρ = −0.99",
    "scales": "variances 1 and 0.01",
    "stiff8": "8-d, condition 100",
    "stiff24": "24-d, condition 1000",
    "ring": "ring of 8, sd 0.15",
    "grid": "grid of 16, sd 0.1",
    "moons": "two moons, sd 0.08",
}


def measure(problem: Problem, seed: int, sampler: type[LanPaint] = LanPaint, **options: object) -> tuple[float, int]:
    """KL in nats (∞ for a run that diverged) and evaluations."""
    generator = torch.Generator().manual_seed(seed)
    values = problem.draw(problem.samples, generator)
    score = CountedScore(problem.target)
    observation = Observation(values.float(), problem.known)
    try:
        x = sampler(score, **options)(observation, generator=generator)  # type: ignore[arg-type]
    except DivergenceError:
        return math.inf, score.evaluations
    return problem.divergence(x.to(values.dtype)), score.evaluations


def floor(problem: Problem, seed: int) -> float:
    """The KL of exact samples."""
    return problem.floor(problem.samples, torch.Generator().manual_seed(100 + seed))


def analytic(seeds: int = 3) -> None:
    """Print the table of analytic targets."""
    print(
        "| target | NFE | paper | paper, log-SNR levels | fast | exact samples |\n|---|---|---|---|---|---|", flush=True
    )
    for name, budgets in BUDGETS.items():
        target = PROBLEMS[name]()
        for steps, inner in budgets:
            cells = []
            for options in ({}, {"spacing": "logsnr"}, {"preset": "fast"}):
                rows = [measure(target, seed, steps=steps, inner_steps=inner, **options) for seed in range(seeds)]
                cells.append(f"{sum(kl for kl, _ in rows) / seeds:.2g}")
            exact = sum(floor(target, seed) for seed in range(seeds)) / seeds
            print(f"| {NAMES[name]} | {rows[0][1]} | {' | '.join(cells)} | {exact:.2g} |", flush=True)


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
    budgets = {"gaussian": (5, 5), "star": (20, 5), "ar1": (20, 5)}
    print("| choice | " + " | ".join(f"{NAMES[name]}, {s * (n + 1)} NFE" for name, (s, n) in budgets.items()) + " |")
    print("|---" * (len(budgets) + 1) + "|", flush=True)
    for name, options in cases.items():
        cells = []
        for target, (steps, inner) in budgets.items():
            kl, _ = measure(PROBLEMS[target](), 0, steps=steps, inner_steps=inner, **options)
            cells.append(f"{kl:.2g}" if math.isfinite(kl) else "diverges")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


class Scheduled(LanPaint):
    """The fast preset with settings that change from the noisiest level, u = 0, to the cleanest, u = 1.

    Args:
        score: The score.
        share: u → weight of a level in the allocation of the inner steps, whose sum is kept.
        guide: u → factor of the guidance.
        stretch: u → factor of the step.
        reuse: Whether the last inner evaluation serves the outer step as well.
        **options: Of LanPaint.
    """

    def __init__(
        self,
        score: Score,
        *,
        share: Callable[[float], float] = lambda u: 1.0,
        guide: Callable[[float], float] = lambda u: 1.0,
        stretch: Callable[[float], float] = lambda u: 1.0,
        reuse: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(score, preset="fast", **options)
        self.places = {id(level): step / (self.steps - 1) for step, level in enumerate(self.levels[:-1])}
        weights = [share(u) for u in self.places.values()]
        passed = [sum(weights[: step + 1]) / sum(weights) for step in range(self.steps)]
        until = [0, *(round(part * self.steps * self.inner_steps) for part in passed)]
        self.allocation = [after - before for before, after in itertools.pairwise(until)]
        self.inner_steps = max(self.allocation)
        self.guide, self.stretch, self.reuse = guide, stretch, reuse
        self.callbacks.append(_Allocation(self.allocation))

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """With this level's guidance and step."""
        u, plain = self.places[id(level)], (self.guidance, self.step_size)
        self.guidance, self.step_size = self.guidance * self.guide(u), self.step_size * self.stretch(u)
        drift = super().drift(level, observation)
        self.guidance, self.step_size = plain
        return drift

    def leave(self, state: SolverState, moment: Moment, next_level: NoiseLevel, noise: NoiseSource) -> SolverState:
        """The outer step, from the denoised state of the last inner evaluation if that is reused."""
        if not self.reuse or moment.kind != "inner" or moment.prediction is None:
            return super().leave(state, moment, next_level, noise)
        return self.solver.step(state, _Held(moment.prediction.denoised), moment.level, next_level, noise)


class _Allocation(Callback):
    def __init__(self, allocation: list[int]) -> None:
        self.allocation = allocation

    def on_inner_start(self, sampler: Sampler, moment: Moment) -> Stop | None:
        return Stop.LEVEL if moment.inner >= self.allocation[moment.step] else None


class _Held(Score):
    def __init__(self, denoised: torch.Tensor) -> None:
        self.denoised = denoised

    def predict(self, x: torch.Tensor, level: NoiseLevel) -> Prediction:
        return Prediction(x, level, denoised=self.denoised)


def schedules(seeds: int = 3) -> None:
    """Print what settings that change from level to level are worth, mean of three seeds."""
    cases: dict[str, dict[str, object]] = {
        "fast": {},
        "inner steps fewer with less noise": {"share": lambda u: 2 - 2 * u},
        "inner steps more with less noise": {"share": lambda u: 2 * u},
        "inner steps most in the middle": {"share": lambda u: math.sin(math.pi * (0.1 + 0.8 * u))},
        "λ from 16 to 0": {"guide": lambda u: 2 - 2 * u},
        "λ from 0 to 16": {"guide": lambda u: 2 * u},
        "η from 3 to 1": {"stretch": lambda u: 1.5 - u},
        "η from 1 to 3": {"stretch": lambda u: 0.5 + u},
        "last inner evaluation reused": {"reuse": True},
    }
    budgets = {"gaussian": (5, 5), "star": (20, 5), "ar1": (20, 5)}
    print("| schedule | " + " | ".join(f"{NAMES[name]}, {s * (n + 1)} NFE" for name, (s, n) in budgets.items()) + " |")
    print("|---" * (len(budgets) + 1) + "|", flush=True)
    for name, options in cases.items():
        cells = []
        for target, (steps, inner) in budgets.items():
            saved = 1 if options.get("reuse") else 0  # spent on another inner step
            rows = [
                measure(PROBLEMS[target](), seed, Scheduled, steps=steps, inner_steps=inner + saved, **options)
                for seed in range(seeds)
            ]
            assert rows[0][1] == steps * (inner + 1)
            cells.append(f"{sum(kl for kl, _ in rows) / seeds:.2g}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def digits(count: int = 240) -> None:
    """Print hole PSNR on held-out digits, and the squared MMD of the filled images from the true ones."""
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
            far = mmd(x.clamp(-1, 1), truth)
            error = float(psnr.std()) / count**0.5
            cells.append(f"{float(psnr.mean()):.2f} ± {error:.2f} dB, {far.value:.5f} (p {far.p_value:.2f})")
        print(f"| {mask} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    {"digits": digits, "choices": choices, "schedules": schedules}.get(" ".join(sys.argv[1:]), analytic)()
