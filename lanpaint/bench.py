"""The method's figures on analytic targets: one row, a comparison, or the whole table.

``python -m lanpaint.bench`` prints the table of docs/benchmarks.md, mean of three seeds.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from lanpaint.callbacks import DivergenceError
from lanpaint.dynamics import Langevin
from lanpaint.names import make_dynamics, make_solver
from lanpaint.observation import Observation
from lanpaint.samplers import (
    DDRM,
    DPS,
    MCG,
    CoPaint,
    LangevinPaint,
    LanPaint,
    RePaint,
    Replace,
    Sampler,
    TwistedSMC,
)
from lanpaint.samplers.langevin_paint import check_inner
from lanpaint.score import CountedScore, Score

_INNER = {"inner_steps", "step_size", "dynamics", "friction"}
METHODS: dict[str, tuple[Callable[..., Sampler], set[str]]] = {
    "replace": (Replace, set()),
    "repaint": (RePaint, {"inner_steps"}),
    "langevin": (LangevinPaint, _INNER),
    "fld": (partial(LanPaint, guidance=0.0), _INNER | {"expected_noise"}),
    "big": (
        lambda score, dynamics=None, **o: LanPaint(score, dynamics=dynamics or Langevin(), **o),
        _INNER | {"guidance"},
    ),
    "lanpaint": (LanPaint, _INNER | {"expected_noise", "guidance", "preset"}),
    "ddrm": (DDRM, set()),
    "mcg": (MCG, {"step_size"}),
    "dps": (DPS, {"step_size"}),
    "copaint": (CoPaint, {"inner_steps", "step_size"}),
    "tds": (TwistedSMC, {"particles"}),
}
"""Name → the sampler, and the options that it has of those that methods differ in."""

SAMPLES = {"gaussian": 20_000, "star": 10_000}


def make_sampler(method: str, score: Score, *, steps: int, inner_steps: int, **options: Any) -> Sampler:
    """A sampler by the name that benchmarks use; options that are None take the method's default.

    ``fld`` is LanPaint with guidance 0 and ``big`` LanPaint with Euler–Maruyama steps, the two halves of the paper's
    ablation. Dynamics and solver are given by name too, see :mod:`lanpaint.names`.

    Raises:
        ValueError: For an unknown name, or an option that the method does not have.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    make, own = METHODS[method]
    check_inner(inner_steps, 1.0)
    options = {name: value for name, value in options.items() if value is not None}
    if "inner_steps" in own:
        options["inner_steps"] = inner_steps
    takes = own - {"inner_steps"} | ({"solver"} if method not in ("ddrm", "tds") else set())
    unknown = sorted(set(options) - takes - {"inner_steps", "spacing", "callbacks", "progress"})
    if unknown:
        raise ValueError(f"{method} has no {' or '.join(unknown)}; it takes {', '.join(sorted(takes)) or 'none'}")
    if "solver" in options:
        options["solver"] = make_solver(options["solver"])
    if "dynamics" in options:
        options["dynamics"] = make_dynamics(options["dynamics"], options.pop("friction", None))
    elif method in ("langevin", "big") and "friction" in options:
        raise ValueError(f"{method} has no friction without dynamics; give --dynamics fld, hfhr, baoab, obabo or ubu")
    return make(score, steps=steps, **options)


@dataclass(frozen=True)
class Row:
    """One run of one method.

    Attributes:
        target: Problem.
        method: Method.
        steps: Outer steps.
        inner_steps: Inner steps.
        levels: Spacing of the levels.
        dynamics: Name of the dynamics, None for the method's own.
        solver: Name of the solver.
        samples: Number of samples.
        seed: Seed.
        kl: Figure of merit, in nats; infinite for a run that diverged.
        floor: The same of as many exact samples.
        nfe: Evaluations of the score.
        seconds: Time of sampling.
    """

    target: str
    method: str
    steps: int
    inner_steps: int
    levels: str
    dynamics: str | None
    solver: str
    samples: int
    seed: int
    kl: float
    floor: float
    nfe: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run(
    target: str,
    method: str,
    *,
    steps: int = 20,
    inner_steps: int = 5,
    levels: str | None = None,
    dynamics: str | None = None,
    solver: str = "euler",
    samples: int | None = None,
    seed: int = 0,
    keep_going: bool = False,
    **options: Any,
) -> Row:
    """Run one method on one problem (see :mod:`toy_models.problems`).

    Raises:
        DivergenceError: For a run that diverges, but with ``keep_going``: its KL is then infinite.
        ValueError: For an unknown target or method, and as the samplers.
    """
    from toy_models.problems import PROBLEMS

    target = {"gauss2": "gaussian", "star500": "star"}.get(target, target)
    if target not in PROBLEMS:
        raise ValueError(f"unknown target {target!r}; expected one of {', '.join(PROBLEMS)}")
    count = SAMPLES[target] if samples is None else samples
    if count < 10:
        raise ValueError(f"samples must be at least 10, got {count}")
    problem = PROBLEMS[target]()
    generator = torch.Generator().manual_seed(seed)
    observation = Observation(*problem.observe(count, generator))
    score = CountedScore(problem.target)
    sampler = make_sampler(
        method,
        score,
        steps=steps,
        inner_steps=inner_steps,
        spacing=levels,
        dynamics=dynamics,
        solver=None if solver == "euler" else solver,
        **options,
    )
    start = time.perf_counter()
    try:
        x = sampler(observation, generator=generator)
    except DivergenceError:
        if not keep_going:
            raise
        x = None
    seconds = time.perf_counter() - start
    kl = math.inf if x is None else problem.divergence(x)
    floor = problem.floor(count, generator)
    inner_steps = sampler.inner_steps
    evaluations = score.evaluations
    levels = levels or ("logsnr" if options.get("preset") == "fast" else "paper")
    if options.get("preset") == "fast":
        method = f"{method} fast"
    return Row(
        target, method, steps, inner_steps, levels, dynamics, solver, count, seed, kl, floor, evaluations, seconds
    )


def compare(
    target: str,
    method: str,
    *,
    steps: Sequence[int],
    inner_steps: Sequence[int],
    dynamics: Sequence[str | None],
    solvers: Sequence[str],
    **options: Any,
) -> Iterator[Row]:
    """Every combination, a row as soon as it is done. A run that diverges has an infinite KL.

    Raises:
        ValueError: As :func:`run`, for all combinations before the first one is run.
    """
    grid = list(itertools.product(dynamics, solvers, steps, inner_steps))
    for name, solver, outer, inner in grid:
        make_dynamics(name or "fld")
        make_solver(solver)
        check_inner(inner, 1.0)
        if outer < 1:
            raise ValueError(f"steps must be at least 1, got {outer}")
    return (
        run(target, method, steps=outer, inner_steps=inner, dynamics=name, solver=solver, keep_going=True, **options)
        for name, solver, outer, inner in grid
    )


# (target, method, options): the columns of the table
COLUMNS: list[tuple[str, str, dict[str, Any]]] = [
    ("gaussian", "replace", {}),
    ("gaussian", "langevin", {}),
    ("gaussian", "fld", {}),
    ("gaussian", "lanpaint", {}),
    ("gaussian", "lanpaint", {"expected_noise": 1.0}),
    ("star", "langevin", {}),
    ("star", "fld", {}),
    ("star", "lanpaint", {}),
]


def main() -> None:
    """Print the table, a row as soon as it is done."""
    heads = [f"{t}: {m}" + "".join(f", a = {v:g}" for v in o.values()) for t, m, o in COLUMNS]
    print("| steps × inner | " + " | ".join(heads) + " |", flush=True)
    print("|---" * (len(heads) + 1) + "|", flush=True)
    for steps, inner_steps in [(10, 5), (20, 5), (20, 10), (50, 10)]:
        cells = []
        for target, method, options in COLUMNS:
            rows = [
                run(target, method, steps=steps, inner_steps=inner_steps, seed=seed, **options) for seed in range(3)
            ]
            cells.append(f"{sum(row.kl for row in rows) / len(rows):.4g}")
        print(f"| {steps} × {inner_steps} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
