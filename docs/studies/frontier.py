"""The presets on targets that they were chosen on and on targets that they were not: the tables of docs/frontier.md.

    python docs/studies/frontier.py             # analytic targets, mean of three seeds; forty minutes on one core
    python docs/studies/frontier.py choices     # what each choice of the preset is worth
    python docs/studies/frontier.py lanpaint2   # readings of the settings of LanPaint 2, one seed; half an hour
    python docs/studies/frontier.py why         # what would help where the preset is above its goal; two minutes

Each prints its table in Markdown.
"""

from __future__ import annotations

import itertools
import math
import sys

import torch

from lanpaint import (
    CountedScore,
    DivergenceError,
    Heun,
    LanPaint,
    Observation,
    PartialRefresh,
    SecantLangevin,
)
from lanpaint.schedules import VP
from lanpaint.spacings import uniform_time
from lanpaint_toys.problems import PROBLEMS, Problem

BUDGETS: dict[str, list[tuple[int, int]]] = {  # (steps, inner steps)
    "gaussian": [(5, 5), (20, 5)],
    "star": [(20, 5), (20, 10)],
    "ar1": [(10, 5), (20, 5)],
    **{name: [(10, 5), (20, 5)] for name in ("tight", "scales", "stiff8", "stiff24", "ring", "grid", "moons")},
    **{name: [(10, 5), (20, 5)] for name in ("equicorrelated", "cross", "spiral", "uneven")},
}
"""gauss2, star500, AR(1), stiff24, two moons, spiral and the three of unlike widths were looked at when the preset was
chosen; the others were not."""

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
    "equicorrelated": "10-d, all ρ = 0.7",
    "cross": "two lines, sd 0.06",
    "spiral": "spiral, sd 0.06",
    "uneven": "three of unlike widths",
}


def measure(problem: Problem, seed: int, **options: object) -> tuple[float, int]:
    """KL in nats (∞ for a run that diverged) and evaluations."""
    generator = torch.Generator().manual_seed(seed)
    values = problem.draw(problem.samples, generator)
    score = CountedScore(problem.target)
    observation = Observation(values.float(), problem.known)
    try:
        x = LanPaint(score, **options)(observation, generator=generator)  # type: ignore[arg-type]
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


def shared(steps: int, inner_steps: int, power: float) -> list[int]:
    """Inner steps at each level, S ``inner_steps`` in all, in proportion to a power of the level's number from 1."""
    passed = list(itertools.accumulate((step + 1) ** power for step in range(steps)))
    until = [round(steps * inner_steps * part / passed[-1]) for part in passed]
    return [after - before for before, after in itertools.pairwise([0, *until])]


SECANT: dict[str, object] = {
    "dynamics": SecantLangevin(),
    "step_size": 2.0,
    "spacing": "logsnr",
    "lam": 8.0,
    "share": 1.0,
}
"""The fast preset before: a step length measured from the last two evaluations, which biases the law."""


def choices() -> None:
    """Print what leaves the fast preset by one choice, on the targets that it was chosen on."""
    fast: dict[str, object] = {"preset": "fast"}
    cases: dict[str, dict[str, object]] = {
        "fast": fast,
        "levels even in time": {**fast, "spacing": "paper"},
        "levels even in log-SNR": {**fast, "spacing": "logsnr"},
        "inner steps at all levels alike": {**fast, "share": 0.0},
        "inner steps in proportion to the level's number": {**fast, "share": 1.0},
        "inner steps in proportion to its square": {**fast, "share": 2.0},
        "η = 0.5": {**fast, "step_size": 0.5},
        "η = 0.75": {**fast, "step_size": 0.75},
        "η = 1.3": {**fast, "step_size": 1.3},
        "λ = 0": {**fast, "lam": 0.0},
        "λ = 8": {**fast, "lam": 8.0},
        "λ = 40": {**fast, "lam": 40.0},
        "no momentum kept, c = 0": {**fast, "dynamics": PartialRefresh(0.0)},
        "c = 0.2": {**fast, "dynamics": PartialRefresh(0.2)},
        "step length measured (the preset before)": {**fast, **SECANT},
        "solver Heun (20 % more evaluations)": {**fast, "solver": Heun()},
    }
    budgets = {"gaussian": (5, 5), "star": (20, 5), "ar1": (20, 5)}
    print("| choice | " + " | ".join(f"{NAMES[name]}, {s * (n + 1)} NFE" for name, (s, n) in budgets.items()) + " |")
    print("|---" * (len(budgets) + 1) + "|", flush=True)
    for name, options in cases.items():
        cells = []
        for target, (steps, inner) in budgets.items():
            given = {"inner_steps": inner} | options
            if "share" in given:
                given["inner_steps"] = shared(steps, inner, float(given.pop("share")))  # type: ignore[arg-type]
            kl, _ = measure(PROBLEMS[target](), 0, steps=steps, **given)
            cells.append(f"{kl:.2g}" if math.isfinite(kl) else "diverges")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def why() -> None:
    """Print what the preset lacks where it stays above its goal: levels, inner steps, or a shorter step."""
    cases: dict[str, tuple[int, int, float]] = {
        "as it is": (1, 1, 1.0),
        "twice the levels": (2, 1, 1.0),
        "twice the inner steps": (1, 2, 1.0),
        "four times the inner steps": (1, 4, 1.0),
        "half the step, twice the inner steps": (1, 2, 0.5),
        "half the step, four times the inner steps": (1, 4, 0.5),
    }
    targets = {"spiral": 20, "gaussian": 5, "tight": 10, "scales": 10, "stiff8": 10}
    print("| | " + " | ".join(f"{NAMES[name]}, {6 * steps} NFE" for name, steps in targets.items()) + " |")
    print("|---" * (len(targets) + 1) + "|", flush=True)
    for case, (more_levels, more_inner, step) in cases.items():
        cells = []
        for name, steps in targets.items():
            options = {"preset": "fast", "steps": steps * more_levels, "inner_steps": 5 * more_inner, "step_size": step}
            rows = [measure(PROBLEMS[name](), seed, **options)[0] for seed in range(3)]
            cells.append(f"{sum(rows) / 3:.2g}")
        print(f"| {case} | {' | '.join(cells)} |", flush=True)
    exact = [sum(floor(PROBLEMS[name](), seed) for seed in range(3)) / 3 for name in targets]
    print("| exact samples | " + " | ".join(f"{value:.2g}" for value in exact) + " |")


def allotted(shares: list[float], total: int) -> list[int]:
    """Inner steps at each level, ``total`` in all, in proportion to ``shares``."""
    passed = list(itertools.accumulate(shares))
    until = [round(total * part / passed[-1]) for part in passed]
    return [after - before for before, after in itertools.pairwise([0, *until])]


READ_ON = ("gaussian", "ar1", "tight", "stiff8", "ring", "grid", "moons", "cross", "uneven")


def lanpaint2() -> None:
    """Print both readings of the ramp of inner steps of LanPaint 2, in steps and in noise, at equal evaluations."""
    columns = "paper | λ 5, η 0.2, overdamped, even | falling by steps | falling by noise | rising by steps | "
    print(f"| target | NFE | {columns}rising by noise | fast |\n" + "|---" * 9 + "|", flush=True)
    for name in READ_ON:
        target = PROBLEMS[name]()
        for steps in (10, 20):
            noise = [
                float(level.sigma / (level.alpha + level.sigma)) for level in uniform_time(VP.linear(), steps)[:-1]
            ]
            left = [(steps - step) / steps for step in range(steps)]
            ramps = ([1.0] * steps, left, noise, left[::-1], [1 - share for share in noise])
            cases: list[dict[str, object]] = [{"inner_steps": 5}]
            cases += [{"preset": "lanpaint2", "inner_steps": allotted(ramp, 5 * steps)} for ramp in ramps]
            cases.append({"preset": "fast", "inner_steps": 5})
            cells = []
            for options in cases:
                kl, evaluations = measure(target, 0, steps=steps, **options)
                assert evaluations == 6 * steps
                cells.append(f"{kl:.2g}")
            print(f"| {NAMES[name]} | {6 * steps} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    {"choices": choices, "lanpaint2": lanpaint2, "why": why}.get("".join(sys.argv[1:]), analytic)()
